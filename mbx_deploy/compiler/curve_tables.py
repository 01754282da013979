"""What curves make of each int8 value, as TFLite's reference kernels have it: integers of gemmlowp's fixed point.

An int8 input has 256 values, so that all there can be is computed when the model is compiled.
Source: TFLite, reference_integer_ops::Logistic and Tanh, reference_ops::HardSwish and QuantizeLeakyRelu,
CalculateInputRadius; gemmlowp, logistic and tanh.
"""

import math
from typing import Any

import numpy as np

from mbx_deploy.compiler.multipliers import quantize_multiplier
from mbx_deploy.compiler.softmax_table import exp_on_negative_values
from mbx_deploy.network import ir
from mbx_deploy.sim.elements import newton_reciprocal, reciprocal
from mbx_deploy.sim.fixed_point import INT32_MAX, clamp, divide_by_power_of_two, multiply_by_quantized_multiplier

INPUT_INTEGER_BITS = 4
FRACTION_BITS = 31 - INPUT_INTEGER_BITS
ONE_HALF_Q31 = 1 << 30
ONE_Q29 = 1 << 29
INT16_MIN, INT16_MAX = -(1 << 15), (1 << 15) - 1


def curve_table(op: ir.Curve, source: ir.Tensor, target: ir.Tensor) -> np.ndarray:
    """Return what an op makes of -128..127, int8 (256,). source, target: its input and output."""
    match op.name:
        case "LOGISTIC":
            return _logistic_table(source)
        case "TANH":
            return _tanh_table(source)
        case "HARD_SWISH":
            return _hard_swish_table(source, target)
        case "LEAKY_RELU":
            return _leaky_relu_table(source, target, np.float32(op.alpha))
        case _:
            raise AssertionError(f"no curve of the name {op.name}")


def _tanh_table(source: ir.Tensor) -> np.ndarray:
    value_q27, side = _scaled_inputs(source)
    # Twice the value, in Q26, is the same integer. (1 - e) / (1 + e) of e = exp(-2 |value|).
    exponential_q31 = exp_on_negative_values(-np.abs(value_q27), INPUT_INTEGER_BITS + 1)
    magnitude_q31 = np.clip((newton_reciprocal(exponential_q31) - ONE_Q29) << 2, -INT32_MAX - 1, INT32_MAX)
    inside = divide_by_power_of_two(np.sign(value_q27) * magnitude_q31, 31 - 7)
    return clamp(np.where(side == 0, inside, 128 * side), -128, 127).astype(np.int8)


def _leaky_relu_table(source: ir.Tensor, target: ir.Tensor, alpha: np.float32) -> np.ndarray:
    ratios = (source.scale / target.scale, source.scale * alpha / target.scale)  # float32, as TFLite has them
    values = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    kept, leaked = (multiply_by_quantized_multiplier(values, *quantize_multiplier(float(ratio))) for ratio in ratios)
    return clamp(np.where(values >= 0, kept, leaked) + target.zero_point, -128, 127).astype(np.int8)


def _hard_swish_table(source: ir.Tensor, target: ir.Tensor) -> np.ndarray:
    fine = np.float32(1 / 128) * source.scale
    factor, exponent = _int16_multiplier(fine / target.scale)
    relu_factor, relu_exponent = _int16_multiplier(fine / np.float32(3 / 32768))
    value = (np.arange(-128, 128, dtype=np.int64) - source.zero_point) << 7
    scaled = _doubling_high_multiply_int16(value, factor)
    slope = value
    if relu_exponent > 0:
        slope = clamp(slope << (relu_exponent - 1), INT16_MIN, INT16_MAX)
    slope = _doubling_high_multiply_int16(slope, relu_factor)
    if relu_exponent > 0:
        slope = clamp(slope << 1, INT16_MIN, INT16_MAX)
    elif relu_exponent < 0:
        slope = divide_by_power_of_two(slope, -relu_exponent)
    product = ((slope + (1 << 15)) >> 1) * scaled
    result = divide_by_power_of_two(np.sign(product) * (np.abs(product) >> 15), -exponent)
    return clamp(result + target.zero_point, -128, 127).astype(np.int8)


def _int16_multiplier(ratio: Any) -> tuple[int, int]:
    """Return (multiplier in Q15, shift). Source: TFLite, DownScaleInt32ToInt16Multiplier."""
    multiplier, shift = quantize_multiplier(float(ratio))
    return min((multiplier + (1 << 15)) >> 16, INT16_MAX), shift


def _doubling_high_multiply_int16(a: np.ndarray, b: int) -> np.ndarray:
    """Return a * b / 2^15, rounded to nearest. Source: gemmlowp, SaturatingRoundingDoublingHighMul of int16."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    rounded: np.ndarray = np.minimum(np.sign(nudged) * (np.abs(nudged) >> 15), INT16_MAX)
    return rounded


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
