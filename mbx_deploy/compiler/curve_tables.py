"""What curves make of each int8 value, as TFLite's reference kernels have it: integers of gemmlowp's fixed point.

An int8 input has 256 values, so that all there can be is computed when the model is compiled.
Source: TFLite, reference_integer_ops::Logistic, CalculateInputRadius; gemmlowp, logistic.
"""

import math

import numpy as np

from mbx_deploy.compiler.softmax_table import exp_on_negative_values
from mbx_deploy.network import ir
from mbx_deploy.sim.elements import reciprocal
from mbx_deploy.sim.fixed_point import INT32_MAX, clamp, divide_by_power_of_two, multiply_by_quantized_multiplier

INPUT_INTEGER_BITS = 4
FRACTION_BITS = 31 - INPUT_INTEGER_BITS
ONE_HALF_Q31 = 1 << 30


def curve_table(name: str, source: ir.Tensor) -> np.ndarray:
    """Return what an op makes of -128..127, int8 (256,). name: TFLite's. source: the op's input."""
    return {"LOGISTIC": _logistic_table}[name](source)


def _logistic_table(source: ir.Tensor) -> np.ndarray:
    value_q27, side = _scaled_inputs(source)
    positive = reciprocal(exp_on_negative_values(-np.abs(value_q27), INPUT_INTEGER_BITS))
    result_q31 = np.where(value_q27 > 0, positive, INT32_MAX - positive)
    result_q31 = np.where(value_q27 == 0, ONE_HALF_Q31, result_q31)
    inside = divide_by_power_of_two(result_q31, 31 - 8) - 128
    return clamp(np.where(side == 0, inside, 128 * side), -128, 127).astype(np.int8)


def _scaled_inputs(source: ir.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return (what -128..127 stand for, int64 in Q27; side), each (256,).

    side: -1 or 1 where the magnitude is so large that TFLite takes the limit, and the value is 0; else 0.
    """
    mantissa, shift = math.frexp(float(source.scale) * 2.0**FRACTION_BITS)
    radius = math.floor(((1 << INPUT_INTEGER_BITS) - 1) * 2.0**FRACTION_BITS / 2.0**shift)
    values = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    side = np.where(values <= -radius, -1, np.where(values >= radius, 1, 0))
    inside = np.where(side == 0, values, 0)
    return multiply_by_quantized_multiplier(inside, round(mantissa * 2.0**31), min(shift, 30)), side
