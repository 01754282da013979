"""The recogniser's framing and states: any chunks, any lengths, any configuration; and what misuse returns.

The runtime runs in this process through ctypes. In the place of a network stands a function of ours that notes the
features it is given, so that every drawn configuration needs no compiler.
"""

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mbx_deploy.codegen import generate_project
from mbx_deploy.engines import ProgramEngine, SimEngine
from mbx_deploy.frontend import FrontendConfig, build_tables, feature_multiplier
from mbx_deploy.host_frontend import HostFrontend, _Frontend
from mbx_deploy.recognizer import Recognizer, parse_recognizer
from mbx_deploy.resources import firmware_templates_folder
from mbx_deploy.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, TRACE_LAYERS, TRACE_STAGES, Item
from mbx_deploy.sim import frontend as sim
from mbx_deploy.target import find_target
from mbx_deploy.toolchain import compile_program, compile_shared_library
from tests.property.test_frontend_c import configs
from tests.tflite_builder import small_artifact

OK, WINDOW_READY, ERROR_ARGUMENT, ERROR_STATE = range(4)
CLASSES = 3
GUARD = 32
U8, U16, U32, I8, I32, POINTER = (
    ctypes.c_uint8,
    ctypes.c_uint16,
    ctypes.c_uint32,
    ctypes.c_int8,
    ctypes.c_int32,
    ctypes.c_void_p,
)
INVOKE = ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER)


class CModel(ctypes.Structure):
    """mbx_model."""

    _fields_ = [
        ("frontend", ctypes.POINTER(_Frontend)),
        ("clip_samples", U32),
        *((name, U16) for name in ("audio_frames", "pad_frames_before", "pad_frames_after", "coefficients")),
        *((name, U16) for name in ("num_classes", "stride_frames")),
        ("feature_multiplier", I32),
        *((name, I8) for name in ("feature_shift", "feature_zero_point")),
        *((name, U32) for name in ("arena_bytes", "input_offset", "output_offset")),
        ("invoke", INVOKE),
        ("exponentials_q15", POINTER),
    ]


class CMemory(ctypes.Structure):
    """mbx_memory."""

    _fields_ = [(name, POINTER) for name in ("history", "coefficients", "ring", "arena", "posteriors_q15", "logits")]


class CRecognizer(ctypes.Structure):
    """mbx_recognizer."""

    _fields_ = [
        ("model", POINTER),
        ("memory", CMemory),
        *((name, U32) for name in ("history_count", "clip_remaining", "ring_head", "frames_until_window")),
        *((name, U8) for name in ("started", "finished", "window_ready", "overlong")),
        *((name, POINTER) for name in ("observe", "context")),
    ]


class CResult(ctypes.Structure):
    """mbx_result."""

    _fields_ = [("logits", POINTER), ("posteriors_q15", POINTER), ("label", U16), ("score_q15", U16)]


