"""ONNX graphs that ended in a traceback, never, or in more memory than there is."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mbx_deploy.errors import InputError  # noqa: E402
from mbx_deploy.nemo.onnx_graph import read_network  # noqa: E402

PATH = Path("m.onnx")


def network() -> Any:
    """Return a classifier of 4 coefficients and 2 words: a depthwise and a pointwise convolution, pooling, Gemm."""
    rng = np.random.default_rng(0)
    shapes = {"dw": (4, 1, 3), "pw": (6, 4, 1), "pb": (6,), "gw": (2, 6), "gb": (2,)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "dw"], ["d"], "d", group=4, pads=[1, 1], dilations=[1], strides=[1]),
        helper.make_node("Conv", ["d", "pw", "pb"], ["p"], "p"),
        helper.make_node("Relu", ["p"], ["r"], "r"),
        helper.make_node("ReduceMean", ["r"], ["m"], "m", axes=[2], keepdims=0),
        helper.make_node("Gemm", ["m", "gw", "gb"], ["y"], "g", transB=1),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "t"])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "g", given, made, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_network_itself_is_read() -> None:
    found = read_network(network().SerializeToString(), PATH)
    assert found.blocks[0].kernel == 3 and found.weight.shape == (2, 6) and found.pooling == "avg"


def set_attribute(node: int, name: str, value: Any) -> Any:
    def change(model: Any) -> None:
        found = model.graph.node[node]
        kept = [a for a in found.attribute if a.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def set_weight(name: str, value: np.ndarray) -> Any:
    def change(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(value, name))

    return change


def set_dims(name: str, dims: list[int]) -> Any:
    def change(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.dims[:] = dims

    return change


def string_weights(model: Any) -> None:
    words: Any = [b"a", b"b"]
    model.graph.initializer[4].CopyFrom(helper.make_tensor("gb", TensorProto.STRING, [2], words))


def cut_ends(kind: str, node: int) -> Any:
    def change(model: Any) -> None:
        ends = getattr(model.graph.node[node], kind)
        del ends[0 if kind == "output" else 1 :]

    return change


def identity_cycle(model: Any) -> None:
    model.graph.node[2].input[0] = "i"
    model.graph.node.insert(2, helper.make_node("Identity", ["i"], ["i"]))


def residual_cycle(model: Any) -> None:
    model.graph.node[0].input[0] = "r"


def tied_linear_layer(model: Any) -> None:
    del model.graph.node[4:]
    model.graph.initializer.append(numpy_helper.from_array(np.ones((6, 2), np.float32), "mw"))
    model.graph.node.append(helper.make_node("MatMul", ["m", "mw"], ["mm"]))
    model.graph.node.append(helper.make_node("Add", ["mm", "mm"], ["y"]))


def add_nodes(*nodes: Any) -> Any:
    return lambda model: model.graph.node.extend(nodes)


def scalar_axes(model: Any) -> None:
    model.opset_import[0].version = 18
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "axes"))
    del model.graph.node[3].attribute[:]
    model.graph.node[3].input.append("axes")


FLOATS = np.ones((2, 6), np.float32)
LIES = {
    "a list for a number": set_attribute(0, "group", [4]),
    "a number for a list": set_attribute(0, "pads", 1),
    "a real stride": set_attribute(0, "strides", 1.5),
    "two dilations": set_attribute(0, "dilations", [1, 1]),
    "a huge dilation": set_attribute(1, "dilations", [1 << 60]),
    "axes of another kind": set_attribute(3, "axes", [1]),
    "a name that is no text": set_attribute(0, "auto_pad", 5),
    "no input": cut_ends("input", 1),
    "no output": cut_ends("output", 2),
    "no pooled tensor": cut_ends("output", 3),
    "strings for weights": string_weights,
    "whole numbers for weights": set_weight("pw", np.ones((6, 4, 1), np.int32)),
    "a scalar weight": set_weight("gw", np.array(1, np.float32)),
    "a weight of two axes": set_weight("pw", np.ones((6, 4), np.float32)),
    "no number": set_weight("gw", FLOATS * np.nan),
    "another number of channels": set_weight("pw", np.ones((6, 5, 1), np.float32)),
    "a bias of another length": set_weight("pb", np.ones(5, np.float32)),
    "another linear layer": set_weight("gw", np.ones((2, 7), np.float32)),
    "a shape that is longer": set_dims("gw", [2, 1 << 40]),
    "a negative shape": set_dims("gw", [-2, -6]),
    "an empty axis": set_dims("pw", [1 << 30, 0, 1]),
    "an identity cycle": identity_cycle,
    "a residual cycle": residual_cycle,
    "one tensor added to itself": tied_linear_layer,
    "scalar axes": scalar_axes,
    "a matrix that grows": add_nodes(helper.make_node("MatMul", ["x", "x"], ["q"])),
    "doubling": add_nodes(
        helper.make_node("Concat", ["x", "x"], ["c0"], axis=0),
        *(helper.make_node("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(40)),
    ),
    "a foreign node": add_nodes(helper.make_node("Tile", ["x", "x"], ["q"])),
    "a foreign domain": add_nodes(helper.make_node("Relu", ["x"], ["q"], domain="z")),
    "many nodes": add_nodes(*(helper.make_node("Relu", ["x"], [f"q{n}"]) for n in range(5001))),
    "many frames": lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 1 << 40),
}


@pytest.mark.parametrize("name", LIES)
def test_is_refused_at_once(name: str) -> None:
    model = network()
    LIES[name](model)
    begin = time.process_time()
    with pytest.raises(InputError, match=r"m\.onnx") as error:
        read_network(model.SerializeToString(), PATH)
    assert time.process_time() - begin < 5
    assert error.value.hint and "\n" not in error.value.what and len(error.value.what) < 320
