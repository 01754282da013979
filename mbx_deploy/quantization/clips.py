"""Clips of a split, drawn evenly over the labels: what activations are calibrated on and formats compared on."""

from pathlib import Path

import numpy as np

from mbx_deploy.data.audio import fit_clip
from mbx_deploy.data.dataset import SILENCE, list_utterances, load_noise, silence_clips
from mbx_deploy.data.protocols import class_of
from mbx_deploy.data.recordings import read_utterance
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig

SEED = 0


def draw_clips(root: Path, split: str, labels: tuple[str, ...], frontend: FrontendConfig, count: int) -> np.ndarray:
    """Return clips of one split, int16 (n, clip_samples), n <= count: drawn evenly over the
    labels, by a fixed seed.

    root: a data set, a folder or a manifest. A label with too few recordings gives all that it has. "unknown" is any
    word that is no label, "silence" is cut from the background noise.
    """
    rng = np.random.default_rng(SEED)
    utterances = list_utterances(root, split)
    clips: list[np.ndarray] = []
    for number, label in enumerate(labels):
        share = count // len(labels) + (number < count % len(labels))
        if label == SILENCE:
            clips += list(silence_clips(load_noise(root, split), share, rng, frontend.clip_samples))
            continue
        own = [utterance for utterance in utterances if class_of(utterance.label, labels) == label]
        if not own:
            raise InputError(f"no {split} clips of a label ({root}): got none of {label!r}, need some")
        for index in sorted(rng.choice(len(own), min(share, len(own)), replace=False)):
            samples = read_utterance(own[index], frontend.sample_rate_hz)
            clips.append(fit_clip(samples, frontend.clip_samples))
    return np.stack(clips)
