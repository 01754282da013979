"""What a device and its host tell each other. Numbers are little-endian; positions count samples modulo 2^32.

| host to device | type | body |
|---|---|---|
| ping | 0x01 | nonce u32: asks for hello, and keeps the device in frames |
| bye | 0x02 | the device goes back to lines of text |
| record | 0x03 | on u8 |
| begin | 0x04 | token u32, kind u8 (0 clip, 1 stream, 2 features), samples handed over at a time u16 |
| values | 0x05 | token u32, windows u16, offset u32 in bytes, then int16 samples or int8 features |
| finish | 0x06 | token u32, windows u16, bytes u32, CRC-32 of them u32 |
| read | 0x07 | token u32, windows u16, what u8 (0 result, 1 features, 2 checksums, 3 label), offset u32 |
| end | 0x08 | token u32 |
| live | 0x09 | position u32, int16 samples: for a device that has no microphone |

| device to host | type | body |
|---|---|---|
| hello | 0x81 | nonce u32, flags u32, build u32, SHA-256 of the model, sample rate u32, samples of a clip u32, |
|       |      | bytes of features u32, classes u16, stride in frames u16, name of the target |
| level | 0x82 | position u32, peak u16, samples u32, sum of their squares u64, overruns u32, windows passed over u32, |
|       |      | messages left out u32, frames that came damaged u32 |
| scores | 0x83 | window u32, position u32, label u16, first class u16, posteriors u16 each, Q15 |
| detection | 0x84 | window u32, position u32, label u16, score u16, Q15 |
| audio | 0x85 | position u32, int16 samples |
| state | 0x86 | token u32, state u8, failure u8, windows u16, bytes received u32, CRC-32 of them u32 |
| answer | 0x87 | token u32, windows u16, what u8, offset u32, bytes in all u32, bytes |
| live state | 0x88 | position u32 that comes next |

Twin: firmware_templates/parts/serial/mbx_link.h and mbx_link.c.
"""

import struct
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from mbx_deploy.errors import visible

PING, BYE, RECORD, BEGIN, VALUES, FINISH, READ, END, LIVE = range(0x01, 0x0A)
HELLO, LEVEL, SCORES, DETECTION, AUDIO, STATE, ANSWER, LIVE_STATE = range(0x81, 0x89)
IDLE, TAKING, RESULT, DONE, FAILED = range(5)
READ_RESULT, READ_FEATURES, READ_CHECKSUMS, READ_LABEL = range(4)
TAKES_AUDIO, RECORDING, BUSY = 1, 2, 4
FAILURES = {
    1: "it does not know this kind of item",
    2: "the item is longer or shorter than its model takes",
    3: "the bytes that arrived are not those that were sent",
    4: "its recogniser refused to work",
}
LIVE_SAMPLES = 120
MOST_GAP_SAMPLES = 160_000  # of audio that did not arrive
VALUE_BYTES = 240
MOST_RATE_HZ, MOST_CLASSES = 1_000_000, 1_000  # of a recogniser: what tells more is none


@dataclass(frozen=True)
class Hello:
    """Who is there."""

    layout: ClassVar[struct.Struct] = struct.Struct("<3I32s3I2H")
    nonce: int
    flags: int
    build: int
    model_sha256: str
    sample_rate_hz: int
    clip_samples: int
    feature_bytes: int
    classes: int
    stride_frames: int
    target: str

    @classmethod
    def parse(cls, body: bytes) -> "Hello":
        """Return what a body says. Raises struct.error for one that is too short, ValueError for no recogniser's."""
        nonce, flags, build, model, rate_hz, clip, features, classes, stride = cls.layout.unpack_from(body)
        target = visible(body[cls.layout.size :].decode("ascii", "replace"))
        if not 1 <= rate_hz <= MOST_RATE_HZ or not 1 <= classes <= MOST_CLASSES or clip == 0:
            raise ValueError(f"{rate_hz} Hz, {clip} samples a clip, {classes} classes")
        return cls(nonce, flags, build, model.hex(), rate_hz, clip, features, classes, stride, target)

    @property
    def takes_audio(self) -> bool:
        """Whether the host is its microphone."""
        return bool(self.flags & TAKES_AUDIO)


@dataclass(frozen=True)
class Level:
    """What was heard since the level before. overruns and what follows: since the start."""

    layout: ClassVar[struct.Struct] = struct.Struct("<IHIQ4I")
    position: int
    peak: int
    samples: int
    square_sum: int
    overruns: int
    windows_passed_over: int
    messages_left_out: int
    frames_damaged: int

    @classmethod
    def parse(cls, body: bytes) -> "Level":
        """Return what a body says. Raises struct.error for one of another size."""
        return cls(*cls.layout.unpack(body))

    @property
    def rms(self) -> float:
        """The root of the mean square, in steps of 16-bit samples."""
        return (self.square_sum / self.samples) ** 0.5 if self.samples else 0.0


