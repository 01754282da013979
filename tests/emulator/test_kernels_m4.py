"""The Cortex-M4's kernels and front end in QEMU: the simulator's bytes, in every layer and every stage."""

from collections import Counter

import numpy as np
import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.session import (
    ITEM_CLIP,
    ITEM_FEATURES,
    ITEM_STREAM,
    TRACE_LAYERS,
    TRACE_RESULTS,
    TRACE_STAGES,
    Item,
)
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.tools import find_tool
from tests.made.firmware import FirmwareBuilder
from tests.made.random_networks import random_recognizer
from tests.made.tflite import small_artifact
from tests.parity.test_frontend_c import SIGNALS, signal

TARGET = find_target("cortex-m4")
QUICK_SEEDS = range(12)
SLOW_SEEDS = range(12, 36)
CONFIGS = {
    "64 points, few mels": FrontendConfig(
        clip_samples=700, window_length=50, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4
    ),
    "128 points, no DCT": FrontendConfig(
        clip_samples=900, window_length=100, hop_length=70, n_fft=128, center=False, n_mels=9, n_mfcc=0
    ),
    "256 points, one mel": FrontendConfig(
        clip_samples=900, window_length=256, hop_length=200, n_fft=256, n_mels=1, n_mfcc=1, log_offset=1e-9
    ),
    "1024 points, padded": FrontendConfig(
        clip_samples=4000, window_length=640, hop_length=320, n_fft=1024, n_mels=41, n_mfcc=13, pad_frames_before=2
    ),
    "2048 points, full window": FrontendConfig(
        clip_samples=5000, window_length=2048, hop_length=1000, n_fft=2048, n_mels=127, n_mfcc=65, pad_frames_after=1
    ),
}

pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> FirmwareBuilder:
    return FirmwareBuilder(TARGET, tmp_path_factory.mktemp("networks"))


def check_same(engine: Engine, recognizer: CompiledModel, items: list[Item], trace: int) -> None:
    expected = SimEngine(recognizer, 1).run(items, trace)
    for item, got, want in zip(items, engine.run(items, trace), expected, strict=True):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert list(one.stages) == list(other.stages)
            for stage, values in other.stages.items():
                np.testing.assert_array_equal(one.stages[stage], values, f"{stage}, {item.kind}")
            np.testing.assert_array_equal(one.logits, other.logits)
            np.testing.assert_array_equal(one.posteriors_q15, other.posteriors_q15)


def inputs(recognizer: CompiledModel, seed: int) -> list[Item]:
    """Return features: noise, the ends of int8, and one value that stands out."""
    rng = np.random.default_rng(seed)
    count = recognizer.config.num_frames * recognizer.config.num_coefficients
    impulse = np.full(count, -128, np.int8)
    impulse[rng.integers(count)] = 127
    values = [rng.integers(-128, 128, count, dtype=np.int8) for _ in range(3)]
    values += [np.full(count, value, np.int8) for value in (-128, 127, 0)]
    values += [rng.choice(np.array([-128, 127], np.int8), count), impulse]
    return [Item(ITEM_FEATURES, value) for value in values]


def kernels_of(recognizer: CompiledModel) -> list[str]:
    return [kernel.name for kernel in plan_memory(recognizer.program, TARGET.kernels).kernels]


def test_the_networks_need_every_kernel() -> None:
    """The fast kernels, and those that stand in where their conditions are not met."""
    found = Counter(name for seed in QUICK_SEEDS for name in kernels_of(random_recognizer(seed)))
    fast = {"mbx_pointwise_dsp": 40, "mbx_depthwise_line_dsp": 10, "mbx_add_dsp": 20, "mbx_conv_2d_dsp": 3}
    portable = {
        "mbx_dense": 10,
        "mbx_pointwise": 10,
        "mbx_depthwise_line": 10,
        "mbx_add": 3,
        "mbx_conv_2d": 2,
        "mbx_mean": 12,
    }
    assert all(found[name] >= least for name, least in (fast | portable).items()), found
    assert set(found) == set(fast | portable)


def check_network(builder: FirmwareBuilder, seed: int) -> None:
    recognizer = random_recognizer(seed)
    check_same(builder.engine(recognizer), recognizer, inputs(recognizer, seed), TRACE_LAYERS)


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_networks(seed: int, builder: FirmwareBuilder) -> None:
    check_network(builder, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_more_networks(seed: int, builder: FirmwareBuilder) -> None:
    check_network(builder, seed)


@pytest.mark.parametrize("name", CONFIGS)
def test_front_ends(name: str, builder: FirmwareBuilder) -> None:
    config = CONFIGS[name]
    recognizer = parse_model(small_artifact(config), name)
    engine = builder.engine(recognizer)
    length = config.clip_samples
    clips = [Item(ITEM_CLIP, signal(kind, length, config, number)) for number, kind in enumerate(SIGNALS)]
    check_same(engine, recognizer, clips, TRACE_STAGES)
    streams = [Item(ITEM_STREAM, signal(kind, 2 * length, config, 7), 77) for kind in ("noise", "quiet")]
    check_same(engine, recognizer, streams, TRACE_RESULTS)
