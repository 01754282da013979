"""The portable kernels: plain C for any core, one for each kind of call, whose definition they are.

Twins: firmware_templates/runtime/network/mbx_kernels.h, mbx_pooling.h, mbx_elements.h and mbx_softmax.h.
"""

from dataclasses import replace
from typing import Any, assert_never

import numpy as np

from mbx_deploy.compiler.cascade import Stripe, row_bytes, row_count
from mbx_deploy.compiler.kernels.kernel import Field, Kernel, Layout, Struct, array
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
    is_depthwise_line,
    reduction_layout,
)


def kernel_of(program: Program, call: Call) -> Kernel[Any]:
    """Return the portable kernel of a call."""
    match call:
        case Pointwise():
            return DENSE if call.positions == 1 else POINTWISE
        case Convolution():
            if is_depthwise_line(program, call):
                return DEPTHWISE_LINE
            return DEPTHWISE_CONV_2D if call.depthwise else CONV_2D
        case Addition():
            return ADD
        case Average():
            return MEAN
        case Maximum():
            return MAX
        case Pooling():
            return POOL_AVERAGE if call.average else POOL_MAX
        case Lookup():
            return LOOKUP
        case Softmax():
            return SOFTMAX
        case Padding():
            return PAD
        case Slice():
            return SLICE
        case Transposition():
            return TRANSPOSE
        case Join():
            return JOIN
        case Resizing():
            return RESIZE
        case Combination():
            return COMBINE_CONSTANT if call.other is None else COMBINE
        case Reshape():
            return RESHAPE
        case StreamReduction():
            return STREAM_MEAN if isinstance(call.reduction, Average) else STREAM_MAX
        case KeepRows():
            return KEEP_ROWS
        case _:
            assert_never(call)


def weight_rows(call: Convolution) -> np.ndarray:
    """Return a convolution's weights an output at a time: int8 (outputs, taps)."""
    if call.depthwise:
        return call.weights.reshape(-1, call.weights.shape[-1]).T
    return call.weights.reshape(len(call.weights), -1)


def fold_zero_point(call: Convolution) -> Requantization:
    """Return a convolution's requantization with the input's zero point in the bias: the padding holds it, too."""
    sums = weight_rows(call).astype(np.int64).sum(axis=1)
    return replace(call.requantization, bias=call.requantization.bias - call.input_zero_point * sums)


def patch_bytes(call: Convolution) -> int:
    """Return the bytes that one output of a convolution sees, padding included."""
    return int(np.prod(call.weights.shape[1:]))


def requantization_struct(r: Requantization) -> Struct:
    """Return struct mbx_requantization."""
    fields: dict[str, Field] = {
        "bias": array("int32_t", r.bias, "one a channel"),
        "multiplier": array("int32_t", r.multiplier, "Q31, one a channel"),
        "shift": array("int8_t", r.shift, "one a channel, positive to the left"),
        "zero_point": r.zero_point,
        "low": r.low,
        "high": r.high,
    }
    return Struct("mbx_requantization", fields, Layout.COLUMN)


def conv_geometry(program: Program, call: Convolution) -> dict[str, Field]:
    """Return the sizes of struct mbx_conv_call."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    return {
        "in_height": source.height,
        "in_width": source.width,
        "in_channels": source.channels,
        "out_height": target.height,
        "out_width": target.width,
        "out_channels": target.channels,
        "kernel_height": call.kernel[0],
        "kernel_width": call.kernel[1],
        "stride_height": call.stride[0],
        "stride_width": call.stride[1],
        "dilation_height": call.dilation[0],
        "dilation_width": call.dilation[1],
        "pad_top": call.pad[0],
        "pad_left": call.pad[1],
        "input_zero_point": call.input_zero_point,
    }


def line_geometry(program: Program, call: Convolution) -> dict[str, Field]:
    """Return the sizes of struct mbx_depthwise_call and of its like in other sets."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    return {
        "positions": target.height * target.width,
        "in_positions": source.height * source.width,
        "channels": source.channels,
        "kernel": call.kernel[1],
        "dilation": call.dilation[1],
        "pad": call.pad[1],
        "input_zero_point": call.input_zero_point,
    }


