"""A .nemo file -> a model of ours: a checkpoint (.pt), or int8 TFLite, kept by digest so that it is made once."""

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata as packages
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.nemo.clips import (
    Calibration,
    real_calibration,
    synthetic_calibration,
    synthetic_origin,
)
from mbx_deploy.nemo.imported import Imported
from mbx_deploy.system.cache import cached
from mbx_deploy.system.files import write_file
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from mbx_deploy.frontend.config import FrontendConfig
    from mbx_deploy.nemo.description import NemoModel
    from mbx_deploy.nemo.masked import MaskedNetwork
    from mbx_deploy.train.checkpoint import CheckpointInfo
    from mbx_deploy.train.jasper import JasperNet

LEAST_SAME_LABEL = 0.9  # of int8 and float, on recordings
CONVERSION_VERSION = 2  # counted up where the same file would give another artifact
_TOOLS = ("ai-edge-litert", "onnx", "onnx2tf", "tensorflow", "torch")

Note = Callable[[str], None]


def require_import_extra() -> None:
    """Raise ToolMissing unless what reading a .nemo takes is installed. Imports nothing."""
    missing = [package for name, package in (("torch", "torch"), ("yaml", "pyyaml")) if find_spec(name) is None]
    if missing:
        raise ToolMissing(
            f"reading a .nemo needs Python packages that are not installed: {', '.join(missing)}",
            "pip install mbx-deploy[train]",
        )


def read_nemo(path: Path, forward: str | None = None) -> "tuple[NemoModel, MaskedNetwork, str]":
    """Return what a .nemo describes, NeMo's network with its weights, and the file's SHA-256.

    Raises InputError: as read_archive(), describe(), load_weights() and build_masked().
    """
    require_import_extra()
    from mbx_deploy.nemo.archive import read_archive
    from mbx_deploy.nemo.description import describe
    from mbx_deploy.nemo.masked import build_masked
    from mbx_deploy.nemo.weights import load_weights

    archive = read_archive(path)
    model = describe(archive.config, path, forward)
    weights = load_weights(archive.weights, path)
    digest = hashlib.sha256(archive.config + b"\0" + archive.weights).hexdigest()
    return model, build_masked(model, weights), digest


