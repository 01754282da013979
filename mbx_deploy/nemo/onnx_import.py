"""A classifier that NeMo exported to ONNX -> a model of ours.

Such a file holds the encoder and the decoder: Conv1d with batch norm folded in, ReLU, the additions of the residual
branches, a pooling over time and one Gemm, reached over Shape, Gather and Reshape. There are no masks in it: NeMo
switches them off where it exports. What feeds it stands in the YAML; without one it is NeMo's stock MFCC.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.nemo.description import CROP, FORWARDS, describe_frontend
from mbx_deploy.nemo.folding import LARGEST_ERROR
from mbx_deploy.nemo.imported import Imported
from mbx_deploy.nemo.labels import read_labels
from mbx_deploy.nemo.onnx_graph import OnnxNetwork, SubBlock, read_network
from mbx_deploy.nemo.preprocessor import CEILING, Preprocessor, clip_layout
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.train.jasper import JasperBlock, JasperConfig, JasperNet, build_jasper
from mbx_deploy.train.matchboxnet import BATCH_NORM_EPS

MAX_FILE_BYTES = 256 << 20
STOCK_CROP_FRAMES = 128


def import_onnx(
    path: Path, labels_path: Path, frontend_path: Path | None, forward: str | None, clip_ms: int | None
) -> Imported:
    """Return an ONNX classifier as a model of ours, checked against onnxruntime.

    forward: whether the features are padded to the YAML's frames (crop) or not (no-crop). clip_ms: the clips' length.
    Raises InputError for an unusable file, or a graph that is not such a classifier; CheckFailed where the rebuilt
    network disagrees; ToolMissing where onnx or onnxruntime is not installed.
    """
    data = _read(path)
    labels = read_labels(labels_path)
    network = read_network(data, path)
    if network.weight.shape[0] != len(labels):
        raise InputError(
            f"the labels do not fit the model ({labels_path}): got {len(labels)}, need {network.weight.shape[0]}"
        )
    frontend, reason = _fitting_frontend(path, network, frontend_path, forward, clip_ms)
    config = JasperConfig(len(labels), network.blocks, network.coefficients, frontend.num_frames, network.pooling)
    module = _build(config, network)
    error = _compare(module, data, network, path)
    provenance = {"source": "ONNX", "file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "frames": reason}
    notes = (
        f"{frontend.num_frames} frames: {reason}; onnxruntime gives the same logits "
        f"(largest error {error:.1e} of the largest logit)",
    )
    return Imported(path.name, module, frontend, labels, provenance, notes)


def _read(path: Path) -> bytes:
    try:
        return read_document(path, MAX_FILE_BYTES)
    except DocumentError as error:
        raise InputError(f"can't read the model ({path}): {error}", "give the path of an .onnx file") from None


def _fitting_frontend(
    path: Path, network: OnnxNetwork, frontend_path: Path | None, forward: str | None, clip_ms: int | None
) -> tuple[FrontendConfig, str]:
    """Return the front end that feeds the network, and why.

    A YAML that does not say which of NeMo's forward passes it is for is taken for the one whose frames the graph has.
    """
    unsaid = forward is None and frontend_path is not None and network.frames is not None
    refusal: InputError | None = None
    for tried in (None, *FORWARDS) if unsaid else (forward,):
        preprocessor, crop_frames, reason = _describe(frontend_path, tried, network.frames)
        if preprocessor.frontend.num_coefficients != network.coefficients:
            raise InputError(
                f"the front end does not fit the model ({path}): got {preprocessor.frontend.num_coefficients} "
                f"coefficients, need {network.coefficients}"
            )
        try:
            frontend = _frontend(path, preprocessor, crop_frames, clip_ms, network.frames)
        except InputError as error:
            refusal = refusal or error
            continue
        return frontend, reason.replace("as asked for", "as the graph's frames say") if unsaid else reason
    assert refusal is not None
    raise refusal


def _describe(path: Path | None, forward: str | None, frames: int | None) -> tuple[Preprocessor, int | None, str]:
    """Return the preprocessor, the frames that its output is padded to or None, and why."""
    if path is not None:
        try:
            data = read_document(path)
        except DocumentError as error:
            raise InputError(f"can't read the front end's YAML ({path}): {error}") from None
        preprocessor, crop_frames, reason = describe_frontend(data, path, forward)
        return preprocessor, crop_frames, f"the front end of {path.name}, {reason}"
    stock = Preprocessor(FrontendConfig(), CEILING, zero_invalid=False, pad_to=0)
    if forward is not None:
        return stock, STOCK_CROP_FRAMES if forward == CROP else None, f"NeMo's stock MFCC, {forward} as asked for"
    if frames is not None and frames >= stock.frontend.num_frames:
        return stock, frames, f"NeMo's stock MFCC, {frames} frames as the graph's input says"
    text = f"NeMo's stock MFCC, padded to {STOCK_CROP_FRAMES} frames as NeMo does up to 2.2; --forward overrides it"
    return stock, STOCK_CROP_FRAMES, text


def _frontend(
    path: Path, preprocessor: Preprocessor, crop_frames: int | None, clip_ms: int | None, frames: int | None
) -> FrontendConfig:
    base = preprocessor.frontend
    samples = base.clip_samples if clip_ms is None else clip_ms * base.sample_rate_hz // 1000
    if clip_ms is None and crop_frames is not None:
        samples = min(samples, (crop_frames - 1) * base.hop_length)
    layout = clip_layout(preprocessor, crop_frames, samples)
    if layout is None:
        raise InputError(f"NeMo refuses or crops clips of {samples} samples ({path}): choose another --clip-ms")
    if frames not in (None, layout.total):
        raise InputError(
            f"the front end does not fit the model ({path}): got {layout.total} frames, need {frames}",
            "choose another --forward, --clip-ms or --frontend",
        )
    frontend = replace(base, clip_samples=samples)
    return replace(
        frontend,
        pad_frames_before=layout.before,
        pad_frames_after=layout.total - layout.before - layout.features,
        drop_frames_after=frontend.audio_frames - layout.features,
    )


def _build(config: JasperConfig, network: OnnxNetwork) -> JasperNet:
    """Return our network with the graph's weights; biases become batch norms that only add."""
    module = build_jasper(config).eval()
    with torch.no_grad():
        for ours, theirs in zip(module.blocks, network.sub_blocks, strict=True):
            assert isinstance(ours, JasperBlock)
            parts = [*ours.repeats, *([] if ours.residual is None else [ours.residual])]
            for part, source in zip(parts, theirs, strict=True):
                _copy(part, source)
        module.decoder.weight.copy_(torch.from_numpy(network.weight))
        module.decoder.bias.copy_(torch.from_numpy(network.bias))
    return module


