"""How well a float model does on a split, its features taken from the device's front end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mbx_deploy.errors import InputError
from mbx_deploy.host_frontend import HostFrontend
from mbx_deploy.train.augment import float_features, mix
from mbx_deploy.train.checkpoint import CheckpointInfo
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.dataset import SILENCE, Split, command_words, load_split, noise_clip

_BATCH = 256
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


def evaluate(module: nn.Module, config: TrainConfig | CheckpointInfo, data_root: Path, split: str) -> Evaluation:
    """Return the float model's measure on "validation" or "testing", features from the device's
    front end.
    """
    clips = load_split(data_root, split, config.labels, config.frontend.clip_samples)
    return measure(predict(module, clip_inputs(HostFrontend(config.frontend), clips.samples)), clips)


def predict(module: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Return logits, float32 (N, classes), of float32 (N, C, 1, T)."""
    was_training = module.training
    module.eval()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        parts = [module(x.to(device)).cpu().numpy() for x in inputs.split(_BATCH)]
    module.train(was_training)
    return np.concatenate(parts)


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


def to_inputs(features: np.ndarray) -> torch.Tensor:
    """Return float32 (N, C, 1, T), a view with channels last in memory, of float32 (N, T, C)."""
    return torch.from_numpy(features).permute(0, 2, 1).unsqueeze(2)


def clip_inputs(front_end: HostFrontend, clips: np.ndarray) -> torch.Tensor:
    """Return the network's inputs, float32 (N, C, 1, T), of unchanged clips, int16 (N, samples)."""
    return to_inputs(float_features(front_end, clips))


def evaluation_report(
    module: nn.Module,
    config: TrainConfig | CheckpointInfo,
    data_root: Path,
    split: str = "testing",
    snrs_db: Sequence[float] = NOISE_SNRS_DB,
) -> dict[str, Any]:
    """Return what a model card says of the float model on a split, as JSON takes it.

    Accuracies with the words' 95 % interval, recalls, the confusion matrix (rows are the truth), and
    the words' accuracy among all classes under the split's own background noise. Raises InputError
    for data that is missing, or that holds no background noise where snrs_db asks for it.
    """
    clips = load_split(data_root, split, config.labels, config.frontend.clip_samples)
    front_end = HostFrontend(config.frontend)
    logits = predict(module, clip_inputs(front_end, clips.samples))
    found = measure(logits, clips)
    noise = []
    for snr_db in snrs_db:
        noisy = measure(predict(module, clip_inputs(front_end, noisy_clips(clips, snr_db))), clips)
        row = {"snr_db": snr_db, "command_accuracy": noisy.command_accuracy, "recall": noisy.recall}
        noise.append({**row, "balanced_accuracy": noisy.balanced_accuracy})
    return {
        "split": split,
        "clips": found.clips,
        "command_clips": found.command_clips,
        "command_accuracy": found.command_accuracy,
        "command_accuracy_interval": list(command_interval(logits, clips)),
        "balanced_accuracy": found.balanced_accuracy,
        "recall": found.recall,
        "labels": list(clips.labels),
        "confusion": confusion_matrix(logits, clips).tolist(),
        "noise": noise,
        "noise_seed": NOISE_SEED,
    }


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
    """Return the 95 % interval of the command words' accuracy, by drawing speakers, not clips, anew.

    Errors come in clusters, a few hard voices, so clips are not independent. Source: B. Efron,
    "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    indices = [split.indices_of(word) for word in command_words(split.labels)]
    commands = np.concatenate(indices) if indices else np.zeros(0, dtype=np.int64)
    if not len(commands):
        return 0.0, 0.0
    right = logits.argmax(axis=1)[commands] == split.classes[commands]
    _, voices = np.unique(speakers([split.names[number] for number in commands]), return_inverse=True)
    clips_of = np.bincount(voices)
    right_of = np.bincount(voices, weights=right)
    drawn = np.random.default_rng(0).integers(len(clips_of), size=(_RESAMPLES, len(clips_of)))
    shares = right_of[drawn].sum(axis=1) / clips_of[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def speakers(names: Sequence[str]) -> list[str]:
    """Return who speaks each clip, by the data set's naming: "word/<speaker>_nohash_<n>.wav"."""
    return [name.split("/")[-1].split("_")[0] for name in names if not name.startswith(f"{SILENCE}/")]


def seeds_summary(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, standard deviation, least and most of each accuracy over evaluation_report()s of
    runs that differ in their seed, as JSON takes it. Raises ValueError for fewer than two.
    """
    if len(reports) < 2:
        raise ValueError(f"need two reports or more, got {len(reports)}")

    def spread(values: Sequence[float]) -> dict[str, float]:
        found = np.array(values, dtype=np.float64)
        return {
            "mean": float(found.mean()),
            "std": float(found.std(ddof=1)),
            "least": float(found.min()),
            "most": float(found.max()),
        }

    noise = [
        {
            "snr_db": rows[0]["snr_db"],
            "command_accuracy": spread([row["command_accuracy"] for row in rows]),
        }
        for rows in zip(*(report["noise"] for report in reports), strict=True)
    ]
    accuracies = {
        name: spread([report[name] for report in reports]) for name in ("command_accuracy", "balanced_accuracy")
    }
    return {"seeds": len(reports), **accuracies, "noise": noise}
