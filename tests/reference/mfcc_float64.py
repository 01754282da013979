"""NeMo's MFCC in float64, from its definition: what the integer front end is measured against.

It shares no code with mbx_deploy, so that no mistake can stand on both sides.
Source: torchaudio.transforms.MFCC as NeMo's AudioToMFCCPreprocessor calls it (HTK mel scale, no
normalisation, power 2, natural logarithm of mel + offset, orthonormal DCT-II).
"""

from functools import lru_cache

import numpy as np


def mfcc(
    samples: np.ndarray,
    *,
    sample_rate_hz: int,
    window_length: int,
    hop_length: int,
    n_fft: int,
    center: bool,
    n_mels: int,
    low_hz: float,
    high_hz: float,
    log_offset: float,
    n_mfcc: int,
    pad_frames_before: int = 0,
    pad_frames_after: int = 0,
    drop_frames_after: int = 0,
    window: str = "hann_periodic",
    mel_scale: str = "htk",
    mel_norm: str = "none",
    preemphasis: float = 0.0,
    edge: str = "reflect",
    sample_gain: float = 1.0,
    spectrum: str = "power",
    mel_slopes: str = "hz",
    mel_first_line: int = 0,
    log_guard: str = "add",
    log_scale: str = "natural",
    dct_norm: str = "ortho",
) -> np.ndarray:
    """Return the features of a clip: float64 (frames, coefficients).

    samples: int16 (n,), scaled to [-1, 1) here.
    center: frame i is centred on sample i * hop_length of the clip, reflected at both ends by
    n_fft // 2 samples, 1 + n // hop_length frames. Otherwise it covers the window_length samples
    from i * hop_length on, 1 + (n - window_length) // hop_length frames, no partial ones.
    n_mfcc: 0 gives the log-mel energies themselves, coefficients = n_mels.
    The frames of padding are raw zeros, not the features of silence. Of the frames of audio the last
    drop_frames_after are left out.
    preemphasis: x[n] - preemphasis * x[n - 1], x[0] as it is. edge: reflect, or zero: centred frames
    see zeros beyond the ends. mel_scale: htk or slaney (librosa's default). mel_norm: none or slaney.
    spectrum: power, or magnitude. mel_slopes: sides straight over hz, or over mel. Lines below mel_first_line are not
    counted. log_guard: add log_offset, or clamp at it. log_scale: natural, or decibel. dct_norm: ortho, or htk.
    """
    assert samples.dtype == np.int16
    signal = samples.astype(np.float64) / 32768.0 * sample_gain
    if preemphasis:
        signal = np.append(signal[:1], signal[1:] - preemphasis * signal[:-1])
    framed = _frames(signal, window_length, hop_length, n_fft, center, edge)
    framed = framed[: len(framed) - drop_frames_after]
    taper = _periodic_hann(window_length) if window == "hann_periodic" else np.hanning(window_length)
    lines = np.abs(np.fft.rfft(framed * taper, n_fft))
    lines = lines**2 if spectrum == "power" else lines
    filters = _mel_filterbank(sample_rate_hz, n_fft, n_mels, low_hz, high_hz, mel_scale, mel_norm, mel_slopes)
    mel = lines[:, mel_first_line:] @ filters[mel_first_line:]
    features = np.log(mel + log_offset if log_guard == "add" else mel.clip(min=log_offset))
    if log_scale == "decibel":
        features = features / np.log(10.0) * (10.0 if spectrum == "power" else 20.0)
    if n_mfcc:
        features = features @ _dct_matrix(n_mels)[:n_mfcc].T
        features[:, 0] *= np.sqrt(2.0) if dct_norm == "htk" else 1.0
    return np.pad(features, ((pad_frames_before, pad_frames_after), (0, 0)))