def pointwise_sizes(call: Pointwise) -> dict[str, Field]:
    """Return the sizes of struct mbx_pointwise_call and of its like in other sets."""
    outputs, inputs = call.weights.shape
    return {"positions": call.positions, "in_channels": inputs, "out_channels": outputs}


def depthwise_struct(program: Program, call: Convolution) -> Struct:
    """Return struct mbx_conv_call of a depthwise convolution."""
    constants: dict[str, Field] = {
        "weights": array("int8_t", call.weights, shape=call.weights.shape),
        "requantization": requantization_struct(call.requantization),
    }
    return Struct("mbx_conv_call", conv_geometry(program, call) | constants)


def add_struct(program: Program, call: Addition) -> Struct:
    """Return struct mbx_add_call."""
    fields: dict[str, Field] = {
        "count": program.buffers[call.output].size_bytes,
        "zero_point": call.zero_points,
        "multiplier": call.multipliers,
        "shift": call.shifts,
        "low": call.low,
        "high": call.high,
    }
    return Struct("mbx_add_call", fields)


def mean_struct(program: Program, call: Average) -> Struct:
    """Return struct mbx_mean_call."""
    scaling: dict[str, Field] = {
        "input_zero_point": call.input_zero_point,
        "output_zero_point": call.output_zero_point,
        "multiplier": call.multiplier,
        "shift": call.shift,
    }
    return Struct("mbx_mean_call", _reduction(program, call) | scaling)


def mean_stripe_struct(program: Program, call: Average, stripe: Stripe) -> Struct:
    """Return struct mbx_mean_stripe_call."""
    source = program.buffers[call.input]
    fields: dict[str, Field] = {
        "mean": replace(mean_struct(program, call), layout=Layout.ROW),
        "positions": (stripe.end - stripe.first) * row_bytes(source) // source.channels,
        "is_first": int(stripe.first == 0),
        "is_last": int(stripe.end == row_count(source)),
    }
    return Struct("mbx_mean_stripe_call", fields)


def mean_sums_bytes(program: Program, call: Average) -> int:
    """Return the bytes of the sums that a mean in stripes keeps."""
    return 4 * program.buffers[call.input].channels


def max_struct(program: Program, call: Maximum) -> Struct:
    """Return struct mbx_max_call."""
    return Struct("mbx_max_call", _reduction(program, call))


def _reduction(program: Program, call: Average | Maximum) -> dict[str, Field]:
    layout = reduction_layout(program.buffers[call.input], call.axes)
    return dict(zip(("rows", "positions", "channels"), layout, strict=True))


def _pointwise(program: Program, call: Pointwise) -> Struct:
    constants: dict[str, Field] = {
        "weights": array("int8_t", call.weights, shape=call.weights.shape),
        "requantization": requantization_struct(call.requantization),
    }
    return Struct("mbx_pointwise_call", pointwise_sizes(call) | constants)


def _pointwise_row_bytes(program: Program, call: Pointwise) -> int:
    """Return the bytes of the input row that mbx_pointwise() keeps, so that its output may lie there."""
    return int(call.weights.shape[1])


def _conv(program: Program, call: Convolution) -> Struct:
    constants: dict[str, Field] = {
        "weights": array("int8_t", call.weights, shape=call.weights.shape),
        "requantization": requantization_struct(fold_zero_point(call)),
    }
    return Struct("mbx_conv_call", conv_geometry(program, call) | constants)


def _patch_bytes(program: Program, call: Convolution) -> int:
    return patch_bytes(call)


def _line(program: Program, call: Convolution) -> Struct:
    constants: dict[str, Field] = {
        "weights": array("int8_t", weight_rows(call), shape=call.weights.shape),
        "requantization": requantization_struct(call.requantization),
    }
    return Struct("mbx_depthwise_call", line_geometry(program, call) | constants)


def _line_bytes(program: Program, call: Convolution) -> int:
    """Return the bytes of a channel's padded line."""
    return program.buffers[call.output].width + (call.kernel[1] - 1) * call.dilation[1]


def _pool(program: Program, call: Pooling) -> Struct:
    source, target = program.buffers[call.input], program.buffers[call.output]
    fields: dict[str, Field] = {
        "in_height": source.height,
        "in_width": source.width,
        "out_height": target.height,
        "out_width": target.width,
        "channels": source.channels,
        "window_height": call.window[0],
        "window_width": call.window[1],
        "pad_top": call.pad[0],
        "pad_left": call.pad[1],
        "stride_height": call.stride[0],
        "stride_width": call.stride[1],
        "low": call.low,
        "high": call.high,
    }
    return Struct("mbx_pool_call", fields)


