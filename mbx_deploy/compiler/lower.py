"""Model -> Program: free functions, each taking frozen data and returning new data, the result verified."""

import math
from dataclasses import replace
from typing import assert_never

import numpy as np

from mbx_deploy.compiler.curve_tables import curve_table
from mbx_deploy.compiler.multipliers import quantize_multiplier
from mbx_deploy.compiler.softmax_table import FRACTION_BITS, softmax_exponentials
from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.network.program import (
    Addition,
    Average,
    Buffer,
    Call,
    Convolution,
    KeepRows,
    Lookup,
    Maximum,
    Padding,
    Pointwise,
    Pooling,
    Program,
    Requantization,
    Reshape,
    Slice,
    Softmax,
    StreamReduction,
    call_inputs,
    is_depthwise_line,
    may_overwrite,
    reduction_layout,
)
from mbx_deploy.sim.fixed_point import clamp, multiply_by_quantized_multiplier

ADD_LEFT_SHIFT = 20
MAX_ORDER_STATES = 2000
LARGEST_RATIO = 2.0**30  # of scales; a left shift of 30 is the most that TFLite takes
LARGEST_SUM = 1 << 31
LARGEST_FIELD = (1 << 16) - 1  # of the sizes in the runtime's structs


def lower(model: ir.Model) -> Program:
    """Return the program of a network: quantization resolved to integers, kernels chosen, accumulators proven."""
    buffers: list[Buffer] = []
    numbers: dict[int, int] = {}
    for index in (model.input, *(op.output for op in model.ops)):
        numbers[index] = len(buffers)
        buffers.append(_buffer(model.tensors[index]))
    calls = tuple(_lower_op(model, op, numbers, call_name(i, op)) for i, op in enumerate(model.ops))
    source, target = model.tensors[model.input], model.tensors[model.output]
    program = Program(
        buffers=tuple(buffers),
        calls=calls,
        input=numbers[model.input],
        output=numbers[model.output],
        input_scale=float(source.scale),
        input_zero_point=source.zero_point,
        output_scale=float(target.scale),
        output_zero_point=target.zero_point,
    )
    program = fold_input_zero_points(program, {numbers[i]: model.tensors[i].zero_point for i in numbers})
    return verify_program(order_calls(program))


def call_name(index: int, op: ir.Op) -> str:
    """Return the name of the call that an op becomes: its number among those that move data, and TFLite's name."""
    return f"{index}_{ir.op_name(op).lower()}"


def _buffer(tensor: ir.Tensor) -> Buffer:
    return Buffer(tensor.name, *ir.as_image(tensor.shape)[1:])


def activation_range(activation: str, scale: np.float32, zero_point: int) -> tuple[int, int]:
    """Return the int8 limits of a fused activation.

    Source: TFLite, CalculateActivationRangeQuantized (float32 arithmetic).
    """

    def quantize(value: float) -> int:
        with np.errstate(over="ignore"):
            ratio = float(np.float32(value) / scale)
        ratio = min(ratio, 2.0**31)  # a scale so fine that the limit is out of reach
        return zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))

    limits = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
    lowest, highest = limits.get(activation, (None, None))
    low = -128 if lowest is None else max(-128, quantize(lowest))
    high = 127 if highest is None else min(127, quantize(highest))
    return low, high


def _lower_op(model: ir.Model, op: ir.Op, numbers: dict[int, int], name: str) -> Call:
    where = (name, numbers[op.input], numbers[op.output])
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D() | ir.FullyConnected():
            return _lower_product(model, op, where)
        case ir.Add():
            return _lower_add(model, op, name, numbers)
        case ir.Mean():
            return _lower_mean(model, op, where)
        case ir.Max():
            return Maximum(*where, axes=_image_axes(op))
        case ir.Pool2D():
            return _lower_pool(model, op, where)
        case ir.Reshape():
            return Reshape(*where)
        case ir.Clamp():
            return Lookup(*where, _clamp_table(model, op))
        case ir.Curve():
            return Lookup(*where, curve_table(op, model.tensors[op.input], model.tensors[op.output]))
        case ir.Softmax():
            factor = min(op.beta * float(model.tensors[op.input].scale) * 2.0**FRACTION_BITS, 2.0**31 - 1)
            return Softmax(*where, softmax_exponentials(*quantize_multiplier(factor)))
        case ir.Pad():
            height, width, channels = ((0, 0),) * (4 - len(op.amounts)) + op.amounts[1:]
            return Padding(*where, (height, width, channels), op.value)
        case ir.Slice():
            return Slice(*where, _of_image(op.begin, 0), _of_image(op.stride, 1))
        case _:
            assert_never(op)


def _of_image(values: tuple[int, ...], missing: int) -> tuple[int, int, int]:
    """Return values of a tensor's axes as those of (height, width, channels)."""
    height, width, channels = (missing,) * (4 - len(values)) + values[1:]
    return height, width, channels


