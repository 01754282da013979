"""Where audio comes from: a microphone, a file, standard input. Each yields blocks of int16 at the model's rate."""

import contextlib
import queue
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr

from mbx_deploy.data.audio import read_recording
from mbx_deploy.errors import InputError, ToolMissing

BLOCK_S = 0.05
MOST_WAITING = 200  # blocks: what is further behind is dropped, and counted
ANSWER_S = 5.0  # a microphone gives its first block by then
PCM, EXTENSIBLE = 1, 0xFFFE
MOST_HEAD_BYTES = 1 << 20
LEAST_RATE_HZ, MOST_RATE_HZ = 1000, 768_000
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Block:
    """samples: int16 (n,). lost: how many never arrived before them."""

    samples: np.ndarray
    lost: int = 0


class FileSource:
    """A recording, as fast as it is heard."""

    live = False

    def __init__(self, path: Path, rate_hz: int) -> None:
        """Raises InputError for a file that can't be read."""
        recording = read_recording(path, rate_hz)
        self.name, self.notes, self._samples = str(path), list(recording.notes), recording.samples
        self._block = max(1, round(BLOCK_S * rate_hz))

    def forget(self) -> None:
        """Nothing waits: a file is read as it is asked for."""

    def blocks(self) -> Iterator[Block]:
        """Yield the recording in blocks."""
        for start in range(0, len(self._samples), self._block):
            yield Block(self._samples[start : start + self._block])


class StreamSource:
    """A WAV that comes in a pipe, or bare samples: 16 bits, little-endian, one channel at the model's rate."""

    live = True

    def __init__(self, file: BinaryIO, rate_hz: int) -> None:
        """Raises InputError for a WAV of another kind than 16-bit PCM."""
        self.name, self.notes = "standard input", list[str]()
        self._file, self._rate_hz, self._channels, self._rest = file, rate_hz, 1, b""
        self._left: int | None = None
        self._resampler = None
        head = self._exactly(4)
        if head == b"RIFF":
            source_hz = self._read_head()
            if source_hz != rate_hz:
                self.notes.append(f"converted from {source_hz} Hz to {rate_hz} Hz")
                self._resampler = soxr.ResampleStream(source_hz, rate_hz, 1, dtype="float64", quality="VHQ")
        else:
            self._rest = head

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._file.read(count - len(data))
            if not more:
                break
            data += more
        return data

    def _read_head(self) -> int:
        """Return the rate of a WAV, up to whose first sample all is read."""
        self._exactly(8)
        source_hz, read = 0, 0
        while read < MOST_HEAD_BYTES:
            chunk = self._exactly(8)
            if len(chunk) < 8:
                break
            kind, size = struct.unpack("<4sI", chunk)
            if kind == b"data" and source_hz:
                streamed = size == 0 or size >= 0x7FFF_F000
                self._left = None if streamed else size
                return source_hz
            body = self._exactly(min(size + size % 2, MOST_HEAD_BYTES))
            read += 8 + len(body)
            if kind == b"fmt " and len(body) >= 16:
                tag, self._channels, source_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
                if tag not in (PCM, EXTENSIBLE) or bits != 16 or not 1 <= self._channels <= 64:
                    raise InputError(
                        f"the WAV of standard input is of another kind: got format {tag}, {bits} bits, need 16-bit PCM",
                        "convert it on the way: sox - -b 16 -t wav -",
                    )
                if not LEAST_RATE_HZ <= source_hz <= MOST_RATE_HZ:
                    need = f"{LEAST_RATE_HZ} to {MOST_RATE_HZ} Hz"
                    raise InputError(f"the WAV of standard input has an odd rate: got {source_hz} Hz, need {need}")
        raise InputError("the WAV of standard input breaks off before its first sample", "send it whole")

    def forget(self) -> None:
        """Nothing waits here: what comes in a pipe is all to be heard."""

    def blocks(self) -> Iterator[Block]:
        """Yield what comes, in blocks, until it ends."""
        frame = 2 * self._channels
        block = max(1, round(BLOCK_S * self._rate_hz)) * frame
        while True:
            count = block if self._left is None else min(block, self._left)
            data = self._rest + self._exactly(count - len(self._rest))
            self._rest = b""
            if self._left is not None:
                self._left -= len(data)
            whole = len(data) // frame * frame
            if whole:
                yield Block(self._mono(np.frombuffer(data[:whole], "<i2").reshape(-1, self._channels)))
            if len(data) < count or count == 0:
                return

    def _mono(self, frames: np.ndarray) -> np.ndarray:
        if self._channels == 1 and self._resampler is None:
            return frames.ravel().astype(np.int16)
        mono = frames.mean(axis=1)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        return _to_int16(mono)


