"""The YAML of a .nemo: what the model is, in our terms. What is not supported is refused by name."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.preprocessor import Preprocessor, describe_preprocessor
from mbx_deploy.nemo.section import Section, load_yaml
from mbx_deploy.system.documents import show

CROP, NO_CROP = "crop", "no-crop"
FORWARDS = (CROP, NO_CROP)
FIRST_NO_CROP = (2, 3)
MAX_BLOCKS = 64
MAX_REPEATS = 32
MAX_FILTERS = 4096
MAX_KERNEL = 1023


@dataclass(frozen=True)
class Block:
    """One Jasper block. Kernel and dilation count frames; kernel_size_factor is already in kernel."""

    filters: int
    repeat: int
    kernel: int
    dilation: int
    residual: bool
    separable: bool


@dataclass(frozen=True)
class NemoModel:
    """What a .nemo describes.

    forward: which of NeMo's two forward passes; forward_reason: why. crop_frames: frames that the spectrogram is padded
    to, or None where it is not. conv_mask: frames behind the clip's length are zeroed before every convolution.
    pooling: avg or max. notes: what the user ought to know.
    """

    path: Path
    nemo_version: str | None
    forward: str
    forward_reason: str
    labels: tuple[str, ...]
    preprocessor: Preprocessor
    crop_frames: int | None
    blocks: tuple[Block, ...]
    conv_mask: bool
    pooling: str
    notes: tuple[str, ...]

    @property
    def coefficients(self) -> int:
        """Values in a frame of features."""
        return self.preprocessor.frontend.num_coefficients


def describe(config: bytes, path: Path, forward: str | None = None) -> NemoModel:
    """Return the model that the YAML describes.

    forward: overrides what nemo_version says; "crop" or "no-crop". path: of the file, for messages.
    Raises InputError, naming the file and the key: the YAML is damaged, a key is missing or of the wrong kind, or asks
    for what is not supported.
    """
    typed, text = load_yaml(config, path), load_yaml(config, path, as_text=True)
    model, plain = Section(typed, path, ""), Section(text, path, "")
    target = plain.optional_text("target")
    if target and target.rpartition(".")[2] != "EncDecClassificationModel":
        raise model.unsupported("target", target, "EncDecClassificationModel")
    if model.flag("is_regression_task", False):
        raise model.unsupported("is_regression_task", "true", "a classifier")
    version = plain.optional_text("nemo_version")
    chosen, reason = _choose_forward(version, forward)
    preprocessor = describe_preprocessor(model.component("preprocessor"), version_number(version))
    rate = model.number("sample_rate", preprocessor.frontend.sample_rate_hz)
    if rate != preprocessor.frontend.sample_rate_hz:
        raise model.bad("sample_rate", rate, f"the preprocessor's, {preprocessor.frontend.sample_rate_hz}")
    blocks, conv_mask = _encoder(model.component("encoder"), preprocessor.frontend.num_coefficients)
    labels, notes = _labels(plain, chosen)
    decoder = model.component("decoder")
    decoder.need_class("ConvASRDecoderClassification")
    decoder.refuse_unknown(("feat_in", "num_classes", "return_logits", "pooling_type", "init_mode"))
    if decoder.whole("feat_in", 1, MAX_FILTERS) != blocks[-1].filters:
        raise decoder.bad("feat_in", decoder.get("feat_in"), f"the encoder's last filters, {blocks[-1].filters}")
    classes = decoder.whole("num_classes", 1, 1000, len(labels))
    if classes != len(labels):
        raise decoder.bad("num_classes", classes, f"as many as there are labels, {len(labels)}")
    return NemoModel(
        path=path,
        nemo_version=version,
        forward=chosen,
        forward_reason=reason,
        labels=labels,
        preprocessor=preprocessor,
        crop_frames=_crop_frames(model) if chosen == CROP else None,
        blocks=blocks,
        conv_mask=conv_mask,
        pooling=decoder.choice("pooling_type", ("avg", "max"), "avg"),
        notes=notes,
    )


def describe_frontend(config: bytes, path: Path, forward: str | None) -> tuple[Preprocessor, int | None, str]:
    """Return what a NeMo YAML says of the features: the preprocessor, the frames it is padded to or None, and why.

    config: a model's YAML, as it stands in a .nemo, or with the model below the key `model`. Raises as describe().
    """
    typed, text = load_yaml(config, path), load_yaml(config, path, as_text=True)
    if "preprocessor" not in typed and isinstance(typed.get("model"), dict):
        typed, text = typed["model"], text.get("model", {})
    model, plain = Section(typed, path, ""), Section(text, path, "")
    version = plain.optional_text("nemo_version")
    chosen, reason = _choose_forward(version, forward)
    preprocessor = describe_preprocessor(model.component("preprocessor"), version_number(version))
    return preprocessor, _crop_frames(model) if chosen == CROP else None, f"forward pass {chosen} ({reason})"


def version_number(version: str | None) -> tuple[int, int] | None:
    """Return (major, minor) of a NeMo release such as "2.2.1" or "1.0.0rc1"; None for what is no release."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version or "")
    return (int(match[1]), int(match[2])) if match else None


