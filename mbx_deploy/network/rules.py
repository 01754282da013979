"""The rules of the IR: what a network must keep for the compiler to take it, op by op."""

from typing import assert_never

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.network.ir import (
    Add,
    Binary,
    Clamp,
    Concatenate,
    Conv2D,
    Curve,
    DepthwiseConv2D,
    FullyConnected,
    Max,
    Mean,
    Model,
    Op,
    Pad,
    Pool2D,
    Requantize,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    as_image,
    op_inputs,
    op_name,
    output_size,
)

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
PADDINGS = ("SAME", "VALID")
MOST_CLASSES = 4095  # of a softmax, whose exponentials TFLite sums up with 12 bits above the point
CURVE_OUTPUTS = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # scale and zero point
LARGEST_LEAKY_RATIO = 2.0**22
SMALLEST_CURVE_SCALE = 2.0**-28  # of an input of a curve: TFLite's fixed point shifts to the left only
LARGEST_WINDOW = 1 << 15  # values under a pooling window, so that their sum fits


def verify_model(model: Model) -> Model:
    """Return the model. Raises InputError where it breaks a rule of the IR.

    The rules: activations are int8 with one scale and a zero point in int8; weights are int8 with zero point 0 and one
    scale, or one a channel; biases are int32 (channels,); shapes agree; every activation is written once, before it
    is read. What a variable holds is there from the beginning.
    """
    written = {end.tensor for end in model.inputs}
    _need(bool(model.ops), "the network", "no ops", "one or more")
    _need(len(written) == len(model.inputs), "the network's inputs", "one tensor twice", "a tensor each")
    for end in model.inputs:
        _check_activation(model, end.tensor, "the network's input")
    for variable in model.variables:
        _check_activation(model, variable.read, f"the state {variable.name!r}")
        _need(
            variable.read not in written,
            f"the state {variable.name!r}",
            "a tensor that is something else, too",
            "its own",
        )
        written.add(variable.read)
    for index, op in enumerate(model.ops):
        where = f"op {index}, {op_name(op)}"
        for tensor in op_inputs(op):
            _check_activation(model, tensor, where)
            _need(tensor in written, where, "an input that nothing wrote", "ops in the order in which they run")
        _check_activation(model, op.output, where)
        _need(op.output not in written, where, "an output that is written twice", "one writer for each tensor")
        written.add(op.output)
        if isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected | Add | Binary | Pool2D):
            _need(op.activation in ACTIVATIONS, where, f"the activation {op.activation}", " or ".join(ACTIVATIONS))
        _check_shapes(model, op, where)
    for variable in model.variables:
        needed = "the output of an op, an input, or another state"
        _need(variable.assigned in written, f"the state {variable.name!r}", "a value that nothing wrote", needed)
    computed = {op.output for op in model.ops}
    for end in model.outputs:
        _need(end.tensor in computed, "the network's output", "a tensor that nothing wrote", "the output of an op")
    return model


def _need(condition: bool, where: str, got: str, need: str) -> None:
    if not condition:
        raise InputError(f"the network can't be compiled ({where}): got {got}, need {need}")


def _check_activation(model: Model, index: int, where: str) -> None:
    tensor = model.tensors[index]
    _need(tensor.data is None, where, "a constant", "an activation")
    _need(tensor.dtype == "int8", where, f"a tensor of type {tensor.dtype}", "int8 (export with int8 in and out)")
    _need(len(tensor.scales) == 1, where, f"{len(tensor.scales)} scales of an activation", "one")
    _need(bool(0 < tensor.scale < np.inf), where, f"the scale {tensor.scale}", "a positive number")
    _need(-128 <= tensor.zero_point <= 127, where, f"the zero point {tensor.zero_point}", "-128 to 127")
    _need(len(tensor.shape) >= 1 and tensor.shape[0] == 1, where, f"the shape {tensor.shape}", "a batch of 1")
    fits = all(1 <= length <= 32767 for length in tensor.shape) and tensor.size <= 1 << 24
    _need(fits, where, f"the shape {tensor.shape}", "1 to 32767 along an axis and at most 16 MiB")


