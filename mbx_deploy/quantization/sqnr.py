"""How far each layer of a quantized network is from float: signal to quantization noise, in dB, layer by layer."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.compiler.lower import call_name, lower
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import COEFFICIENT_FRACTION_BITS
from mbx_deploy.network import ir
from mbx_deploy.network.float_network import (
    BATCH_CLIPS,
    FloatNetwork,
    activation_tensors,
    as_input,
    dequantize_network,
    read_float_network,
    run_op,
)
from mbx_deploy.network.program import Program
from mbx_deploy.quantization.clips import SplitFeatures
from mbx_deploy.quantization.convert import Quantization, convert_module, natural_units, require_export_extra
from mbx_deploy.quantization.ranges import dequantize, quantize
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.sim.frontend import quantize_features

CLIPS = 64


@dataclass(frozen=True)
class LayerError:
    """One layer's error against float, over clips.

    low, high: the real values that its int8 output covers. clipped: share of the float values outside of them.
    own_db: what this layer alone adds: the float network's values go in, its int8 weights and biases are applied, its
    output is rounded and clipped to int8. total_db: of the simulator, every layer before included.
    None where there is no error, or no signal.
    """

    name: str
    low: float
    high: float
    clipped: float
    own_db: float | None
    total_db: float | None


@dataclass(frozen=True)
class Report:
    """The input and every layer, in the order in which they run. clips: how many were measured."""

    clips: int
    layers: tuple[LayerError, ...]

    @property
    def worst(self) -> LayerError:
        """The layer that adds the most error of its own."""
        return min(self.layers, key=lambda layer: np.inf if layer.own_db is None else layer.own_db)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {"clips": self.clips, "worst": self.worst.name, "layers": [dataclasses.asdict(x) for x in self.layers]}


@dataclass
class _Sums:
    """Of squares, over all values of one activation."""

    signal: float = 0.0
    own: float = 0.0
    total: float = 0.0
    clipped: int = 0
    count: int = 0


def measure_layers(model: ir.Model, reference: FloatNetwork, coefficients_q16: np.ndarray, unit: float = 1.0) -> Report:
    """Return the error of each layer of a quantized network.

    reference: the same ops with the weights that are taken for right. coefficients_q16: int32 (N, num_frames,
    num_coefficients), the front end's. unit: its tables'.
    """
    program = lower(model)
    quantized = dequantize_network(model)
    quantizations = [
        Quantization(float(model.tensors[index].scale), model.tensors[index].zero_point)
        for index in activation_tensors(model)
    ]
    names = ("features", *(call_name(number, op) for number, op in enumerate(model.ops)))
    sums = [_Sums() for _ in names]
    for start in range(0, len(coefficients_q16), BATCH_CLIPS):
        batch = coefficients_q16[start : start + BATCH_CLIPS]
        simulated = [
            _simulate(features, program)
            for features in quantize_features(batch, program.input_scale, program.input_zero_point, unit)
        ]
        values = {model.input: as_input(model, batch * (unit / 2.0**COEFFICIENT_FRACTION_BITS))}
        alone = values[model.input]
        for number, name in enumerate(names):
            index = activation_tensors(model)[number]
            if number:
                sources = [values[source] for source in ir.op_inputs(model.ops[number - 1])]
                values[index] = run_op(reference, number - 1, sources)
                alone = run_op(quantized, number - 1, sources)
            found = np.stack([each[name] for each in simulated]).reshape(values[index].shape)
            _add(sums[number], values[index], alone, found, quantizations[number])
    layers = (_layer(*each) for each in zip(names, sums, quantizations, strict=True))
    return Report(len(coefficients_q16), tuple(layers))


def _simulate(features: np.ndarray, program: Program) -> dict[str, np.ndarray]:
    """Return the int8 values of the input and of every layer, for one clip's int8 features."""
    values = {"features": features}
    sim_model.logits(features, program, values.__setitem__)
    return values


def _add(sums: _Sums, real: np.ndarray, alone: np.ndarray, found: np.ndarray, quantization: Quantization) -> None:
    """Add a batch. real: what is right. alone: the layer's own, before rounding. found: int8, the simulator's."""
    low, high = dequantize(np.array([-128, 127]), quantization)
    half = quantization.scale / 2.0
    sums.signal += float(np.sum(real**2))
    sums.own += float(np.sum((dequantize(quantize(alone, quantization), quantization) - real) ** 2))
    sums.total += float(np.sum((dequantize(found, quantization) - real) ** 2))
    sums.clipped += int(np.count_nonzero((real < low - half) | (real > high + half)))
    sums.count += real.size


def _layer(name: str, sums: _Sums, quantization: Quantization) -> LayerError:
    low, high = dequantize(np.array([-128, 127]), quantization)
    own, total = (_decibels(sums.signal, noise) for noise in (sums.own, sums.total))
    return LayerError(name, float(low), float(high), sums.clipped / sums.count, own, total)


def _decibels(signal: float, noise: float) -> float | None:
    return 10.0 * float(np.log10(signal / noise)) if signal > 0.0 and noise > 0.0 else None


def render(report: Report) -> str:
    """Return the report as a table, the worst layer named below it."""
    rows: list[Sequence[str]] = [("layer", "low", "high", "clipped", "own dB", "total dB")]
    for layer in report.layers:
        ends = (f"{layer.low:.3f}", f"{layer.high:.3f}", f"{layer.clipped:.3%}")
        rows.append((layer.name, *ends, _text(layer.own_db), _text(layer.total_db)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    worst = report.worst
    lines.append(f"worst: {worst.name}, {_text(worst.own_db)} dB of its own ({report.clips} clips)")
    return "\n".join(lines)


def measure_model(model_path: Path, data_root: Path, checkpoint_path: Path | None = None, clips: int = CLIPS) -> Report:
    """Return the report of an artifact on clips of the validation split, drawn evenly over its labels.

    checkpoint_path: what it was made from; its float weights are then the reference. Without one they are the
    dequantized int8 weights, and an error is that of activations alone.

    Raises InputError: a file is unusable, or the checkpoint is of another front end or other labels. CheckFailed: it
    is of another network. ToolMissing: torch, or the converter for a checkpoint, is not installed.
    """
    recognizer = load_model(model_path)
    hearing = SplitFeatures(data_root, recognizer.labels, recognizer.config, recognizer.streaming is not None)
    coefficients = hearing.draw("validation", clips)
    reference = dequantize_network(recognizer.network)
    if checkpoint_path is not None:
        reference = _checkpoint_network(recognizer, checkpoint_path, natural_units(coefficients[:1]))
    return measure_layers(recognizer.network, reference, coefficients, recognizer.tables.unit)


def _checkpoint_network(recognizer: CompiledModel, path: Path, features: np.ndarray) -> FloatNetwork:
    require_export_extra()
    from mbx_deploy.train.checkpoint import load_checkpoint

    module, info = load_checkpoint(path)
    if tuple(info.labels) != recognizer.labels or info.frontend != recognizer.config:
        raise InputError(
            f"the checkpoint is not the model's ({path}): its labels or its front end are others",
            "name the checkpoint that the model was exported from",
        )
    return read_float_network(recognizer.network, convert_module(module, features).float_tflite)


def _text(decibels: float | None) -> str:
    return "exact" if decibels is None else f"{decibels:.1f}"
