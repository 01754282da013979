"""Random networks of every op that there is, of odd shapes: what others' keyword models are made of."""

from collections.abc import Callable

import numpy as np

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from tests.made import tflite as tflite_builder
from tests.made.tflite import random_weights

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
ZERO_POINTS = (-128, 127, 0, -5, 60)
LAYERS = 9


def foreign_network(seed: int) -> CompiledModel:
    """Return a drawn network; the same for the same seed."""
    return _drawn(seed, _Drawing)


def image_network(seed: int) -> CompiledModel:
    """Return a drawn network that keeps its height and width: its layers can run in stripes of rows."""
    return _drawn(seed, _ImageDrawing)


def _drawn(seed: int, kind: type["_Drawing"]) -> CompiledModel:
    for attempt in range(20):
        rng = np.random.default_rng((seed, attempt))
        try:
            return parse_model(kind(rng).file(), f"network {seed}", network_only=True)
        except InputError as error:
            assert "overflow" in error.what or "too far apart" in error.what, error.what
    raise AssertionError(f"no network for seed {seed}")


class _Drawing:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.network = tflite_builder.Network()

    def file(self) -> bytes:
        rng, network = self.rng, self.network
        shape = (1, int(rng.integers(3, 19)), int(rng.integers(3, 12)), int(rng.integers(1, 9)))
        x = network.activation(shape, 0.05, self.point())
        kinds: tuple[Callable[[int], int], ...] = (
            lambda x: self.convolution(x, False),
            lambda x: self.convolution(x, True),
            self.residual,
            self.pool,
            self.padded,
            lambda x: network.clamp(x, str(rng.choice(("RELU", "RELU6")))),
            lambda x: network.reshape(x, (1, *rng.permutation(network.shape(x)[1:]).tolist())),
            lambda x: network.mean(x, network.scale(x) * 0.7, self.point(), [int(rng.choice((1, 2)))], keep=True),
        )
        odds = (0.3, 0.25, 0.1, 0.1, 0.08, 0.06, 0.06, 0.05)
        for kind in rng.choice(len(kinds), LAYERS, p=odds):
            x = kinds[kind](x)
        x = network.mean(x, network.scale(x) * 0.5, self.point())
        inside = network.shape(x)[1]
        scale = network.scale(x) * 0.01 * 74 * 40 * np.sqrt(inside) / 50
        x = network.fully_connected(x, random_weights(rng, (5, inside)), [0.01], None, scale, 3)
        return network.build(network.softmax(x))

    def point(self) -> int:
        return int(self.rng.choice(ZERO_POINTS))

    def convolution(self, x: int, depthwise: bool, most_stride: int = 2) -> int:
        rng = self.rng
        inside = self.network.shape(x)[3]
        kernel = [int(rng.choice((1, 2, 3, 4, 10))), int(rng.choice((1, 2, 3, 4)))]
        outside = inside * int(rng.choice((1, 1, 2))) if depthwise else int(rng.choice((1, 3, 4, 8, 13, 16)))
        stride = (int(rng.integers(1, most_stride + 1)), int(rng.integers(1, most_stride + 1)))
        dilation = (1, int(rng.integers(1, 3)))
        shape = (1, *kernel, outside) if depthwise else (outside, *kernel, inside)
        taps = kernel[0] * kernel[1] * (1 if depthwise else inside)
        scale = self.network.scale(x) * 0.01 * 74 * 60 * np.sqrt(taps) / 60
        return self.network.conv_2d(
            x,
            np.maximum(random_weights(rng, shape), np.int8(-127)),
            rng.uniform(0.003, 0.01, outside),
            rng.integers(-2000, 2000, outside),
            float(scale),
            self.point(),
            stride=stride,
            dilation=dilation,
            padding="SAME",
            activation=str(rng.choice(ACTIVATIONS, p=(0.5, 0.3, 0.15, 0.05))),
            depthwise=depthwise,
        )

    def residual(self, x: int) -> int:
        weights = random_weights(self.rng, (self.network.shape(x)[3], 1, 1, self.network.shape(x)[3]))
        scale = self.network.scale(x)
        branch = self.network.conv_2d(x, np.maximum(weights, np.int8(-127)), [0.01], None, scale * 1.4, self.point())
        return self.network.add(x, branch, scale * 1.7, self.point(), str(self.rng.choice(ACTIVATIONS[:2])))

    def pool(self, x: int) -> int:
        rng = self.rng
        _, height, width, _ = self.network.shape(x)
        window = (int(rng.integers(1, min(4, height) + 1)), int(rng.integers(1, min(4, width) + 1)))
        stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        padding = str(rng.choice(("SAME", "VALID")))
        return self.network.pool(x, window, stride, padding, average=bool(rng.integers(2)))

    def padded(self, x: int) -> int:
        low, high = (int(value) for value in self.rng.integers(0, 3, 2))
        value = None if self.rng.integers(2) else int(self.rng.integers(-128, 128))
        return self.network.pad(x, ((0, 0), (low, high), (high, 1), (0, low)), value)


class _ImageDrawing(_Drawing):
    def file(self) -> bytes:
        rng, network = self.rng, self.network
        shape = (1, int(rng.integers(5, 27)), int(rng.choice((2, 4, 4, 5, 8))), int(rng.choice((1, 2, 4))))
        x = network.activation(shape, 0.05, self.point())
        kinds: tuple[Callable[[int], int], ...] = (
            lambda x: self.convolution(x, False, 1),
            lambda x: self.convolution(x, True, 1),
            self.residual,
        )
        for kind in rng.choice(len(kinds), LAYERS, p=(0.4, 0.4, 0.2)):
            x = kinds[kind](x)
        x = network.mean(x, network.scale(x) * 0.5, self.point())
        scale = network.scale(x) * 0.01 * 74 * 40
        return network.build(
            network.fully_connected(x, random_weights(rng, (5, network.shape(x)[1])), [0.01], None, scale, 3)
        )
