"""What is proven of a program before it is compiled: no accumulator leaves int32, no size its field."""

from typing import assert_never

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.network.program import (
    Addition,
    Average,
    Call,
    Combination,
    Convolution,
    Join,
    KeepRows,
    Lookup,
    Maximum,
    Padding,
    Pointwise,
    Pooling,
    Program,
    Requantization,
    Reshape,
    Resizing,
    Slice,
    Softmax,
    StreamReduction,
    Transposition,
    call_inputs,
    is_depthwise_line,
    reduction_layout,
)

LARGEST_SUM = 1 << 31
LARGEST_FIELD = (1 << 16) - 1  # of the sizes in the runtime's structs


def verify_program(program: Program) -> Program:
    """Return the program. Raises InputError unless every accumulator is proven to stay in int32, from the weights."""
    written = {*program.given}
    for call in program.calls:
        if not all(index in written for index in call_inputs(call)):
            raise AssertionError(f"{call.name} reads what nothing wrote")
        written.add(call.output)
        _check_fields(program, call)
        match call:
            case Pointwise():
                _prove_accumulator(call.name, call.weights, call.requantization, 128)
            case Convolution():
                weights = call.weights.reshape(-1, call.weights.shape[-1]).T if call.depthwise else call.weights
                _prove_accumulator(call.name, weights, call.requantization, 128 + abs(call.input_zero_point))
            case Average():
                _, positions, _ = reduction_layout(program.buffers[call.input], call.axes)
                if (positions * 256) << max(0, call.shift) >= LARGEST_SUM:
                    raise InputError(f"an accumulator may overflow ({call.name}): the mean is over too many positions")
            case Addition() | Maximum() | Pooling() | Lookup() | Softmax() | Padding() | Slice() | Reshape():
                pass  # no sum that could grow: bounded by what they are
            case Transposition() | Join() | Resizing():
                pass
            case Combination():
                # A sum's operands are below 2^30 each once they are brought to their scale.
                if call.sign is None and (255 * 255) << max(0, call.shifts[2]) >= LARGEST_SUM:
                    raise InputError(f"an accumulator may overflow ({call.name}): its output is too fine")
            case StreamReduction() | KeepRows():
                pass  # made later, of what was proven
            case _:
                assert_never(call)
    return program


def _check_fields(program: Program, call: Call) -> None:
    """Raise InputError for a size that the runtime's 16-bit fields don't hold."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    sizes = [*source.shape, *target.shape]
    match call:
        case Pointwise():
            sizes = [call.positions, *call.weights.shape]
        case Average():
            sizes = [*reduction_layout(source, call.axes)]
        case Pooling():
            sizes += [*call.window, *call.pad]
        case Convolution():
            sizes += [*call.kernel, *call.pad]
            if is_depthwise_line(program, call):
                sizes.append(source.width + call.pad[1])
        case Addition() | Maximum() | Lookup() | Softmax() | Padding() | Reshape() | Resizing():
            pass
        case Slice() | Transposition() | Join() | Combination():
            sizes = []  # of 32 bits
        case StreamReduction() | KeepRows():
            pass  # made later, of what was checked
        case _:
            assert_never(call)
    if max(sizes, default=0) > LARGEST_FIELD:
        raise InputError(f"an op is too large ({call.name}): got a size of {max(sizes)}, need at most {LARGEST_FIELD}")


def _prove_accumulator(name: str, weights: np.ndarray, requantization: Requantization, largest_input: int) -> None:
    channels = len(requantization.bias)
    sums = np.abs(weights.reshape(channels, -1).astype(np.int64)).sum(axis=1) * largest_input
    bound = sums + np.abs(requantization.bias)
    shifted = [int(value) << max(0, int(shift)) for value, shift in zip(bound, requantization.shift, strict=True)]
    worst = int(np.argmax(shifted))
    if shifted[worst] >= LARGEST_SUM:
        raise InputError(
            f"an accumulator may overflow int32 ({name}, channel {worst}): its bound is {shifted[worst]}",
            "retrain with weight decay, or quantize with other ranges",
        )
