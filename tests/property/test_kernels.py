"""The kernels: C against the numpy twin, over odd shapes and extreme quantizations."""

import ctypes

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mbx_deploy.errors import InputError
from mbx_deploy.passes import verify_program
from mbx_deploy.program import Addition, Average, Buffer, Call, Convolution, Pointwise, Program, Requantization
from mbx_deploy.sim import kernels
from mbx_deploy.sim import model as sim_model
from tests.c_kernels import I8, I16, I32, U32, CAddition, library, run_c
from tests.tflite_builder import random_weights


def run_twin(call: Call, inputs: list[np.ndarray], target: Buffer) -> np.ndarray:
    """Return what the numpy twin gives, int8 of the target's shape."""
    if isinstance(call, Pointwise):
        result = kernels.pointwise(inputs[0], call)
    elif isinstance(call, Addition):
        result = kernels.add(inputs[0], inputs[1], call)
    elif isinstance(call, Average):
        result = kernels.mean(inputs[0], call)
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
