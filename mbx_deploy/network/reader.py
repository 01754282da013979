""".tflite -> Model. What is unknown (an op, a type, a quantization) is an error that names it."""

import functools
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError, visible
from mbx_deploy.network import ir
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.network.rules import verify_model
from mbx_deploy.system.documents import DocumentError, read_document

MAX_FILE_BYTES = 64 << 20
MAX_RANK = 8
MAX_NAME_LENGTH = 200  # of a tensor's name, for messages and reports
INPUTS = {  # of each op that there is: the fewest and the most
    "ADD": (2, 2),
    "AVERAGE_POOL_2D": (1, 1),
    "CONV_2D": (2, 3),
    "DEPTHWISE_CONV_2D": (2, 3),
    "EXPAND_DIMS": (2, 2),
    "FULLY_CONNECTED": (2, 3),
    "HARD_SWISH": (1, 1),
    "LEAKY_RELU": (1, 1),
    "LOGISTIC": (1, 1),
    "MAX_POOL_2D": (1, 1),
    "MEAN": (2, 2),
    "PAD": (2, 2),
    "PADV2": (3, 3),
    "REDUCE_MAX": (2, 2),
    "RELU": (1, 1),
    "RELU6": (1, 1),
    "RESHAPE": (1, 2),
    "SOFTMAX": (1, 1),
    "SQUEEZE": (1, 1),
    "STRIDED_SLICE": (4, 4),
    "TANH": (1, 1),
}
SUPPORTED_OPS = tuple(INPUTS)
# Keras' Flatten asks for the batch's size at run time; shapes are fixed here, and the result is in the file.
SHAPE_OPS = ("SHAPE", "STRIDED_SLICE", "PACK")


def read_model_file(path: str | Path) -> bytes:
    """Return the bytes of a model's file. Raises InputError where it is missing, no file, or too large to be one."""
    try:
        return read_document(Path(path), MAX_FILE_BYTES)
    except DocumentError as error:
        raise InputError(f"can't read the model ({path}): {error}", "give the path of a .tflite file") from None


def read_tflite(path: str | Path) -> ir.Model:
    """Return the network of a file, verified. Raises InputError for a missing, foreign, corrupt or float model."""
    return parse_tflite(read_model_file(path), str(path))


def parse_tflite(data: bytes, name: str) -> ir.Model:
    """Return the network that the bytes hold, verified. name: for messages. Raises InputError as read_tflite()."""
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise InputError(
            f"not a TFLite model ({name}): it does not bear the identifier TFL3", "export one with mbx-deploy export"
        )
    try:
        return verify_model(_parse(data, name, read_metadata(data)))
    except InputError as error:
        raise InputError(f"{error.what} [{name}]", error.hint) from None
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
        KeyError,
    ) as error:
        # What the flatbuffers reader raises where an offset of a damaged file leads nowhere.
        raise InputError(f"the model is damaged ({name}): {error}", "copy or export it again") from None


def _parse(data: bytes, name: str, metadata: dict[str, Any] | None) -> ir.Model:
    from tflite.Model import Model as File

    file = File.GetRootAs(data, 0)
    if file.SubgraphsLength() != 1:
        raise InputError(f"the model has {file.SubgraphsLength()} subgraphs: need 1")
    graph = file.Subgraphs(0)
    if graph.InputsLength() != 1 or graph.OutputsLength() != 1:
        raise InputError(
            f"the model has {graph.InputsLength()} inputs and {graph.OutputsLength()} outputs: need 1 and 1"
        )
    names = {number: key for key, number in _builtin_operators().items()}
    codes = []
    for i in range(_bounded(file.OperatorCodesLength(), data)):
        code = file.OperatorCodes(i)
        codes.append(names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "an op of unknown number"))
    used = [codes[graph.Operators(i).OpcodeIndex()] for i in range(_bounded(graph.OperatorsLength(), data))]
    constants: dict[int, bytes] = {}  # by the number of the buffer
    count = _bounded(graph.TensorsLength(), data)
    tensors = tuple(_tensor(file, graph.Tensors(i), data, constants) for i in range(count))
    ops: list[ir.Op] = []
    computed: set[int] = set()  # shapes that ops compute
    for index, name_of_op in enumerate(used):
        op = graph.Operators(index)
        if name_of_op in SHAPE_OPS and op.OutputsLength() == 1:
            output = _index(op.Outputs(0), tensors)
            if tensors[output].dtype == "int32":
                computed.add(output)
                continue
        if name_of_op not in SUPPORTED_OPS:
            need = ", ".join(SUPPORTED_OPS)
            raise InputError(f"the op is not supported (op {index}): got {name_of_op}, need one of {need}")
        ops.append(_op(name_of_op, op, tensors, computed, f"op {index}, {name_of_op}"))
    digest = hashlib.sha256(data).hexdigest()
    return ir.Model(
        tensors, tuple(ops), _index(graph.Inputs(0), tensors), _index(graph.Outputs(0), tensors), metadata, digest
    )


