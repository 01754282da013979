"""MatchboxNet BxRxC in PyTorch, layer for layer as NeMo defines it.

Every convolution is a Conv2d with a kernel of (1, k) on (N, C, 1, T): a Conv1d leaves the converter
as a grouped convolution between reshapes, which is many times slower on every runtime.

Source: S. Majumdar, B. Ginsburg, "MatchboxNet: 1D Time-Channel Separable Convolutional Neural
Network Architecture for Speech Commands Recognition", 2020, and NeMo's matchboxnet_3x1x64_v1.yaml.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import show
from mbx_deploy.train.depthwise import Depthwise

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.1
STREAMING_FIELDS = ("streaming", "pool_frames", "step_frames")


@dataclass(frozen=True)
class MatchboxNetConfig:
    """The shape of one network. Kernels and dilation count feature frames (10 ms each at the
    default hop).

    streaming: convolutions are VALID in time, so that the network can run on new frames alone: over its window of
    receptive_frames() - 1 + pool_frames it leaves pool_frames, whose mean is taken. step_frames: how often the stream
    decides; it divides pool_frames.
    """

    num_classes: int
    blocks: int = 3
    repeats: int = 1
    channels: int = 64
    prologue_filters: int = 128
    prologue_kernel: int = 11
    kernels: tuple[int, ...] = (13, 15, 17)
    epilogue_filters: int = 128
    epilogue_kernel: int = 29
    epilogue_dilation: int = 2
    input_coefficients: int = 64
    input_frames: int = 101
    streaming: bool = False
    pool_frames: int = 100
    step_frames: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.kernels, list | tuple):
            raise InputError(f"bad model (kernels): got {show(self.kernels)}, need a list of odd numbers")
        object.__setattr__(self, "kernels", tuple(self.kernels))
        for field in dataclasses.fields(self):
            if field.name not in ("kernels", "streaming"):
                _need_positive(field.name, getattr(self, field.name))
        for kernel in self.kernels:
            _need_positive("kernels", kernel)
        if len(self.kernels) != self.blocks:
            raise InputError(f"bad model (kernels): got {len(self.kernels)}, need {self.blocks}, one a block")
        # "Same" padding of dilation * (k - 1) / 2 on both sides exists for odd kernels only.
        for kernel in (self.prologue_kernel, *self.kernels, self.epilogue_kernel):
            if kernel % 2 == 0:
                raise InputError(f"bad model (kernel size): got {kernel}, need an odd number")
        if not isinstance(self.streaming, bool):
            raise InputError(f"bad model (streaming): got {show(self.streaming)}, need true or false")
        if self.pool_frames % self.step_frames:
            raise InputError(
                f"bad model (step_frames): got {self.step_frames}, need a divisor of pool_frames, {self.pool_frames}"
            )
        if self.streaming and self.input_frames != self.window_frames:
            raise InputError(
                f"bad model (input_frames): got {self.input_frames}, need {self.window_frames}: what a frame of the "
                f"pool hears, {self.receptive_frames()}, and {self.pool_frames - 1} more"
            )

    def receptive_frames(self) -> int:
        """Return how many frames of features one frame before the pool depends on."""
        block = sum(kernel - 1 for kernel in self.kernels) * self.repeats
        return self.prologue_kernel + block + (self.epilogue_kernel - 1) * self.epilogue_dilation

    @property
    def window_frames(self) -> int:
        """Return the frames of a streaming network's window."""
        return self.receptive_frames() - 1 + self.pool_frames

    @property
    def tail_frames(self) -> int:
        """Return the frames that follow a clip, so that a streaming network's pool has its end in the middle."""
        return (self.receptive_frames() - 1) // 2 + self.pool_frames // 2

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON and TOML values; a windowed network has no streaming ones."""
        values = {**dataclasses.asdict(self), "kernels": list(self.kernels)}
        if not self.streaming:
            for name in STREAMING_FIELDS:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MatchboxNetConfig":
        """Return the config that to_dict() wrote. Raises InputError for an unknown or missing key
        or a bad value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise InputError(f"unknown model key: got {show(key)}, need one of {', '.join(sorted(known))}")
        if "num_classes" not in values:
            raise InputError("bad model: the key num_classes is missing")
        return cls(**values)


