"""Training that begins from other weights answers as they did, before its first step."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mbx_deploy.data.dataset import LABELS
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.float_network import dequantize_network, float_logits
from mbx_deploy.network.reader import read_tflite
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.train.checkpoint import CheckpointInfo, save_checkpoint
from mbx_deploy.train.evaluation import predict, to_inputs
from mbx_deploy.train.initial import calibrate_norms, initial_network
from mbx_deploy.train.matchboxnet import MatchboxNetConfig, build_matchboxnet

WINDOWED = MatchboxNetConfig(len(LABELS))
STREAMING = MatchboxNetConfig(len(LABELS), streaming=True, input_frames=208)


def features(frames: int, clips: int = 16) -> np.ndarray:
    """Return something like MFCCs, float32 (clips, frames, 64)."""
    rng = np.random.default_rng(0)
    scale = 60.0 / np.sqrt(1.0 + np.arange(64))
    return (rng.normal(0, 1, (clips, frames, 64)) * scale - np.eye(1, 64) * 200.0).astype(np.float32)


def test_the_shipped_int8_network_answers_in_float_as_it_did() -> None:
    x = features(101)
    found = initial_network(shipped_model_path(), WINDOWED, LABELS, FrontendConfig(), to_inputs(x))
    expected = float_logits(dequantize_network(read_tflite(shipped_model_path())), x)
    assert np.abs(predict(found, to_inputs(x)) - expected).max() < 1e-3 * np.abs(expected).max()


def test_batch_norm_is_at_home_on_the_inputs() -> None:
    """In training mode, on the inputs that it was fitted to, the network says what it says in evaluation."""
    x = to_inputs(features(208))
    found = initial_network(shipped_model_path(), STREAMING, LABELS, FrontendConfig(clip_samples=33120), x)
    in_evaluation = predict(found, x)
    with torch.no_grad():
        in_training = found.train()(x).numpy()
    assert np.abs(in_training - in_evaluation).max() < 2e-2 * np.abs(in_evaluation).max()
    rows = found.epilogue_2.pointwise.weight.flatten(1).norm(dim=1)
    assert torch.allclose(rows, torch.ones_like(rows), atol=1e-5)


def test_calibration_leaves_the_answers_alone() -> None:
    torch.manual_seed(0)
    network = build_matchboxnet(WINDOWED)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
    x = to_inputs(features(101))
    before = predict(network, x)
    calibrate_norms(network, x)
    assert np.abs(predict(network, x) - before).max() < 1e-3 * np.abs(before).max()


def test_a_streaming_network_begins_from_a_windowed_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(1)
    base = build_matchboxnet(WINDOWED)
    save_checkpoint(tmp_path / "base.pt", base, CheckpointInfo(WINDOWED, FrontendConfig(), LABELS, {}))
    frontend = FrontendConfig(clip_samples=33120)
    found = initial_network(tmp_path / "base.pt", STREAMING, LABELS, frontend, to_inputs(features(208)))
    assert found.config == STREAMING
    for name, value in base.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"channels": 32}, "channels"), ({"prologue_kernel": 9}, "prologue_kernel")],
)
def test_another_shape_is_refused(change: dict[str, Any], what: str) -> None:
    config = dataclasses.replace(WINDOWED, **change)
    with pytest.raises(InputError, match=what):
        initial_network(shipped_model_path(), config, LABELS, FrontendConfig(), to_inputs(features(101)))


def test_other_labels_and_front_ends_are_refused() -> None:
    x = to_inputs(features(101))
    with pytest.raises(InputError, match="labels"):
        initial_network(shipped_model_path(), WINDOWED, LABELS[::-1], FrontendConfig(), x)
    with pytest.raises(InputError, match="front end"):
        initial_network(shipped_model_path(), WINDOWED, LABELS, FrontendConfig(preemphasis=0.97), x)
