"""The simulator and the C kernels against TFLite Micro, which others wrote: byte for byte, on any network."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.lower import lower
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.engines.tflm import import_tflm
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.sim import recognizer as sim_model
from tests.made.c_kernels import run_program_c
from tests.made.tflite import Network, random_weights
from tests.made.tflm_oracle import compare_with_tflm

zero_points = st.sampled_from((-128, 127, 0)) | st.integers(-128, 127)
channel_counts = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 19, 31, 33))
seeds = st.integers(0, 2**32 - 1)
activations = st.sampled_from(("NONE", "RELU", "RELU6", "RELU_N1_TO_1"))
scales = st.sampled_from((0.004, 0.02, 0.1, 0.5, 1.7)) | st.floats(0.002, 2.0)


@pytest.fixture(scope="module")
def tflm() -> Any:
    """TFLite Micro's runtime; its absence is a reason to skip, said aloud."""
    return pytest.importorskip("tflite_micro", reason="the oracle tflite-micro is not installed") and import_tflm()


def output_scale(rng: np.random.Generator, scale: float, weight_scale: float, taps: int) -> float:
    """Return a scale at which an output of random weights uses some of its range, or far too little, or too much."""
    spread = scale * 74 * weight_scale * 74 * np.sqrt(taps) / 40
    return float(np.float32(spread * rng.choice((0.05, 0.5, 1.0, 1.0, 2.0, 40.0))))


def add_convolution(draw: Any, network: Network, source: int, rng: np.random.Generator, depthwise: bool) -> int:
    """Add a drawn convolution with random weights; its geometry gives at least one output."""
    _, height, width, inside = network.shape(source)
    padding = draw(st.sampled_from(("SAME", "VALID")))
    kernel, stride, dilation = [], [], []
    for size in (height, width):
        largest = 13 if padding == "SAME" else min(size, 13)
        kernel.append(draw(st.integers(1, largest) | st.just(1)))
        most = 4 if padding == "SAME" or kernel[-1] == 1 else min(4, (size - 1) // (kernel[-1] - 1))
        dilation.append(draw(st.integers(1, max(1, most))))
        stride.append(draw(st.integers(1, 3)))
    outside = inside * draw(st.sampled_from((1, 1, 2, 3))) if depthwise else draw(channel_counts)
    shape = (1, *kernel, outside) if depthwise else (outside, *kernel, inside)
    weights = random_weights(rng, shape)
    weight_scale = draw(scales) / 20
    per_channel = draw(st.booleans())
    weight_scales = weight_scale * rng.uniform(0.02, 1.0, outside) if per_channel else [weight_scale]
    taps = kernel[0] * kernel[1] * (1 if depthwise else inside)
    scale = output_scale(rng, network.scale(source), weight_scale, taps)
    bias = rng.integers(-3000, 3000, outside) * draw(st.sampled_from((1, 50))) if draw(st.booleans()) else None
    return network.conv_2d(
        source,
        weights,
        weight_scales,
        bias,
        scale,
        draw(zero_points),
        stride=(stride[0], stride[1]),
        dilation=(dilation[0], dilation[1]),
        padding=padding,
        activation=draw(activations),
        depthwise=depthwise,
    )


@st.composite
def inputs(draw: st.DrawFn) -> Network:
    """Draw a network that has its input alone."""
    network = Network()
    shape = (1, draw(st.sampled_from((1, 1, 2, 5))), draw(st.integers(1, 24)), draw(channel_counts))
    network.activation(shape, draw(scales), draw(zero_points))
    return network


@pytest.mark.slow
@settings(max_examples=70, deadline=None)
@given(st.data(), inputs(), st.booleans(), seeds)
def test_convolutions_as_tflm(tflm: Any, data: st.DataObject, network: Network, depthwise: bool, seed: int) -> None:
    output = add_convolution(data.draw, network, 0, np.random.default_rng(seed), depthwise)
    compare_with_tflm(tflm, network.build(output), seed)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    inputs(),
    st.floats(0.001, 900.0) | st.sampled_from((1e-12, 1e10)),
    st.floats(0.05, 30.0),
    zero_points,
    zero_points,
    activations,
    seeds,
)
def test_add_as_tflm(
    tflm: Any, network: Network, ratio: float, factor: float, point: int, other_point: int, activation: str, seed: int
) -> None:
    """The second operand is a depthwise 1x1 of the first, with a scale of its own."""
    channels, scale = network.shape(0)[3], network.scale(0)
    weights = random_weights(np.random.default_rng(seed), (1, 1, 1, channels))
    other = network.conv_2d(0, weights, [ratio / 100], None, scale * ratio, other_point, depthwise=True)
    output = network.add(0, other, max(scale, scale * ratio) * factor, point, activation)
    compare_with_tflm(tflm, network.build(output), seed)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    inputs(),
    st.integers(1, 300),
    st.floats(0.01, 50.0) | st.just(1.0),
    st.none() | zero_points,
    st.booleans(),
    st.sampled_from(((1, 2), (2, 1), (-3, -2))),
    seeds,
)
@example(Network(tensors=[]), 1, 1.0, None, False, (1, 2), 0)
def test_mean_as_tflm(
    tflm: Any,
    network: Network,
    width: int,
    factor: float,
    point: int | None,
    keep: bool,
    axes: tuple[int, int],
    seed: int,
) -> None:
    """Equal scales and zero points are a path of its own in TFLite Micro."""
    if not network.tensors:
        network.activation((1, 1, 101, 128), 0.02, -128)
    network.tensors[0].shape[2] = width
    same = int(network.tensors[0].quantization.zeroPoint[0])
    output = network.mean(0, network.scale(0) * factor, same if point is None else point, axes, keep)
    compare_with_tflm(tflm, network.build(output), seed)


