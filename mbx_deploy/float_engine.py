"""The float engine: the yardstick of accuracy, not of bytes.

Of a checkpoint (.pt) it is the PyTorch model. Of an artifact (.tflite) it is the same network in float arithmetic on
dequantized weights, without rounding of activations: what int8 arithmetic costs shows, what int8 weights cost does not.
Both see the front end's coefficients before they are quantized. Of a .nemo it is NeMo's own forward pass, on NeMo's own
features, of a clip of any length that NeMo takes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbx_deploy import ir
from mbx_deploy.errors import ToolMissing
from mbx_deploy.frontend import COEFFICIENT_FRACTION_BITS, FrontendConfig, build_tables
from mbx_deploy.pretrained import check_forward
from mbx_deploy.recognizer import Recognizer, load_recognizer
from mbx_deploy.sim.frontend import coefficients

if TYPE_CHECKING:
    from mbx_deploy.nemo.engine import NemoFloatEngine


def float_engine(
    model: Path, forward: str | None = None, note: Callable[[str], None] = lambda line: None
) -> "FloatEngine | NemoFloatEngine":
    """Return the float engine of a model. forward: of a .nemo, see pretrained.artifact_of().

    Raises InputError for a bad model, ToolMissing where torch is needed and not installed.
    """
    if model.suffix == ".nemo":
        from mbx_deploy.nemo.conversion import require_import_extra

        require_import_extra()
        from mbx_deploy.nemo.engine import NemoFloatEngine

        return NemoFloatEngine(model, forward, note)
    check_forward(model, forward)
    return FloatEngine(model)


class FloatEngine:
    """Gives float64 logits of clips. labels and config: the model's."""

    name = "float"

    def __init__(self, model: Path) -> None:
        """Raises InputError for a bad model, ToolMissing for a checkpoint where torch is not installed."""
        self.labels: tuple[str, ...]
        self.config: FrontendConfig
        if model.suffix == ".pt":
            self._load_checkpoint(model)
        else:
            recognizer = load_recognizer(model)
            self.labels, self.config = recognizer.labels, recognizer.config
            self._network = lambda features: dequantized_logits(recognizer, features)
        self.tables = build_tables(self.config)

    def _load_checkpoint(self, path: Path) -> None:
        try:
            import torch

            from mbx_deploy.train.checkpoint import load_checkpoint
        except ImportError:
            hint = "install it: pip install 'mbx-deploy[train]'"
            raise ToolMissing("torch is not installed (needed for a .pt model)", hint) from None
        module, info = load_checkpoint(path)
        module.eval()
        self.labels, self.config = tuple(info.labels), info.frontend

        def network(features: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                inputs = torch.from_numpy(features.T.astype(np.float32)[None, :, None, :])
                return module(inputs).numpy()[0].astype(np.float64)

        self._network = network

    def takes(self, samples: int) -> bool:
        """Return whether a clip of so many samples is taken as it is: only one of the model's length."""
        return samples == self.config.clip_samples

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Return the coefficients of a clip, float64 (num_frames, num_coefficients). samples: int16 (clip_samples,)."""
        return coefficients(samples, self.tables) / 2.0**COEFFICIENT_FRACTION_BITS

    def logits(self, samples: np.ndarray) -> np.ndarray:
        """Return float64 (classes,). samples: int16 (clip_samples,)."""
        return self._network(self.features(samples))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the posteriors of float logits, (classes,)."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def dequantized_logits(recognizer: Recognizer, features: np.ndarray) -> np.ndarray:
    """Return the float64 logits (classes,) of a quantized network without the rounding of its activations.

    features: float64 (num_frames, num_coefficients).
    """
    network = recognizer.network
    values = {network.input: features.reshape(network.tensors[network.input].shape)}
    for op in network.ops:
        values[op.output] = _run(network, op, values).reshape(network.tensors[op.output].shape)
    return values[network.output].ravel()


def _run(network: ir.Model, op: ir.Op, values: dict[int, np.ndarray]) -> np.ndarray:
    source = values[op.input]
    if isinstance(op, ir.Max):
        return source.max(axis=(1, 2))
    if isinstance(op, ir.Mean):
        return source.mean(axis=(1, 2))
    if isinstance(op, ir.Add):
        return _activate(source + values[op.other], op.activation)
    weights = network.tensors[op.weights]
    assert weights.data is not None
    channel_axis = 3 if isinstance(op, ir.DepthwiseConv2D) else 0
    scales = np.array(weights.scales, np.float64)
    real = weights.data * (scales.reshape([-1 if i == channel_axis else 1 for i in range(weights.data.ndim)]))
    bias = np.zeros(1)
    if op.bias is not None:
        data = network.tensors[op.bias].data
        assert data is not None
        bias = data * float(network.tensors[op.input].scale) * scales
    if isinstance(op, ir.FullyConnected):
        return _activate(source.reshape(1, -1) @ real.T + bias, op.activation)
    return _activate(_convolve(source[0], real, op, network.tensors[op.output].shape) + bias, op.activation)


def _convolve(
    source: np.ndarray, weights: np.ndarray, op: ir.Conv2D | ir.DepthwiseConv2D, shape: tuple[int, ...]
) -> np.ndarray:
    total = np.zeros(shape[1:])
    padding = []
    for axis in range(2):
        extent = (weights.shape[1 + axis] - 1) * op.dilation[axis] + 1
        reach = max(0, (shape[1 + axis] - 1) * op.stride[axis] + extent - source.shape[axis])
        padding.append((reach // 2, reach - reach // 2) if op.padding == "SAME" else (0, 0))
    padded = np.pad(source, (*padding, (0, 0)))
    for y in range(weights.shape[1]):
        for x in range(weights.shape[2]):
            starts = (y * op.dilation[0], x * op.dilation[1])
            window = tuple(
                slice(start, start + (shape[1 + axis] - 1) * op.stride[axis] + 1, op.stride[axis])
                for axis, start in enumerate(starts)
            )
            if isinstance(op, ir.Conv2D):
                total += padded[window] @ weights[:, y, x].T
            else:
                total += np.repeat(padded[window], op.depth_multiplier, axis=2) * weights[0, y, x]
    return total


def _activate(values: np.ndarray, activation: str) -> np.ndarray:
    if activation == "NONE":
        return values
    return np.clip(values, 0.0, 6.0 if activation == "RELU6" else None)
