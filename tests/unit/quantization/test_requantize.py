"""Other ranges in the same file: what changes, what stays, and that every engine still agrees."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mbx_deploy.compiler.lower import lower
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.engines.session import ITEM_FEATURES, TRACE_LAYERS, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.float_network import (
    WeightedOp,
    activation_tensors,
    activations,
    dequantize_network,
    float_logits,
)
from mbx_deploy.network.metadata import pack_model, unpack_model
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization.ranges import RULES, Range, observe
from mbx_deploy.quantization.requantize import LARGEST_BIAS, set_ranges
from mbx_deploy.sim import recognizer as sim_model
from tests.made.tflite import Network, random_weights, small_artifact

CONFIG = FrontendConfig(clip_samples=4000)
FILE = small_artifact(CONFIG)
NETWORK = dequantize_network(parse_tflite(FILE, "small"))
FEATURES = np.random.default_rng(1).normal(0.0, 20.0, (64, CONFIG.num_frames, CONFIG.num_coefficients))
HISTOGRAMS = observe(NETWORK, FEATURES)


def ranges_by(rule: str) -> list[Range]:
    return [RULES[rule](histogram) for histogram in HISTOGRAMS]


def int8_features(data: bytes, count: int = 12) -> np.ndarray:
    source = parse_tflite(data, "x")
    tensor = source.tensors[source.input]
    real = np.clip(np.rint(FEATURES[:count] / float(tensor.scale)) + tensor.zero_point, -128, 127).astype(np.int8)
    hostile = np.random.default_rng(2).integers(-128, 128, real.shape, np.int8)
    return np.concatenate([real, hostile])


@pytest.mark.parametrize("rule", RULES)
def test_the_simulator_and_tflite_micro_agree_in_every_layer(rule: str) -> None:
    pytest.importorskip("tflite_micro")
    recognizer = parse_model(set_ranges(FILE, NETWORK, ranges_by(rule)), "small")
    items = [Item(ITEM_FEATURES, features) for features in int8_features(recognizer.data)]
    simulated, micro = (engine.run(items, TRACE_LAYERS) for engine in (SimEngine(recognizer), TflmEngine(recognizer)))
    for (one,), (other,) in zip(simulated, micro, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert list(one.stages) == list(other.stages)
        for name in one.stages:
            np.testing.assert_array_equal(one.stages[name], other.stages[name])


def test_the_file_says_what_was_chosen_and_keeps_the_rest() -> None:
    chosen = ranges_by("mse")
    data = set_ranges(FILE, NETWORK, chosen)
    assert data == set_ranges(FILE, NETWORK, chosen)
    old, new = parse_tflite(FILE, "old"), parse_tflite(data, "new")
    assert new.metadata == old.metadata
    for index, each in zip(activation_tensors(new), chosen, strict=True):
        quantization = each.quantization()
        assert (float(new.tensors[index].scale), new.tensors[index].zero_point) == (
            quantization.scale,
            quantization.zero_point,
        )
    for number, op in enumerate(new.ops):
        if isinstance(op, WeightedOp):
            np.testing.assert_array_equal(new.tensors[op.weights].data, old.tensors[op.weights].data)
            assert new.tensors[op.weights].scales == old.tensors[op.weights].scales
            if op.bias is not None:
                bias = new.tensors[op.bias]
                real = bias.data * np.array(bias.scales, np.float64)  # type: ignore[operator]
                np.testing.assert_allclose(real, NETWORK.biases[number], atol=max(map(float, bias.scales)) * 0.501)


def test_logits_come_nearer_to_float_where_ranges_fit() -> None:
    expected = float_logits(NETWORK, FEATURES[:12])

    def error(data: bytes) -> float:
        model = parse_tflite(data, "x")
        last = model.tensors[model.output]
        steps = np.stack([sim_model.logits(features, lower(model)) for features in int8_features(data)[:12]])
        logits = (steps - float(last.zero_point)) * float(last.scale)
        return float(np.sqrt(np.mean((logits - expected) ** 2)))

    assert error(set_ranges(FILE, NETWORK, ranges_by("minmax"))) < 0.5 * error(FILE)


def test_a_missing_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        set_ranges(FILE, NETWORK, ranges_by("minmax")[:-1])


def test_a_bias_that_would_not_fit_gets_a_larger_scale() -> None:
    """As of a channel whose weights have all but vanished, and which batch norm has moved far."""
    number = next(n for n, op in enumerate(NETWORK.model.ops) if isinstance(op, WeightedOp))
    op = NETWORK.model.ops[number]
    assert isinstance(op, WeightedOp)

    def vanish(model: Any) -> None:
        quantization = model.subgraphs[0].tensors[op.weights].quantization
        quantization.scale = np.array([1e-12, *quantization.scale[1:]], np.float32)

    data = changed(vanish)
    model = parse_tflite(data, "x")
    network = dequantize_network(model)
    network.biases[number][0] = 3.0
    chosen = [RULES["minmax"](histogram) for histogram in observe(network, FEATURES)]
    found = parse_tflite(set_ranges(data, network, chosen), "y")
    assert op.bias is not None
    bias, weights = found.tensors[op.bias].data, found.tensors[op.weights]
    assert bias is not None
    assert weights.data is not None
    assert LARGEST_BIAS // 2 < bias[0] <= LARGEST_BIAS + 64
    assert not weights.data[..., 0].any()
    np.testing.assert_array_equal(weights.data[..., 1:], model.tensors[op.weights].data[..., 1:])  # type: ignore[index]


@pytest.mark.parametrize("whole_tensor", [False, True])
def test_biases_that_share_their_zeros_part(whole_tensor: bool) -> None:
    """A converter keeps one buffer for all biases that are zero, and one tensor where scales are equal, too."""
    rng = np.random.default_rng(3)
    file = Network()
    last = file.activation((1, 1, 9, 4), 0.1, 0)
    for _ in range(2):
        last = file.conv_2d(last, random_weights(rng, (4, 1, 1, 4)), [0.01] * 4, np.zeros(4, np.int32), 0.1, 0)
    model = file.model(last)
    first, second = model.subgraphs[0].operators
    if whole_tensor:
        second.inputs[2] = first.inputs[2]
    else:
        tensors = model.subgraphs[0].tensors
        tensors[second.inputs[2]].buffer = tensors[first.inputs[2]].buffer
    data = pack_model(model)
    network = dequantize_network(parse_tflite(data, "shared"))
    network.biases[0][:], network.biases[1][:] = [0.0, 1.0, 0.5, -3.0], [5.0, 0.0, -1.0, 2.0]
    ranges = [Range(-12.8, 12.7)] * 3
    found = dequantize_network(parse_tflite(set_ranges(data, network, ranges), "parted"))
    for number in (0, 1):
        np.testing.assert_allclose(found.biases[number], network.biases[number], atol=0.001)


def changed(change: Callable[[Any], None]) -> bytes:
    model = unpack_model(FILE)
    change(model)
    return pack_model(model)


def test_the_float_network_of_many_clips_is_that_of_each() -> None:
    together = list(activations(NETWORK, FEATURES[:5]))
    for clip in range(5):
        for all_values, values in zip(together, activations(NETWORK, FEATURES[clip : clip + 1]), strict=True):
            np.testing.assert_allclose(all_values[clip], values[0], rtol=1e-9, atol=1e-9)
