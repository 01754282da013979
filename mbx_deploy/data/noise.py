"""Noise mixed into clips at a ratio."""

import numpy as np


def mix(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return wave + noise, float32 (n,), the noise scaled to snr_db below the wave's mean power.

    Where either of them is digital silence there is no such scale: the wave comes back as it was.
    """
    wave_power = float(np.dot(wave, wave))
    noise_power = float(np.dot(noise, noise))
    if wave_power == 0.0 or noise_power == 0.0:
        return wave
    scale = (wave_power / noise_power * 10.0 ** (-snr_db / 10.0)) ** 0.5
    return wave + noise * np.float32(scale)
