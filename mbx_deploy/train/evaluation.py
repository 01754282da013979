"""How well a float model does on a split, its features taken from the device's front end."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mbx_deploy.data.accuracy import Evaluation, measure
from mbx_deploy.data.context import in_context
from mbx_deploy.data.dataset import CLIP_SAMPLES, SILENCE, Split, load_split
from mbx_deploy.frontend.continuous import ContinuousFrontend
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.augment import float_features
from mbx_deploy.train.checkpoint import CheckpointInfo
from mbx_deploy.train.config import TrainConfig

_BATCH = 256


def evaluate(module: nn.Module, config: TrainConfig | CheckpointInfo, data_root: Path, split: str) -> Evaluation:
    """Return the float model's measure on "validation" or "testing", features from the device's
    front end; a streaming model hears the clips in running audio (data/context.py).
    """
    shape = config.model if isinstance(config, TrainConfig) else config.model_config
    length = CLIP_SAMPLES if getattr(shape, "streaming", False) else config.frontend.clip_samples
    clips = load_split(data_root, split, config.labels, length)
    return measure(predict(module, split_inputs(config, clips)), clips)


def split_inputs(config: TrainConfig | CheckpointInfo, split: Split) -> torch.Tensor:
    """Return the network's inputs, float32 (N, C, 1, T), of a split's clips: alone, or of a streaming model in running
    audio, after noise or another word, the same one at every call.
    """
    shape = config.model if isinstance(config, TrainConfig) else config.model_config
    if not getattr(shape, "streaming", False):
        return clip_inputs(HostFrontend(config.frontend), split.samples)
    front_end = ContinuousFrontend(config.frontend)
    silence = split.labels.index(SILENCE) if SILENCE in split.labels else -1
    windows = in_context(split.samples, split.classes != silence, split.noise, front_end.window_samples)
    return to_inputs(float_features(front_end, windows))


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