def _bounded(count: int, data: bytes) -> int:
    if count > len(data) // 4:
        raise ValueError(f"a list of {count} entries in a file of {len(data)} bytes")
    return count


def _index(value: int, tensors: tuple[ir.Tensor, ...]) -> int:
    if not 0 <= value < len(tensors):
        raise ValueError(f"tensor {value} of {len(tensors)}")
    return int(value)


def _builtin_operators() -> dict[str, int]:
    from tflite.BuiltinOperator import BuiltinOperator

    return {key: value for key, value in vars(BuiltinOperator).items() if not key.startswith("_")}


@functools.cache
def _tensor_types() -> dict[int, str]:
    from tflite.TensorType import TensorType

    return {value: key.lower() for key, value in vars(TensorType).items() if not key.startswith("_")}


def _tensor(file: Any, tensor: Any, data: bytes, constants: dict[int, bytes]) -> ir.Tensor:
    dtype = _tensor_types().get(tensor.Type(), "unknown")
    rank = tensor.ShapeLength()
    if rank > MAX_RANK:
        raise ValueError(f"a tensor of {rank} axes")
    shape = tuple(int(tensor.Shape(i)) for i in range(rank))
    if any(length < 0 for length in shape):
        raise ValueError(f"a tensor of shape {shape}")
    name = visible((tensor.Name() or b"").decode("utf-8", "replace")[:MAX_NAME_LENGTH])
    if tensor.Buffer() >= _bounded(file.BuffersLength(), data):
        raise ValueError(f"buffer {tensor.Buffer()} of {file.BuffersLength()}")
    buffer = file.Buffers(tensor.Buffer())
    constant = None
    if buffer is not None and buffer.DataLength():
        if dtype not in ("int8", "int32"):
            raise InputError(f"a constant is not quantized (tensor {name!r}): got {dtype}, need int8 or int32")
        _bounded(buffer.DataLength() // 4, data)
        if tensor.Buffer() not in constants:  # many tensors may share one
            constants[tensor.Buffer()] = np.asarray(buffer.DataAsNumpy(), np.uint8).tobytes()
        constant = np.frombuffer(constants[tensor.Buffer()], dtype="<i1" if dtype == "int8" else "<i4").reshape(shape)
    scales: tuple[np.float32, ...] = ()
    zero_point = scale_axis = 0
    quantization = tensor.Quantization()
    if quantization is not None and quantization.ScaleLength():
        _bounded(quantization.ScaleLength(), data)
        scales = tuple(np.atleast_1d(np.asarray(quantization.ScaleAsNumpy(), np.float32)))
        points = {int(quantization.ZeroPoint(i)) for i in range(_bounded(quantization.ZeroPointLength(), data))} or {0}
        if len(points) != 1:
            raise InputError(f"zero points differ between channels (tensor {name!r})")
        zero_point, scale_axis = points.pop(), int(quantization.QuantizedDimension())
    return ir.Tensor(name, shape, dtype, scales, zero_point, constant, scale_axis)


def _op(name: str, op: Any, tensors: tuple[ir.Tensor, ...], computed: set[int], where: str) -> ir.Op:
    inputs = [int(op.Inputs(i)) for i in range(op.InputsLength())]
    if op.OutputsLength() != 1:
        raise InputError(f"the op has {op.OutputsLength()} outputs ({where}): need 1")
    output = _index(op.Outputs(0), tensors)
    fewest, most = INPUTS[name]
    if not fewest <= len(inputs) <= most:
        raise InputError(f"the op has {len(inputs)} inputs ({where}): need {fewest} to {most}")
    first = _index(inputs[0], tensors)
    if name in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"):
        if len(inputs) == 2 and inputs[1] not in computed and tensors[_index(inputs[1], tensors)].data is None:
            raise InputError(f"the shape is not constant ({where})", "convert the model with fixed shapes, batch 1")
        return ir.Reshape(name, first, output)
    if name in ("RELU", "RELU6"):
        return ir.Clamp(name, first, output)
    if name == "LEAKY_RELU":
        return ir.Curve(name, first, output, float(_options(name, op).Alpha()))
    if name in ("LOGISTIC", "TANH", "HARD_SWISH"):
        return ir.Curve(name, first, output)
    if name == "SOFTMAX":
        return ir.Softmax(first, output, float(_options(name, op).Beta()))
    if name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        return _pool(name, _options(name, op), first, output)
    second = _index(inputs[1], tensors)
    if name in ("PAD", "PADV2"):
        return _pad(name, tensors, [first, second, *(_index(i, tensors) for i in inputs[2:])], output, where)
    if name == "STRIDED_SLICE":
        limits = [tensors[_index(index, tensors)] for index in inputs[1:]]
        return _slice(tensors, first, limits, output, _options(name, op), where)
    bias = _index(inputs[2], tensors) if len(inputs) == 3 and inputs[2] >= 0 else None
    if name in ("MEAN", "REDUCE_MAX"):
        axes = _axes(tensors[second], len(tensors[first].shape), where)
        return ir.Mean(first, output, axes) if name == "MEAN" else ir.Max(first, output, axes)
    options = _options(name, op)
    activation = _name_of("ActivationFunctionType", options.FusedActivationFunction())
    if name == "ADD":
        return ir.Add(first, second, output, activation)
    if name == "FULLY_CONNECTED":
        if options.WeightsFormat() != 0:
            raise InputError(f"the weights are shuffled ({where}): need the default format")
        return ir.FullyConnected(first, second, bias, output, activation)
    stride = (options.StrideH(), options.StrideW())
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    padding = _name_of("Padding", options.Padding())
    if name == "CONV_2D":
        return ir.Conv2D(first, second, bias, output, stride, dilation, padding, activation)
    if name != "DEPTHWISE_CONV_2D":
        raise AssertionError(f"an op of INPUTS that nothing reads: {name}")
    # TFLite ignores the stored depth multiplier of newer files where it is 0: the shapes define it.
    depth = tensors[output].shape[-1] // max(1, tensors[first].shape[-1])
    return ir.DepthwiseConv2D(first, second, bias, output, stride, dilation, padding, activation, depth)


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


def _pad(name: str, tensors: tuple[ir.Tensor, ...], inputs: list[int], output: int, where: str) -> ir.Pad:
    """Source: TFLite Micro, PadPrepare: PADV2's value has the output's quantization."""
    amounts = tensors[inputs[1]]
    rank = len(tensors[inputs[0]].shape)
    if amounts.data is None or amounts.dtype != "int32" or amounts.shape != (rank, 2):
        got = f"{amounts.dtype} {amounts.shape}" if amounts.data is not None else "an activation"
        raise InputError(f"the paddings are none ({where}): got {got}, need constant int32 ({rank}, 2)")
    pairs = tuple((int(before), int(after)) for before, after in amounts.data)
    target, value = tensors[output], tensors[output].zero_point
    if name == "PADV2":
        added = tensors[inputs[2]]
        if added.data is None or added.dtype != "int8" or added.size != 1:
            raise InputError(f"the value to pad with is none ({where}): need one constant int8")
        if (added.scales, added.zero_point) != (target.scales, target.zero_point):
            raise InputError(f"the value to pad with has another scale than the output ({where}): need one")
        value = int(added.data.ravel()[0])
    return ir.Pad(name, inputs[0], output, pairs, value)


def _slice(
    tensors: tuple[ir.Tensor, ...], source: int, limits: list[ir.Tensor], output: int, options: Any, where: str
) -> ir.Slice:
    """limits: begins, ends and strides. Source: TFLite, strided_slice::StartForAxis and StopForAxis."""
    shape = tensors[source].shape
    masks = (options.EllipsisMask(), options.NewAxisMask(), options.ShrinkAxisMask(), options.Offset())
    if any(masks):
        got = f"the masks ellipsis {masks[0]}, new axis {masks[1]}, shrink axis {masks[2]}, offset {masks[3]}"
        raise InputError(f"the slice changes the number of axes ({where}): got {got}, need 0 of each")
    if any(limit.data is None or limit.dtype != "int32" or limit.shape != (len(shape),) for limit in limits):
        raise InputError(f"the slice's limits are none ({where}): need constant int32 ({len(shape)},) for all three")
    begins, ends, strides = ([int(value) for value in limit.data] for limit in limits if limit.data is not None)
    if min(strides, default=1) < 1:
        raise InputError(f"the slice goes backwards ({where}): got strides {strides}, need 1 or more")
    found = []
    for axis, (length, begin, end, stride) in enumerate(zip(shape, begins, ends, strides, strict=True)):
        masked = (options.BeginMask() >> axis & 1, options.EndMask() >> axis & 1)
        first = 0 if masked[0] else slice(begin, None).indices(length)[0]
        last = length if masked[1] else slice(None, end).indices(length)[1]
        if len(range(first, last, stride)) != tensors[output].shape[axis]:
            got = f"{tensors[output].shape[axis]} on axis {axis}"
            raise InputError(
                f"the slice's shape is another ({where}): got {got}, need {len(range(first, last, stride))}"
            )
        found.append(first)
    return ir.Slice(source, output, tuple(found), tuple(strides))


def _axes(axes: ir.Tensor, rank: int, where: str) -> tuple[int, ...]:
    """Return the axes of a reduction, of the tensor seen as (1, height, width, channels)."""
    if axes.data is None:
        raise InputError(f"the axes of the reduction are not constant ({where})")
    if not 3 <= rank <= 4:
        raise InputError(f"the reduction is of a tensor of {rank} axes ({where}): need 3 or 4")
    stored = [int(axis) for axis in np.atleast_1d(axes.data).ravel()]
    if not all(-rank <= axis < rank for axis in stored):
        raise InputError(f"the reduction is over axes that there are not ({where}): got {stored} of {rank}")
    found = sorted({axis % rank for axis in stored})
    if not found or found[0] < 1 or found[-1] > rank - 2:
        need = "[1, 2], [1] or [2], height and width" if rank == 4 else "[1]"
        raise InputError(f"the reduction is over other axes ({where}): got {found}, need {need}")
    return tuple(axis + 4 - rank for axis in found)


def _options(name: str, op: Any) -> Any:
    import importlib

    kind = {
        "CONV_2D": "Conv2DOptions",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "ADD": "AddOptions",
        "FULLY_CONNECTED": "FullyConnectedOptions",
        "LEAKY_RELU": "LeakyReluOptions",
        "SOFTMAX": "SoftmaxOptions",
        "STRIDED_SLICE": "StridedSliceOptions",
        "AVERAGE_POOL_2D": "Pool2DOptions",
        "MAX_POOL_2D": "Pool2DOptions",
    }[name]
    table = op.BuiltinOptions()
    if table is None:
        raise ValueError(f"{name} without options")
    options = getattr(importlib.import_module(f"tflite.{kind}"), kind)()
    options.Init(table.Bytes, table.Pos)
    return options


def _name_of(enum: str, value: int) -> str:
    import importlib

    members = vars(getattr(importlib.import_module(f"tflite.{enum}"), enum))
    return next((key for key, number in members.items() if number == value and not key.startswith("_")), str(value))
