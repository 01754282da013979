"""Any network of Jasper blocks in PyTorch: what MatchboxNet, MarbleNet and QuartzNet are special cases of.

Convolutions are Conv2d with kernels of (1, k), for the reason that model.py tells. Time has a fixed length and there
are no masks; what NeMo's masks leave behind is folded into the weights (mbx_deploy/nemo/folding.py).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import show
from mbx_deploy.train.matchboxnet import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Pointwise, Separable

ARCHITECTURE = "jasper"
POOLINGS = ("avg", "max")


@dataclass(frozen=True)
class JasperBlockConfig:
    """One block. Kernel and dilation count frames."""

    filters: int
    repeat: int
    kernel: int
    dilation: int
    residual: bool
    separable: bool

    def __post_init__(self) -> None:
        for name, most in (("filters", 4096), ("repeat", 32), ("kernel", 1023), ("dilation", 255)):
            _need_whole(name, getattr(self, name), most)
        if self.kernel % 2 == 0:
            raise InputError(f"bad model (kernel): got {self.kernel}, need an odd number")
        for name in ("residual", "separable"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"bad model ({name}): got {show(getattr(self, name))}, need true or false")


@dataclass(frozen=True)
class JasperConfig:
    """The shape of one network. pooling: over time, before the linear layer."""

    num_classes: int
    blocks: tuple[JasperBlockConfig, ...]
    input_coefficients: int
    input_frames: int
    pooling: str = "avg"

    def __post_init__(self) -> None:
        for name, most in (("num_classes", 1000), ("input_coefficients", 4096), ("input_frames", 65536)):
            _need_whole(name, getattr(self, name), most)
        if not 1 <= len(self.blocks) <= 64:
            raise InputError(f"bad model (blocks): got {len(self.blocks)}, need 1 to 64")
        if self.pooling not in POOLINGS:
            raise InputError(f"bad model (pooling): got {self.pooling!r:.40}, need {' or '.join(POOLINGS)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, with the architecture's name."""
        values = dataclasses.asdict(self)
        return {**values, "blocks": list(values["blocks"]), "architecture": ARCHITECTURE}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "JasperConfig":
        """Return the config that to_dict() wrote. Raises InputError for an unknown or missing key or a bad value."""
        values = {key: value for key, value in values.items() if key != "architecture"}
        blocks = values.get("blocks")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise InputError("bad model (blocks): need a list of mappings")
        _check_keys(cls, values)
        for block in blocks:
            _check_keys(JasperBlockConfig, block)
        return cls(**{**values, "blocks": tuple(JasperBlockConfig(**block) for block in blocks)})


def _check_keys(kind: type[JasperConfig] | type[JasperBlockConfig], values: dict[str, Any]) -> None:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise InputError(f"unknown model key: got {key!r:.60}, need one of {', '.join(sorted(fields))}")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise InputError(f"bad model: the key {name} is missing")


def _need_whole(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"bad model ({name}): got {value!r:.60}, need a whole number from 1 to {most}")


class Full(nn.Module):
    """Convolution over all channels, 1 x k, and batch norm: (N, C_in, 1, T) -> (N, C_out, 1, T)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        padding = (0, dilation * (kernel - 1) // 2)
        self.conv = nn.Conv2d(
            channels_in, channels_out, (1, kernel), padding=padding, dilation=(1, dilation), bias=False
        )
        self.norm = nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised sums."""
        result: torch.Tensor = self.norm(self.conv(x))
        return result


class JasperBlock(nn.Module):
    """Sub-blocks with ReLU between them, perhaps plus the block's input through 1x1 and batch norm, then ReLU."""

    def __init__(self, channels: int, config: JasperBlockConfig) -> None:
        super().__init__()
        sizes = [channels] + [config.filters] * config.repeat
        self.repeats = nn.ModuleList(_sub_block(sizes[r], config) for r in range(config.repeat))
        self.residual = Pointwise(channels, config.filters) if config.residual else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y = x
        for index, repeat in enumerate(self.repeats):
            y = repeat(torch.relu(y) if index else y)
        return torch.relu(y if self.residual is None else y + self.residual(x))


def _sub_block(channels: int, config: JasperBlockConfig) -> nn.Module:
    if config.separable:
        return Separable(channels, config.filters, config.kernel, config.dilation)
    if config.kernel == 1:
        return Pointwise(channels, config.filters)
    return Full(channels, config.filters, config.kernel, config.dilation)


class JasperNet(nn.Module):
    """Features, float32 (N, input_coefficients, 1, T) -> logits, float32 (N, num_classes)."""

    def __init__(self, config: JasperConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [config.input_coefficients] + [block.filters for block in config.blocks]
        self.blocks = nn.ModuleList(JasperBlock(sizes[b], block) for b, block in enumerate(config.blocks))
        self.decoder = nn.Linear(sizes[-1], config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.decoder(x.mean(dim=(2, 3)) if self.config.pooling == "avg" else x.amax(dim=(2, 3)))
        return logits


def build_jasper(config: JasperConfig) -> JasperNet:
    """Return the untrained network, its weights drawn from torch's current random state."""
    return JasperNet(config)
