"""Clips to calibrate a converted network's int8 ranges on: real ones, or synthetic ones where there are none.

The synthetic set is made of what a microphone near a speaker hears: noises of several colours and levels, and in most
clips one "word" of voiced, fricative and silent stretches, excitation times a moving spectral envelope of formants.
It needs no data, and the same count gives the same clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.data.audio import fit_clip
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.dataset import spread
from mbx_deploy.data.reader import read_sounds
from mbx_deploy.data.recordings import map_utterances

SYNTHETIC_CLIPS = 300
REAL_CLIPS = 500
_SEED = 20260101
_FFT, _HOP = 512, 128


@dataclass(frozen=True)
class Calibration:
    """clips: int16 (n, clip_samples). origin: what they are, as JSON, for the metadata. text: the same for people."""

    clips: np.ndarray
    origin: dict[str, Any]
    text: str


def synthetic_origin(count: int = SYNTHETIC_CLIPS) -> dict[str, Any]:
    """Return how the metadata name the synthetic set; it changes where the set does."""
    return {"kind": "synthetic", "clips": count, "seed": _SEED, "version": 1}


def synthetic_calibration(clip_samples: int, rate_hz: int, count: int = SYNTHETIC_CLIPS) -> Calibration:
    """Return the synthetic set."""
    rng = np.random.default_rng(_SEED)
    clips = np.stack([_synthetic_clip(rng, clip_samples, rate_hz, number) for number in range(count)])
    return Calibration(clips, synthetic_origin(count), synthetic_text(count))


def synthetic_text(count: int = SYNTHETIC_CLIPS) -> str:
    """Return what people are told of the synthetic set."""
    return f"{count} synthetic clips; real ones are better: mbx-deploy import --data FOLDER"


def real_calibration(
    data: Path, clip_samples: int, rate_hz: int, labels: Sequence[str], count: int = REAL_CLIPS
) -> Calibration:
    """Return clips of recordings of a data set, at most count.

    Those of a label are drawn from evenly; where no recording is of one, all are, evenly spread. What lists or
    manifests divide gives its training clips. Raises InputError where there are no recordings.
    """
    heard = read_sounds(data, "training")
    named = {label: [utterance for utterance in heard if utterance.label == label] for label in labels}
    rng = np.random.default_rng(_SEED)
    chosen: list[Utterance] = []
    if any(named.values()):
        share = -(-count // sum(bool(own) for own in named.values()))
        for own in named.values():
            picked = sorted(rng.choice(len(own), min(share, len(own)), replace=False)) if own else []
            chosen += [own[index] for index in picked]
        words = sum(bool(own) for own in named.values())
        what = f"recordings of {words} of {len(labels)} words"
    else:
        chosen = [heard[int(number)] for number in spread(count, len(heard))]
        what = "recordings"
    clips = map_utterances(chosen, lambda _, __, samples: fit_clip(samples, clip_samples), sample_rate_hz=rate_hz)
    origin = {"kind": "recordings", "clips": len(clips), "seed": _SEED}
    return Calibration(np.stack(clips), origin, f"{len(clips)} {what} of {data}")


def _synthetic_clip(rng: np.random.Generator, samples: int, rate_hz: int, number: int) -> np.ndarray:
    if number == 0:
        return np.zeros(samples, np.int16)
    noise = _coloured_noise(rng, samples) * 10.0 ** (rng.uniform(-75.0, -35.0) / 20)
    signal = noise
    if number % 8:  # one clip in eight is noise alone
        word = _word(rng, int(rng.uniform(0.35, 0.75) * samples), rate_hz)
        start = int(rng.integers(0, samples - len(word)))
        gain = 10.0 ** (rng.uniform(-26.0, -1.0) / 20)
        signal = noise.copy()
        signal[start : start + len(word)] += word * gain
    else:
        signal = noise * 10.0 ** (rng.uniform(0.0, 25.0) / 20)
    clip: np.ndarray = np.clip(np.rint(signal * 32768.0), -32768, 32767).astype(np.int16)
    return clip


def _coloured_noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return noise whose power falls by 0 to 2 powers of the frequency, rms 1."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum *= np.maximum(np.arange(len(spectrum)), 8) ** (-rng.uniform(0.0, 1.0))
    noise = np.fft.irfft(spectrum, samples)
    unit: np.ndarray = noise / np.sqrt(np.mean(noise**2))
    return unit


def _word(rng: np.random.Generator, samples: int, rate_hz: int) -> np.ndarray:
    """Return a word-like sound of peak 1: two to five stretches, envelopes gliding from one to the next."""
    count = int(rng.integers(2, 6))
    frames = 1 + samples // _HOP
    bounds = np.sort(rng.uniform(0.0, frames, count - 1)).astype(int)
    stretch = np.searchsorted(bounds, np.arange(frames), side="right")
    kinds = rng.choice(["voiced", "fricative", "silent"], size=count, p=[0.62, 0.26, 0.12])
    kinds[int(rng.integers(count))] = "voiced"
    targets = np.stack([_envelope(rng, kind, rate_hz) for kind in kinds])
    smooth = np.stack([np.convolve(np.pad(row, 4, mode="edge"), np.ones(9) / 9, "valid") for row in targets[stretch].T])
    voiced = (kinds == "voiced")[stretch]
    excitation = np.where(np.repeat(voiced, _HOP)[:samples], _pulses(rng, samples, rate_hz), rng.normal(size=samples))
    sound = _shape(excitation, smooth.T)
    attack = min(samples // 8, int(0.02 * rate_hz))
    ramp = np.minimum(1.0, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / attack)
    sound = sound * ramp
    unit: np.ndarray = sound / max(np.abs(sound).max(), 1e-9)
    return unit


def _envelope(rng: np.random.Generator, kind: str, rate_hz: int) -> np.ndarray:
    """Return the magnitude of a vocal tract at each bin, (_FFT / 2 + 1,)."""
    hz = np.arange(_FFT // 2 + 1) * rate_hz / _FFT
    if kind == "silent":
        return np.full(hz.shape, 1e-4)
    if kind == "fricative":
        centre, width = rng.uniform(2500.0, 6500.0), rng.uniform(800.0, 2500.0)
        return 0.15 * np.exp(-(((hz - centre) / width) ** 2)) + 0.003
    formants = (rng.uniform(250, 850), rng.uniform(850, 2400), rng.uniform(2300, 3200), rng.uniform(3300, 4200))
    envelope = np.ones(hz.shape)
    for formant, bandwidth in zip(formants, (80.0, 110.0, 160.0, 220.0), strict=True):
        envelope *= formant**2 / np.hypot(formant**2 - hz**2, bandwidth * hz)
    return envelope + 1e-3


def _pulses(rng: np.random.Generator, samples: int, rate_hz: int) -> np.ndarray:
    """Return the pulses of a voice whose pitch glides, with a little breath."""
    begin, end = rng.uniform(85.0, 280.0) * rng.uniform(0.8, 1.25, 2)
    pitch = np.linspace(begin, end, samples)
    phase = np.cumsum(pitch) / rate_hz
    return 8.0 * np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.normal(size=samples)


def _shape(excitation: np.ndarray, envelopes: np.ndarray) -> np.ndarray:
    """Return the excitation filtered by an envelope that changes every _HOP samples: (samples,)."""
    samples = len(excitation)
    padded = np.pad(excitation, (_FFT // 2, _FFT))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][: len(envelopes)]
    shaped = window * np.fft.irfft(np.fft.rfft(window * frames) * envelopes)
    out = np.zeros(len(padded))
    for index, frame in enumerate(shaped):
        out[index * _HOP : index * _HOP + _FFT] += frame
    return out[_FFT // 2 : _FFT // 2 + samples]