def _lower_mean(model: ir.Model, op: ir.Mean, where: tuple[str, int, int]) -> Average:
    source, target = model.tensors[op.input], model.tensors[op.output]
    positions = reduction_layout(_buffer(source), _image_axes(op))[1]
    ratio = float(source.scale) / float(target.scale)
    if ratio >= LARGEST_RATIO:
        raise InputError(f"the scales of an op are too far apart (MEAN): its output is {ratio:.3g} times finer")
    multiplier, shift = mean_multiplier(ratio, positions)
    return Average(*where, source.zero_point, target.zero_point, multiplier, shift, _image_axes(op))


def _lower_product(
    model: ir.Model, op: ir.Conv2D | ir.DepthwiseConv2D | ir.FullyConnected, where: tuple[str, int, int]
) -> Pointwise | Convolution:
    source, target = model.tensors[op.input], model.tensors[op.output]
    weights = model.tensors[op.weights]
    assert weights.data is not None
    outputs = weights.shape[3] if isinstance(op, ir.DepthwiseConv2D) else weights.shape[0]
    requantization = _requantization(model, op, outputs)
    if isinstance(op, ir.FullyConnected):
        return Pointwise(*where, source.size // weights.shape[1], weights.data, requantization)
    pad = (0, 0)
    if op.padding == "SAME":
        pad = _same_padding(source, target, (weights.shape[1], weights.shape[2]), op.stride, op.dilation)
    kernel = (weights.shape[1], weights.shape[2])
    if isinstance(op, ir.Conv2D) and kernel == (1, 1) and op.stride == (1, 1):
        positions = source.shape[1] * source.shape[2]
        return Pointwise(*where, positions, weights.data.reshape(outputs, -1), requantization)
    depthwise = isinstance(op, ir.DepthwiseConv2D)
    data = weights.data[0] if depthwise else weights.data
    return Convolution(*where, depthwise, data, kernel, op.stride, op.dilation, pad, source.zero_point, requantization)


def _image_axes(op: ir.Mean | ir.Max) -> tuple[int, ...]:
    """Return the axes of a reduction, of (height, width, channels)."""
    return tuple(axis - 1 for axis in op.axes)


def _lower_pool(model: ir.Model, op: ir.Pool2D, where: tuple[str, int, int]) -> Pooling:
    source, target = model.tensors[op.input], model.tensors[op.output]
    pad = _same_padding(source, target, op.window, op.stride, (1, 1)) if op.padding == "SAME" else (0, 0)
    limits = activation_range(op.activation, target.scale, target.zero_point)
    return Pooling(*where, op.name == "AVERAGE_POOL_2D", op.window, op.stride, pad, *limits)


def _clamp_table(model: ir.Model, op: ir.Clamp) -> np.ndarray:
    """Return what RELU or RELU6 makes of -128..127, int8 (256,).

    Source: TFLite Micro, ReluQuantized and Relu6Quantized. Its RELU6 only limits: it does not bring values to another
    scale.
    """
    source, target = model.tensors[op.input], model.tensors[op.output]
    values = np.arange(-128, 128, dtype=np.int64)
    if op.name == "RELU6":
        return clamp(values, *activation_range("RELU6", source.scale, source.zero_point)).astype(np.int8)
    ratio = float(source.scale) / float(target.scale)
    if ratio >= 2.0**22:
        raise InputError(f"the scales of an op are too far apart (RELU): its output is {ratio:.3g} times finer")
    scaled = multiply_by_quantized_multiplier(values - source.zero_point, *quantize_multiplier(ratio))
    limits = activation_range("RELU", target.scale, target.zero_point)
    return clamp(scaled + target.zero_point, *limits).astype(np.int8)


def _same_padding(
    source: ir.Tensor, target: ir.Tensor, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    """Return the padding above and to the left; the odd one goes below and right. Source: TFLite, ComputePadding."""
    pads = []
    for axis in range(2):
        extent = (window[axis] - 1) * dilation[axis] + 1
        total = (target.shape[1 + axis] - 1) * stride[axis] + extent - source.shape[1 + axis]
        pads.append(max(0, total) // 2)
    return pads[0], pads[1]


def _requantization(
    model: ir.Model, op: ir.Conv2D | ir.DepthwiseConv2D | ir.FullyConnected, channels: int
) -> Requantization:
    source, target, weights = (model.tensors[i] for i in (op.input, op.output, op.weights))
    ratios = [float(source.scale) * float(s) / float(target.scale) for s in weights.scales]
    if max(ratios) >= LARGEST_RATIO:
        raise InputError(
            f"the scales of an op are too far apart ({ir.op_name(op)}): its output is {max(ratios):.3g} times finer"
        )
    pairs = [quantize_multiplier(ratio) for ratio in ratios]
    multipliers, shifts = zip(*(pairs * channels if len(pairs) == 1 else pairs), strict=True)
    bias = np.zeros(channels, np.int64)
    if op.bias is not None:
        data = model.tensors[op.bias].data
        assert data is not None
        bias = data.astype(np.int64).ravel()
    low, high = activation_range(op.activation, target.scale, target.zero_point)
    return Requantization(
        bias, np.array(multipliers, np.int32), np.array(shifts, np.int8), target.zero_point, low, high
    )


def mean_multiplier(ratio: float, positions: int) -> tuple[int, int]:
    """Return (multiplier, shift) of a mean over positions: 1 / positions is folded in, truncating.

    Source: TFLite, QuantizedMeanOrSum.
    """
    multiplier, shift = quantize_multiplier(ratio)
    bits = min(positions.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // positions, shift - bits


def _lower_add(model: ir.Model, op: ir.Add, name: str, numbers: dict[int, int]) -> Addition:
    """Source: TFLite Micro, CalculateOpDataAdd."""
    tensors = [model.tensors[i] for i in (op.input, op.other, op.output)]
    twice = 2.0 * float(max(tensors[0].scale, tensors[1].scale))
    ratios = [float(tensors[0].scale) / twice, float(tensors[1].scale) / twice]
    ratios.append(twice / ((1 << ADD_LEFT_SHIFT) * float(tensors[2].scale)))
    if ratios[2] >= 1.0:
        raise InputError(f"the scales of an ADD differ too much ({name}): TFLite refuses them too")
    multipliers, shifts = zip(*(quantize_multiplier(ratio) for ratio in ratios), strict=True)
    low, high = activation_range(op.activation, tensors[2].scale, tensors[2].zero_point)
    inputs = (numbers[op.input], numbers[op.other], numbers[op.output])
    points = (tensors[0].zero_point, tensors[1].zero_point, tensors[2].zero_point)
    return Addition(name, *inputs, points, multipliers, shifts, low, high)


def fold_input_zero_points(program: Program, zero_points: dict[int, int]) -> Program:
    """Return the program with bias - zero_point * sum(weights) for each pointwise call: sum(w (x - z)) needs no z then.

    Exact: integers only move. Convolutions keep the zero point, their padding needs it.
    """
    calls: list[Call] = []
    for call in program.calls:
        if isinstance(call, Pointwise):
            requantization = call.requantization
            sums = call.weights.astype(np.int64).sum(axis=1)
            bias = requantization.bias - zero_points[call.input] * sums
            folded = replace(requantization, bias=bias)
            call = replace(call, requantization=folded)
        calls.append(call)
    return replace(program, calls=tuple(calls))


def order_calls(program: Program) -> Program:
    """Return the program with its calls in the order that needs least memory at its worst call.

    A residual branch then runs before the main one, which may overwrite their common input. Exact: a search over the
    sets of finished calls, of which a network of a few branches has few. Where nothing is gained, or in a graph
    with more than MAX_ORDER_STATES sets, the file's order stays.
    """
    users: dict[int, set[int]] = {program.output: {len(program.calls)}}
    for number, call in enumerate(program.calls):
        for buffer in call_inputs(call):
            users.setdefault(buffer, set()).add(number)
    writer = {call.output: number for number, call in enumerate(program.calls)}
    best: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {frozenset(): (0, ())}
    for _ in program.calls:
        longer: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {}
        for done, (peak, order) in best.items():
            for number in range(len(program.calls)):
                call = program.calls[number]
                needed = {writer[buffer] for buffer in call_inputs(call) if buffer in writer}
                if number in done or not needed <= done:
                    continue
                candidate = (max(peak, _live_bytes(program, done, number, users)), (*order, number))
                state = done | {number}
                if state not in longer or candidate < longer[state]:
                    longer[state] = candidate
        if len(longer) > MAX_ORDER_STATES:
            return program
        best = longer
    peak, order = best[frozenset(range(len(program.calls)))]
    own = (_live_bytes(program, frozenset(range(n)), n, users) for n in range(len(program.calls)))
    if max(own, default=0) == peak:
        return program
    return replace(program, calls=tuple(program.calls[number] for number in order))


def _live_bytes(program: Program, done: frozenset[int], number: int, users: dict[int, set[int]]) -> int:
    """Return the bytes that are alive while a call runs after the calls that are done."""
    call = program.calls[number]
    written = {program.input} | {program.calls[i].output for i in done}
    alive = {buffer for buffer in written if users.get(buffer, set()) - done}
    total = sum(program.buffers[buffer].size_bytes for buffer in alive)
    after = done | {number}
    dying = [buffer for buffer in call_inputs(call) if not users[buffer] - after]
    output = program.buffers[call.output].size_bytes
    hosts = [program.buffers[buffer].size_bytes for buffer in dying if may_overwrite(program, call, buffer)]
    return total + output - min(output, max(hosts, default=0))


def verify_program(program: Program) -> Program:
    """Return the program. Raises InputError unless every accumulator is proven to stay in int32, from the weights."""
    written = {program.input}
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
            case Addition() | Maximum() | Pooling() | Lookup() | Softmax() | Padding() | Reshape() | Slice():
                pass  # no sum that could grow: bounded by what they are
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
        case Addition() | Maximum() | Lookup() | Softmax() | Padding() | Reshape() | Slice():
            pass
        case StreamReduction() | KeepRows():
            pass  # made later, of what was checked
        case _:
            assert_never(call)
    if max(sizes) > LARGEST_FIELD:
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
