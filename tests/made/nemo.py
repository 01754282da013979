"""NeMo's classifier written anew after NeMo's own modules, and .nemo files of it, for tests.

It shares no code with mbx_deploy.nemo. Weights have NeMo's names.
"""

import copy
import io
import tarfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

LABELS = ["down", "no", "on", "yes"]


class MaskedConv1d(nn.Module):
    """NeMo's MaskedConv1d: zeroes frames from the length on, then convolves."""

    def __init__(self, *args: Any, use_mask: bool = True, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv1d(*args, **options, bias=False)  # type: ignore[misc]
        self.use_mask = use_mask

    def forward(self, x: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        if self.use_mask:
            mask = torch.arange(x.shape[2])[None] < lens[:, None]
            x = x * mask[:, None].to(x.dtype)
        return self.conv(x)


class Block(nn.Module):
    """NeMo's JasperBlock, of the options that matter here."""

    def __init__(self, channels: int, entry: dict[str, Any], conv_mask: bool) -> None:
        super().__init__()
        factor = float(entry.get("kernel_size_factor", 1.0))
        kernel = max(int(entry["kernel"][0] * factor), 1)
        kernel += 1 - kernel % 2
        dilation, filters = entry["dilation"][0], entry["filters"]
        mconv: list[nn.Module] = []
        inner = channels
        for repeat in range(entry["repeat"]):
            same = {"padding": dilation * (kernel - 1) // 2, "dilation": dilation}
            if entry.get("separable", False):
                mconv.append(self.conv(conv_mask, inner, inner, kernel, groups=inner, **same))
                mconv.append(self.conv(conv_mask, inner, filters, 1))
            else:
                mconv.append(self.conv(conv_mask, inner, filters, kernel, **same))
            mconv.append(nn.BatchNorm1d(filters, eps=1e-3, momentum=0.1))
            if repeat + 1 < entry["repeat"]:
                mconv += [nn.ReLU(), nn.Dropout(0.0)]
            inner = filters
        self.mconv = nn.ModuleList(mconv)
        self.res = None
        if entry["residual"]:
            branch = [self.conv(conv_mask, channels, filters, 1), nn.BatchNorm1d(filters, eps=1e-3, momentum=0.1)]
            self.res = nn.ModuleList([nn.ModuleList(branch)])

    @staticmethod
    def conv(conv_mask: bool, *args: Any, **options: Any) -> nn.Module:
        return MaskedConv1d(*args, **options) if conv_mask else nn.Conv1d(*args, **options, bias=False)  # type: ignore[misc]

    def forward(self, x: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        y = self.run(self.mconv, x, lens)
        if self.res is not None:
            y = y + self.run(self.res[0], x, lens)
        return torch.relu(y)

    @staticmethod
    def run(layers: Any, x: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            x = layer(x, lens) if isinstance(layer, MaskedConv1d) else layer(x)
        return x


class Encoder(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        sizes = [config["feat_in"]] + [entry["filters"] for entry in config["jasper"]]
        self.encoder = nn.Sequential(
            *(Block(sizes[i], entry, config.get("conv_mask", True)) for i, entry in enumerate(config["jasper"]))
        )


class Decoder(nn.Module):
    def __init__(self, channels: int, classes: int, pooling: str) -> None:
        super().__init__()
        self.pooling = nn.AdaptiveAvgPool1d(1) if pooling == "avg" else nn.AdaptiveMaxPool1d(1)
        self.decoder_layers = nn.Sequential(nn.Linear(channels, classes))

    def forward(self, encoder_output: torch.Tensor) -> torch.Tensor:
        batch, channels, _ = encoder_output.size()
        return self.decoder_layers(self.pooling(encoder_output).view(batch, channels))


class Classifier(nn.Module):
    """Features (N, C, T) and lengths (N,) -> logits (N, classes)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(config["encoder"])
        decoder = config["decoder"]
        self.decoder = Decoder(decoder["feat_in"], decoder["num_classes"], decoder.get("pooling_type", "avg"))

    def forward(self, audio_signal: torch.Tensor, length: torch.Tensor | None = None) -> torch.Tensor:
        lens = torch.full((audio_signal.shape[0],), audio_signal.shape[2]) if length is None else length
        x = audio_signal
        for block in self.encoder.encoder:
            x = block(x, lens)
        return self.decoder(x)


def entry(filters: int, kernel: int, **options: Any) -> dict[str, Any]:
    """Return one entry of the YAML's list of blocks."""
    values = {"filters": filters, "repeat": 1, "kernel": [kernel], "stride": [1], "dilation": [1], "dropout": 0.0}
    return {**values, "residual": False, "separable": True, **options}


def small_config(**changes: Any) -> dict[str, Any]:
    """Return the YAML of a small MatchboxNet; changes replace whole top-level keys."""
    blocks = [
        entry(12, 5),
        entry(8, 7, residual=True, repeat=2),
        entry(8, 9, residual=True),
        entry(16, 11, dilation=[2]),
        {**entry(16, 1), "separable": False},
    ]
    return copy.deepcopy(
        {
            "sample_rate": 16000,
            "labels": LABELS,
            "train_ds": {"labels": LABELS},
            "preprocessor": {
                "_target_": "nemo.collections.asr.modules.AudioToMFCCPreprocessor",
                "window_size": 0.025,
                "n_mels": 20,
                "n_mfcc": 10,
                "n_fft": 512,
            },
            "crop_or_pad_augment": {
                "_target_": "nemo.collections.asr.modules.CropOrPadSpectrogramAugmentation",
                "audio_length": 128,
            },
            "encoder": {
                "_target_": "nemo.collections.asr.modules.ConvASREncoder",
                "feat_in": 10,
                "activation": "relu",
                "conv_mask": True,
                "jasper": blocks,
            },
            "decoder": {
                "_target_": "nemo.collections.asr.modules.ConvASRDecoderClassification",
                "feat_in": 16,
                "return_logits": True,
                "pooling_type": "avg",
                "num_classes": 4,
            },
            "target": "nemo.collections.asr.models.classification_models.EncDecClassificationModel",
            "nemo_version": "2.6.2",
            **changes,
        }
    )


def mel_preprocessor(**changes: Any) -> dict[str, Any]:
    """Return the YAML of a mel spectrogram without normalisation."""
    name = "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor"
    return {"_target_": name, "window_size": 0.025, "features": 10, "n_fft": 512, "normalize": None, **changes}


def build_classifier(config: dict[str, Any], seed: int = 0) -> Classifier:
    """Return the network of a YAML with random weights and statistics, in evaluation mode."""
    torch.manual_seed(seed)
    network = Classifier(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.2, 0.5)
            nn.init.normal_(module.running_mean, 0.0, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.3, 2.0)  # type: ignore[arg-type]
    return network.eval()


def checkpoint_bytes(weights: dict[str, Any], legacy: bool = False) -> bytes:
    """Return what torch.save writes; legacy: as before torch 1.6."""
    buffer = io.BytesIO()
    torch.save(weights, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def tar_bytes(files: dict[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of these files. mode: "w" or "w:gz"."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=kind) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.pax_headers = {"comment": "x" * 600} if kind == tarfile.PAX_FORMAT else {}
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_nemo(path: Path, config: dict[str, Any], weights: dict[str, Any] | None = None) -> Path:
    """Write a .nemo of a YAML, with random weights where none are given."""
    weights = build_classifier(config).state_dict() if weights is None else weights
    files = {"./model_config.yaml": yaml.safe_dump(config, sort_keys=False).encode()}
    path.write_bytes(tar_bytes(files | {"./model_weights.ckpt": checkpoint_bytes(dict(weights))}))
    return path
