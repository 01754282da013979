"""The graph of a classifier that NeMo exported, read as Jasper blocks. What does not fit is refused by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.onnx_checks import MAX_AXIS, attribute, read_checked, refuse
from mbx_deploy.train.jasper import JasperBlockConfig

MAX_FRAMES = 1 << 14
MAX_WEIGHTS = 1 << 24
MAX_KERNEL = 1023
MAX_DILATION = 255
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
        return refuse(self.path, what)

    def next(self, tensor: str, *kinds: str) -> Any:
        """Return the one node that reads a tensor, Identity passed over."""
        found = self.consumers.get(tensor, [])
        while len(found) == 1 and found[0].op_type == "Identity":  # ends: nodes stand in order
            found = self.consumers.get(found[0].output[0], [])
        if len(found) != 1 or found[0].op_type not in kinds:
            got = ", ".join(node.op_type for node in found[:4]) or "nothing"
            raise self.bad(f"behind {tensor!r:.60} got {got}, need {' or '.join(kinds)}")
        return found[0]

    def constant(self, node: Any, place: int, axes: int) -> np.ndarray:
        """Return the constant float32 of so many axes that a node has as an input."""
        value = self.constants.get(node.input[place]) if place < len(node.input) else None
        if value is None or value.dtype != np.float32 or value.ndim != axes:
            raise self.bad(f"{node.op_type} {node.name!r:.60} has weights that are not constant floats of {axes} axes")
        return value


def read_network(data: bytes, path: Path) -> OnnxNetwork:
    """Return the network that an ONNX file holds. Raises InputError, naming the file and the node."""
    nodes, constants, inputs = read_checked(data, path)
    reader = _Graph(path, constants)
    for node in nodes:
        for name in dict.fromkeys(node.input):
            reader.consumers.setdefault(name, []).append(node)
    given = next((i for i in inputs if len(i.type.tensor_type.shape.dim) == 3), None)
    if given is None:
        raise reader.bad("it has no input of three axes (batch, coefficients, time)")
    coefficients, frames = (int(dim.dim_value) for dim in given.type.tensor_type.shape.dim[1:])
    if not 0 <= coefficients <= MAX_AXIS or not 0 <= frames <= MAX_FRAMES:
        raise reader.bad(f"its input has {coefficients} coefficients and {frames} frames")
    network = _walk(reader, given.name, coefficients, frames or None)
    _check_shapes(reader, network)
    _check_rest(reader, network, nodes)
    return network


def _check_shapes(graph: _Graph, network: OnnxNetwork) -> None:
    """Refuse layers that do not fit one another, and more weights than such a network has."""
    total, channels = 0, network.coefficients
    for block, parts in zip(network.blocks, network.sub_blocks, strict=True):
        begin, filters = channels, block.filters
        for number, part in enumerate(parts):
            is_side = block.residual and number == len(parts) - 1
            channels = begin if is_side else channels
            kernel = 1 if is_side or block.separable else block.kernel
            shapes = [(filters, channels, kernel)]
            if block.separable and not is_side:
                shapes.insert(0, (channels, 1, block.kernel))
            if [weight.shape for weight in part.weights] != shapes or part.bias.shape != (filters,):
                raise graph.bad("its convolutions do not fit one another")
            total += sum(weight.size for weight in part.weights)
            channels = filters
        if total > MAX_WEIGHTS or block.kernel > MAX_KERNEL:
            raise graph.bad(f"it has more than {MAX_WEIGHTS} weights, or a kernel of more than {MAX_KERNEL}")
    if network.weight.shape[1] != channels or network.bias.shape != network.weight.shape[:1]:
        raise graph.bad("its linear layer does not fit its last convolution")


def _check_rest(graph: _Graph, network: OnnxNetwork, nodes: list[Any]) -> None:
    """Refuse layers beside those that were read: onnxruntime would compute them, too."""
    pooled = (*_POOLINGS, *_WINDOWED_POOLINGS)
    convolutions = sum(len(part.weights) for parts in network.sub_blocks for part in parts)
    additions = sum(block.residual for block in network.blocks) + sum(node.op_type == "MatMul" for node in nodes)
    for kinds, need in ((("Conv",), convolutions), (("Add",), additions), (pooled, 1), (("Gemm", "MatMul"), 1)):
        found = sum(node.op_type in kinds for node in nodes)
        if found != need:
            raise graph.bad(f"it has {found} {kinds[0]} or the like, need {need}")


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
        scale, shift, mean, variance = (graph.constant(norm, i, 1).astype(np.float64) for i in range(1, 5))
        if len({len(weight), len(scale), len(shift), len(mean), len(variance), len(bias)}) != 1:
            raise graph.bad(f"BatchNormalization {norm.name!r:.60} does not fit its convolution")
        epsilon = attribute(graph.path, norm, "epsilon", 1e-5)
        if not (variance + epsilon > 0).all():
            raise graph.bad(f"BatchNormalization {norm.name!r:.60} has a variance below 0")
        factor = scale / np.sqrt(variance + epsilon)
        weights[-1] = (weights[-1] * factor[:, None, None]).astype(np.float32)
        bias = (shift + (bias - mean) * factor).astype(np.float32)
        tensor = norm.output[0]
    return SubBlock(weights, bias, dilation), separable, tensor


def _conv(graph: _Graph, node: Any) -> tuple[np.ndarray, np.ndarray | None, int, int]:
    """Return (weight, bias or None, dilation, groups). Raises InputError unless it keeps the number of frames."""
    weight = graph.constant(node, 1, 3)
    bias = graph.constant(node, 2, 1) if len(node.input) > 2 and node.input[2] else None
    dilations, strides, pads = (attribute(graph.path, node, name, []) for name in ("dilations", "strides", "pads"))
    dilation = (dilations or [1])[0]
    if not 1 <= dilation <= MAX_DILATION or len(dilations) > 1:
        raise graph.bad(f"Conv {node.name!r:.60} has the dilation {dilations!r:.60}, need 1 to {MAX_DILATION}")
    reach = dilation * (weight.shape[2] - 1) // 2
    if (strides or [1]) != [1]:
        raise graph.bad(f"Conv {node.name!r:.60} has the stride {strides!r:.60}, need 1")
    automatic = attribute(graph.path, node, "auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    if not automatic and (pads or [0, 0]) != [reach, reach]:
        raise graph.bad(f"Conv {node.name!r:.60} does not keep the number of frames")
    return weight, bias, dilation, attribute(graph.path, node, "group", 1)


def _config(graph: _Graph, parts: list[SubBlock], separable: bool, residual: bool) -> JasperBlockConfig:
    shapes = {(part.weights[0].shape[2], part.weights[-1].shape[0], part.dilation) for part in parts}
    if len(shapes) != 1:
        raise graph.bad("the repeats of a block differ in kernel, filters or dilation")
    kernel, filters, dilation = shapes.pop()
    return JasperBlockConfig(filters, len(parts), kernel, dilation, residual, separable)


def _pooling(graph: _Graph, pooling: Any, frames: int | None) -> str:
    """Return avg or max. Raises InputError unless the node pools over time alone, and over all of it."""
    if pooling.op_type in _WINDOWED_POOLINGS:
        pads = attribute(graph.path, pooling, "pads", [])
        sizes = attribute(graph.path, pooling, "kernel_shape", [])
        if sizes != [frames] or any(pads) or attribute(graph.path, pooling, "auto_pad", b"") not in (b"", b"NOTSET"):
            raise graph.bad(f"{pooling.op_type} is not over all frames")
        return _WINDOWED_POOLINGS[pooling.op_type]
    axes = attribute(graph.path, pooling, "axes", [])
    if not axes and len(pooling.input) > 1 and pooling.input[1] in graph.constants:
        axes = graph.constants[pooling.input[1]].reshape(-1).tolist()
    if pooling.op_type.startswith("Reduce") and axes not in ([2], [-1]):
        raise graph.bad(f"{pooling.op_type} is over the axes {axes!r:.60}, need time alone")
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
            if add.input[0] == add.input[1]:
                raise graph.bad(f"Add {add.name!r:.60} adds what it reads to itself, need a bias")
            place = 1 if add.input[0] == found[0].output[0] else 0
            weight = graph.constant(found[0], 1, 2).T
            return np.ascontiguousarray(weight), graph.constant(add, place, 1), add.output[0]
        break
    raise graph.bad("behind the pooling there is no linear layer")


def _gemm(graph: _Graph, node: Any) -> tuple[np.ndarray, np.ndarray, str]:
    plain = attribute(graph.path, node, "alpha", 1.0) == attribute(graph.path, node, "beta", 1.0) == 1.0
    if not plain or attribute(graph.path, node, "transA", 0):
        raise graph.bad(f"Gemm {node.name!r:.60} is no plain linear layer")
    weight = graph.constant(node, 1, 2)
    weight = weight if attribute(graph.path, node, "transB", 0) else np.ascontiguousarray(weight.T)
    bias = graph.constant(node, 2, 1) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
    return weight, bias, node.output[0]
