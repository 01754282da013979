"""The graph of a classifier that NeMo exported, read as Jasper blocks. What does not fit is refused by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.train.jasper import JasperBlockConfig

MAX_NODES = 5000
_SHAPING = ("Reshape", "Squeeze", "Flatten", "Identity", "Cast")
_POOLINGS = {"GlobalAveragePool": "avg", "ReduceMean": "avg", "GlobalMaxPool": "max", "ReduceMax": "max"}
_WINDOWED_POOLINGS = {"AveragePool": "avg", "MaxPool": "max"}  # over all frames, where their number is fixed


@dataclass
class SubBlock:
    """One or two convolutions and a bias: weights float32 (out, in / groups, k), bias float32 (out,)."""

    weights: list[np.ndarray]
    bias: np.ndarray
    dilation: int


@dataclass(frozen=True)
class OnnxNetwork:
    """blocks and the sub-blocks of each, the residual branch last. weight, bias: of the linear layer.

    frames: that the input's shape fixes, or None.
    """

    blocks: tuple[JasperBlockConfig, ...]
    sub_blocks: tuple[tuple[SubBlock, ...], ...]
    weight: np.ndarray
    bias: np.ndarray
    pooling: str
    coefficients: int
    frames: int | None
    input_name: str
    logits_name: str


@dataclass
class _Graph:
    path: Path
    constants: dict[str, np.ndarray]
    consumers: dict[str, list[Any]] = field(default_factory=dict)

    def bad(self, what: str) -> InputError:
        return InputError(
            f"the ONNX file is not a classifier that NeMo exported ({self.path}): {what}",
            "export MatchboxNet or MarbleNet with NeMo's model.export('m.onnx')",
        )

    def next(self, tensor: str, *kinds: str) -> Any:
        """Return the one node that reads a tensor, Identity passed over."""
        found = self.consumers.get(tensor, [])
        while len(found) == 1 and found[0].op_type == "Identity":
            found = self.consumers.get(found[0].output[0], [])
        if len(found) != 1 or found[0].op_type not in kinds:
            got = ", ".join(node.op_type for node in found[:4]) or "nothing"
            raise self.bad(f"behind {tensor!r:.60} got {got}, need {' or '.join(kinds)}")
        return found[0]

    def constant(self, name: str, node: Any) -> np.ndarray:
        value = self.constants.get(name)
        if value is None or not np.isfinite(value).all():
            raise self.bad(f"{node.op_type} {node.name!r:.60} has weights that are not constant and finite")
        return value.astype(np.float32)


def read_network(data: bytes, path: Path) -> OnnxNetwork:
    """Return the network that an ONNX file holds. Raises InputError, naming the file and the node."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise ToolMissing("importing an .onnx needs the package onnx", "pip install mbx-deploy[export]") from None
    try:
        graph = onnx.load_model_from_string(data).graph
        outside = [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        constants = {} if outside else {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and not outside:
                for attribute in (found for found in node.attribute if found.name == "value"):
                    constants[node.output[0]] = numpy_helper.to_array(attribute.t)
    except Exception as error:  # protobuf's and numpy's, without a common base
        raise InputError(f"can't read the ONNX file ({path}): it is damaged, {type(error).__name__}") from None
    reader = _Graph(path, constants)
    if outside:
        raise reader.bad(f"the weight {outside[0]!r:.60} is kept in another file")
    if len(graph.node) > MAX_NODES:
        raise reader.bad(f"it has {len(graph.node)} nodes, need at most {MAX_NODES}")
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            reader.consumers.setdefault(name, []).append(node)
    inputs = [given for given in graph.input if given.name not in constants]
    given = next((i for i in inputs if len(i.type.tensor_type.shape.dim) == 3), None)
    if given is None:
        raise reader.bad("it has no input of three axes (batch, coefficients, time)")
    coefficients, frames = (int(dim.dim_value) for dim in given.type.tensor_type.shape.dim[1:])
    return _walk(reader, given.name, coefficients, frames or None)


def _walk(graph: _Graph, name: str, coefficients: int, frames: int | None) -> OnnxNetwork:
    blocks: list[JasperBlockConfig] = []
    parts: list[tuple[SubBlock, ...]] = []
    tensor = name
    while True:
        # Shape nodes look at the tensor that is pooled, too.
        found = [node for node in graph.consumers.get(tensor, []) if node.op_type != "Shape"]
        if len(found) == 1 and found[0].op_type in _POOLINGS | _WINDOWED_POOLINGS:
            break
        config, own, tensor = _residual_block(graph, found) if len(found) == 2 else _plain_block(graph, found)
        blocks.append(config)
        parts.append(own)
        if len(blocks) > 64:
            raise graph.bad("it has more than 64 blocks")
    if not blocks:
        raise graph.bad("it has no convolutions")
    first = parts[0][0].weights[0]
    found_coefficients = first.shape[0] if blocks[0].separable else first.shape[1]
    if coefficients not in (0, found_coefficients):
        raise graph.bad(f"its input has {coefficients} coefficients, its first convolution {found_coefficients}")
    pooling = found[0]
    kind = _pooling(graph, pooling, frames)
    weight, bias, logits = _linear(graph, pooling)
    return OnnxNetwork(tuple(blocks), tuple(parts), weight, bias, kind, found_coefficients, frames, name, logits)


def _plain_block(graph: _Graph, found: list[Any]) -> tuple[JasperBlockConfig, tuple[SubBlock, ...], str]:
    if len(found) != 1 or found[0].op_type != "Conv":
        got = ", ".join(node.op_type for node in found[:4]) or "nothing"
        raise graph.bad(f"where a block begins got {got}, need one or two Conv")
    part, separable, tensor = _sub_block(graph, found[0])
    relu = graph.next(tensor, "Relu")
    return _config(graph, [part], separable, residual=False), (part,), relu.output[0]


def _residual_block(graph: _Graph, found: list[Any]) -> tuple[JasperBlockConfig, tuple[SubBlock, ...], str]:
    """Return a block of which two branches begin at its input and end in one Add."""
    branches = []
    for node in found:
        if node.op_type != "Conv":
            raise graph.bad(f"where a block begins got {node.op_type}, need Conv")
        own, kinds = [], set()
        while True:
            part, separable, tensor = _sub_block(graph, node)
            own.append(part)
            kinds.add(separable)
            after = graph.next(tensor, "Relu", "Add")
            if after.op_type == "Add":
                break
            node = graph.next(after.output[0], "Conv")
        if len(kinds) != 1:
            raise graph.bad("a block mixes separable and other convolutions")
        branches.append((own, kinds.pop(), after))
    branches.sort(key=lambda branch: len(branch[0]) == 1 and not branch[1] and branch[0][0].weights[0].shape[2] == 1)
    (main, separable, end), (side, side_separable, side_end) = branches
    if end is not side_end or len(side) != 1 or side_separable or side[0].weights[0].shape[2] != 1:
        raise graph.bad("a residual branch is not one convolution with a kernel of 1")
    relu = graph.next(end.output[0], "Relu")
    return _config(graph, main, separable, residual=True), (*main, side[0]), relu.output[0]


def _sub_block(graph: _Graph, node: Any) -> tuple[SubBlock, bool, str]:
    """Return (weights and bias, whether separable, the tensor behind) of one Conv, or of a depthwise one and the next.

    A batch norm that was left in the graph is folded.
    """
    weight, bias, dilation, groups = _conv(graph, node)
    weights = [weight]
    separable = groups > 1
    if separable:
        if groups != weight.shape[0] or weight.shape[1] != 1 or bias is not None:
            raise graph.bad(f"Conv {node.name!r:.60} has {groups} groups; need a depthwise one without a bias, or 1")
        node = graph.next(node.output[0], "Conv")
        weight, bias, pointwise_dilation, groups = _conv(graph, node)
        if groups != 1 or weight.shape[2] != 1 or pointwise_dilation != 1:
            raise graph.bad(f"Conv {node.name!r:.60} behind a depthwise one is not 1x1")
        weights.append(weight)
    tensor = node.output[0]
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    behind = graph.consumers.get(tensor, [])
    if len(behind) == 1 and behind[0].op_type == "BatchNormalization":
        norm = behind[0]
        scale, shift, mean, variance = (graph.constant(name, norm).astype(np.float64) for name in norm.input[1:5])
        factor = scale / np.sqrt(variance + _attributes(norm).get("epsilon", 1e-5))
        weights[-1] = (weights[-1] * factor[:, None, None]).astype(np.float32)
        bias = (shift + (bias - mean) * factor).astype(np.float32)
        tensor = norm.output[0]
    return SubBlock(weights, bias, dilation), separable, tensor


def _conv(graph: _Graph, node: Any) -> tuple[np.ndarray, np.ndarray | None, int, int]:
    """Return (weight, bias or None, dilation, groups). Raises InputError unless it keeps the number of frames."""
    attributes = _attributes(node)
    weight = graph.constant(node.input[1], node)
    if weight.ndim != 3:
        raise graph.bad(f"Conv {node.name!r:.60} has weights of {weight.ndim} axes, need 3")
    bias = graph.constant(node.input[2], node) if len(node.input) > 2 and node.input[2] else None
    dilation = int((attributes.get("dilations") or [1])[0])
    reach = dilation * (weight.shape[2] - 1) // 2
    if list(attributes.get("strides") or [1]) != [1]:
        raise graph.bad(f"Conv {node.name!r:.60} has the stride {attributes['strides']}, need 1")
    automatic = attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    if not automatic and list(attributes.get("pads") or [0, 0]) != [reach, reach]:
        raise graph.bad(f"Conv {node.name!r:.60} does not keep the number of frames")
    return weight, bias, dilation, int(attributes.get("group", 1))


def _config(graph: _Graph, parts: list[SubBlock], separable: bool, residual: bool) -> JasperBlockConfig:
    shapes = {(part.weights[0].shape[2], part.weights[-1].shape[0], part.dilation) for part in parts}
    if len(shapes) != 1:
        raise graph.bad("the repeats of a block differ in kernel, filters or dilation")
    kernel, filters, dilation = shapes.pop()
    return JasperBlockConfig(filters, len(parts), kernel, dilation, residual, separable)


def _pooling(graph: _Graph, pooling: Any, frames: int | None) -> str:
    """Return avg or max. Raises InputError unless the node pools over time alone, and over all of it."""
    if pooling.op_type in _WINDOWED_POOLINGS:
        attributes = _attributes(pooling)
        pads = attributes.get("pads") or [0]
        if list(attributes.get("kernel_shape") or []) != [frames] or any(pads) or attributes.get("auto_pad"):
            raise graph.bad(f"{pooling.op_type} is not over all frames")
        return _WINDOWED_POOLINGS[pooling.op_type]
    axes = _attributes(pooling).get("axes")
    if axes is None and len(pooling.input) > 1 and pooling.input[1] in graph.constants:
        axes = graph.constants[pooling.input[1]].tolist()
    if pooling.op_type.startswith("Reduce") and list(axes or []) not in ([2], [-1]):
        raise graph.bad(f"{pooling.op_type} is over the axes {axes}, need time alone")
    return _POOLINGS[pooling.op_type]


def _linear(graph: _Graph, pooling: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Return (weight, bias, the name of the logits), found behind the pooling over nodes that only shape."""
    tensor = pooling.output[0]
    for _ in range(16):
        # A shaping node takes the tensor as its first input; Shape, Gather and the like only compute a shape.
        found = [n for n in graph.consumers.get(tensor, []) if n.op_type not in ("Shape",) and n.input[0] == tensor]
        if len(found) == 1 and found[0].op_type in _SHAPING:
            tensor = found[0].output[0]
            continue
        if len(found) == 1 and found[0].op_type == "Gemm":
            return _gemm(graph, found[0])
        if len(found) == 1 and found[0].op_type == "MatMul":
            add = graph.next(found[0].output[0], "Add")
            bias = next(name for name in add.input if name != found[0].output[0])
            weight = graph.constant(found[0].input[1], found[0]).T
            return np.ascontiguousarray(weight), graph.constant(bias, add), add.output[0]
        break
    raise graph.bad("behind the pooling there is no linear layer")


def _gemm(graph: _Graph, node: Any) -> tuple[np.ndarray, np.ndarray, str]:
    attributes = _attributes(node)
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0 or attributes.get("transA", 0):
        raise graph.bad(f"Gemm {node.name!r:.60} is no plain linear layer")
    weight = graph.constant(node.input[1], node)
    weight = weight if attributes.get("transB", 0) else np.ascontiguousarray(weight.T)
    bias = graph.constant(node.input[2], node) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
    return weight, bias, node.output[0]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
