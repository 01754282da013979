"""NeMo's network with its masks, and ours without: against an implementation of its own (tests/nemo_builder.py)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbx_deploy.engines.nemo import NemoFloatEngine
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.nemo.clips import real_calibration, synthetic_calibration
from mbx_deploy.nemo.conversion import ImportRequest, import_model, import_nemo
from mbx_deploy.nemo.masked import nemo_features
from mbx_deploy.train.checkpoint import load_checkpoint
from tests.made.nemo import build_classifier, entry, mel_preprocessor, small_config, write_nemo


def with_blocks(*blocks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    config = small_config(**changes)
    config["encoder"]["jasper"] = list(blocks)
    config["decoder"]["feat_in"] = blocks[-1]["filters"]
    return config


def with_part(name: str, values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    config = small_config(**changes)
    config[name].update(values)
    return config


FULL = {"separable": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "no-crop": small_config(),
    "crop": small_config(nemo_version="2.2.1"),
    "no-crop, max": with_part("decoder", {"pooling_type": "max"}),
    "crop, max": with_part("decoder", {"pooling_type": "max"}, nemo_version="1.0.0"),
    "old MarbleNet": small_config(nemo_version="1.23.0", crop_or_pad_augment=None),
    "short crop": small_config(
        nemo_version="2.2.1", crop_or_pad_augment={"_target_": "CropOrPadSpectrogramAugmentation", "audio_length": 64}
    ),
    "last block residual": with_blocks(entry(8, 5), entry(12, 7, residual=True, repeat=3)),
    "last block residual, max": {
        **with_blocks(entry(8, 5), entry(12, 7, residual=True)),
        "decoder": {
            "_target_": "x.ConvASRDecoderClassification",
            "feat_in": 12,
            "num_classes": 4,
            "pooling_type": "max",
        },
    },
    "one separable block": with_blocks(entry(12, 9)),
    "repeats without residual": with_blocks(entry(8, 5, repeat=3), entry(12, 3, repeat=2)),
    "not separable": with_blocks(
        entry(8, 5, **FULL), entry(12, 7, residual=True, repeat=2, **FULL), entry(6, 1, **FULL)
    ),
    "dilated": with_blocks(entry(8, 15, dilation=[4]), entry(8, 9, dilation=[12], residual=True), entry(6, 1)),
    "no masks": with_part("encoder", {"conv_mask": False}),
    "not separable at the end, crop": with_blocks(entry(8, 5), entry(6, 5, **FULL), nemo_version="2.2.1"),
    "mel": small_config(preprocessor=mel_preprocessor()),
    "mel of 2.4": small_config(preprocessor=mel_preprocessor(), nemo_version="2.4.0"),
    "mel of 2.4, not padded": small_config(preprocessor=mel_preprocessor(pad_to=0), nemo_version="2.4.0"),
    "mel, crop": small_config(preprocessor=mel_preprocessor(), nemo_version="2.2.1"),
    "mel without masks": with_part("encoder", {"conv_mask": False}, preprocessor=mel_preprocessor(preemph=None)),
}


def clips(samples: int, count: int = 6) -> np.ndarray:
    return synthetic_calibration(samples, 16000, count).clips


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_nemos_network(tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]
    path = write_nemo(tmp_path / "model.nemo", config)
    theirs = build_classifier(config)
    engine = NemoFloatEngine(path, None, lambda line: None)
    imported = import_nemo(path)
    front_end = HostFrontend(imported.frontend)
    assert imported.network.config.input_frames == imported.frontend.num_frames
    samples = imported.frontend.clip_samples
    assert samples == (10080 if name == "short crop" else 16000)
    # Lengths that NeMo takes: its masked network, on features of any length.
    for length in (samples, samples - 1, samples // 2, 257):
        clip = clips(length, 2)[1]
        values, layout = nemo_features(engine.model, clip)
        with torch.no_grad():
            inputs = torch.from_numpy(np.ascontiguousarray(values.T[None]))
            want = theirs(inputs, torch.tensor([layout.length]))[0].numpy()
        np.testing.assert_allclose(engine.logits(clip), want, rtol=1e-4, atol=1e-4)
    # The model's own length: our network without masks, on the device's features.
    batch = clips(samples)
    coefficients = front_end.coefficients(batch).astype(np.float32) / 65536
    with torch.no_grad():
        ours = imported.network(torch.from_numpy(coefficients.transpose(0, 2, 1)[:, :, None].copy())).numpy()
    want = np.stack([engine.logits(clip) for clip in batch])
    np.testing.assert_allclose(ours, want, rtol=0, atol=2e-3 * np.abs(want).max())


def test_a_last_block_that_leaves_its_frames_open_is_refused(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "model.nemo", with_blocks(entry(8, 5), entry(6, 5, **FULL)))
    with pytest.raises(InputError, match="last block"):
        import_nemo(path)
    NemoFloatEngine(path, None, lambda line: None)


def test_the_wrong_forward_pass_differs(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "model.nemo", small_config())
    clip = clips(16000)[3]
    heard: list[str] = []
    passes = [NemoFloatEngine(path, forward, heard.append).logits(clip) for forward in (None, "no-crop", "crop")]
    np.testing.assert_array_equal(passes[0], passes[1])
    assert np.abs(passes[0] - passes[2]).max() > 1e-3
    assert "no-crop (saved by NeMo 2.6.2" in heard[0] and "as asked for" in heard[2]


def test_clips_of_another_length(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "model.nemo", small_config(nemo_version="2.2.1"))
    imported = import_nemo(path, clip_ms=630)
    assert (imported.frontend.clip_samples, imported.frontend.num_frames) == (10080, 128)
    with pytest.raises(InputError, match="crops"):
        import_nemo(path, clip_ms=2000)
    assert import_nemo(path, "no-crop", 2000).frontend.num_frames == 200


@pytest.mark.slow
def test_an_imported_checkpoint_is_ours(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "model.nemo", CONFIGS["no-crop, max"])
    heard: list[str] = []
    report = import_model(ImportRequest(path, tmp_path / "model.pt"), heard.append)
    assert report["labels"] == ["down", "no", "on", "yes"]
    module, info = load_checkpoint(tmp_path / "model.pt")
    imported = import_nemo(path)
    assert info.provenance == imported.provenance and info.frontend == imported.frontend
    inputs = torch.randn(3, 10, 1, info.frontend.num_frames)
    with torch.no_grad():
        torch.testing.assert_close(module(inputs), imported.network(inputs), rtol=0, atol=0)
    (tmp_path / "again.pt").write_bytes((tmp_path / "model.pt").read_bytes())
    import_model(ImportRequest(path, tmp_path / "model.pt"), heard.append)
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "model.pt").read_bytes()


def test_requests_that_do_not_go_together(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "model.nemo", small_config())
    for request in (
        ImportRequest(path, tmp_path / "model.txt"),
        ImportRequest(None, tmp_path / "model.pt"),
        ImportRequest(tmp_path / "model.bin", tmp_path / "model.pt"),
        ImportRequest(path, tmp_path / "model.pt", labels=path),
        ImportRequest(path, tmp_path / "model.pt", forward="sideways"),
        ImportRequest(tmp_path / "model.onnx", tmp_path / "model.pt"),
    ):
        with pytest.raises(InputError):
            import_model(request, lambda line: None)
    assert [found.name for found in tmp_path.iterdir()] == ["model.nemo"]


def test_the_synthetic_set_is_the_same_every_time() -> None:
    first, second = synthetic_calibration(16000, 16000, 12), synthetic_calibration(16000, 16000, 12)
    np.testing.assert_array_equal(first.clips, second.clips)
    assert first.clips.dtype == np.int16 and first.clips.shape == (12, 16000)
    assert not first.clips[0].any()
    assert np.abs(first.clips[1:].astype(int)).max() > 3000


def test_real_clips_for_calibration(speech_commands: Path, tmp_path: Path) -> None:
    found = real_calibration(speech_commands, 16000, 16000, ("yes", "no", "nonsense"), 20)
    assert found.clips.shape == (20, 16000)
    assert "2 of 3 words" in found.text
    assert real_calibration(speech_commands / "cat", 16000, 16000, ("yes",), 7).clips.shape == (7, 16000)
    with pytest.raises(InputError, match="no recordings"):
        real_calibration(tmp_path, 16000, 16000, ("yes",))
    with pytest.raises(InputError, match="no data set"):
        real_calibration(tmp_path / "none", 16000, 16000, ("yes",))