_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Return the runtime, compiled once."""
    global _library
    if _library is None:
        folder = firmware_templates_folder() / "src"
        sources = {path.name: path.read_text() for path in sorted(folder.iterdir())}
        _library = ctypes.CDLL(str(compile_shared_library(sources)))
        _library.mbx_feed.argtypes = [POINTER, POINTER, ctypes.c_size_t, POINTER]
        _library.mbx_run_features.argtypes = [POINTER, POINTER, POINTER]
        for name in ("mbx_init", "mbx_finish_clip", "mbx_run"):
            getattr(_library, name).argtypes = [POINTER] * {"mbx_init": 3, "mbx_finish_clip": 1, "mbx_run": 2}[name]
    return _library


class Instance:
    """One instance of the recogniser; seen holds the features of every window that was run."""

    def __init__(self, config: FrontendConfig, stride_frames: int, scale: float = 0.05, zero_point: int = -7) -> None:
        self.tables = build_tables(config)
        self.config, self.scale, self.zero_point = config, scale, zero_point
        self.host = HostFrontend(config, self.tables)
        self.seen: list[np.ndarray] = []
        self.feature_bytes = config.num_frames * config.num_coefficients
        arena_bytes = max(8 * (config.n_fft // 2 + 1 + config.n_mels), self.feature_bytes + CLASSES)
        self.memory = {
            "history": np.zeros(config.window_length + 2 + 2 * GUARD, np.int16),
            "coefficients": np.zeros(config.num_coefficients + 2 * GUARD, np.int32),
            "ring": np.zeros(config.audio_frames * config.num_coefficients + 2 * GUARD, np.int8),
            "arena": np.zeros(-(-arena_bytes // 8) + 2 * GUARD, np.uint64),
            "posteriors_q15": np.zeros(CLASSES + 2 * GUARD, np.uint16),
            "logits": np.zeros(CLASSES + 2 * GUARD, np.int8),
        }
        for array in self.memory.values():
            array.view(np.uint8)[:] = 0xA5  # an application's memory holds anything
        addresses = {name: array.ctypes.data + GUARD * array.itemsize for name, array in self.memory.items()}
        self.exponentials = np.arange(32768, 32768 - 256, -1).astype(np.uint16)
        multiplier, shift = feature_multiplier(scale)
        self.callback = INVOKE(self._invoke)
        self.model = CModel(
            ctypes.pointer(self.host._frontend), config.clip_samples, config.audio_frames, config.pad_frames_before,
            config.pad_frames_after, config.num_coefficients, CLASSES, stride_frames, multiplier, shift, zero_point,
            arena_bytes, 0, self.feature_bytes, self.callback, self.exponentials.ctypes.data,
        )  # fmt: skip
        self.c_memory = CMemory(*(addresses[name] for name, _ in CMemory._fields_))
        self.core = CRecognizer()
        assert self.init() == OK

    def _invoke(self, arena: int, observe: int | None, context: int | None) -> None:
        values = (ctypes.c_int8 * (self.feature_bytes + CLASSES)).from_address(arena)
        array = np.frombuffer(values, np.int8)
        self.seen.append(array[: self.feature_bytes].copy())
        array[-CLASSES:] = (-5, 9, 9)

    def init(self) -> int:
        """Return the status of mbx_init."""
        return int(library().mbx_init(*map(ctypes.addressof, (self.core, self.model, self.c_memory))))

    def feed(self, samples: np.ndarray) -> tuple[int, int]:
        """Return the status of mbx_feed and the samples that it took."""
        consumed = ctypes.c_size_t(12345)
        kept = np.ascontiguousarray(samples, np.int16).copy()
        status = library().mbx_feed(
            ctypes.addressof(self.core), kept.ctypes.data, len(kept), ctypes.addressof(consumed)
        )
        return int(status), int(consumed.value)

    def finish(self) -> int:
        """Return the status of mbx_finish_clip."""
        return int(library().mbx_finish_clip(ctypes.addressof(self.core)))

    def run(self) -> int:
        """Return the status of mbx_run; checks what the result says."""
        result = CResult()
        status = int(library().mbx_run(ctypes.addressof(self.core), ctypes.addressof(result)))
        if status == OK:
            assert result.label == 1, "the first of two equal logits"
            logits = (ctypes.c_int8 * CLASSES).from_address(result.logits)
            assert list(logits) == [-5, 9, 9]
            scores = (ctypes.c_uint16 * CLASSES).from_address(result.posteriors_q15)
            assert result.score_q15 == scores[1] == scores[2] > scores[0]
        return status

    def feed_all(self, samples: np.ndarray, chunks: list[int]) -> None:
        """Feed in chunks, the last size for the rest, running each window when it is ready."""
        position, number = 0, 0
        while position < len(samples):
            size = chunks[min(number, len(chunks) - 1)]
            number += 1
            end = min(position + size, len(samples))
            while position < end:
                status, taken = self.feed(samples[position:end])
                position += taken
                assert status in (OK, WINDOW_READY) and (status == WINDOW_READY or position == end)
                if status == WINDOW_READY:
                    assert self.run() == OK

    def check_guards(self) -> None:
        """Fail where the runtime wrote beside its memory."""
        for name, array in self.memory.items():
            around = np.concatenate([array[:GUARD], array[-GUARD:]]).view(np.uint8)
            assert (around == 0xA5).all(), f"{name} is left"

    def quantized(self, coefficients: np.ndarray) -> np.ndarray:
        """Return what a window of these coefficients, padded frames included, looks like to the network."""
        return sim.quantize_features(coefficients, self.scale, self.zero_point).ravel()


chunk_lists = st.lists(st.sampled_from((1, 2, 3, 7, 64, 512, 100000)) | st.integers(1, 300), min_size=1, max_size=8)
seeds = st.integers(0, 2**32 - 1)
SMALL = FrontendConfig(clip_samples=300, window_length=64, hop_length=24, n_fft=64, n_mels=5, n_mfcc=4)
# hop >= window / 2: the last frame may be complete before the clip is.
EARLY = FrontendConfig(clip_samples=395, window_length=64, hop_length=60, n_fft=64, n_mels=5, n_mfcc=4)
EVERY_SAMPLE = FrontendConfig(clip_samples=100, window_length=16, hop_length=1, n_fft=64, n_mels=5, n_mfcc=4)
ABUTTING = FrontendConfig(clip_samples=300, window_length=64, hop_length=64, n_fft=64, center=False, n_mels=5, n_mfcc=0)


@settings(max_examples=80, deadline=None)
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


@settings(max_examples=80, deadline=None)
@given(configs(12), st.floats(0, 4), st.integers(1, 12), chunk_lists, seeds)
@example(EARLY, 3.0, 1, [7], 0)
@example(EVERY_SAMPLE, 1.5, 3, [7], 0)
@example(ABUTTING, 3.0, 1, [7], 0)
def test_a_stream_in_chunks(config: FrontendConfig, part: float, stride: int, chunks: list[int], seed: int) -> None:
    stride = min(stride, config.audio_frames)
    samples = np.random.default_rng(seed).integers(-32768, 32768, round(part * config.clip_samples)).astype(np.int16)
    instance = Instance(config, stride)
    instance.feed_all(samples, chunks)
    frames = sim.frame_coefficients(sim.stream_frames(samples, config), instance.tables)
    starts = range(0, len(frames) - config.audio_frames + 1, stride)
    windows = [sim.pad_frames(frames[start : start + config.audio_frames], config) for start in starts]
    expected = [instance.quantized(window) for window in windows]
    assert len(instance.seen) == len(expected)
    for got, want in zip(instance.seen, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    instance.check_guards()


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
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
    for arguments in ((None, where, 10, count), (core, None, 10, count), (core, where, 10, None)):
        assert lib.mbx_feed(*arguments) == ERROR_ARGUMENT
    assert lib.mbx_feed(core, None, 0, count) == OK
    assert lib.mbx_finish_clip(None) == ERROR_ARGUMENT
    assert lib.mbx_run(None, ctypes.addressof(result)) == lib.mbx_run(core, None) == ERROR_ARGUMENT
    assert lib.mbx_run_features(None, where, ctypes.addressof(result)) == ERROR_ARGUMENT
    assert lib.mbx_run_features(core, None, ctypes.addressof(result)) == ERROR_ARGUMENT
    assert lib.mbx_run_features(core, where, None) == ERROR_ARGUMENT


def test_an_instance_that_was_never_set_up() -> None:
    core, result, consumed = CRecognizer(), CResult(), ctypes.c_size_t(7)
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
        FrontendConfig(clip_samples=1000, window_length=100, hop_length=50, n_fft=128, center=False, n_mels=9, n_mfcc=0),
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


def program_engine(recognizer: Recognizer, stride: int, flags: tuple[str, ...] = ("-O1",)) -> ProgramEngine:
    """Return the engine of a project that was generated for this machine."""
    files: dict[str, Any] = generate_project(recognizer, find_target("host"), stride_frames=stride)
    sources = {name: text for name, text in files.items() if name.endswith((".c", ".h"))}
    return ProgramEngine(recognizer, compile_program(sources, flags))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_give_the_simulators_bytes(name: str) -> None:
    """Clips of every critical length, streams, features: results and traces."""
    config, stride = PROGRAMS[name]
    stride = min(stride, config.audio_frames)
    recognizer = parse_recognizer(small_artifact(config), name)
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
    assert len({tuple(result.logits) for result_list in expected for result in result_list}) > 10, "all answers are alike"


def test_a_trace_of_every_stage() -> None:
    config, stride = PROGRAMS["not centred"]
    recognizer = parse_recognizer(small_artifact(config), "x")
    items = [Item(ITEM_CLIP, np.random.default_rng(2).integers(-9000, 9000, 1000).astype(np.int16))]
    got = program_engine(recognizer, stride).run(items, TRACE_STAGES)[0][0]
    want = SimEngine(recognizer, stride).run(items, TRACE_STAGES)[0][0]
    assert list(got.stages) == list(want.stages)
    for stage, values in want.stages.items():
        np.testing.assert_array_equal(got.stages[stage], values, stage)
