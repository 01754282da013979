"""A trained checkpoint -> the artifact, written only if it agrees with the checkpoint.

Clips -> features -> convert_module() -> compare() -> measure() -> write_metadata() -> the file.
"""

import dataclasses
import sys
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbx_deploy.artifact import METADATA_FORMAT, write_metadata
from mbx_deploy.audio import fit_clip
from mbx_deploy.data.protocols import class_of
from mbx_deploy.data.recordings import read_utterance
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.frontend import FrontendConfig
from mbx_deploy.host_frontend import HostFrontend
from mbx_deploy.output import write_file
from mbx_deploy.quantize import (
    Conversion,
    Int8Logits,
    Quantization,
    check_graph,
    convert_module,
    float_logits,
    io_quantization,
    onnx_logits,
    reference_logits,
    require_export_extra,
)
from mbx_deploy.sim.frontend import quantize_features
from mbx_deploy.train.dataset import (
    SILENCE,
    Split,
    list_utterances,
    load_noise,
    load_split,
    silence_clips,
)

if TYPE_CHECKING:
    import torch

CALIBRATION_CLIPS = 500
CHECK_CLIPS = 400
_SEED = 0
_TOOLS = ("ai-edge-litert", "onnx", "onnx2tf", "tensorflow", "torch")


@dataclass(frozen=True)
class Bounds:
    """How far the formats of one network may stand apart, on clips.

    Measured on one trained network, a MatchboxNet 3x1x64 of eight words, on validation clips.
    largest_float_error: of ONNX's and float TFLite's logits, as a share of the largest logit. Measured on
    200 and on 400 clips: 1.2e-7 to 3.3e-7.
    least_same_label: share of clips for which int8 and PyTorch name the same label. Measured with six
    calibrations of 64 to 1,000 clips, on 713 clips: 0.994 to 0.997.
    largest_int8_rms: of the error of int8's logits, as a share of the logits' standard deviation. Measured
    likewise: 0.020 to 0.033.
    """

    largest_float_error: float = 2e-6
    least_same_label: float = 0.98
    largest_int8_rms: float = 0.05


@dataclass(frozen=True)
class Agreement:
    """How far the formats of one network stand apart on clips; the fields are those of Bounds."""

    clips: int
    onnx_error: float
    float_tflite_error: float
    same_label: float
    int8_rms: float


@dataclass(frozen=True)
class Accuracy:
    """Shares of clips whose label the network found among all classes, in float and in int8.

    commands: over the clips of the command words. balanced: the mean of the labels' shares,
    unknown and silence among them. The int8 network is that of TFLite's reference kernels, on the
    device's features.
    """

    split: str
    command_clips: int
    commands_float: float
    commands_int8: float
    clips: int
    balanced_float: float
    balanced_int8: float


@dataclass(frozen=True)
class ExportReport:
    """What was written, and what was measured on the way."""

    output: str
    size_bytes: int
    ops: tuple[str, ...]
    input: Quantization
    logits: Quantization
    calibration_clips: int
    agreement: Agreement
    accuracy: Accuracy | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {**dataclasses.asdict(self), "ops": list(self.ops)}


