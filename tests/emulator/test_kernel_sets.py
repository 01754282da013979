"""Every set of kernels on its core, in QEMU: the simulator's bytes for single calls of any shape and quantization."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.compiler.proofs import verify_program
from mbx_deploy.engines.session import ITEM_CLIP, TRACE_STAGES, Item
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import Addition, Average, Buffer, Call, Convolution, Maximum, Pointwise, Requantization
from mbx_deploy.system.tools import find_tool
from tests.emulator.test_kernels_m4 import CONFIGS, check_same
from tests.made.firmware import FirmwareBuilder
from tests.made.kernel_batch import Job, KernelBatch
from tests.made.tflite import random_weights, small_artifact
from tests.parity.test_frontend_c import SIGNALS, signal
from tests.parity.test_kernels import (
    geometries,
    lengths,
    multipliers_q31,
    requantizations,
    requantizations_dsp,
    right_shifts,
    run_twin,
    seeds,
    zero_points,
)

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m55")
JOBS = 40  # of a start of the emulator
pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]
wide = st.integers(1, 70) | st.sampled_from((16, 32, 64, 128))


@st.composite
def any_requantization(draw: st.DrawFn, magnitudes: np.ndarray, zero_point: int) -> Requantization:
    """Draw a requantization: what fast kernels take, at one of their limits now and then, or anything that is valid."""
    if draw(st.sampled_from((True, True, False))):
        limit = draw(st.sampled_from((1 << 22, 1 << 29, 1 << 30)))
        return draw(requantizations_dsp(magnitudes * (128 + abs(zero_point)), limit))
    return draw(requantizations(len(magnitudes), int(magnitudes.max()) * (128 + abs(zero_point))))


@st.composite
def pointwise_jobs(draw: st.DrawFn) -> tuple[Call, Buffer, Buffer]:
    positions, inside, outside = draw(st.integers(1, 18)), draw(wide), draw(wide)
    weights = random_weights(np.random.default_rng(draw(seeds)), (outside, inside))
    magnitudes = np.abs(weights.astype(np.int64)).sum(axis=1)
    call = Pointwise("p", 0, 1, positions, weights, draw(any_requantization(magnitudes, 0)))
    return call, Buffer("x", 1, positions, inside), Buffer("y", 1, positions, outside)


@st.composite
def line_jobs(draw: st.DrawFn) -> tuple[Call, Buffer, Buffer]:
    width, channels = draw(st.integers(1, 40)), draw(st.integers(1, 19) | st.sampled_from((4, 8, 64)))
    kernel, dilation, point = draw(st.integers(1, 50)), draw(st.integers(1, 3)), draw(zero_points)
    weights = random_weights(np.random.default_rng(draw(seeds)), (1, kernel, channels))
    magnitudes = np.abs(weights.astype(np.int64)).sum(axis=(0, 1))
    r = draw(any_requantization(magnitudes, point))
    where = ((1, kernel), (1, 1), (1, dilation), (0, (kernel - 1) * dilation // 2), point, r)
    call = Convolution("d", 0, 1, True, weights, *where)
    return call, Buffer("x", 1, width, channels), Buffer("y", 1, width, channels)


@st.composite
def convolution_jobs(draw: st.DrawFn) -> tuple[Call, Buffer, Buffer]:
    g, depthwise, point = draw(geometries()), draw(st.booleans()), draw(zero_points)
    inside, factor = draw(st.integers(1, 19)), draw(st.integers(1, 3))
    outside = inside * factor if depthwise else draw(st.integers(1, 9))
    shape = (*g["kernel"], outside) if depthwise else (outside, *g["kernel"], inside)
    weights = random_weights(np.random.default_rng(draw(seeds)), shape)
    magnitudes = np.abs(weights.astype(np.int64)).sum(axis=(0, 1) if depthwise else (1, 2, 3))
    r = draw(any_requantization(magnitudes, point))
    call = Convolution("c", 0, 1, depthwise, weights, g["kernel"], g["stride"], g["dilation"], g["pad"], point, r)
    return call, Buffer("x", *g["size"], inside), Buffer("y", *g["out"], outside)


@st.composite
def addition_jobs(draw: st.DrawFn) -> tuple[Call, Buffer, Buffer]:
    three = [draw(st.tuples(multipliers_q31, right_shifts)) for _ in range(3)]
    if draw(st.sampled_from((True, True, False))):  # TFLite's: one input has half of its scale
        three[draw(st.integers(0, 1))] = (1 << 30, 0)
        three[2] = (three[2][0], -draw(st.integers(1, 22)))
    points = draw(st.tuples(zero_points, zero_points, zero_points))
    low, high = draw(st.sampled_from(((-128, 127), (-128, 127), (points[2], 127), (-3, 4))))
    multipliers, shifts = zip(*three, strict=True)
    call = Addition("a", 0, 1, 2, points, multipliers, shifts, low, high)
    shape = (1, draw(lengths), draw(wide))
    return call, Buffer("x", *shape), Buffer("y", *shape)


@st.composite
def reduction_jobs(draw: st.DrawFn) -> tuple[Call, Buffer, Buffer]:
    height, width, channels = draw(lengths), draw(st.integers(1, 40)), draw(wide)
    axes = draw(st.sampled_from(((0, 1), (1,))))
    factors = (draw(multipliers_q31), draw(st.integers(-31, 12)))
    mean = Average("m", 0, 1, draw(zero_points), draw(zero_points), *factors, axes)
    call: Call = mean if draw(st.booleans()) else Maximum("m", 0, 1, axes)
    rows = 1 if axes == (0, 1) else height
    return call, Buffer("x", height, width, channels), Buffer("y", rows, 1, channels)


@st.composite
def rounding_jobs(draw: st.DrawFn) -> tuple[Call, Buffer, Buffer]:
    """Draw calls whose sums are their biases: at the ties of the second rounding, and beside them."""
    rng, channels = np.random.default_rng(draw(seeds)), 128
    shift = rng.integers(1, draw(st.sampled_from((3, 10, 20))), channels)
    multiplier = rng.integers(1 << 30, 1 << 31, channels)
    multiplier[rng.random(channels) < 0.3] = draw(st.sampled_from((1 << 30, (1 << 31) - 1, 3 << 29)))
    ties = (2 * rng.integers(-140, 140, channels) + 1) << (shift - 1)
    bias = (ties << 31) // multiplier + rng.integers(-1, 3, channels)
    low, high = draw(st.sampled_from(((-128, 127), (-128, 127), (-3, 4))))
    r = Requantization(bias, multiplier.astype(np.int32), -shift.astype(np.int8), draw(zero_points), low, high)
    positions = draw(st.integers(1, 5))
    pointwise = Pointwise("p", 0, 1, positions, np.zeros((channels, channels), np.int8), r)
    where = ((1, 1), (1, 1), (1, 1), (0, 0), 0, r)
    line = Convolution("d", 0, 1, True, np.zeros((1, 1, channels), np.int8), *where)
    call: Call = pointwise if draw(st.booleans()) else line
    return call, Buffer("x", 1, positions, channels), Buffer("y", 1, positions, channels)


KINDS = (rounding_jobs(), pointwise_jobs(), line_jobs(), addition_jobs(), convolution_jobs(), reduction_jobs())


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """Draw many calls of every kind that the compiler would not refuse, on random and on extreme inputs."""
    drawn = []
    for number in range(JOBS):
        call, source, target = draw(KINDS[number % len(KINDS)])
        rng = np.random.default_rng(draw(seeds))
        values = draw(st.sampled_from(("any", "ends", "lowest", "highest")))
        choices = {"any": np.arange(-128, 128), "ends": (-128, 127), "lowest": (-128,), "highest": (127,)}[values]
        count = 2 if isinstance(call, Addition) else 1
        inputs = [rng.choice(np.array(choices, np.int8), source.shape) for _ in range(count)]
        job = Job(call, source, target, inputs)
        if count == 1:
            try:
                verify_program(job.program)
            except InputError:
                continue
        drawn.append(job)
    return drawn


@pytest.fixture(scope="module", params=CORES)
def batch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KernelBatch:
    return KernelBatch(find_target(request.param), tmp_path_factory.mktemp(request.param))


def check(batch: KernelBatch, drawn: list[Job]) -> None:
    for job, results in zip(drawn, batch.run(drawn), strict=True):
        expected = run_twin(job.call, job.inputs, job.target)
        for name, got in results:
            np.testing.assert_array_equal(got, expected, f"{name}: {job.source.shape} -> {job.target.shape}")


many = settings(
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.large_base_example, HealthCheck.too_slow,
                           HealthCheck.data_too_large],
)  # fmt: skip


@settings(many, max_examples=2)
@given(drawn=jobs())
def test_calls(batch: KernelBatch, drawn: list[Job]) -> None:
    check(batch, drawn)


@pytest.mark.slow
@settings(many, max_examples=8)
@given(drawn=jobs())
def test_more_calls(batch: KernelBatch, drawn: list[Job]) -> None:
    check(batch, drawn)


def test_the_calls_need_every_kernel(batch: KernelBatch) -> None:
    """The fast kernels of the set, and the portable ones that stand in where their conditions are not met."""
    kernel_set = batch.target.kernels
    found: Counter[str] = Counter()

    @settings(many, max_examples=12, derandomize=True)
    @given(drawn=jobs())
    def count(drawn: list[Job]) -> None:
        found.update(job.kernel(kernel_set).name for job in drawn)

    count()
    # Helium's ADD, MEAN and MAX take every call, and little of the DSP set stands in for it.
    fast = ("pointwise_dsp", "depthwise_line_dsp", "conv_2d_dsp", "add_dsp")
    replaced = {f"mbx_{name}" for name in (*fast, "add", "mean", "max")}
    never = replaced if kernel_set == "helium" else set()
    assert set(batch.kernels) - set(found) == never, found


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_front_ends_without_a_long_multiply(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    recognizer = parse_model(small_artifact(config), name)
    clips = [Item(ITEM_CLIP, signal(kind, config.clip_samples, config, 3)) for kind in SIGNALS]
    engine = FirmwareBuilder(find_target("cortex-m0plus"), tmp_path).engine(recognizer)
    check_same(engine, recognizer, clips, TRACE_STAGES)
