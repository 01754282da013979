"""The float engine: the yardstick of accuracy, not of bytes.

Of a checkpoint (.pt) it is the PyTorch model. Of an artifact (.tflite) it is the same network in float arithmetic on
dequantized weights, without rounding of activations: what int8 arithmetic costs shows, what int8 weights cost does not.
Both see the front end's coefficients before they are quantized. Of a .nemo it is NeMo's own forward pass, on NeMo's own
features, of a clip of any length that NeMo takes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbx_deploy.compiler.model import load_model
from mbx_deploy.errors import ToolMissing
from mbx_deploy.frontend.config import COEFFICIENT_FRACTION_BITS, FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.frontend.tables import build_tables
from mbx_deploy.nemo.conversion import check_forward
from mbx_deploy.network.float_network import dequantize_network, float_logits
from mbx_deploy.sim.frontend import coefficients
from mbx_deploy.system.tools import find_tool

if TYPE_CHECKING:
    from mbx_deploy.engines.nemo import NemoFloatEngine


def float_engine(
    model: Path, forward: str | None = None, note: Callable[[str], None] = lambda line: None
) -> "FloatEngine | NemoFloatEngine":
    """Return the float engine of a model. forward: of a .nemo, see pretrained.artifact_of().

    Raises InputError for a bad model, ToolMissing where torch is needed and not installed.
    """
    if model.suffix == ".nemo":
        from mbx_deploy.nemo.conversion import require_import_extra

        require_import_extra()
        from mbx_deploy.engines.nemo import NemoFloatEngine

        return NemoFloatEngine(model, forward, note)
    check_forward(model, forward)
    return FloatEngine(model)


class FloatEngine:
    """Gives float64 logits of clips. labels and config: the model's. clip_samples: of a clip alone; of a model that
    streams a second, which is heard with silence before it, so that its end lies in the middle of what is pooled.
    """

    name = "float"

    def __init__(self, model: Path) -> None:
        """Raises InputError for a bad model, ToolMissing for a checkpoint where torch is not installed."""
        self.labels: tuple[str, ...]
        self.config: FrontendConfig
        self.clip_samples = 0
        self.tail_frames = 0
        self._network: Callable[[np.ndarray], np.ndarray]
        if model.suffix == ".pt":
            self._load_checkpoint(model)
        else:
            recognizer = load_model(model)
            self.labels, self.config = recognizer.labels, recognizer.config
            self.clip_samples = recognizer.recording_samples
            if recognizer.streaming is not None:
                self.tail_frames = recognizer.streaming.tail_frames
            network = dequantize_network(recognizer.network)
            self._network = lambda features: float_logits(network, features)
        self.tables = build_tables(self.config)
        self._front_end: HostFrontend | None = None

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
        self.clip_samples = self.config.clip_samples
        shape: Any = getattr(module, "config", None)
        if getattr(shape, "streaming", False):
            self.tail_frames, self.clip_samples = int(shape.tail_frames), self.config.sample_rate_hz

        def network(features: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                inputs = torch.from_numpy(features.transpose(0, 2, 1).astype(np.float32)[:, :, None, :])
                logits: np.ndarray = module(inputs).numpy().astype(np.float64)
                return logits

        self._network = network

    def takes(self, samples: int) -> bool:
        """Return whether a clip of so many samples is taken as it is: only one of the model's length."""
        return samples == self.clip_samples

    def in_window(self, samples: np.ndarray) -> np.ndarray:
        """Return a clip alone as a window of the network, int16 (clip_samples of its front end,)."""
        length, behind = self.config.clip_samples, self.tail_frames * self.config.hop_length
        return np.pad(samples, (length, behind))[-length:] if self.tail_frames else samples

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Return the coefficients of a clip, float64 (num_frames, num_coefficients). samples: int16 (clip_samples,)."""
        return coefficients(self.in_window(samples), self.tables) / 2.0**COEFFICIENT_FRACTION_BITS

    def logits(self, samples: np.ndarray) -> np.ndarray:
        """Return float64 (classes,). samples: int16 (clip_samples,)."""
        logits: np.ndarray = self._network(self.features(samples)[None])[0]
        return logits

    def logits_of(self, clips: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes). clips: int16 (N, clip_samples). In C where there is a compiler, so it is quick.

        Batches round otherwise than clips alone: as logits() but for the last bits.
        """
        if find_tool("gcc"):
            self._front_end = self._front_end or HostFrontend(self.config, self.tables)
            windows = np.stack([self.in_window(clip) for clip in clips])
            return self._network(self._front_end.coefficients(windows) / 2.0**COEFFICIENT_FRACTION_BITS)
        return self._network(np.stack([self.features(clip) for clip in clips]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the posteriors of float logits, (classes,)."""
    weights = np.exp(logits - logits.max())
    posteriors: np.ndarray = weights / weights.sum()
    return posteriors
