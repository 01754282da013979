"""Sound files -> int16 mono at the model's rate, and recordings -> clips of the model's length.

WAV (RIFF, RIFX, RF64), FLAC, Ogg (Vorbis, Opus), MP3 and AIFF are read, and by ffmpeg, where it is installed, what
telephones and browsers give; they are told apart by their first bytes, never by their name. A file that cannot be
trusted whole is refused rather than shortened; only of Ogg and MP3, which do not say how long they are, and of what
ffmpeg reads, a cut file reads as a short one.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from mbx_deploy.data.sound_file import (
    MAX_DURATION_S,
    Sound,
    blocks,
    check_header,
    no_samples,
    open_regular_file,
    open_sound,
    shown_path,
    unreadable,
)
from mbx_deploy.errors import InputError

MAX_FLOAT_PEAK = 256.0  # 48 dB over full scale: such a file was not scaled to -1..1
WINDOW_STEP_SAMPLES = 160  # fit_clip looks for the loudest window at multiples of this
WORD_STEPS = 20  # of 10 ms: no word is shorter, and a click is

# libsndfile decodes these to 16 bits or fewer, so that reading them as int16 loses nothing.
_INT16_SUBTYPES = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"})
_SUBTYPE_NAMES = {"PCM_24": "24-bit", "PCM_32": "32-bit", "FLOAT": "float", "DOUBLE": "double",
                  "VORBIS": "Vorbis", "OPUS": "Opus", "MPEG_LAYER_III": "MP3"}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """A sound file as the model hears it.

    path: as the caller gave it. samples: int16 (n,), mono, n >= 1.
    notes: one line for each conversion that was needed, in the order in which they were done.
    """

    path: str
    samples: np.ndarray
    notes: tuple[str, ...]


def read_recording(
    path: str | os.PathLike[str], sample_rate_hz: int = 16000, most_seconds: int = MAX_DURATION_S
) -> Recording:
    """Return the sound file as int16 mono at `sample_rate_hz`, with a note for each conversion.

    A mono file of at most 16 bits at that rate keeps its samples bit for bit. Everything else goes
    through float64: channels are averaged with equal weights, the rate is changed by soxr (VHQ),
    and one rounding to int16 follows, x * 32768 to the nearest, ties to even, saturated.

    Raises InputError: not a file that can be read, of no format that is known, cut short, damaged, no samples, NaN,
    infinity or absurd values, more than most_seconds or more than 1 GiB. ToolMissing for what needs ffmpeg, without it.
    """
    where = shown_path(path)
    try:
        with open_regular_file(path, where) as file, open_sound(file, where, most_seconds) as sound:
            sound.most_seconds = most_seconds
            check_header(sound, where)
            samples, notes = to_samples(sound, lambda dtype: blocks(sound, dtype, where), sample_rate_hz, where)
    except OSError as error:
        raise unreadable(where, error) from error
    if samples.size == 0:  # one sample at 48 kHz is a third of one at 16 kHz
        raise no_samples(where)
    return Recording(os.fspath(path), samples, tuple(notes))


def to_samples(
    sound: Sound, read: Callable[[str], Iterator[np.ndarray]], sample_rate_hz: int, where: str
) -> tuple[np.ndarray, list[str]]:
    """Return what read_recording() says of an open file: int16 (n,), and the notes.

    read: yields blocks of a type that it is given, "int16" or "float64", (n, channels).
    """
    notes = [f"decoded from {sound.decoded_from} by ffmpeg"] if sound.decoded_from else []
    before = len(notes)
    if sound.channels > 1:
        kind = "stereo" if sound.channels == 2 else f"{sound.channels} channels"
        notes.append(f"converted from {kind} to mono (mean)")
    if sound.samplerate != sample_rate_hz:
        notes.append(f"converted from {sound.samplerate} Hz to {sample_rate_hz} Hz")
    if sound.subtype not in _INT16_SUBTYPES:
        notes.append(f"converted from {_SUBTYPE_NAMES.get(sound.subtype, sound.subtype)} to 16-bit")
    if len(notes) == before:
        whole = [block[:, 0] for block in read("int16")]
        return np.concatenate(whole) if whole else np.zeros(0, np.int16), notes
    samples, saturated = _round_to_int16(_mono(read("float64"), sound.samplerate, sample_rate_hz, where))
    if saturated:
        notes.append(f"saturated {saturated} samples at full scale")
    return samples, notes


def fit_clip(samples: np.ndarray, clip_samples: int) -> np.ndarray:
    """Return exactly `clip_samples` of a recording: int16 (clip_samples,), a copy.

    samples: int16 (n,), any n. A short recording gets zeros appended. Of a long one the window with the most energy is
    taken, over the starts 0, 160, 320, ... and the last possible one; among equals the earliest wins. Each 10 ms count
    at most as much as the 20th loudest of the recording's: a click is shorter than that, a word is not. Sums of squares
    in int64 cannot overflow: 2^30 each, so 2^33 samples would be needed.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"fit_clip: got {samples.dtype} {samples.shape}, need int16 (n,)")
    if clip_samples < 1:
        raise ValueError(f"fit_clip: got {clip_samples} clip_samples, need at least 1")
    excess = samples.size - clip_samples
    if excess <= 0:
        return np.concatenate([samples, np.zeros(-excess, np.int16)])
    energy = np.zeros(samples.size + 1, np.int64)
    np.cumsum(_limited_squares(samples), out=energy[1:])
    starts = np.arange(0, excess + 1, WINDOW_STEP_SAMPLES)
    if starts[-1] != excess:
        starts = np.append(starts, excess)
    start = starts[np.argmax(energy[starts + clip_samples] - energy[starts])]
    return samples[start : start + clip_samples].copy()


