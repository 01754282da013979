"""Clips of a split, drawn evenly over the labels: what activations are calibrated on and formats compared on.

A windowed model hears a clip alone, a streaming one hears it in running audio, after noise or another word.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbx_deploy.data.audio import fit_clip
from mbx_deploy.data.context import in_context
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.dataset import (
    CLIP_SAMPLES,
    SILENCE,
    UNKNOWN,
    Split,
    command_words,
    list_utterances,
    load_noise,
    load_split,
    silence_clips,
)
from mbx_deploy.data.protocols import class_of
from mbx_deploy.data.recordings import map_utterances
from mbx_deploy.data.synthesis import speak_some
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.continuous import ContinuousFrontend
from mbx_deploy.frontend.native import HostFrontend

SEED = 0
MOST_SPOKEN = 50  # other words, where the data hold none


class SplitFeatures:
    """The front end's coefficients of a data set's splits, as a model hears them."""

    def __init__(self, root: Path, labels: tuple[str, ...], frontend: FrontendConfig, streaming: bool) -> None:
        """frontend: the model's, of its window."""
        self.root, self.labels, self.streaming = root, labels, streaming
        self._clip_config = dataclasses.replace(frontend, clip_samples=CLIP_SAMPLES) if streaming else frontend
        self._front_end = ContinuousFrontend(frontend) if streaming else HostFrontend(frontend)

    def load(self, split: str) -> tuple[Split, np.ndarray]:
        """Return a split's clips, and the coefficients of each, int32 (N, num_frames, num_coefficients)."""
        clips = load_split(self.root, split, self.labels, self._clip_config.clip_samples)
        silence = self.labels.index(SILENCE) if SILENCE in self.labels else -1
        return clips, self._coefficients(clips.samples, clips.classes != silence, split)

    def draw(self, split: str, count: int) -> np.ndarray:
        """Return the coefficients of draw_clips() of a split."""
        clips, labels = _draw(self.root, split, self.labels, self._clip_config, count)
        return self._coefficients(clips, np.array([label != SILENCE for label in labels]), split)

    def _coefficients(self, clips: np.ndarray, spoken: np.ndarray, split: str) -> np.ndarray:
        if not isinstance(self._front_end, ContinuousFrontend):
            return self._front_end.coefficients(clips)
        noise = load_noise(self.root, split)
        return self._front_end.coefficients(in_context(clips, spoken, noise, self._front_end.window_samples))


def draw_clips(root: Path, split: str, labels: tuple[str, ...], frontend: FrontendConfig, count: int) -> np.ndarray:
    """Return clips of one split, int16 (n, clip_samples), n <= count: drawn evenly over the
    labels, by a fixed seed.

    root: a data set, a folder or a manifest. A label with too few recordings gives all that it has. "unknown" is any
    word that is no label, or spoken by espeak-ng where there is none, "silence" is cut from the background noise.
    """
    return _draw(root, split, labels, frontend, count)[0]


def _other_words(labels: Sequence[str], count: int, clip_samples: int) -> list[np.ndarray]:
    """Return clips of other words as espeak-ng speaks them, for data that hold none; none where it is not installed."""
    try:
        spoken = speak_some(command_words(labels), min(count, MOST_SPOKEN), SEED)
    except ToolMissing:
        return []
    return [fit_clip(samples, clip_samples) for samples in spoken.samples]


def _draw(
    root: Path, split: str, labels: tuple[str, ...], frontend: FrontendConfig, count: int
) -> tuple[np.ndarray, list[str]]:
    """Return draw_clips(), and the label of each clip."""
    rng = np.random.default_rng(SEED)
    utterances = list_utterances(root, split)
    clips: list[np.ndarray] = []
    drawn: list[str] = []
    chosen: list[tuple[int, Utterance]] = []  # with their places among the clips
    for number, label in enumerate(labels):
        share = count // len(labels) + (number < count % len(labels))
        if label == SILENCE:
            clips += list(silence_clips(load_noise(root, split), share, rng, frontend.clip_samples))
            drawn += [label] * share
            continue
        own = [utterance for utterance in utterances if class_of(utterance.label, labels) == label]
        if not own and label == UNKNOWN:
            spoken = _other_words(labels, share, frontend.clip_samples)
            clips += spoken
            drawn += [label] * len(spoken)
            continue
        if not own:
            raise InputError(f"no {split} clips of a label ({root}): got none of {label!r}, need some")
        for index in sorted(rng.choice(len(own), min(share, len(own)), replace=False)):
            chosen.append((len(clips), own[index]))
            clips.append(np.zeros(0, np.int16))
            drawn.append(label)
    sounds = map_utterances(
        [utterance for _, utterance in chosen],
        lambda _, __, samples: fit_clip(samples, frontend.clip_samples),
        sample_rate_hz=frontend.sample_rate_hz,
    )
    for (place, _), clip in zip(chosen, sounds, strict=True):
        clips[place] = clip
    return np.stack(clips), drawn
