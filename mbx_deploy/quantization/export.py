"""A trained checkpoint -> the artifact, written only if it agrees with the checkpoint.

Clips -> features -> convert_module() -> choose_ranges() -> compare() -> measure_layers() -> measure() ->
write_metadata() -> the file.
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbx_deploy.data.dataset import Split
from mbx_deploy.errors import InputError
from mbx_deploy.network.float_network import FloatNetwork, read_float_network
from mbx_deploy.network.metadata import METADATA_FORMAT, write_metadata
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization import sqnr
from mbx_deploy.quantization.agreement import Agreement, Bounds, check_agreement, compare
from mbx_deploy.quantization.clips import SEED, SplitFeatures
from mbx_deploy.quantization.convert import (
    Conversion,
    Int8Logits,
    Quantization,
    check_graph,
    convert_module,
    io_quantization,
    natural_units,
    real_logits,
    reference_logits,
    require_export_extra,
)
from mbx_deploy.quantization.range_choice import Choice, Validation, add_candidate, choose_ranges
from mbx_deploy.quantization.range_choice import render as render_choice
from mbx_deploy.quantization.ranges import observe
from mbx_deploy.quantization.requantize import set_ranges
from mbx_deploy.quantization.stream_metadata import stream_metadata
from mbx_deploy.system.files import write_file
from mbx_deploy.system.scratch import scratch_folder

if TYPE_CHECKING:
    import torch

    from mbx_deploy.quantization.qat import QatResult
    from mbx_deploy.train.checkpoint import CheckpointInfo

CALIBRATION_CLIPS = 500
CHECK_CLIPS = 400
QAT_MARGIN_POINTS = 0.3
# A tuned network clips more and says the same: three runs of an epoch or two ended at 0.032 to 0.067.
QAT_BOUNDS = Bounds(largest_int8_rms=0.1)
RANGES = ("auto", "minmax", "percentile", "mse")
_TOOLS = ("ai-edge-litert", "onnx", "onnx2tf", "tensorflow", "torch")


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
class QatOptions:
    """Fine-tuning for int8: where int8 loses more than margin_points of the validation score against float."""

    epochs: int = 2
    margin_points: float = QAT_MARGIN_POINTS


@dataclass(frozen=True)
class CardRequest:
    """What a model card compares with: runs of other seeds, one trained without noise; see build_card()."""

    measure: "Callable[..., dict[str, Any]]"
    other_seeds: tuple[Path, ...] = ()
    without_noise: Path | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was written, and what was measured on the way."""

    output: str
    size_bytes: int
    ops: tuple[str, ...]
    input: Quantization
    logits: Quantization
    calibration_clips: int
    ranges: dict[str, Any]
    agreement: Agreement
    layers: sqnr.Report
    accuracy: Accuracy | None
    card: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {**dataclasses.asdict(self), "ops": list(self.ops), "layers": self.layers.to_dict()}


