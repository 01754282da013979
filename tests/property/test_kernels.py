"""The kernels: C against the numpy twin, and both against TFLite Micro, which others wrote, byte for byte."""

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mbx_deploy.engines import _import_tflm
from mbx_deploy.errors import InputError
from mbx_deploy.passes import lower, verify_program
from mbx_deploy.program import (
    Addition,
    Average,
    Buffer,
    Call,
    Convolution,
    Maximum,
    Pointwise,
    Program,
    Requantization,
)
from mbx_deploy.resources import firmware_templates_folder
from mbx_deploy.sim import kernels
from mbx_deploy.sim import model as sim_model
from mbx_deploy.tflite_reader import parse_tflite
from mbx_deploy.toolchain import compile_shared_library
from tests.tflite_builder import Network, random_weights

GUARD_BYTES = 64
GUARD = 0x5A
U8, U16, I16, I32, U32, I8 = (
    ctypes.c_uint8,
    ctypes.c_uint16,
    ctypes.c_int16,
    ctypes.c_int32,
    ctypes.c_uint32,
    ctypes.c_int8,
)


class CRequantization(ctypes.Structure):
    """mbx_requantization."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("bias", "multiplier", "shift")),
        *((name, I16) for name in ("zero_point", "low", "high")),
    ]


class CPointwise(ctypes.Structure):
    """mbx_pointwise_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_channels", "out_channels")),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CConvolution(ctypes.Structure):
    """mbx_conv_call."""

    _fields_ = [
        *((f"{side}_{axis}", U16) for side in ("in", "out") for axis in ("height", "width", "channels")),
        *((f"kernel_{axis}", U16) for axis in ("height", "width")),
        *((f"{what}_{axis}", U8) for what in ("stride", "dilation") for axis in ("height", "width")),
        *((name, U16) for name in ("pad_top", "pad_left")),
        ("input_zero_point", I16),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CAddition(ctypes.Structure):
    """mbx_add_call."""

    _fields_ = [
        ("count", U32),
        ("zero_point", I16 * 3),
        ("multiplier", I32 * 3),
        ("shift", I8 * 3),
        ("low", I16),
        ("high", I16),
    ]


class CAverage(ctypes.Structure):
    """mbx_mean_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "channels")),
        *((name, I16) for name in ("input_zero_point", "output_zero_point")),
        ("multiplier", I32),
        ("shift", I8),
    ]


class CMaximum(ctypes.Structure):
    """mbx_max_call."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("positions", "channels")]


_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Return the C kernels, compiled once."""
    global _library
    if _library is None:
        folder = firmware_templates_folder() / "src"
        names = ("mbx_fixed_point.h", "mbx_kernels.h", "mbx_kernels.c")
        _library = ctypes.CDLL(str(compile_shared_library({name: (folder / name).read_text() for name in names})))
    return _library


def _pack(value: np.ndarray, kind: Any, keep: list[np.ndarray]) -> int:
    """Return the address of the array as the C wants it; keep owns it."""
    array = np.ascontiguousarray(value).astype(kind)
    assert (array.astype(np.int64) == value).all(), "a constant does not fit its type"
    keep.append(array)
    return int(array.ctypes.data)


def _requantization(r: Requantization, keep: list[np.ndarray]) -> CRequantization:
    return CRequantization(
        _pack(r.bias, np.int32, keep),
        _pack(r.multiplier, np.int32, keep),
        _pack(r.shift, np.int8, keep),
        r.zero_point,
        r.low,
        r.high,
    )


def run_c(call: Call, inputs: list[np.ndarray], source: Buffer, target: Buffer) -> np.ndarray:
    """Return what the C kernel writes, int8 of the target's shape; fails where it writes beside its output."""
    keep: list[np.ndarray] = []
    if isinstance(call, Pointwise):
        out_channels, in_channels = call.weights.shape
        weights = _pack(call.weights, np.int8, keep)
        name = "mbx_pointwise"
        c: ctypes.Structure = CPointwise(
            call.positions, in_channels, out_channels, weights, _requantization(call.requantization, keep)
        )
    elif isinstance(call, Convolution):
        name = "mbx_depthwise_conv_2d" if call.depthwise else "mbx_conv_2d"
        c = CConvolution(
            *source.shape,
            *target.shape,
            *call.kernel,
            *call.stride,
            *call.dilation,
            *call.pad,
            call.input_zero_point,
            _pack(call.weights, np.int8, keep),
            _requantization(call.requantization, keep),
        )
    elif isinstance(call, Addition):
        name = "mbx_add"
        c = CAddition(
            target.size_bytes,
            (I16 * 3)(*call.zero_points),
            (I32 * 3)(*call.multipliers),
            (I8 * 3)(*call.shifts),
            call.low,
            call.high,
        )
    elif isinstance(call, Maximum):
        name = "mbx_max"
        c = CMaximum(source.height * source.width, source.channels)
    else:
        name = "mbx_mean"
        positions = source.height * source.width
        c = CAverage(
            positions, source.channels, call.input_zero_point, call.output_zero_point, call.multiplier, call.shift
        )
    memory = np.full(target.size_bytes + 2 * GUARD_BYTES, GUARD, np.int8)
    arguments = [_pack(values, np.int8, keep) for values in inputs]
    function = getattr(library(), name)
    function.restype = None
    function(ctypes.byref(c), *map(ctypes.c_void_p, arguments), ctypes.c_void_p(memory.ctypes.data + GUARD_BYTES))
    assert (memory[:GUARD_BYTES] == GUARD).all() and (memory[-GUARD_BYTES:] == GUARD).all(), f"{name} leaves its output"
    return memory[GUARD_BYTES:-GUARD_BYTES].reshape(target.shape)


def run_twin(call: Call, inputs: list[np.ndarray], target: Buffer) -> np.ndarray:
    """Return what the numpy twin gives, int8 of the target's shape."""
    if isinstance(call, Pointwise):
        result = kernels.pointwise(inputs[0], call)
    elif isinstance(call, Addition):
        result = kernels.add(inputs[0], inputs[1], call)
    elif isinstance(call, Average):
        result = kernels.mean(inputs[0], call)
    elif isinstance(call, Maximum):
        result = kernels.maximum(inputs[0])
    else:
        kernel = kernels.depthwise_conv_2d if call.depthwise else kernels.conv_2d
        result = kernel(inputs[0], call, target.shape)
    return result.reshape(target.shape)


def check_twins(call: Call, source: Buffer, target: Buffer, seed: int) -> None:
    """Compare both on random values and on the largest and smallest ones; skips what the compiler would refuse."""
    buffers = (source, source, target) if isinstance(call, Addition) else (source, target)
    program = Program(buffers, (call,), 0, len(buffers) - 1, 1.0, 0, 1.0, 0)
    written = Program(**{**vars(program), "calls": (call,)})
    if not isinstance(call, Addition):  # the second operand of an addition is written by nobody here
        try:
            verify_program(written)
        except InputError:
            assume(False)
    rng = np.random.default_rng(seed)
    count = 2 if isinstance(call, Addition) else 1
    for low, high in ((-128, 128), (-128, -127), (127, 128), (-128, 128)):
        inputs = [rng.integers(low, high, source.shape, dtype=np.int8) for _ in range(count)]
        if low == -128 and high == 128:
            inputs = [np.where(rng.random(x.shape) < 0.2, np.int8(-128), x) for x in inputs]
        np.testing.assert_array_equal(run_c(call, inputs, source, target), run_twin(call, inputs, target))


zero_points = st.sampled_from((-128, 127, 0)) | st.integers(-128, 127)
lengths = st.integers(1, 7)
channel_counts = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 19, 31, 33))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def requantizations(draw: st.DrawFn, channels: int, largest_sum: int) -> Requantization:
    """Draw any requantization that the proof allows for sums up to largest_sum, at its limit now and then."""
    rng = np.random.default_rng(draw(seeds))
    left_most = max(0, 30 - int(largest_sum).bit_length())
    shift = rng.integers(draw(st.sampled_from((-31, -12, 0))), left_most + 1, channels)
    multiplier = rng.integers(1 << 30, 1 << 31, channels)
    multiplier[rng.random(channels) < 0.15] = draw(st.sampled_from((0, 1 << 30, (1 << 31) - 1)))
    limit = np.maximum(0, ((1 << 31) - 1 >> np.maximum(shift, 0)) - largest_sum)
    bias = (limit * draw(st.sampled_from((0.0, 0.001, 1.0))) * rng.choice((-1, 1), channels)).astype(np.int64)
    bias = np.clip(bias, -limit, limit)
    zero_point = draw(zero_points)
    low, high = draw(st.sampled_from(((-128, 127), (max(-128, zero_point), 127), (-3, 4))))
    return Requantization(bias, multiplier.astype(np.int32), shift.astype(np.int8), zero_point, low, high)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 9), channel_counts, channel_counts, seeds)
