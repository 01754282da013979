"""Sound files -> int16 mono at the model's rate, and recordings -> clips of the model's length.

WAV (RIFF, RIFX, RF64), FLAC, Ogg (Vorbis, Opus), MP3 and AIFF are read, and by ffmpeg, where it is installed, what
telephones and browsers give; they are told apart by their first bytes, never by their name. A file that cannot be
trusted whole is refused rather than shortened; only of Ogg and MP3, which do not say how long they are, and of what
ffmpeg reads, a cut file reads as a short one.
"""

import io
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from mbx_deploy.data.formats import decode, foreign_format, native_format
from mbx_deploy.errors import InputError

MAX_FILE_BYTES = 1 << 30
MAX_DURATION_S = 600
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
MAX_FLOAT_PEAK = 256.0  # 48 dB over full scale: such a file was not scaled to -1..1
WINDOW_STEP_SAMPLES = 160  # fit_clip looks for the loudest window at multiples of this
WORD_STEPS = 20  # of 10 ms: no word is shorter, and a click is

# Data sizes that writers leave in a WAV header when they cannot seek back to mend it: 0 (GStreamer and others), and
# what no file that is read can hold: 0x7FFFF000 (sox, espeak-ng), 2^31 - 1 and 2^31 (arecord), 2^32 - 1 (ffmpeg), less
# a header's length at times.
_STREAMED_SIZE = MAX_FILE_BYTES
_RIFF_BYTE_ORDER = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
_MAX_RIFF_CHUNKS = 1_000
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a FLAC whose header leaves it open is 2^63 - 1
_BLOCK_VALUES = 1 << 18  # samples a read, all channels together: what bounds the memory

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
    where = _shown(path)
    try:
        with _open_regular_file(path, where) as file, _open_sound(file, where, most_seconds) as sound:
            sound.most_seconds = most_seconds
            _check_header(sound, where)
            rate_hz, channels, subtype = sound.samplerate, sound.channels, sound.subtype
            notes = [f"decoded from {sound.decoded_from} by ffmpeg"] if sound.decoded_from else []
            converted = len(notes)
            if channels > 1:
                kind = "stereo" if channels == 2 else f"{channels} channels"
                notes.append(f"converted from {kind} to mono (mean)")
            if rate_hz != sample_rate_hz:
                notes.append(f"converted from {rate_hz} Hz to {sample_rate_hz} Hz")
            if subtype not in _INT16_SUBTYPES:
                notes.append(f"converted from {_SUBTYPE_NAMES.get(subtype, subtype)} to 16-bit")
            if len(notes) > converted:
                samples, saturated = _round_to_int16(_read_float(sound, sample_rate_hz, where))
                if saturated:
                    notes.append(f"saturated {saturated} samples at full scale")
            else:
                samples = np.concatenate([b[:, 0] for b in _blocks(sound, "int16", where)])
    except OSError as error:
        raise InputError(
            f"the recording cannot be read ({where}): got {error.strerror!r}, need a readable file",
            "check the file's permissions and its disk",
        ) from error
    if samples.size == 0:  # one sample at 48 kHz is a third of one at 16 kHz
        raise _no_samples(where)
    return Recording(os.fspath(path), samples, tuple(notes))


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


class _ForwardSound(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A SoundFile that is read once from front to back.

    soundfile seeks after every read of a file that says it can, which fails at the end of a FLAC of
    unknown length, and hides from the caller why a cut one failed.
    """

    most_seconds = MAX_DURATION_S  # of sound that is taken
    decoded_from = ""  # the format that ffmpeg decoded
    decoded: object = None  # the file that it made, kept open

    def seekable(self) -> bool:
        return False


class _StreamedWav(io.FileIO):
    """A WAV file whose data size reads as 0xFFFFFFFF, "until the end of the file".

    libsndfile takes a data size of 0 at its word, though streaming writers leave it so.
    """

    def __init__(self, descriptor: int, size_at: int) -> None:
        super().__init__(descriptor, "rb", closefd=False)
        self.size_at = size_at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        start = self.tell()
        view = memoryview(buffer).cast("B")
        count = super().readinto(view)
        for index in range(self.size_at - start, self.size_at - start + 4):
            if 0 <= index < count:
                view[index] = 0xFF
        return count


def _shown(path: str | os.PathLike[str]) -> str:
    """Return the path for a message: one line, whatever the name holds."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def _no_samples(where: str) -> InputError:
    return InputError(f"the recording is empty ({where}): got no samples, need at least 1", "record it again")


def _cut_short(where: str, got: str, need: str) -> InputError:
    return InputError(
        f"the recording is cut short ({where}): got {got}, need {need}",
        "copy or record the file again, to its end",
    )


def _open_regular_file(path: str | os.PathLike[str], where: str) -> io.FileIO:
    """Return the open file; raises InputError where it is none, is empty or is too large."""
    try:
        mode = os.stat(path).st_mode  # before open(), which would wait at a pipe
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: NUL in path
        raise InputError(f"no such recording ({where}): got no file, need a sound file", "check the path") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a device or a pipe"
        hint = "name the files inside it" if stat.S_ISDIR(mode) else "save it to a file first"
        raise InputError(f"not a sound file ({where}): got {kind}, need a regular file", hint)
    file = io.FileIO(path, "rb")
    size = os.fstat(file.fileno()).st_size
    if 0 < size <= MAX_FILE_BYTES:
        return file
    file.close()
    if size == 0:
        raise InputError(
            f"the recording is empty ({where}): got 0 bytes, need WAV, FLAC or Ogg",
            "record it again",
        )
    raise InputError(
        f"the recording is too large ({where}): got {size} bytes, need at most {MAX_FILE_BYTES}",
        "cut it into pieces",
    )


def _open_sound(file: io.FileIO, where: str, most_seconds: int) -> _ForwardSound:
    """Return the decoder at the first frame; `file` must outlive it."""
    head = file.read(12) or b""
    name = native_format(head)
    foreign = foreign_format(head) if name is None else None
    if foreign is not None:
        made = decode(file, foreign, where, most_seconds)
        sound = _open_native(made, where, True)
        sound.decoded_from, sound.decoded = foreign, made
        return sound
    if name is None:
        raise InputError(
            f"not a sound file ({where}): got the first bytes {head[:4]!r}, need WAV, FLAC, Ogg or MP3",
            "convert it, for example with sox or ffmpeg",
        )
    return _open_native(file, where, name == "WAV")


def _open_native(file: io.FileIO, where: str, riff: bool) -> _ForwardSound:
    streamed_size_at = _check_riff_sizes(file, where) if riff else None
    file.seek(0)
    source: int | _StreamedWav = file.fileno()
    if streamed_size_at is not None:
        source = _StreamedWav(file.fileno(), streamed_size_at)
    try:
        return _ForwardSound(source, closefd=False)
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"not a sound file that can be decoded ({where}): got {_reason(error)!r}, "
            "need a whole WAV, FLAC, Ogg or MP3 file",
            "convert it, for example with sox or ffmpeg",
        ) from error


