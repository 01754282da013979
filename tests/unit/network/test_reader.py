"""Reading .tflite files: what is in them arrives, what is foreign or damaged is refused in one line."""

import dataclasses
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mbx_deploy.compiler.model import load_model, parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network import ir
from mbx_deploy.network.reader import MAX_FILE_BYTES, parse_tflite, read_tflite
from tests.made.tflite import Network, metadata_for, pack, small_artifact

CONFIG = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
ARTIFACT = small_artifact(CONFIG)


def test_what_is_in_the_file_arrives() -> None:
    rng = np.random.default_rng(0)
    network = Network()
    x = network.activation((1, 2, 9, 3), 0.25, -3)
    depthwise = rng.integers(-127, 128, (1, 2, 3, 6), dtype=np.int8)
    scales = [0.5, 0.25, 0.125, 1.0, 2.0, 4.0]
    bias = rng.integers(-(2**31), 2**31, 6)
    x = network.conv_2d(
        x, depthwise, scales, bias, 0.5, 7, stride=(1, 2), padding="VALID", activation="RELU", depthwise=True
    )
    convolution = rng.integers(-127, 128, (4, 1, 2, 6), dtype=np.int8)
    x = network.conv_2d(x, convolution, [0.5], None, 0.75, 8, dilation=(3, 2), activation="RELU6")
    x = network.add(x, x, 1.5, 9, "RELU")
    x = network.mean(x, 2.0, 10, axes=(-2, -3))
    dense = rng.integers(-127, 128, (2, 4), dtype=np.int8)
    x = network.fully_connected(x, dense, [0.5], np.array([1, -2]), 3.0, 11)
    model = parse_tflite(network.build(x), "test")

    a, b, c, d, e = model.ops
    assert isinstance(a, ir.DepthwiseConv2D) and isinstance(b, ir.Conv2D) and isinstance(c, ir.Add)
    assert isinstance(d, ir.Mean) and isinstance(e, ir.FullyConnected)
    assert (a.stride, a.dilation, a.padding, a.activation, a.depth_multiplier) == ((1, 2), (1, 1), "VALID", "RELU", 2)
    assert (b.stride, b.dilation, b.padding, b.activation, b.bias) == ((1, 1), (3, 2), "SAME", "RELU6", None)
    assert (c.input, c.other, c.activation, e.activation) == (b.output, b.output, "RELU", "NONE")
    weights = model.tensors[a.weights]
    np.testing.assert_array_equal(weights.data, depthwise)
    assert list(weights.scales) == scales and weights.dtype == "int8" and weights.zero_point == 0
    assert a.bias is not None
    np.testing.assert_array_equal(model.tensors[a.bias].data, bias)
    source, target = model.tensors[model.input], model.tensors[model.output]
    assert (source.shape, float(source.scale), source.zero_point) == ((1, 2, 9, 3), 0.25, -3)
    assert (target.shape, float(target.scale), target.zero_point) == ((1, 2), 3.0, 11)
    assert model.metadata is None


def test_the_artifact_of_the_builder_loads() -> None:
    recognizer = parse_model(ARTIFACT, "x")
    assert recognizer.labels == ("no", "yes", "silence") and recognizer.config == CONFIG


# --- what must be refused, with the words that the message must have ---


def plain(activation: str = "NONE") -> tuple[Network, int]:
    """Return a network of one 1x1 convolution."""
    network = Network()
    network.activation((1, 1, 5, 2), 0.5, 1)
    weights = np.ones((3, 1, 1, 2), np.int8)
    return network, network.conv_2d(0, weights, [0.5], np.zeros(3), 0.5, 1, activation=activation)


def broken(breaking: Callable[[schema.ModelT], Any]) -> bytes:
    """Return plain() after something was done to its objects. Tensors: input, weights, bias, output."""
    network, output = plain()
    model = network.model(output)
    breaking(model)
    return pack(model)


def graph(model: schema.ModelT) -> schema.SubGraphT:
    return model.subgraphs[0]


def set_tensor(number: int, **values: Any) -> Callable[[schema.ModelT], None]:
    def breaking(model: schema.ModelT) -> None:
        for key, value in values.items():
            setattr(graph(model).tensors[number], key, value)

    return breaking


def set_quantization(number: int, **values: Any) -> Callable[[schema.ModelT], None]:
    def breaking(model: schema.ModelT) -> None:
        for key, value in values.items():
            setattr(graph(model).tensors[number].quantization, key, value)

    return breaking