def test_pointwise(data: st.DataObject, positions: int, inside: int, outside: int, seed: int) -> None:
    weights = random_weights(np.random.default_rng(seed), (outside, inside))
    largest = int(np.abs(weights.astype(np.int64)).sum(axis=1).max()) * 128
    call = Pointwise("p", 0, 1, positions, weights, data.draw(requantizations(outside, largest)))
    check_twins(call, Buffer("x", 1, positions, inside), Buffer("y", 1, positions, outside), seed)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, tuple[int, int]]:
    """Draw sizes of a convolution with 1 to 6 outputs an axis; the kernel may be larger than the input, and miss it."""
    kernel, stride, dilation = ((draw(st.integers(1, most)), draw(st.integers(1, most))) for most in (5, 4, 3))
    size, pad = (draw(lengths), draw(lengths)), (draw(st.integers(0, 9)), draw(st.integers(0, 9)))
    out = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "size": size, "pad": pad, "out": out}


@settings(max_examples=60, deadline=None)
@given(st.data(), geometries(), channel_counts, st.integers(1, 9), zero_points, seeds)
def test_conv_2d(
    data: st.DataObject, g: dict[str, tuple[int, int]], inside: int, outside: int, zero_point: int, seed: int
) -> None:
    weights = random_weights(np.random.default_rng(seed), (outside, *g["kernel"], inside))
    largest = int(np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)).max()) * (128 + abs(zero_point))
    r = data.draw(requantizations(outside, largest))
    where = (g["kernel"], g["stride"], g["dilation"], g["pad"], zero_point, r)
    call = Convolution("c", 0, 1, False, weights, *where)
    check_twins(call, Buffer("x", *g["size"], inside), Buffer("y", *g["out"], outside), seed)