@settings(max_examples=40, deadline=None)
@given(inputs(), st.integers(1, 110), st.booleans(), st.sampled_from([(1, 2), (2, 1), (-3, -2)]), seeds)
def test_maximum_as_tflm(tflm: Any, network: Network, width: int, keep: bool, axes: tuple[int, int], seed: int) -> None:
    network.tensors[0].shape[2] = width
    compare_with_tflm(tflm, network.build(network.maximum(0, axes, keep)), seed)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data(), inputs(), st.integers(1, 20), st.booleans(), scales, activations, seeds)
def test_fully_connected_as_tflm(
    tflm: Any,
    data: st.DataObject,
    network: Network,
    outside: int,
    per_channel: bool,
    weight_scale: float,
    activation: str,
    seed: int,
) -> None:
    """With one scale for all outputs, or one each."""
    rng = np.random.default_rng(seed)
    inside = int(np.prod(network.shape(0)))
    network.tensors[0].shape = [1, inside]
    weights = random_weights(rng, (outside, inside))
    weight_scales = weight_scale * rng.uniform(0.1, 1.0, outside) if per_channel else [weight_scale]
    bias = rng.integers(-5000, 5000, outside) if data.draw(st.booleans()) else None
    scale = output_scale(rng, network.scale(0), weight_scale, inside)
    output = network.fully_connected(0, weights, weight_scales, bias, scale, data.draw(zero_points), activation)
    compare_with_tflm(tflm, network.build(output), seed)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 2.0), st.floats(1e-7, 1e-6), st.floats(0.5, 2.0), st.booleans(), st.booleans(), seeds)
