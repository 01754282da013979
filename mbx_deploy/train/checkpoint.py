"""Model files: the weights and what is needed to use them. Reading one executes nothing in it."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mbx_deploy.data.dataset import check_labels
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.documents import DocumentError, read_document, show
from mbx_deploy.system.files import write_file
from mbx_deploy.train.jasper import ARCHITECTURE, JasperConfig, JasperNet, build_jasper
from mbx_deploy.train.matchboxnet import (
    MatchboxNet,
    MatchboxNetConfig,
    build_matchboxnet,
    count_parameters,
)
from mbx_deploy.train.torch_file import read_torch

MAX_FILE_BYTES = 512 << 20
CHECKPOINT_FORMAT = "mbx-deploy-1"
# Two hundred times the usual network. A small file can name a huge one: its tensors may repeat one
# stored value.
_MOST_PARAMETERS = 1 << 24
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32)

NetworkConfig = MatchboxNetConfig | JasperConfig
Network = MatchboxNet | JasperNet


def build_network(config: NetworkConfig) -> Network:
    """Return the untrained network that a config describes."""
    return build_jasper(config) if isinstance(config, JasperConfig) else build_matchboxnet(config)


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of its model."""

    model_config: NetworkConfig
    frontend: FrontendConfig
    labels: tuple[str, ...]
    provenance: dict[str, Any]


def save_checkpoint(path: Path, module: nn.Module, info: CheckpointInfo) -> None:
    """Write a model file, whole or not at all. module: of the kind that info.model_config describes."""
    weights = {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in module.state_dict().items()
    }
    checkpoint = {
        "format": CHECKPOINT_FORMAT,
        "model": weights,
        "model_config": info.model_config.to_dict(),
        "frontend": info.frontend.to_dict(),
        "labels": list(info.labels),
        "provenance": info.provenance,
    }
    save_torch(path, checkpoint)


def load_checkpoint(path: Path) -> tuple[Network, CheckpointInfo]:
    """Return the network, in evaluation mode, and what the file says of it. Nothing in the file is
    executed.

    Raises InputError for a file that is missing, corrupt, of another kind, or whose parts do not
    fit each other.
    """
    checkpoint = load_torch(path)
    if checkpoint.get("format") != CHECKPOINT_FORMAT:
        raise InputError(
            f"not a model checkpoint ({path}): got format {show(checkpoint.get('format'))}, need {CHECKPOINT_FORMAT!r}"
        )
    for key, kind in (
        ("model", dict),
        ("model_config", dict),
        ("frontend", dict),
        ("labels", list),
        ("provenance", dict),
    ):
        if not isinstance(checkpoint.get(key), kind):
            raise InputError(f"damaged checkpoint ({path}): {key!r} is missing or no {kind.__name__}")
    try:
        check_labels(checkpoint["labels"])
        # It travels on as JSON: what JSON cannot say must not come in.
        json.dumps(checkpoint["provenance"])
        model_config = _read_config(checkpoint["model_config"])
        info = CheckpointInfo(
            model_config,
            FrontendConfig.from_dict(checkpoint["frontend"]),
            tuple(checkpoint["labels"]),
            checkpoint["provenance"],
        )
        found = (
            model_config.num_classes,
            model_config.input_coefficients,
            model_config.input_frames,
        )
        need = (len(info.labels), info.frontend.num_coefficients, info.frontend.num_frames)
        if found != need:
            raise InputError(
                f"the model does not fit its labels and front end: got {found} "
                f"(classes, coefficients, frames), need {need}"
            )
    except (InputError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"damaged checkpoint ({path}): {error}") from error
    return _restore(path, model_config, checkpoint["model"]), info


def weights_digest(module: nn.Module) -> str:
    """Return SHA-256 over the names and bytes of a network's weights: two trainings that gave the same are the same."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_config(values: dict[str, Any]) -> NetworkConfig:
    """Return the config of the architecture that the values name; without a name it is MatchboxNet."""
    if values.get("architecture") == ARCHITECTURE:
        return JasperConfig.from_dict(values)
    return MatchboxNetConfig.from_dict(values)


def _restore(path: Path, config: NetworkConfig, weights: dict[str, Any]) -> Network:
    """Return the network with these weights; sizes are compared before any memory is taken."""
    with torch.device("meta"):
        module = build_network(config)
    if count_parameters(module) > _MOST_PARAMETERS:
        raise InputError(
            f"damaged checkpoint ({path}): got a model of {count_parameters(module)} parameters, "
            f"need at most {_MOST_PARAMETERS}"
        )
    expected = module.state_dict()
    for name, value in weights.items():
        like = expected.get(name)
        if like is None or not isinstance(value, torch.Tensor) or value.shape != like.shape:
            raise InputError(f"damaged checkpoint ({path}): the weight {name!r:.80} does not fit the model")
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.dtype not in (_FLOATS if like.is_floating_point() else _INTEGERS):
            raise InputError(f"damaged checkpoint ({path}): the weight {name!r:.80} is of a foreign type")
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"damaged checkpoint ({path}): the weight {name!r:.80} is not finite")
    missing = sorted(set(expected) - set(weights))
    if missing:
        raise InputError(f"damaged checkpoint ({path}): the weight {missing[0]!r} is missing")
    typed = {name: value.to(expected[name].dtype).contiguous() for name, value in weights.items()}
    module.load_state_dict(typed, assign=True)
    return module.eval()


def save_torch(path: Path, content: dict[str, Any]) -> None:
    """Write torch's zip of the content beside path, then rename: a reader sees the old file or the
    new one.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def load_torch(path: Path) -> dict[str, Any]:
    """Return the dict in a torch file; its pickle may hold tensors and plain values, nothing that
    runs.
    """
    if not Path(path).is_file():
        raise InputError(f"no such file ({path}): need a .pt file")
    try:
        content = read_torch(read_document(Path(path), MAX_FILE_BYTES))
    except DocumentError as error:
        raise InputError(
            f"cannot read the checkpoint ({path}): {error}", "need a .pt file that mbx-deploy train or import wrote"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"not a checkpoint ({path}): got {type(content).__name__}, need a dict")
    return content