def _lookup(program: Program, call: Lookup) -> Struct:
    table = array("int8_t", call.table)
    return Struct("mbx_lookup_call", {"count": program.buffers[call.input].size_bytes, "table": table})


def _softmax(program: Program, call: Softmax) -> Struct:
    source = program.buffers[call.input]
    fields: dict[str, Field] = {
        "rows": source.height * source.width,
        "classes": source.channels,
        "exponentials": len(call.exponentials_q31),
        "exponential_q31": array("int32_t", call.exponentials_q31),
    }
    return Struct("mbx_softmax_call", fields)


def _pad(program: Program, call: Padding) -> Struct:
    source, target = program.buffers[call.input], program.buffers[call.output]
    fields: dict[str, Field] = {
        "in_height": source.height,
        "in_width": source.width,
        "in_channels": source.channels,
        "out_width": target.width,
        "out_channels": target.channels,
        "top": call.amounts[0][0],
        "left": call.amounts[1][0],
        "before": call.amounts[2][0],
        "out_bytes": target.size_bytes,
        "value": call.value,
    }
    return Struct("mbx_pad_call", fields)


def _slice(program: Program, call: Slice) -> Struct:
    """Return struct mbx_slice_call: as few loops as there are gaps between what is taken."""
    source = program.buffers[call.input]
    sizes = (source.width * source.channels, source.channels, 1)
    start = sum(size * begin for size, begin in zip(sizes, call.begin, strict=True))
    steps = (sizes[0] * call.stride[0], sizes[1] * call.stride[1], call.stride[2])
    return _runs(start, call.count, steps)


def _transpose(program: Program, call: Transposition) -> Struct:
    return _runs(0, call.count, call.step)


def _runs(start: int, count: tuple[int, int, int], step: tuple[int, int, int]) -> Struct:
    """Return struct mbx_slice_call of three loops over the input, what lies together in one run."""
    counts, steps, run = [*count], [*step], 1
    for axis in (2, 1, 0):
        if steps[axis] != run:
            break
        run, counts[axis] = run * counts[axis], 1
    fields: dict[str, Field] = {
        "start": start,
        "run": run,
        "count": tuple(counts),
        "step": tuple(steps),
    }
    return Struct("mbx_slice_call", fields)


def _join(program: Program, call: Join) -> Struct:
    return Struct("mbx_join_call", {"pieces": call.pieces, "first": call.first, "second": call.second})


def _resize(program: Program, call: Resizing) -> Struct:
    source, target = program.buffers[call.input], program.buffers[call.output]
    fields: dict[str, Field] = {
        "in_row": source.width * source.channels,
        "out_height": target.height,
        "out_width": target.width,
        "channels": source.channels,
        "rows": array("uint16_t", np.array(call.rows)),
        "columns": array("uint16_t", np.array(call.columns)),
    }
    return Struct("mbx_resize_call", fields)


def _combine(program: Program, call: Combination) -> Struct:
    """Return struct mbx_combine_call: as few loops as the broadcasting leaves."""
    loops = _merged(list(zip(call.count, *call.steps, strict=True)))
    count, first, second = zip(*loops, strict=True)
    fields: dict[str, Field] = {
        "count": count,
        "first_step": first,
        "second_step": second,
        "is_product": int(call.sign is None),
        "sign": call.sign or (1, 1),
        "zero_point": call.zero_points,
        "multiplier": call.multipliers,
        "shift": call.shifts,
        "low": call.low,
        "high": call.high,
    }
    if call.other is None:
        fields["constant"] = array("int8_t", call.constant)
    return Struct("mbx_combine_call", fields)


