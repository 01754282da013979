"""Ops that move values or combine arrays, and networks of other ends, against TFLite Micro: byte for byte."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.engines.tflm import import_tflm
from mbx_deploy.network.reader import parse_tflite
from tests.made.tflite import Network
from tests.made.tflm_oracle import compare_with_tflm

zero_points = st.sampled_from((-128, 127, 0)) | st.integers(-128, 127)
scales = st.sampled_from((0.004, 0.02, 0.1, 0.5, 1.7)) | st.floats(0.002, 2.0)
lengths = st.sampled_from((1, 1, 2, 3, 5, 8))
seeds = st.integers(0, 2**32 - 1)
activations = st.sampled_from(("NONE", "RELU", "RELU6", "RELU_N1_TO_1"))


@pytest.fixture(scope="module")
def tflm() -> Any:
    """TFLite Micro's runtime; its absence is a reason to skip, said aloud."""
    return pytest.importorskip("tflite_micro", reason="the oracle tflite-micro is not installed") and import_tflm()


@st.composite
def shapes(draw: st.DrawFn, axes: int = 4) -> tuple[int, ...]:
    """Draw a shape with a batch of 1."""
    return (1, *(draw(lengths) for _ in range(axes - 1)))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(("ADD", "SUB", "MUL")), shapes(), seeds)
def test_two_operands_as_tflm(tflm: Any, data: st.DataObject, name: str, shape: tuple[int, ...], seed: int) -> None:
    """Of activations and constants, in either order, either one broadcast, down to a single value."""
    draw, network = data.draw, Network()
    source = network.activation(shape, draw(scales), draw(zero_points))
    cut = draw(st.integers(0, len(shape)))
    smaller = tuple(1 if draw(st.booleans()) else n for n in shape[cut:]) if draw(st.booleans()) else shape
    sources = [source]
    if draw(st.booleans()):
        values = np.random.default_rng(seed).integers(-128, 128, smaller).astype(np.int8)
        other = network.constant(values, [draw(scales)], [draw(zero_points)])
    else:
        other = network.activation((1, *smaller[-3:]) if smaller else (1,), draw(scales), draw(zero_points))
        sources.append(other)
    operands = [source, other] if draw(st.booleans()) else [other, source]
    spread = (
        max(network.scale(i) for i in operands) if name != "MUL" else network.scale(source) * network.scale(other) * 64
    )
    scale = float(np.float32(spread * draw(st.sampled_from((0.1, 0.7, 1.0, 3.0)))))
    output = network.binary(name, operands[0], operands[1], scale, draw(zero_points), draw(activations))
    compare_with_tflm(tflm, network.build(output, source=sources), seed, 1)


@settings(max_examples=30, deadline=None)
@given(scales, zero_points, scales, zero_points, seeds)
def test_requantization_as_tflm(tflm: Any, scale: float, point: int, other: float, other_point: int, seed: int) -> None:
    network = Network()
    network.activation((1, 256), scale, point)
    compare_with_tflm(tflm, network.build(network.brought(0, "INT8", other, other_point)), seed)


@settings(max_examples=40, deadline=None)
@given(st.data(), shapes(), seeds)
def test_arrays_behind_each_other_as_tflm(tflm: Any, data: st.DataObject, shape: tuple[int, ...], seed: int) -> None:
    """CONCATENATION along any axis but the batch, PACK, of one to four inputs; an input twice among them."""
    draw, network = data.draw, Network()
    axis = draw(st.integers(1, 3))
    count = draw(st.integers(1, 4))
    sources = []
    for _ in range(count):
        length = draw(lengths)
        sources.append(network.activation((*shape[:axis], length, *shape[axis + 1 :]), 0.1, 3))
    output = network.concatenation([*sources, sources[0]], axis)
    if draw(st.booleans()):
        output = network.pack([network.reshape(output, (1, 1, int(np.prod(network.shape(output)))))] * count, 1)
    compare_with_tflm(tflm, network.build(output, source=sources), seed, 1)


