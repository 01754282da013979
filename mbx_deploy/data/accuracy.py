"""What an engine's answers on a split are worth: accuracies, the confusion matrix, intervals over speakers, noise.

Of logits, whichever engine they are from; torch is not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbx_deploy.data.dataset import SILENCE, Split, command_words, noise_clip
from mbx_deploy.data.noise import mix
from mbx_deploy.errors import InputError

NOISE_SNRS_DB = (20.0, 10.0, 5.0, 0.0, -5.0, -10.0)
NOISE_SEED = 1
_RESAMPLES = 1000


@dataclass(frozen=True)
class Evaluation:
    """A model on one split. Accuracies are fractions of 1, a label without clips has no recall.

    command_accuracy: clips of the command words that got their word, chosen among all classes.
    balanced_accuracy: the mean of the recalls.
    """

    command_accuracy: float
    command_clips: int
    balanced_accuracy: float
    recall: dict[str, float]
    clips: int

    @property
    def score(self) -> float:
        """Return what epochs are compared by: words must be right, and unknown and silence not
        forgotten.
        """
        return (self.command_accuracy + self.balanced_accuracy) / 2.0


def measure(logits: np.ndarray, split: Split) -> Evaluation:
    """Return how well the largest of the logits, (N, classes), names the split's clips."""
    right = logits.argmax(axis=1) == split.classes
    recall = {
        label: float(right[split.indices_of(label)].mean()) for label in split.labels if len(split.indices_of(label))
    }
    words = [split.indices_of(word) for word in command_words(split.labels)]
    commands = np.concatenate(words) if words else np.zeros(0, dtype=np.int64)
    return Evaluation(
        command_accuracy=float(right[commands].mean()) if len(commands) else 0.0,
        command_clips=len(commands),
        balanced_accuracy=sum(recall.values()) / len(recall),
        recall=recall,
        clips=len(split),
    )


def noisy_clips(split: Split, snr_db: float, seed: int = NOISE_SEED) -> np.ndarray:
    """Return the split's clips in its own part of the background noise, int16 (N, samples).

    snr_db is the clip's mean power over the noise's. The same seed cuts the same noise for a clip
    at every ratio. A sum that is over full scale is turned down. Silence stays as it is. Raises
    InputError for a split without background noise.
    """
    if not split.noise:
        raise InputError("no background noise to measure in: got none, need recordings in _background_noise_")
    silence = split.labels.index(SILENCE) if SILENCE in split.labels else -1
    out = split.samples.copy()
    for number, clip in enumerate(split.samples):
        if split.classes[number] == silence:
            continue
        rng = np.random.default_rng([seed, number])
        noise = noise_clip(split.noise, rng, len(clip)).astype(np.float32)
        wave = mix(clip.astype(np.float32), noise, snr_db)
        peak = float(np.abs(wave).max())
        if peak > 32767.0:
            wave *= np.float32(32767.0 / peak)
        out[number] = np.rint(wave).astype(np.int16)
    return out


def confusion_matrix(logits: np.ndarray, split: Split) -> np.ndarray:
    """Return how many clips of each class (rows) were given each class (columns), int64."""
    count = len(split.labels)
    pairs = split.classes * count + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def command_interval(logits: np.ndarray, split: Split) -> tuple[float, float]:
    """Return the 95 % interval of the command words' accuracy, over speakers; see speaker_interval()."""
    indices = [split.indices_of(word) for word in command_words(split.labels)]
    commands = np.concatenate(indices) if indices else np.zeros(0, dtype=np.int64)
    if not len(commands):
        return 0.0, 0.0
    right = logits.argmax(axis=1)[commands] == split.classes[commands]
    voices = split.voices
    return speaker_interval(right, [voices[number] for number in commands])


def speaker_interval(right: np.ndarray, voices: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of the share of right clips, bool (N,), by drawing speakers, not clips, anew.

    voices: who speaks each clip. Errors come in clusters, a few hard voices, so clips are not independent.
    Source: B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    _, numbers = np.unique(voices, return_inverse=True)
    clips_of = np.bincount(numbers)
    right_of = np.bincount(numbers, weights=right)
    drawn = np.random.default_rng(0).integers(len(clips_of), size=(_RESAMPLES, len(clips_of)))
    shares = right_of[drawn].sum(axis=1) / clips_of[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (of a sample), least and most of two values or more."""
    found = np.array(values, dtype=np.float64)
    return {
        "mean": float(found.mean()),
        "std": float(found.std(ddof=1)),
        "least": float(found.min()),
        "most": float(found.max()),
    }


def speakers(split: Split) -> set[str]:
    """Return who speaks in a split; a clip of which nothing says so is a speaker of its own, silence is none."""
    return {voice for voice, name in zip(split.voices, split.names, strict=True) if not name.startswith(f"{SILENCE}/")}
