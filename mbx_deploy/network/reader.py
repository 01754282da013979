""".tflite -> Model. What is unknown (an op, a type, a quantization) is an error that names it."""

import functools
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError, visible
from mbx_deploy.network import ir
from mbx_deploy.network.ends import find_ends
from mbx_deploy.network.foreign import OpTypes, check_graph, why_no_tflite
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.network.op_reader import SUPPORTED_OPS, OpInFile, index_of, read_op
from mbx_deploy.network.rules import verify_model
from mbx_deploy.network.variables import Subgraph, resolve_variables
from mbx_deploy.system.documents import DocumentError, read_document

MAX_FILE_BYTES = 64 << 20
MAX_RANK = 8
MAX_NAME_LENGTH = 200  # of a tensor's name, for messages and reports
# Keras' Flatten asks for the batch's size at run time; shapes are fixed here, and the result is in the file.
SHAPE_OPS = ("SHAPE", "STRIDED_SLICE", "PACK")
CONSTANT_TYPES = ("int8", "int32")


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
        raise why_no_tflite(data, name)
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
    if file.SubgraphsLength() < 1:
        raise InputError("the model has 0 subgraphs: need 1")
    graph = file.Subgraphs(0)
    read: dict[int, bytes] = {}  # constants, by the number of the buffer
    main = _subgraph(file, 0, data, read)
    tensors, constants = main.tensors, main.constants
    found = resolve_variables(main, file.SubgraphsLength(), lambda number: _subgraph(file, number, data, read))
    inputs = [index_of(graph.Inputs(i), tensors) for i in range(_bounded(graph.InputsLength(), data))]
    outputs = [index_of(graph.Outputs(i), tensors) for i in range(_bounded(graph.OutputsLength(), data))]
    ends = find_ends(found.ops, tensors, inputs, [found.renamed.get(place, place) for place in outputs])
    subgraphs = file.SubgraphsLength() - len(found.initial_graphs)
    check_graph([_types(op, ends.tensors, constants) for op in ends.inside], subgraphs)
    if not inputs or not outputs:
        raise InputError(f"the model has {len(inputs)} inputs and {len(outputs)} outputs: need 1 of each at least")
    ops: list[ir.Op] = []
    computed: set[int] = set()  # shapes that ops compute
    for op in ends.inside:
        if op.name in SHAPE_OPS and len(op.outputs) == 1 and tensors[op.outputs[0]].dtype == "int32":
            computed.add(op.outputs[0])
            continue
        if op.name not in SUPPORTED_OPS:
            need = ", ".join(SUPPORTED_OPS)
            raise InputError(f"the op is not supported ({op.where.split(',')[0]}): got {op.name}, need one of {need}")
        _check_constants(op, tensors, constants)
        ops += read_op(op, ends.tensors, computed)
    whole = [op.name for op in main.ops] == [ir.op_name(op) for op in ops]
    digest = hashlib.sha256(data).hexdigest()
    return ir.Model(ends.tensors, tuple(ops), ends.inputs, ends.outputs, metadata, digest, whole, found.variables)


def _subgraph(file: Any, number: int, data: bytes, read: dict[int, bytes]) -> Subgraph:
    """read: constants, by the number of the buffer; grows."""
    graph = file.Subgraphs(number)
    count = _bounded(graph.TensorsLength(), data)
    tensors = tuple(_tensor(file, graph.Tensors(i), data, read) for i in range(count))
    constants = frozenset(i for i in range(count) if _buffer(file, graph.Tensors(i), data) is not None)
    name = (graph.Name() or b"").decode("utf-8", "replace")[:MAX_NAME_LENGTH]
    return Subgraph(name, tuple(_ops(file, graph, tensors, data)), tensors, constants)