@settings(max_examples=40, deadline=None)
@given(st.data(), shapes(), seeds)
def test_parts_of_arrays_as_tflm(tflm: Any, data: st.DataObject, shape: tuple[int, ...], seed: int) -> None:
    """SPLIT, SPLIT_V, UNPACK and SLICE; all of their outputs are the network's, or some of them."""
    draw, network = data.draw, Network()
    network.activation(shape, 0.1, 3)
    axis = draw(st.integers(1, 3))
    length = shape[axis]
    match draw(st.sampled_from(("SPLIT", "SPLIT_V", "UNPACK", "SLICE"))):
        case "SPLIT":
            count = draw(st.sampled_from([n for n in (1, 2, 3, 5) if length % n == 0]))
            outputs = network.split(0, axis, [length // count] * count, True)
        case "SPLIT_V":
            first = draw(st.integers(1, length))
            outputs = network.split(0, axis, [size for size in (first, length - first) if size], False)
        case "UNPACK":
            outputs = network.unpack(0, axis)
        case _:
            begin = [draw(st.integers(0, n - 1)) for n in shape]
            size = [draw(st.sampled_from((-1, 1, n - b))) for n, b in zip(shape, begin, strict=True)]
            outputs = [network.part(0, begin, size)]
    compare_with_tflm(tflm, network.build(outputs[:: draw(st.sampled_from((1, -1)))]), seed, 1)


@settings(max_examples=30, deadline=None)
@given(st.data(), shapes(), seeds)
def test_transposition_as_tflm(tflm: Any, data: st.DataObject, shape: tuple[int, ...], seed: int) -> None:
    network = Network()
    network.activation(shape, 0.1, 3)
    order = [0, *data.draw(st.permutations((1, 2, 3)))]
    compare_with_tflm(tflm, network.build(network.transpose(0, order)), seed, 1)


@settings(max_examples=30, deadline=None)
@given(shapes(), lengths, lengths, st.sampled_from(((False, False), (True, False), (False, True))), seeds)
def test_resizing_as_tflm(
    tflm: Any, shape: tuple[int, ...], height: int, width: int, kind: tuple[bool, bool], seed: int
) -> None:
    network = Network()
    network.activation(shape, 0.1, 3)
    output = network.resize(0, (height * 2, width * 3), *kind)
    compare_with_tflm(tflm, network.build(output), seed, 1)


@settings(max_examples=15, deadline=None)
@given(st.data(), seeds)
def test_a_mean_over_any_axes_as_tflm(tflm: Any, data: st.DataObject, seed: int) -> None:
    network = Network()
    network.activation((1, 3, 4, 5), 0.1, 3)
    first = data.draw(st.integers(1, 3))
    axes = range(first, data.draw(st.integers(first, 3)) + 1)
    compare_with_tflm(tflm, network.build(network.mean(0, 0.06, -4, axes, data.draw(st.booleans()))), seed, 1)


ENDS = ("INT8", "UINT8", "FLOAT32")


@pytest.mark.parametrize("given_type", ENDS)
@pytest.mark.parametrize("taken_type", ENDS)
@pytest.mark.parametrize("same", [True, False])
def test_ends_as_tflm(tflm: Any, taken_type: str, given_type: str, same: bool) -> None:
    """The whole file runs on TFLite Micro, the compiled network without what brings its ends to int8.

    A uint8 end of another scale is one that is brought there by a call.
    """
    offsets = {"INT8": 0, "UINT8": 128, "FLOAT32": 0}
    scale, point = (0.1, 3) if same else (0.13, -20)
    network = Network()
    source = network.tensor(
        (1, 4, 6),
        taken_type,
        [] if taken_type == "FLOAT32" else [scale],
        [] if taken_type == "FLOAT32" else [point + offsets[taken_type]],
    )
    inside = source if taken_type == "INT8" else network.brought(source, "INT8", 0.1, 3)
    inside = network.clamp(inside, "RELU", 0.1, 3)
    output = inside
    if given_type != "INT8":
        output = network.brought(inside, given_type, scale, point + offsets[given_type])
    data = network.build(output, source=source)
    program = compare_with_tflm(tflm, data, 1)
    model = parse_tflite(data, "test")
    assert [end.dtype.upper() for end in (*model.inputs, *model.outputs)] == [taken_type, given_type]
    brought = [kind for kind in (taken_type, given_type) if kind == "UINT8" and not same]
    assert len(program.calls) == 1 + len(brought)


def test_one_end_of_several_is_float(tflm: Any) -> None:
    network = Network()
    real, small = network.tensor((1, 6), "FLOAT32"), network.activation((1, 6), 0.1, 3)
    total = network.add(network.brought(real, "INT8", 0.2, -3), small, 0.2, 1)
    outputs = [network.brought(total, "FLOAT32", 0, 0), total]
    compare_with_tflm(tflm, network.build(outputs, source=[small, real]), 2)
