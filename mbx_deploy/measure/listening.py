"""What a model hears in long recordings: events against the words that are spoken there, false accepts an hour, misses.

An event is right where its word is spoken at that time: from the word's start to MATCH_S behind its end. Each word is
heard once; a second event for it, or one where nobody said the word, is a false accept. Of recordings without labels
every event is one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.compiler.decision import decision_to_dict
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.audio import read_recording
from mbx_deploy.data.streams import wav_bytes
from mbx_deploy.data.tracks import LongRecording, Stretch, find_recordings
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.open import FLOATS, MODEL, Source, find_engine, open_engine
from mbx_deploy.engines.session import ITEM_STREAM, Item
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import load_hearing_build
from mbx_deploy.measure.evaluate import cores
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.sim.decision import DecisionRule, Event, events
from mbx_deploy.system.files import check_folder, write_folder
from mbx_deploy.system.resources import resolve_model

MATCH_S = 1.2
CURVE = (*(round(0.05 * number, 2) for number in range(4, 20)), 0.97, 0.98, 0.99)

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Heard:
    """One recording as an engine heard it. seconds: of audio. posteriors_q15: (decisions, classes). samples: when each
    decision was due. told: the events that the engine itself told, (n, 3) as session.Result has them.
    """

    recording: LongRecording
    seconds: float
    posteriors_q15: np.ndarray
    samples: np.ndarray
    told: np.ndarray


@dataclass(frozen=True)
class Match:
    """An event or a word that was missed. event: None for a miss. stretch: None for a false accept."""

    heard: Heard
    word: str
    event: Event | None
    stretch: Stretch | None

    @property
    def right(self) -> bool:
        """Whether an event is of a word that was spoken."""
        return self.event is not None and self.stretch is not None


def open_listener(model: str, engine: str | None, forward: str | None, note: Note) -> tuple[Engine, CompiledModel]:
    """Return an engine that listens, and its model: of a build's folder, a .tflite, a .nemo or a shipped model's name.

    engine: default c. Raises InputError for a model or an engine that can't, ToolMissing where this machine can't.
    """
    kind = find_engine(engine or "c")
    if kind.makes == FLOATS:
        raise InputError(f"the engine {kind.name} makes no events: got {kind.name}, need one that makes bytes")
    path = resolve_model(model)
    if path.is_dir():
        build = load_hearing_build(path)
        return open_engine(kind.name, Source(build.model, build)), build.model
    if MODEL not in kind.takes:
        raise InputError(f"the engine {kind.name} takes a build: got {model}", "build it first: mbx-deploy build")
    found = load_model(artifact_of(path, forward, note))
    return open_engine(kind.name, Source(found)), found


def listen(
    engine: Engine, model: CompiledModel, recordings: Sequence[LongRecording], workers: int, progress: Progress
) -> list[Heard]:
    """Return what an engine hears in recordings, in their order. workers: that may run at a time.

    Raises InputError for a recording that can't be read.
    """
    found: list[Heard] = []
    pool = ThreadPoolExecutor(workers)
    try:
        for heard in pool.map(lambda recording: _hear(engine, model, recording), recordings):
            found.append(heard)
            progress(len(found), len(recordings))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _hear(engine: Engine, model: CompiledModel, recording: LongRecording) -> Heard:
    rate, classes = model.config.sample_rate_hz, len(model.labels)
    samples = read_recording(recording.path, rate).samples
    results = engine.run([Item(ITEM_STREAM, samples)])[0]
    scores = np.array([result.posteriors_q15 for result in results], np.int64).reshape(-1, classes)
    told = np.array([result.event for result in results], np.int64).reshape(-1, 3)
    return Heard(recording, len(samples) / rate, scores, told[:, 2], told[told[:, 0] >= 0])


def match(heard: Heard, rule: DecisionRule, labels: Sequence[str], rate: int) -> list[Match]:
    """Return each event of a recording, right or not, and each word of the model that was missed."""
    words = [stretch for stretch in heard.recording.words if stretch.word in labels]
    free = list(range(len(words)))
    found = []
    for event in events(rule, heard.posteriors_q15, heard.samples.tolist()):
        word, at = labels[event.word], event.samples / rate
        hit = next(
            (n for n in free if words[n].word == word and words[n].start_s <= at <= words[n].end_s + MATCH_S), None
        )
        if hit is not None:
            free.remove(hit)
        found.append(Match(heard, word, event, None if hit is None else words[hit]))
    return found + [Match(heard, words[n].word, None, words[n]) for n in free]


def poisson_interval(count: int, hours: float) -> tuple[float, float]:
    """Return the 95 % interval of a rate of which count were seen in so many hours.

    Source: F. Garwood, "Fiducial Limits for the Poisson Distribution", 1936; by bisection of the distribution itself.
    """

    def below(mean: float, most: int) -> float:
        """Return the chance of at most so many."""
        term = total = math.exp(-mean) if mean < 700 else 0.0
        for k in range(1, most + 1):
            term *= mean / k
            total += term
        return total

    def solve(wanted: float, most: int) -> float:
        low, high = 0.0, 10.0 + 4.0 * count
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle, most) > wanted else (low, middle)
        return low

    if count > 400:  # the normal approximation is as good, and the sums above would leave float64
        reach = 1.96 * math.sqrt(count)
        return (count - reach) / hours, (count + reach) / hours
    lower = 0.0 if count == 0 else solve(0.975, count - 1)
    return lower / hours, solve(0.025, count) / hours


def report(
    heard: Sequence[Heard], rule: DecisionRule, labels: Sequence[str], rate: int, curve: bool = True
) -> dict[str, Any]:
    """Return what was heard, as JSON takes it.

    hours; events [{word, seconds, score, file, right}]; false_accepts_per_hour with its 95 % interval; by_kind;
    by_word; words, misses, miss_rate; latency_s from a word's end to its event: median and 95 %; curve: rows of one
    threshold for all words.
    """
    matches = [found for one in heard for found in match(one, rule, labels, rate)]
    hours = sum(one.seconds for one in heard) / 3600
    told = [found for found in matches if found.event is not None]
    wrong = [found for found in told if not found.right]
    late = sorted(_latency(found, rate) for found in told if found.right)
    words = sum(stretch.word in labels for one in heard for stretch in one.recording.words)
    misses = sum(found.event is None for found in matches)
    kinds = sorted({one.recording.kind for one in heard})
    return {
        "hours": hours,
        "files": len(heard),
        "events": [_event(found, rate) for found in told],
        "false_accepts": len(wrong),
        "false_accepts_per_hour": len(wrong) / hours if hours else None,
        "false_accepts_per_hour_interval": list(poisson_interval(len(wrong), hours)) if hours else None,
        "by_kind": {kind: _kind(kind, heard, wrong) for kind in kinds},
        "by_word": {
            word: {
                "words": sum(s.word == word for one in heard for s in one.recording.words),
                "missed": sum(found.word == word and found.event is None for found in matches),
                "false_accepts": sum(found.word == word for found in wrong),
            }
            for label, word in enumerate(labels)
            if rule.is_word[label]
        },
        "words": words,
        "misses": misses,
        "miss_rate": misses / words if words else None,
        "latency_s": {"median": _quantile(late, 0.5), "p95": _quantile(late, 0.95)} if late else None,
        "match_s": MATCH_S,
        "curve": list(_curve(heard, rule, labels, rate)) if curve else [],
    }


def _kind(kind: str, heard: Sequence[Heard], wrong: Sequence[Match]) -> dict[str, Any]:
    hours = sum(one.seconds for one in heard if one.recording.kind == kind) / 3600
    count = sum(found.heard.recording.kind == kind for found in wrong)
    interval = list(poisson_interval(count, hours)) if hours else None
    return {
        "hours": hours,
        "false_accepts": count,
        "false_accepts_per_hour": count / hours if hours else None,
        "interval": interval,
    }


def _event(found: Match, rate: int) -> dict[str, Any]:
    assert found.event is not None
    return {
        "word": found.word,
        "seconds": round(found.event.samples / rate, 4),
        "score": found.event.score_q15 / 32768,
        "file": found.heard.recording.path.name,
        "kind": found.heard.recording.kind,
        "right": found.right,
    }


def _latency(found: Match, rate: int) -> float:
    assert found.event is not None and found.stretch is not None
    return found.event.samples / rate - found.stretch.end_s


def _quantile(ordered: Sequence[float], share: float) -> float:
    return float(np.quantile(np.array(ordered), share))


def with_threshold(rule: DecisionRule, threshold: float) -> DecisionRule:
    """Return the rule with one threshold for all words, its release level at the rule's own ratio."""
    level = round(threshold * 32768)
    pairs = zip(rule.thresholds_q15, rule.release_q15, strict=True)
    release = tuple(level * low // max(high, 1) for high, low in pairs)
    return replace(rule, thresholds_q15=(level,) * len(rule.is_word), release_q15=release)


def _curve(
    heard: Sequence[Heard], rule: DecisionRule, labels: Sequence[str], rate: int
) -> Iterator[dict[str, float | None]]:
    """Yield false accepts an hour and the share of missed words over the threshold (DET)."""
    hours = sum(one.seconds for one in heard) / 3600
    words = sum(stretch.word in labels for one in heard for stretch in one.recording.words)
    for threshold in CURVE:
        own = with_threshold(rule, threshold)
        found = [m for one in heard for m in match(one, own, labels, rate)]
        wrong = sum(m.event is not None and not m.right for m in found)
        missed = sum(m.event is None for m in found)
        yield {
            "threshold": threshold,
            "false_accepts_per_hour": wrong / hours if hours else None,
            "miss_rate": missed / words if words else None,
        }


def cut_wrong(matches: Sequence[Match], rate: int, margin_s: float = 1.0) -> dict[str, np.ndarray]:
    """Return {path below the folder: int16 samples} of each false accept and each miss, to listen to."""
    found: dict[str, np.ndarray] = {}
    for number, one in enumerate(m for m in matches if not m.right):
        samples = read_recording(one.heard.recording.path, rate).samples
        if one.event is not None:
            kind, first, last = "false", one.event.samples / rate - 1.5, one.event.samples / rate
        else:
            assert one.stretch is not None
            kind, first, last = "missed", one.stretch.start_s, one.stretch.end_s
        start, end = max(0, round((first - margin_s) * rate)), round((last + margin_s) * rate)
        at = f"{max(first, 0):08.2f}".replace(".", "_")
        name = f"{kind}/{one.word}/{number:04d}_{one.heard.recording.path.stem}_{at}.wav"
        found[name] = samples[start:end]
    return found


def read_streams(folder: Path, labels: Sequence[str]) -> list[LongRecording]:
    """Return the recordings of a folder. Raises InputError as find_recordings(), and for labels of which the model
    knows none.
    """
    recordings = find_recordings(folder)
    named = {stretch.word for one in recordings for stretch in one.words}
    if named and not named & set(labels):
        some = ", ".join(sorted(named)[:6])
        raise InputError(f"the labels name none of the model's words ({folder}): got {some}")
    return recordings


def evaluate_streams(
    model: str,
    folder: Path,
    engine: str | None = None,
    forward: str | None = None,
    wrong: Path | None = None,
    note: Note = lambda line: None,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Return report() of a model on the long recordings of a folder.

    wrong: a folder, made anew, for each false accept and miss as a .wav. Raises InputError as open_listener() and
    read_streams(), and where the folder can't be written.
    """
    opened, compiled = open_listener(model, engine, forward, note)
    if compiled.hearing is None:
        raise InputError(f"the model hears nothing ({model}): got a network alone, need one with labels")
    labels, rate, rule = compiled.labels, compiled.config.sample_rate_hz, compiled.hearing.decision
    if wrong is not None:
        check_folder(wrong)
    recordings = read_streams(folder, labels)
    workers = cores() if find_engine(engine or "c").threads else 1
    heard = listen(opened, compiled, recordings, workers, progress)
    if wrong is not None:
        matches = [found for one in heard for found in match(one, rule, labels, rate)]
        write_folder(wrong, {name: wav_bytes(cut, rate) for name, cut in cut_wrong(matches, rate).items()})
    return {
        "model": model,
        "engine": opened.name,
        "decision": decision_to_dict(rule, rate),
        **report(heard, rule, labels, rate),
    }


def render(found: dict[str, Any]) -> str:
    """Return a report as text."""
    low, high = found["false_accepts_per_hour_interval"] or (0.0, 0.0)
    lines = [
        f"{found['model']} by the engine {found['engine']}: {found['files']} recordings, {found['hours']:.2f} hours",
        f"  false accepts    {found['false_accepts_per_hour'] or 0:.1f} an hour (95 %: {low:.1f} to {high:.1f})",
    ]
    for kind, row in found["by_kind"].items():
        low, high = row["interval"] or (0.0, 0.0)
        rate = row["false_accepts_per_hour"] or 0
        lines.append(f"    {kind or 'other':<16} {rate:7.1f} in {row['hours']:.2f} h ({low:.1f} to {high:.1f})")
    if found["words"]:
        lines.append(f"  misses           {found['miss_rate']:.1%} of {found['words']} words")
    if found["latency_s"]:
        late = found["latency_s"]
        lines.append(f"  latency          {late['median']:.2f} s behind a word's end, 95 %: {late['p95']:.2f} s")
    lines += ["", f"  {'word':<12} {'spoken':>7} {'missed':>7} {'false':>7}"]
    for word, row in found["by_word"].items():
        lines.append(f"  {word:<12} {row['words']:>7} {row['missed']:>7} {row['false_accepts']:>7}")
    if found["curve"]:
        lines += ["", "  one threshold   false an hour   missed"]
        for row in found["curve"]:
            missed = "-" if row["miss_rate"] is None else f"{row['miss_rate']:.1%}"
            lines.append(f"  {row['threshold']:>13.2f} {row['false_accepts_per_hour'] or 0:>15.1f} {missed:>8}")
    return "\n".join(lines)