@dataclass(frozen=True)
class Scores:
    """Posteriors of some classes of a window, Q15, from the class first on."""

    layout: ClassVar[struct.Struct] = struct.Struct("<2I2H")
    window: int
    position: int
    label: int
    first: int
    posteriors_q15: tuple[int, ...]

    @classmethod
    def parse(cls, body: bytes) -> "Scores":
        """Return what a body says. Raises struct.error for one that is too short."""
        window, position, label, first = cls.layout.unpack_from(body)
        values = np.frombuffer(body[cls.layout.size : len(body) // 2 * 2], "<u2")
        return cls(window, position, label, first, tuple(values.tolist()))


@dataclass(frozen=True)
class Detection:
    """A word that counts as said. position: samples from the start to the end of what was heard of it."""

    layout: ClassVar[struct.Struct] = struct.Struct("<2I2H")
    window: int
    position: int
    label: int
    score_q15: int

    @classmethod
    def parse(cls, body: bytes) -> "Detection":
        """Return what a body says. Raises struct.error for one of another size."""
        return cls(*cls.layout.unpack(body))


@dataclass(frozen=True)
class Audio:
    """Samples of the device's microphone: int16, from position on."""

    layout: ClassVar[struct.Struct] = struct.Struct("<I")
    position: int
    samples: np.ndarray

    @classmethod
    def parse(cls, body: bytes) -> "Audio":
        """Return what a body says. Raises struct.error for one that is too short."""
        (position,) = cls.layout.unpack_from(body)
        return cls(position, np.frombuffer(body[4 : len(body) // 2 * 2], "<i2").astype(np.int16))


@dataclass(frozen=True)
class State:
    """What has become of the item of a token; IDLE where the device has none of it."""

    layout: ClassVar[struct.Struct] = struct.Struct("<I2BH2I")
    token: int
    state: int
    failure: int
    windows: int
    received: int
    crc: int

    @classmethod
    def parse(cls, body: bytes) -> "State":
        """Return what a body says. Raises struct.error for one of another size."""
        return cls(*cls.layout.unpack(body))


@dataclass(frozen=True)
class Answer:
    """A part of what was asked for with read. total: bytes of all of it; of labels, how many there are."""

    layout: ClassVar[struct.Struct] = struct.Struct("<IHB2I")
    token: int
    windows: int
    what: int
    offset: int
    total: int
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> "Answer":
        """Return what a body says. Raises struct.error for one that is too short."""
        token, windows, what, offset, total = cls.layout.unpack_from(body)
        return cls(token, windows, what, offset, total, body[cls.layout.size :])


@dataclass(frozen=True)
class LiveState:
    """The position of the sample that a device without a microphone takes next."""

    layout: ClassVar[struct.Struct] = struct.Struct("<I")
    position: int

    @classmethod
    def parse(cls, body: bytes) -> "LiveState":
        """Return what a body says. Raises struct.error for one of another size."""
        return cls(*cls.layout.unpack(body))


Message = Hello | Level | Scores | Detection | Audio | State | Answer | LiveState


class _Parser(Protocol):
    def parse(self, body: bytes) -> Message: ...


_KINDS: dict[int, _Parser] = {
    HELLO: Hello,
    LEVEL: Level,
    SCORES: Scores,
    DETECTION: Detection,
    AUDIO: Audio,
    STATE: State,
    ANSWER: Answer,
    LIVE_STATE: LiveState,
}


def parse_message(kind: int, body: bytes) -> Message | None:
    """Return a device's message, or None for a type that we don't know or a body that does not fit it."""
    try:
        return _KINDS[kind].parse(body) if kind in _KINDS else None
    except (struct.error, ValueError):
        return None


def ping(nonce: int) -> bytes:
    """Return the body of a ping."""
    return struct.pack("<I", nonce)


def begin(token: int, kind: int, block: int) -> bytes:
    """Return the body of a begin. kind: of session.ITEM_...; block: samples handed over at a time."""
    return struct.pack("<IBH", token, kind, block)


def values(token: int, windows: int, offset: int, data: bytes) -> bytes:
    """Return the body of values. data: at most VALUE_BYTES."""
    return struct.pack("<IHI", token, windows, offset) + data


def finish(token: int, windows: int, total: int, crc: int) -> bytes:
    """Return the body of a finish."""
    return struct.pack("<IH2I", token, windows, total, crc)


def read(token: int, windows: int, what: int, offset: int) -> bytes:
    """Return the body of a read."""
    return struct.pack("<IHBI", token, windows, what, offset)


def end(token: int) -> bytes:
    """Return the body of an end."""
    return struct.pack("<I", token)


def live(position: int, samples: np.ndarray) -> bytes:
    """Return the body of live audio. samples: int16, at most LIVE_SAMPLES."""
    return struct.pack("<I", position & 0xFFFFFFFF) + np.ascontiguousarray(samples, "<i2").tobytes()