def set_operator(**values: Any) -> Callable[[schema.ModelT], None]:
    def breaking(model: schema.ModelT) -> None:
        for key, value in values.items():
            setattr(graph(model).operators[0], key, value)

    return breaking


def set_options(**values: Any) -> Callable[[schema.ModelT], None]:
    def breaking(model: schema.ModelT) -> None:
        for key, value in values.items():
            setattr(graph(model).operators[0].builtinOptions, key, value)

    return breaking


def set_code(name: str) -> Callable[[schema.ModelT], None]:
    def breaking(model: schema.ModelT) -> None:
        number = getattr(schema.BuiltinOperator, name)
        model.operatorCodes[0].builtinCode = number
        model.operatorCodes[0].deprecatedBuiltinCode = min(number, 127)

    return breaking


def float_weights(model: schema.ModelT) -> None:
    model.buffers[1].data = np.ones(6, "<f4").view(np.uint8)
    graph(model).tensors[1].type = schema.TensorType.FLOAT32


def no_ops(model: schema.ModelT) -> None:
    graph(model).operators, graph(model).outputs = [], [0]


def one_more(what: str) -> Callable[[schema.ModelT], None]:
    def breaking(model: schema.ModelT) -> None:
        if what == "subgraph":
            model.subgraphs.append(graph(model))
        elif what == "op":
            graph(model).operators.append(graph(model).operators[0])
        else:
            getattr(graph(model), what).append(0)

    return breaking


FLOAT32, INT8, INT16, INT4, UINT8 = (
    getattr(schema.TensorType, name) for name in ("FLOAT32", "INT8", "INT16", "INT4", "UINT8")
)
BREAKINGS: list[tuple[str, Callable[[schema.ModelT], Any], str]] = [
    ("foreign op", set_code("SOFTMAX"), "SOFTMAX"),
    ("reshape", set_code("RESHAPE"), "RESHAPE"),
    ("an op of a high number", set_code("STABLEHLO_TANH"), "STABLEHLO_TANH"),
    ("float weights", float_weights, "float32"),
    ("float input", set_tensor(0, type=FLOAT32), "float32"),
    ("uint8 input", set_tensor(0, type=UINT8), "uint8"),
    ("int16 output", set_tensor(3, type=INT16), "int16"),
    ("int4 weights", set_tensor(1, type=INT4), "int4"),
    ("int8 bias", set_tensor(2, type=INT8, shape=[12]), "bias"),
    ("bias of another length", set_tensor(2, shape=[3, 1, 1, 2]), "damaged"),
    ("no quantization of the input", set_tensor(0, quantization=None), "0 scales"),
    ("no quantization of the weights", set_tensor(1, quantization=None), "0 scales"),
    ("a scale of 0", set_quantization(0, scale=[0.0]), "scale"),
    ("a negative scale", set_quantization(3, scale=[-1.0]), "scale"),
    ("a scale that is no number", set_quantization(3, scale=[float("nan")]), "scale"),
    ("an infinite scale", set_quantization(1, scale=[float("inf")]), "scale"),
    ("two scales of an activation", set_quantization(0, scale=[1.0, 1.0]), "2 scales"),
    ("two scales of three channels", set_quantization(1, scale=[1.0, 1.0], zeroPoint=[0, 0]), "2 scales"),
    ("a zero point of the weights", set_quantization(1, zeroPoint=[3]), "zero point 3"),
    ("zero points that differ", set_quantization(1, scale=[1.0] * 3, zeroPoint=[0, 1, 0]), "zero points differ"),
    ("a zero point outside int8", set_quantization(0, zeroPoint=[128]), "zero point 128"),
    ("scales along the inputs", set_quantization(1, scale=[1.0] * 3, zeroPoint=[0] * 3, quantizedDimension=3), "axis"),
    ("a batch of 2", set_tensor(0, shape=[2, 1, 5, 2]), "batch"),
    ("an axis of length 0", set_tensor(0, shape=[1, 1, 0, 2]), "shape"),
    ("a negative length", set_tensor(0, shape=[1, 1, -5, 2]), "shape"),
    ("three axes", set_tensor(0, shape=[1, 5, 2]), "axes"),
    ("an output of another length", set_tensor(3, shape=[1, 1, 4, 3]), "shape"),
    ("an output of other channels", set_tensor(3, shape=[1, 1, 5, 4]), "outputs"),
    ("weights in groups", set_tensor(0, shape=[1, 1, 5, 4]), "grouped"),
    ("weights with a length that is left open", set_tensor(1, shape=[3, 1, -1, 2]), "damaged|shape|weights"),
    ("weights that are not constant", set_tensor(1, buffer=0), "constant"),
    ("a bias that is not constant", set_tensor(2, buffer=0), "bias"),
    ("an input that is constant", lambda m: setattr(graph(m).tensors[0], "buffer", 1), "damaged|constant"),
    ("weights of another size", set_tensor(1, shape=[3, 1, 1, 4]), "damaged"),
    ("a buffer that does not exist", set_tensor(1, buffer=99), "damaged|constant"),
    ("a tensor that does not exist", set_operator(inputs=[0, 99, 2]), "damaged"),
    ("a negative tensor", set_operator(inputs=[-1, 1, 2]), "damaged"),
    ("one operand", set_operator(inputs=[0]), "inputs"),
    ("four operands", set_operator(inputs=[0, 1, 2, 2]), "inputs"),
    ("no output", set_operator(outputs=[]), "outputs"),
    ("an op code that does not exist", set_operator(opcodeIndex=7), "damaged"),
    ("no options", set_operator(builtinOptions=None, builtinOptionsType=0), "damaged"),
    ("an op that reads what comes later", set_operator(inputs=[3, 1, 2]), "nothing wrote|shape|channels"),
    ("an output that is written twice", one_more("op"), "written twice"),
    ("two subgraphs", one_more("subgraph"), "2 subgraphs"),
    ("one input twice", one_more("inputs"), "one tensor twice"),
    ("an input that is an output", one_more("outputs"), "nothing wrote"),
    ("no ops", no_ops, "op"),
    ("a stride of 0", set_options(strideW=0), "stride"),
    ("a negative stride", set_options(strideH=-1), "stride"),
    ("a stride of 256", set_options(strideW=256), "stride"),
    ("a dilation of 0", set_options(dilationHFactor=0), "dilation"),
    ("an unknown padding", set_options(padding=9), "padding"),
    ("a foreign activation", set_options(fusedActivationFunction=4), "TANH"),
    ("an unknown activation", set_options(fusedActivationFunction=99), "99"),
]


