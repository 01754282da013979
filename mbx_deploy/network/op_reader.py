"""The ops of a .tflite -> ir.Op, one at a time. What is unknown is an error that names it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.network import ir

MOST_RESIZED = 32767
INPUTS = {  # of each op that there is: the fewest and the most
    "ADD": (2, 2),
    "AVERAGE_POOL_2D": (1, 1),
    "CONCATENATION": (1, 16),
    "CONV_2D": (2, 3),
    "DEPTHWISE_CONV_2D": (2, 3),
    "EXPAND_DIMS": (2, 2),
    "FULLY_CONNECTED": (2, 3),
    "HARD_SWISH": (1, 1),
    "LEAKY_RELU": (1, 1),
    "LOGISTIC": (1, 1),
    "MAX_POOL_2D": (1, 1),
    "MEAN": (2, 2),
    "MUL": (2, 2),
    "PACK": (1, 16),
    "PAD": (2, 2),
    "PADV2": (3, 3),
    "QUANTIZE": (1, 1),
    "REDUCE_MAX": (2, 2),
    "RELU": (1, 1),
    "RELU6": (1, 1),
    "RESHAPE": (1, 2),
    "RESIZE_NEAREST_NEIGHBOR": (2, 2),
    "SLICE": (3, 3),
    "SOFTMAX": (1, 1),
    "SPLIT": (2, 2),
    "SPLIT_V": (3, 3),
    "SQUEEZE": (1, 1),
    "STRIDED_SLICE": (4, 4),
    "SUB": (2, 2),
    "TANH": (1, 1),
    "TRANSPOSE": (2, 2),
    "UNPACK": (1, 1),
}
SUPPORTED_OPS = tuple(INPUTS)
SEVERAL_OUTPUTS = ("SPLIT", "SPLIT_V", "UNPACK")

Tensors = tuple[ir.Tensor, ...]


@dataclass(frozen=True)
class OpInFile:
    """An op as the file has it. inputs: numbers of tensors, -1 for one left out. options: a reader of its table.

    where: for messages.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any
    where: str


def read_op(op: OpInFile, tensors: Tensors, computed: set[int]) -> list[ir.Op]:
    """Return what an op of SUPPORTED_OPS is in the IR: one, or one for each output.

    computed: shapes that ops compute. Raises InputError for what no rule takes, ValueError for a damaged file.
    """
    fewest, most = INPUTS[op.name]
    if not fewest <= len(op.inputs) <= most:
        raise InputError(f"the op has {len(op.inputs)} inputs ({op.where}): need {fewest} to {most}")
    if op.name in SEVERAL_OUTPUTS:
        return list(_parts(op, tensors))
    if len(op.outputs) != 1:
        raise InputError(f"the op has {len(op.outputs)} outputs ({op.where}): need 1")
    return [_read_one(op, tensors, computed)]


def index_of(value: int, tensors: Tensors) -> int:
    """Return the number of a tensor. Raises ValueError for one that there is not."""
    if not 0 <= value < len(tensors):
        raise ValueError(f"tensor {value} of {len(tensors)}")
    return int(value)


def _read_one(op: OpInFile, tensors: Tensors, computed: set[int]) -> ir.Op:
    name, where = op.name, op.where
    first, output = index_of(op.inputs[0], tensors), op.outputs[0]
    match name:
        case "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS":
            if len(op.inputs) == 2 and op.inputs[1] not in computed and _at(op, 1, tensors).data is None:
                raise InputError(f"the shape is not constant ({where})", "convert the model with fixed shapes, batch 1")
            return ir.Reshape(name, first, output)
        case "RELU" | "RELU6":
            return ir.Clamp(name, first, output)
        case "LEAKY_RELU":
            return ir.Curve(name, first, output, float(_options(op).Alpha()))
        case "LOGISTIC" | "TANH" | "HARD_SWISH":
            return ir.Curve(name, first, output)
        case "SOFTMAX":
            return ir.Softmax(first, output, float(_options(op).Beta()))
        case "QUANTIZE":
            return ir.Requantize(first, output)
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
            return _pool(name, _options(op), first, output)
        case "PAD" | "PADV2":
            return _pad(op, tensors)
        case "STRIDED_SLICE":
            return _strided_slice(op, tensors)
        case "SLICE":
            return _slice(op, tensors)
        case "TRANSPOSE":
            return _transpose(op, tensors)
        case "CONCATENATION" | "PACK":
            return _concatenation(op, tensors)
        case "RESIZE_NEAREST_NEIGHBOR":
            return _resize(op, tensors)
        case "MEAN" | "REDUCE_MAX":
            axes = _axes(_at(op, 1, tensors), len(tensors[first].shape), where)
            return ir.Mean(first, output, axes) if name == "MEAN" else ir.Max(first, output, axes)
        case "ADD" | "SUB" | "MUL":
            return _binary(op, tensors)
        case "FULLY_CONNECTED" | "CONV_2D" | "DEPTHWISE_CONV_2D":
            return _product(op, tensors)
        case _:
            raise AssertionError(f"an op of INPUTS that nothing reads: {name}")


