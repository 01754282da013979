"""A frame of too few bytes, or a rate of 0 Hz, ended monitor with a traceback."""

import struct
import time
from collections import deque
from pathlib import Path

import pytest

from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.serial import link as links
from mbx_deploy.serial import messages
from mbx_deploy.serial.frames import FrameReader, encode_frame
from mbx_deploy.serial.link import Link
from mbx_deploy.serial.messages import parse_message
from mbx_deploy.serial.monitor import Event, MonitorOptions, monitor
from mbx_deploy.serial.port import Port

KINDS = range(messages.HELLO, messages.LIVE_STATE + 1)


def hello(nonce: int, rate_hz: int = 16000, classes: int = 2, clip: int = 16000) -> bytes:
    return messages.Hello.layout.pack(nonce, 0, 0, bytes(32), rate_hz, clip, 64, classes, 1) + b"made"


class Device:
    """A line to a device that answers, and between its answers sends what it is given."""

    path = Path("a device")

    def __init__(self, extra: list[tuple[int, bytes]], rates: tuple[int, ...] = (16000,)) -> None:
        self.reader = FrameReader()
        self.out: deque[tuple[int, bytes]] = deque()
        self.extra = extra
        self.rates = deque(rates)
        self.sequence = 0
        self.total = 2

    def _frame(self, kind: int, body: bytes) -> bytes:
        self.sequence += 1
        return encode_frame(kind, self.sequence, body)

    def write(self, data: bytes) -> None:
        for frame in self.reader.take(data):
            if frame.type == messages.PING:
                self.out.append((messages.HELLO, hello(struct.unpack("<I", frame.body)[0], self.rates[0])))
                self.rates.rotate(-1)
            if frame.type == messages.READ:
                token, windows, what, offset = struct.unpack("<IHBI", frame.body)
                answer = messages.Answer.layout.pack(token, windows, what, offset, self.total) + b"word%d" % offset
                self.out += [(messages.ANSWER, answer), *self.extra]

    def read(self, timeout_s: float) -> bytes:
        if not self.out:
            time.sleep(min(timeout_s, 0.01))
            return b""
        return self._frame(*self.out.popleft())


def test_every_short_body_is_left_out() -> None:
    for kind in range(256):
        for length in range(messages.VALUE_BYTES):
            parse_message(kind, b"\xff" * length)
            parse_message(kind, bytes(length))
    assert parse_message(messages.SCORES, b"123") is None
    for wrong in (hello(1, 0), hello(1, 2_000_000), hello(1, classes=0), hello(1, classes=5000), hello(1, clip=0)):
        assert parse_message(messages.HELLO, wrong) is None


def test_monitor_goes_on(tmp_path: Path) -> None:
    short = [(kind, bytes(length)) for kind in KINDS for length in (0, 1, 3, 5, 11, 13, 33)]
    score = messages.Detection.layout.pack(1, 16000, 1, 16384)
    device = Device([*short, (messages.DETECTION, score)], rates=(0, 16000))
    events: list[Event] = []
    monitor(Link(device), MonitorOptions(seconds=0.5), events.append)
    assert [event["label"] for event in events if event["event"] == "detection"] == ["word1"]
    assert events[-1]["event"] == "end"


def test_a_device_that_only_says_0_hz(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no answer"):
        Link(Device([], rates=(0,))).hello(0.3)
    monkeypatch.setattr(links, "LABELS_S", 0.2)
    with pytest.raises(InputError, match="no answer"):
        Link(Device([])).labels(0x10000)
    with pytest.raises(InputError, match="can't set a port to 0 baud"):
        Port(Path("/dev/null"), 0)


def test_an_answer_without_end() -> None:
    from mbx_deploy.engines.device import DeviceEngine, _Course

    engine = DeviceEngine.__new__(DeviceEngine)
    for total in (0, 1 << 30):
        device = Device([])
        device.total = total
        engine.link = Link(device)
        with pytest.raises(CheckFailed, match="contradicts itself"):
            engine._read(_Course(7, b""), 0)