@pytest.mark.parametrize(("breaking", "words"), [b[1:] for b in BREAKINGS], ids=[b[0] for b in BREAKINGS])
def test_what_is_foreign_is_refused(breaking: Callable[[schema.ModelT], Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_tflite(broken(breaking), "some.tflite")
    assert "some.tflite" in caught.value.what and "\n" not in caught.value.what


def test_the_breakings_break_something() -> None:
    """Without a breaking the same file loads."""
    assert len(parse_tflite(broken(lambda model: None), "x").ops) == 1


def test_fused_tanh_is_foreign() -> None:
    network, output = plain("TANH")
    with pytest.raises(InputError, match="TANH"):
        parse_tflite(network.build(output), "x")


@pytest.mark.parametrize("axes", [(1, 3), (0, 1), (7,), ()])
def test_a_mean_over_other_axes(axes: tuple[int, ...]) -> None:
    network = Network()
    network.activation((1, 2, 3, 4), 0.5, 1)
    with pytest.raises(InputError, match="axes"):
        parse_tflite(network.build(network.mean(0, 0.5, 1, axes)), "x")


def test_a_damaged_op_beside_the_convolutions() -> None:
    """Each refusal names the op and what is wrong with it."""

    def refusal(make: Callable[[Network], int]) -> str:
        network = Network()
        network.activation((1, 4, 5, 3), 0.5, 1)
        with pytest.raises(InputError) as caught:
            parse_tflite(network.build(make(network)), "x")
        return caught.value.what

    def change(network: Network, output: int, **fields: Any) -> int:
        for name, value in fields.items():
            setattr(network.operators[-1].builtinOptions, name, value)
        return output

    def shaped(network: Network, output: int, shape: list[int]) -> int:
        network.tensors[output].shape = shape
        return output

    def other_scale(network: Network, output: int) -> int:
        network.tensors[output].quantization.scale = [0.25]
        return output

    assert "AVERAGE_POOL_2D): got a window" in refusal(lambda n: change(n, n.pool(0, (2, 2)), filterHeight=0))
    assert "the stride 0" in refusal(lambda n: change(n, n.pool(0, (2, 2)), strideW=0))
    assert "the stride -1" in refusal(lambda n: change(n, n.pool(0, (2, 2)), strideH=-1))
    assert "length 3" in refusal(lambda n: shaped(n, n.pool(0, (2, 2), average=False), [1, 4, 4, 3]))
    assert "another scale" in refusal(lambda n: other_scale(n, n.pool(0, (2, 2))))
    assert "1/256 and -128" in refusal(lambda n: other_scale(n, n.softmax(0)))
    assert "beta 0" in refusal(lambda n: n.softmax(0, 0.0))
    assert "beta nan" in refusal(lambda n: n.softmax(0, float("nan")))
    assert "1/256 and -128" in refusal(lambda n: other_scale(n, n.curve(0, "LOGISTIC")))
    assert "1/128 and 0" in refusal(lambda n: other_scale(n, n.curve(0, "TANH")))
    assert "one shape" in refusal(lambda n: shaped(n, n.curve(0, "TANH"), [1, 60]))
    assert "200 times finer" in refusal(lambda n: n.curve(0, "HARD_SWISH", 0.0025))
    assert "alpha -1" in refusal(lambda n: n.curve(0, "LEAKY_RELU", alpha=-1.0))
    assert "times finer" in refusal(lambda n: n.curve(0, "LEAKY_RELU", 1e-4, alpha=1e6))
    assert "as many elements" in refusal(lambda n: n.reshape(0, (1, 61)))
    assert "paddings" in refusal(lambda n: n.pad(0, ((0, 0), (1, 1), (-1, 0), (0, 0))))
    assert "a batch of 1" in refusal(lambda n: n.pad(0, ((1, 0),) * 4))
    assert "one shape" in refusal(lambda n: shaped(n, n.clamp(0, "RELU"), [1, 60]))
    assert "broadcast to the output" in refusal(lambda n: n.add(n.pool(0, (4, 5)), 0, 1.0, 0))


def test_too_many_classes() -> None:
    network = Network()
    network.activation((1, 4096), 0.5, 1)
    with pytest.raises(InputError, match="4096 classes"):
        parse_tflite(network.build(network.softmax(0)), "x")


def test_a_mean_of_a_scalar() -> None:
    network = Network()
    network.activation((), 0.5, 1)
    output = network.activation((1, 1), 0.5, 1)
    network.op("MEAN", [0, network.constant(np.array([1, 2], np.int32))], output, "ReducerOptions")
    with pytest.raises(InputError):
        parse_tflite(network.build(output), "x")


def test_ops_out_of_order() -> None:
    network = Network()
    x = network.activation((1, 1, 5, 2), 0.5, 1)
    x = network.mean(network.add(x, x, 0.5, 1), 0.5, 1)
    network.operators.reverse()
    with pytest.raises(InputError, match="order"):
        parse_tflite(network.build(x), "x")


def test_an_addition_of_two_shapes() -> None:
    network = Network()
    x, y = network.activation((1, 1, 5, 2), 0.5, 1), network.activation((1, 1, 1, 2), 0.5, 1)
    with pytest.raises(InputError):
        parse_tflite(network.build(network.add(x, y, 0.5, 1)), "x")


def test_shuffled_weights() -> None:
    network = Network()
    x = network.activation((1, 4), 0.5, 1)
    x = network.fully_connected(x, np.ones((2, 4), np.int8), [0.5], None, 0.5, 1)
    network.operators[0].builtinOptions.weightsFormat = 1
    with pytest.raises(InputError, match="shuffled"):
        parse_tflite(network.build(x), "x")


# --- files ---


@pytest.mark.parametrize("data", [b"", b"TFL3", b"RIFF\x00\x00\x00\x00WAVE", b"\x00" * 7, b"a text that is none"])
def test_what_is_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.tflite"
    path.write_bytes(data)
    for read in (read_tflite, load_model):
        with pytest.raises(InputError, match=r"not a TFLite model.*some\.tflite"):
            read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for read in (read_tflite, load_model):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "none.tflite")
        with pytest.raises(InputError, match="directory"):
            read(tmp_path)
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match="too large"):
        read_tflite(large)


