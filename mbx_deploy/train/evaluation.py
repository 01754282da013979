"""How well a float model does on a split, its features taken from the device's front end."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mbx_deploy.data.accuracy import Evaluation, measure
from mbx_deploy.data.dataset import load_split
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.augment import float_features
from mbx_deploy.train.checkpoint import CheckpointInfo
from mbx_deploy.train.config import TrainConfig

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