def _need_positive(name: str, value: object) -> None:
    # The upper ends only keep a hostile file from asking for endless layers.
    most = 64 if name in ("blocks", "repeats") else 65536
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"bad model ({name}): got {show(value)}, need a whole number from 1 to {most}")


class Separable(nn.Module):
    """Depthwise 1 x k, pointwise, batch norm: (N, C_in, 1, T) -> (N, C_out, 1, T). Nothing between
    the first two. valid: without padding, T - dilation * (k - 1) frames are left.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, dilation: int = 1, valid: bool = False):
        super().__init__()
        self.depthwise = Depthwise(channels_in, kernel, dilation, valid)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm = _batch_norm(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.pointwise(self.depthwise(x)))
        return result


class Pointwise(nn.Module):
    """1x1 convolution and batch norm: (N, C_in, 1, T) -> (N, C_out, 1, T)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm = _batch_norm(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.pointwise(x))
        return result


class ResidualBlock(nn.Module):
    """R separable sub-blocks with ReLU between them, plus the block's input through 1x1 and batch
    norm, then ReLU. valid: the residual branch drops as many of its first frames as the others use up.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, repeats: int, valid: bool = False) -> None:
        super().__init__()
        sizes = [channels_in] + [channels_out] * repeats
        self.repeats = nn.ModuleList(Separable(sizes[r], sizes[r + 1], kernel, 1, valid) for r in range(repeats))
        self.residual = Pointwise(channels_in, channels_out)
        self.dropped_frames = repeats * (kernel - 1) if valid else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for index, repeat in enumerate(self.repeats):
            y = repeat(torch.relu(y) if index else y)
        if self.dropped_frames:
            x = x[:, :, :, self.dropped_frames :]
        return torch.relu(y + self.residual(x))


class MatchboxNet(nn.Module):
    """MFCC features, float32 (N, input_coefficients, 1, T) -> logits, float32 (N, num_classes)."""

    def __init__(self, config: MatchboxNetConfig) -> None:
        super().__init__()
        self.config = config
        valid = config.streaming
        self.prologue = Separable(
            config.input_coefficients, config.prologue_filters, config.prologue_kernel, valid=valid
        )
        sizes = [config.prologue_filters] + [config.channels] * config.blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(sizes[b], sizes[b + 1], kernel, config.repeats, valid)
            for b, kernel in enumerate(config.kernels)
        )
        self.epilogue_1 = Separable(
            config.channels,
            config.epilogue_filters,
            config.epilogue_kernel,
            config.epilogue_dilation,
            valid,
        )
        self.epilogue_2 = Pointwise(config.epilogue_filters, config.epilogue_filters)
        self.decoder = nn.Linear(config.epilogue_filters, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # NeMo's init_mode of its Jasper family.
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.prologue(x))
        for block in self.blocks:
            x = block(x)
        x = torch.relu(self.epilogue_1(x))
        x = torch.relu(self.epilogue_2(x))
        if self.training:
            # The same mean; its gradient comes back with channels last, as everything else is.
            mean = x.permute(0, 2, 3, 1).mean(dim=(1, 2))
        else:
            mean = x.mean(dim=(2, 3))
        logits: torch.Tensor = self.decoder(mean)
        return logits


def build_matchboxnet(config: MatchboxNetConfig) -> MatchboxNet:
    """Return the untrained network, its weights drawn from torch's current random state."""
    return MatchboxNet(config)


def prepare_for_answers(module: MatchboxNet) -> MatchboxNet:
    """Return a copy in evaluation mode that answers faster, its batch norms folded; not for training
    or export.
    """
    folded = copy.deepcopy(module).eval()
    for part in list(folded.modules()):
        if isinstance(part, Separable | Pointwise):
            part.pointwise = fuse_conv_bn_eval(part.pointwise, part.norm)
            part.norm = nn.Identity()  # type: ignore[assignment]
        if isinstance(part, Depthwise):
            part.fast_evaluation = True
    answering: MatchboxNet = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return answering.requires_grad_(False)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained values: weights, batch norm's scales and biases, not its running
    statistics.
    """
    return sum(parameter.numel() for parameter in module.parameters())


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
