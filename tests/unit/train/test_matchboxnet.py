"""MatchboxNet is NeMo's, layer for layer, and a configuration that makes no network is refused."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import batch_norm, conv1d, linear, relu

from mbx_deploy.errors import InputError
from mbx_deploy.train.matchboxnet import (
    MatchboxNet,
    MatchboxNetConfig,
    build_matchboxnet,
    count_parameters,
)


@pytest.mark.parametrize(
    ("classes", "repeats", "parameters"),
    [(30, 1, 77_214), (35, 1, 77_859), (12, 1, 74_892), (30, 2, 92_766)],
)
def test_has_as_many_parameters_as_nemos(classes: int, repeats: int, parameters: int) -> None:
    config = MatchboxNetConfig(num_classes=classes, repeats=repeats)
    assert count_parameters(build_matchboxnet(config)) == parameters


def test_every_size_is_a_parameter() -> None:
    config = MatchboxNetConfig(
        num_classes=3,
        blocks=2,
        repeats=3,
        channels=8,
        prologue_filters=12,
        prologue_kernel=5,
        kernels=(3, 7),
        epilogue_filters=20,
        epilogue_kernel=9,
        epilogue_dilation=3,
        input_coefficients=10,
        input_frames=49,
    )
    module = build_matchboxnet(config).eval()
    assert module(torch.zeros(4, 10, 1, 49)).shape == (4, 3)
    assert MatchboxNetConfig.from_dict(config.to_dict()) == config


def test_convolutions_are_1_by_k_without_bias_and_batch_norm_is_nemos() -> None:
    module = build_matchboxnet(MatchboxNetConfig(num_classes=10, repeats=2))
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.bias is None
            assert layer.kernel_size[0] == 1
            assert layer.stride == (1, 1)
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-3, 0.1)


def reference(module: MatchboxNet, x: torch.Tensor) -> torch.Tensor:
    """The network once more, from NeMo's definition, by conv1d's arithmetic on (N, C, T)."""
    state = module.state_dict()
    config = module.config

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return batch_norm(y, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3)

    def separable(y: torch.Tensor, name: str, dilation: int = 1) -> torch.Tensor:
        weight = state[f"{name}.depthwise.weight"][:, :, 0]
        reach = dilation * (weight.shape[2] - 1) // 2
        y = conv1d(y, weight, padding=reach, dilation=dilation, groups=y.shape[1])
        return pointwise(y, name)

    def pointwise(y: torch.Tensor, name: str) -> torch.Tensor:
        return norm(conv1d(y, state[f"{name}.pointwise.weight"][:, :, 0]), f"{name}.norm")

    x = relu(separable(x, "prologue"))
    for block in range(config.blocks):
        y = x
        for repeat in range(config.repeats):
            y = separable(y, f"blocks.{block}.repeats.{repeat}")
            if repeat < config.repeats - 1:
                y = relu(y)
        x = relu(y + pointwise(x, f"blocks.{block}.residual"))
    x = relu(separable(x, "epilogue_1", config.epilogue_dilation))
    x = relu(pointwise(x, "epilogue_2"))
    return linear(x.mean(2), state["decoder.weight"], state["decoder.bias"])


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_forward_is_the_definition(repeats: int) -> None:
    torch.manual_seed(0)
    module = build_matchboxnet(MatchboxNetConfig(num_classes=5, repeats=repeats))
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for value in (layer.running_var, layer.weight):
                assert value is not None
                torch.nn.init.uniform_(value, 0.5, 2.0)
            for value in (layer.running_mean, layer.bias):
                assert value is not None
                torch.nn.init.uniform_(value, -1.0, 1.0)
    module.eval()
    x = torch.randn(3, 64, 1, 101) * 20
    with torch.no_grad():
        torch.testing.assert_close(module(x), reference(module, x[:, :, 0]), rtol=1e-4, atol=1e-4)


def nemo_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a .nemo file under this project's names."""
    with tarfile.open(path) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("model_weights.ckpt"))
        file = archive.extractfile(member)
        assert file is not None
        state = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    renamed = {}
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def take(old: str, new: str) -> None:
        for part in parts:
            if f"{old}.{part}" in state:
                value = state[f"{old}.{part}"]
                conv = part == "weight" and value.ndim == 3
                renamed[f"{new}.{part}"] = value[:, :, None] if conv else value

    names = ["prologue", "blocks.0", "blocks.1", "blocks.2", "epilogue_1", "epilogue_2"]
    for number, name in enumerate(names):
        base = f"encoder.encoder.{number}"
        inner = f"{name}.repeats.0" if name.startswith("blocks") else name
        if name == "epilogue_2":
            take(f"{base}.mconv.0.conv", f"{inner}.pointwise")
            take(f"{base}.mconv.1", f"{inner}.norm")
            continue
        take(f"{base}.mconv.0.conv", f"{inner}.depthwise")
        take(f"{base}.mconv.1.conv", f"{inner}.pointwise")
        take(f"{base}.mconv.2", f"{inner}.norm")
        if name.startswith("blocks"):
            take(f"{base}.res.0.0.conv", f"{name}.residual.pointwise")
            take(f"{base}.res.0.1", f"{name}.residual.norm")
    take("decoder.decoder_layers.0", "decoder")
    return renamed


def golden_clips(golden: Mapping[str, np.ndarray]) -> list[str]:
    """The clips of a golden file that entered the encoder as 128 frames, none of them masked."""
    return [key.split("_")[0] for key in golden if key.endswith("_enc_in") and golden[key].shape == (64, 128)]


def test_gives_nemos_logits_with_nemos_weights(speech_commands: Path) -> None:
    folder = speech_commands.parent / "nemo"
    path = folder / "matchboxnet_3x1x64_8w_nemo221.nemo"
    if not path.exists():
        pytest.skip(f"no NeMo checkpoint with golden vectors ({path})")
    module = build_matchboxnet(MatchboxNetConfig(num_classes=8, input_frames=128))
    module.load_state_dict(nemo_weights(path))
    module.eval()
    checked = 0
    with np.load(folder / f"{path.stem}__fwd221.npz") as golden:
        for clip in golden_clips(golden):
            if f"{clip}_logits" not in golden:
                continue
            x = torch.from_numpy(golden[f"{clip}_enc_in"]).float()[None, :, None]
            with torch.no_grad():
                logits = module(x)[0].numpy()
            np.testing.assert_allclose(logits, golden[f"{clip}_logits"].reshape(-1), atol=2e-4)
            checked += 1
    assert checked >= 40


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": True}, "num_classes"),
        ({"num_classes": 2.0}, "num_classes"),
        ({"blocks": 2}, "kernels"),
        ({"kernels": (13, 15, 16)}, "odd"),
        ({"kernels": (13, 15, -17)}, "kernels"),
        ({"kernels": 13}, "kernels"),
        ({"kernels": ("13", 15, 17)}, "kernels"),
        ({"prologue_kernel": 10}, "odd"),
        ({"epilogue_kernel": 28}, "odd"),
        ({"epilogue_dilation": 0}, "epilogue_dilation"),
        ({"repeats": 10**9}, "repeats"),
        ({"channels": 10**9}, "channels"),
        ({"chanels": 64}, "chanels"),
    ],
)
def test_refuses_what_makes_no_network(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        MatchboxNetConfig.from_dict({"num_classes": 10, **change})


def test_refuses_a_config_without_classes() -> None:
    with pytest.raises(InputError, match="num_classes"):
        MatchboxNetConfig.from_dict({})