@settings(max_examples=60, deadline=None)
@given(st.data(), geometries(), channel_counts, st.sampled_from((1, 1, 2, 3, 8)), zero_points, seeds)
def test_depthwise_conv_2d(
    data: st.DataObject, g: dict[str, tuple[int, int]], inside: int, multiplier: int, zero_point: int, seed: int
) -> None:
    outside = inside * multiplier
    weights = random_weights(np.random.default_rng(seed), (*g["kernel"], outside))
    largest = int(np.abs(weights.astype(np.int64)).sum(axis=(0, 1)).max()) * (128 + abs(zero_point))
    r = data.draw(requantizations(outside, largest))
    where = (g["kernel"], g["stride"], g["dilation"], g["pad"], zero_point, r)
    call = Convolution("d", 0, 1, True, weights, *where)
    check_twins(call, Buffer("x", *g["size"], inside), Buffer("y", *g["out"], outside), seed)


multipliers_q31 = st.sampled_from((0, 1 << 30, (1 << 31) - 1)) | st.integers(1 << 30, (1 << 31) - 1)
right_shifts = st.integers(-31, 0)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(zero_points, zero_points, zero_points),
    st.tuples(multipliers_q31, multipliers_q31, multipliers_q31),
    st.tuples(right_shifts, right_shifts, right_shifts),
    lengths,
    channel_counts,
    seeds,
)
def test_add(
    points: tuple[int, int, int],
    multipliers: tuple[int, int, int],
    shifts: tuple[int, int, int],
    width: int,
    channels: int,
    seed: int,
) -> None:
    call = Addition("a", 0, 1, 2, points, multipliers, shifts, -128, 127)
    check_twins(call, Buffer("x", 1, width, channels), Buffer("y", 1, width, channels), seed)


