"""The boards' shared audio code in C, compiled for this machine, with instances of ample size."""

import ctypes

import numpy as np

from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import compile_shared_library

FLAGS = ("-O2", "-DMBX_AUDIO_QUEUE_SAMPLES=64u")
QUEUE_SAMPLES = 64


def audio_library() -> ctypes.CDLL:
    """Return parts/audio as a library; its queue holds 64 samples."""
    folder = firmware_templates_folder() / "parts" / "audio"
    library = ctypes.CDLL(str(compile_shared_library({p.name: p.read_text() for p in folder.glob("*.[ch]")}, FLAGS)))
    library.mbx_audio_queue_peek.restype = ctypes.POINTER(ctypes.c_int16)
    for name in ("mbx_audio_queue_waiting", "mbx_audio_queue_lost", "mbx_double_buffer_take"):
        getattr(library, name).restype = ctypes.c_uint32
    return library


class Queue(ctypes.Structure):
    """mbx_audio_queue."""

    _fields_ = (
        ("samples", ctypes.c_int16 * QUEUE_SAMPLES),
        ("written", ctypes.c_uint32),
        ("read", ctypes.c_uint32),
        ("overrun_blocks", ctypes.c_uint32),
        ("overrun_samples", ctypes.c_uint32),
        ("missed_blocks", ctypes.c_uint32),
        ("gaps", ctypes.c_uint32 * 8),
        ("gaps_written", ctypes.c_uint32),
        ("gaps_read", ctypes.c_uint32),
        ("pending", ctypes.c_uint32),
        ("dropping", ctypes.c_uint32),
    )


class DoubleBuffer(ctypes.Structure):
    """mbx_double_buffer."""

    _fields_ = (("last", ctypes.c_uint32),)


class Pdm:
    """An mbx_pdm."""

    def __init__(self, library: ctypes.CDLL, gain_q4: int) -> None:
        self.library, self.state = library, ctypes.create_string_buffer(32768)
        library.mbx_pdm_init(self.state, gain_q4)

    def decimate(self, words: np.ndarray) -> np.ndarray:
        """Return the samples of uint16 words, eight for each."""
        samples = np.empty(len(words) // 8, np.int16)
        words = np.ascontiguousarray(words, np.uint16)
        self.library.mbx_pdm_decimate(self.state, _pointer(words), _pointer(samples), len(samples))
        return samples


class Pcm:
    """An mbx_pcm."""

    def __init__(self, library: ctypes.CDLL, gain_q4: int) -> None:
        self.library, self.state = library, ctypes.create_string_buffer(64)
        library.mbx_pcm_init(self.state, gain_q4)

    def condition(self, samples: np.ndarray) -> np.ndarray:
        """Return the conditioned samples."""
        result = np.array(samples, np.int16)
        self.library.mbx_pcm_condition(self.state, _pointer(result), len(result))
        return result


def sigma_delta(signal: np.ndarray) -> np.ndarray:
    """Return the bits (0 or 1) of a second-order modulator for a signal within +-1, as a PDM microphone has one."""
    bits = np.empty(len(signal), np.uint8)
    first = second = 0.0
    for i, value in enumerate(signal.tolist()):
        out = 1.0 if second >= 0 else -1.0
        bits[i] = out > 0
        first += value - out
        second += first - 2 * out
    return bits


def _pointer(values: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)
