"""The recogniser's framing and states: any chunks, any lengths, any configuration; and what misuse returns."""

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.c import ProgramEngine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, TRACE_LAYERS, TRACE_STAGES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.sim import frontend as sim
from mbx_deploy.system.tools import compile_program
from tests.made.c_recognizer import (
    CORE_BYTES,
    ERROR_ARGUMENT,
    ERROR_STATE,
    OK,
    WINDOW_READY,
    CResult,
    Instance,
    library,
)
from tests.made.tflite import small_artifact
from tests.parity.test_frontend_c import configs

chunk_lists = st.lists(st.sampled_from((1, 2, 3, 7, 64, 512, 100000)) | st.integers(1, 300), min_size=1, max_size=8)
seeds = st.integers(0, 2**32 - 1)
SMALL = FrontendConfig(clip_samples=300, window_length=64, hop_length=24, n_fft=64, n_mels=5, n_mfcc=4)
# hop >= window / 2: the last frame may be complete before the clip is.
EARLY = FrontendConfig(clip_samples=395, window_length=64, hop_length=60, n_fft=64, n_mels=5, n_mfcc=4)
EVERY_SAMPLE = FrontendConfig(clip_samples=100, window_length=16, hop_length=1, n_fft=64, n_mels=5, n_mfcc=4)
ABUTTING = FrontendConfig(clip_samples=300, window_length=64, hop_length=64, n_fft=64, center=False, n_mels=5, n_mfcc=0)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(configs(12), st.floats(0, 1.3) | st.sampled_from((0.0, 1.0)), st.integers(-2, 2), chunk_lists, seeds)
@example(EARLY, 1.0, 0, [7], 0)
@example(EVERY_SAMPLE, 1.0, 0, [7], 0)
@example(ABUTTING, 1.0, 0, [7], 0)
def test_a_clip_in_chunks(config: FrontendConfig, part: float, more: int, chunks: list[int], seed: int) -> None:
    """A clip of any length (the end of a long one cut off, as every engine does) gives the simulator's features."""
    length = min(config.clip_samples, max(0, round(part * config.clip_samples) + more))
    samples = np.random.default_rng(seed).integers(-32768, 32768, length).astype(np.int16)
    instance = Instance(config, stride_frames=1)
    instance.feed_all(samples, chunks)
    if instance.finish() == WINDOW_READY:
        assert instance.run() == OK
    padded = np.pad(samples, (0, config.clip_samples - length))
    assert len(instance.seen) == 1
    np.testing.assert_array_equal(instance.seen[0], instance.quantized(sim.coefficients(padded, instance.tables)))
    instance.check_guards()


