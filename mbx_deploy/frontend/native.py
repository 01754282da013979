"""The C front end on this machine: the same bytes as the simulator, some five times as fast, without the GIL."""

import ctypes
from typing import Literal

import numpy as np

from mbx_deploy.frontend.config import OPTIONS_DEFINED, FrontendConfig
from mbx_deploy.frontend.tables import FrontendTables, build_tables, fold_dct
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.tools import compile_shared_library

_TABLES = (
    ("window_q29", np.int32),
    ("twiddle_q31", np.int32),
    ("mel_first", np.uint16),
    ("mel_count", np.uint16),
    ("mel_weights_q32", np.uint32),
    ("log_q24", np.int32),
    ("dct_q31", np.int32),
)


class _Frontend(ctypes.Structure):
    """The struct mbx_frontend of firmware_templates/runtime/frontend/mbx_frontend.h."""

    _fields_ = [
        *((name, ctypes.c_uint16) for name in ("window_length", "hop_length", "n_fft", "lead", "n_mels", "n_mfcc")),
        ("zero_edges", ctypes.c_uint16),
        ("dct_folds", ctypes.c_uint16),
        ("preemphasis_q30", ctypes.c_int32),
        ("ln2_q24", ctypes.c_int32),
        ("log_bias_q24", ctypes.c_int32),
        ("magnitude", ctypes.c_uint16),
        ("log_clamp", ctypes.c_uint16),
        ("log_offset", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name, _ in _TABLES),
    ]


class HostFrontend:
    """Computes features of many clips with the C that the firmware runs, compiled for this machine."""

    def __init__(self, config: FrontendConfig, tables: FrontendTables | None = None) -> None:
        """Compile the C (once for each version of it). Raises ToolMissing where there is no gcc."""
        self.config = config
        self.tables = tables or build_tables(config)
        headers = ("mbx_fixed_point.h", "mbx_runtime.h", "mbx_frontend.h", "mbx_frontend_options.h")
        names = (*headers, "mbx_frontend.c", "mbx_frontend_options.c", "mbx_host_frontend.c")
        sources = {name: runtime_file(name).read_text() for name in names}
        sources["mbx_frontend.c"] = OPTIONS_DEFINED + sources["mbx_frontend.c"]
        self._run = ctypes.CDLL(str(compile_shared_library(sources))).mbx_host_coefficients
        self._run.argtypes = [
            ctypes.POINTER(_Frontend),
            ctypes.c_void_p,
            *[ctypes.c_int64] * 3,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._run.restype = None
        folds, dct_weights = fold_dct(self.tables)
        arrays = {name: getattr(self.tables, name) for name, _ in _TABLES} | {"dct_q31": dct_weights}
        self._arrays = [np.ascontiguousarray(arrays[name], kind) for name, kind in _TABLES]
        self._frontend = _Frontend(
            config.window_length,
            config.hop_length,
            config.n_fft,
            config.lead,
            config.n_mels,
            config.n_mfcc,
            config.edge == "zero",
            folds,
            self.tables.preemphasis_q30,
            self.tables.ln2_q24,
            self.tables.log_bias_q24,
            config.spectrum == "magnitude",
            config.log_guard == "clamp",
            self.tables.log_offset,
            *[array.ctypes.data for array in self._arrays],
        )

    def coefficients(self, samples: np.ndarray) -> np.ndarray:
        """Return the coefficients of clips that stand alone, int32 in Q16: (clips, num_frames, num_coefficients).

        samples: int16 (clips, clip_samples). The same bytes as mbx_deploy.sim.frontend.coefficients(), clip by clip.
        """
        config = self.config
        if samples.dtype != np.int16 or samples.ndim != 2 or samples.shape[1] != config.clip_samples:
            raise ValueError(f"need int16 (clips, {config.clip_samples}), got {samples.dtype} {samples.shape}")
        mode: Literal["reflect", "constant"] = "reflect" if config.edge == "reflect" else "constant"
        padded = np.ascontiguousarray(np.pad(samples, ((0, 0), (config.lead, config.lead)), mode=mode))
        out = np.zeros((len(samples), config.audio_frames, config.num_coefficients), np.int32)
        scratch = np.zeros(config.n_fft // 2 + 1 + config.n_mels, np.uint64)
        self._run(
            ctypes.byref(self._frontend),
            padded.ctypes.data,
            len(samples),
            padded.shape[1],
            config.audio_frames,
            out.ctypes.data,
            scratch.ctypes.data,
        )
        return np.pad(out, ((0, 0), (config.pad_frames_before, config.pad_frames_after), (0, 0)))
