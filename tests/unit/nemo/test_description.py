"""What the YAML of a .nemo says: defaults, old forms, the order of labels, and refusals by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.description import NemoModel, describe, version_number
from mbx_deploy.nemo.preprocessor import clip_layout
from tests.made.nemo import entry, mel_preprocessor, small_config

PATH = Path("some/model.nemo")
Change = Callable[[dict[str, Any]], object]


def described(config: dict[str, Any], forward: str | None = None) -> NemoModel:
    return describe(yaml.safe_dump(config).encode(), PATH, forward)


@pytest.mark.parametrize(
    ("version", "forward"),
    [
        ("1.0.0rc1", "crop"),
        ("1.23.0", "crop"),
        ("2.2.1", "crop"),
        ("2.3.0", "no-crop"),
        ("2.6.2", "no-crop"),
        ("2.10.0", "no-crop"),
        ("10.0.0", "no-crop"),
        (2.3, "no-crop"),
        (2.1, "crop"),
        ("main", "crop"),
        (None, "crop"),
    ],
)
def test_the_release_chooses_the_forward_pass(version: Any, forward: str) -> None:
    model = described(small_config(nemo_version=version))
    assert model.forward == forward
    assert model.crop_frames == (128 if forward == "crop" else None)
    assert version is None or str(version) in model.forward_reason
    other = "crop" if forward == "no-crop" else "no-crop"
    assert described(small_config(nemo_version=version), other).forward == other


def test_version_numbers() -> None:
    assert version_number("1.0.0rc1") == (1, 0)
    assert version_number("2.10") == (2, 10)
    assert version_number("x") is None


def test_defaults_of_the_mfcc() -> None:
    name = "nemo.collections.asr.modules.AudioToMFCCPreprocessor"
    config = small_config(preprocessor={"_target_": name})
    config["encoder"]["feat_in"] = 64
    del config["encoder"]["conv_mask"]
    model = described(config)
    frontend = model.preprocessor.frontend
    assert (frontend.window_length, frontend.hop_length, frontend.n_fft) == (320, 160, 512)
    assert (frontend.n_mels, frontend.n_mfcc, frontend.low_hz, frontend.high_hz) == (64, 64, 0.0, 8000.0)
    assert (frontend.log_offset, frontend.window, frontend.mel_scale) == (1e-6, "hann_periodic", "htk")
    assert model.conv_mask


def test_defaults_of_the_mel_spectrogram() -> None:
    for version, edge, valid in (("0.11.1", "reflect", 100), ("2.4.0", "reflect", 101), ("2.5.0", "zero", 100)):
        preprocessor = described(small_config(preprocessor=mel_preprocessor(), nemo_version=version)).preprocessor
        frontend = preprocessor.frontend
        assert (frontend.preemphasis, frontend.log_offset, frontend.n_mfcc) == (0.97, 2.0**-24, 0)
        assert (frontend.window, frontend.mel_scale, frontend.mel_norm) == ("hann_symmetric", "slaney", "slaney")
        assert (frontend.edge, preprocessor.valid_frames(16000), preprocessor.pad_to) == (edge, valid, 16)


def test_layouts() -> None:
    model = described(small_config(nemo_version="2.2.1"))
    layout = clip_layout(model.preprocessor, model.crop_frames, 16000)
    assert layout and (layout.before, layout.features, layout.total, layout.length) == (13, 101, 128, 128)
    assert clip_layout(model.preprocessor, model.crop_frames, 128 * 160) is None
    assert clip_layout(model.preprocessor, model.crop_frames, 256) is None
    layout = clip_layout(model.preprocessor, None, 16000)
    assert layout and (layout.before, layout.features, layout.total, layout.length) == (0, 101, 101, 100)
    mel = described(small_config(preprocessor=mel_preprocessor())).preprocessor
    layout = clip_layout(mel, None, 16000)
    assert layout and (layout.before, layout.features, layout.total, layout.length) == (0, 100, 112, 100)


def test_words_stay_words_quoted_or_not() -> None:
    text = yaml.safe_dump(small_config())
    unquoted = re.sub(r"'(yes|no|on|off)'", r"\1", text)
    assert unquoted != text
    assert describe(unquoted.encode(), PATH).labels == ("down", "no", "on", "yes")
    text = text.replace("'yes'", "null").replace("'on'", "1_0").replace("'no'", "0x1F").replace("down", "12:30")
    assert sorted(describe(text.encode(), PATH, "crop").labels) == ["0x1F", "12:30", "1_0", "null"]


def test_truth_values_may_be_words() -> None:
    text = yaml.safe_dump(small_config()).replace("residual: true", "residual: 'yes'")
    assert [block.residual for block in describe(text.encode(), PATH).blocks] == [False, True, True, False, False]


def test_the_order_of_labels() -> None:
    labels = ["yes", "no", "down", "on"]
    config = small_config(labels=labels, train_ds={"labels": sorted(labels)})
    assert described(config, "crop").labels == tuple(labels)
    assert not described(config, "crop").notes
    model = described(config, "no-crop")
    assert model.labels == tuple(sorted(labels))
    assert "disagree" in model.notes[0]
    assert described(small_config(train_ds={"labels": labels})).labels == ("down", "no", "on", "yes")
    assert described(small_config(labels=None)).labels == ("down", "no", "on", "yes")
    for train in (None, {}, {"labels": None}):
        model = described(small_config(labels=labels, train_ds=train))
        assert model.labels == tuple(labels) and model.notes
    assert not described(small_config()).notes


def test_hydras_old_form() -> None:
    config = small_config()
    for name in ("preprocessor", "encoder", "decoder", "crop_or_pad_augment"):
        part = config[name]
        config[name] = {"cls": part.pop("_target_"), "params": part}
    assert described(config) == described(small_config())


def test_kernel_size_factor() -> None:
    config = small_config()
    for block, factor in zip(config["encoder"]["jasper"], (0.5, 1.0, 2, 1.5, 0.1), strict=True):
        block["kernel_size_factor"] = factor
    assert [block.kernel for block in described(config).blocks] == [3, 7, 19, 17, 1]


def block(**values: Any) -> Change:
    return lambda config: config["encoder"]["jasper"][1].update(values)


def part(name: str, **values: Any) -> Change:
    return lambda config: config[name].update(values)


REFUSED: list[tuple[str, Change]] = [
    ("QuartzEncoder", part("encoder", _target_="nemo.collections.asr.modules.QuartzEncoder")),
    ("ConformerEncoder", part("encoder", _target_="nemo.collections.asr.modules.ConformerEncoder")),
    ("AudioToSpectrogram", part("preprocessor", _target_="nemo.collections.asr.modules.AudioToSpectrogram")),
    ("SpeakerDecoder", part("decoder", _target_="nemo.collections.asr.modules.SpeakerDecoder")),
    ("EncDecCTCModel", lambda c: c.update(target="nemo.collections.asr.models.EncDecCTCModel")),
    ("is_regression_task", lambda c: c.update(is_regression_task=True)),
    ("activation is 'swish'", part("encoder", activation="swish")),
    ("normalization_mode is 'layer'", part("encoder", normalization_mode="layer")),
    ("frame_splicing", part("encoder", frame_splicing=3)),
    ("encoder.new_option", part("encoder", new_option=1)),
    ("jasper[1].groups is 4", block(groups=4)),
    ("jasper[1].heads is 8", block(heads=8)),
    ("jasper[1].se is True", block(se=True)),
    ("jasper[1].stride is [2]", block(stride=[2])),
    ("jasper[1].residual_mode is 'max'", block(residual_mode="max")),
    ("jasper[1].residual_dense", block(residual_dense=True)),
    ("jasper[1].future_context", block(future_context=2)),
    ("jasper[1].novelty", block(novelty=2)),
    ("pooling_type is 'attention'", part("decoder", pooling_type="attention")),
    ("window is 'hamming'", part("preprocessor", window="hamming")),
    ("preprocessor.log is False", part("preprocessor", log=False)),
    ("dct_type", part("preprocessor", dct_type=3)),
    ("preprocessor.norm", part("preprocessor", norm=None, dct_type=1)),
    ("n_fft", part("preprocessor", n_fft=500)),
    ("normalize is 'per_feature'", lambda c: c.update(preprocessor=mel_preprocessor(normalize="per_feature"))),
    (
        "normalize is 'per_feature'",
        lambda c: (c.update(preprocessor=mel_preprocessor()), c["preprocessor"].pop("normalize")),
    ),
    ("mag_power is 1.0", lambda c: c.update(preprocessor=mel_preprocessor(mag_power=1.0))),
    ("log_zero_guard_type is 'clamp'", lambda c: c.update(preprocessor=mel_preprocessor(log_zero_guard_type="clamp"))),
    ("exact_pad", lambda c: c.update(preprocessor=mel_preprocessor(exact_pad=True))),
]
REFUSED[22] = ("dct_type is 1", REFUSED[22][1])


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=[f"{i} {name}" for i, (name, _) in enumerate(REFUSED)])
def test_what_is_not_supported_is_refused_by_name(name: str, change: Change) -> None:
    config = small_config()
    change(config)
    with pytest.raises(InputError) as caught:
        described(config)
    assert name in caught.value.what
    assert str(PATH) in caught.value.what


BAD: list[tuple[str, Change]] = [
    ("preprocessor", lambda c: c.pop("preprocessor")),
    ("encoder", lambda c: c.pop("encoder")),
    ("decoder", lambda c: c.pop("decoder")),
    ("labels", lambda c: (c.pop("labels"), c.pop("train_ds"))),
    ("encoder._target_", lambda c: c["encoder"].pop("_target_")),
    ("encoder.jasper", lambda c: c["encoder"].pop("jasper")),
    ("encoder.jasper", part("encoder", jasper=[])),
    ("encoder.jasper[0]", part("encoder", jasper=["x"])),
    ("encoder.feat_in", part("encoder", feat_in=11)),
    ("encoder.activation", lambda c: c["encoder"].pop("activation")),
    ("decoder.feat_in", part("decoder", feat_in=17)),
    ("decoder.num_classes", part("decoder", num_classes=5)),
    ("jasper[1].filters", lambda c: c["encoder"]["jasper"][1].pop("filters")),
    ("jasper[1].filters", block(filters="${model.filters}")),
    ("jasper[1].kernel", block(kernel=[3, 5])),
    ("jasper[1].kernel", block(kernel=["a"])),
    ("jasper[1].kernel", block(kernel=[10**9])),
    ("jasper[1].kernel_size_factor", block(kernel_size_factor="wide")),
    ("jasper[1].kernel", block(kernel_size_factor=float("inf"))),
    ("jasper[1].repeat", block(repeat=10**6)),
    ("jasper[1].repeat", block(repeat=True)),
    ("jasper[1].residual", lambda c: c["encoder"]["jasper"][1].pop("residual")),
    ("jasper[1].residual", block(residual=3)),
    ("labels", lambda c: c.update(labels=["a", "a", "b", "c"])),
    ("labels", lambda c: c.update(labels="abcd")),
    ("sample_rate", lambda c: c.update(sample_rate=8000)),
    ("window_size", part("preprocessor", window_size="long")),
    ("window_size", part("preprocessor", window_size=float("nan"))),
    ("n_window_size", part("preprocessor", n_window_size=400)),
    ("audio_length", part("crop_or_pad_augment", audio_length=None)),
]


@pytest.mark.parametrize(("name", "change"), BAD, ids=[f"{i} {name}" for i, (name, _) in enumerate(BAD)])
def test_bad_values_are_named(name: str, change: Change) -> None:
    config = small_config()
    change(config)
    with pytest.raises(InputError) as caught:
        described(config, "crop")
    assert name in caught.value.what
    assert str(PATH) in caught.value.what


def test_sizes_may_be_plain_numbers() -> None:
    config = small_config()
    config["encoder"]["jasper"][0] = {**entry(12, 5), "kernel": 5, "stride": 1, "dilation": 1}
    assert described(config) == described(small_config())