def _reason(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's own words, on one line."""
    return " ".join(error.error_string.split()).removeprefix("Error : ").rstrip(".")


def _check_riff_sizes(file: io.FileIO, where: str) -> int | None:
    """Return where the data chunk's size stands if it is 0 and means "not known", else None.

    Walks the chunks up to the data. libsndfile shortens a data chunk that reaches past the end of
    the file without a word, so it is refused here: raises InputError.
    Source: Microsoft and IBM, "Multimedia Programming Interface", 1991; EBU Tech 3306 for RF64.
    """
    file_size = os.fstat(file.fileno()).st_size
    file.seek(0)
    header = file.read(12) or b""
    if len(header) < 12:
        return None
    order = _RIFF_BYTE_ORDER[header[:4]]
    (riff_size,) = struct.unpack(order + "I", header[4:8])
    long_size = None
    position = 12
    for _ in range(_MAX_RIFF_CHUNKS):
        file.seek(position)
        chunk = file.read(24) or b""
        if len(chunk) < 8:
            return None  # libsndfile says what is wrong
        (size,) = struct.unpack(order + "I", chunk[4:8])
        if chunk[:4] == b"ds64" and header[:4] == b"RF64" and len(chunk) == 24:
            (long_size,) = struct.unpack("<Q", chunk[16:24])
        elif chunk[:4] == b"data":
            present = file_size - position - 8
            finished = riff_size == file_size - 8
            if size == 0xFFFFFFFF and long_size is not None:
                size = long_size
            if size == 0 and finished:
                raise _no_samples(where)
            if present < size <= _STREAMED_SIZE:
                raise _cut_short(where, f"{present} bytes of sound", f"{size} as its header says")
            return position + 4 if size == 0 else None
        position += 8 + size + size % 2
    return None


def _check_header(sound: _ForwardSound, where: str) -> None:
    """Raises InputError on a header that promises what no recording of a command is."""
    if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
        raise InputError(
            f"no usable sample rate ({where}): got {sound.samplerate} Hz, need {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
            "convert it, for example with sox or ffmpeg",
        )
    if sound.frames <= 0:
        raise _no_samples(where)
    if sound.most_seconds * sound.samplerate < sound.frames < _UNKNOWN_FRAMES:
        raise _too_long(where, f"{sound.frames / sound.samplerate:.1f} s", sound.most_seconds)


def _too_long(where: str, got: str, most_seconds: int) -> InputError:
    return InputError(
        f"the recording is too long ({where}): got {got}, need at most {most_seconds} s",
        "cut it into pieces",
    )


def _blocks(sound: _ForwardSound, dtype: str, where: str) -> Iterator[np.ndarray]:
    """Yield all frames, in blocks of dtype (n, channels), n >= 1.

    Memory is bounded by the block, not by what the header promises. Raises InputError after the
    last block if the header promised more, and before if decoding fails or never ends.
    """
    block_frames = max(1, _BLOCK_VALUES // sound.channels)
    decoded = 0
    while True:
        try:
            block = sound.read(block_frames, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise InputError(
                f"the recording is cut short or damaged ({where}): got {_reason(error)!r} after "
                f"frame {decoded}, need a whole file",
                "copy or record the file again, to its end",
            ) from error
        if len(block) == 0:
            break
        decoded += len(block)
        if decoded > sound.most_seconds * sound.samplerate:
            raise _too_long(where, f"more than {sound.most_seconds} s", sound.most_seconds)
        yield block
    if decoded == 0:
        raise _no_samples(where)
    if decoded < sound.frames < _UNKNOWN_FRAMES:
        raise _cut_short(where, f"{decoded} frames", f"{sound.frames} as its header says")


def _read_float(sound: _ForwardSound, sample_rate_hz: int, where: str) -> np.ndarray:
    """Return the mean of the channels at `sample_rate_hz`: float64 (n,), full scale is 1."""
    resampler = None
    if sound.samplerate != sample_rate_hz:
        resampler = soxr.ResampleStream(sound.samplerate, sample_rate_hz, 1, dtype="float64", quality="VHQ")
    pieces = []
    for block in _blocks(sound, "float64", where):
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
    return np.concatenate(pieces)


def _round_to_int16(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Return x * 32768 as int16 (n,), nearest, ties to even, saturated; and how many saturated."""
    scaled = np.rint(samples * 32768.0)
    limited = np.clip(scaled, -32768.0, 32767.0)
    return limited.astype(np.int16), int(np.count_nonzero(limited != scaled))
