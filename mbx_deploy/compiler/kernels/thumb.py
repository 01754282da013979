"""The kernels of cores that have Thumb's first instructions only (Cortex-M0+).

Twins: firmware_templates/runtime/network/thumb/mbx_kernels_thumb.h.
"""

from typing import Any

import numpy as np

from mbx_deploy.compiler.kernels.dsp import add_fields, swaps_add, takes_add
from mbx_deploy.compiler.kernels.kernel import Field, Kernel, Struct, array
from mbx_deploy.compiler.kernels.portable import fold_zero_point, line_geometry, pointwise_sizes, weight_rows
from mbx_deploy.network.program import Addition, Convolution, Pointwise, Program, Requantization, is_depthwise_line

OUTPUTS = 4
LARGER_BLOCK = 5
GROUP_INPUTS = 16
WEIGHT_OFFSET = 128


def _add(program: Program, call: Addition) -> Struct:
    return Struct("mbx_add_thumb_call", add_fields(program, call))


def _add_table_bytes(program: Program, call: Addition) -> int:
    return 4 * 256


def _takes_pointwise(program: Program, call: Pointwise) -> bool:
    return call.positions > 1 and _requantizes(call.weights, call.requantization)


def _pointwise_bytes(program: Program, call: Pointwise) -> int:
    """Return the bytes of a block of positions' inputs and sums, in words."""
    inputs = -(-call.weights.shape[1] // GROUP_INPUTS) * GROUP_INPUTS
    size: int = 4 * pointwise_block(call.positions) * (1 + inputs)
    return size


def pointwise_block(positions: int) -> int:
    """Return the largest block of positions: five where a multiple of five is left. Twin: mbx_pointwise_thumb()."""
    while positions > 0 and positions % LARGER_BLOCK:
        positions -= OUTPUTS
    return LARGER_BLOCK if positions > 0 else OUTPUTS


def _pointwise(program: Program, call: Pointwise) -> Struct:
    """Return struct mbx_pointwise_thumb_call. weights: (out, groups * 16). channels: (out, 2). shifts: (out,)."""
    outputs, inputs = call.weights.shape
    r = call.requantization
    padded = np.zeros((outputs, -(-inputs // GROUP_INPUTS) * GROUP_INPUTS), np.int64)
    padded[:, :inputs] = call.weights
    fields: dict[str, Field] = {
        "groups": padded.shape[1] // GROUP_INPUTS,
        "zero_point": r.zero_point,
        "weights": array("uint8_t", padded + WEIGHT_OFFSET, f"{WEIGHT_OFFSET} added", call.weights.shape),
        "channels": array("int32_t", np.column_stack([r.bias, r.multiplier]), "b, m a channel"),
        "shifts": array("uint8_t", -r.shift.astype(np.int64), "s a channel"),
    }
    return Struct("mbx_pointwise_thumb_call", pointwise_sizes(call) | fields)


def _takes_line(program: Program, call: Convolution) -> bool:
    if not is_depthwise_line(program, call) or call.pad[1] % call.dilation[1]:
        return False
    return _requantizes(weight_rows(call), fold_zero_point(call))


def _line_bytes(program: Program, call: Convolution) -> int:
    """Return the bytes of a channel's taps and of its padded line, in words."""
    longest_phase = -(-program.buffers[call.output].width // call.dilation[1])
    outputs = -(-longest_phase // OUTPUTS) * OUTPUTS
    return 4 * (call.kernel[1] + outputs + call.kernel[1] - 1)


def _line(program: Program, call: Convolution) -> Struct:
    """Return struct mbx_depthwise_thumb_call. weights: (channels, kernel). constants: (channels, 2)."""
    r = fold_zero_point(call)
    fields: dict[str, Field] = {
        "zero_point": r.zero_point,
        "weights": array("int8_t", weight_rows(call), shape=call.weights.shape),
        "constants": array("int32_t", np.column_stack([r.bias, r.multiplier]), "b, m a channel"),
        "shifts": array("uint8_t", -r.shift.astype(np.int64), "s a channel"),
    }
    return Struct("mbx_depthwise_thumb_call", line_geometry(program, call) | fields)


def _requantizes(weights: np.ndarray, r: Requantization) -> bool:
    """Whether mbx_thumb_blocks.S requantizes: sums below 2^29, shifts to the right by 1 to 31."""
    rows = weights.reshape(len(r.bias), -1).astype(np.int64)
    bound = np.abs(rows).sum(axis=1) * 128 + np.abs(r.bias)
    right = -r.shift.astype(np.int64)
    fits = (r.low, r.high) == (-128, 127) and bound.max() < 1 << 29 and right.min() >= 1 and right.max() <= 31
    return bool(fits)


KERNELS: tuple[Kernel[Any], ...] = (
    Kernel("mbx_add_thumb", Addition, _add, takes_add, _add_table_bytes, swaps_add),
    Kernel("mbx_pointwise_thumb", Pointwise, _pointwise, _takes_pointwise, _pointwise_bytes),
    Kernel("mbx_depthwise_line_thumb", Convolution, _line, _takes_line, _line_bytes),
)