def test_ties_as_tflm(
    tflm: Any, scale: float, weight_scale: float, scale_out: float, per_channel: bool, dense: bool, seed: int
) -> None:
    """Biases beside every tie of the rounding: there even the last bit of a multiplier shows.

    That bit tells whether the two scales are multiplied in float32 or, as TFLite Micro does in every layer, in float64.
    """
    rng = np.random.default_rng(seed)
    channels = 254
    scales = np.full(channels, weight_scale) * (rng.uniform(0.9, 1.0, channels) if per_channel else 1.0)
    ratios = np.float32(scale).astype(float) * scales.astype(np.float32).astype(float) / float(np.float32(scale_out))
    ties = np.rint((np.arange(channels) - 127 + 0.5) / ratios)
    bias = ties + rng.integers(-40, 41, channels)
    assume(np.abs(bias).max() < 2**31 - 2**18)
    network = Network()
    network.activation((1, 1, 1, 3), scale, 0)
    weights, stored = np.zeros((channels, 3), np.int8), scales if per_channel else scales[:1]
    if dense:
        network.tensors[0].shape = [1, 3]
        output = network.fully_connected(0, weights, stored, bias, scale_out, 0)
    else:
        output = network.conv_2d(0, weights.reshape(channels, 1, 1, 3), stored, bias, scale_out, 0)
    compare_with_tflm(tflm, network.build(output), seed, rounds=1)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data(), inputs(), st.booleans(), activations, seeds)
def test_pooling_as_tflm(
    tflm: Any, data: st.DataObject, network: Network, average: bool, activation: str, seed: int
) -> None:
    output = add_pool(data.draw, network, 0, average, activation)
    compare_with_tflm(tflm, network.build(output), seed)


def add_pool(draw: Any, network: Network, source: int, average: bool, activation: str) -> int:
    """Add a drawn pooling that gives at least one output."""
    padding = draw(st.sampled_from(("SAME", "VALID")))
    sizes = network.shape(source)[1:3]
    window = [draw(st.integers(1, size if padding == "VALID" else size + 3)) for size in sizes]
    stride = [draw(st.integers(1, 5)) for _ in sizes]
    return network.pool(source, (window[0], window[1]), (stride[0], stride[1]), padding, activation, average)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    inputs(),
    st.sampled_from((2.0**-22, 0.001, 0.01, 0.3, 20.0)) | st.floats(0.0001, 30.0),
    st.floats(0.1, 3.0) | st.just(1.0),
    st.booleans(),
    seeds,
)
@example(Network(tensors=[]), 0.0001, 1.0, False, 0)
def test_softmax_as_tflm(tflm: Any, network: Network, scale: float, beta: float, deep: bool, seed: int) -> None:
    """Over 511 equal classes, too, whose sum is the largest that fits."""
    if not network.tensors:
        network.activation((1, 511), scale, 0)
    network.tensors[0].quantization.scale = [scale]
    assume(np.float32(beta) * np.float32(scale) > 2.0**-25)
    if deep:
        network.tensors[0].shape = [1, int(np.prod(network.shape(0)[1:3]) * 7 % 511 + 1)]
    compare_with_tflm(tflm, network.build(network.softmax(0, beta)), seed)


@settings(max_examples=40, deadline=None)
@given(inputs(), st.sampled_from(("RELU", "RELU6")), st.none() | st.floats(0.01, 60.0), zero_points, seeds)
def test_relu_as_tflm(tflm: Any, network: Network, name: str, factor: float | None, point: int, seed: int) -> None:
    scale = None if factor is None else network.scale(0) * factor
    compare_with_tflm(tflm, network.build(network.clamp(0, name, scale, point)), seed)


CURVES = ("LOGISTIC", "TANH")


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(
    "scale", [2.0**-28, 1e-4, 0.003, 1 / 256, 0.0235, 0.0625, 0.1, 0.5, 1.7, 7.4, 15.0, 16.0, 900.0]
)
@pytest.mark.parametrize("point", [-128, -3, 0, 127])
def test_curves_as_tflm(tflm: Any, name: str, scale: float, point: int) -> None:
    """Of each of the 256 values that there are."""
    network = Network()
    network.activation((1, 1, 16, 16), scale, point)
    compare_every_value(tflm, network.build(network.curve(0, name)))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.floats(1e-4, 20.0), zero_points, st.floats(0.02, 60.0), zero_points, st.floats(0.0, 3.0), st.booleans())
