"""Which real range each int8 activation covers: histograms of the float network's activations, and rules over them.

All in float64: sums that another machine adds up in another order give the same float32 scales.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mbx_deploy.network.float_network import BATCH_CLIPS, FloatNetwork, activations
from mbx_deploy.quantization.convert import Quantization

BINS = 2048
LEAST_SCALE = 2.0**-40  # what never leaves a narrower range is always zero, and any scale will do
_STEPS = 255  # between the least and the largest int8
_MSE_GRID = 32  # ends tried by the rule "mse": 1/32, 2/32, ... of the largest value
_MSE_LEAST = 8  # of them: narrower than a quarter is never best for what a network computes


@dataclass(frozen=True)
class Range:
    """The real values that an int8 tensor covers: low <= 0 <= high."""

    low: float
    high: float

    def quantization(self) -> Quantization:
        """Return the scale and zero point; zero is exactly a step.

        Source: TFLite, GetAsymmetricQuantizationParams.
        """
        scale = (self.high - self.low) / _STEPS
        if scale < LEAST_SCALE:
            return Quantization(1.0, -128)
        nearer_low = 128 + abs(self.low) / scale < 127 + abs(self.high) / scale
        point = -128 - self.low / scale if nearer_low else 127 - self.high / scale
        return Quantization(float(np.float32(scale)), int(np.clip(np.rint(point), -128, 127)))


@dataclass(frozen=True)
class Histogram:
    """How often an activation's values fell into each of BINS equal parts of low..high.

    counts: int64 (BINS,).
    """

    low: float
    high: float
    counts: np.ndarray

    def edges(self) -> np.ndarray:
        """Return the ends of the parts, float64 (BINS + 1,)."""
        return np.linspace(self.low, self.high, BINS + 1)


def observe(network: FloatNetwork, features: np.ndarray) -> tuple[Histogram, ...]:
    """Return the histogram of each activation, in the order of float_network.activation_tensors().

    features: float (N, num_frames, num_coefficients) in natural units. The network runs twice: for the extremes, then
    for the counts.
    """
    batches = [features[start : start + BATCH_CLIPS] for start in range(0, len(features), BATCH_CLIPS)]
    ends = np.array([[(values.min(), values.max()) for values in activations(network, batch)] for batch in batches])
    lows, highs = ends[..., 0].min(axis=0), ends[..., 1].max(axis=0)
    counts = np.zeros((len(lows), BINS), np.int64)
    for batch in batches:
        for number, values in enumerate(activations(network, batch)):
            width = (highs[number] - lows[number]) or 1.0
            parts = ((values.ravel() - lows[number]) * (BINS / width)).astype(np.int64)
            counts[number] += np.bincount(np.minimum(parts, BINS - 1), minlength=BINS)
    return tuple(Histogram(float(low), float(high), row) for low, high, row in zip(lows, highs, counts, strict=True))


def whole_range(histogram: Histogram) -> Range:
    """Return the range of all values that occurred."""
    return Range(min(histogram.low, 0.0), max(histogram.high, 0.0))


def percentile_range(histogram: Histogram, percent: float) -> Range:
    """Return the range between the (100 - percent)th and the percent-th percentile, zero included."""
    edges = histogram.edges()
    share = np.concatenate([[0.0], np.cumsum(histogram.counts) / histogram.counts.sum()])
    low, high = np.interp([1.0 - percent / 100.0, percent / 100.0], share, edges)
    # A value that is exactly an extreme (a ReLU's zero) stands at the lower end of its part, not within it.
    if share[1] >= 1.0 - percent / 100.0:
        low = histogram.low
    return Range(min(float(low), 0.0), max(float(high), 0.0))


def least_squares_range(histogram: Histogram) -> Range:
    """Return the range, of a grid of ranges, for which the mean square of rounding and clipping errors is least.

    An error is that of the middle of a value's part.
    """
    whole = whole_range(histogram)
    used = np.flatnonzero(histogram.counts)
    edges = histogram.edges()
    middles = ((edges[:-1] + edges[1:]) / 2.0)[used]
    weights = histogram.counts[used].astype(np.float64)
    ends = np.arange(_MSE_LEAST, _MSE_GRID + 1) / _MSE_GRID
    best, least = whole, np.inf
    for low in whole.low * ends[::-1] if whole.low else np.zeros(1):
        for high in whole.high * ends[::-1] if whole.high else np.zeros(1):
            candidate = Range(float(low), float(high))
            quantization = candidate.quantization()
            errors = dequantize(quantize(middles, quantization), quantization) - middles
            error = float(weights @ (errors * errors))
            if error < least * (1.0 - 1e-9):  # of equals the widest, whatever the last bits say
                best, least = candidate, error
    return best


def quantize(values: np.ndarray, quantization: Quantization) -> np.ndarray:
    """Return the nearest int8 steps, as float64, clipped to int8."""
    quantized: np.ndarray = np.clip(np.rint(values / quantization.scale) + quantization.zero_point, -128, 127)
    return quantized


def dequantize(steps: np.ndarray, quantization: Quantization) -> np.ndarray:
    """Return the real values of int8 steps, float64."""
    return (steps.astype(np.float64) - quantization.zero_point) * quantization.scale


RULES: dict[str, Callable[[Histogram], Range]] = {
    "minmax": whole_range,
    "percentile-99.999": lambda histogram: percentile_range(histogram, 99.999),
    "percentile-99.99": lambda histogram: percentile_range(histogram, 99.99),
    "percentile-99.9": lambda histogram: percentile_range(histogram, 99.9),
    "mse": least_squares_range,
}


def rules_of(choice: str) -> tuple[str, ...]:
    """Return the rules that a choice leaves to measurement: a rule's name, the part before its dash, or "auto"."""
    return tuple(name for name in RULES if choice in ("auto", name, name.split("-")[0]))