@settings(max_examples=40, deadline=None)
@given(configs(12), st.floats(0, 4), st.integers(1, 12), chunk_lists, seeds)
@example(EARLY, 3.0, 1, [7], 0)
@example(EVERY_SAMPLE, 1.5, 3, [7], 0)
@example(ABUTTING, 3.0, 1, [7], 0)
def test_a_stream_in_chunks(config: FrontendConfig, part: float, stride: int, chunks: list[int], seed: int) -> None:
    stride = min(stride, config.audio_frames)
    samples = np.random.default_rng(seed).integers(-32768, 32768, round(part * config.clip_samples)).astype(np.int16)
    instance = Instance(config, stride)
    instance.feed_all(samples, chunks)
    frames = sim.frame_coefficients(sim.stream_frames(samples, instance.tables), instance.tables)
    starts = range(0, len(frames) - config.audio_frames + 1, stride)
    windows = [sim.pad_frames(frames[start : start + config.audio_frames], config) for start in starts]
    expected = [instance.quantized(window) for window in windows]
    assert len(instance.seen) == len(expected)
    for got, want in zip(instance.seen, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    instance.check_guards()


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(configs(12), st.floats(0, 4), st.integers(1, 12), chunk_lists, seeds)
def test_streams_often(config: FrontendConfig, part: float, stride: int, chunks: list[int], seed: int) -> None:
    test_a_stream_in_chunks.hypothesis.inner_test(config, part, stride, chunks, seed)  # type: ignore[attr-defined]


@pytest.mark.parametrize("config", [SMALL, EARLY, ABUTTING], ids=["centred", "early", "abutting"])
def test_init_sets_back(config: FrontendConfig) -> None:
    """After any use, an instance that is set up again answers as a new one."""
    rng = np.random.default_rng(5)
    instance = Instance(config, 1)
    samples = rng.integers(-32768, 32768, config.clip_samples).astype(np.int16)
    for spoilt in (0, 1, 33, config.clip_samples - 1, 3 * config.clip_samples):
        assert instance.init() == OK
        instance.feed_all(rng.integers(-32768, 32768, spoilt).astype(np.int16), [50])
        assert instance.init() == OK
        instance.seen.clear()
        instance.feed_all(samples, [100])
        if instance.finish() == WINDOW_READY:
            assert instance.run() == OK
        np.testing.assert_array_equal(instance.seen[0], instance.quantized(sim.coefficients(samples, instance.tables)))


def test_null_arguments() -> None:
    instance = Instance(SMALL, 1)
    lib, core, result = library(), ctypes.addressof(instance.core), CResult()
    model, memory = ctypes.addressof(instance.model), ctypes.addressof(instance.c_memory)
    samples, consumed = np.zeros(10, np.int16), ctypes.c_size_t(0)
    where, count = samples.ctypes.data, ctypes.addressof(consumed)
    for arguments in ((None, model, memory), (core, None, memory), (core, model, None)):
        assert lib.mbx_init(*arguments) == ERROR_ARGUMENT
    for fed in ((None, where, 10, count), (core, None, 10, count), (core, where, 10, None)):
        assert lib.mbx_feed(*fed) == ERROR_ARGUMENT
    assert lib.mbx_feed(core, None, 0, count) == OK
    assert lib.mbx_finish_clip(None) == ERROR_ARGUMENT
    assert lib.mbx_run(None, ctypes.addressof(result)) == lib.mbx_run(core, None) == ERROR_ARGUMENT
    assert lib.mbx_run_features(None, where, ctypes.addressof(result)) == ERROR_ARGUMENT
    assert lib.mbx_run_features(core, None, ctypes.addressof(result)) == ERROR_ARGUMENT
    assert lib.mbx_run_features(core, where, None) == ERROR_ARGUMENT


def test_an_instance_that_was_never_set_up() -> None:
    core, result, consumed = ctypes.create_string_buffer(CORE_BYTES), CResult(), ctypes.c_size_t(7)
    lib, where = library(), ctypes.addressof(core)
    sample = np.zeros(1, np.int16)
    assert lib.mbx_feed(where, sample.ctypes.data, 1, ctypes.addressof(consumed)) == ERROR_ARGUMENT
    assert lib.mbx_finish_clip(where) == lib.mbx_run(where, ctypes.addressof(result)) == ERROR_ARGUMENT


def test_states() -> None:
    instance = Instance(SMALL, 1)
    clip = np.arange(300, dtype=np.int16)
    assert instance.run() == ERROR_STATE, "no window"
    assert instance.feed(clip) == (OK, 300)
    assert instance.run() == ERROR_STATE, "the clip is not finished"
    assert instance.finish() == WINDOW_READY
    assert instance.feed(clip)[0] == ERROR_STATE and instance.feed(clip)[1] == 0, "fed after the end"
    assert instance.finish() == ERROR_STATE, "finished twice"
    assert instance.run() == OK
    assert instance.run() == ERROR_STATE, "run twice"
    assert instance.finish() == ERROR_STATE


def test_a_window_that_is_ready_takes_no_samples() -> None:
    instance = Instance(SMALL, 1)
    status, taken = instance.feed(np.zeros(1000, np.int16))
    assert status == WINDOW_READY and taken < 1000
    assert instance.feed(np.zeros(5, np.int16)) == (WINDOW_READY, 0)
    assert instance.run() == OK
    assert instance.feed(np.zeros(5, np.int16)) == (OK, 5)


@pytest.mark.parametrize("config", [SMALL, ABUTTING], ids=["centred", "abutting"])
def test_a_stream_is_no_clip(config: FrontendConfig) -> None:
    instance = Instance(config, 1)
    instance.feed_all(np.zeros(config.clip_samples + 1, np.int16), [1])
    assert instance.finish() == ERROR_STATE


# --- generated programs ---

PROGRAMS = {
    "centred": (FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4), 3),
    "early": (FrontendConfig(clip_samples=995, window_length=64, hop_length=60, n_fft=64, n_mels=7, n_mfcc=7), 1),
    "not centred": (
        FrontendConfig(
            clip_samples=1000, window_length=100, hop_length=50, n_fft=128, center=False, n_mels=9, n_mfcc=0
        ),
        2,
    ),
    "padded": (
        FrontendConfig(
            clip_samples=700, window_length=80, hop_length=41, n_fft=128, n_mels=6, n_mfcc=5, pad_frames_before=3,
            pad_frames_after=4,
        ),
        18,
    ),
}  # fmt: skip


