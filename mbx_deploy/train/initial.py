"""What a training begins from: the weights of another MatchboxNet, a .pt or the int8 .tflite of one.

The shapes of the layers must be the same, the lengths need not: a streaming network begins from a windowed one. An int8
file holds batch norm folded into its convolutions. It is unfolded again: the statistics of the new network's own inputs
are taken as batch norm's, so that it answers as the folded one does, and can be trained on.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network import ir
from mbx_deploy.network.float_network import FloatNetwork, dequantize_network
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.network.reader import parse_tflite, read_model_file
from mbx_deploy.train.checkpoint import CheckpointInfo, load_checkpoint
from mbx_deploy.train.matchboxnet import (
    STREAMING_FIELDS,
    MatchboxNet,
    MatchboxNetConfig,
    Pointwise,
    ResidualBlock,
    Separable,
    build_matchboxnet,
)

_LENGTHS = ("input_frames", *STREAMING_FIELDS)


def initial_network(
    path: Path,
    config: MatchboxNetConfig,
    labels: tuple[str, ...],
    frontend: FrontendConfig,
    inputs: torch.Tensor,
) -> MatchboxNet:
    """Return a network of this shape with the weights of a file.

    inputs: features that it will be trained on, float32 (N, C, 1, T), for batch norm's statistics. Raises InputError
    for a file that is unusable, or of another shape, other labels or another front end.
    """
    path = Path(path)
    base, info = load_exported(path) if path.suffix == ".tflite" else load_checkpoint(path)
    if not isinstance(base, MatchboxNet):
        raise InputError(f"cannot begin from this model ({path}): need a MatchboxNet that mbx-deploy trained")
    _check_fit(path, base.config, config, info.labels, labels)
    _check_frontend(path, info.frontend, frontend)
    network = build_matchboxnet(config)
    network.load_state_dict(base.state_dict())
    if has_folded_norms(network):
        calibrate_norms(network, inputs)
    return network


def load_exported(path: Path) -> tuple[MatchboxNet, CheckpointInfo]:
    """Return the network of an int8 .tflite that mbx-deploy exported, in evaluation mode, as load_checkpoint() does.

    Its batch norms are folded: calibrate_norms() before it is trained. Raises InputError for another kind of file.
    """
    data = read_model_file(path)
    metadata = read_metadata(data) or {}
    values = metadata.get("export", {}).get("model_config")
    if not isinstance(values, dict) or "architecture" in values:
        raise InputError(f"cannot begin from this model ({path}): need a MatchboxNet that mbx-deploy exported")
    config = MatchboxNetConfig.from_dict(values)
    network = build_matchboxnet(config)
    _unfold(network, dequantize_network(parse_tflite(data, str(path))), path)
    frontend = FrontendConfig.from_dict(metadata["frontend"])
    info = CheckpointInfo(config, frontend, tuple(metadata["labels"]), metadata.get("training", {}))
    return network.eval(), info


def has_folded_norms(network: nn.Module) -> bool:
    """Return whether a network's batch norms stand as load_exported() leaves them."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    plain = all(bool((norm.weight == 1).all()) and not _statistics(norm)[0].any() for norm in norms)
    return plain and any(bool(norm.bias.any()) for norm in norms)


