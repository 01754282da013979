"""Model -> Program: free functions, each taking frozen data and returning new data, the result verified."""

from dataclasses import replace
from typing import assert_never

import numpy as np

from mbx_deploy.compiler.curve_tables import curve_table
from mbx_deploy.compiler.lower_arrays import (
    add_factors,
    join_ends,
    lower_binary,
    lower_concatenation,
    lower_slice,
    lower_transpose,
    requantization_table,
)
from mbx_deploy.compiler.multipliers import activation_range, mean_multiplier, quantize_multiplier
from mbx_deploy.compiler.order import order_calls
from mbx_deploy.compiler.proofs import verify_program
from mbx_deploy.compiler.softmax_table import FRACTION_BITS, softmax_exponentials
from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.network.program import (
    Addition,
    Average,
    Buffer,
    Call,
    Convolution,
    Lookup,
    Maximum,
    Padding,
    Pointwise,
    Pooling,
    Program,
    Requantization,
    Reshape,
    Resizing,
    Softmax,
    reduction_layout,
)
from mbx_deploy.sim.fixed_point import clamp, multiply_by_quantized_multiplier

LARGEST_RATIO = 2.0**30  # of scales; a left shift of 30 is the most that TFLite takes

OneCallOp = (
    ir.Conv2D
    | ir.DepthwiseConv2D
    | ir.Add
    | ir.Binary
    | ir.Requantize
    | ir.Resize
    | ir.Transpose
    | ir.Mean
    | ir.Max
    | ir.FullyConnected
    | ir.Pool2D
    | ir.Reshape
    | ir.Clamp
    | ir.Curve
    | ir.Softmax
    | ir.Pad
    | ir.Slice
)


def lower(model: ir.Model) -> Program:
    """Return the program of a network: quantization resolved to integers, kernels chosen, accumulators proven."""
    buffers: list[Buffer] = []
    numbers: dict[int, int] = {}
    given = (*(end.tensor for end in model.inputs), *(variable.read for variable in model.variables))
    for index in (*given, *(op.output for op in model.ops)):
        numbers[index] = len(buffers)
        buffers.append(_buffer(model.tensors[index]))
    calls: list[Call] = []
    for number, op in enumerate(model.ops):
        if isinstance(op, ir.Concatenate):
            calls += lower_concatenation(model, op, call_name(number, op), numbers, buffers)
        else:
            calls.append(_lower_op(model, op, numbers, call_name(number, op)))
    source, target = model.tensors[model.input], model.tensors[model.output]
    program = Program(
        buffers=tuple(buffers),
        calls=tuple(calls),
        input=numbers[model.input],
        output=numbers[model.output],
        input_scale=float(source.scale),
        input_zero_point=source.zero_point,
        output_scale=float(target.scale),
        output_zero_point=target.zero_point,
        variables=tuple(
            replace(variable, read=numbers[variable.read], assigned=numbers[variable.assigned])
            for variable in model.variables
        ),
    )
    program = fold_input_zero_points(program, {numbers[i]: model.tensors[i].zero_point for i in numbers})
    ends = ([numbers[end.tensor] for end in side] for side in (model.inputs, model.outputs))
    program = join_ends(program, *ends)
    return verify_program(order_calls(program))


def call_name(index: int, op: ir.Op) -> str:
    """Return the name of the call that an op becomes: its number among those that move data, and TFLite's name."""
    return f"{index}_{ir.op_name(op).lower()}"


def _buffer(tensor: ir.Tensor) -> Buffer:
    return Buffer(tensor.name, *ir.as_image(tensor.shape)[1:])


def _lower_op(model: ir.Model, op: OneCallOp, numbers: dict[int, int], name: str) -> Call:
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
            return lower_slice(op, where)
        case ir.Binary():
            return lower_binary(model, op, name, numbers)
        case ir.Requantize():
            return Lookup(*where, requantization_table(model.tensors[op.input], model.tensors[op.output]))
        case ir.Transpose():
            return lower_transpose(model, op, where)
        case ir.Resize():
            return Resizing(*where, op.rows, op.columns)
        case _:
            assert_never(op)


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
    if depthwise and source.shape[3] == 1 and outputs > 1:  # every output sees the one channel: a convolution
        depthwise, data = False, np.ascontiguousarray(data.transpose(2, 0, 1)[..., None])
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


def _lower_add(model: ir.Model, op: ir.Add, name: str, numbers: dict[int, int]) -> Addition:
    """Source: TFLite Micro, CalculateOpDataAdd."""
    tensors = [model.tensors[i] for i in (op.input, op.other, op.output)]
    multipliers, shifts = zip(*add_factors(tensors[:2], tensors[2], name), strict=True)
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
