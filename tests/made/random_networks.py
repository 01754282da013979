"""Random networks of odd shapes and extreme numbers, for the kernels: a chain of layers with residual branches.

Each layer is drawn so that its outputs vary (a saturated layer hides what is wrong before it), and so that the kernels
for a core and the portable ones that stand in for them are both chosen.
"""

import numpy as np

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from tests.made.tflite import Network, metadata_for, random_weights

LABELS = ("no", "yes", "silence")
CHANNELS = (1, 2, 3, 4, 4, 5, 7, 8, 8, 12, 12, 15, 16, 17, 18, 20, 24, 28, 31, 32, 33, 36, 44, 48, 49, 64, 68, 70)
KERNELS = (1, 2, 3, 5, 6, 7, 11, 12, 13, 18, 29, 41, 46, 47, 48)
ZERO_POINTS = (-128, 127, 0, -128, 127, 55, -77)
LAYERS = 14


def random_recognizer(seed: int) -> CompiledModel:
    """Return the recogniser of a drawn network; the same for the same seed."""
    for attempt in range(20):
        rng = np.random.default_rng((seed, attempt))
        data = _Drawing(rng).artifact()
        try:
            return parse_model(data, f"network {seed}")
        except InputError:  # a sum that may overflow, or scales too far apart
            continue
    raise AssertionError(f"no network for seed {seed}")