def _limited_squares(samples: np.ndarray) -> np.ndarray:
    """Return the squares of int16 (n,), int64 (n,); of each 10 ms that are louder than the 20th loudest, scaled down to
    them. Where fewer are not silent, all stay as they are.
    """
    squares: np.ndarray = np.square(samples, dtype=np.int64)
    steps = -(-samples.size // WINDOW_STEP_SAMPLES)
    sums = np.add.reduceat(squares, np.arange(steps) * WINDOW_STEP_SAMPLES)
    most = int(np.partition(sums, steps - WORD_STEPS)[steps - WORD_STEPS]) if steps >= WORD_STEPS else 0
    for step in np.flatnonzero(sums > most) if most else ():
        part = slice(step * WINDOW_STEP_SAMPLES, (step + 1) * WINDOW_STEP_SAMPLES)
        # 2^30 * 2^24: a quotient of 24 bits is exact enough, and int64 holds the product.
        squares[part] = squares[part] * (most * (1 << 24) // int(sums[step])) >> 24
    return squares


def _mono(frames: Iterable[np.ndarray], rate_hz: int, sample_rate_hz: int, where: str) -> np.ndarray:
    """Return the mean of the channels at `sample_rate_hz`: float64 (n,), full scale is 1."""
    resampler = None
    if rate_hz != sample_rate_hz:
        resampler = soxr.ResampleStream(rate_hz, sample_rate_hz, 1, dtype="float64", quality="VHQ")
    pieces = []
    for block in frames:
        peak = np.max(np.abs(block))
        if not peak <= MAX_FLOAT_PEAK:  # NaN too
            raise InputError(
                f"samples that are no sound ({where}): got a peak of {peak:.6g}, need finite values within -1..1",
                "save it as 16-bit PCM, or scale its floats to -1..1",
            )
        mono = block.mean(axis=1)
        pieces.append(mono if resampler is None else resampler.resample_chunk(mono))
    if resampler is not None:
        pieces.append(resampler.resample_chunk(np.empty(0), last=True))
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _round_to_int16(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Return x * 32768 as int16 (n,), nearest, ties to even, saturated; and how many saturated."""
    scaled = np.rint(samples * 32768.0)
    limited = np.clip(scaled, -32768.0, 32767.0)
    return limited.astype(np.int16), int(np.count_nonzero(limited != scaled))
