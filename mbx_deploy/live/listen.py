"""Audio as it comes -> what is heard, as events that a terminal shows or JSON tells."""

import io
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.live.decisions import Decision
from mbx_deploy.live.listener import Listener
from mbx_deploy.live.sources import Block
from mbx_deploy.system.files import write_file

LEVEL_S = 0.1  # between levels
TAIL_S = 0.5  # of silence behind a recording, so that its last word is heard out
MOST_RECORDED_S = 3600
FULL_SCALE = 32768.0

Event = dict[str, Any]
Show = Callable[[Event], None]


class Source(Protocol):
    """Where audio comes from. live: it has no end of its own."""

    name: str
    live: bool
    notes: list[str]

    def blocks(self) -> Iterator[Block]:
        """Yield blocks as they come."""


@dataclass(frozen=True)
class ListenOptions:
    """seconds: of audio to hear, None for all. record: a .wav to write what was heard to."""

    seconds: float | None = None
    record: Path | None = None


def listen(listener: Listener, model: CompiledModel, source: Source, options: ListenOptions, show: Show) -> Event:
    """Hear a source until it ends, the time is over or Ctrl-C; return the summary.

    Each event is shown as it comes, a dict that JSON takes, as serial.monitor has them: "event" is hello, level,
    scores, detection or end; times are seconds of audio, levels dBFS, scores 0 to 1. The recording is written whole at
    the end.
    """
    return _Session(listener, model, source, options, show).run()


class _Session:
    def __init__(
        self, listener: Listener, model: CompiledModel, source: Source, options: ListenOptions, show: Show
    ) -> None:
        self.listener, self.model, self.source, self.options, self.show = listener, model, source, options, show
        self.rate_hz = model.config.sample_rate_hz
        self.arrived = self.lost = self.words = 0
        self.recorded: list[np.ndarray] = []
        self._level: list[np.ndarray] = []

    def run(self) -> Event:
        hello = {"engine": self.listener.name, "source": self.source.name, "model_sha256": self.model.digest}
        self.show({"event": "hello", **hello, "sample_rate_hz": self.rate_hz, "labels": list(self.model.labels)})
        try:
            self._listen()
        except KeyboardInterrupt:
            pass  # the user has heard enough
        finally:
            if self.options.record is not None and self.recorded:
                write_file(self.options.record, wav_of(np.concatenate(self.recorded), self.rate_hz))
        end = {
            "event": "end",
            "detections": self.words,
            "heard_s": round(self.arrived / self.rate_hz, 3),
            "lost_samples": self.lost,
        }
        self.show(end)
        return end

    def _listen(self) -> None:
        most = None if self.options.seconds is None else round(self.options.seconds * self.rate_hz)
        for block in self.source.blocks():
            samples = block.samples if most is None else block.samples[: max(0, most - self.arrived)]
            if block.lost:
                self.lost += block.lost
                self.listener.lose(block.lost)
            self._hear(samples)
            if self.options.record is not None and self.arrived <= MOST_RECORDED_S * self.rate_hz:
                self.recorded.append(samples)
            if most is not None and self.arrived >= most:
                return
        if not self.source.live:
            self._decide(np.zeros(self._tail(), np.int16))

    def _tail(self) -> int:
        """Return how much silence follows a recording: what a model that streams needs, at least TAIL_S."""
        streaming = self.model.streaming
        own = 0 if streaming is None else streaming.tail_frames * self.model.config.hop_length
        return max(own, round(TAIL_S * self.rate_hz))

    def _hear(self, samples: np.ndarray) -> None:
        self.arrived += len(samples)
        self._level.append(samples)
        self._decide(samples)
        if sum(map(len, self._level)) >= LEVEL_S * self.rate_hz:
            self._tell_level()

    def _decide(self, samples: np.ndarray) -> None:
        for decision in self.listener.feed(samples):
            self.show(self._scores(decision))
            if decision.event is not None:
                self.words += 1
                event = decision.event
                self.show(
                    {
                        "event": "detection",
                        "time_s": self._time(event.samples),
                        "label": self.model.labels[event.word],
                        "score": round(event.score_q15 / FULL_SCALE, 4),
                    }
                )

    def _scores(self, decision: Decision) -> Event:
        scores = [round(int(value) / FULL_SCALE, 4) for value in decision.posteriors_q15]
        return {
            "event": "scores",
            "time_s": self._time(decision.samples),
            "label": self.model.labels[decision.label],
            "scores": dict(zip(self.model.labels, scores, strict=True)),
        }

    def _tell_level(self) -> None:
        samples = np.concatenate(self._level).astype(np.float64)
        self._level = []
        peak, rms = float(np.abs(samples).max()), float(np.sqrt(np.mean(samples**2)))
        told = {"peak_dbfs": decibels(peak), "rms_dbfs": decibels(rms), "lost_samples": self.lost}
        self.show({"event": "level", "time_s": self._time(self.arrived + self.lost), **told})

    def _time(self, samples: int) -> float:
        return round(samples / self.rate_hz, 4)


def decibels(size: float) -> float | None:
    """Return a level against full scale, None for digital silence: JSON has no minus infinity."""
    return round(20.0 * float(np.log10(size / FULL_SCALE)), 1) if size else None


def wav_of(samples: np.ndarray, rate_hz: int) -> bytes:
    """Return a WAV file: 16-bit mono. samples: int16 (n,)."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return data.getvalue()


def render_event(event: Event) -> str | None:
    """Return the line of an event for people, None for one that has no line of its own."""
    kind = event["event"]
    if kind == "hello":
        return f"{event['source']}, heard by the engine {event['engine']}: {', '.join(event['labels'])}"
    if kind == "detection":
        return f"{event['time_s']:8.2f} s  {event['label']:<12} {event['score']:.2f}"
    if kind != "end":
        return None
    lost = f"; lost: {event['lost_samples']} samples" if event["lost_samples"] else ""
    return f"{event['detections']} words in {event['heard_s']:.1f} s{lost}"