@pytest.mark.parametrize("cut", range(0, len(ARTIFACT), 64))
def test_a_file_that_was_cut(cut: int) -> None:
    with pytest.raises(InputError):
        parse_model(ARTIFACT[:cut], "x")


def parse_within_bounds(data: bytes) -> None:
    """Load the bytes, or refuse them; in moderate time and memory."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        parse_model(data, "x")
    except InputError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - begun < 10
    assert peak < 256 << 20


def mutations(count: int, seed: int) -> list[bytes]:
    """Return damaged files: single bytes, words of extreme values, or a piece that was moved."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        data = np.frombuffer(ARTIFACT, np.uint8).copy()
        if number % 3 == 0:
            places = rng.integers(0, len(data), rng.integers(1, 5))
            data[places] = rng.integers(0, 256, len(places))
        elif number % 3 == 1:
            place = int(rng.integers(0, len(data) // 4 - 1)) * 4
            value = int(rng.choice(np.array([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0xFFFF, 1 << 20, 4])))
            data[place : place + 4] = np.frombuffer(np.uint32(value).tobytes(), np.uint8)
        else:
            length = int(rng.integers(1, 64))
            source, target = rng.integers(0, len(data) - length, 2)
            data[target : target + length] = data[source : source + length].copy()
        made.append(data.tobytes())
    return made


@pytest.mark.parametrize("part", range(6))
def test_damaged_files(part: int) -> None:
    for data in mutations(50, part):
        parse_within_bounds(data)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(100, 108))
def test_many_damaged_files(part: int) -> None:
    for data in mutations(250, part):
        parse_within_bounds(data)


@pytest.mark.slow
def test_words_all_over_the_structure_damaged() -> None:
    for place in range(0, len(ARTIFACT) - 4, 20):
        for value in (0, 0xFFFFFFFF, 0x7FFFFFFF, 8):
            parse_within_bounds(ARTIFACT[:place] + value.to_bytes(4, "little") + ARTIFACT[place + 4 :])


# --- metadata against the network ---


def with_metadata(**changes: Any) -> bytes:
    """Return the artifact with other metadata; a change to None takes the key away."""
    from mbx_deploy.network.metadata import write_metadata

    metadata = metadata_for(CONFIG, ("no", "yes", "silence")) | changes
    return write_metadata(ARTIFACT, {key: value for key, value in metadata.items() if value is not None})


def test_no_metadata() -> None:
    network, output = plain()
    with pytest.raises(InputError, match="no metadata of mbx-deploy"):
        parse_model(network.build(output), "x")


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"],
        ["a", "b", "c", "d"],
        ["a", "a", "b"],
        ["a", "b", "c\n"],
        ["a", "b", "x" * 65],
        ["a", "b", "\x7f"],
    ],
)
def test_labels_that_do_not_fit(labels: list[str]) -> None:
    with pytest.raises(InputError, match="labels"):
        parse_model(with_metadata(labels=labels), "x")


