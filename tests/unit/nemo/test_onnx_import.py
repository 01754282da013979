"""Importing a classifier from ONNX, as NeMo exports it: batch norm folded, a tail of Shape, Gather and Reshape."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from torch import nn

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.conversion import ImportRequest, import_model
from mbx_deploy.nemo.onnx_import import import_onnx
from mbx_deploy.train.checkpoint import load_checkpoint
from tests.made.nemo import LABELS, Classifier, MaskedConv1d, build_classifier, entry, small_config


def onnx_bytes(network: nn.Module, frames: int | None = None, coefficients: int = 10, fold: bool = True) -> bytes:
    """Return what NeMo's export() writes: masks off, a dynamic batch and time, or a fixed time."""
    for module in network.modules():
        if isinstance(module, MaskedConv1d):
            module.use_mask = False
    buffer = io.BytesIO()
    axes = {"audio_signal": {0: "b", 2: "t"}, "logits": {0: "b"}} if frames is None else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, coefficients, frames or 192),),
            buffer,  # type: ignore[arg-type, unused-ignore]
            input_names=["audio_signal"],
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=17,
            training=torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    return buffer.getvalue()


def write(folder: Path, data: bytes, config: dict[str, Any] | None = None) -> tuple[Path, Path, Path]:
    """Write a model, its labels and its YAML; return their paths."""
    paths = folder / "model.onnx", folder / "labels.txt", folder / "config.yaml"
    paths[0].write_bytes(data)
    paths[1].write_text("\n".join(LABELS) + "\n")
    paths[2].write_text(yaml.safe_dump(config or small_config()))
    return paths


def blocks(*entries: dict[str, Any], pooling: str = "avg") -> dict[str, Any]:
    config = small_config()
    config["encoder"]["jasper"] = list(entries)
    config["decoder"].update(feat_in=entries[-1]["filters"], pooling_type=pooling)
    return config


