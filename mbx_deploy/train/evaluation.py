"""How well a float model does on a split, its features taken from the device's front end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mbx_deploy.accuracy import (
    NOISE_SEED,
    NOISE_SNRS_DB,
    Evaluation,
    command_interval,
    confusion_matrix,
    measure,
    noisy_clips,
    speakers,
    spread,
)
from mbx_deploy.host_frontend import HostFrontend
from mbx_deploy.train.augment import float_features
from mbx_deploy.train.checkpoint import CheckpointInfo
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.dataset import load_split

__all__ = [
    "NOISE_SEED",
    "NOISE_SNRS_DB",
    "Evaluation",
    "clip_inputs",
    "command_interval",
    "confusion_matrix",
    "evaluate",
    "evaluation_report",
    "measure",
    "noisy_clips",
    "predict",
    "seeds_summary",
    "speakers",
    "to_inputs",
]

_BATCH = 256


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


def seeds_summary(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, standard deviation, least and most of each accuracy over evaluation_report()s of
    runs that differ in their seed, as JSON takes it. Raises ValueError for fewer than two.
    """
    if len(reports) < 2:
        raise ValueError(f"need two reports or more, got {len(reports)}")

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