def export_checkpoint(
    checkpoint_path: Path,
    data_root: Path,
    output_path: Path,
    *,
    calibration_clips: int = CALIBRATION_CLIPS,
    check_clips: int = CHECK_CLIPS,
    measure_accuracy: bool = True,
    int8_logits: Int8Logits = reference_logits,
    bounds: Bounds | None = None,
) -> ExportReport:
    """Write the artifact of a checkpoint, whole or not at all, and return what was measured.

    data_root: a data set, a folder or a manifest. Activations are calibrated on clips of its training
    split, the formats are compared on clips of its validation split, both drawn evenly over the
    labels; accuracy is measured on its testing split.
    int8_logits: any engine that gives the bytes of TFLite's reference kernels.
    The same checkpoint, clips and packages give the same bytes.

    Raises InputError: the checkpoint, the data or the output are unusable. CheckFailed: the
    formats disagree, or hold an op that the compiler does not take; nothing is written.
    ToolMissing: an extra is not installed.
    """
    require_export_extra()
    from mbx_deploy.train.checkpoint import load_checkpoint

    for name, count in (("calibration_clips", calibration_clips), ("check_clips", check_clips)):
        if count < 1:
            raise InputError(f"bad number of clips ({name}): got {count}, need 1 or more")
    data_root, output_path = Path(data_root), Path(output_path)
    if output_path.is_dir():
        raise InputError(f"the output is a folder ({output_path}): need the name of a file")
    module, info = load_checkpoint(Path(checkpoint_path))
    front_end = HostFrontend(info.frontend)

    calibration = draw_clips(data_root, "training", info.labels, info.frontend, calibration_clips)
    _say(f"converting, calibrated on {len(calibration)} training clips")
    conversion = convert_module(module, _natural_units(front_end.coefficients(calibration)))
    first, last = io_quantization(conversion.int8_tflite)

    clips = draw_clips(data_root, "validation", info.labels, info.frontend, check_clips)
    _say(f"comparing PyTorch, ONNX and TFLite on {len(clips)} validation clips")
    coefficients = front_end.coefficients(clips)
    agreement = compare(module, conversion, coefficients, int8_logits)
    check_agreement(agreement, bounds or Bounds())

    accuracy = None
    if measure_accuracy:
        split = load_split(data_root, "testing", info.labels, info.frontend.clip_samples)
        _say(f"measuring accuracy on {len(split)} testing clips")
        accuracy = measure(module, conversion.int8_tflite, front_end, split, int8_logits)
        _say(f"command words: float {accuracy.commands_float:.2%}, int8 {accuracy.commands_int8:.2%}")

    artifact = write_metadata(
        conversion.int8_tflite,
        {
            "format": METADATA_FORMAT,
            "labels": list(info.labels),
            "frontend": info.frontend.to_dict(),
            "frontend_digest": info.frontend.digest(),
            "training": info.provenance,
            "accuracy": _rounded(accuracy) if accuracy else {},
            "export": {
                "model_config": info.model_config.to_dict(),
                "calibration": {"split": "training", "clips": len(calibration), "seed": _SEED},
                "agreement": {
                    "split": "validation",
                    "clips": agreement.clips,
                    "same_label": round(agreement.same_label, 4),
                    "int8_rms": round(agreement.int8_rms, 4),
                },
                "packages": {name: packages.version(name).partition("+")[0] for name in _TOOLS},
            },
        },
    )
    ops = check_graph(artifact, info.frontend.num_frames, info.frontend.num_coefficients)
    write_file(output_path, artifact)
    return ExportReport(
        output=str(output_path),
        size_bytes=len(artifact),
        ops=ops,
        input=first,
        logits=last,
        calibration_clips=len(calibration),
        agreement=agreement,
        accuracy=accuracy,
    )


def draw_clips(root: Path, split: str, labels: tuple[str, ...], frontend: FrontendConfig, count: int) -> np.ndarray:
    """Return clips of one split, int16 (n, clip_samples), n <= count: drawn evenly over the
    labels, by a fixed seed.

    A label with too few recordings gives all that it has. "unknown" is any word that is no label,
    "silence" is cut from the background noise.
    """
    rng = np.random.default_rng(_SEED)
    utterances = list_utterances(root, split)
    clips: list[np.ndarray] = []
    for number, label in enumerate(labels):
        share = count // len(labels) + (number < count % len(labels))
        if label == SILENCE:
            clips += list(silence_clips(load_noise(root, split), share, rng, frontend.clip_samples))
            continue
        own = [utterance for utterance in utterances if class_of(utterance.label, labels) == label]
        if not own:
            raise InputError(f"no {split} clips of a label ({root}): got none of {label!r}, need some")
        for index in sorted(rng.choice(len(own), min(share, len(own)), replace=False)):
            samples = read_utterance(own[index], frontend.sample_rate_hz)
            clips.append(fit_clip(samples, frontend.clip_samples))
    return np.stack(clips)


