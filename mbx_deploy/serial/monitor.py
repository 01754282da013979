"""What a device hears and says, live; its microphone recorded, or a recording played to it."""

import io
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.serial import messages
from mbx_deploy.serial.link import AGAIN_S, SILENCE_S, Link
from mbx_deploy.serial.messages import Audio, Detection, Hello, Level, LiveState, Message, Scores
from mbx_deploy.system.files import write_file

PING_S = 2.0  # a device whose host is silent for ten seconds goes back to its lines of text
LISTEN_S = 0.1
ENDING_S = 1.0  # without a message, after all was played
TAIL_S = 0.5  # silence behind a recording that is played, so that its last window is heard
MOST_RECORDED_S = 3600
FULL_SCALE = 32768.0

Event = dict[str, Any]
Show = Callable[[Event], None]


@dataclass(frozen=True)
class MonitorOptions:
    """seconds: to listen, None until interrupted. record: a .wav to write. play: int16 samples at the device's rate."""

    seconds: float | None = None
    record: Path | None = None
    play: np.ndarray | None = None


def monitor(link: Link, options: MonitorOptions, show: Show) -> Event:
    """Listen to a device until the time is over, the recording is played or Ctrl-C; return the summary.

    Each event is shown as it comes, a dict that JSON takes: "event" is hello, level, scores, detection or end; times
    are seconds of the device's audio, levels dBFS, scores 0 to 1. What was recorded is written whole at the end, also
    where the port is lost; samples that did not arrive are silence in it, and counted.

    Raises InputError for a device that does not answer, or has no microphone where nothing is played.
    """
    return _Monitor(link, options, show).run()


@dataclass
class _Recording:
    """Samples as they arrive. start: position of the first; missing: samples that are silence here."""

    start: int | None = None
    count: int = 0
    missing: int = 0
    parts: list[np.ndarray] = field(default_factory=list)

    def add(self, audio: Audio) -> None:
        if self.start is None:
            self.start = audio.position
        ahead = (audio.position - self.start - self.count) & 0xFFFFFFFF
        if ahead > messages.MOST_GAP_SAMPLES:  # or behind, which is far ahead in 32 bits
            raise InputError(
                f"the device began anew: its audio jumped from sample {self.count} to {audio.position}",
                "check its supply, then record again",
            )
        if ahead:
            self.parts.append(np.zeros(ahead, np.int16))
            self.missing += ahead
        self.parts.append(audio.samples)
        self.count += ahead + len(audio.samples)

    def wav(self, sample_rate_hz: int) -> bytes:
        """Return the file: 16-bit mono."""
        data = io.BytesIO()
        with wave.open(data, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate_hz)
            file.writeframes(np.concatenate([*self.parts, np.zeros(0, np.int16)]).astype("<i2").tobytes())
        return data.getvalue()


class _Player:
    """Sends a recording to a device without a microphone, piece by piece, each when the one before has arrived."""

    def __init__(self, link: Link, samples: np.ndarray) -> None:
        self.link = link
        self.samples = samples
        self.base = link.live_position()
        self.place = 0
        self._again = 0.0

    @property
    def done(self) -> bool:
        return self.place >= len(self.samples)

    def take(self, state: LiveState) -> None:
        place = (state.position - self.base) & 0xFFFFFFFF
        if place > len(self.samples):  # it began anew, or somebody else plays, too
            raise InputError("the device lost its place in what is played", "check its supply, then try again")
        if place > self.place:
            self.place, self._again = place, 0.0

    def step(self, now: float) -> None:
        if not self.done and now >= self._again:
            piece = self.samples[self.place : self.place + messages.LIVE_SAMPLES]
            self.link.send(messages.LIVE, messages.live(self.base + self.place, piece))
            self._again = now + AGAIN_S


