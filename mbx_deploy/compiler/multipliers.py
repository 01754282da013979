"""Real factors as the integers that TFLite's kernels multiply and shift by."""

import math


def quantize_multiplier(value: float) -> tuple[int, int]:
    """Return (multiplier, shift) with value = multiplier / 2^31 * 2^shift, multiplier in [2^30, 2^31) or 0.

    value: float64, not negative. Source: TFLite, QuantizeMultiplier; rounds ties away from zero.
    """
    if value == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(value)
    multiplier = math.floor(mantissa * 2.0**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)