@settings(max_examples=60, deadline=None)
@given(
    zero_points, zero_points, multipliers_q31, st.integers(-31, 12), lengths, st.integers(1, 40), channel_counts, seeds
)
def test_mean(
    point_in: int, point_out: int, multiplier: int, shift: int, height: int, width: int, channels: int, seed: int
) -> None:
    call = Average("m", 0, 1, point_in, point_out, multiplier, shift)
    check_twins(call, Buffer("x", height, width, channels), Buffer("y", 1, 1, channels), seed)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 40), channel_counts, seeds)
def test_maximum(height: int, width: int, channels: int, seed: int) -> None:
    check_twins(Maximum("m", 0, 1), Buffer("x", height, width, channels), Buffer("y", 1, 1, channels), seed)


def test_add_may_write_over_its_input() -> None:
    rng = np.random.default_rng(3)
    call = Addition("a", 0, 1, 2, (3, -4, 5), (1 << 30, 1500000000, 2000000000), (0, -1, -19), -128, 127)
    values, other = (rng.integers(-128, 128, 65, dtype=np.int8) for _ in range(2))
    expected = kernels.add(values, other, call)
    c = CAddition(
        65, (I16 * 3)(*call.zero_points), (I32 * 3)(*call.multipliers), (I8 * 3)(*call.shifts), call.low, call.high
    )
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (values, other, values)]
    library().mbx_add(ctypes.byref(c), *pointers)
    np.testing.assert_array_equal(values, expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.floats(1e-6, 30.0), st.sampled_from(((-128, 127), (126, 127), (-128, -128))), seeds)
def test_posteriors(count: int, scale: float, span: tuple[int, int], seed: int) -> None:
    logits = np.random.default_rng(seed).integers(span[0], span[1] + 1, count, dtype=np.int8)
    table = sim_model.exponential_table(scale)
    memory = np.full(count + 2, 0x5A5A, np.uint16)
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (logits, table, memory[1:])]
    library().mbx_posteriors(*pointers, U32(count))
    expected = kernels.posteriors(logits, table)
    np.testing.assert_array_equal(memory[1:-1], expected)
    assert memory[0] == memory[-1] == 0x5A5A
    assert abs(int(expected.sum()) - 32768) <= count
    assert expected[np.argmax(logits)] == expected.max()


# --- against TFLite Micro ---

activations = st.sampled_from(("NONE", "RELU", "RELU6"))
scales = st.sampled_from((0.004, 0.02, 0.1, 0.5, 1.7)) | st.floats(0.002, 2.0)


@pytest.fixture(scope="module")
def tflm() -> Any:
    """TFLite Micro's runtime; its absence is a reason to skip, said aloud."""
    return pytest.importorskip("tflite_micro", reason="the oracle tflite-micro is not installed") and _import_tflm()


def compare_with_tflm(tflm: Any, data: bytes, seed: int, rounds: int = 3) -> Program:
    """Run a file in TFLite Micro, in the simulator and in C, on random inputs and on constant ones: the same bytes."""
    model = parse_tflite(data, "test")
    try:
        program = lower(model)
    except InputError as error:
        assume("overflow" not in error.what)
        raise
    interpreter = tflm.Interpreter.from_bytes(data, arena_size=1 << 20)
    shape = model.tensors[model.input].shape
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(rounds)]
    inputs += [np.full(shape, value, np.int8) for value in (-128, 127)]
    for values in inputs:
        interpreter.set_input(values, 0)
        interpreter.invoke()
        oracle = np.asarray(interpreter.get_output(0)).ravel()
        np.testing.assert_array_equal(sim_model.logits(values, program), oracle, "simulator against TFLite Micro")
        np.testing.assert_array_equal(run_program_c(program, values), oracle, "C against TFLite Micro")
    return program


def run_program_c(program: Program, values: np.ndarray) -> np.ndarray:
    """Return the network's output, every call run by its C kernel."""
    buffers = {program.input: values.reshape(program.buffers[program.input].shape)}
    for call in program.calls:
        indices = (call.input, call.other) if isinstance(call, Addition) else (call.input,)
        target = program.buffers[call.output]
        inputs = [buffers[index] for index in indices]
        buffers[call.output] = run_c(call, inputs, program.buffers[call.input], target)
    return buffers[program.output].ravel()