def export_checkpoint(
    checkpoint_path: Path,
    data_root: Path,
    output_path: Path,
    *,
    calibration_clips: int = CALIBRATION_CLIPS,
    check_clips: int = CHECK_CLIPS,
    ranges: str = "auto",
    qat: QatOptions | None = None,
    measure_accuracy: bool = True,
    card: CardRequest | None = None,
    int8_logits: Int8Logits = reference_logits,
    bounds: Bounds | None = None,
) -> ExportReport:
    """Write the artifact of a checkpoint, whole or not at all, and return what was measured.

    data_root: a data set, a folder or a manifest. Activations are calibrated on clips of its training
    split, the formats are compared on clips of its validation split, both drawn evenly over the
    labels; accuracy is measured on its testing split.
    ranges: the rule for the activations' ranges, one of RANGES. Where that names several, "auto" all of them, the
    whole validation split decides. qat: fine-tune for int8 where the best of them loses too much.
    card: measure a model card on the testing split, and put it into the metadata.
    int8_logits: any engine that gives the bytes of TFLite's reference kernels.
    The same checkpoint, clips and packages give the same bytes.

    Raises InputError: the checkpoint, the data or the output are unusable. CheckFailed: the
    formats disagree, or hold an op that the compiler does not take; nothing is written.
    ToolMissing: an extra is not installed.
    """
    require_export_extra()
    from mbx_deploy.train.checkpoint import load_checkpoint, weights_digest

    data_root, output_path = Path(data_root), Path(output_path)
    _check_request(output_path, calibration_clips, check_clips, ranges, qat)
    module, info = load_checkpoint(Path(checkpoint_path))
    streaming = getattr(module.config, "streaming", False)
    if streaming and qat:
        raise InputError("fine-tuning for int8 does not know streaming models (--qat)", "leave it out")
    hearing = SplitFeatures(data_root, info.labels, info.frontend, streaming)
    validation = _load_validation(module, hearing, int8_logits)
    calibration = hearing.draw("training", calibration_clips)
    _say(f"converting, calibrated on {len(calibration)} training clips")
    chosen = _choose(module, info, natural_units(calibration), validation, ranges, qat, data_root)
    conversion, choice = chosen.conversion, chosen.choice

    coefficients = hearing.draw("validation", check_clips)
    _say(f"comparing PyTorch, ONNX and TFLite on {len(coefficients)} validation clips")
    agreement = compare(chosen.module, conversion, coefficients, int8_logits, module)
    override = f"; --min-agreement {int(100 * agreement.same_label)} takes it as it is"
    check_agreement(agreement, bounds or (Bounds() if chosen.module is module else QAT_BOUNDS), override)
    layers = sqnr.measure_layers(
        parse_tflite(conversion.int8_tflite, "the quantized network"),
        chosen.network,
        coefficients[:: -(-len(coefficients) // sqnr.CLIPS)],
    )
    _say(sqnr.render(layers))

    accuracy = None
    if measure_accuracy:
        split, heard = hearing.load("testing")
        _say(f"measuring accuracy on {len(split)} testing clips")
        accuracy = measure(module, conversion.int8_tflite, heard, split, int8_logits)
        _say(f"command words: float {accuracy.commands_float:.2%}, int8 {accuracy.commands_int8:.2%}")

    metadata = {
        **_metadata(info, chosen, agreement, layers, accuracy, len(calibration)),
        **stream_metadata(info.model_config, info.labels, info.frontend.sample_rate_hz),
    }
    metadata["training"] = {**info.provenance, "weights_digest": weights_digest(module)}
    if card:
        metadata["card"] = _measure_card(
            write_metadata(conversion.int8_tflite, metadata), checkpoint_path, data_root, card
        )
    artifact = write_metadata(conversion.int8_tflite, metadata)
    first, last = io_quantization(artifact)
    ops = check_graph(artifact, info.frontend.num_frames, info.frontend.num_coefficients)
    write_file(output_path, artifact)
    return ExportReport(
        output=str(output_path),
        size_bytes=len(artifact),
        ops=ops,
        input=first,
        logits=last,
        calibration_clips=len(calibration),
        ranges=choice.to_dict(),
        agreement=agreement,
        layers=layers,
        accuracy=accuracy,
        card=metadata.get("card"),
    )


def _check_request(
    output_path: Path, calibration_clips: int, check_clips: int, ranges: str, qat: QatOptions | None
) -> None:
    """Raise InputError for what no export can be asked."""
    for name, count in (
        ("calibration_clips", calibration_clips),
        ("check_clips", check_clips),
        ("qat.epochs", qat.epochs if qat else 1),
    ):
        if count < 1:
            raise InputError(f"bad number of clips ({name}): got {count}, need 1 or more")
    if output_path.is_dir():
        raise InputError(f"the output is a folder ({output_path}): need the name of a file")
    if ranges not in RANGES:
        raise InputError(f"unknown choice of ranges: got {ranges!r}, need one of {', '.join(RANGES)}")


@dataclass(frozen=True)
class _Chosen:
    """What is exported: the ranges that were chosen are in the conversion's int8 file. module: the checkpoint's, or
    what fine-tuning for int8 made of it. tuning: what that was told and did, empty without it.
    """

    module: "torch.nn.Module"
    conversion: Conversion
    network: FloatNetwork
    choice: Choice
    tuning: dict[str, Any]


def _choose(
    module: "torch.nn.Module",
    info: "CheckpointInfo",
    features: np.ndarray,
    validation: Validation,
    ranges: str,
    qat: QatOptions | None,
    data_root: Path,
) -> _Chosen:
    """Return the conversion by the best ranges, fine-tuned for int8 where that is asked for and needed.

    features: of the calibration, float32 (N, T, C).
    """
    conversion, network = _convert(module, features)
    _say(f"choosing ranges ({ranges}) on {len(validation.split)} validation clips")
    choice = choose_ranges(conversion.int8_tflite, network, observe(network, features), ranges, validation)
    _say(render_choice(choice))
    tuned, tuning = module, dict[str, Any]()
    if qat and choice.loss_points > qat.margin_points:
        _say(f"fine-tuning for int8, {qat.epochs} epochs: it loses {choice.loss_points:.2f} points")
        result = _fine_tune(module, info, network, choice, data_root, qat)
        another, another_network = _convert(result.module, features)
        choice, taken = add_candidate(
            choice, "qat", set_ranges(another.int8_tflite, another_network, result.ranges), result.ranges, validation
        )
        _say(render_choice(choice))
        tuning = {"epochs": qat.epochs, "margin_points": qat.margin_points, "steps": result.steps, "taken": taken}
        if taken:
            tuned, conversion, network = result.module, another, another_network
    elif choice.loss_points > QAT_MARGIN_POINTS:
        _say(f"int8 loses {choice.loss_points:.2f} points on the validation clips: try --qat")
    return _Chosen(tuned, dataclasses.replace(conversion, int8_tflite=choice.data), network, choice, tuning)


def _metadata(
    info: "CheckpointInfo",
    chosen: _Chosen,
    agreement: Agreement,
    layers: sqnr.Report,
    accuracy: Accuracy | None,
    calibration_clips: int,
) -> dict[str, Any]:
    """Return what the file says of itself but for training, streaming and card."""
    return {
        "format": METADATA_FORMAT,
        "labels": list(info.labels),
        "frontend": info.frontend.to_dict(),
        "frontend_digest": info.frontend.digest(),
        "accuracy": _rounded(accuracy) if accuracy else {},
        "export": {
            "model_config": info.model_config.to_dict(),
            "calibration": {"split": "training", "clips": calibration_clips, "seed": SEED},
            "ranges": chosen.choice.to_dict(),
            "qat": chosen.tuning,
            "agreement": {
                "split": "validation",
                "clips": agreement.clips,
                "same_label": round(agreement.same_label, 4),
                "int8_rms": round(agreement.int8_rms, 4),
            },
            "worst_layer": {"name": layers.worst.name, "own_db": _rounded_db(layers.worst.own_db)},
            "packages": {name: packages.version(name).partition("+")[0] for name in _TOOLS},
        },
    }


def _measure_card(artifact: bytes, checkpoint: Path, data_root: Path, request: CardRequest) -> dict[str, Any]:
    """Return the card of an artifact that is not written yet."""
    with scratch_folder() as scratch:
        path = Path(scratch) / "model.tflite"
        path.write_bytes(artifact)
        return request.measure(path, Path(checkpoint), data_root, request.other_seeds, request.without_noise, _say)


def _convert(module: "torch.nn.Module", features: np.ndarray) -> tuple[Conversion, FloatNetwork]:
    conversion = convert_module(module, features)
    model = parse_tflite(conversion.int8_tflite, "the converted network")
    return conversion, read_float_network(model, conversion.float_tflite)


def _fine_tune(
    module: "torch.nn.Module",
    info: "CheckpointInfo",
    network: FloatNetwork,
    choice: Choice,
    data_root: Path,
    qat: QatOptions,
) -> "QatResult":
    from mbx_deploy.quantization.qat import fine_tune

    result = fine_tune(module, info, network, choice.ranges, data_root, qat.epochs)
    _say(f"{result.steps} steps, distance from float {result.first_loss:.5f} -> {result.last_loss:.5f}")
    return result


def _load_validation(module: "torch.nn.Module", hearing: SplitFeatures, int8_logits: Int8Logits) -> Validation:
    from mbx_deploy.train.evaluation import predict, to_inputs

    split, coefficients = hearing.load("validation")
    return Validation(split, coefficients, predict(module, to_inputs(natural_units(coefficients))), int8_logits)


def measure(
    module: "torch.nn.Module",
    model: bytes,
    coefficients: np.ndarray,
    split: Split,
    int8_logits: Int8Logits = reference_logits,
) -> Accuracy:
    """Return how often the float and the int8 network name a split's clips right.

    coefficients: of the clips, int32 (N, T, C).
    """
    from mbx_deploy.data.accuracy import measure as measure_logits
    from mbx_deploy.train.evaluation import predict, to_inputs

    in_float = measure_logits(predict(module, to_inputs(natural_units(coefficients))), split)
    in_int8 = measure_logits(real_logits(model, coefficients, int8_logits), split)
    return Accuracy(
        split="testing",
        command_clips=in_float.command_clips,
        commands_float=in_float.command_accuracy,
        commands_int8=in_int8.command_accuracy,
        clips=in_float.clips,
        balanced_float=in_float.balanced_accuracy,
        balanced_int8=in_int8.balanced_accuracy,
    )


def _rounded(accuracy: Accuracy) -> dict[str, Any]:
    return {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in dataclasses.asdict(accuracy).items()
    }


def _rounded_db(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