def _at(op: OpInFile, number: int, tensors: Tensors) -> ir.Tensor:
    """Return the tensor of an input."""
    return tensors[index_of(op.inputs[number], tensors)]


def _integers(op: OpInFile, number: int, tensors: Tensors, what: str) -> list[int]:
    """Return the values of an input that must be constant int32. Raises InputError for another."""
    tensor = _at(op, number, tensors)
    if tensor.data is None or tensor.dtype != "int32":
        got = f"{tensor.dtype} {tensor.shape}" if tensor.data is not None else "what an op computes"
        raise InputError(f"{what} not constant ({op.where}): got {got}, need constant int32")
    return [int(value) for value in tensor.data.ravel()]


def _activation(options: Any) -> str:
    return _name_of("ActivationFunctionType", options.FusedActivationFunction())


def _product(op: OpInFile, tensors: Tensors) -> ir.Op:
    """Return a layer with weights."""
    first, second, output = index_of(op.inputs[0], tensors), index_of(op.inputs[1], tensors), op.outputs[0]
    bias = index_of(op.inputs[2], tensors) if len(op.inputs) == 3 and op.inputs[2] >= 0 else None
    options = _options(op)
    activation = _activation(options)
    if op.name == "FULLY_CONNECTED":
        if options.WeightsFormat() != 0:
            raise InputError(f"the weights are shuffled ({op.where}): need the default format")
        return ir.FullyConnected(first, second, bias, output, activation)
    stride = (options.StrideH(), options.StrideW())
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    padding = _name_of("Padding", options.Padding())
    if op.name == "CONV_2D":
        return ir.Conv2D(first, second, bias, output, stride, dilation, padding, activation)
    # TFLite ignores the stored depth multiplier of newer files where it is 0: the shapes define it.
    depth = _last(tensors[output]) // max(1, _last(tensors[first]))
    return ir.DepthwiseConv2D(first, second, bias, output, stride, dilation, padding, activation, depth)


def _last(tensor: ir.Tensor) -> int:
    """Return the length of a tensor's last axis, 1 of one that has none."""
    return tensor.shape[-1] if tensor.shape else 1


def _binary(op: OpInFile, tensors: Tensors) -> ir.Op:
    sides = [index_of(number, tensors) for number in op.inputs]
    activation = _activation(_options(op))
    constant = [tensors[side].data is not None for side in sides]
    if all(constant):
        raise InputError(f"both operands are constant ({op.where}): need an activation")
    if any(constant):
        swapped = constant[0]
        source, other = (sides[1], sides[0]) if swapped else (sides[0], sides[1])
        return ir.Binary(op.name, source, None, other, op.outputs[0], activation, swapped)
    if op.name == "ADD" and tensors[sides[0]].shape == tensors[sides[1]].shape:
        return ir.Add(sides[0], sides[1], op.outputs[0], activation)
    return ir.Binary(op.name, sides[0], sides[1], None, op.outputs[0], activation)


def _concatenation(op: OpInFile, tensors: Tensors) -> ir.Concatenate:
    inputs = tuple(index_of(number, tensors) for number in op.inputs)
    options, rank = _options(op), len(tensors[op.outputs[0]].shape)
    axis = int(options.Axis())
    if op.name == "CONCATENATION" and _activation(options) != "NONE":
        raise InputError(f"the op has an activation ({op.where}): got {_activation(options)}, need NONE")
    if not -rank <= axis < rank:
        raise InputError(f"the op is along an axis that there is not ({op.where}): got {axis} of {rank}")
    return ir.Concatenate(op.name, inputs, op.outputs[0], axis % rank)


def _transpose(op: OpInFile, tensors: Tensors) -> ir.Transpose:
    order, rank = _integers(op, 1, tensors, "the order of axes is"), len(_at(op, 0, tensors).shape)
    if sorted(order) != list(range(rank)):
        raise InputError(f"the order of axes is none ({op.where}): got {order}, need each of {rank} once")
    return ir.Transpose(index_of(op.inputs[0], tensors), op.outputs[0], tuple(order))