def _choose_forward(version: str | None, forward: str | None) -> tuple[str, str]:
    if forward is not None:
        if forward not in FORWARDS:
            raise InputError(f"bad forward pass (--forward): got {forward!r:.40}, need {' or '.join(FORWARDS)}")
        return forward, "as asked for"
    number = version_number(version)
    if number is None:
        found = "no nemo_version" if version is None else f"nemo_version {version!r:.40}"
        return CROP, f"the file tells {found}, so it is taken for an old one; --forward overrides it"
    return (NO_CROP if number >= FIRST_NO_CROP else CROP), f"saved by NeMo {version}; --forward overrides it"


def _crop_frames(model: Section) -> int | None:
    if model.get("crop_or_pad_augment") is None:
        return None
    augment = model.component("crop_or_pad_augment")
    augment.need_class("CropOrPadSpectrogramAugmentation")
    return augment.whole("audio_length", 2, 1 << 14)


def _labels(plain: Section, forward: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (labels in the order of the classes, notes). plain: the YAML with every scalar as it is written.

    YAML 1.1 takes an unquoted yes, no, on or off for a truth value: here they are words.
    """
    own = plain.words("labels", required=forward == CROP)
    if forward == CROP:
        return own, ()
    data = plain.get("train_ds")
    trained = plain.section("train_ds").words("labels", required=False) if isinstance(data, dict) else ()
    if not trained and not own:
        raise plain.missing("labels")
    if not trained:
        return own, ("the file holds no train_ds.labels: the classes are taken to be in the order of labels",)
    ordered = tuple(sorted(trained))
    if not own or own == ordered:
        return ordered, ()
    if set(own) == set(ordered):
        return ordered, (
            "labels and train_ds.labels disagree in their order: the classes are taken to be in the sorted order of "
            f"train_ds.labels ({', '.join(ordered)}), as NeMo from 2.3 on trains them",
        )
    return ordered, (
        f"labels ({', '.join(own)}) and train_ds.labels ({', '.join(ordered)}) disagree: the latter are taken, as NeMo "
        "from 2.3 on does",
    )


_BLOCK_KEYS: tuple[str, ...] = ("filters", "repeat", "kernel", "stride", "dilation", "dropout", "residual", "separable")
_BLOCK_KEYS += ("kernel_size_factor", "residual_mode", "stride_last")
# What must have its default: (key, default, why a model may not have another value).
_BLOCK_DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("groups", 1),
    ("heads", -1),
    ("se", False),
    ("residual_dense", False),
    ("future_context", -1),
)
_BLOCK_IGNORED = ("se_reduction_ratio", "se_context_size", "se_interpolation_mode")
_ENCODER_KEYS = ("feat_in", "activation", "conv_mask", "jasper", "init_mode", "norm_groups", "residual_mode")


def _encoder(encoder: Section, coefficients: int) -> tuple[tuple[Block, ...], bool]:
    encoder.need_class("ConvASREncoder")
    for key, default in (("normalization_mode", "batch"), ("frame_splicing", 1), ("quantize", False)):
        encoder.need_default(key, default)
    encoder.refuse_unknown((*_ENCODER_KEYS, "normalization_mode", "frame_splicing", "quantize"))
    encoder.choice("activation", ("relu",))
    encoder.choice("residual_mode", ("add", "stride_add"), "add")
    if encoder.whole("feat_in", 1, MAX_FILTERS) != coefficients:
        raise encoder.bad("feat_in", encoder.get("feat_in"), f"the preprocessor's coefficients, {coefficients}")
    entries = encoder.get("jasper")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_BLOCKS:
        raise encoder.bad("jasper", entries, f"a list of 1 to {MAX_BLOCKS} blocks")
    names = [f"{encoder.name}.jasper[{i}]" for i in range(len(entries))]
    blocks = [_block(Section(entry, encoder.path, name)) for entry, name in zip(entries, names, strict=True)]
    return tuple(blocks), encoder.flag("conv_mask", True)


def _block(block: Section) -> Block:
    for key, default in _BLOCK_DEFAULTS:
        block.need_default(key, default)
    block.refuse_unknown((*_BLOCK_KEYS, *(key for key, _ in _BLOCK_DEFAULTS), *_BLOCK_IGNORED))
    block.choice("residual_mode", ("add", "stride_add"), "add")
    if _single(block, "stride") != 1:
        raise block.unsupported("stride", show(block.get("stride")), "1")
    factor = block.number("kernel_size_factor", 1.0)
    size = _single(block, "kernel") * factor
    if not (math.isfinite(size) and 0 <= size <= MAX_KERNEL):
        raise block.bad("kernel", size, f"at most {MAX_KERNEL} frames")
    kernel = max(int(size), 1)
    return Block(
        filters=block.whole("filters", 1, MAX_FILTERS),
        repeat=block.whole("repeat", 1, MAX_REPEATS),
        kernel=kernel + 1 - kernel % 2,
        dilation=_single(block, "dilation"),
        residual=block.flag("residual"),
        separable=block.flag("separable", False),
    )


def _single(block: Section, key: str) -> int:
    """Return a size that NeMo writes as a list of one number, or as the number."""
    value = block.get(key)
    if value is None:
        raise block.missing(key)
    if isinstance(value, list):
        if len(value) != 1:
            raise block.bad(key, value, "one number")
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 255 + MAX_KERNEL * (key == "kernel"):
        raise block.bad(key, value, "a positive whole number")
    return value
