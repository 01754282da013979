"""Which kernel of the runtime runs a call on a core, what working memory it takes, and its constants' layout.

Every kernel of a call gives the same bytes. Twins: the structs of firmware_templates/runtime/network/mbx_kernels.h
and of the folders beside it, one for each set of kernels.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbx_deploy.network.program import (
    Addition,
    Average,
    Call,
    Convolution,
    Lookup,
    Maximum,
    Padding,
    Pointwise,
    Pooling,
    Program,
    Requantization,
    Softmax,
    is_depthwise_line,
)

PORTABLE = "portable"
KERNEL_SETS = (PORTABLE, "dsp", "thumb", "helium")
# Whose files a set needs: a core with Helium has the DSP extension, and the front end's loops are written for that.
NEEDED_SETS = {PORTABLE: (), "dsp": ("dsp",), "thumb": ("thumb",), "helium": ("dsp", "helium")}

DSP_GROUP_INPUTS = 16
DSP_POSITIONS = 4
DSP_GROUP_TAPS = 6
DSP_OUTPUTS = 6
DSP_MAX_TAPS = 47
DSP_LANES = 4

THUMB_OUTPUTS = 4
THUMB_GROUP_INPUTS = 16
THUMB_WEIGHT_OFFSET = 128

HELIUM_POSITIONS = 4
HELIUM_LANES = 16  # inputs of a pointwise group, taps of a depthwise one


@dataclass(frozen=True)
class Kernel:
    """name: the C function. scratch_bytes: working memory in the arena beside the input and the output."""

    name: str
    scratch_bytes: int


def select_kernel(program: Program, call: Call, kernel_set: str) -> Kernel:
    """Return the kernel for a call: the fastest of the set whose conditions it meets, else the portable one."""
    selections = {"dsp": _select_dsp, "thumb": _select_thumb, "helium": _select_helium}
    if kernel_set != PORTABLE:
        kernel = selections[kernel_set](program, call)
        if kernel is not None:
            return kernel
    if isinstance(call, Pointwise):
        return Kernel("mbx_pointwise", in_place_row_bytes(call))
    if isinstance(call, Convolution):
        if is_depthwise_line(program, call):
            return _line_kernel("mbx_depthwise_line", program, call)
        return Kernel("mbx_depthwise_conv_2d", 0) if call.depthwise else Kernel("mbx_conv_2d", patch_bytes(call))
    if isinstance(call, Pooling):
        return Kernel("mbx_pool_average" if call.average else "mbx_pool_max", 0)
    names = {Addition: "mbx_add", Average: "mbx_mean", Maximum: "mbx_max", Lookup: "mbx_lookup"}
    names |= {Softmax: "mbx_softmax", Padding: "mbx_pad"}
    return Kernel(names.get(type(call), "mbx_reshape"), 0)


def select_stripe_kernel(program: Program, call: Call, kernel: Kernel) -> Kernel:
    """Return the kernel of a call in a cascade: the same function, with working memory for its largest stripe.

    program, call: that stripe as cascade.stripe_view() has it. A mean keeps its sums from the first stripe to the last.
    """
    if isinstance(call, Average):
        return Kernel(
            f"mbx_mean_stripe{kernel.name.removeprefix('mbx_mean')}", 4 * program.buffers[call.input].channels
        )
    if isinstance(call, Convolution) and "depthwise_line" in kernel.name:
        return _line_kernel(kernel.name, program, call)
    return kernel


def _line_kernel(name: str, program: Program, call: Convolution) -> Kernel:
    """Return a kernel of depthwise lines, with working memory for as many outputs as the call has."""
    sizes = {
        "mbx_depthwise_line": _line_bytes,
        "mbx_depthwise_line_dsp": _dsp_line_bytes,
        "mbx_depthwise_line_thumb": _thumb_line_bytes,
        "mbx_depthwise_line_helium": _helium_line_bytes,
    }
    return Kernel(name, sizes[name](program.buffers[call.output].width, call))


# The modules of the portable kernels beside mbx_kernels.c: compiled where a model has such a call.
KERNEL_MODULES = {
    "mbx_pool_average": "mbx_pooling",
    "mbx_pool_max": "mbx_pooling",
    "mbx_lookup": "mbx_elements",
    "mbx_pad": "mbx_elements",
    "mbx_reshape": "mbx_elements",
    "mbx_softmax": "mbx_softmax",
}


def in_place_row_bytes(call: Pointwise) -> int:
    """Return the bytes of the input row that mbx_pointwise() keeps, so that its output may lie there."""
    return int(call.weights.shape[1])


def patch_bytes(call: Convolution) -> int:
    """Return the bytes that one output of a convolution sees, padding included."""
    return int(np.prod(call.weights.shape[1:]))


def as_product(program: Program, call: Convolution) -> Pointwise:
    """Return a convolution as the product of its patches, whose padding holds the input's zero point."""
    target = program.buffers[call.output]
    weights = call.weights.reshape(len(call.weights), -1)
    positions = target.height * target.width
    return Pointwise(call.name, call.input, call.output, positions, weights, fold_zero_point(call))