def _resize(op: OpInFile, tensors: Tensors) -> ir.Resize:
    """Source: TFLite, reference_ops::GetNearestNeighbor: in float32."""
    source, target, options = _at(op, 0, tensors), tensors[op.outputs[0]], _options(op)
    size = _integers(op, 1, tensors, "the size is")
    if len(source.shape) != 4 or len(target.shape) != 4 or tuple(size) != target.shape[1:3]:
        raise InputError(f"the size does not fit ({op.where}): got {size} for {source.shape} -> {target.shape}")
    corners, centers = options.AlignCorners(), options.HalfPixelCenters()
    places = [
        _nearest(source.shape[1 + axis], size[axis], corners, np.float32(0.5 if centers else 0.0)) for axis in range(2)
    ]
    return ir.Resize(index_of(op.inputs[0], tensors), op.outputs[0], places[0], places[1])


def _nearest(length: int, wanted: int, corners: bool, offset: np.float32) -> tuple[int, ...]:
    if min(length, wanted) < 1 or max(length, wanted) > MOST_RESIZED:
        raise InputError(f"a length can't be resized: got {length} to {wanted}, need 1 to {MOST_RESIZED}")
    last = wanted - 1 if corners and wanted > 1 else wanted
    scale = np.float32(length - 1 if corners and wanted > 1 else length) / np.float32(last)
    scaled = (np.arange(wanted, dtype=np.float32) + offset) * scale
    found = np.floor(scaled + np.float32(0.5)) if corners else np.floor(scaled)
    return tuple(int(value) for value in np.clip(found, 0, length - 1))


def _parts(op: OpInFile, tensors: Tensors) -> Iterator[ir.Slice]:
    """Yield the slices that a SPLIT, SPLIT_V or UNPACK gives, one for each output."""
    at = 1 if op.name == "SPLIT" else 0
    source, first = _at(op, at, tensors), index_of(op.inputs[at], tensors)
    rank = len(source.shape)
    match op.name:
        case "UNPACK":
            axis = int(_options(op).Axis())
        case "SPLIT":
            axis = next(iter(_integers(op, 0, tensors, "the axis is")), 0)
        case _:
            axis = next(iter(_integers(op, 2, tensors, "the axis is")), 0)
    if not -rank <= axis < rank:
        raise InputError(f"the op is along an axis that there is not ({op.where}): got {axis} of {rank}")
    axis %= rank
    begin = 0
    for output in op.outputs:
        target = tensors[output].shape
        taken = 1 if op.name == "UNPACK" else target[axis] if len(target) == rank else 0
        count = tuple(taken if i == axis else length for i, length in enumerate(source.shape))
        yield ir.Slice(
            op.name, first, output, tuple(begin if i == axis else 0 for i in range(rank)), (1,) * rank, count
        )
        begin += taken
    if begin != source.shape[axis]:
        raise InputError(f"the outputs are not the whole input ({op.where}): got {begin} of {source.shape[axis]}")


def _slice(op: OpInFile, tensors: Tensors) -> ir.Slice:
    shape = _at(op, 0, tensors).shape
    begins, sizes = (_integers(op, number, tensors, "the slice's limits are") for number in (1, 2))
    if len(begins) != len(shape) or len(sizes) != len(shape):
        raise InputError(f"the slice's limits are none ({op.where}): got {len(begins)}, need {len(shape)}")
    counts = [n - b if size == -1 else size for n, b, size in zip(shape, begins, sizes, strict=True)]
    first, ones = index_of(op.inputs[0], tensors), (1,) * len(shape)
    return ir.Slice(op.name, first, op.outputs[0], tuple(begins), ones, tuple(counts))


def _pool(name: str, options: Any, source: int, output: int) -> ir.Pool2D:
    return ir.Pool2D(
        name,
        source,
        output,
        (options.FilterHeight(), options.FilterWidth()),
        (options.StrideH(), options.StrideW()),
        _name_of("Padding", options.Padding()),
        _name_of("ActivationFunctionType", options.FusedActivationFunction()),
    )


def _pad(op: OpInFile, tensors: Tensors) -> ir.Pad:
    """Source: TFLite Micro, PadPrepare: PADV2's value has the output's quantization."""
    amounts, output, where = _at(op, 1, tensors), op.outputs[0], op.where
    rank = len(_at(op, 0, tensors).shape)
    if amounts.data is None or amounts.dtype != "int32" or amounts.shape != (rank, 2):
        got = f"{amounts.dtype} {amounts.shape}" if amounts.data is not None else "an activation"
        raise InputError(f"the paddings are none ({where}): got {got}, need constant int32 ({rank}, 2)")
    pairs = tuple((int(before), int(after)) for before, after in amounts.data)
    target, value = tensors[output], tensors[output].zero_point
    if op.name == "PADV2":
        added = _at(op, 2, tensors)
        if added.data is None or added.dtype != "int8" or added.size != 1:
            raise InputError(f"the value to pad with is none ({where}): need one constant int8")
        if (added.scales, added.zero_point) != (target.scales, target.zero_point):
            raise InputError(f"the value to pad with has another scale than the output ({where}): need one")
        value = int(added.data.ravel()[0])
    return ir.Pad(op.name, index_of(op.inputs[0], tensors), output, pairs, value)