def _merged(loops: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return three loops (count, step, step) that read the same, the innermost one as long as can be."""
    found = [loops[-1]]
    for count, first, second in reversed(loops[:-1]):
        inner = found[0]
        if count == 1:
            continue
        if inner[0] == 1:
            found[0] = (count, first, second)
        elif (first, second) == (inner[1] * inner[0], inner[2] * inner[0]):
            found[0] = (count * inner[0], inner[1], inner[2])
        else:
            found.insert(0, (count, first, second))
    return [(1, 0, 0)] * (3 - len(found)) + found


def _reshape(program: Program, call: Reshape) -> Struct:
    return Struct("mbx_reshape_call", {"count": program.buffers[call.input].size_bytes})


def _stream_mean(program: Program, call: StreamReduction) -> Struct:
    reduction, positions, channels = _block(program, call)
    assert isinstance(reduction, Average)
    mean: dict[str, Field] = {
        "rows": 1,
        "positions": positions * call.blocks,
        "channels": channels,
        "input_zero_point": reduction.input_zero_point,
        "output_zero_point": reduction.output_zero_point,
        "multiplier": reduction.multiplier,
        "shift": reduction.shift,
    }
    fields: dict[str, Field] = {
        "mean": Struct("mbx_mean_call", mean, Layout.ROW),
        "positions": positions,
        "blocks": call.blocks,
    }
    return Struct("mbx_stream_mean_call", fields)


def _stream_max(program: Program, call: StreamReduction) -> Struct:
    _, positions, channels = _block(program, call)
    return Struct("mbx_stream_max_call", {"positions": positions, "channels": channels, "blocks": call.blocks})


def _block(program: Program, call: StreamReduction) -> tuple[Average | Maximum, int, int]:
    """Return what a stream goes over, the positions that a step adds to it, and its channels."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    return call.reduction, source.size_bytes // target.size_bytes, target.size_bytes


def _sums_bytes(program: Program, call: StreamReduction) -> int:
    return program.buffers[call.sums].size_bytes


def _keep(program: Program, call: KeepRows) -> Struct:
    return Struct("mbx_keep_call", {"first": call.first, "bytes": call.size})


POINTWISE = Kernel("mbx_pointwise", Pointwise, _pointwise, scratch_bytes=_pointwise_row_bytes)
DENSE = Kernel("mbx_dense", Pointwise, _pointwise)
CONV_2D = Kernel("mbx_conv_2d", Convolution, _conv, scratch_bytes=_patch_bytes)
DEPTHWISE_CONV_2D = Kernel("mbx_depthwise_conv_2d", Convolution, depthwise_struct)
DEPTHWISE_LINE = Kernel("mbx_depthwise_line", Convolution, _line, scratch_bytes=_line_bytes)
ADD = Kernel("mbx_add", Addition, add_struct)
MEAN_STRIPE = Kernel(
    "mbx_mean_stripe", Average, mean_struct, scratch_bytes=mean_sums_bytes, stripe_struct=mean_stripe_struct
)
MEAN = Kernel("mbx_mean", Average, mean_struct, in_stripes=MEAN_STRIPE)
MAX = Kernel("mbx_max", Maximum, max_struct)
POOL_AVERAGE = Kernel("mbx_pool_average", Pooling, _pool, module="mbx_pooling")
POOL_MAX = Kernel("mbx_pool_max", Pooling, _pool, module="mbx_pooling")
LOOKUP = Kernel("mbx_lookup", Lookup, _lookup, module="mbx_elements")
SOFTMAX = Kernel("mbx_softmax", Softmax, _softmax, module="mbx_softmax")
PAD = Kernel("mbx_pad", Padding, _pad, module="mbx_elements")
SLICE = Kernel("mbx_slice", Slice, _slice, module="mbx_elements")
TRANSPOSE = Kernel("mbx_slice", Transposition, _transpose, module="mbx_elements")
JOIN = Kernel("mbx_join", Join, _join, module="mbx_elements")
RESIZE = Kernel("mbx_resize", Resizing, _resize, module="mbx_elements")
COMBINE = Kernel("mbx_combine", Combination, _combine, module="mbx_combine")
COMBINE_CONSTANT = Kernel("mbx_combine_constant", Combination, _combine, module="mbx_combine")
RESHAPE = Kernel("mbx_reshape", Reshape, _reshape, module="mbx_elements")
STREAM_MEAN = Kernel("mbx_stream_mean", StreamReduction, _stream_mean, scratch_bytes=_sums_bytes, module="mbx_stream")
STREAM_MAX = Kernel("mbx_stream_max", StreamReduction, _stream_max, scratch_bytes=_sums_bytes, module="mbx_stream")
KEEP_ROWS = Kernel("mbx_keep_rows", KeepRows, _keep, module="mbx_stream")