class _Drawing:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.network = Network()
        self.points: dict[int, int] = {}

    def artifact(self) -> bytes:
        rng = self.rng
        frames, channels = int(rng.integers(2, 34)), int(rng.choice(CHANNELS))
        config = FrontendConfig(
            clip_samples=16 * (frames - 1) + 8, window_length=16, hop_length=16, n_fft=256, n_mels=channels, n_mfcc=0
        )
        assert (config.num_frames, config.num_coefficients) == (frames, channels)
        x = self.activation((1, 1, frames, channels))
        for _ in range(LAYERS):
            x = self.layer(x)
        x = self.network.mean(x, self.network.scale(x) / 3, self.zero_point(len(self.network.tensors)))
        self.points[x] = int(self.network.tensors[x].quantization.zeroPoint[0])
        weights = random_weights(rng, (3, self.network.shape(x)[1]))
        x = self.network.fully_connected(x, weights, [0.01 / self.network.scale(x)], None, 1.0, -5)
        return self.network.build(x, metadata_for(config, LABELS))

    def activation(self, shape: tuple[int, ...]) -> int:
        point = int(self.rng.choice(ZERO_POINTS))
        number = self.network.activation(shape, 1.0, point)
        self.points[number] = point
        return number

    def zero_point(self, number: int) -> int:
        self.points[number] = int(self.rng.choice(ZERO_POINTS))
        return self.points[number]

    def layer(self, x: int) -> int:
        rng = self.rng
        kind = rng.choice(("pointwise", "depthwise", "residual", "add", "shorten"), p=(0.35, 0.35, 0.15, 0.1, 0.05))
        _, _, width, channels = self.network.shape(x)
        if kind == "pointwise":
            return self.convolution(x, int(rng.choice(CHANNELS)))
        if kind == "depthwise":
            return self.depthwise(x)
        if kind == "residual":
            return self.add(x, self.convolution(x, channels))
        if kind == "add":
            return self.add(x, x)
        return self.convolution(x, channels, kernel=min(width, int(rng.integers(2, 4))), padding="VALID")

    def convolution(self, x: int, outside: int, kernel: int = 1, padding: str = "SAME") -> int:
        weights = self.weights((outside, 1, kernel, self.network.shape(x)[3]))
        if self.rng.random() < 0.85:
            weights = np.maximum(weights, np.int8(-127))  # -128 is none of the pointwise kernel's
        rows = weights.reshape(outside, -1).astype(np.int64)
        return self.weighted(x, weights, rows, 1 << 22, padding=padding)

    def depthwise(self, x: int) -> int:
        channels = self.network.shape(x)[3]
        kernel, dilation = int(self.rng.choice(KERNELS)), int(self.rng.choice((1, 1, 2, 3)))
        weights = self.weights((1, 1, kernel, channels))
        rows = weights.reshape(kernel, channels).T.astype(np.int64)
        return self.weighted(x, weights, rows, 1 << 30, dilation=(1, dilation), depthwise=True)

    def weights(self, shape: tuple[int, ...]) -> np.ndarray:
        weights = random_weights(self.rng, shape)
        weights.ravel()[self.rng.random(weights.size) < 0.05] = -128
        if self.rng.random() < 0.1:
            weights[:] = self.rng.choice((-127, 127))
        return weights

    def weighted(
        self,
        x: int,
        weights: np.ndarray,
        rows: np.ndarray,
        limit: int,
        *,
        padding: str = "SAME",
        dilation: tuple[int, int] = (1, 1),
        depthwise: bool = False,
    ) -> int:
        """Add a convolution. rows: of each output channel. limit: of the bounds that a fast kernel takes."""
        rng, count = self.rng, len(rows)
        folded = rng.integers(-2000, 2001, count)
        spread = np.sqrt((rows**2).sum(axis=1) + 1) * 74
        ratios = rng.uniform(20, 90, count) / spread
        # Outputs are then mostly within int8; a few channels are scaled far up or down.
        extreme = rng.random(count) < 0.1
        ratios[extreme] *= 2.0 ** rng.integers(-14, 3, extreme.sum())
        bounds = np.abs(rows).sum(axis=1) * 128
        case = rng.random()
        if case < 0.35 and bounds.max() < limit:
            edge = int(rng.integers(count))
            beyond = int(rng.random() < 0.4)  # by one: the portable kernel
            sign = int(rng.choice((-1, 1)))
            folded[edge] = sign * (limit - 1 - bounds[edge] + beyond)
            ratios[edge] = rng.uniform(30, 120) / limit
        elif case < 0.45:
            ratios[int(rng.integers(count))] = float(rng.choice((0.6, 1.3, 2.0**-24, 2.0**-22.5)))
        ratios = np.clip(ratios, 2.0**-22.9, 0.49) if case < 0.35 or case >= 0.45 else ratios
        bias = folded + self.points[x] * rows.sum(axis=1)
        point = int(rng.choice(ZERO_POINTS))
        activation = "RELU" if rng.random() < 0.12 else "NONE"
        scale = float(rng.choice((1.0, 1.0, 0.37, 2.5)))
        scales = ratios * scale / self.network.scale(x)
        output = self.network.conv_2d(
            x, weights, scales, bias, scale, point, padding=padding, dilation=dilation, activation=activation,
            depthwise=depthwise,
        )  # fmt: skip
        self.points[output] = point
        return output

    def add(self, left: int, right: int) -> int:
        """Add a sum: of equal or very different scales, the larger one first or second."""
        rng = self.rng
        if left != right and rng.random() < 0.5:
            # Seen through another scale: what the branch computed stays as it is.
            factor = 2.0 ** rng.uniform(-24, 3)
            self.network.tensors[right].quantization.scale = [self.network.scale(right) * factor]
            scales = self.network.tensors[self.network.operators[-1].inputs[1]].quantization
            scales.scale = [float(s) * factor for s in scales.scale]
            for number in self.network.operators[-1].inputs[2:]:
                bias = self.network.tensors[number].quantization
                bias.scale = [float(s) * factor for s in bias.scale]
        if rng.random() < 0.5:
            left, right = right, left
        larger = max(self.network.scale(left), self.network.scale(right))
        scale = larger * float(rng.choice((1.2, 0.9, 2.0, 1.9, 0.6)))
        point = int(rng.choice((-128, 127, 0, 12)))
        output = self.network.add(left, right, scale, point, "RELU" if rng.random() < 0.15 else "NONE")
        self.points[output] = point
        return output