@torch.no_grad()
def calibrate_norms(network: nn.Module, inputs: torch.Tensor) -> None:
    """Set each batch norm's statistics to those of its inputs, one after the other, in place, and its scale and shift
    so that evaluation gives what it gave before; weights of the convolutions before them are scaled to length 1.
    """
    network.eval()
    for part in list(network.modules()):
        if isinstance(part, Separable | Pointwise):
            norm, weight = part.norm, part.pointwise.weight
            norm_mean, norm_variance = _statistics(norm)
            gain = norm.weight / torch.sqrt(norm_variance + norm.eps)
            shift = norm.bias - norm_mean * gain
            length = weight.flatten(1).norm(dim=1).clamp_min(1e-6)
            weight /= length[:, None, None, None]
            gain = gain * length
            seen: list[torch.Tensor] = []
            hook = part.pointwise.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
            try:
                norm_mean.zero_()
                norm_variance.fill_(1.0 - norm.eps)
                norm.weight.copy_(gain)
                norm.bias.copy_(shift)
                network(inputs)
            finally:
                hook.remove()
            mean, variance = seen[0].mean(dim=(0, 2, 3)), seen[0].var(dim=(0, 2, 3)).clamp_min(1e-8)
            norm_mean.copy_(mean)
            norm_variance.copy_(variance)
            norm.weight.copy_(gain * torch.sqrt(variance + norm.eps))
            norm.bias.copy_(shift + gain * mean)


def _statistics(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch norm's running mean and variance themselves."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


def _check_fit(
    path: Path,
    found: MatchboxNetConfig,
    need: MatchboxNetConfig,
    labels: tuple[str, ...],
    wanted: tuple[str, ...],
) -> None:
    if labels != wanted:
        raise InputError(f"cannot begin from this model ({path}): got the labels {labels}, need {wanted}")
    for field in dataclasses.fields(MatchboxNetConfig):
        got, want = getattr(found, field.name), getattr(need, field.name)
        if field.name not in _LENGTHS and got != want:
            raise InputError(f"cannot begin from this model ({path}): got {field.name} {got}, need {want}")


def _check_frontend(path: Path, found: FrontendConfig, need: FrontendConfig) -> None:
    if dataclasses.replace(found, clip_samples=need.clip_samples) != need:
        raise InputError(
            f"cannot begin from this model ({path}): its front end is another one than the configuration's"
        )


def _unfold(network: MatchboxNet, folded: FloatNetwork, path: Path) -> None:
    """Fill the network with an int8 file's weights, in place; batch norm becomes scale 1 and shift by the bias."""
    ops = list(enumerate(folded.model.ops))
    weighted = [(n, op) for n, op in ops if isinstance(op, ir.Conv2D | ir.DepthwiseConv2D | ir.FullyConnected)]
    queue = iter(weighted)

    def take(kind: type) -> tuple[int, Any]:
        number, op = next(queue, (-1, None))
        if not isinstance(op, kind):
            raise InputError(f"cannot begin from this model ({path}): its ops are not those of a MatchboxNet")
        return number, op

    def fill(part: Separable | Pointwise, number: int) -> None:
        _copy(part.pointwise.weight, folded.weights[number].transpose(0, 3, 1, 2), path)
        norm = part.norm
        _copy(norm.bias, folded.biases[number], path)
        with torch.no_grad():
            norm.weight.fill_(1.0)
            mean, variance = _statistics(norm)
            mean.zero_()
            variance.fill_(1.0 - norm.eps)

    def separable(part: Separable) -> None:
        number, _ = take(ir.DepthwiseConv2D)
        _copy(part.depthwise.weight, folded.weights[number].transpose(3, 0, 1, 2), path)
        following, _ = take(ir.Conv2D)
        fill(part, following)

    separable(network.prologue)
    for block in network.blocks:
        assert isinstance(block, ResidualBlock)
        for repeat in block.repeats:
            assert isinstance(repeat, Separable)
            separable(repeat)
        fill(block.residual, take(ir.Conv2D)[0])
    separable(network.epilogue_1)
    fill(network.epilogue_2, take(ir.Conv2D)[0])
    last, _ = take(ir.FullyConnected)
    _copy(network.decoder.weight, folded.weights[last], path)
    _copy(network.decoder.bias, folded.biases[last], path)


@torch.no_grad()
def _copy(target: torch.Tensor, values: np.ndarray, path: Path) -> None:
    if tuple(target.shape) != values.shape:
        raise InputError(
            f"cannot begin from this model ({path}): got weights of {values.shape}, need {tuple(target.shape)}"
        )
    target.copy_(torch.from_numpy(np.ascontiguousarray(values)))