def compare(
    module: "torch.nn.Module",
    conversion: Conversion,
    coefficients_q16: np.ndarray,
    int8_logits: Int8Logits = reference_logits,
) -> Agreement:
    """Return how far the formats stand apart from PyTorch on clips.

    coefficients_q16: int32 (N, T, C), the front end's.
    """
    from mbx_deploy.train.evaluation import predict, to_inputs

    features = _natural_units(coefficients_q16)
    expected = predict(module, to_inputs(features))
    largest = np.abs(expected).max()
    int8 = _int8_in_float(conversion.int8_tflite, coefficients_q16, int8_logits)
    return Agreement(
        clips=len(features),
        onnx_error=float(np.abs(onnx_logits(conversion.onnx, features) - expected).max() / largest),
        float_tflite_error=float(np.abs(float_logits(conversion.float_tflite, features) - expected).max() / largest),
        same_label=float(np.mean(int8.argmax(axis=1) == expected.argmax(axis=1))),
        int8_rms=float(np.sqrt(np.mean((int8 - expected) ** 2)) / expected.std()),
    )


def check_agreement(agreement: Agreement, bounds: Bounds) -> None:
    """Raise CheckFailed, naming the format, where a bound is not kept; NaN keeps none."""
    for name, found, kept, need in (
        (
            "ONNX against PyTorch, largest error of a logit over the largest logit",
            agreement.onnx_error,
            agreement.onnx_error <= bounds.largest_float_error,
            f"at most {bounds.largest_float_error:.3g}",
        ),
        (
            "float TFLite against PyTorch, largest error of a logit over the largest logit",
            agreement.float_tflite_error,
            agreement.float_tflite_error <= bounds.largest_float_error,
            f"at most {bounds.largest_float_error:.3g}",
        ),
        (
            "int8 TFLite against PyTorch, share of clips with the same label",
            agreement.same_label,
            agreement.same_label >= bounds.least_same_label,
            f"at least {bounds.least_same_label:.3g}",
        ),
        (
            "int8 TFLite against PyTorch, rms error of the logits over their spread",
            agreement.int8_rms,
            agreement.int8_rms <= bounds.largest_int8_rms,
            f"at most {bounds.largest_int8_rms:.3g}",
        ),
    ):
        if not kept:
            raise CheckFailed(
                f"the converted model disagrees ({name}): got {found:.3g}, need {need}",
                "nothing was written; train longer, or calibrate on more clips",
            )


def measure(
    module: "torch.nn.Module",
    model: bytes,
    front_end: HostFrontend,
    split: Split,
    int8_logits: Int8Logits = reference_logits,
) -> Accuracy:
    """Return how often the float and the int8 network name a split's clips right."""
    from mbx_deploy.train.evaluation import measure as measure_logits
    from mbx_deploy.train.evaluation import predict, to_inputs

    coefficients = front_end.coefficients(split.samples)
    in_float = measure_logits(predict(module, to_inputs(_natural_units(coefficients))), split)
    in_int8 = measure_logits(_int8_in_float(model, coefficients, int8_logits), split)
    return Accuracy(
        split="testing",
        command_clips=in_float.command_clips,
        commands_float=in_float.command_accuracy,
        commands_int8=in_int8.command_accuracy,
        clips=in_float.clips,
        balanced_float=in_float.balanced_accuracy,
        balanced_int8=in_int8.balanced_accuracy,
    )


def _natural_units(coefficients_q16: np.ndarray) -> np.ndarray:
    """Return float32 MFCCs as the network was trained on."""
    return coefficients_q16.astype(np.float32) * np.float32(1.0 / 65536.0)


def _int8_in_float(model: bytes, coefficients_q16: np.ndarray, int8_logits: Int8Logits) -> np.ndarray:
    """Return the int8 network's logits as real numbers, float32 (N, classes)."""
    first, last = io_quantization(model)
    logits = int8_logits(model, quantize_features(coefficients_q16, first.scale, first.zero_point))
    return (logits.astype(np.float32) - np.float32(last.zero_point)) * np.float32(last.scale)


def _rounded(accuracy: Accuracy) -> dict[str, Any]:
    return {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in dataclasses.asdict(accuracy).items()
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