def _ops(file: Any, graph: Any, tensors: tuple[ir.Tensor, ...], data: bytes) -> list[OpInFile]:
    names = {number: key for key, number in _builtin_operators().items()}
    codes = []
    for i in range(_bounded(file.OperatorCodesLength(), data)):
        code = file.OperatorCodes(i)
        name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "an op of unknown number")
        if name == "CUSTOM":
            custom = (code.CustomCode() or b"").decode("utf-8", "replace")[:MAX_NAME_LENGTH]
            name = f"CUSTOM:{visible(custom)}"
        codes.append(name)
    found = []
    for number in range(_bounded(graph.OperatorsLength(), data)):
        op = graph.Operators(number)
        name = codes[op.OpcodeIndex()]
        inputs = tuple(int(op.Inputs(i)) for i in range(_bounded(op.InputsLength(), data)))
        outputs = tuple(index_of(op.Outputs(i), tensors) for i in range(_bounded(op.OutputsLength(), data)))
        found.append(OpInFile(name, inputs, outputs, op.BuiltinOptions(), f"op {number}, {name}"))
    return found


def _types(op: OpInFile, tensors: tuple[ir.Tensor, ...], constants: frozenset[int]) -> OpTypes:
    kinds = tuple(tensors[index_of(index, tensors)].dtype if index >= 0 else "" for index in op.inputs)
    outputs = tuple(tensors[index].dtype for index in op.outputs)
    return OpTypes(op.name, kinds, outputs, tuple(index in constants for index in op.inputs))


def _check_constants(op: OpInFile, tensors: tuple[ir.Tensor, ...], constants: frozenset[int]) -> None:
    for index in op.inputs:
        if index in constants and tensors[index].dtype not in CONSTANT_TYPES:
            got = f"got {tensors[index].dtype}, need int8 or int32"
            raise InputError(f"a constant is not quantized (tensor {tensors[index].name!r}): {got}")


def _bounded(count: int, data: bytes) -> int:
    if count > len(data) // 4:
        raise ValueError(f"a list of {count} entries in a file of {len(data)} bytes")
    return count


def _builtin_operators() -> dict[str, int]:
    from tflite.BuiltinOperator import BuiltinOperator

    return {key: value for key, value in vars(BuiltinOperator).items() if not key.startswith("_")}


def _buffer(file: Any, tensor: Any, data: bytes) -> Any:
    """Return the buffer of a constant, None of what is computed."""
    if tensor.Buffer() >= _bounded(file.BuffersLength(), data):
        raise ValueError(f"buffer {tensor.Buffer()} of {file.BuffersLength()}")
    buffer = file.Buffers(tensor.Buffer())
    if buffer is None or not buffer.DataLength():
        return None
    _bounded(buffer.DataLength() // 4, data)
    return buffer


@functools.cache
def _tensor_types() -> dict[int, str]:
    from tflite.TensorType import TensorType

    return {value: key.lower() for key, value in vars(TensorType).items() if not key.startswith("_")}


def _tensor(file: Any, tensor: Any, data: bytes, read: dict[int, bytes]) -> ir.Tensor:
    dtype = _tensor_types().get(tensor.Type(), "unknown")
    rank = tensor.ShapeLength()
    if rank > MAX_RANK:
        raise ValueError(f"a tensor of {rank} axes")
    shape = tuple(int(tensor.Shape(i)) for i in range(rank))
    if any(length < 0 for length in shape):
        raise ValueError(f"a tensor of shape {shape}")
    name = visible((tensor.Name() or b"").decode("utf-8", "replace")[:MAX_NAME_LENGTH])
    buffer, constant = _buffer(file, tensor, data), None
    if buffer is not None and dtype in CONSTANT_TYPES:
        if tensor.Buffer() not in read:  # many tensors may share one
            read[tensor.Buffer()] = np.asarray(buffer.DataAsNumpy(), np.uint8).tobytes()
        constant = np.frombuffer(read[tensor.Buffer()], dtype="<i1" if dtype == "int8" else "<i4").reshape(shape)
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
