"""Fixed-point arithmetic, on numpy arrays of int64 that hold values of the width that each docstring names.

Twin: firmware_templates/runtime/base/mbx_fixed_point.h. All rounding of the project happens in the functions
of this file.

numpy's >> on signed integers is an arithmetic shift: it rounds towards minus infinity, as does the C on every compiler
that we support.
"""

import numpy as np

INT32_MIN = -(1 << 31)
INT32_MAX = (1 << 31) - 1


def multiply_high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (a * b + 2^31) >> 32, the rounded high word of a product; ties go up.

    a, b: int32 values. Returns int32 values. For b in Q31 this is half of a * b, in the format of a.
    One instruction, SMMULR, on a core with the DSP extension.
    Twin: mbx_multiply_high().
    """
    return (np.asarray(a, np.int64) * np.asarray(b, np.int64) + (1 << 31)) >> 32


def shift_right_rounded(a: np.ndarray, shift: int) -> np.ndarray:
    """Return (a + 2^(shift - 1)) >> shift; ties go up.

    a: int64 with |a| + 2^(shift - 1) < 2^63; shift: 1 to 62. Returns int64.
    Twin: mbx_shift_right_rounded().
    """
    return (np.asarray(a, np.int64) + (np.int64(1) << (shift - 1))) >> shift


def doubling_high_multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the high word of 2 * a * b, rounded to nearest, ties up; -2^31 * -2^31 saturates.

    a, b: int32 values. Returns int32 values.
    Source: gemmlowp, SaturatingRoundingDoublingHighMul, as TFLite's reference kernels use it.
    The division by 2^31 truncates towards zero, hence the nudge that depends on the sign; together ties go up.
    Twin: mbx_doubling_high_multiply().
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.minimum(high, INT32_MAX)


def divide_by_power_of_two(a: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """Return a / 2^exponent, rounded to nearest, ties away from zero.

    a: int32 values; exponent: 0 to 31. Returns int32 values.
    Source: gemmlowp, RoundingDivideByPOT.
    Twin: mbx_divide_by_power_of_two().
    """
    a = np.asarray(a, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (a < 0)
    return (a >> exponent) + ((a & mask) > threshold)


def multiply_by_quantized_multiplier(
    a: np.ndarray, multiplier: np.ndarray | int, shift: np.ndarray | int
) -> np.ndarray:
    """Return a * multiplier / 2^31 * 2^shift, rounded twice as TFLite's reference kernels do.

    a: int32 values with |a * 2^max(shift, 0)| < 2^31; multiplier: Q31, 0 or in [2^30, 2^31); shift: -31 to 30.
    Returns int32 values.
    Source: TFLite, MultiplyByQuantizedMultiplier without TFLITE_SINGLE_ROUNDING.
    Twin: mbx_multiply_by_quantized_multiplier().
    """
    left = np.maximum(shift, 0)
    right = np.maximum(-np.asarray(shift), 0)
    scaled = np.asarray(a, np.int64) << left
    return divide_by_power_of_two(doubling_high_multiply(scaled, np.asarray(multiplier)), right)


def clamp(a: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return a, limited to low..high. Twin: mbx_clamp()."""
    clamped: np.ndarray = np.minimum(np.maximum(a, low), high)
    return clamped
