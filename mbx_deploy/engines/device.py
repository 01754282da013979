"""The engine at the other end of a serial port: a board, or its firmware in an emulator.

Twin: firmware_templates/parts/serial/mbx_remote.h, which says when a piece of an item counts.
"""

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, TRACE_RESULTS, Item, Result, heard_result
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.serial import messages
from mbx_deploy.serial.link import AGAIN_S, LONGEST_AGAIN_S, SILENCE_S, Link
from mbx_deploy.serial.messages import Answer, Hello, Message, State

IN_FLIGHT = 8  # pieces of values: 2.2 KB, which a board's ring takes while the network runs
PROGRESS_S = 60.0  # without any, before we give up
ATTEMPTS = 3
MOST_ANSWER_BYTES = 1 << 20  # of a window's features or checksums
CORRUPTED = 3  # messages.FAILURES: the bytes that arrived are not those that were sent


class _Damaged(Exception):
    """The device has other bytes than we sent: the item must be run again."""


@dataclass
class _Course:
    """How far an item has come."""

    token: int
    data: bytes
    windows: int = 0
    received: int = 0
    sent: int = 0  # bytes that are on their way or there
    going_back: bool = False


class DeviceEngine:
    """A device with a recogniser's firmware. It tells features, results, and of layers the CRC-32 of their bytes."""

    name = "device"

    def __init__(self, recognizer: CompiledModel, link: Link, build: int | None = None) -> None:
        """build: the digest that the firmware must carry.

        Raises InputError where nobody answers, or the device runs another model or another build.
        """
        self.model = recognizer
        self.link = link
        self.hello = link.hello()
        self._check_identity(self.hello, build)

    def _check_identity(self, hello: Hello, build: int | None) -> None:
        where = f"the device at {self.link.line.path} ({hello.target})"
        hint = "flash this build first: mbx-deploy flash BUILD"
        if hello.model_sha256 != self.model.digest:
            raise InputError(
                f"{where} runs another model: got {hello.model_sha256[:16]}, need {self.model.digest[:16]}", hint
            )
        if build is not None and hello.build != build:
            raise InputError(f"{where} runs another build: got {hello.build:08x}, need {build:08x}", hint)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item.

        Raises CheckFailed where the device contradicts itself, InputError where it does not answer any more.
        """
        return [self._run(item, trace) for item in items]

    def _run(self, item: Item, trace: int) -> list[Result]:
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(item, trace)
            except _Damaged:
                continue
        raise InputError(
            f"the line to {self.link.line.path} changes bytes that its checks let through",
            "use a shorter cable or a lower speed",
        )

    def _attempt(self, item: Item, trace: int) -> list[Result]:
        values = np.ascontiguousarray(item.values, "<i1" if item.kind == ITEM_FEATURES else "<i2").ravel()
        one_window = item.kind == ITEM_CLIP and self.model.streaming is None
        if one_window:
            values = values[: self.model.config.clip_samples]
        course = _Course(int.from_bytes(os.urandom(4), "little"), values.tobytes())
        results: list[Result] = []
        begin = messages.begin(course.token, item.kind, item.block)
        state = self.link.ask(messages.BEGIN, begin, lambda m: self._state(m, course), SILENCE_S)
        while state.state != messages.DONE:
            state = self._advance(course, state)
            if state.windows > course.windows:
                course.windows = state.windows
                results.append(self._read_result(course, item, trace))
                if one_window:  # be it ready before its clip's end
                    break
        self.link.ask(messages.END, messages.end(course.token), lambda m: self._ended(m, course), SILENCE_S)
        return results

    def _state(self, message: Message, course: _Course) -> State | None:
        """Return the state of the item where a message tells it, and it is not an old one."""
        if not isinstance(message, State) or message.token != course.token or message.state == messages.IDLE:
            return None
        if message.state == messages.FAILED:
            if message.failure == CORRUPTED:
                raise _Damaged
            raise CheckFailed(f"the device refuses an item: {messages.FAILURES.get(message.failure, message.failure)}")
        if message.received < course.received or message.windows < course.windows:
            return None
        if message.received > len(course.data) or message.crc != zlib.crc32(course.data[: message.received]):
            raise _Damaged
        return message

    def _ended(self, message: Message, course: _Course) -> bool | None:
        ours = isinstance(message, State) and message.token == course.token and message.state == messages.IDLE
        return True if ours else None

    def _advance(self, course: _Course, state: State) -> State:
        """Send what comes next until a window was run or the item is done; returns the state then."""
        give_up = time.monotonic() + PROGRESS_S
        silent = time.monotonic() + SILENCE_S
        again, wait_s, most = 0.0, AGAIN_S, IN_FLIGHT
        while True:
            if state.received > course.received:
                course.received, course.going_back = state.received, False
                wait_s, most = AGAIN_S, IN_FLIGHT
                course.sent = max(course.sent, course.received)
                give_up = time.monotonic() + PROGRESS_S
            if state.windows > course.windows or state.state == messages.DONE:
                course.sent = course.received
                return state
            now = time.monotonic()
            if now >= again:  # nothing was heard for a while
                course.sent = course.received
                again, most = now + wait_s, 1 if again else IN_FLIGHT
                wait_s = min(2.0 * wait_s, LONGEST_AGAIN_S)
            self._send_values(course, most)
            if now > min(give_up, silent):
                raise self.link.silent()
            for message in self.link.receive(max(0.0, again - time.monotonic())):
                silent = time.monotonic() + SILENCE_S
                found = self._state(message, course)
                if found is None:
                    continue
                again = time.monotonic() + wait_s
                nothing_gained = found.received == course.received == state.received
                if nothing_gained and course.sent > course.received and not course.going_back:
                    # A piece was lost, and those behind it did not count. Once, until something is gained.
                    course.going_back, course.sent = True, course.received
                state = found
                if state.windows > course.windows or state.state == messages.DONE:
                    break

    def _send_values(self, course: _Course, most: int) -> None:
        """Send pieces until so many are on their way; behind the last one the request to finish."""
        total = len(course.data)
        limit = course.received + most * messages.VALUE_BYTES
        while course.sent < min(total, limit):
            piece = course.data[course.sent : course.sent + messages.VALUE_BYTES]
            self.link.send(messages.VALUES, messages.values(course.token, course.windows, course.sent, piece))
            course.sent += len(piece)
        if course.received == total and course.sent == total:
            crc = zlib.crc32(course.data)
            self.link.send(messages.FINISH, messages.finish(course.token, course.windows, total, crc))
            course.sent = total + 1  # sent: again only after a while

    def _read(self, course: _Course, what: int) -> bytes:
        """Return all bytes of what the device tells of the last window."""
        data = bytearray()
        total = None

        def ours(message: Message) -> Answer | None:
            self._state(message, course)
            if not isinstance(message, Answer):
                return None
            wanted = (course.token, course.windows & 0xFFFF, what, len(data))
            return message if (message.token, message.windows, message.what, message.offset) == wanted else None

        while total is None or len(data) < total:
            body = messages.read(course.token, course.windows & 0xFFFF, what, len(data))
            answer = self.link.ask(messages.READ, body, ours, SILENCE_S)
            changed = total is not None and answer.total != total
            if not answer.data or changed or not len(data) < answer.total <= MOST_ANSWER_BYTES:
                raise CheckFailed("the device contradicts itself: an answer's length")
            total = answer.total
            data += answer.data
        return bytes(data)

    def _read_result(self, course: _Course, item: Item, trace: int) -> Result:
        data = self._read(course, messages.READ_RESULT)
        if trace == TRACE_RESULTS:
            return heard_result(data, {}, self.model)
        stages, checksums, untold = self._read_stages(course, item)
        return replace(heard_result(data, stages, self.model), checksums=checksums, untold=untold)

    def _read_stages(self, course: _Course, item: Item) -> tuple[dict[str, np.ndarray], dict[str, int], frozenset[str]]:
        """Return the features where they are kept, the CRC-32 of what follows, and what is not told."""
        told = np.frombuffer(self._read(course, messages.READ_CHECKSUMS), "<u4").tolist()
        names = ["features", *(call.name for call in self.model.c_program.calls)]
        checksums = dict(zip(names, told, strict=False))
        untold = frozenset(names[len(told) :])
        if self.model.streaming is not None and not self.model.streaming.in_windows:
            return {}, checksums, untold  # a step has moved its features on
        config = self.model.config
        data = course.data if item.kind == ITEM_FEATURES else self._read(course, messages.READ_FEATURES)
        if not data or len(data) % config.num_coefficients or checksums.pop("features", None) != zlib.crc32(data):
            raise CheckFailed("the device contradicts itself: its features are not what its network took")
        features = np.frombuffer(data, "<i1").reshape(-1, config.num_coefficients)
        return {"features": features}, checksums, untold
