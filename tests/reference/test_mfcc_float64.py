"""The reference against the genuine NeMo's own output, and its pieces against scipy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from tests.reference.mfcc_float64 import (
    _dct_matrix,
    _frames,
    _mel_filterbank,
    _periodic_hann,
    mfcc,
    round_to_int8,
)

NEMO: dict[str, Any] = {
    "sample_rate_hz": 16000,
    "window_length": 400,
    "hop_length": 160,
    "n_fft": 512,
    "center": True,
    "n_mels": 64,
    "low_hz": 0.0,
    "high_hz": 8000.0,
    "log_offset": 1e-6,
    "n_mfcc": 64,
}
WIDE: dict[str, Any] = {
    **NEMO,
    "window_length": 480,
    "hop_length": 320,
    "center": False,
    "n_mels": 40,
    "n_mfcc": 10,
}
# NeMo refuses to reflect these: they are not longer than half an FFT.
REFUSED_BY_NEMO = {"055", "056", "058"}


@pytest.mark.parametrize("name", ["nemo221__fwd221", "nemo221__fwd262", "nemo262__fwd262"])
def test_equals_the_real_nemo(shared_nemo: Path, name: str) -> None:
    with np.load(shared_nemo / f"matchboxnet_3x1x64_8w_{name}.npz") as golden:
        clips = sorted(key.split("_")[0] for key in golden if key.endswith("_samples"))
        assert len(clips) == 59
        for clip in clips:
            if clip in REFUSED_BY_NEMO:
                assert f"{clip}_mfcc" not in golden
                continue
            features = mfcc(golden[f"{clip}_samples"], **NEMO)
            np.testing.assert_allclose(features, golden[f"{clip}_mfcc"].T, rtol=0, atol=1e-3, err_msg=clip)


def test_padding_equals_what_enters_the_old_nemos_encoder(shared_nemo: Path) -> None:
    with np.load(shared_nemo / "matchboxnet_3x1x64_8w_nemo221__fwd221.npz") as golden:
        padded = mfcc(golden["000_samples"], **NEMO, pad_frames_before=13, pad_frames_after=14)
        assert padded.shape == (128, 64)
        assert not padded[:13].any()
        assert not padded[114:].any()
        np.testing.assert_allclose(padded, golden["000_enc_in"].T, rtol=0, atol=1e-3)


def test_digital_silence() -> None:
    features = mfcc(np.zeros(16000, np.int16), **NEMO)
    assert features.shape == (101, 64)
    np.testing.assert_allclose(features[:, 0], np.log(1e-6) * 8, rtol=1e-14)
    np.testing.assert_allclose(features[:, 1:], 0.0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 25, 400, 480])
def test_window_is_scipys(length: int) -> None:
    expected = scipy.signal.get_window("hann", length, fftbins=True)
    if length == 1:
        expected = np.zeros(1)  # scipy makes an exception of it
    np.testing.assert_allclose(_periodic_hann(length), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("length", [1, 2, 10, 40, 64])
def test_dct_is_scipys(length: int) -> None:
    values = np.random.default_rng(length).normal(size=(5, length))
    expected = scipy.fft.dct(values, type=2, norm="ortho", axis=1)
    np.testing.assert_allclose(values @ _dct_matrix(length).T, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(_dct_matrix(length) @ _dct_matrix(length).T, np.eye(length), rtol=0, atol=1e-13)


@pytest.mark.parametrize("config", [NEMO, WIDE], ids=["nemo", "wide"])
def test_power_spectrum_is_scipys(config: dict[str, Any]) -> None:
    """Scipy's own short-time FFT, with the window set in the middle of the FFT by hand."""
    samples = np.random.default_rng(3).integers(-32768, 32768, 16000).astype(np.int16)
    window_length, n_fft = config["window_length"], config["n_fft"]
    window = scipy.signal.get_window("hann", window_length)
    signal = samples / 32768.0
    if config["center"]:
        spare = n_fft - window_length
        window = np.pad(window, (spare // 2, spare - spare // 2))
        signal = np.pad(signal, n_fft // 2, mode="reflect")
    transform = scipy.signal.ShortTimeFFT(window, config["hop_length"], fs=1, mfft=n_fft)
    first = -(-transform.m_num_mid // config["hop_length"])
    count = 1 + (signal.size - window.size) // config["hop_length"]
    # scipy centres its frames on multiples of the hop: shift the signal so that ours are there.
    shift = first * config["hop_length"] - transform.m_num_mid
    spectrum = transform.spectrogram(np.pad(signal, (shift, n_fft)), p0=first, p1=first + count)
    mel = spectrum.T @ _mel_filterbank(16000, n_fft, config["n_mels"], config["low_hz"], config["high_hz"])
    np.testing.assert_allclose(mfcc(samples, **(config | {"n_mfcc": 0})), np.log(mel + 1e-6), rtol=0, atol=1e-10)


def test_mel_filterbank_is_made_of_triangles() -> None:
    weights = _mel_filterbank(16000, 512, 64, 0.0, 8000.0)
    assert weights.shape == (257, 64)
    assert weights.min() == 0.0
    assert weights.max() <= 1.0
    assert not weights[0].any()
    np.testing.assert_allclose(weights[256], 0.0, atol=1e-13)
    # Between the first peak and the last the overlapping triangles add up to 1.
    first_hz, last_hz = 700.0 * ((1 + 8000.0 / 700.0) ** (np.array([1, 64]) / 65) - 1.0)
    inner = weights[int(first_hz / 31.25) + 1 : int(last_hz / 31.25) + 1].sum(axis=1)
    assert inner.size > 240
    np.testing.assert_allclose(inner, 1.0, rtol=0, atol=1e-12)
    # HTK: 1000 Hz is 999.9856 mel.
    narrow = _mel_filterbank(16000, 16000, 1, 0.0, 2 * 1000.0)
    top_mel = 2595.0 * np.log10(1 + 2000.0 / 700.0) / 2
    assert narrow[:, 0].argmax() == round(700.0 * (10.0 ** (top_mel / 2595.0) - 1.0))


@pytest.mark.parametrize("count", [480, 481, 799, 800, 801, 16000])
def test_frames_without_centring(count: int) -> None:
    signal = np.arange(count, dtype=np.float64)
    framed = _frames(signal, 480, 320, 512, center=False)
    assert framed.shape == (1 + (count - 480) // 320, 480)
    for i, frame in enumerate(framed):
        np.testing.assert_array_equal(frame, np.arange(i * 320, i * 320 + 480))


@pytest.mark.parametrize("count", [257, 319, 320, 15999, 16000, 16001])
def test_frames_with_centring(count: int) -> None:
    signal = np.random.default_rng(count).normal(size=count)
    framed = _frames(signal, 400, 160, 512, center=True)
    assert framed.shape == (1 + count // 160, 400)
    padded = np.pad(signal, 256, mode="reflect")
    for i, frame in enumerate(framed):
        np.testing.assert_array_equal(frame, padded[i * 160 + 56 : i * 160 + 456])


def test_shapes_of_the_second_configuration() -> None:
    samples = np.zeros(16000, np.int16)
    assert mfcc(samples, **WIDE).shape == (49, 10)
    assert mfcc(samples, **(WIDE | {"n_mfcc": 0})).shape == (49, 40)


def test_round_to_int8() -> None:
    features = np.array([0.0, 0.24, 0.25, 0.74, 0.75, -0.24, -0.25, -0.75, 1e9, -1e9])
    np.testing.assert_array_equal(round_to_int8(features, 0.5, 3), [3, 3, 4, 4, 5, 3, 2, 1, 127, -128])
    assert round_to_int8(features, 0.5, 3).dtype == np.int8
