"""An ONNX file from a stranger, checked before its graph is read: by onnx's own checker, and for what that lets pass.

onnxruntime computes all that stands in a graph, so nothing may stand in it that grows without end.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.system.documents import one_line

MAX_NODES = 5000
MAX_CONCATS = 8
MAX_AXIS = 8192
MAX_VALUES = 1 << 26  # of all constants
MAX_SHAPE_VALUES = 16  # of a constant of whole numbers: a shape, axes, an index
HINT = "export MatchboxNet or MarbleNet with NeMo's model.export('m.onnx')"
SHAPES = ("Shape", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Cast", "Constant")
_BUILDING = ("Gather", "Slice", "Concat", "Unsqueeze")
_COMPUTING = ("Conv", "BatchNormalization", "Relu", "Add", "Gemm", "MatMul", "Softmax", "LogSoftmax", "Identity")
_POOLING = ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax", "AveragePool", "MaxPool")
_ALLOWED = {*SHAPES, *_COMPUTING, *_POOLING, "Reshape", "Flatten"}


def read_checked(data: bytes, path: Path) -> tuple[list[Any], dict[str, np.ndarray], list[Any]]:
    """Return (nodes, each behind those that it reads; constants by name; the graph's inputs that are no constants).

    Raises InputError, naming the file: damaged, not what ONNX allows, or with nodes and weights that no such
    classifier has.
    """
    try:
        import onnx
    except ImportError:
        raise ToolMissing("importing an .onnx needs the package onnx", "pip install mbx-deploy[export]") from None
    try:
        model = onnx.load_model_from_string(data)
        outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        if outside:
            raise refuse(path, f"the weight {outside[0]!r:.60} is kept in another file")
        if len(model.graph.node) > MAX_NODES:
            raise refuse(path, f"it has {len(model.graph.node)} nodes, need at most {MAX_NODES}")
        onnx.checker.check_model(model)
        nodes = list(model.graph.node)
        constants = _constants(model.graph, nodes, path)
        _check_nodes(nodes, constants, path)
        inputs = [given for given in model.graph.input if given.name not in constants]
    except InputError:
        raise
    except Exception as error:  # protobuf's, the checker's and numpy's, without a common base
        raise InputError(f"can't read the ONNX file ({path}): it is damaged: {one_line(error)}", HINT) from None
    return nodes, constants, inputs


def refuse(path: Path, what: str) -> InputError:
    """Return the error for a graph that is no such classifier."""
    return InputError(f"the ONNX file is not a classifier that NeMo exported ({path}): {what}", HINT)


def attribute(path: Path, node: Any, name: str, default: Any) -> Any:
    """Return a node's attribute, of its default's kind: a whole number, a real one, text or a list of whole numbers."""
    for found in node.attribute:
        if found.name == name:
            kind = {int: (2, "i"), float: (1, "f"), bytes: (3, "s"), list: (7, "ints")}[type(default)]
            if found.type != kind[0]:
                raise refuse(path, f"{node.op_type} {node.name!r:.60} has the attribute {name} of another kind")
            value = getattr(found, kind[1])
            return list(value) if isinstance(default, list) else value
    return default


def _check_nodes(nodes: list[Any], constants: dict[str, np.ndarray], path: Path) -> None:
    """Refuse nodes of other kinds, cycles, and the building of anything but shapes."""
    written: set[str] = set()
    shapes = {name for name, value in constants.items() if value.dtype == np.int64}
    names = {name for node in nodes for name in node.output}
    for node in nodes:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _ALLOWED:
            raise refuse(path, f"it has the node {node.op_type!r:.60}")
        late = any(name in names and name not in written for name in node.input)
        if late or not node.output or any(name in written for name in node.output if name):
            raise refuse(path, f"{node.op_type} {node.name!r:.60} reads what comes later, or is written twice")
        is_shape = node.op_type == "Shape" or (node.op_type in SHAPES and shapes.issuperset(node.input))
        if node.op_type in _BUILDING and not is_shape:
            raise refuse(path, f"{node.op_type} {node.name!r:.60} reads more than shapes")
        written.update(node.output)
        if is_shape and node.op_type != "Constant":
            shapes.update(node.output)
    if sum(node.op_type == "Concat" for node in nodes) > MAX_CONCATS:
        raise refuse(path, f"it has more than {MAX_CONCATS} Concat")


def _constants(graph: Any, nodes: list[Any], path: Path) -> dict[str, np.ndarray]:
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in nodes:
        if node.op_type == "Constant":
            tensors += [(node.output[0], found.t) for found in node.attribute if found.name == "value"]
    if sum(math.prod(tensor.dims) for _, tensor in tensors) > MAX_VALUES:
        raise refuse(path, f"it holds more than {MAX_VALUES} weights")
    return {name: _array(name, tensor, path) for name, tensor in tensors}


def _array(name: str, tensor: Any, path: Path) -> np.ndarray:
    """Return a constant: floats as float32, whole numbers as int64. Its shape is as long as its data."""
    from onnx import TensorProto, numpy_helper

    if any(not 1 <= axis <= MAX_AXIS for axis in tensor.dims) or len(tensor.dims) > 4:
        raise refuse(path, f"the constant {name!r:.60} has the shape {list(tensor.dims)!r:.60}")
    if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
        value = numpy_helper.to_array(tensor).astype(np.float32)
        if not np.isfinite(value).all():
            raise refuse(path, f"the constant {name!r:.60} is not finite")
        return value
    if tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and math.prod(tensor.dims) <= MAX_SHAPE_VALUES:
        return np.asarray(numpy_helper.to_array(tensor), np.int64)
    raise refuse(path, f"the constant {name!r:.60} holds neither floats nor a shape")
