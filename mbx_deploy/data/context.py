"""Words in running audio: what a streaming model's window holds when a word has just been said.

Each clip comes after noise or after another word of its split, by a fixed draw: the same clips are measured in the same
company by whoever measures.
"""

from collections.abc import Sequence

import numpy as np

from mbx_deploy.data.dataset import SAMPLE_RATE_HZ, noise_clip

# How long before its window's end a clip ends; a word, with a clip's quiet end, some 0.2 to 0.6 s before.
CLIP_END_S = (0.0, 0.3)
_NOISE_DB = (-25.0, -8.0)  # against the clip's root mean square
_WORD_DB = (-8.0, 4.0)


def in_context(
    clips: np.ndarray, spoken: np.ndarray, noise: Sequence[np.ndarray], window_samples: int, seed: int = 0
) -> np.ndarray:
    """Return windows, int16 (N, window_samples), at whose end the clips are.

    clips: int16 (N, n); where one is too long, its beginning is outside the window. spoken: bool (N,); what is not
    spoken, silence, fills its window. noise: recordings of it, int16 (n,) each; without one it is white. Window i
    depends on the seed, i and the clips only.
    """
    words = np.flatnonzero(spoken)
    out = np.zeros((len(clips), window_samples), np.int16)
    for number, clip in enumerate(clips):
        rng = np.random.default_rng([seed, number])
        if not spoken[number]:
            out[number] = np.resize(clip, window_samples)
            continue
        end = window_samples - round(rng.uniform(*CLIP_END_S) * SAMPLE_RATE_HZ)
        start = max(end - len(clip), 0)
        wave = np.zeros(window_samples, np.float32)
        wave[start:end] = clip[len(clip) - (end - start) :]
        level = _root_mean_square(wave[start:end])
        if not start:
            before, db = wave[:0], 0.0
        elif rng.random() < 0.5:
            other = clips[words[int(rng.integers(len(words)))]][-start:].astype(np.float32)
            before, db = other, rng.uniform(*_WORD_DB)
        else:
            drawn = noise_clip(noise, rng, start) if noise else rng.normal(0.0, 1000.0, start)
            before, db = np.asarray(drawn, np.float32), rng.uniform(*_NOISE_DB)
        own = _root_mean_square(before)
        if own:
            wave[start - len(before) : start] = before * np.float32(level / own * 10.0 ** (db / 20.0))
        out[number] = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    return out


def _root_mean_square(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0
