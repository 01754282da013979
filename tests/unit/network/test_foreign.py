"""What is no int8 network is refused by the cause, and with a hint that helps."""

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mbx_deploy.errors import InputError
from mbx_deploy.network.reader import parse_tflite
from tests.made.tflite import Network, pack


def refusal(data: bytes, name: str = "some.tflite") -> tuple[str, str]:
    """Return what is said of a file: one line, and its hint."""
    with pytest.raises(InputError) as caught:
        parse_tflite(data, name)
    assert "\n" not in caught.value.what and name in caught.value.what
    return caught.value.what, caught.value.hint or ""


FILES = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "m.tflite",
        "Git LFS",
        "git lfs pull",
    ),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x053.0", "m.bin", "ONNX", "mbx-deploy import --model"),
    "onnx by name": (b"\x08\x08", "m.onnx", "ONNX", "mbx-deploy import --model"),
    "array": (b"alignas(8) const unsigned char g_model[] = {0x1c, 0x00,", "m.cc", "C array", "python3 -c"),
    "keras": (b"\x89HDF\r\n\x1a\n", "m.h5", "Keras", "TFLiteConverter"),
    "zip": (b"PK\x03\x04", "m.zip", "zip archive", "unpack"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "m.gz", "gzip", "unpack"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_a_file_is(case: str) -> None:
    data, name, words, hint = FILES[case]
    what, said = refusal(data, name)
    assert words in what and hint in said


def dense(kind: str, weights: np.ndarray) -> bytes:
    """Return a network of one layer whose activations are of a type."""
    network = Network()
    network.tensor((1, 4), kind, *(() if kind == "FLOAT32" else ([0.1], [0])))
    constant = network.constant(weights, [0.1] if weights.dtype == np.int8 else ())
    output = network.tensor((1, 2), kind, *(() if kind == "FLOAT32" else ([0.1], [0])))
    return network.build(network.op("FULLY_CONNECTED", [0, constant], output, "FullyConnectedOptions"))


def custom(name: str) -> bytes:
    """Return a network of a custom op."""
    network = Network()
    network.activation((1, 4), 0.1, 0)
    model = network.model(network.op("CUSTOM", [0], network.activation((1, 4), 0.1, 0)))
    model.operatorCodes[0].customCode = name
    return pack(model)


def stateful() -> bytes:
    """Return a network that reads a variable, with the graph that sets it up."""
    network = Network()
    network.activation((1, 4), 0.1, 0)
    handle = network.op("VAR_HANDLE", [], network.tensor((), "RESOURCE"), "VarHandleOptions", sharedName="x")
    model = network.model(network.op("READ_VARIABLE", [handle], network.activation((1, 4), 0.1, 0)))
    model.subgraphs.append(schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[], name="once"))
    return pack(model)


def float_in_part() -> bytes:
    """Return an int8 network with a float softmax behind it."""
    network = Network()
    network.activation((1, 4), 0.1, 0)
    real = network.brought(network.clamp(0, "RELU"), "FLOAT32", 0, 0)
    return network.build(network.op("LOG_SOFTMAX", [real], network.tensor((1, 4), "FLOAT32")))


GRAPHS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "float": (lambda: dense("FLOAT32", np.ones((2, 4), np.float32)), "not quantized: got float32", "--data"),
    "dynamic range": (lambda: dense("FLOAT32", np.ones((2, 4), np.int8)), "in its weights only", "representative"),
    "uint8": (lambda: dense("UINT8", np.ones((2, 4), np.int8)), "uint8 (op 0, FULLY_CONNECTED)", "again"),
    "int16": (lambda: dense("INT16", np.ones((2, 4), np.int8)), "int16 (op 0, FULLY_CONNECTED)", "INT16"),
    "in part": (float_in_part, "op 1, DEQUANTIZE", "TFLITE_BUILTINS_INT8"),
    "vela": (lambda: custom("ethos-u"), "compiled by Vela for an Ethos-U", "made from"),
    "edge tpu": (lambda: custom("edgetpu-custom-op"), "Coral Edge TPU", "made from"),
    "signal": (lambda: custom("SignalWindow"), "front end", "behind it"),
    "custom": (lambda: custom("Mine"), "custom one (op 0): got Mine", ""),
    "state": (stateful, "a READ_VARIABLE without an ASSIGN_VARIABLE", "whole window"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_what_a_graph_is(case: str) -> None:
    make, words, hint = GRAPHS[case]
    what, said = refusal(make())
    assert words in what and hint in said


def test_a_float_input_of_several_ops() -> None:
    network = Network()
    source = network.tensor((1, 4), "FLOAT32")
    total = network.add(network.brought(source, "INT8", 0.1, 0), network.brought(source, "INT8", 0.2, 0), 0.2, 0)
    what, _ = refusal(network.build(total, source=source))
    assert "feeds several ops" in what
