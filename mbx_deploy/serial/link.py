"""A conversation with a device: requests are sent until they are answered, what comes twice or late is left out."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from mbx_deploy.errors import InputError, visible
from mbx_deploy.serial import messages
from mbx_deploy.serial.frames import VERSION, FrameReader, encode_frame
from mbx_deploy.serial.messages import (
    Answer,
    Audio,
    Detection,
    Hello,
    Level,
    LiveState,
    Message,
    Scores,
    parse_message,
)

# Without an answer, before a request is sent again: a frame takes 3 ms, a network on a slow core a second.
AGAIN_S, LONGEST_AGAIN_S = 0.04, 0.2
SILENCE_S = 10.0  # without one, before we give up
HELLO_S = 4.0
LABELS_S = 60.0  # for all of them
LATE_FRAMES = 64  # a number that lies further back is of a device that began anew
LIVE = (Level, Scores, Detection, Audio)

Found = TypeVar("Found")


class NoAnswer(InputError):
    """Nobody answers at the other end: exit code 2."""


class Line(Protocol):
    """What carries the bytes: a port."""

    path: Path

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived within a time, b"" for nothing."""

    def write(self, data: bytes) -> None:
        """Send bytes."""


class Link:
    """A device at the other end of a line. lost: frames of it that did not arrive whole."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.lost = 0
        self._reader = FrameReader()
        self._arrived: deque[Message] = deque()
        self._sent = 0
        self._newest: int | None = None

    @property
    def damaged(self) -> int:
        """Frames that arrived, and not as they were sent."""
        return self._reader.damaged

    def send(self, kind: int, body: bytes = b"") -> None:
        """Send a message. kind: of messages."""
        self.line.write(encode_frame(kind, self._sent, body))
        self._sent += 1

    def receive(self, timeout_s: float) -> Iterator[Message]:
        """Yield the messages that arrive in one go, waiting at most timeout_s for it; what is not taken comes later.

        Levels, scores, detections and audio come once and in order. Raises InputError for another version of the
        protocol.
        """
        if not self._arrived:
            self._arrived.extend(self._read(timeout_s))
        while self._arrived:
            yield self._arrived.popleft()

    def _read(self, timeout_s: float) -> Iterator[Message]:
        for frame in self._reader.take(self.line.read(timeout_s)):
            if frame.version != VERSION:
                raise InputError(
                    f"the device at {self.line.path} speaks version {frame.version} of the protocol: need {VERSION}",
                    "build its firmware again with this mbx-deploy, and flash it",
                )
            message = parse_message(frame.type, frame.body)
            if message is not None and (self._is_new(frame.sequence, message) or not isinstance(message, LIVE)):
                yield message

    def _is_new(self, sequence: int, message: Message) -> bool:
        """Count what is missing, and return whether a message is newer than all before."""
        if self._newest is None or isinstance(message, Hello):
            self._newest = sequence
            return True
        ahead = (sequence - self._newest) & 0xFFFF
        if ahead == 0 or ahead > 0xFFFF - LATE_FRAMES:
            return False
        if ahead < 1 << 15:
            self.lost += ahead - 1
        self._newest = sequence
        return True

    def ask(self, kind: int, body: bytes, choose: Callable[[Message], Found | None], give_up_s: float) -> Found:
        """Return what choose() makes of an answer; the request is sent again until there is one.

        Raises InputError where there is none within give_up_s.
        """
        end = time.monotonic() + give_up_s
        wait_s = AGAIN_S
        while (now := time.monotonic()) < end:
            self.send(kind, body)
            again = min(end, now + wait_s)
            wait_s = min(2.0 * wait_s, LONGEST_AGAIN_S)
            while (left := again - time.monotonic()) > 0:
                for message in self.receive(left):
                    found = choose(message)
                    if found is not None:
                        return found
        raise self.silent()

    def silent(self) -> NoAnswer:
        """Return the error of a device that does not answer."""
        return NoAnswer(
            f"no answer from the device at {self.line.path}",
            "is it a board with mbx-deploy's firmware, and is --baud its speed? reset it, and try again",
        )

    def hello(self, give_up_s: float = HELLO_S) -> Hello:
        """Return who is there. Raises InputError where nobody answers."""
        nonce = int.from_bytes(os.urandom(4), "little")

        def ours(message: Message) -> Hello | None:
            return message if isinstance(message, Hello) and message.nonce == nonce else None

        return self.ask(messages.PING, messages.ping(nonce), ours, give_up_s)

    def labels(self, count: int) -> list[str]:
        """Return the device's labels. Raises InputError where it takes longer than LABELS_S to tell them."""
        end = time.monotonic() + LABELS_S
        return [self._label(index, min(SILENCE_S, end - time.monotonic())) for index in range(count)]

    def _label(self, index: int, give_up_s: float) -> str:
        def ours(message: Message) -> str | None:
            wanted = (messages.READ_LABEL, index)
            return _text(message) if isinstance(message, Answer) and (message.what, message.offset) == wanted else None

        return self.ask(messages.READ, messages.read(0, 0, messages.READ_LABEL, index), ours, give_up_s)

    def live_position(self) -> int:
        """Return the position of the sample that a device without a microphone takes next."""

        def ours(message: Message) -> int | None:
            return message.position if isinstance(message, LiveState) else None

        nowhere = b"\xff\xff\xff\xff"  # no piece of audio: the answer tells the position all the same
        return self.ask(messages.LIVE, nowhere, ours, SILENCE_S)

    def leave(self) -> None:
        """Say good-bye: the device goes back to its lines of text."""
        self.send(messages.BYE)


def _text(message: Answer) -> str:
    return visible(message.data.decode("utf-8", "replace"))