def output_scale(rng: np.random.Generator, scale: float, weight_scale: float, taps: int) -> float:
    """Return a scale at which an output of random weights uses some of its range, or far too little or too much of it."""
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


@settings(max_examples=70, deadline=None)
@given(st.data(), inputs(), st.booleans(), seeds)
def test_convolutions_as_tflm(tflm: Any, data: st.DataObject, network: Network, depthwise: bool, seed: int) -> None:
    output = add_convolution(data.draw, network, 0, np.random.default_rng(seed), depthwise)
    compare_with_tflm(tflm, network.build(output), seed)


@settings(max_examples=60, deadline=None)
@given(inputs(), st.floats(0.001, 900.0) | st.sampled_from((1e-12, 1e10)), st.floats(0.05, 30.0), zero_points, zero_points, activations, seeds)
def test_add_as_tflm(
    tflm: Any, network: Network, ratio: float, factor: float, point: int, other_point: int, activation: str, seed: int
) -> None:
    """The second operand is a depthwise 1x1 of the first, with a scale of its own."""
    channels, scale = network.shape(0)[3], network.scale(0)
    weights = random_weights(np.random.default_rng(seed), (1, 1, 1, channels))
    other = network.conv_2d(0, weights, [ratio / 100], None, scale * ratio, other_point, depthwise=True)
    output = network.add(0, other, max(scale, scale * ratio) * factor, point, activation)
    compare_with_tflm(tflm, network.build(output), seed)


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
def test_maximum_as_tflm(
    tflm: Any, network: Network, width: int, keep: bool, axes: tuple[int, int], seed: int
) -> None:
    network.tensors[0].shape[2] = width
    compare_with_tflm(tflm, network.build(network.maximum(0, axes, keep)), seed)


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
    """Per-tensor scales are multiplied in float32 there, per-channel ones in float64."""
    rng = np.random.default_rng(seed)
    inside = int(np.prod(network.shape(0)))
    network.tensors[0].shape = [1, inside]
    weights = random_weights(rng, (outside, inside))
    weight_scales = weight_scale * rng.uniform(0.1, 1.0, outside) if per_channel else [weight_scale]
    bias = rng.integers(-5000, 5000, outside) if data.draw(st.booleans()) else None
    scale = output_scale(rng, network.scale(0), weight_scale, inside)
    output = network.fully_connected(0, weights, weight_scales, bias, scale, data.draw(zero_points), activation)
    compare_with_tflm(tflm, network.build(output), seed)


def networks(draw: Any, network: Network, rng: np.random.Generator, ops: int) -> int:
    """Add drawn ops one after another, an ADD where two activations have one shape, and a mean and a layer at the end."""
    made = [0]
    for _ in range(ops):
        source = draw(st.sampled_from(made))
        twins = [other for other in made if network.shape(other) == network.shape(source)]
        if draw(st.booleans()) and len(twins) > 1:
            other = draw(st.sampled_from(twins))
            largest = max(network.scale(source), network.scale(other))
            made.append(network.add(source, other, largest * 1.3, draw(zero_points), draw(activations)))
        else:
            made.append(add_convolution(draw, network, source, rng, draw(st.booleans())))
    pooled = network.mean(made[-1], network.scale(made[-1]) * 0.4, draw(zero_points))
    channels = network.shape(pooled)[-1]
    weights = random_weights(rng, (5, channels))
    scale = output_scale(rng, network.scale(pooled), 0.01, channels)
    return network.fully_connected(pooled, weights, [0.01], rng.integers(-500, 500, 5), scale, draw(zero_points))


@settings(max_examples=30, deadline=None)
@given(st.data(), inputs(), st.integers(1, 6), seeds)
def test_networks_as_tflm(tflm: Any, data: st.DataObject, network: Network, ops: int, seed: int) -> None:
    output = networks(data.draw, network, np.random.default_rng(seed), ops)
    compare_with_tflm(tflm, network.build(output), seed)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(st.data(), inputs(), st.integers(1, 6), seeds)
def test_many_networks_as_tflm(tflm: Any, data: st.DataObject, network: Network, ops: int, seed: int) -> None:
    output = networks(data.draw, network, np.random.default_rng(seed), ops)
    compare_with_tflm(tflm, network.build(output), seed)
