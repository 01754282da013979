"""The recogniser's C in this process, through ctypes.

In the place of a network stands a function of ours that notes the features it is given, so that no configuration needs
a compiler of its own.
"""

import ctypes

import numpy as np

from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend, _Frontend
from mbx_deploy.frontend.tables import build_tables, feature_multiplier
from mbx_deploy.sim import frontend as sim
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import compile_shared_library

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
        *((name, POINTER) for name in ("exponentials_q15", "decision", "stream", "silent_frame")),
        ("tail_frames", U16),
    ]


class CRule(ctypes.Structure):
    """mbx_decision_rule."""

    _fields_ = [
        ("num_classes", U16),
        *((name, U8) for name in ("smoothing", "rows")),
        ("rest_samples", U32),
        *((name, POINTER) for name in ("thresholds_q15", "release_q15", "is_word")),
    ]


PARTS = (
    "history",
    "coefficients",
    "ring",
    "arena",
    "posteriors_q15",
    "logits",
    "decision_classes",
    "recent_q15",
)
CORE_BYTES = 1024  # ample for an mbx_recognizer


class CMemory(ctypes.Structure):
    """mbx_memory."""

    _fields_ = [(name, POINTER) for name in PARTS]


class CEvent(ctypes.Structure):
    """mbx_event."""

    _fields_ = [("word", U16), ("score_q15", U16), ("samples", ctypes.c_uint64)]


class CResult(ctypes.Structure):
    """mbx_result."""

    _fields_ = [
        ("logits", POINTER),
        ("posteriors_q15", POINTER),
        ("label", U16),
        ("score_q15", U16),
        ("event", CEvent),
    ]


_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Return the runtime, compiled once."""
    global _library
    if _library is None:
        root, kept = firmware_templates_folder() / "runtime", ("base", "frontend", "network", "recognizer")
        paths = [path for folder in kept for path in sorted((root / folder).glob("mbx_*.[ch]"))]
        sources = {path.name: path.read_text() for path in paths if path.name != "mbx_host_frontend.c"}
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
        self.memory: dict[str, np.ndarray] = {
            "history": np.zeros(config.window_length + 3 + 2 * GUARD, np.int16),
            "coefficients": np.zeros(config.num_coefficients + 2 * GUARD, np.int32),
            "ring": np.zeros(config.audio_frames * config.num_coefficients + 2 * GUARD, np.int8),
            "arena": np.zeros(-(-arena_bytes // 8) + 2 * GUARD, np.uint64),
            "posteriors_q15": np.zeros(CLASSES + 2 * GUARD, np.uint16),
            "logits": np.zeros(CLASSES + 2 * GUARD, np.int8),
            "decision_classes": np.zeros(3 * CLASSES + 2 * GUARD, np.uint16),
            "recent_q15": np.zeros(CLASSES + 2 * GUARD, np.uint16),
        }
        for array in self.memory.values():
            array.view(np.uint8)[:] = 0xA5  # an application's memory holds anything
        addresses = {name: array.ctypes.data + GUARD * array.itemsize for name, array in self.memory.items()}
        self.exponentials = np.arange(32768, 32768 - 256, -1).astype(np.uint16)
        multiplier, shift = feature_multiplier(scale)
        self.callback = INVOKE(self._invoke)
        self.levels, self.words = np.full(CLASSES, 40000, np.uint16), np.ones(CLASSES, np.uint8)
        levels = self.levels.ctypes.data
        self.rule = CRule(CLASSES, 1, 1, 0, levels, levels, self.words.ctypes.data)
        self.model = CModel(
            ctypes.pointer(self.host._frontend), config.clip_samples, config.audio_frames, config.pad_frames_before,
            config.pad_frames_after, config.num_coefficients, CLASSES, stride_frames, multiplier, shift, zero_point,
            arena_bytes, 0, self.feature_bytes, self.callback, self.exponentials.ctypes.data,
            ctypes.addressof(self.rule), None, None, 0,
        )  # fmt: skip
        self.c_memory = CMemory(*(addresses[name] for name in PARTS))
        self.core = ctypes.create_string_buffer(CORE_BYTES)
        assert self.init() == OK

    def _invoke(self, arena: int, observe: int | None, context: int | None) -> None:
        values = (ctypes.c_int8 * (self.feature_bytes + CLASSES)).from_address(arena)
        array: np.ndarray = np.frombuffer(values, np.int8)  # type: ignore[call-overload]
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
