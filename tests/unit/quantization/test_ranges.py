"""The rules for the ranges of activations, and the scales that follow from them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.float_network import activation_tensors, activations, dequantize_network
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization.ranges import (
    BINS,
    RULES,
    Histogram,
    Range,
    dequantize,
    least_squares_range,
    observe,
    percentile_range,
    quantize,
    rules_of,
    whole_range,
)
from tests.made.tflite import small_artifact

CONFIG = FrontendConfig(clip_samples=4000)


def histogram_of(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


def error_of(values: np.ndarray, chosen: Range) -> float:
    quantization = chosen.quantization()
    return float(np.mean((dequantize(quantize(values, quantization), quantization) - values) ** 2))


# Ranges to scales

ends = st.floats(0.0, 1e4)


@given(ends, ends)
@example(0.0, 0.0)
@example(0.0, 1e-120)
@example(0.0, 5.0)
@example(5.0, 0.0)
@example(1e4, 1e-4)
def test_zero_is_a_step_and_the_ends_are_within_one(below: float, above: float) -> None:
    quantization = Range(-below, above).quantization()
    assert quantization.scale > 0
    assert -128 <= quantization.zero_point <= 127
    assert dequantize(quantize(np.zeros(1), quantization), quantization)[0] == 0.0
    found = dequantize(quantize(np.array([-below, above]), quantization), quantization)
    np.testing.assert_allclose(found, [-below, above], atol=quantization.scale, rtol=1e-6)


def test_what_is_never_negative_gets_all_steps() -> None:
    assert Range(0.0, 25.5).quantization().zero_point == -128
    assert Range(-25.5, 0.0).quantization().zero_point == 127


# The rules


def test_minmax_covers_all_values_and_zero() -> None:
    values = np.random.default_rng(1).normal(5.0, 1.0, 10000)
    assert whole_range(histogram_of(values)) == Range(0.0, float(values.max()))


def test_a_percentile_leaves_out_the_outliers() -> None:
    values = np.random.default_rng(2).normal(0.0, 1.0, 200000)
    values[:5] = 40.0
    found = percentile_range(histogram_of(values), 99.9)
    expected = np.quantile(values, [0.001, 0.999])
    np.testing.assert_allclose([found.low, found.high], expected, atol=41 / BINS)


def test_a_percentile_of_a_relu_begins_at_zero() -> None:
    values = np.maximum(np.random.default_rng(3).normal(0.0, 1.0, 100000), 0.0)
    found = percentile_range(histogram_of(values), 99.9)
    assert found.low == 0.0
    assert found.high == pytest.approx(np.quantile(values, 0.999), abs=0.01)


@pytest.mark.parametrize("rectified", [False, True])
def test_least_squares_beats_the_other_rules(rectified: bool) -> None:
    values = np.random.default_rng(4).laplace(0.0, 1.0, 200000)
    if rectified:
        values = np.maximum(values, 0.0)
    histogram = histogram_of(values)
    found = least_squares_range(histogram)
    assert (found.low == 0.0) == rectified
    errors = {name: error_of(values, rule(histogram)) for name, rule in RULES.items()}
    assert min(errors, key=errors.__getitem__) == "mse"
    assert errors["mse"] < 0.9 * errors["minmax"]


def test_an_activation_that_is_always_zero_has_a_range() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[0] = 100
    for rule in RULES.values():
        found = rule(Histogram(0.0, 0.0, counts))
        assert found == Range(0.0, 0.0)
        assert found.quantization().scale == 1.0


def test_a_choice_names_its_rules() -> None:
    assert rules_of("minmax") == ("minmax",)
    assert rules_of("percentile") == ("percentile-99.999", "percentile-99.99", "percentile-99.9")
    assert rules_of("auto") == tuple(RULES)
    assert rules_of("median") == ()


# What is observed


def test_histograms_hold_every_value_whatever_the_batches() -> None:
    model = parse_tflite(small_artifact(CONFIG), "small")
    network = dequantize_network(model)
    features = np.random.default_rng(5).normal(0.0, 20.0, (70, CONFIG.num_frames, CONFIG.num_coefficients))
    histograms = observe(network, features)
    assert len(histograms) == len(activation_tensors(model))
    for histogram, values in zip(histograms, activations(network, features), strict=True):
        assert histogram.counts.sum() == values.size
        assert (histogram.low, histogram.high) == pytest.approx((values.min(), values.max()), rel=1e-12)
        shares = np.histogram(values, BINS, (histogram.low, histogram.high))[0]
        assert np.abs(histogram.counts - shares).sum() <= 1e-4 * values.size + 4
