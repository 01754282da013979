"""Drawn networks that stream: lines and images, strides in time, residual branches, a mean or a maximum over time."""

from dataclasses import dataclass

import numpy as np

from tests.made.tflite import Network, random_weights


@dataclass(frozen=True)
class Drawn:
    """data: a .tflite. step: frames that it takes at a time."""

    data: bytes
    step: int


def draw_stream(seed: int) -> Drawn:
    """Return a network whose layers see few rows each, and a step that divides what it goes over."""
    rng = np.random.default_rng(seed)
    image = bool(rng.random() < 0.4)
    stride = int(rng.choice((1, 1, 2)))
    blocks, rows = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    channels = int(rng.choice((1, 3, 4, 8, 12, 16)))
    width = int(rng.integers(2, 6)) if image else 1
    layers = [_Layer.draw(rng, image) for _ in range(int(rng.integers(1, 5)))]
    pooled = blocks * rows
    frames = stride * (pooled + sum(layer.context for layer in layers) - 1) + 1 + (stride - 1)
    if image and frames == 1:  # an image of one row is a line of as many frames as it is wide
        return draw_stream(seed + 1_000_003)
    network = Network()
    shape = (1, frames, width, channels) if image else (1, 1, frames, channels)
    x = network.activation(shape, 0.5, int(rng.choice((-128, 0, 5))))
    if stride > 1:
        x = _convolve(network, rng, x, (1, 1), (stride, 1) if image else (1, stride), (1, 1))
    for layer in layers:
        x = layer.add_to(network, rng, x, image)
    axes = (1, 2) if image and rng.random() < 0.5 else ((1,) if image else (1, 2))
    if rng.random() < 0.3:
        x = network.maximum(x, axes)
    else:
        x = network.mean(x, network.scale(x) / 2, int(rng.choice((-128, 0, 9))), axes)
    values = int(np.prod(network.shape(x)))
    weights = random_weights(rng, (3, values))
    x = network.reshape(x, (1, values))
    x = network.fully_connected(x, weights, [0.02 / network.scale(x)], None, 1.0, -5)
    return Drawn(network.build(x), stride * rows)


@dataclass(frozen=True)
class _Layer:
    kind: str
    kernel: int
    dilation: int

    @property
    def context(self) -> int:
        """Rows before its own that it sees."""
        return (self.kernel - 1) * self.dilation

    @staticmethod
    def draw(rng: np.random.Generator, image: bool) -> "_Layer":
        kind = str(rng.choice(("pointwise", "depthwise", "depthwise", "convolution", "residual", "add")))
        kernel = 1 if kind in ("pointwise", "add") else int(rng.integers(1, 8))
        return _Layer(kind, kernel, 1 if image else int(rng.choice((1, 1, 2, 3))))

    def add_to(self, network: Network, rng: np.random.Generator, x: int, image: bool) -> int:
        kernel = (self.kernel, 1) if image else (1, self.kernel)
        dilation = (self.dilation, 1) if image else (1, self.dilation)
        if self.kind == "add":
            return network.add(x, x, network.scale(x) * 2, 3)
        if self.kind != "residual":
            return _convolve(network, rng, x, kernel, (1, 1), dilation, self.kind == "depthwise")
        main = _convolve(network, rng, x, kernel, (1, 1), dilation, depthwise=True)
        axis = 1 if image else 2
        behind = int(rng.choice((0, 0, self.context // 2)))  # aligned at the end, or in the middle
        parts = [slice(0, length) for length in network.shape(x)]
        parts[axis] = slice(self.context - behind, network.shape(x)[axis] - behind)
        if self.context:
            x = network.strided_slice(x, parts)
        return network.add(main, x, max(network.scale(main), network.scale(x)) * 1.5, -7)


def _convolve(
    network: Network,
    rng: np.random.Generator,
    x: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    depthwise: bool = False,
) -> int:
    channels = network.shape(x)[3]
    outputs = channels if depthwise else int(rng.choice((4, 5, 8, 12)))
    shape = (1, *kernel, channels) if depthwise else (outputs, *kernel, channels)
    weights = np.maximum(random_weights(rng, shape), np.int8(-127))
    taps = kernel[0] * kernel[1] * (1 if depthwise else channels)
    ratio = 1.0 / (74.0 * np.sqrt(taps))
    scales = np.full(outputs, ratio * rng.uniform(0.6, 1.4)) / network.scale(x)
    bias = rng.integers(-500, 500, outputs)
    return network.conv_2d(
        x, weights, scales, bias, 1.0, int(rng.choice((-128, 0, 7))), padding="VALID", stride=stride,
        dilation=dilation, depthwise=depthwise,
    )  # fmt: skip