def _strided_slice(op: OpInFile, tensors: Tensors) -> ir.Slice:
    """Source: TFLite, strided_slice::StartForAxis and StopForAxis."""
    source, target, options, where = _at(op, 0, tensors), tensors[op.outputs[0]], _options(op), op.where
    shape, shrunk = source.shape, options.ShrinkAxisMask()
    masks = (options.EllipsisMask(), options.NewAxisMask(), options.Offset())
    if any(masks):
        got = f"the masks ellipsis {masks[0]}, new axis {masks[1]}, offset {masks[2]}"
        raise InputError(f"the slice adds axes ({where}): got {got}, need 0 of each")
    limits = [_at(op, number, tensors) for number in (1, 2, 3)]
    if any(limit.data is None or limit.dtype != "int32" or limit.shape != (len(shape),) for limit in limits):
        raise InputError(f"the slice's limits are none ({where}): need constant int32 ({len(shape)},) for all three")
    begins, ends, strides = ([int(value) for value in limit.data] for limit in limits if limit.data is not None)
    if min(strides, default=1) < 1:
        raise InputError(f"the slice goes backwards ({where}): got strides {strides}, need 1 or more")
    found, counts = [], []
    for axis, (length, begin, end, stride) in enumerate(zip(shape, begins, ends, strides, strict=True)):
        masked = (options.BeginMask() >> axis & 1, options.EndMask() >> axis & 1)
        first = 0 if masked[0] else slice(begin, None).indices(length)[0]
        last = length if masked[1] else slice(None, end).indices(length)[1]
        found.append(first)
        counts.append(1 if shrunk >> axis & 1 else len(range(first, last, stride)))
    kept = tuple(count for axis, count in enumerate(counts) if not shrunk >> axis & 1)
    if kept != target.shape:
        raise InputError(f"the slice's shape is another ({where}): got {target.shape}, need {kept}")
    first_input = index_of(op.inputs[0], tensors)
    return ir.Slice(op.name, first_input, op.outputs[0], tuple(found), tuple(strides), tuple(counts))


def _axes(axes: ir.Tensor, rank: int, where: str) -> tuple[int, ...]:
    """Return the axes of a reduction, of the tensor seen as (1, height, width, channels)."""
    if axes.data is None:
        raise InputError(f"the axes of the reduction are not constant ({where})")
    if not 2 <= rank <= 4:
        raise InputError(f"the reduction is of a tensor of {rank} axes ({where}): need 2 to 4")
    stored = [int(axis) for axis in np.atleast_1d(axes.data).ravel()]
    if not all(-rank <= axis < rank for axis in stored):
        raise InputError(f"the reduction is over axes that there are not ({where}): got {stored} of {rank}")
    found = sorted({axis % rank for axis in stored})
    if not found or found[0] < 1 or found != list(range(found[0], found[-1] + 1)):
        raise InputError(f"the reduction is over other axes ({where}): got {found}, need neighbours, without the batch")
    return tuple(axis + 4 - rank for axis in found)


def _options(op: OpInFile) -> Any:
    import importlib

    kind = {
        "CONCATENATION": "ConcatenationOptions",
        "CONV_2D": "Conv2DOptions",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "ADD": "AddOptions",
        "FULLY_CONNECTED": "FullyConnectedOptions",
        "LEAKY_RELU": "LeakyReluOptions",
        "MUL": "MulOptions",
        "PACK": "PackOptions",
        "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
        "SOFTMAX": "SoftmaxOptions",
        "STRIDED_SLICE": "StridedSliceOptions",
        "SUB": "SubOptions",
        "UNPACK": "UnpackOptions",
        "AVERAGE_POOL_2D": "Pool2DOptions",
        "MAX_POOL_2D": "Pool2DOptions",
    }[op.name]
    table = op.options
    if table is None:
        raise ValueError(f"{op.name} without options")
    options = getattr(importlib.import_module(f"tflite.{kind}"), kind)()
    options.Init(table.Bytes, table.Pos)
    return options


def _name_of(enum: str, value: int) -> str:
    import importlib

    members = vars(getattr(importlib.import_module(f"tflite.{enum}"), enum))
    return next((key for key, number in members.items() if number == value and not key.startswith("_")), str(value))