class _Monitor:
    def __init__(self, link: Link, options: MonitorOptions, show: Show) -> None:
        self.link = link
        self.options = options
        self.show = show
        self.hello = link.hello()
        if self.hello.takes_audio and options.play is None:
            raise InputError(
                f"the device at {link.line.path} ({self.hello.target}) has no microphone",
                "give it a recording with --play",
            )
        if options.play is not None and not self.hello.takes_audio:
            raise InputError(
                f"the device at {link.line.path} ({self.hello.target}) hears its own microphone", "leave --play out"
            )
        self.labels = link.labels(self.hello.classes)
        self.recording = _Recording()
        self.level: Level | None = None
        self.detections = 0

    def run(self) -> Event:
        hello, rate_hz = self.hello, self.hello.sample_rate_hz
        self.show(
            {
                "event": "hello",
                "target": hello.target,
                "model_sha256": hello.model_sha256,
                "build": f"{hello.build:08x}",
                "sample_rate_hz": rate_hz,
                "labels": self.labels,
            }
        )
        try:
            self._listen()
        except KeyboardInterrupt:
            pass  # the user has heard enough
        finally:
            if self.options.record is not None and self.recording.count:
                write_file(self.options.record, self.recording.wav(rate_hz))
        self.link.leave()
        if self.options.record is not None and not self.recording.count:
            raise InputError("nothing was recorded: no audio came from the device", "try again, or listen for longer")
        summary = self._summary()
        self.show(summary)
        return summary

    def _summary(self) -> Event:
        level, rate_hz = self.level, self.hello.sample_rate_hz
        return {
            "event": "end",
            "detections": self.detections,
            "overruns": level.overruns if level else 0,
            "windows_passed_over": level.windows_passed_over if level else 0,
            "messages_left_out": level.messages_left_out if level else 0,
            "frames_lost": self.link.lost,
            "frames_damaged": self.link.damaged + (level.frames_damaged if level else 0),
            "recorded_s": self.recording.count / rate_hz,
            "missing_samples": self.recording.missing,
        }

    def _listen(self) -> None:
        player = None
        if self.options.record is not None:
            self._ask_for_audio()
        if self.options.play is not None:
            tail = np.zeros(round(TAIL_S * self.hello.sample_rate_hz), np.int16)
            player = _Player(self.link, np.concatenate([self.options.play, tail]))
        start = heard = time.monotonic()
        pinged = start
        while True:
            now = time.monotonic()
            if self.options.seconds is not None and now - start >= self.options.seconds:
                return
            if player is not None and player.done and now - heard >= ENDING_S:
                return
            if now - heard >= SILENCE_S:
                raise self.link.silent()
            if self.recording.count >= MOST_RECORDED_S * self.hello.sample_rate_hz:
                return
            if now - pinged >= PING_S:
                self.link.send(messages.PING, messages.ping(0))
                pinged = now
            if player is not None:
                player.step(now)
            for message in self.link.receive(LISTEN_S):
                if not (isinstance(message, Hello) and player is not None and player.done):
                    heard = time.monotonic()
                if isinstance(message, LiveState) and player is not None:
                    player.take(message)
                    player.step(time.monotonic())
                else:
                    self._take(message)

    def _ask_for_audio(self) -> None:
        self.link.send(messages.RECORD, b"\1")

    def _take(self, message: Message) -> None:
        event: Event | None = None
        if isinstance(message, Hello):
            if self.options.record is not None and not message.flags & messages.RECORDING:
                self._ask_for_audio()  # the request was lost
        elif isinstance(message, Audio):
            if self.options.record is not None:
                self.recording.add(message)
        elif isinstance(message, Level):
            self.level = message
            event = {
                "event": "level",
                "time_s": self._time(message.position),
                "peak_dbfs": _decibels(message.peak),
                "rms_dbfs": _decibels(message.rms),
                "overruns": message.overruns,
                "windows_passed_over": message.windows_passed_over,
            }
        elif isinstance(message, Scores):
            scores = [round(value / FULL_SCALE, 4) for value in message.posteriors_q15]
            names = self.labels[message.first : message.first + len(scores)]
            if message.label < len(self.labels) and len(names) == len(scores):
                event = {
                    "event": "scores",
                    "time_s": self._time(message.position),
                    "window": message.window,
                    "label": self.labels[message.label],
                    "scores": dict(zip(names, scores, strict=True)),
                }
        elif isinstance(message, Detection) and message.label < len(self.labels):
            self.detections += 1
            event = {
                "event": "detection",
                "time_s": self._time(message.position),
                "window": message.window,
                "label": self.labels[message.label],
                "score": round(message.score_q15 / FULL_SCALE, 4),
            }
        if event is not None:
            self.show(event)

    def _time(self, position: int) -> float:
        return round(position / self.hello.sample_rate_hz, 3)


def _decibels(size: float) -> float | None:
    """Return a level against full scale, None for digital silence: JSON has no minus infinity."""
    return round(20.0 * float(np.log10(size / FULL_SCALE)), 1) if size else None


def render_event(event: Event) -> str | None:
    """Return the line of an event for people, None for one that has no line of its own."""
    kind = event["event"]
    if kind == "hello":
        return f"{event['target']}: {', '.join(event['labels'])}"
    if kind == "detection":
        return f"{event['time_s']:8.1f} s  {event['label']:<12} {event['score']:.2f}"
    if kind != "end":
        return None
    passed_over = event["windows_passed_over"]
    lines = [f"{event['detections']} words; overruns: {event['overruns']}, windows passed over: {passed_over}"]
    if event["recorded_s"]:
        lines.append(f"recorded: {event['recorded_s']:.2f} s")
    if event["missing_samples"]:
        lines.append(f"missing in the recording, silence in its place: {event['missing_samples']} samples")
    if event["frames_lost"] or event["frames_damaged"]:
        lines.append(f"the line: {event['frames_lost']} frames lost, {event['frames_damaged']} damaged")
    return "\n".join(lines)


def render_meter(level: Event, scores: Event | None, width: int = 30) -> str:
    """Return the level meter's line: a bar from -60 dBFS to full scale, and the best label of the last window."""
    rms, peak = (-96.0 if level[name] is None else level[name] for name in ("rms_dbfs", "peak_dbfs"))
    full = max(0, min(width, round(width * (1.0 + rms / 60.0))))
    best = f"{scores['label']} {max(scores['scores'].values()):.2f}" if scores else ""
    bar = "#" * full + "." * (width - full)
    return f"{level['time_s']:8.1f} s  [{bar}] {rms:6.1f} dBFS, peak {peak:6.1f}  {best:<20}"