def _check_constants(model: Model, op: Conv2D | DepthwiseConv2D | FullyConnected, channels: int, where: str) -> None:
    weights = model.tensors[op.weights]
    _need(weights.dtype == "int8", where, f"weights of type {weights.dtype}", "int8 (export a quantized model)")
    _need(weights.data is not None, where, "weights that are not constant", "constants")
    _need(all(length >= 1 for length in weights.shape), where, f"weights of shape {weights.shape}", "positive lengths")
    _need(weights.zero_point == 0, where, f"weights with zero point {weights.zero_point}", "0")
    _need(len(weights.scales) in (1, channels), where, f"{len(weights.scales)} scales", f"1 or {channels}")
    axis = 3 if isinstance(op, DepthwiseConv2D) else 0
    along = weights.scale_axis == axis or len(weights.scales) == 1
    _need(along, where, f"scales along axis {weights.scale_axis}", f"along the outputs, axis {axis}")
    _need(all(0 < s < np.inf for s in weights.scales), where, "a scale that is not positive", "positive scales")
    if op.bias is not None:
        bias = model.tensors[op.bias]
        fits = bias.data is not None and bias.dtype == "int32" and bias.size == channels
        _need(fits, where, f"a bias of {bias.size} {bias.dtype}", f"{channels} constant int32")


