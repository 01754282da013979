"""The kernels of cores with the DSP extension (Cortex-M4, M7, M33): two products an instruction.

Twins: firmware_templates/runtime/network/dsp/mbx_kernels_dsp.h.
"""

from typing import Any

import numpy as np

from mbx_deploy.compiler.kernels.kernel import Field, Kernel, Struct, array
from mbx_deploy.compiler.kernels.portable import (
    conv_geometry,
    depthwise_struct,
    fold_zero_point,
    line_geometry,
    patch_bytes,
    pointwise_sizes,
    weight_rows,
)
from mbx_deploy.network.program import (
    Addition,
    Convolution,
    Pointwise,
    Program,
    Requantization,
    is_depthwise_line,
)

GROUP_INPUTS = 16
POSITIONS = 4
GROUP_TAPS = 6
OUTPUTS = 6
MAX_TAPS = 47
LANES = 4


def takes_add(program: Program, call: Addition) -> bool:
    """Whether one of the inputs has the factor one half: TFLite's of the larger scale, multiplier 2^30, shift 0."""
    exact = _exact_input(call)
    if exact is None or (call.low, call.high) != (-128, 127):
        return False
    return -22 <= call.shifts[2] <= -1 and -22 <= call.shifts[1 - exact] <= 0


def add_fields(program: Program, call: Addition) -> dict[str, Field]:
    """Return the fields of struct mbx_add_dsp_call, which are those of mbx_add_thumb_call."""
    exact = _exact_input(call)
    assert exact is not None
    scaled = 1 - exact
    return {
        "count": program.buffers[call.output].size_bytes,
        "exact_zero_point": call.zero_points[exact],
        "scaled_zero_point": call.zero_points[scaled],
        "zero_point": call.zero_points[2],
        "scaled_shift": -call.shifts[scaled],
        "shift": -call.shifts[2],
        "scaled_multiplier": call.multipliers[scaled],
        "multiplier": call.multipliers[2],
    }


def swaps_add(call: Addition) -> bool:
    """Whether the second input is the exact one, which comes first."""
    return _exact_input(call) == 1


def _exact_input(call: Addition) -> int | None:
    return next((i for i in range(2) if call.multipliers[i] == 1 << 30 and call.shifts[i] == 0), None)


def _add(program: Program, call: Addition) -> Struct:
    return Struct("mbx_add_dsp_call", add_fields(program, call))


def _takes_positions(program: Program, call: Pointwise) -> bool:
    """Of one position mbx_dense() is quicker: nothing is made ready for others."""
    return call.positions > 1 and _takes_pointwise(program, call)


def _takes_pointwise(program: Program, call: Pointwise) -> bool:
    small = call.weights.min() >= -127  # 256 w1 + w0 is an int16
    return bool(small) and _requantizes(call.weights, call.requantization, 128, 1 << 22)