@pytest.mark.parametrize(
    "change",
    [{"n_mfcc": 3}, {"n_mfcc": 0}, {"clip_samples": 2000}, {"hop_length": 1}, {"pad_frames_after": 1}, {"n_fft": 63},
     {"unknown": 1}, {"low_hz": "0"}, {"window_length": True}, {"n_mels": None}, {"log_offset": 0.0}],
)  # fmt: skip
def test_a_front_end_that_does_not_fit(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        parse_model(with_metadata(frontend=CONFIG.to_dict() | change), "x")


def test_a_front_end_of_another_digest() -> None:
    """The digest is there to be compared."""
    other = dataclasses.replace(CONFIG, log_offset=1e-5)
    with pytest.raises(InputError, match="digest"):
        parse_model(with_metadata(frontend_digest=other.digest()), "x")


@pytest.mark.parametrize(
    "fault, words",
    [
        ({"shrinkAxisMask": 2}, r"another .*got \(1, 1, 7, 4\), need \(1, 7, 4\)"),
        ({"newAxisMask": 1}, "adds axes .*new axis 1"),
        ({"ellipsisMask": 4}, "adds axes .*ellipsis 4"),
        ({"offset": True}, "adds axes .*offset True"),
        ({"strides": [1, 1, -1, 1]}, r"backwards .*\[1, 1, -1, 1\]"),
        ({"strides": [1, 1, 3, 1]}, r"another .*got \(1, 1, 7, 4\), need \(1, 1, 3, 4\)"),
        ({"strides": [1, 1, 1]}, r"limits are none .*int32 \(4,\)"),
    ],
)
def test_slices_that_are_refused(fault: dict[str, Any], words: str) -> None:
    network = Network()
    network.activation((1, 1, 9, 4), 0.1, 0)
    output = network.strided_slice(0, (slice(None), slice(None), slice(2, None), slice(None)))
    parse_tflite(network.build(output), "test")
    for key, value in fault.items():
        if key == "strides":
            network.operators[0].inputs[3] = network.constant(np.array(value, np.int32))
        else:
            setattr(network.operators[0].builtinOptions, key, value)
    with pytest.raises(InputError, match=words):
        parse_tflite(network.build(output), "test")
