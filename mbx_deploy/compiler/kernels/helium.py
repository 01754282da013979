"""The kernels of cores with Helium (Cortex-M55): vectors of 16 values.

Twins: firmware_templates/runtime/network/helium/mbx_kernels_helium.h.
"""

from typing import Any

import numpy as np

from mbx_deploy.compiler.kernels import dsp
from mbx_deploy.compiler.kernels.kernel import Field, Kernel, Struct, array
from mbx_deploy.compiler.kernels.portable import (
    add_struct,
    conv_geometry,
    depthwise_struct,
    fold_zero_point,
    line_geometry,
    max_struct,
    mean_stripe_struct,
    mean_struct,
    mean_sums_bytes,
    patch_bytes,
    pointwise_sizes,
    weight_rows,
)
from mbx_deploy.network.program import (
    Addition,
    Average,
    Convolution,
    Maximum,
    Pointwise,
    Program,
    Requantization,
    is_depthwise_line,
)

POSITIONS = 4
LANES = 16  # inputs of a pointwise group, taps of a depthwise one


def _shifts_right(call: Pointwise | Convolution) -> bool:
    """Whether each channel shifts to the right: the kernels expect the ties of a division."""
    return bool(call.requantization.shift.max() <= -1)


def _takes_pointwise(program: Program, call: Pointwise) -> bool:
    return _shifts_right(call)


def _pointwise_bytes(program: Program, call: Pointwise) -> int:
    """Return the bytes of the inputs of a block of positions."""
    size: int = POSITIONS * -(-call.weights.shape[1] // LANES) * LANES
    return size


def _pointwise(program: Program, call: Pointwise) -> Struct:
    """Return struct mbx_pointwise_helium_call. weights: (out pairs, groups, 2, 16). channels: (out pairs * 2, 3)."""
    outputs, inputs = call.weights.shape
    r = call.requantization
    padded = np.zeros((-(-outputs // 2) * 2, -(-inputs // LANES) * LANES), np.int8)
    padded[:outputs, :inputs] = call.weights
    weights = padded.reshape(len(padded) // 2, 2, -1, LANES).transpose(0, 2, 1, 3)
    channels = np.zeros((len(padded), 3), np.int64)
    channels[:outputs] = _constants(r)
    fields: dict[str, Field] = {
        "groups": weights.shape[1],
        "zero_point": r.zero_point,
        "low": r.low,
        "high": r.high,
        "weights": array("int8_t", weights, shape=call.weights.shape, aligned=True),
        "channels": array("int32_t", channels, "b, m, -s a channel"),
    }
    return Struct("mbx_pointwise_helium_call", pointwise_sizes(call) | fields)


def _as_product(program: Program, call: Convolution) -> Pointwise:
    """Return a convolution as the product of its patches, whose padding holds the input's zero point."""
    target = program.buffers[call.output]
    positions = target.height * target.width
    return Pointwise(call.name, call.input, call.output, positions, weight_rows(call), fold_zero_point(call))


def _takes_conv(program: Program, call: Convolution) -> bool:
    return not call.depthwise and patch_bytes(call) < 1 << 16 and _shifts_right(call)


def _conv_bytes(program: Program, call: Convolution) -> int:
    patches = -(-POSITIONS * patch_bytes(call) // 8) * 8
    return patches + _pointwise_bytes(program, _as_product(program, call))


def _conv(program: Program, call: Convolution) -> Struct:
    product = _pointwise(program, _as_product(program, call))
    geometry = Struct("mbx_conv_call", conv_geometry(program, call))
    return Struct("mbx_conv_helium_call", {"geometry": geometry, "product": product})


def _takes_line(program: Program, call: Convolution) -> bool:
    return _shifts_right(call) and is_depthwise_line(program, call) and call.pad[1] % call.dilation[1] == 0


def _line_bytes(program: Program, call: Convolution) -> int:
    """Return the bytes of a channel's padded line."""
    longest_phase = -(-program.buffers[call.output].width // call.dilation[1])
    taps = -(-call.kernel[1] // LANES) * LANES
    return -(-longest_phase // 4) * 4 + taps


def _line(program: Program, call: Convolution) -> Struct:
    """Return struct mbx_depthwise_helium_call. weights: (channels, taps rounded up). constants: (channels, 3)."""
    r = fold_zero_point(call)
    weights = np.pad(weight_rows(call), ((0, 0), (0, -call.kernel[1] % LANES)))
    fields: dict[str, Field] = {
        "zero_point": r.zero_point,
        "low": r.low,
        "high": r.high,
        "weights": array("int8_t", weights, shape=call.weights.shape, aligned=True),
        "constants": array("int32_t", _constants(r), "b, m, -s a channel"),
    }
    return Struct("mbx_depthwise_helium_call", line_geometry(program, call) | fields)


def _takes_depthwise(program: Program, call: Convolution) -> bool:
    channels = [program.buffers[buffer].channels for buffer in (call.input, call.output)]
    fits = call.depthwise and channels[0] == channels[1] and not is_depthwise_line(program, call)
    return fits and _shifts_right(call)


def _constants(r: Requantization) -> np.ndarray:
    return np.column_stack([r.bias, r.multiplier, r.shift])


MEAN_STRIPE = Kernel(
    "mbx_mean_stripe_helium", Average, mean_struct, scratch_bytes=mean_sums_bytes, stripe_struct=mean_stripe_struct
)
KERNELS: tuple[Kernel[Any], ...] = (
    Kernel("mbx_add_helium", Addition, add_struct),
    Kernel("mbx_mean_helium", Average, mean_struct, in_stripes=MEAN_STRIPE),
    Kernel("mbx_max_helium", Maximum, max_struct),
    Kernel("mbx_pointwise_helium", Pointwise, _pointwise, _takes_pointwise, _pointwise_bytes),
    Kernel("mbx_depthwise_line_helium", Convolution, _line, _takes_line, _line_bytes),
    Kernel("mbx_depthwise_conv_2d_helium", Convolution, depthwise_struct, _takes_depthwise),
    Kernel("mbx_conv_2d_helium", Convolution, _conv, _takes_conv, _conv_bytes),
    dsp.DEPTHWISE_CONV_2D,
)
