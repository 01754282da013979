"""The exponentials of an int8 SOFTMAX, as TFLite's reference kernel has them: integers of gemmlowp's fixed point.

An int8 logit lies 0 to 255 below the largest one, so that all there can be is computed when the model is compiled.
Source: TFLite, reference_ops::Softmax and PreprocessSoftmaxScaling; gemmlowp, exp_on_negative_values.
"""

import numpy as np

from mbx_deploy.sim.fixed_point import INT32_MAX, INT32_MIN, divide_by_power_of_two, doubling_high_multiply

DIFFERENCE_INTEGER_BITS = 5
FRACTION_BITS = 31 - DIFFERENCE_INTEGER_BITS
EXP_MINUS_EIGHTH_Q31 = 1895147668
THIRD_Q31 = 715827883
EIGHTH_Q31 = 1 << 28
# exp(-2^k) in Q31 for k = -2..4: a factor for each bit of what lies below the last quarter.
EXP_OF_BITS_Q31 = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def softmax_exponentials(multiplier: int, shift: int) -> np.ndarray:
    """Return exp(-d * scale) for d = 0, 1, ..., int32 in Q31, as far as TFLite counts them in, at most 256.

    multiplier, shift: of beta * scale * 2^26, from multipliers.quantize_multiplier(), shift 0 to 31.
    """
    radius = ((1 << DIFFERENCE_INTEGER_BITS) - 1) * 2.0 ** (31 - DIFFERENCE_INTEGER_BITS) / 2.0**shift
    distances = np.arange(min(255, int(radius)) + 1, dtype=np.int64)
    differences_q26 = doubling_high_multiply(-distances << shift, np.array(multiplier))
    return exp_on_negative_values(differences_q26, DIFFERENCE_INTEGER_BITS).astype(np.int32)


def exp_on_negative_values(value: np.ndarray, integer_bits: int) -> np.ndarray:
    """Return exp(value), int64 in Q31. Source: gemmlowp, the function of this name.

    value: int64, -2^31 to 0, in Q(31 - integer_bits). integer_bits: 4 or 5.
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    inside = (value & (quarter - 1)) - quarter  # -1/4 to 0
    remainder = inside - value
    result = _exp_between_minus_quarter_and_zero(np.clip(inside << integer_bits, INT32_MIN, INT32_MAX))
    for bit, factor in enumerate(EXP_OF_BITS_Q31[: 2 + integer_bits], start=fraction_bits - 2):
        result = np.where(remainder & (1 << bit), doubling_high_multiply(result, np.array(factor)), result)
    return np.where(value == 0, INT32_MAX, result)


def _exp_between_minus_quarter_and_zero(value_q31: np.ndarray) -> np.ndarray:
    """Taylor's series around -1/8, as gemmlowp sums it up."""
    x = value_q31 + EIGHTH_Q31
    x2 = doubling_high_multiply(x, x)
    x3 = doubling_high_multiply(x2, x)
    x4 = doubling_high_multiply(x2, x2)
    cubic = doubling_high_multiply(divide_by_power_of_two(x4, 2) + x3, np.array(THIRD_Q31))
    series = x + divide_by_power_of_two(cubic + x2, 1)
    return EXP_MINUS_EIGHTH_Q31 + doubling_high_multiply(np.array(EXP_MINUS_EIGHTH_Q31), series)
