"""How far the formats of one network stand apart, and what is refused."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mbx_deploy.compiler.lower import lower
from mbx_deploy.errors import CheckFailed
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization.convert import (
    Conversion,
    Int8Logits,
    float_logits,
    io_quantization,
    natural_units,
    onnx_logits,
    real_logits,
    reference_logits,
)
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.sim.frontend import quantize_features

if TYPE_CHECKING:
    import torch


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


def bounds_of(min_agreement: float | None) -> Bounds | None:
    """Return the bounds of a user who says himself how often int8 must name float's label, a share of 1.

    The logits' rms error is not looked at then. None: those of this module.
    """
    return None if min_agreement is None else Bounds(least_same_label=min_agreement, largest_int8_rms=float("inf"))


@dataclass(frozen=True)
class Agreement:
    """How far the formats of one network stand apart on clips; the fields are those of Bounds."""

    clips: int
    onnx_error: float
    float_tflite_error: float
    same_label: float
    int8_rms: float


def compare(
    module: "torch.nn.Module",
    conversion: Conversion,
    coefficients_q16: np.ndarray,
    int8_logits: Int8Logits = reference_logits,
    trained: "torch.nn.Module | None" = None,
) -> Agreement:
    """Return how far the formats stand apart from PyTorch on clips.

    module: what was converted. coefficients_q16: int32 (N, T, C), the front end's. trained: what int8 is measured
    against, where that is another one: the network before it was fine-tuned for int8.
    """
    from mbx_deploy.train.evaluation import predict, to_inputs

    features = natural_units(coefficients_q16)
    expected = predict(module, to_inputs(features))
    largest = np.abs(expected).max()
    onnx_error = float(np.abs(onnx_logits(conversion.onnx, features) - expected).max() / largest)
    float_error = float(np.abs(float_logits(conversion.float_tflite, features) - expected).max() / largest)
    if trained is not None:
        expected = predict(trained, to_inputs(features))
    int8 = real_logits(conversion.int8_tflite, coefficients_q16, int8_logits)
    return Agreement(
        clips=len(features),
        onnx_error=onnx_error,
        float_tflite_error=float_error,
        same_label=float(np.mean(int8.argmax(axis=1) == expected.argmax(axis=1))),
        int8_rms=float(np.sqrt(np.mean((int8 - expected) ** 2)) / expected.std()),
    )


def check_agreement(agreement: Agreement, bounds: Bounds, override: str = "") -> None:
    """Raise CheckFailed, naming the format, where a bound is not kept; NaN keeps none.

    override: what the hint says of how int8's bounds are overridden.
    """
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
                f"nothing was written; train longer, or calibrate on more clips{override if 'int8' in name else ''}",
            )


def check_simulator(data: bytes, coefficients_q16: np.ndarray, int8_logits: Int8Logits = reference_logits) -> None:
    """Raise CheckFailed unless the simulator gives the engine's bytes on these clips, int32 (N, T, C)."""
    first, _ = io_quantization(data)
    features = quantize_features(coefficients_q16, first.scale, first.zero_point)
    program = lower(parse_tflite(data, "the quantized network"))
    simulated = np.stack([sim_model.logits(clip, program) for clip in features])
    if differing := int(np.count_nonzero(simulated != int8_logits(data, features))):
        raise CheckFailed(
            f"the simulator and TFLite's reference kernels disagree: {differing} of {simulated.size} logits"
        )