def import_nemo(path: Path, forward: str | None = None, clip_ms: int | None = None) -> Imported:
    """Return a .nemo as a model of ours, proven to equal NeMo's in float.

    clip_ms: the length of the clips; None: a second, or less where NeMo would crop that.
    Raises InputError for an unusable file, CheckFailed where the two networks disagree.
    """
    model, masked, digest = read_nemo(path, forward)
    from mbx_deploy.nemo.folding import fixed_clip_samples, fold

    rate = model.preprocessor.frontend.sample_rate_hz
    samples = fixed_clip_samples(model, rate if clip_ms is None else clip_ms * rate // 1000)
    if clip_ms is not None and samples != clip_ms * rate // 1000:
        raise InputError(
            f"NeMo crops clips of {clip_ms} ms at random ({path}): need at most {samples * 1000 // rate} ms"
        )
    folded = fold(masked, model, samples)
    layout = folded.layout
    frames = f"forward pass {model.forward} ({model.forward_reason}): {layout.total} frames"
    if layout.before:
        behind = layout.total - layout.before - layout.features
        frames += f", {layout.before} and {behind} of them zeros before and behind the clip"
    elif layout.length < layout.total and model.conv_mask:
        frames += f", masked from frame {layout.length} on"
    frames += f"; the network without masks equals it (largest error {folded.error:.1e} of the largest logit)"
    provenance = {
        "source": "NeMo checkpoint",
        "file": path.name,
        "sha256": digest,
        "nemo_version": model.nemo_version,
        "forward": model.forward,
        "forward_reason": model.forward_reason,
    }
    return Imported(path.name, folded.network, folded.frontend, model.labels, provenance, (frames, *model.notes))


def write_checkpoint(imported: Imported, output: Path) -> None:
    """Write the model as a checkpoint (.pt) that finetune and export take."""
    from mbx_deploy.train.checkpoint import save_checkpoint

    save_checkpoint(output, *to_checkpoint(imported))


def to_checkpoint(imported: Imported) -> "tuple[JasperNet, CheckpointInfo]":
    """Return the model as load_checkpoint() gives one."""
    from mbx_deploy.train.checkpoint import CheckpointInfo

    info = CheckpointInfo(imported.network.config, imported.frontend, imported.labels, imported.provenance)
    return imported.network, info


def calibrate_on(imported: Imported, data: Path | None) -> Calibration:
    """Return clips for the int8 ranges: recordings of a folder, or without one the synthetic set."""
    config = imported.frontend
    if data is None:
        return synthetic_calibration(config.clip_samples, config.sample_rate_hz)
    return real_calibration(data, config.clip_samples, config.sample_rate_hz, imported.labels)


def quantize(imported: Imported, calibration: Calibration) -> bytes:
    """Return the model as int8 TFLite with all of its metadata, checked against the float network.

    Raises ToolMissing where the extra `export` is not installed, CheckFailed where the formats disagree.
    """
    from mbx_deploy.quantization.convert import require_export_extra

    require_export_extra()
    from mbx_deploy.frontend.native import HostFrontend
    from mbx_deploy.network.metadata import METADATA_FORMAT, write_metadata
    from mbx_deploy.quantization.agreement import Bounds, check_agreement, compare
    from mbx_deploy.quantization.convert import convert_module

    coefficients = HostFrontend(imported.frontend).coefficients(calibration.clips)
    features = coefficients.astype(np.float32) * np.float32(1.0 / 65536.0)
    conversion = convert_module(imported.network, features)
    agreement = compare(imported.network, conversion, coefficients)
    is_real = calibration.origin != synthetic_origin(len(calibration.clips))
    # No word is said in synthetic clips: what label each of them gets hangs by a hair.
    least = LEAST_SAME_LABEL if is_real else 0.0
    check_agreement(agreement, Bounds(largest_float_error=1e-5, least_same_label=least, largest_int8_rms=0.15))
    notes = imported.notes
    if agreement.same_label < LEAST_SAME_LABEL:
        notes += (
            f"int8 and float name the same label for {agreement.same_label:.0%} of the synthetic clips, in which no "
            "word is said; --data FOLDER calibrates on recordings, and evaluate tells what int8 costs on them",
        )
    metadata = {
        "format": METADATA_FORMAT,
        "labels": list(imported.labels),
        "frontend": imported.frontend.to_dict(),
        "frontend_digest": imported.frontend.digest(),
        "training": {**imported.provenance, "notes": list(notes)},
        "accuracy": {},
        "export": {
            "model_config": imported.network.config.to_dict(),
            "calibration": calibration.origin,
            "calibration_text": calibration.text,
            "agreement": {
                "clips": agreement.clips,
                "same_label": round(agreement.same_label, 4),
                "int8_rms": round(agreement.int8_rms, 4),
            },
            "packages": {name: packages.version(name).partition("+")[0] for name in _TOOLS},
        },
    }
    return write_metadata(conversion.int8_tflite, metadata)


@dataclass(frozen=True)
class ImportRequest:
    """What `import` is asked for. model: a .nemo or an .onnx. output: a .pt or a .tflite.

    labels, frontend: files that say of an .onnx what a .nemo says itself.
    """

    model: Path | None
    output: Path
    forward: str | None = None
    data: Path | None = None
    clip_ms: int | None = None
    labels: Path | None = None
    frontend: Path | None = None


def import_model(request: ImportRequest, note: Note) -> dict[str, Any]:
    """Write a foreign model as .pt or .tflite, by the output's suffix, and return what was written.

    Raises InputError for what does not go together or an unusable file; nothing is written then.
    """
    model, output = request.model, request.output
    if output.suffix not in (".pt", ".tflite") or output.is_dir():
        raise InputError(f"bad output (-o): got {output}, need the name of a .pt or a .tflite file")
    if model is None or model.suffix not in (".nemo", ".onnx", ".tflite"):
        raise InputError(f"bad model to import: got {model}, need a .nemo, an .onnx or a .tflite file")
    if model.suffix == ".tflite":
        return import_tflite(request, model, note)
    if model.suffix == ".nemo":
        if request.labels or request.frontend:
            raise InputError("--labels and --frontend are for .onnx models: a .nemo holds both", "leave them out")
        return write_model(import_nemo(model, request.forward, request.clip_ms), output, request.data, note)
    require_import_extra()
    from mbx_deploy.nemo.onnx_import import import_onnx

    if request.labels is None:
        raise InputError("an .onnx model does not say its labels: need --labels FILE, one word a line")
    imported = import_onnx(model, request.labels, request.frontend, request.forward, request.clip_ms)
    return write_model(imported, output, request.data, note)


def import_tflite(request: ImportRequest, model: Path, note: Note) -> dict[str, Any]:
    """Write a foreign .tflite as int8, with labels and a front end where they are given.

    A float one is quantized with what --data has: samples (.npy), or recordings that the front end hears.
    """
    from mbx_deploy.nemo.foreign_tflite import attach, quantize_float, read_frontend, read_samples
    from mbx_deploy.nemo.labels import read_labels
    from mbx_deploy.network.reader import parse_tflite, read_model_file

    if request.output.suffix != ".tflite" or request.forward or request.clip_ms:
        raise InputError(f"a .tflite becomes a .tflite, as it is ({model}): leave --forward and --clip-ms out")
    if (request.labels is None) != (request.frontend is None):
        raise InputError(f"a recogniser needs --labels and --frontend ({model}): got one of them", "give both, or none")
    data = read_model_file(model)
    frontend = None if request.frontend is None else read_frontend(request.frontend)
    if request.data is not None:
        if request.data.suffix == ".npy":
            samples = read_samples(request.data)
        elif frontend is not None:
            samples = _features_of(request.data, frontend)
        else:
            raise InputError(f"recordings need a front end ({request.data}): give --frontend, or samples as .npy")
        data = quantize_float(data, str(model), samples)
        note(f"{model.name}: quantized, its ranges those of {len(samples)} samples")
    report: dict[str, Any] = {"output": str(request.output), "labels": [], "notes": []}
    if frontend is None or request.labels is None:
        parse_tflite(data, str(model))
        write_file(request.output, data)
        return report
    attached = attach(data, str(model), read_labels(request.labels), frontend)
    for text in attached.notes:
        note(f"{model.name}: {text}")
    write_file(request.output, attached.data)
    return report | {
        "labels": list(attached.labels),
        "frontend": frontend.to_dict(),
        "notes": list(attached.notes),
    }


def _features_of(folder: Path, frontend: "FrontendConfig") -> np.ndarray:
    """Return the features of recordings, float32 (N, frames, coefficients)."""
    from mbx_deploy.frontend.native import HostFrontend

    clips = real_calibration(folder, frontend.clip_samples, frontend.sample_rate_hz, ()).clips
    front_end = HostFrontend(frontend)
    unit = np.float32(front_end.tables.unit / 65536.0)
    features: np.ndarray = front_end.coefficients(clips).astype(np.float32) * unit
    return features


def write_model(imported: Imported, output: Path, data: Path | None, note: Note) -> dict[str, Any]:
    """Write an imported model as .pt or .tflite and return what was written."""
    for text in imported.notes:
        note(f"{imported.name}: {text}")
    report = {
        "output": str(output),
        "labels": list(imported.labels),
        "frontend": imported.frontend.to_dict(),
        "training": imported.provenance,
        "notes": list(imported.notes),
    }
    if output.suffix == ".pt":
        write_checkpoint(imported, output)
        return report
    calibration = calibrate_on(imported, data)
    note(f"{imported.name}: int8 ranges calibrated on {calibration.text}")
    write_file(output, quantize(imported, calibration))
    return report | {"calibration": calibration.origin}


def cached_artifact(path: Path, forward: str | None, note: Note, data: Path | None = None) -> Path:
    """Return the .tflite of a .nemo, converted once and kept by the digest of the file and of what converts it.

    Calibrated on the synthetic set, or on the recordings of a folder. Raises InputError for an unusable file,
    ToolMissing where an extra is missing.
    """
    from mbx_deploy.nemo.archive import read_archive
    from mbx_deploy.network.metadata import read_metadata

    archive = read_archive(path)
    tools = {name: packages.version(name) for name in _TOOLS if _is_installed(name)}
    imported = calibration = None
    origin: Any = synthetic_origin()
    if data is not None:
        imported = import_nemo(path, forward)
        calibration = calibrate_on(imported, data)
        origin = hashlib.sha256(calibration.clips.tobytes()).hexdigest()
    identity = [__version__, CONVERSION_VERSION, forward, origin, tools]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    key.update(archive.config + b"\0" + archive.weights)

    def make() -> bytes:
        note(f"{path}: converting; the result is kept")
        made = imported or import_nemo(path, forward)
        return quantize(made, calibration or calibrate_on(made, None))

    result = cached(f"nemo-{key.hexdigest()[:32]}", ".tflite", make)
    metadata = read_metadata(result.read_bytes()) or {}
    for text in metadata.get("training", {}).get("notes", ()):
        note(f"{path}: {text}")
    note(f"{path}: int8 ranges calibrated on {metadata.get('export', {}).get('calibration_text', '?')}")
    return result


def _is_installed(name: str) -> bool:
    try:
        packages.version(name)
    except packages.PackageNotFoundError:
        return False
    return True


def artifact_of(
    model: Path,
    forward: str | None = None,
    note: Callable[[str], None] = lambda line: None,
    data: Path | None = None,
) -> Path:
    """Return the .tflite of a model: the file itself, or what a .nemo converts to, kept for the next time.

    data: a folder of recordings to calibrate a .nemo on. forward: which of NeMo's forward passes a .nemo is to be taken
    for, instead of what the file says. note hears of what was chosen. Raises InputError for an unusable .nemo, or for
    forward with another model.
    """
    if model.suffix == ".nemo":
        return cached_artifact(model, forward, note, data)
    check_forward(model, forward)
    if data is not None:
        raise InputError(f"--data calibrates a .nemo: got {model}", "leave it out; a .tflite is int8 already")
    if model.suffix == ".onnx":
        raise InputError(
            f"an ONNX file is imported first: got {model}",
            f"mbx-deploy import --model {shlex.quote(str(model))} --labels LABELS.txt -o MODEL.tflite",
        )
    return model


def check_forward(model: Path, forward: str | None) -> None:
    """Raise InputError where a forward pass is chosen for a model that has only one."""
    if forward is not None and model.suffix != ".nemo":
        raise InputError(f"--forward is for .nemo models: got {model}", "leave it out")


def load_base(path: Path) -> "tuple[nn.Module, CheckpointInfo]":
    """Return a checkpoint, a .nemo or what an exported .tflite was made of, to begin from; a shipped model by its name.

    Raises InputError for another kind of file.
    """
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        shipped = shipped_model_path(str(path))
        trained = shipped.with_suffix(".pt")
        path = trained if trained.is_file() else shipped
    if path.suffix == ".tflite":
        from mbx_deploy.train.initial import load_exported

        return load_exported(path)
    if path.suffix == ".nemo":
        return to_checkpoint(import_nemo(path))
    from mbx_deploy.train.checkpoint import load_checkpoint

    return load_checkpoint(path)
