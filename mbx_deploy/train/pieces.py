"""Pieces of sound that a training window is put together from."""

import numpy as np

from mbx_deploy.train.augment import slack

FADE_SAMPLES = 80


def laid(clip: np.ndarray, start: int, size: int) -> np.ndarray:
    """Return silence of a size with a clip from `start` on, which may lie before it; float32 (size,)."""
    wave = np.zeros(size, np.float32)
    source, target = max(-start, 0), max(start, 0)
    piece = clip[source : source + size - target]
    wave[target : target + len(piece)] = piece
    return wave


def loud_part(wave: np.ndarray) -> tuple[int, int]:
    """Return the first and last sample of a clip's loud part, by slack()."""
    earliest, latest = slack(wave)
    if earliest == 0 and latest == 0 and not np.any(wave):
        return 0, len(wave)
    return -earliest, len(wave) - latest


def scaled(wave: np.ndarray, level: float, db: float) -> np.ndarray:
    """Return a sound whose root mean square is so many dB above a level, float32 (n,); silence stays as it is."""
    own = float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0
    return wave * np.float32(level / own * 10.0 ** (db / 20.0)) if own and level else wave


def faded(wave: np.ndarray) -> np.ndarray:
    """Return a sound faded in and out over 5 ms, float32 (n,)."""
    size = min(FADE_SAMPLES, len(wave) // 2)
    out = wave.copy()
    if size:
        ramp = np.linspace(0.0, 1.0, size, dtype=np.float32)
        out[:size] *= ramp
        out[-size:] *= ramp[::-1]
    return out
