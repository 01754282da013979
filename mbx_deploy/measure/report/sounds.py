"""What the report's front end is shown on: a sound that needs no recording, and the front end in floats beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbx_deploy.frontend.config import COEFFICIENT_FRACTION_BITS, LOG_MEL_FRACTION_BITS, FrontendConfig
from mbx_deploy.frontend.tables import FrontendTables, dct_matrix, hann_window, mel_filterbank
from mbx_deploy.sim import frontend as sim_frontend

_SEED = 20260101
_SYNTHETIC_LEVELS_DB = (-3, -12, -24, -36)


def synthetic_sounds(config: FrontendConfig) -> np.ndarray:
    """Return clips that need no recording, int16 (n, clip_samples): at some levels a rising sweep, and noise in bursts.

    The same configuration gives the same samples.
    """
    length, random = config.clip_samples, np.random.default_rng(_SEED)
    part = np.arange(length) / length
    highest = 0.45 * config.sample_rate_hz
    # An exponential sweep: its phase is the integral of low * (high / low)^part.
    low, ratio = 100.0, highest / 100.0
    phase = 2 * np.pi * low * length / config.sample_rate_hz * (ratio**part - 1.0) / np.log(ratio)
    swell = np.sin(np.pi * part) ** 2
    sweep = swell * (np.sin(phase) + 0.4 * np.sin(2 * np.pi * 3.0 * part + phase / 2))
    bursts = random.normal(0.0, 0.3, length) * (np.sin(2 * np.pi * 4 * part) > 0.2)
    clips = []
    for level_db in _SYNTHETIC_LEVELS_DB:
        for sound in (sweep / np.abs(sweep).max(), np.clip(bursts, -1.0, 1.0)):
            faint = random.normal(0.0, 2e-4, length)
            clips.append(np.clip(np.rint(32767 * (10 ** (level_db / 20) * sound + faint)), -32768, 32767))
    return np.stack(clips).astype(np.int16)


def float_log_mel(samples: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Return ln(mel energy + log_offset) of a clip in float64, or what config asks for: (audio_frames, n_mels).

    samples: int16 (clip_samples,). numpy's transform and logarithm; of the integer front end
    nothing but its parameters.
    """
    real = samples * (config.sample_gain / 32768.0)
    if config.preemphasis:
        real = np.concatenate([real[:1], real[1:] - config.preemphasis * real[:-1]])
    if config.lead:
        real = np.pad(real, config.lead, mode="reflect" if config.edge == "reflect" else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(real, config.window_length)[:: config.hop_length]
    windowed = frames[: config.audio_frames] * hann_window(config.window_length, config.window == "hann_periodic")
    mel = np.abs(np.fft.rfft(windowed, config.n_fft)) ** config.exponent @ mel_filterbank(config).T
    guarded = np.maximum(mel, config.log_offset) if config.log_guard == "clamp" else mel + config.log_offset
    decibels = 20.0 / (config.exponent * np.log(10.0)) if config.log_scale == "decibel" else 1.0
    return np.asarray(decibels * np.log(guarded))


@dataclass(frozen=True)
class Spectrograms:
    """One clip's, float and fixed. log_mels: float64 (audio_frames, n_mels), in the front end's logarithm. coefficient
    errors: absolute.
    """

    float_log_mel: np.ndarray
    fixed_log_mel: np.ndarray
    largest_coefficient_error: float
    rms_coefficient_error: float

    @property
    def difference(self) -> np.ndarray:
        """Return fixed minus float."""
        error: np.ndarray = self.fixed_log_mel - self.float_log_mel
        return error

    @property
    def largest_log_mel_error(self) -> float:
        """Return the largest difference, as a magnitude."""
        return float(np.abs(self.difference).max())


def spectrograms(samples: np.ndarray, tables: FrontendTables) -> Spectrograms:
    """Return a clip's spectrograms by the float front end and by the integer one."""
    config = tables.config
    stages: dict[str, np.ndarray] = {}
    sim_frontend.coefficients(samples, tables, stages.__setitem__)
    log_mel = float_log_mel(samples, config)
    wanted = log_mel @ dct_matrix(config.n_mfcc, config.n_mels, config.dct_norm).T if config.n_mfcc else log_mel
    error = stages["coefficients"] * (tables.unit / 2.0**COEFFICIENT_FRACTION_BITS) - wanted
    return Spectrograms(
        float_log_mel=log_mel,
        fixed_log_mel=stages["log_mel"] * (tables.unit / 2.0**LOG_MEL_FRACTION_BITS),
        largest_coefficient_error=float(np.abs(error).max()),
        rms_coefficient_error=float(np.sqrt(np.mean(error**2))),
    )


def integer_coefficients(clips: Sequence[np.ndarray] | np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return the coefficients of clips by the simulator, int32 Q16: (clips, num_frames, num_coefficients)."""
    return np.stack([sim_frontend.coefficients(clip, tables) for clip in clips])
