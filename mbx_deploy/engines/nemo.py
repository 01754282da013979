"""The float engine of a .nemo: NeMo's own forward pass in PyTorch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbx_deploy.nemo.conversion import read_nemo
from mbx_deploy.nemo.folding import fixed_clip_samples
from mbx_deploy.nemo.masked import nemo_features, nemo_logits
from mbx_deploy.nemo.preprocessor import clip_layout


class NemoFloatEngine:
    """Gives float64 logits of clips of any length that NeMo takes and does not crop at random."""

    name = "float"

    def __init__(self, path: Path, forward: str | None, note: Callable[[str], None]) -> None:
        """Raises InputError for an unusable file. note hears which forward pass it is, and of doubts about labels."""
        self.model, self.network, _ = read_nemo(path, forward)
        self.labels = self.model.labels
        frontend = self.model.preprocessor.frontend
        self.config = replace(frontend, clip_samples=fixed_clip_samples(self.model, frontend.sample_rate_hz))
        self.clip_samples = self.config.clip_samples
        note(f"{path}: forward pass {self.model.forward} ({self.model.forward_reason})")
        for text in self.model.notes:
            note(f"{path}: {text}")

    def takes(self, samples: int) -> bool:
        """Return whether NeMo has one answer to a clip of so many samples; others are cut or padded by our rule."""
        return clip_layout(self.model.preprocessor, self.model.crop_frames, samples) is not None

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Return what enters NeMo's encoder, float64 (frames, num_coefficients). samples: int16 (n,), one it takes."""
        return nemo_features(self.model, samples)[0].astype(np.float64)

    def logits(self, samples: np.ndarray) -> np.ndarray:
        """Return float64 (classes,). samples: int16 (n,), one it takes."""
        return nemo_logits(self.network, self.model, samples).astype(np.float64)

    def logits_of(self, clips: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes). clips: int16 (N, clip_samples)."""
        return np.stack([self.logits(clip) for clip in clips])