def _check_shapes(model: Model, op: Op, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    match op:
        case Conv2D() | DepthwiseConv2D():
            _check_convolution(model, op, where)
        case FullyConnected():
            _check_fully_connected(model, op, where)
        case Mean() | Max():
            _check_reduction(model, op, where)
        case Pool2D():
            _check_pool(model, op, where)
        case Curve():
            _check_curve(model, op, where)
        case Softmax():
            _check_softmax(model, op, where)
        case Pad():
            _check_pad(model, op, where)
        case Slice():
            _check_slice(model, op, where)
        case Add():
            other = model.tensors[op.other].shape
            need = "one shape; broadcasting is not supported"
            _need(source == other == target, where, f"the shapes {source}, {other} -> {target}", need)
        case Reshape():
            same = model.tensors[op.input].size == model.tensors[op.output].size
            _need(same, where, f"the shapes {source} -> {target}", "as many elements behind as before")
        case Clamp() | Requantize():
            _need(source == target, where, f"the shapes {source} -> {target}", "one shape")
        case Binary():
            _check_binary(model, op, where)
        case Concatenate():
            _check_concatenation(model, op, where)
        case Transpose():
            _check_transpose(model, op, where)
        case Resize():
            fits = len(source) == len(target) == 4 and source[3] == target[3]
            fits = fits and (len(op.rows), len(op.columns)) == target[1:3]
            _need(fits, where, f"the shapes {source} -> {target}", "another height and width")
            _check_one_scale(model, op, where)
        case _:
            assert_never(op)


def _check_one_scale(model: Model, op: Op, where: str) -> None:
    """TFLite Micro's own bar: scales within 1e-6, zero points equal."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    same = abs(float(source.scale) - float(target.scale)) <= 1e-6 and source.zero_point == target.zero_point
    _need(same, where, "another scale behind than before", "one scale and zero point")


def _check_curve(model: Model, op: Curve, where: str) -> None:
    source, target = model.tensors[op.input], model.tensors[op.output]
    _need(source.shape == target.shape, where, f"the shapes {source.shape} -> {target.shape}", "one shape")
    if op.name in CURVE_OUTPUTS:
        _check_quantization(model, op.output, CURVE_OUTPUTS[op.name], where)
        fits = float(source.scale) >= SMALLEST_CURVE_SCALE
        _need(fits, where, f"an input of scale {source.scale:g}", f"{SMALLEST_CURVE_SCALE:g} or more")
    # TFLite's kernels shift these to the right, or hold the sum in int32.
    ratio = float(source.scale) / float(target.scale)
    if op.name == "HARD_SWISH":
        _need(ratio < 128, where, f"an output {ratio:g} times finer", "less than 128 times")
    if op.name == "LEAKY_RELU":
        _need(0 <= op.alpha < np.inf, where, f"alpha {op.alpha:g}", "0 or a positive number")
        ratio *= max(1.0, op.alpha)
        _need(
            ratio < LARGEST_LEAKY_RATIO, where, f"an output {ratio:g} times finer", f"less than {LARGEST_LEAKY_RATIO:g}"
        )


def _check_quantization(model: Model, index: int, need: tuple[float, int], where: str) -> None:
    """For the ops whose output TFLite quantizes in one way only. need: (scale, zero point)."""
    tensor = model.tensors[index]
    got = f"an output of scale {tensor.scale} and zero point {tensor.zero_point}"
    fits = (float(tensor.scale), tensor.zero_point) == need
    _need(fits, where, got, f"1/{1 / need[0]:g} and {need[1]}, as TFLite does")


def _check_fully_connected(model: Model, op: FullyConnected, where: str) -> None:
    source, target = model.tensors[op.input], model.tensors[op.output]
    shape = model.tensors[op.weights].shape
    fits = len(shape) == 2 and min(shape) >= 1 and source.size % shape[1] == 0 and target.shape[-1] == shape[0]
    fits = fits and source.size // shape[1] * shape[0] == target.size
    _need(fits, where, f"weights {shape} for {source.shape} -> {target.shape}", "weights (out, in)")
    _check_constants(model, op, shape[0], where)


def _check_reduction(model: Model, op: Mean | Max, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    _need(2 <= len(source) <= 4, where, f"an input of shape {source}", "two to four axes")
    neighbours = op.axes == tuple(range(op.axes[0], op.axes[-1] + 1)) if op.axes else False
    _need(neighbours and set(op.axes) <= {1, 2, 3}, where, f"the axes {op.axes}", "neighbours, without the batch")
    kept = [1 if axis in op.axes else length for axis, length in enumerate(as_image(source))]
    dropped = [length for axis, length in enumerate(as_image(source)) if axis not in op.axes]
    fits = target in (tuple(kept), tuple(kept[4 - len(source) :]), tuple(dropped), (1, *dropped[5 - len(source) :]))
    _need(fits, where, f"the shapes {source} -> {target}", f"a reduction over {op.axes}")
    if isinstance(op, Max):
        ends = [(model.tensors[i].scales, model.tensors[i].zero_point) for i in (op.input, op.output)]
        _need(ends[0] == ends[1], where, "another scale behind than before", "one scale and zero point for a maximum")


def _check_pool(model: Model, op: Pool2D, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    _need(len(source) == len(target) == 4, where, f"the shapes {source} -> {target}", "(1, height, width, channels)")
    _need(source[3] == target[3], where, f"the shapes {source} -> {target}", "as many channels behind as before")
    _need(op.padding in PADDINGS, where, f"the padding {op.padding}", " or ".join(PADDINGS))
    fits = min(op.window) >= 1 and op.window[0] * op.window[1] <= LARGEST_WINDOW
    _need(fits, where, f"a window of {op.window}", f"1 to {LARGEST_WINDOW} values")
    for axis in range(2):
        _need(1 <= op.stride[axis] <= 255, where, f"the stride {op.stride[axis]}", "1 to 255")
        length = output_size(source[1 + axis], op.window[axis], op.stride[axis], 1, op.padding)
        _need(length == target[1 + axis], where, f"an output of shape {target}", f"length {length} on axis {1 + axis}")
    _check_one_scale(model, op, where)


def _check_softmax(model: Model, op: Softmax, where: str) -> None:
    source, target = model.tensors[op.input], model.tensors[op.output]
    fits = source.shape == target.shape and 1 <= len(source.shape) <= 4
    _need(fits, where, f"the shapes {source.shape} -> {target.shape}", "one shape of at most four axes")
    _check_quantization(model, op.output, (1 / 256, -128), where)
    _need(source.shape[-1] <= MOST_CLASSES, where, f"{source.shape[-1]} classes", f"at most {MOST_CLASSES}")
    fits = bool(np.isfinite(op.beta)) and op.beta * float(source.scale) * 2.0**26 > 1.0
    _need(fits, where, f"beta {op.beta:g} at scale {source.scale}", "a product above 2^-26")


def _check_pad(model: Model, op: Pad, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    _need(len(source) <= 4 and len(op.amounts) == len(source), where, f"paddings {op.amounts}", "a pair an axis, of 4")
    fits = all(min(pair) >= 0 for pair in op.amounts) and op.amounts[0] == (0, 0)
    _need(fits, where, f"paddings {op.amounts}", "none of the batch, and none negative")
    padded = tuple(length + sum(pair) for length, pair in zip(source, op.amounts, strict=True))
    _need(padded == target, where, f"an output of shape {target}", f"{padded}")
    _check_one_scale(model, op, where)


def _check_slice(model: Model, op: Slice, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    fits = len(source) == len(op.begin) == len(op.stride) == len(op.count) <= 4
    _need(fits, where, f"the shapes {source} -> {target}", "limits for each axis, at most 4")
    fits = all(begin >= 0 for begin in op.begin) and all(
        min(pair) >= 1 for pair in zip(op.stride, op.count, strict=True)
    )
    _need(fits, where, f"begins {op.begin}, strides {op.stride}, {op.count}", "begins from 0, strides from 1 on")
    _need(op.count[0] == 1, where, f"{op.count[0]} of the batch", "1")
    last = [b + (n - 1) * s for b, n, s in zip(op.begin, op.count, op.stride, strict=True)]
    _need(all(map(int.__lt__, last, source)), where, f"an output of shape {target}", f"no more than {source} has")
    same = np.prod(op.count, dtype=np.int64) == model.tensors[op.output].size
    _need(bool(same), where, f"an output of shape {target}", f"as many values as {op.count}")
    _check_one_scale(model, op, where)


def _check_binary(model: Model, op: Binary, where: str) -> None:
    target = model.tensors[op.output]
    index = op.constant if op.other is None else op.other
    assert index is not None
    sides = [model.tensors[op.input], model.tensors[index]]
    if op.other is None:
        constant = sides[1]
        fits = constant.dtype == "int8" and constant.data is not None and constant.size >= 1
        _need(fits, where, f"a constant of type {constant.dtype}", "int8")
        _need(len(constant.scales) == 1, where, f"{len(constant.scales)} scales of a constant", "one")
        _need(bool(0 < constant.scale < np.inf), where, f"the scale {constant.scale}", "a positive number")
        _need(-128 <= constant.zero_point <= 127, where, f"the zero point {constant.zero_point}", "-128 to 127")
    shapes = [side.shape for side in sides]
    _need(all(len(shape) <= 4 for shape in (*shapes, target.shape)), where, f"the shapes {shapes}", "at most four axes")
    try:
        together = np.broadcast_shapes(*shapes)
    except ValueError:
        together = ()
    _need(
        together == target.shape, where, f"the shapes {shapes} -> {target.shape}", "ones that broadcast to the output"
    )


def _check_concatenation(model: Model, op: Concatenate, where: str) -> None:
    target = model.tensors[op.output]
    _need(op.axis >= 1 or len(op.inputs) == 1, where, "the batch as its axis", "another axis")
    for index in op.inputs:
        part = model.tensors[index]
        outer = np.prod(target.shape[: op.axis], dtype=np.int64)
        fits = part.size % outer == 0 and len(part.shape) + (op.name == "PACK") == len(target.shape)
        rest = part.shape if op.name == "PACK" else (*part.shape[: op.axis], *part.shape[op.axis + 1 :])
        fits = fits and rest == (*target.shape[: op.axis], *target.shape[op.axis + 1 :])
        _need(bool(fits), where, f"the shapes {part.shape} in {target.shape}", f"the same but for axis {op.axis}")
        same = (part.scales, part.zero_point) == (target.scales, target.zero_point)
        _need(same, where, "another scale behind than before", "one scale and zero point")
    total = sum(model.tensors[index].size for index in op.inputs)
    _need(total == target.size, where, f"{total} values in a shape {target.shape}", f"{target.size}")


def _check_transpose(model: Model, op: Transpose, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    _need(len(source) <= 4, where, f"an input of shape {source}", "at most four axes")
    moved = tuple(source[axis] for axis in op.order)
    _need(moved == target, where, f"the shapes {source} -> {target}", f"{moved}")
    _check_one_scale(model, op, where)


def _check_convolution(model: Model, op: Conv2D | DepthwiseConv2D, where: str) -> None:
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    _need(len(source) == 4, where, f"an input of shape {source}", "four axes (1, height, width, channels)")
    shape = model.tensors[op.weights].shape
    _need(len(shape) == 4 and len(target) == 4, where, f"weights {shape}, output {target}", "four axes")
    _need(op.padding in PADDINGS, where, f"the padding {op.padding}", " or ".join(PADDINGS))
    for axis in range(2):
        values = (op.stride[axis], op.dilation[axis])
        _need(all(1 <= value <= 255 for value in values), where, f"stride, dilation {values}", "1 to 255")
        length = output_size(source[1 + axis], shape[1 + axis], *values, op.padding)
        _need(length == target[1 + axis], where, f"an output of shape {target}", f"length {length} on axis {1 + axis}")
    if isinstance(op, Conv2D):
        grouped = source[3] != shape[3]
        _need(not grouped, where, f"weights {shape} for {source[3]} channels (grouped)", "one group")
        _need(shape[0] == target[3], where, f"weights {shape} for {target[3]} outputs", "(out, height, width, in)")
    else:
        fits = shape[0] == 1 and shape[3] == target[3] == source[3] * op.depth_multiplier
        _need(fits, where, f"weights {shape} for {source[3]} -> {target[3]} channels", "(1, height, width, out)")
    _check_constants(model, op, target[3], where)