def _pointwise_bytes(program: Program, call: Pointwise) -> int:
    """Return the bytes of the inputs of some positions, in pairs, and of their outputs where those are not direct."""
    groups = -(-call.weights.shape[1] // GROUP_INPUTS)
    outputs = -(-call.weights.shape[0] // 2) * 2
    direct = outputs == call.weights.shape[0] and call.positions % POSITIONS in (0, POSITIONS // 2)
    size: int = groups * GROUP_INPUTS * 2 * POSITIONS + (0 if direct else POSITIONS * outputs)
    return size


def _pointwise(program: Program, call: Pointwise) -> Struct:
    return _pointwise_of(call, call.weights.shape)


def _pointwise_of(call: Pointwise, shape: tuple[int, ...]) -> Struct:
    """Return struct mbx_pointwise_dsp_call. shape: of the weights as the network has them.

    weights: int16 (out pairs, quads of inputs, 4). channels: int32 (out pairs, 4). shifts: uint8 (out pairs, 2).
    """
    outputs, inputs = call.weights.shape
    r = call.requantization
    padded = np.zeros((-(-outputs // 2) * 2, -(-inputs // GROUP_INPUTS) * GROUP_INPUTS), np.int64)
    padded[:outputs, :inputs] = call.weights
    quads = padded.reshape(len(padded) // 2, 2, -1, 4)[:, :, :, [0, 2, 1, 3]]
    pad = (0, len(padded) - outputs)
    bias = np.pad(r.bias, pad).reshape(-1, 2)
    multiplier = np.pad(r.multiplier.astype(np.int64), pad).reshape(-1, 2)
    channels = np.column_stack([2 * bias[:, 0], 512 * bias[:, 1] + 2 * bias[:, 0], multiplier])
    channels = channels.astype(np.int32)  # modulo 2^32, as the kernel's sums of pairs are
    shifts = np.pad(-r.shift.astype(np.int64) - 1, pad).reshape(-1, 2)
    fields: dict[str, Field] = {
        "out_pairs": len(padded) // 2,
        "groups": padded.shape[1] // GROUP_INPUTS,
        "zero_point": r.zero_point,
        "weights": array("int16_t", 256 * quads[:, 1] + quads[:, 0], shape=shape, aligned=True),
        "channels": array("int32_t", channels, "2 b0, 512 b1 + 2 b0, m0, m1 a pair of channels", aligned=True),
        "shifts": array("uint8_t", shifts, "s - 1 a channel"),
    }
    return Struct("mbx_pointwise_dsp_call", pointwise_sizes(call) | fields)


def _as_product(program: Program, call: Convolution) -> Pointwise:
    """Return a convolution as the product of its patches, whose padding holds the input's zero point."""
    target = program.buffers[call.output]
    positions = target.height * target.width
    return Pointwise(call.name, call.input, call.output, positions, weight_rows(call), fold_zero_point(call))


def _takes_conv(program: Program, call: Convolution) -> bool:
    if call.depthwise or patch_bytes(call) >= 1 << 16:
        return False
    return _takes_pointwise(program, _as_product(program, call))


def _conv_bytes(program: Program, call: Convolution) -> int:
    patches = -(-POSITIONS * patch_bytes(call) // 8) * 8
    return patches + _pointwise_bytes(program, _as_product(program, call))


def _conv(program: Program, call: Convolution) -> Struct:
    product = _pointwise_of(_as_product(program, call), call.weights.shape)
    geometry = Struct("mbx_conv_call", conv_geometry(program, call))
    return Struct("mbx_conv_dsp_call", {"geometry": geometry, "product": product})


def _takes_depthwise(program: Program, call: Convolution) -> bool:
    if not call.depthwise or is_depthwise_line(program, call):
        return False
    return _requantizes(weight_rows(call), call.requantization, 128 + abs(call.input_zero_point), 1 << 30)


def _takes_line(program: Program, call: Convolution) -> bool:
    if not is_depthwise_line(program, call):
        return False
    weights = weight_rows(call)
    even = call.pad[1] % call.dilation[1] == 0 and len(weights) % LANES == 0
    return even and call.kernel[1] <= MAX_TAPS and _requantizes(weights, fold_zero_point(call), 128, 1 << 30)


def _line_bytes(program: Program, call: Convolution) -> int:
    """Return the bytes of four channels' paired taps, of four padded 16-bit lines, and of their outputs."""
    groups = (call.kernel[1] + GROUP_TAPS) // GROUP_TAPS
    longest_phase = -(-program.buffers[call.output].width // call.dilation[1])
    outputs = -(-longest_phase // OUTPUTS) * OUTPUTS
    taps = groups * GROUP_TAPS // 2 + 1
    return LANES * (8 * taps + 2 * (outputs + groups * GROUP_TAPS + 2) + outputs)


def _line(program: Program, call: Convolution) -> Struct:
    """Return struct mbx_depthwise_dsp_call. weights: int8 (channels, quads of taps, 4)."""
    r = fold_zero_point(call)
    rows = weight_rows(call)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    quads = padded.reshape(len(rows), -1, 4)[:, :, [0, 2, 1, 3]]
    fields: dict[str, Field] = {
        "zero_point": r.zero_point,
        "weights": array("int8_t", quads, shape=call.weights.shape, aligned=True),
        "constants": array("int32_t", np.column_stack([2 * r.bias, r.multiplier]), "2 b, m a channel"),
        "shifts": array("uint8_t", -r.shift.astype(np.int64) - 1, "s - 1 a channel"),
    }
    return Struct("mbx_depthwise_dsp_call", line_geometry(program, call) | fields)


def _requantizes(weights: np.ndarray, r: Requantization, largest_input: int, limit: int) -> bool:
    """Whether the five instructions of mbx_pointwise_block.S requantize, and sums stay below limit, at most 2^30."""
    rows = weights.reshape(len(r.bias), -1).astype(np.int64)
    bound = np.abs(rows).sum(axis=1) * largest_input + np.abs(r.bias)
    right = -r.shift.astype(np.int64)
    if (r.low, r.high) != (-128, 127) or bound.max() >= limit or right.min() < 1 or right.max() > 22:
        return False
    # What SMMULR leaves, and what is added to it, must not leave int32 together.
    largest = np.array([(2 * int(b) * int(m) >> 32) + 2 for b, m in zip(bound, r.multiplier, strict=True)])
    added = np.abs((2 * r.zero_point + 1) * (1 << (right - 1)))
    return bool(np.all(largest + added < 1 << 31))


CONV_2D = Kernel("mbx_conv_2d_dsp", Convolution, _conv, _takes_conv, _conv_bytes)
DEPTHWISE_CONV_2D = Kernel("mbx_depthwise_conv_2d_dsp", Convolution, depthwise_struct, _takes_depthwise)
KERNELS: tuple[Kernel[Any], ...] = (
    Kernel("mbx_add_dsp", Addition, _add, takes_add, swaps_inputs=swaps_add),
    Kernel("mbx_pointwise_dsp", Pointwise, _pointwise, _takes_positions, _pointwise_bytes),
    CONV_2D,
    DEPTHWISE_CONV_2D,
    Kernel("mbx_depthwise_line_dsp", Convolution, _line, _takes_line, _line_bytes),
)