def fold_zero_point(call: Convolution) -> Requantization:
    """Return a convolution's requantization with the input's zero point in the bias: the padding holds it, too."""
    sums = call.weights.reshape(len(call.weights), -1).astype(np.int64).sum(axis=1)
    bias = call.requantization.bias - call.input_zero_point * sums
    return replace(call.requantization, bias=bias)


def _line_bytes(width: int, call: Convolution) -> int:
    """Return the bytes of a channel's padded line, for mbx_depthwise_line() with outputs of a width."""
    return width + (call.kernel[1] - 1) * call.dilation[1]


def _select_dsp(program: Program, call: Call) -> Kernel | None:
    if isinstance(call, Addition):
        return Kernel("mbx_add_dsp", 0) if add_constants_dsp(call) is not None else None
    if isinstance(call, Pointwise):
        small = call.weights.min() >= -127  # 256 w1 + w0 is an int16
        if not small or not _requantizes_dsp(call.weights, call.requantization, 128, 1 << 22):
            return None
        groups = -(-call.weights.shape[1] // DSP_GROUP_INPUTS)
        outputs = -(-call.weights.shape[0] // 2) * 2
        direct = outputs == call.weights.shape[0] and call.positions % DSP_POSITIONS == 0
        rows = 0 if direct else DSP_POSITIONS * outputs
        return Kernel("mbx_pointwise_dsp", groups * DSP_GROUP_INPUTS * 2 * DSP_POSITIONS + rows)
    if isinstance(call, Convolution) and not call.depthwise and patch_bytes(call) < 1 << 16:
        product = _select_dsp(program, as_product(program, call))
        patches = -(-DSP_POSITIONS * patch_bytes(call) // 8) * 8
        return Kernel("mbx_conv_2d_dsp", patches + product.scratch_bytes) if product else None
    if isinstance(call, Convolution) and call.depthwise and not is_depthwise_line(program, call):
        rows = call.weights.reshape(-1, call.weights.shape[-1]).T
        fits = _requantizes_dsp(rows, call.requantization, 128 + abs(call.input_zero_point), 1 << 30)
        return Kernel("mbx_depthwise_conv_2d_dsp", 0) if fits else None
    if isinstance(call, Convolution) and is_depthwise_line(program, call):
        weights = call.weights.reshape(call.kernel[1], -1).T
        even = call.pad[1] % call.dilation[1] == 0 and len(weights) % DSP_LANES == 0
        folded = _folded(call)
        if not even or call.kernel[1] > DSP_MAX_TAPS or not _requantizes_dsp(weights, folded, 128, 1 << 30):
            return None
        return _line_kernel("mbx_depthwise_line_dsp", program, call)
    return None


def _folded(call: Convolution) -> Requantization:
    """Return the requantization with the input's zero point in the bias: the padding holds the zero point, too."""
    sums = call.weights.reshape(call.kernel[1], -1).astype(np.int64).sum(axis=0)
    bias = call.requantization.bias - call.input_zero_point * sums
    return replace(call.requantization, bias=bias)


def _dsp_line_bytes(width: int, call: Convolution) -> int:
    """Return the bytes of a channel's paired taps, of four padded 16-bit lines, and of their outputs."""
    groups = (call.kernel[1] + DSP_GROUP_TAPS) // DSP_GROUP_TAPS
    longest_phase = -(-width // call.dilation[1])
    outputs = -(-longest_phase // DSP_OUTPUTS) * DSP_OUTPUTS
    return groups * DSP_GROUP_TAPS * 4 + DSP_LANES * (2 * (outputs + groups * DSP_GROUP_TAPS + 2) + outputs)


def _requantizes_dsp(weights: np.ndarray, r: Requantization, largest_input: int, limit: int) -> bool:
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


@dataclass(frozen=True)
class AddConstantsDsp:
    """The fields of struct mbx_add_dsp_call; swapped: the second input is the exact one."""

    swapped: bool
    exact_zero_point: int
    scaled_zero_point: int
    zero_point: int
    scaled_shift: int
    shift: int
    scaled_multiplier: int
    multiplier: int


def add_constants_dsp(call: Addition) -> AddConstantsDsp | None:
    """Return the constants of mbx_add_dsp(), or None for a call that it does not take.

    TFLite's factor of the input with the larger scale is exactly one half: multiplier 2^30, shift 0.
    """
    halves = [call.multipliers[i] == 1 << 30 and call.shifts[i] == 0 for i in range(2)]
    right = -call.shifts[2]
    if not any(halves) or (call.low, call.high) != (-128, 127) or not 1 <= right <= 22:
        return None
    exact = halves.index(True)
    scaled = 1 - exact
    if not -22 <= call.shifts[scaled] <= 0:
        return None
    return AddConstantsDsp(
        swapped=exact == 1,
        exact_zero_point=call.zero_points[exact],
        scaled_zero_point=call.zero_points[scaled],
        zero_point=call.zero_points[2],
        scaled_shift=-call.shifts[scaled],
        shift=right,
        scaled_multiplier=call.multipliers[scaled],
        multiplier=call.multipliers[2],
    )


def _select_thumb(program: Program, call: Call) -> Kernel | None:
    if isinstance(call, Addition):
        return Kernel("mbx_add_thumb", 4 * 256) if add_constants_dsp(call) is not None else None
    if isinstance(call, Pointwise):
        if not _requantizes_thumb(call.weights, call.requantization):
            return None
        inputs = -(-call.weights.shape[1] // THUMB_GROUP_INPUTS) * THUMB_GROUP_INPUTS
        return Kernel("mbx_pointwise_thumb", 4 * THUMB_OUTPUTS * (1 + inputs))
    if isinstance(call, Convolution) and is_depthwise_line(program, call):
        weights = call.weights.reshape(call.kernel[1], -1).T
        if call.pad[1] % call.dilation[1] or not _requantizes_thumb(weights, _folded(call)):
            return None
        return _line_kernel("mbx_depthwise_line_thumb", program, call)
    return None


def _thumb_line_bytes(width: int, call: Convolution) -> int:
    """Return the bytes of a channel's taps and of its padded line, in words."""
    longest_phase = -(-width // call.dilation[1])
    outputs = -(-longest_phase // THUMB_OUTPUTS) * THUMB_OUTPUTS
    return 4 * (call.kernel[1] + outputs + call.kernel[1] - 1)


def _requantizes_thumb(weights: np.ndarray, r: Requantization) -> bool:
    """Whether mbx_thumb_blocks.S requantizes: sums below 2^29, shifts to the right by 1 to 31."""
    rows = weights.reshape(len(r.bias), -1).astype(np.int64)
    bound = np.abs(rows).sum(axis=1) * 128 + np.abs(r.bias)
    right = -r.shift.astype(np.int64)
    return (r.low, r.high) == (-128, 127) and bound.max() < 1 << 29 and right.min() >= 1 and right.max() <= 31


def pack_pointwise_thumb(call: Pointwise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (weights, channels, shifts) as struct mbx_pointwise_thumb_call says.

    weights: uint8 (out, groups * 16). channels: int32 (out, 2). shifts: uint8 (out,).
    """
    outputs, inputs = call.weights.shape
    r = call.requantization
    padded = np.zeros((outputs, -(-inputs // THUMB_GROUP_INPUTS) * THUMB_GROUP_INPUTS), np.int64)
    padded[:, :inputs] = call.weights
    weights = (padded + THUMB_WEIGHT_OFFSET).astype(np.uint8)
    return (
        weights,
        np.column_stack([r.bias, r.multiplier]).astype(np.int32),
        (-r.shift.astype(np.int64)).astype(np.uint8),
    )


def pack_depthwise_thumb(call: Convolution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (weights, constants, shifts) as struct mbx_depthwise_thumb_call says.

    weights: int8 (channels, kernel). constants: int32 (channels, 2). shifts: uint8 (channels,).
    """
    r = _folded(call)
    weights = np.ascontiguousarray(call.weights.reshape(call.kernel[1], -1).T)
    constants = np.column_stack([r.bias, r.multiplier]).astype(np.int32)
    return weights, constants, (-r.shift.astype(np.int64)).astype(np.uint8)


def _select_helium(program: Program, call: Call) -> Kernel | None:
    if isinstance(call, Addition):
        return Kernel("mbx_add_helium", 0)
    if isinstance(call, Average):
        return Kernel("mbx_mean_helium", 0)
    if isinstance(call, Maximum):
        return Kernel("mbx_max_helium", 0)
    if (
        not isinstance(call, Pointwise | Convolution) or call.requantization.shift.max() > -1
    ):  # the ties of a division, which the kernels expect
        return None
    if isinstance(call, Pointwise):
        inputs = -(-call.weights.shape[1] // HELIUM_LANES) * HELIUM_LANES
        return Kernel("mbx_pointwise_helium", HELIUM_POSITIONS * inputs)
    if is_depthwise_line(program, call) and call.pad[1] % call.dilation[1] == 0:
        return _line_kernel("mbx_depthwise_line_helium", program, call)
    if is_depthwise_line(program, call):
        return None
    if call.depthwise and program.buffers[call.input].channels == program.buffers[call.output].channels:
        return Kernel("mbx_depthwise_conv_2d_helium", 0)
    return _select_dsp(program, call)


def _helium_line_bytes(width: int, call: Convolution) -> int:
    """Return the bytes of a channel's padded line."""
    longest_phase = -(-width // call.dilation[1])
    taps = -(-call.kernel[1] // HELIUM_LANES) * HELIUM_LANES
    return -(-longest_phase // 4) * 4 + taps


def pack_pointwise_helium(call: Pointwise) -> tuple[np.ndarray, np.ndarray]:
    """Return (weights, channels) as struct mbx_pointwise_helium_call says.

    weights: int8 (out pairs, groups, 2, 16). channels: int32 (out pairs * 2, 3).
    """
    outputs, inputs = call.weights.shape
    padded = np.zeros((-(-outputs // 2) * 2, -(-inputs // HELIUM_LANES) * HELIUM_LANES), np.int8)
    padded[:outputs, :inputs] = call.weights
    weights = padded.reshape(len(padded) // 2, 2, -1, HELIUM_LANES).transpose(0, 2, 1, 3)
    channels = np.zeros((len(padded), 3), np.int32)
    channels[:outputs] = _constants_helium(call.requantization)
    return np.ascontiguousarray(weights), channels


def pack_depthwise_helium(call: Convolution) -> tuple[np.ndarray, np.ndarray]:
    """Return (weights, constants) as struct mbx_depthwise_helium_call says.

    weights: int8 (channels, kernel rounded up to 16). constants: int32 (channels, 3).
    """
    rows = call.weights.reshape(call.kernel[1], -1).T
    weights = np.pad(rows, ((0, 0), (0, -call.kernel[1] % HELIUM_LANES)))
    return np.ascontiguousarray(weights), _constants_helium(_folded(call))


def _constants_helium(r: Requantization) -> np.ndarray:
    return np.column_stack([r.bias, r.multiplier, r.shift]).astype(np.int32)


def pack_pointwise_dsp(call: Pointwise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (weights, channels, shifts) as struct mbx_pointwise_dsp_call says.

    weights: int16 (out pairs, quads of inputs, 4). channels: int32 (out pairs, 4). shifts: uint8 (out pairs, 2).
    """
    outputs, inputs = call.weights.shape
    r = call.requantization
    padded = np.zeros((-(-outputs // 2) * 2, -(-inputs // DSP_GROUP_INPUTS) * DSP_GROUP_INPUTS), np.int64)
    padded[:outputs, :inputs] = call.weights
    quads = padded.reshape(len(padded) // 2, 2, -1, 4)[:, :, :, [0, 2, 1, 3]]
    pad = (0, len(padded) - outputs)
    bias = np.pad(r.bias, pad).reshape(-1, 2)
    multiplier = np.pad(r.multiplier.astype(np.int64), pad).reshape(-1, 2)
    channels = np.column_stack([2 * bias[:, 0], 512 * bias[:, 1] + 2 * bias[:, 0], multiplier])
    shifts = np.pad(-r.shift.astype(np.int64) - 1, pad).reshape(-1, 2)
    weights = 256 * quads[:, 1] + quads[:, 0]
    return weights.astype(np.int16), channels.astype(np.int32), shifts.astype(np.uint8)


def pack_depthwise_dsp(call: Convolution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (weights, constants, shifts) as struct mbx_depthwise_dsp_call says.

    weights: int8 (channels, kernel). constants: int32 (channels, 2). shifts: uint8 (channels,).
    """
    r = _folded(call)
    weights = np.ascontiguousarray(call.weights.reshape(call.kernel[1], -1).T)
    constants = np.column_stack([2 * r.bias, r.multiplier]).astype(np.int32)
    return weights, constants, (-r.shift.astype(np.int64) - 1).astype(np.uint8)