def test_other_curves_as_tflm(
    tflm: Any, scale: float, point: int, factor: float, point_out: int, alpha: float, leaky: bool
) -> None:
    network = Network()
    network.activation((1, 1, 16, 16), scale, point)
    name = "LEAKY_RELU" if leaky else "HARD_SWISH"
    compare_every_value(tflm, network.build(network.curve(0, name, scale * factor, point_out, alpha)))


def compare_every_value(tflm: Any, data: bytes) -> None:
    """Run a network of 256 independent values in TFLite Micro, in the simulator and in C: the same bytes."""
    every = np.arange(-128, 128).astype(np.int8)
    interpreter = tflm.Interpreter.from_bytes(data, arena_size=1 << 16)
    interpreter.set_input(every.reshape(1, 1, 16, 16), 0)
    interpreter.invoke()
    program = lower(parse_tflite(data, "test"))
    expected = np.asarray(interpreter.get_output(0)).ravel()
    np.testing.assert_array_equal(sim_model.logits(every, program), expected, "simulator against TFLite Micro")
    np.testing.assert_array_equal(run_program_c(program, every), expected, "C against TFLite Micro")


paddings = st.tuples(st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=40, deadline=None)
@given(inputs(), st.tuples(paddings, paddings, paddings | st.just((0, 0))), st.none() | st.integers(-128, 127), seeds)
def test_pad_as_tflm(tflm: Any, network: Network, amounts: tuple[Any, ...], value: int | None, seed: int) -> None:
    compare_with_tflm(tflm, network.build(network.pad(0, ((0, 0), *amounts), value)), seed)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.data(), inputs(), st.integers(1, 3), st.booleans(), seeds)
def test_slices_as_tflm(tflm: Any, data: st.DataObject, network: Network, rank: int, masked: bool, seed: int) -> None:
    """Any limits, counted from the front or from behind, also beyond the axis; behind it what is in place is read."""
    shape = [1, *network.shape(0)[4 - rank :]]
    network.tensors[0].shape = shape
    slices = [slice(None), *(draw_slice(data.draw, length) for length in shape[1:])]
    output = network.strided_slice(network.clamp(0, "RELU"), slices, masked)
    program = compare_with_tflm(tflm, network.build(output), seed)
    assert plan_memory(program).arena_bytes == -(-program.buffers[0].size_bytes // 8) * 8


def draw_slice(draw: Any, length: int) -> slice:
    """Draw a slice of an axis that takes something."""
    limits = st.none() | st.integers(-length - 2, length + 2)
    drawn = draw(st.builds(slice, limits, limits, st.sampled_from((None, 1, 1, 2, 3, 7))))
    return drawn if len(range(*drawn.indices(length))) else slice(draw(st.integers(0, length - 1)), None)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(inputs(), st.sampled_from((1, 2)), st.booleans(), st.booleans(), st.floats(0.01, 50.0), zero_points, seeds)
def test_reductions_over_one_axis_as_tflm(
    tflm: Any, network: Network, axis: int, keep: bool, average: bool, factor: float, point: int, seed: int
) -> None:
    scale = network.scale(0) * factor
    output = network.mean(0, scale, point, [axis], keep) if average else network.maximum(0, [axis], keep)
    compare_with_tflm(tflm, network.build(output), seed)


@settings(max_examples=30, deadline=None)
@given(inputs(), st.booleans(), seeds)
def test_reductions_of_lines_as_tflm(tflm: Any, network: Network, keep: bool, seed: int) -> None:
    """As of Keras' one-dimensional layers: (1, time, channels), over time."""
    network.tensors[0].shape = [1, *network.shape(0)[2:]]
    compare_with_tflm(tflm, network.build(network.mean(0, network.scale(0), 3, [1], keep)), seed)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.data(), inputs(), seeds)
