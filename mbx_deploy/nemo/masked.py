"""NeMo's network as NeMo computes it, masks and all: the yardstick that what we export is measured against.

Source: NeMo's JasperBlock, MaskedConv1d, ConvASREncoder and ConvASRDecoderClassification.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.description import Block, NemoModel
from mbx_deploy.nemo.float_features import clip_features
from mbx_deploy.nemo.preprocessor import Layout, clip_layout
from mbx_deploy.train.matchboxnet import BATCH_NORM_EPS

_IGNORED_PREFIXES = (
    "preprocessor.",
    "loss.",
    "spec_augment",
    "crop_or_pad",
    "_accuracy",
    "_macro_accuracy",
    "eval_loss",
)
_IGNORED_SUFFIXES = (".num_batches_tracked", "seq_range")


class Norm(nn.Module):
    """Batch normalisation in evaluation, as scale and shift per channel: (N, C, T) -> (N, C, T)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance)):
            self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised values."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return functional.batch_norm(
            x, mean, variance, self.get_buffer("weight"), self.get_buffer("bias"), False, 0.0, BATCH_NORM_EPS
        )


class MaskedConv(nn.Module):
    """A convolution over time that sees zeros from frame `length` on: (N, C_in, T) -> (N, C_out, T)."""

    def __init__(self, weight: torch.Tensor, dilation: int, groups: int, masked: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.dilation, self.groups, self.masked = dilation, groups, masked

    def forward(self, x: torch.Tensor, length: int) -> torch.Tensor:
        """Return the sums."""
        if self.masked and length < x.shape[2]:
            x = torch.cat([x[:, :, :length], torch.zeros_like(x[:, :, length:])], dim=2)
        weight = self.get_buffer("weight")
        padding = self.dilation * (weight.shape[2] - 1) // 2
        return functional.conv1d(x, weight, None, 1, padding, self.dilation, self.groups)


class SubBlock(nn.Module):
    """One or two convolutions and batch norm."""

    def __init__(self, convs: list[MaskedConv], norm: Norm) -> None:
        super().__init__()
        self.convs, self.norm = nn.ModuleList(convs), norm

    def forward(self, x: torch.Tensor, length: int) -> torch.Tensor:
        """Return the normalised sums."""
        for conv in self.convs:
            x = conv(x, length)
        normed: torch.Tensor = self.norm(x)
        return normed


class JasperBlock(nn.Module):
    """Repeated sub-blocks with ReLU between them, perhaps plus the block's input through 1x1 and batch norm, ReLU."""

    def __init__(self, repeats: list[SubBlock], residual: SubBlock | None) -> None:
        super().__init__()
        self.repeats, self.residual = nn.ModuleList(repeats), residual

    def forward(self, x: torch.Tensor, length: int) -> torch.Tensor:
        """Return the block's output; frames from length on are not zero behind it."""
        y = x
        for index, repeat in enumerate(self.repeats):
            y = repeat(torch.relu(y) if index else y, length)
        return torch.relu(y if self.residual is None else y + self.residual(x, length))


class MaskedNetwork(nn.Module):
    """Features, float32 (N, C, T) and their valid length -> logits, float32 (N, classes)."""

    def __init__(self, blocks: list[JasperBlock], weight: torch.Tensor, bias: torch.Tensor, pooling: str) -> None:
        super().__init__()
        self.blocks, self.pooling = nn.ModuleList(blocks), pooling
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def encode(self, x: torch.Tensor, length: int) -> torch.Tensor:
        """Return what the encoder gives, (N, C, T)."""
        for block in self.blocks:
            x = block(x, length)
        return x

    def forward(self, x: torch.Tensor, length: int) -> torch.Tensor:
        """Return the logits."""
        encoded = self.encode(x, length)
        pooled = encoded.mean(dim=2) if self.pooling == "avg" else encoded.amax(dim=2)
        return functional.linear(pooled, self.get_buffer("weight"), self.get_buffer("bias"))


def build_masked(model: NemoModel, weights: dict[str, torch.Tensor]) -> MaskedNetwork:
    """Return NeMo's network with these weights.

    Raises InputError, naming the file and the weight: one is missing, of another shape, or foreign to the YAML.
    """
    taker = _Taker(model.path, dict(weights))
    blocks = []
    channels = model.coefficients
    for index, block in enumerate(model.blocks):
        blocks.append(_build_block(taker, f"encoder.encoder.{index}", block, channels, model.conv_mask))
        channels = block.filters
    classes = len(model.labels)
    weight = taker.take("decoder.decoder_layers.0.weight", (classes, channels))
    bias = taker.take("decoder.decoder_layers.0.bias", (classes,))
    taker.check_empty()
    return MaskedNetwork(blocks, weight, bias, model.pooling).eval()


def _build_block(taker: "_Taker", name: str, block: Block, channels: int, masked: bool) -> JasperBlock:
    repeats, first = [], 0
    inner = channels
    level = ".conv" if masked else ""
    for _ in range(block.repeat):
        convs = []
        if block.separable:
            weight = taker.take(f"{name}.mconv.{first}{level}.weight", (inner, 1, block.kernel))
            convs.append(MaskedConv(weight, block.dilation, inner, masked))
            weight = taker.take(f"{name}.mconv.{first + 1}{level}.weight", (block.filters, inner, 1))
            convs.append(MaskedConv(weight, 1, 1, masked))
        else:
            weight = taker.take(f"{name}.mconv.{first}{level}.weight", (block.filters, inner, block.kernel))
            convs.append(MaskedConv(weight, block.dilation, 1, masked))
        repeats.append(SubBlock(convs, taker.take_norm(f"{name}.mconv.{first + len(convs)}", block.filters)))
        first += len(convs) + 3  # batch norm, activation, dropout
        inner = block.filters
    residual = None
    if block.residual:
        weight = taker.take(f"{name}.res.0.0{level}.weight", (block.filters, channels, 1))
        residual = SubBlock([MaskedConv(weight, 1, 1, masked)], taker.take_norm(f"{name}.res.0.1", block.filters))
    return JasperBlock(repeats, residual)


class _Taker:
    """Hands out weights by name, checking each one's shape; what is left over is foreign."""

    def __init__(self, path: Path, weights: dict[str, torch.Tensor]) -> None:
        self.path, self.weights = path, weights

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        value = self.weights.pop(name, None)
        if value is None:
            raise self._bad(name, "it is missing")
        if tuple(value.shape) != shape or not value.is_floating_point():
            raise self._bad(name, f"got {value.dtype} of shape {tuple(value.shape)}, need floats of {shape}")
        return value

    def take_norm(self, name: str, channels: int) -> Norm:
        parts = [self.take(f"{name}.{part}", (channels,)) for part in ("weight", "bias", "running_mean", "running_var")]
        if bool((parts[3] < 0).any()):
            raise self._bad(f"{name}.running_var", "got a negative variance")
        return Norm(*parts)

    def check_empty(self) -> None:
        for name in self.weights:
            if not name.startswith(_IGNORED_PREFIXES) and not name.endswith(_IGNORED_SUFFIXES):
                raise self._bad(name, "the configuration describes no such weight")

    def _bad(self, name: str, reason: str) -> InputError:
        return InputError(
            f"the checkpoint does not fit its configuration ({self.path}, {name:.100}): {reason}",
            "the .nemo's two files are not of one model, or of a NeMo that is not known here",
        )


def nemo_features(model: NemoModel, samples: np.ndarray) -> tuple[np.ndarray, Layout]:
    """Return what enters NeMo's encoder for a clip, float32 (total frames, coefficients), and its layout.

    samples: int16 (n,), one that clip_layout() has a layout for.
    """
    layout = clip_layout(model.preprocessor, model.crop_frames, len(samples))
    if layout is None:
        raise ValueError(f"NeMo has no fixed answer to a clip of {len(samples)} samples")
    values = clip_features(samples, model.preprocessor.frontend)[: layout.features].astype(np.float32)
    behind = layout.total - layout.before - layout.features
    return np.pad(values, ((layout.before, behind), (0, 0))), layout


def nemo_logits(network: MaskedNetwork, model: NemoModel, samples: np.ndarray) -> np.ndarray:
    """Return NeMo's logits for a clip, float32 (classes,). samples: as in nemo_features()."""
    values, layout = nemo_features(model, samples)
    with torch.no_grad():
        inputs = torch.from_numpy(np.ascontiguousarray(values.T[None]))
        logits: np.ndarray = network(inputs, layout.length)[0].numpy()
        return logits
