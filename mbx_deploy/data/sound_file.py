"""Sound files as they are opened: regular, whole, of a format that is known; then read in blocks, front to back.

What is in a file is told by its first bytes, never by its name.
"""

import io
import os
import stat
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

from mbx_deploy.data.formats import decode, foreign_format, native_format
from mbx_deploy.errors import InputError

MAX_FILE_BYTES = 1 << 30
MAX_DURATION_S = 600
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000

# Data sizes that writers leave in a WAV header when they cannot seek back to mend it: 0 (GStreamer and others), and
# what no file that is read can hold: 0x7FFFF000 (sox, espeak-ng), 2^31 - 1 and 2^31 (arecord), 2^32 - 1 (ffmpeg), less
# a header's length at times.
_STREAMED_SIZE = MAX_FILE_BYTES
_RIFF_BYTE_ORDER = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
_MAX_RIFF_CHUNKS = 1_000
UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a FLAC whose header leaves it open is 2^63 - 1
_BLOCK_VALUES = 1 << 18  # samples a read, all channels together: what bounds the memory


_CUT_HINT = "cut it into pieces (mbx-deploy data cut), or name its stretches in a manifest, by offset and duration"


class TooLong(InputError):
    """A whole file is too long or too large to be read; stretches of it may be."""


class Sound(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A SoundFile that is read from front to back, or from where seek() put it.

    soundfile seeks after every read of a file that says it can, which fails at the end of a FLAC of
    unknown length, and hides from the caller why a cut one failed.
    """

    most_seconds = MAX_DURATION_S  # of sound that is taken
    decoded_from = ""  # the format that ffmpeg decoded
    decoded: object = None  # the file that it made, kept open

    def seekable(self) -> bool:
        """Return no, so that soundfile does not seek by itself."""
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


def shown_path(path: str | os.PathLike[str]) -> str:
    """Return the path for a message: one line, whatever the name holds."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def unreadable(where: str, error: OSError) -> InputError:
    """Return the user's error for a file that the system does not let us read."""
    return InputError(
        f"the recording cannot be read ({where}): got {error.strerror!r}, need a readable file",
        "check the file's permissions and its disk",
    )


def no_samples(where: str) -> InputError:
    """Return the user's error for a file without a sample."""
    return InputError(f"the recording is empty ({where}): got no samples, need at least 1", "record it again")


def cut_short(where: str, got: str, need: str) -> InputError:
    """Return the user's error for a file that ends before its header says."""
    return InputError(
        f"the recording is cut short ({where}): got {got}, need {need}",
        "copy or record the file again, to its end",
    )


def open_regular_file(path: str | os.PathLike[str], where: str, most_bytes: int | None = MAX_FILE_BYTES) -> io.FileIO:
    """Return the open file; raises InputError where it is none or is empty, TooLong where it is too large."""
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
    if size > 0 and (most_bytes is None or size <= most_bytes):
        return file
    file.close()
    if size == 0:
        raise InputError(
            f"the recording is empty ({where}): got 0 bytes, need WAV, FLAC or Ogg",
            "record it again",
        )
    raise TooLong(
        f"the recording is too large ({where}): got {size} bytes, need at most {most_bytes}",
        _CUT_HINT,
    )


def open_sound(file: io.FileIO, where: str, most_seconds: int) -> Sound:
    """Return the decoder at the first frame; `file` must outlive it."""
    file.seek(0)
    head = file.read(12) or b""
    name = native_format(head)
    foreign = foreign_format(head) if name is None else None
    if foreign is not None:
        made = decode(file, foreign, where, most_seconds)
        sound = open_native(made, where, True)
        sound.decoded_from, sound.decoded = foreign, made
        return sound
    if name is None:
        raise InputError(
            f"not a sound file ({where}): got the first bytes {head[:4]!r}, need WAV, FLAC, Ogg or MP3",
            "convert it, for example with sox or ffmpeg",
        )
    return open_native(file, where, name == "WAV")


def open_native(file: io.FileIO, where: str, riff: bool) -> Sound:
    """Return libsndfile's decoder at the first frame. riff: it is a WAV, whose sizes are looked at first."""
    streamed_size_at = _check_riff_sizes(file, where) if riff else None
    file.seek(0)
    source: int | _StreamedWav = file.fileno()
    if streamed_size_at is not None:
        source = _StreamedWav(file.fileno(), streamed_size_at)
    try:
        return Sound(source, closefd=False)
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"not a sound file that can be decoded ({where}): got {reason(error)!r}, "
            "need a whole WAV, FLAC, Ogg or MP3 file",
            "convert it, for example with sox or ffmpeg",
        ) from error


def reason(error: soundfile.LibsndfileError) -> str:
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
                raise no_samples(where)
            if present < size <= _STREAMED_SIZE:
                raise cut_short(where, f"{present} bytes of sound", f"{size} as its header says")
            return position + 4 if size == 0 else None
        position += 8 + size + size % 2
    return None


def damaged(where: str, error: soundfile.LibsndfileError | None, frame: int) -> InputError:
    """Return the user's error for a file that can't be decoded from a frame on."""
    got = "nothing more" if error is None else repr(reason(error))
    return InputError(
        f"the recording is cut short or damaged ({where}): got {got} after frame {frame}, need a whole file",
        "copy or record the file again, to its end",
    )


def check_header(sound: Sound, where: str) -> None:
    """Raises InputError on a header that promises what no recording of a command is."""
    check_rate(sound, where)
    if sound.most_seconds * sound.samplerate < sound.frames < UNKNOWN_FRAMES:
        raise too_long(where, f"{sound.frames / sound.samplerate:.1f} s", sound.most_seconds)


def check_rate(sound: Sound, where: str) -> None:
    """Raises InputError on a header of a rate that no recording has, or without a sample."""
    if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
        raise InputError(
            f"no usable sample rate ({where}): got {sound.samplerate} Hz, need {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
            "convert it, for example with sox or ffmpeg",
        )
    if sound.frames <= 0:
        raise no_samples(where)


def too_long(where: str, got: str, most_seconds: int) -> TooLong:
    """Return the user's error for a file that lasts too long."""
    return TooLong(f"the recording is too long ({where}): got {got}, need at most {most_seconds} s", _CUT_HINT)


def blocks(sound: Sound, dtype: str, where: str) -> Iterator[np.ndarray]:
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
            raise damaged(where, error, decoded) from error
        if len(block) == 0:
            break
        decoded += len(block)
        if decoded > sound.most_seconds * sound.samplerate:
            raise too_long(where, f"more than {sound.most_seconds} s", sound.most_seconds)
        yield block
    if decoded == 0:
        raise no_samples(where)
    if decoded < sound.frames < UNKNOWN_FRAMES:
        raise cut_short(where, f"{decoded} frames", f"{sound.frames} as its header says")