def _copy(part: nn.Module, source: SubBlock) -> None:
    convs = [child for child in part.children() if isinstance(child, nn.Conv2d)]
    for conv, weights in zip(convs, source.weights, strict=True):
        conv.weight.copy_(torch.from_numpy(weights[:, :, None].copy()))
    norm: Any = part.get_submodule("norm")
    norm.weight.fill_(1.0)
    norm.bias.copy_(torch.from_numpy(source.bias))
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - BATCH_NORM_EPS)


def _compare(module: JasperNet, data: bytes, network: OnnxNetwork, path: Path) -> float:
    """Return the largest difference to onnxruntime's logits on random features, as a share of the largest logit."""
    try:
        import onnxruntime
    except ImportError:
        raise ToolMissing("importing an .onnx needs onnxruntime", "pip install mbx-deploy[export]") from None
    rng = np.random.default_rng(0)
    config = module.config
    shape = (4, config.input_coefficients, config.input_frames)
    values = (rng.normal(size=shape) * 4.0 ** np.arange(-1, 3)[:, None, None]).astype(np.float32)
    values[1:, 0] -= 60.0
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feeds = [{network.input_name: clip[None]} for clip in values]
        for given in session.get_inputs():
            if given.name != network.input_name:  # a length, which nothing reads
                for feed in feeds:
                    feed[given.name] = np.full(1, config.input_frames, np.int64)
        want = np.concatenate([session.run([network.logits_name], feed)[0] for feed in feeds])
    except Exception as error:  # onnxruntime has many, and no base of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"onnxruntime can't run the model ({path}): {reason:.200}") from None
    with torch.no_grad():
        got = module(torch.from_numpy(values[:, :, None])).numpy()
    apart = float(np.abs(want - got).max() / max(np.abs(want).max(), 1e-6)) if want.shape == got.shape else np.inf
    if not apart < LARGEST_ERROR:
        raise CheckFailed(
            f"the rebuilt network does not equal onnxruntime's ({path}, largest error over the largest logit): "
            f"got {apart:.3g}, need less than {LARGEST_ERROR:.3g}"
        )
    return apart
