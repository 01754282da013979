"""NeMo's features of a clip of any length, in float64: what its own float32 is an approximation of."""

import numpy as np

from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.tables import dct_matrix, hann_window, mel_filterbank


def clip_features(samples: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Return the features of a clip, float64 (1 + samples // hop_length, num_coefficients), none padded or dropped.

    samples: int16 (n,), n above n_fft / 2 where its ends are reflected.
    Source: torchaudio.transforms.MFCC and nemo's FilterbankFeatures, as their parameters stand in config.
    """
    signal = samples.astype(np.float64) / 32768.0
    if config.preemphasis:
        signal = np.append(signal[:1], signal[1:] - config.preemphasis * signal[:-1])
    # The window stands in the middle of n_fft samples: outside of it they count for nothing.
    if config.edge == "reflect":
        padded = np.pad(signal, config.lead, mode="reflect")
    else:
        padded = np.pad(signal, config.lead)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.window_length)[:: config.hop_length]
    window = hann_window(config.window_length, config.window == "hann_periodic")
    power = np.abs(np.fft.rfft(frames * window, config.n_fft)) ** 2
    log_mel = np.log(power @ mel_filterbank(config).T + config.log_offset)
    coefficients: np.ndarray = log_mel @ dct_matrix(config.n_mfcc, config.n_mels).T if config.n_mfcc else log_mel
    return coefficients