FULL = {"separable": False}
CONFIGS = {
    "MatchboxNet": small_config(),
    "three repeats": blocks(entry(8, 5), entry(12, 7, residual=True, repeat=3), entry(8, 1, **FULL)),
    "max": blocks(entry(8, 5), entry(12, 7, residual=True), entry(8, 1, **FULL), pooling="max"),
    "not separable": blocks(
        entry(8, 5, **FULL), entry(12, 3, residual=True, **FULL), entry(8, 1, residual=True, **FULL)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("frames", [None, 101, 128])
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_onnxruntime(tmp_path: Path, name: str, frames: int | None, fold: bool) -> None:
    data = onnx_bytes(build_classifier(CONFIGS[name]), frames, fold=fold)
    model, labels, config = write(tmp_path, data)
    forward = "crop" if frames == 128 else "no-crop"
    imported = import_onnx(model, labels, config, forward, None)
    assert imported.labels == tuple(LABELS)
    assert imported.frontend.num_frames == (128 if frames == 128 else 101)
    values = np.random.default_rng(1).normal(size=(3, 10, imported.frontend.num_frames)).astype(np.float32) * 5
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    want = np.concatenate([session.run(None, {"audio_signal": clip[None]})[0] for clip in values])
    with torch.no_grad():
        got = imported.network(torch.from_numpy(values[:, :, None])).numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_the_graph_is_what_nemo_exports() -> None:
    kinds = {
        node.op_type for node in onnx.load_model_from_string(onnx_bytes(build_classifier(small_config()))).graph.node
    }
    assert "BatchNormalization" not in kinds
    assert {"Conv", "Relu", "Add", "Gemm"} <= kinds and kinds & {"Shape", "Reshape"}


@pytest.mark.slow
def test_the_front_end_of_the_yaml_and_without_one(tmp_path: Path) -> None:
    model, labels, config = write(
        tmp_path, onnx_bytes(build_classifier(small_config())), small_config(nemo_version="2.2.1")
    )
    frontend = import_onnx(model, labels, config, None, None).frontend
    assert (frontend.pad_frames_before, frontend.num_frames, frontend.n_mfcc) == (13, 128, 10)
    config.write_text(yaml.safe_dump({"name": "x", "model": small_config()}))
    assert import_onnx(model, labels, config, None, None).frontend.num_frames == 101
    with pytest.raises(InputError, match="64 coefficients, need 10"):
        import_onnx(model, labels, None, None, None)
    stock = small_config()
    stock["encoder"]["feat_in"] = 64
    model.write_bytes(onnx_bytes(build_classifier(stock), coefficients=64))
    assert import_onnx(model, labels, None, None, None).frontend.num_frames == 128
    assert import_onnx(model, labels, None, "no-crop", None).frontend.num_frames == 101
    model.write_bytes(onnx_bytes(build_classifier(stock), 101, coefficients=64))
    assert import_onnx(model, labels, None, None, None).frontend.num_frames == 101
    with pytest.raises(InputError, match="got 128 frames, need 101"):
        import_onnx(model, labels, None, "crop", None)


@pytest.mark.slow
def test_writes_a_checkpoint(tmp_path: Path) -> None:
    model, labels, config = write(tmp_path, onnx_bytes(build_classifier(small_config())))
    request = ImportRequest(model, tmp_path / "model.pt", labels=labels, frontend=config)
    import_model(request, lambda line: None)
    module, info = load_checkpoint(tmp_path / "model.pt")
    assert info.labels == tuple(LABELS)
    imported = import_onnx(model, labels, config, None, None)
    inputs = torch.randn(2, 10, 1, 101)
    with torch.no_grad():
        torch.testing.assert_close(module(inputs), imported.network(inputs), rtol=0, atol=0)


class Other(nn.Module):
    """Convolutions that are no MatchboxNet."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        options: dict[str, Any] = {"stride": {"stride": 2}, "groups": {"groups": 2}, "short": {"padding": 0}}.get(
            kind, {}
        )
        self.kind = kind
        self.conv = nn.Conv1d(10, 8, 3, **{"padding": 1, **options})
        self.linear = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = torch.sigmoid(x) if self.kind == "sigmoid" else torch.relu(x)
        if self.kind == "frames":
            return self.linear(x.transpose(1, 2))
        return self.linear(x.mean(dim=1 if self.kind == "axis" else 2)[:, :8])


@pytest.mark.parametrize("kind", ["stride", "groups", "short", "sigmoid", "frames", "axis"])
def test_other_graphs_are_refused(tmp_path: Path, kind: str) -> None:
    model, labels, config = write(tmp_path, onnx_bytes(Other(kind), 101))
    with pytest.raises(InputError, match=str(model)):
        import_onnx(model, labels, config, "no-crop", None)


def test_bad_files(tmp_path: Path) -> None:
    data = onnx_bytes(build_classifier(small_config()))
    model, labels, config = write(tmp_path, data)
    for broken in (b"", b"hello" * 100, data[: len(data) // 2]):
        model.write_bytes(broken)
        with pytest.raises(InputError, match=str(model)):
            import_onnx(model, labels, config, None, None)
    model.write_bytes(data)
    for text in ("a\nb\nc\n", "a\na\nb\nc\n", ""):
        labels.write_text(text)
        with pytest.raises(InputError, match=str(labels)):
            import_onnx(model, labels, config, None, None)
    write(tmp_path, data)
    for text in ("x", "preprocessor: 3"):
        config.write_text(text)
        with pytest.raises(InputError, match=str(config)):
            import_onnx(model, labels, config, None, None)
    for missing in ((tmp_path / "x", labels, config), (model, tmp_path / "x", config), (model, labels, tmp_path / "x")):
        with pytest.raises(InputError, match=str(tmp_path / "x")):
            import_onnx(*missing, None, None)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    loaded = onnx.load_model_from_string(onnx_bytes(build_classifier(small_config())))
    onnx.save_model(loaded, str(tmp_path / "model.onnx"), save_as_external_data=True, size_threshold=0)
    model = tmp_path / "model.onnx"
    data = model.read_bytes()
    model, labels, config = write(tmp_path, data)
    with pytest.raises(InputError, match="another file"):
        import_onnx(model, labels, config, None, None)


def test_classifier_is_masked_by_its_length() -> None:
    network: Classifier = build_classifier(small_config())
    x = torch.randn(1, 10, 101)
    with torch.no_grad():
        assert (network(x, torch.tensor([100])) - network(x)).abs().max() > 1e-4