class MicrophoneSource:
    """A microphone of this machine, through PortAudio."""

    live = True

    def __init__(self, device: str | None, rate_hz: int, gain_db: float = 0.0) -> None:
        """device: its number, a part of its name, or None for the system's choice.

        Raises ToolMissing without sounddevice or PortAudio, InputError where there is no such microphone.
        """
        self._sound = import_sounddevice()
        self._device: int | str | None = int(device) if device is not None and device.isdigit() else device
        self._rate_hz, self._gain = rate_hz, 10.0 ** (gain_db / 20.0)
        self._waiting: queue.Queue[tuple[np.ndarray, bool]] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self.notes = list[str]()
        try:
            found = self._sound.query_devices(self._device, "input")
            self._source_hz = self._choose_rate(rate_hz, float(found["default_samplerate"]))
        except (self._sound.PortAudioError, ValueError) as error:
            raise _no_microphone(device, error) from None
        self.name = str(found["name"])
        self._resampler = None
        if self._source_hz != rate_hz:
            self.notes.append(f"converted from {self._source_hz} Hz to {rate_hz} Hz")
            self._resampler = soxr.ResampleStream(self._source_hz, rate_hz, 1, dtype="float64", quality="VHQ")

    def _choose_rate(self, wanted_hz: int, own_hz: float) -> int:
        """Return the model's rate where the microphone has it, else its own."""
        try:
            self._sound.check_input_settings(self._device, channels=1, dtype="int16", samplerate=wanted_hz)
            return wanted_hz
        except self._sound.PortAudioError:
            return round(own_hz)

    def forget(self) -> None:
        """Drop what it heard and nobody has asked for yet."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._dropped = 0

    def blocks(self) -> Iterator[Block]:
        """Yield what it hears. Raises InputError where it stops, or never begins."""
        block = max(1, round(BLOCK_S * self._source_hz))
        try:
            with self._sound.RawInputStream(
                self._source_hz, block, self._device, channels=1, dtype="int16", callback=self._hear
            ):
                while True:
                    yield self._next()
        except self._sound.PortAudioError as error:
            raise _no_microphone(self._device, error) from None

    def _hear(self, data: Any, count: int, time: Any, status: Any) -> None:
        try:
            self._waiting.put_nowait((np.frombuffer(data, "<i2").copy(), bool(status.input_overflow)))
        except queue.Full:
            self._dropped += count

    def _next(self) -> Block:
        try:
            samples, overflow = self._waiting.get(timeout=ANSWER_S)
        except queue.Empty:
            raise InputError(
                f"the microphone went silent ({self.name}): no audio for {ANSWER_S:g} s", "is it plugged in?"
            ) from None
        # PortAudio does not tell how much it lost: a block at least.
        lost, self._dropped = self._dropped + (len(samples) if overflow else 0), 0
        values = samples * self._gain
        if self._resampler is not None:
            values = self._resampler.resample_chunk(values)
            lost = round(lost * self._rate_hz / self._source_hz)
        return Block(_to_int16(values), lost)


Source = FileSource | StreamSource | MicrophoneSource


def open_source(given: str | None, device: str | None, rate_hz: int, gain_db: float) -> Source:
    """Return the sound of a recording, of standard input (-), or where nothing is given of a microphone.

    Raises as the sources do.
    """
    if given is None:
        return MicrophoneSource(device, rate_hz, gain_db)
    if given == STANDARD_INPUT:
        return StreamSource(sys.stdin.buffer, rate_hz)
    return FileSource(Path(given), rate_hz)


def _to_int16(values: np.ndarray) -> np.ndarray:
    samples: np.ndarray = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
    return samples


def import_sounddevice() -> Any:
    """Return the package sounddevice. Raises ToolMissing where it, or PortAudio, is not installed."""
    try:
        import sounddevice
    except ImportError:
        hint = "install it: pip install 'mbx-deploy[listen]'; or give a file, or - for standard input"
        raise ToolMissing("the package sounddevice is not installed (needed for a microphone)", hint) from None
    except OSError:
        hint = "install it: apt-get install libportaudio2; or give a file, or - for standard input"
        raise ToolMissing("PortAudio is not installed (needed for a microphone)", hint) from None
    return sounddevice


def list_microphones() -> list[tuple[int, str, float]]:
    """Return (number, name, own rate in Hz) of each. Raises ToolMissing as import_sounddevice()."""
    sound = import_sounddevice()
    return [
        (number, str(found["name"]), float(found["default_samplerate"]))
        for number, found in enumerate(sound.query_devices())
        if found["max_input_channels"] > 0
    ]


def _no_microphone(device: int | str | None, error: Exception) -> InputError:
    which = "no microphone" if device is None else f"no such microphone: got {device!r}"
    reason = str(error).splitlines()[0] if str(error) else "PortAudio says no more"
    return InputError(f"{which} ({reason})", "mbx-deploy listen --devices lists them; a file, or -, needs none")