def round_to_int8(features: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """Return features / scale + zero_point as int8: nearest, ties away from zero, saturated.

    Source: TFLite's AffineQuantize (TfLiteRound, then the zero point, then the clamp).
    """
    steps = features / scale
    rounded = np.trunc(steps + np.copysign(0.5, steps)) + zero_point
    return np.clip(rounded, -128, 127).astype(np.int8)


def _frames(
    signal: np.ndarray, window_length: int, hop_length: int, n_fft: int, center: bool, edge: str = "reflect"
) -> np.ndarray:
    """Return the samples under the window of each frame: (frames, window_length).

    torch.stft puts the window in the middle of the n_fft samples; outside of it they count for
    nothing, and where it starts in the FFT changes the phase alone, so that only these are cut out.
    """
    if center:
        reach = n_fft // 2
        assert signal.size > reach, "reflection needs more samples than it adds"
        before = signal[1 : reach + 1][::-1]
        after = signal[-reach - 1 : -1][::-1]
        if edge == "zero":
            before, after = np.zeros(reach), np.zeros(reach)
        signal = np.concatenate([before, signal, after])
        first = (n_fft - window_length) // 2
        count = 1 + (signal.size - n_fft) // hop_length
    else:
        assert signal.size >= window_length, "not one whole frame"
        first = 0
        count = 1 + (signal.size - window_length) // hop_length
    starts = first + hop_length * np.arange(count)
    return signal[starts[:, None] + np.arange(window_length)]


@lru_cache
def _periodic_hann(length: int) -> np.ndarray:
    """Return sin^2(pi k / length): (length,); its period is the length itself."""
    return np.sin(np.pi * np.arange(length) / length) ** 2


@lru_cache
def _mel_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    low_hz: float,
    high_hz: float,
    scale: str = "htk",
    norm: str = "none",
    slopes: str = "hz",
) -> np.ndarray:
    """Return the weights: (n_fft // 2 + 1, n_mels).

    Triangles over frequency in Hz, each with its peak of 1 where its neighbours end, corners
    equally spaced on the HTK mel scale, 2595 * log10(1 + f / 700), or on Slaney's: 3 / 200 mel a Hz up
    to 1000 Hz, from there 27 mel for each factor of 6.4. Slaney's norm makes each area 1. slopes: the triangles' sides
    are straight over hz, or over mel (HTK's).
    """
    if scale == "htk":
        low_mel, high_mel = 2595.0 * np.log10(1.0 + np.array([low_hz, high_hz]) / 700.0)
        corner_mels = np.linspace(low_mel, high_mel, n_mels + 2)
        corners_hz = 700.0 * (10.0 ** (corner_mels / 2595.0) - 1.0)
    else:
        hz = np.array([low_hz, high_hz])
        mels = np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4))
        corner_mels = np.linspace(mels[0], mels[1], n_mels + 2)
        corners_hz = np.where(corner_mels < 15, corner_mels * 200 / 3, 1000 * 6.4 ** ((corner_mels - 15) / 27))
    bins_hz = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    weights = np.empty((bins_hz.size, n_mels))
    for m in range(n_mels):
        triangle = np.interp(bins_hz, corners_hz[m : m + 3], [0.0, 1.0, 0.0])
        if slopes == "mel":
            bin_mels = 1127.0 * np.log1p(bins_hz / 700.0)
            corners = 1127.0 * np.log1p(corners_hz[m : m + 3] / 700.0)
            triangle = np.interp(bin_mels, corners, [0.0, 1.0, 0.0])
        weights[:, m] = triangle * (2 / (corners_hz[m + 2] - corners_hz[m]) if norm == "slaney" else 1)
    return weights


@lru_cache
def _dct_matrix(length: int) -> np.ndarray:
    """Return the orthonormal DCT-II: (length, length), row k is the k-th cosine."""
    k = np.arange(length)[:, None]
    n = np.arange(length)[None, :]
    matrix = np.sqrt(2.0 / length) * np.cos(np.pi * k * (2 * n + 1) / (2 * length))
    matrix[0] /= np.sqrt(2.0)
    return matrix