def program_engine(recognizer: CompiledModel, stride: int, flags: tuple[str, ...] = ("-O1",)) -> ProgramEngine:
    """Return the engine of a project that was generated for this machine."""
    files: dict[str, Any] = generate_project(recognizer, find_target("host"), stride_frames=stride)
    sources = {name: text for name, text in files.items() if name.endswith((".c", ".h"))}
    return ProgramEngine(recognizer, compile_program(sources, flags))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_give_the_simulators_bytes(name: str) -> None:
    """Clips of every critical length, streams, features: results and traces."""
    config, stride = PROGRAMS[name]
    stride = min(stride, config.audio_frames)
    recognizer = parse_model(small_artifact(config), name)
    rng = np.random.default_rng(8)
    clip, lead = config.clip_samples, config.lead
    counts = [0, 1, 7, lead, lead + 1, config.window_length, clip - 1, clip, clip + 1, 3 * clip]
    items = [
        Item(kind, rng.integers(-32768, 32768, count).astype(np.int16), int(rng.choice((1, 33, 512))))
        for kind in (ITEM_CLIP, ITEM_STREAM)
        for count in counts
    ]
    items += [Item(ITEM_FEATURES, rng.integers(-128, 128, config.num_frames * config.num_coefficients, dtype=np.int8))]
    results = program_engine(recognizer, stride).run(items, TRACE_LAYERS)
    expected = SimEngine(recognizer, stride).run(items, TRACE_LAYERS)
    for item, got, want in zip(items, results, expected, strict=True):
        assert len(got) == len(want), (item.kind, len(item.values))
        for one, other in zip(got, want, strict=True):
            assert list(one.stages) == list(other.stages)
            for stage, values in other.stages.items():
                np.testing.assert_array_equal(one.stages[stage], values, f"{stage}, {item.kind}, {len(item.values)}")
            np.testing.assert_array_equal(one.logits, other.logits)
            np.testing.assert_array_equal(one.posteriors_q15, other.posteriors_q15)
    assert len({tuple(result.logits) for result_list in expected for result in result_list}) > 10, (
        "all answers are alike"
    )


def test_a_trace_of_every_stage() -> None:
    config, stride = PROGRAMS["not centred"]
    recognizer = parse_model(small_artifact(config), "x")
    items = [Item(ITEM_CLIP, np.random.default_rng(2).integers(-9000, 9000, 1000).astype(np.int16))]
    got = program_engine(recognizer, stride).run(items, TRACE_STAGES)[0][0]
    want = SimEngine(recognizer, stride).run(items, TRACE_STAGES)[0][0]
    assert list(got.stages) == list(want.stages)
    for stage, values in want.stages.items():
        np.testing.assert_array_equal(got.stages[stage], values, stage)
