"""Real factors as the integers that TFLite's kernels multiply and shift by."""

import math

import numpy as np


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


def activation_range(activation: str, scale: np.float32, zero_point: int) -> tuple[int, int]:
    """Return the int8 limits of a fused activation.

    Source: TFLite, CalculateActivationRangeQuantized (float32 arithmetic).
    """

    def quantize(value: float) -> int:
        with np.errstate(over="ignore"):
            ratio = float(np.float32(value) / scale)
        ratio = min(ratio, 2.0**31)  # a scale so fine that the limit is out of reach
        return zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))

    limits = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
    lowest, highest = limits.get(activation, (None, None))
    low = -128 if lowest is None else max(-128, quantize(lowest))
    high = 127 if highest is None else min(127, quantize(highest))
    return low, high


def mean_multiplier(ratio: float, positions: int) -> tuple[int, int]:
    """Return (multiplier, shift) of a mean over positions: 1 / positions is folded in, truncating.

    Source: TFLite, QuantizedMeanOrSum.
    """
    multiplier, shift = quantize_multiplier(ratio)
    bits = min(positions.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // positions, shift - bits
