"""Features of a stretch of continuous audio: the frames at its edges hear the real samples beside it, no reflection."""

import dataclasses

import numpy as np

from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend


class ContinuousFrontend:
    """The front end of a window of continuous audio, as a stream computes it.

    margin_samples: how much audio a window needs beyond config.clip_samples, before it and behind it.
    """

    def __init__(self, config: FrontendConfig) -> None:
        """config: of the window alone; its padding of frames and the choice of its edges play no part."""
        self.config = config
        self._margin_frames = -(-config.lead // config.hop_length)
        self.margin_samples = self._margin_frames * config.hop_length
        self.window_samples = config.clip_samples + 2 * self.margin_samples
        self._host = HostFrontend(
            dataclasses.replace(config, clip_samples=self.window_samples, pad_frames_before=0, pad_frames_after=0)
        )

    def coefficients(self, samples: np.ndarray) -> np.ndarray:
        """Return int32 in Q16, (N, audio_frames, num_coefficients), of int16 (N, window_samples): frame k is centred at
        sample margin_samples + k * hop_length.
        """
        margin = self._margin_frames
        return self._host.coefficients(samples)[:, margin : margin + self.config.audio_frames]
