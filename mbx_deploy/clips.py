"""Clips of a split, drawn evenly over the labels: what activations are calibrated on and formats compared on."""

from pathlib import Path

import numpy as np

from mbx_deploy.audio import fit_clip, read_recording
from mbx_deploy.errors import InputError
from mbx_deploy.frontend import FrontendConfig
from mbx_deploy.train.dataset import SILENCE, UNKNOWN, command_words, list_split, load_noise, silence_clips

SEED = 0


def draw_clips(root: Path, split: str, labels: tuple[str, ...], frontend: FrontendConfig, count: int) -> np.ndarray:
    """Return clips of one split, int16 (n, clip_samples), n <= count: drawn evenly over the
    labels, by a fixed seed.

    A label with too few recordings gives all that it has. "unknown" is any word that is no label,
    "silence" is cut from the background noise.
    """
    rng = np.random.default_rng(SEED)
    names = list_split(root, split)
    words = command_words(labels)
    clips: list[np.ndarray] = []
    for number, label in enumerate(labels):
        share = count // len(labels) + (number < count % len(labels))
        if label == SILENCE:
            clips += list(silence_clips(load_noise(root, split), share, rng, frontend.clip_samples))
            continue
        own = [name for name in names if _label(name, words) == label]
        if not own:
            raise InputError(f"no {split} clips of a label ({root}): got none of {label!r}, need some")
        for index in sorted(rng.choice(len(own), min(share, len(own)), replace=False)):
            samples = read_recording(root / own[index], frontend.sample_rate_hz).samples
            clips.append(fit_clip(samples, frontend.clip_samples))
    return np.stack(clips)


def _label(name: str, words: tuple[str, ...]) -> str:
    """Return the label of a clip named "<word>/<file>"."""
    word = name.split("/")[0]
    return word if word in words else UNKNOWN
