"""Streams made of clips: words at known places in noise, with Audacity's labels beside them, to measure with."""

import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbx_deploy.data.dataset import load_known
from mbx_deploy.data.noise import mix
from mbx_deploy.data.protocols import command_words
from mbx_deploy.errors import InputError

PAUSE_S = (1.5, 3.0)
WORDS_A_STREAM = 50
SNRS_DB: tuple[float | None, ...] = (None, 20.0, 10.0, 5.0)


def wav_bytes(samples: np.ndarray, sample_rate_hz: int) -> bytes:
    """Return a .wav of int16 samples, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(sample_rate_hz)
        sound.writeframes(np.ascontiguousarray(samples, "<i2").tobytes())
    return file.getvalue()


def make_streams(
    root: Path,
    labels: Sequence[str],
    words: int,
    snrs_db: Sequence[float | None] = SNRS_DB,
    split: str = "testing",
    seed: int = 1,
) -> dict[str, str | bytes]:
    """Return {path: content} of streams of command words of a data set, a folder a ratio, and their label tracks.

    Each word of the split, evenly spread over its clips, comes once a ratio, in the same places; between words is a
    pause of PAUSE_S. snrs_db: of speech to the split's background noise, clip by clip; None: digital silence between
    the clips, and no noise. The same seed gives the same bytes. Raises InputError as load_known(), and for noise
    that the data has not.
    """
    known = load_known(root, split, labels, progress=False)
    numbers = np.concatenate([known.indices_of(word) for word in command_words(labels)])
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(numbers)[:words]
    if not len(chosen):
        raise InputError(f"no words for a stream ({root}): got no clips of {', '.join(command_words(labels)[:5])}")
    if any(snr is not None for snr in snrs_db) and not known.noise:
        raise InputError(f"no background noise for a stream ({root}): need recordings in _background_noise_")
    pauses = rng.uniform(*PAUSE_S, len(chosen))
    files: dict[str, str | bytes] = {}
    for start in range(0, len(chosen), WORDS_A_STREAM):
        part = slice(start, start + WORDS_A_STREAM)
        clips = [known.samples[number] for number in chosen[part]]
        names = [known.labels[known.classes[number]] for number in chosen[part]]
        places, length = _places(clips, pauses[part], 16000)
        track = "".join(
            f"{place / 16000:.4f}\t{(place + len(clip)) / 16000:.4f}\t{name}\n"
            for place, clip, name in zip(places, clips, names, strict=True)
        )
        noise = _noise(known.noise, length, np.random.default_rng([seed, start])) if known.noise else None
        for snr in snrs_db:
            samples = _stream(clips, places, length, noise, snr)
            name = f"{'clean' if snr is None else f'{snr:g}db'}/words_{start // WORDS_A_STREAM:02d}"
            files[f"{name}.wav"] = wav_bytes(samples, 16000)
            files[f"{name}.txt"] = track
    return files


def _places(clips: Sequence[np.ndarray], pauses: np.ndarray, rate: int) -> tuple[list[int], int]:
    places, at = [], rate
    for clip, pause in zip(clips, pauses, strict=True):
        places.append(at)
        at += len(clip) + round(float(pause) * rate)
    return places, at


def _noise(recordings: Sequence[np.ndarray], length: int, rng: np.random.Generator) -> np.ndarray:
    """Return background noise of a length, float32: pieces of the recordings one after another."""
    pieces, total = [], 0
    while total < length:
        recording = recordings[int(rng.integers(len(recordings)))]
        pieces.append(recording[: length - total].astype(np.float32))
        total += len(pieces[-1])
    return np.concatenate(pieces)


def _stream(
    clips: Sequence[np.ndarray], places: Sequence[int], length: int, noise: np.ndarray | None, snr_db: float | None
) -> np.ndarray:
    """Return a stream, int16: each clip at its ratio to the noise around it, the noise at one level all through."""
    speech = np.zeros(length, np.float32)
    for clip, place in zip(clips, places, strict=True):
        wave_ = clip.astype(np.float32)
        if noise is not None and snr_db is not None:
            # The noise is as it is; the clip is brought to its ratio.
            around = noise[place : place + len(clip)]
            mixed = mix(around, wave_, -snr_db)  # noise + clip scaled to snr_db above the noise
            wave_ = mixed - around
        speech[place : place + len(clip)] += wave_
    if noise is not None and snr_db is not None:
        speech = speech + noise
        peak = float(np.abs(speech).max())
        speech = speech * np.float32(min(1.0, 30000.0 / max(peak, 1.0)))
    return np.clip(np.rint(speech), -32768, 32767).astype(np.int16)
