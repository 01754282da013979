"""The kernels: C against the numpy twin, over odd shapes and extreme quantizations."""

import ctypes

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.kernels.choice import KERNEL_SETS, select_kernel
from mbx_deploy.compiler.proofs import verify_program
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import (
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
from mbx_deploy.sim import kernels
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.sim.recognizer import run_call
from tests.made.c_kernels import U32, library, run_c
from tests.made.tflite import random_weights


def run_twin(call: Call, inputs: list[np.ndarray], target: Buffer) -> np.ndarray:
    """Return what the numpy twin gives, int8 of the target's shape."""
    result = run_call(call, dict(enumerate(inputs)), target.shape)
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
        expected = run_twin(call, inputs, target)
        for kernel_set in KERNEL_SETS:
            got = run_c(call, inputs, source, target, kernel_set)
            np.testing.assert_array_equal(got, expected, kernel_set)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


# --- calls that the kernels for the DSP extension take ---


@st.composite
def requantizations_dsp(draw: st.DrawFn, sums: np.ndarray, limit: int) -> Requantization:
    """Draw a requantization for sums of these magnitudes whose bounds, bias included, go up to limit."""
    rng = np.random.default_rng(draw(seeds))
    shift = -rng.integers(1, draw(st.sampled_from((2, 8, 23))), len(sums))
    multiplier = rng.integers(1 << 30, 1 << 31, len(sums))
    multiplier[rng.random(len(sums)) < 0.15] = draw(st.sampled_from((0, 1 << 30, (1 << 31) - 1)))
    room = np.maximum(0, limit - 1 - sums)
    bias = (room * draw(st.sampled_from((0.0, 0.001, 1.0))) * rng.choice((-1, 1), len(sums))).astype(np.int64)
    zero_point = draw(zero_points)
    return Requantization(bias, multiplier.astype(np.int32), shift.astype(np.int8), zero_point, -128, 127)


def kernel_of(call: Call, source: Buffer, target: Buffer) -> str:
    """Return the name of the kernel that a core with the DSP extension runs."""
    program = Program((source, source, target) if isinstance(call, Addition) else (source, target), (call,),
                      0, call.output, 1.0, 0, 1.0, 0)  # fmt: skip
    return select_kernel(program, call, "dsp").name


wide = st.integers(1, 70)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 33), wide, wide, seeds)
def test_pointwise_dsp(data: st.DataObject, positions: int, inside: int, outside: int, seed: int) -> None:
    weights = random_weights(np.random.default_rng(seed), (outside, inside))
    sums = np.abs(weights.astype(np.int64)).sum(axis=1) * 128
    call = Pointwise("p", 0, 1, positions, weights, data.draw(requantizations_dsp(sums, 1 << 22)))
    source, target = Buffer("x", 1, positions, inside), Buffer("y", 1, positions, outside)
    assert kernel_of(call, source, target) == ("mbx_dense" if positions == 1 else "mbx_pointwise_dsp")
    check_twins(call, source, target, seed)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 33), st.integers(1, 17), st.integers(1, 47), st.integers(1, 3), zero_points, seeds)
def test_depthwise_line_dsp(
    data: st.DataObject, width: int, fours: int, kernel: int, dilation: int, zero_point: int, seed: int
) -> None:
    channels = 4 * fours
    weights = random_weights(np.random.default_rng(seed), (1, kernel, channels))
    if seed % 3 == 0:
        weights[0, 0, :] = -128
    magnitudes = np.abs(weights.astype(np.int64)).sum(axis=(0, 1))
    # The proof is over |x - z|; the kernel's limit counts z in the bias.
    r = data.draw(requantizations_dsp(magnitudes * (128 + abs(zero_point)), 1 << 30))
    pad = (kernel - 1) * dilation // 2
    call = Convolution("d", 0, 1, True, weights, (1, kernel), (1, 1), (1, dilation), (0, pad), zero_point, r)
    source, target = Buffer("x", 1, width, channels), Buffer("y", 1, width, channels)
    expected = "mbx_depthwise_line_dsp" if pad % dilation == 0 else "mbx_depthwise_line"
    assert kernel_of(call, source, target) == expected
    check_twins(call, source, target, seed)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.tuples(zero_points, zero_points, zero_points),
    st.tuples(multipliers_q31, multipliers_q31),
    st.integers(-22, 0),
    st.integers(-22, -1),
    st.booleans(),
    lengths,
    channel_counts,
    seeds,
)
def test_add_dsp(
    points: tuple[int, int, int],
    multipliers: tuple[int, int],
    scaled_shift: int,
    shift: int,
    swapped: bool,
    width: int,
    channels: int,
    seed: int,
) -> None:
    inputs = [(1 << 30, 0), (multipliers[0], scaled_shift)][:: -1 if swapped else 1]
    all_multipliers = (inputs[0][0], inputs[1][0], multipliers[1])
    call = Addition("a", 0, 1, 2, points, all_multipliers, (inputs[0][1], inputs[1][1], shift), -128, 127)
    source, target = Buffer("x", 1, width, channels), Buffer("y", 1, width, channels)
    assert kernel_of(call, source, target) == "mbx_add_dsp"
    check_twins(call, source, target, seed)


def test_calls_that_no_kernel_of_the_set_takes() -> None:
    """Each condition of a fast kernel, broken by one."""

    def pointwise(weight: int, bias: int, shift: int = -5, low: int = -128) -> str:
        r = Requantization(np.array([bias]), np.array([1 << 30], np.int32), np.array([shift], np.int8), 0, low, 127)
        call = Pointwise("p", 0, 1, 2, np.array([[weight]], np.int8), r)
        return kernel_of(call, Buffer("x", 1, 2, 1), Buffer("y", 1, 2, 1))

    limit = (1 << 22) - 1 - 127 * 128
    assert pointwise(-127, limit) == pointwise(127, -limit) == "mbx_pointwise_dsp"
    broken = [pointwise(-128, 0), pointwise(127, limit + 1), pointwise(127, -limit - 1), pointwise(1, 0, 0)]
    broken += [pointwise(1, 0, 1), pointwise(1, 0, -23), pointwise(1, 0, low=0)]
    assert set(broken) == {"mbx_pointwise"}

    def depthwise(bias: int, channels: int = 4, kernel: int = 2) -> str:
        arrays = (np.full(channels, bias), np.full(channels, 1 << 30, np.int32), np.full(channels, -5, np.int8))
        weights = np.full((1, kernel, channels), -128, np.int8)
        r = Requantization(*arrays, 0, -128, 127)
        call = Convolution("d", 0, 1, True, weights, (1, kernel), (1, 1), (1, 1), (0, (kernel - 1) // 2), -128, r)
        return kernel_of(call, Buffer("x", 1, 5, channels), Buffer("y", 1, 5, channels))

    # Folded, the bias is 128 * 256 less; both taps together reach that, too.
    limit = (1 << 30) - 1
    assert depthwise(limit) == depthwise(-limit + 2 * 128 * 256) == "mbx_depthwise_line_dsp"
    assert depthwise(limit + 1) == depthwise(-limit + 2 * 128 * 256 - 1) == "mbx_depthwise_line"
    assert depthwise(0, channels=6) == depthwise(0, kernel=48) == "mbx_depthwise_line"


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