def test_layers_of_several_rows_as_tflm(tflm: Any, data: st.DataObject, network: Network, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, inside, outside = (data.draw(st.integers(1, 12)) for _ in range(3))
    network.tensors[0].shape = [1, rows, inside]
    scale = output_scale(rng, network.scale(0), 0.01, inside)
    output = network.fully_connected(0, random_weights(rng, (outside, inside)), [0.01], None, scale, 7)
    compare_with_tflm(tflm, network.build(output), seed)


@pytest.mark.parametrize("shape", [(1, 60), (1, 3, 20), (1, 3, 4, 5), (1, 60, 1, 1)])
def test_reshape_of_what_is_still_needed_as_tflm(tflm: Any, shape: tuple[int, ...]) -> None:
    """The second user wants the values in the first shape: in C they are copied."""
    network = Network()
    network.activation((1, 3, 4, 5), 0.1, 3)
    first = network.clamp(0, "RELU")
    turned = network.clamp(network.reshape(first, shape), "RELU6")
    back = network.reshape(turned, (1, 3, 4, 5))
    program = compare_with_tflm(tflm, network.build(network.add(first, back, 0.2, 0)), 0)
    assert plan_memory(program).arena_bytes == 128


def add_plain(draw: Any, network: Network, source: int) -> int:
    """Add a drawn op without weights, whose output is an image again."""
    kind = draw(st.sampled_from(("pool", "pad", "clamp", "softmax", "mean", "reshape")))
    _, height, width, channels = network.shape(source)
    if kind == "pool":
        return add_pool(draw, network, source, draw(st.booleans()), draw(activations))
    if kind == "pad":
        return network.pad(source, ((0, 0), (draw(st.integers(0, 2)), 1), (0, draw(st.integers(0, 2))), (0, 0)))
    if kind == "clamp":
        return network.clamp(source, draw(st.sampled_from(("RELU", "RELU6"))))
    if kind == "mean":
        return network.mean(source, network.scale(source) / 2, draw(zero_points), [draw(st.sampled_from((1, 2)))], True)
    if kind == "softmax":
        return network.softmax(source)
    return network.reshape(source, draw(st.permutations((height, width, channels)).map(lambda shape: (1, *shape))))


def networks(draw: Any, network: Network, rng: np.random.Generator, ops: int) -> int:
    """Add drawn ops, an ADD where two activations have one shape, and a mean and a layer at the end."""
    made = [0]
    for _ in range(ops):
        source = draw(st.sampled_from(made))
        twins = [other for other in made if network.shape(other) == network.shape(source)]
        if draw(st.booleans()) and len(twins) > 1:
            other = draw(st.sampled_from(twins))
            largest = max(network.scale(source), network.scale(other))
            made.append(network.add(source, other, largest * 1.3, draw(zero_points), draw(activations)))
        elif draw(st.booleans()):
            made.append(add_plain(draw, network, source))
        else:
            made.append(add_convolution(draw, network, source, rng, draw(st.booleans())))
    pooled = network.mean(made[-1], network.scale(made[-1]) * 0.4, draw(zero_points))
    channels = network.shape(pooled)[-1]
    weights = random_weights(rng, (5, channels))
    scale = output_scale(rng, network.scale(pooled), 0.01, channels)
    return network.fully_connected(pooled, weights, [0.01], rng.integers(-500, 500, 5), scale, draw(zero_points))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.data(), inputs(), st.integers(1, 6), seeds)
def test_networks_as_tflm(tflm: Any, data: st.DataObject, network: Network, ops: int, seed: int) -> None:
    output = networks(data.draw, network, np.random.default_rng(seed), ops)
    compare_with_tflm(tflm, network.build(output), seed)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.data(), inputs(), st.integers(1, 6), seeds)
def test_many_networks_as_tflm(tflm: Any, data: st.DataObject, network: Network, ops: int, seed: int) -> None:
    output = networks(data.draw, network, np.random.default_rng(seed), ops)
    compare_with_tflm(tflm, network.build(output), seed)
