"""How well a model does on recordings, by any engine: accuracy, errors, noise, speed. Integer engines need no torch.

Two accuracies are told. "accuracy" counts every clip: command words, other words that are to be "unknown", and silence.
"command_accuracy" counts the clips of the command words, each of which has to be chosen among all classes.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.accuracy import (
    NOISE_SEED,
    NOISE_SNRS_DB,
    command_interval,
    confusion_matrix,
    measure,
    noisy_clips,
    speaker_interval,
)
from mbx_deploy.data.dataset import SAMPLE_RATE_HZ, Split, load_known, spread
from mbx_deploy.data.streams import wav_bytes
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.float import float_engine
from mbx_deploy.engines.open import FLOATS, MODEL, EngineKind, Source, find_engine
from mbx_deploy.engines.session import ITEM_CLIP, Item
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_hearing_build
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.sim.decision import DecisionRule, answer
from mbx_deploy.system.files import write_folder
from mbx_deploy.system.resources import resolve_model
from mbx_deploy.system.scratch import scratch_folder

SLOW_ENGINE_NOISY_CLIPS = 500  # a ratio: at some 70 clips a second, a minute
DEFAULT_TARGET = "cortex-m4"
_LONGEST_HEAD = 7

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


class Answers(Protocol):
    """Gives the logits of clips, float or int8 (N, classes), of int16 (N, clip_samples)."""

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Return them."""


@dataclass(frozen=True)
class Options:
    """What of a model is measured, on what; see open_subject() and evaluate().

    split: one of SPLITS, or "all". clips: at most. snrs_db: None for NOISE_SNRS_DB, if the data has background noise.
    """

    engine: str | None = None
    split: str = "testing"
    clips: int | None = None
    snrs_db: tuple[float, ...] | None = None
    noisy: int | None = None
    target: str | None = None
    forward: str | None = None


@dataclass(frozen=True)
class Subject:
    """What is measured: a model in an engine.

    name: as the user called it. digest: SHA-256 of the model's file. clip_samples: of a clip alone. workers: threads
    that may ask at a time.
    """

    name: str
    engine: str
    digest: str
    labels: tuple[str, ...]
    config: FrontendConfig
    answers: Answers
    clip_samples: int
    workers: int = field(default_factory=lambda: cores())


def evaluate_model(
    model: str,
    data: Path,
    options: Options,
    note: Note = lambda line: None,
    progress: Progress = lambda done, of: None,
    wrong: Path | None = None,
) -> dict[str, Any]:
    """Return evaluate() of a model, or of the folder of a build, on a data set; note hears what is left out, and why.

    wrong: a folder, made anew, for each clip that was taken for another word, as <said>/<heard>/<clip>.wav.
    Raises as open_subject(), and InputError for data that is missing, or has none of the model's words.
    """
    with scratch_folder() as scratch:
        subject = open_subject(model, options.engine, options.target, options.forward, note, Path(scratch))
        split = load_known(data, options.split, subject.labels, subject.clip_samples, limit=options.clips)
        absent = [label for label in split.labels if not len(split.indices_of(label))]
        if absent:
            note(f"{data}: of the {len(split)} {options.split} clips none is of {', '.join(absent)}")
        snrs_db = options.snrs_db
        if snrs_db is None:
            snrs_db = NOISE_SNRS_DB if split.noise else ()
            if not split.noise:
                note(f"{data}: no background noise (_background_noise_), so no table of noise")
        elif snrs_db and not split.noise:
            raise InputError(
                f"no background noise to measure in ({data}): got none, need recordings in _background_noise_",
                "--snr none leaves the table of noise out",
            )
        noisy = options.noisy
        if noisy is None and not find_engine(subject.engine).fast:
            noisy = SLOW_ENGINE_NOISY_CLIPS
        report = evaluate(subject, split, snrs_db, noisy, progress)
        if wrong is not None:
            write_folder(wrong, _wrong_clips(report["heard"], split))
        return {**report, "data": str(data), "split": options.split}


def _wrong_clips(rows: Sequence[dict[str, Any]], split: Split) -> dict[str, bytes]:
    """Return {said/heard/clip.wav: its sound} of the clips that were taken for another word."""
    files = {}
    for row, samples in zip(rows, split.samples, strict=True):
        if not row["right"]:
            name = re.sub(r"[^\w.-]", "_", Path(row["clip"]).with_suffix("").as_posix())
            files[f"{row['said']}/{row['heard']}/{name}.wav"] = wav_bytes(samples, SAMPLE_RATE_HZ)
    return files


def open_subject(
    model: str,
    engine: str | None,
    target: str | None,
    forward: str | None,
    note: Note,
    scratch: Path,
) -> Subject:
    """Return a model, or a build's folder, ready to answer.

    model: what resolve_model() takes, or the folder of a build, whose own C and firmware run then. engine: of
    engines.open; without it "float" for a .pt, else "c". target: what a model is built for where the engine is
    "firmware"; scratch: the folder where that build may lie. forward: of a .nemo, see pretrained.artifact_of().
    Raises InputError for a bad model, one that the engine can't take, or one of another rate than the data's;
    ToolMissing where the engine's tool is not installed.
    """
    path = resolve_model(model)
    kind = find_engine(engine or ("float" if path.suffix == ".pt" else "c"))
    if path.is_dir():
        built = load_hearing_build(path)
        if target is not None:
            raise InputError(f"--target is for a model: got a build for {built.target.name}", "leave it out")
        if forward is not None:
            raise InputError("--forward is for .nemo models: got a build", "leave it out")
        if kind.makes == FLOATS:
            return open_float(model, path / "model.tflite", None, note)
        return _integer_subject(model, kind, Source(built.model, built))
    if target is not None and MODEL in kind.takes:
        raise InputError(f"--target is for the engine firmware: got --engine {kind.name}", "leave it out")
    if kind.makes == FLOATS:
        return open_float(model, path, forward, note)
    if path.suffix == ".pt":
        hint = "use --engine float, or mbx-deploy export first"
        raise InputError(f"the engine {kind.name} takes no .pt: got {path}, need a .tflite, a .nemo or a build", hint)
    artifact = artifact_of(path, forward, note)
    if MODEL in kind.takes:
        return _integer_subject(model, kind, Source(load_model(artifact)))
    chosen = find_target(target or DEFAULT_TARGET)
    note(f"{model}: built for {chosen.name}")
    build(artifact, chosen, scratch / "build")
    built = load_hearing_build(scratch / "build")
    return _integer_subject(model, kind, Source(built.model, built))


def open_float(name: str, path: Path, forward: str | None = None, note: Note = lambda line: None) -> Subject:
    """Return the float engine of a model's file; see float_engine.float_engine()."""
    engine = float_engine(path, forward, note)
    _check_rate(engine.config, name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Subject(name, "float", digest, engine.labels, engine.config, engine.logits_of, engine.clip_samples)


def _integer_subject(name: str, kind: EngineKind, source: Source) -> Subject:
    hearing, data = source.model.hearing, source.model.data
    if hearing is None or kind.open is None:
        raise InputError(f"the engine {kind.name} can't measure ({name}): got a network alone, need one that hears")
    _check_rate(hearing.config, name)
    runner = kind.open(source)

    workers = cores() if kind.threads else 1
    digest = hashlib.sha256(data).hexdigest()
    return Subject(
        name,
        kind.name,
        digest,
        hearing.labels,
        hearing.config,
        integer_answers(runner, source.model),
        source.model.recording_samples,
        workers,
    )


def integer_answers(engine: Engine, model: CompiledModel) -> Answers:
    """Return what gives the logits of clips by an integer engine; of a model that streams scores of a clip alone."""

    def answers(clips: np.ndarray) -> np.ndarray:
        found = engine.run([Item(ITEM_CLIP, clip) for clip in clips])
        if model.streaming is None or model.hearing is None:
            return np.stack([results[0].logits for results in found])
        rule = model.hearing.decision
        return np.stack([_surest([one.posteriors_q15 for one in results], rule) for results in found])

    return answers


def _surest(posteriors_q15: list[np.ndarray], rule: DecisionRule) -> np.ndarray:
    """Return scores of a clip alone, (classes,), the largest of them that of the class that a stream takes it for."""
    label, scores = answer(rule, posteriors_q15)
    return np.where(np.arange(len(scores)) == label, scores.max() + 1, scores)


def _check_rate(config: FrontendConfig, name: str) -> None:
    if config.sample_rate_hz != SAMPLE_RATE_HZ:
        raise InputError(
            f"data sets are read at {SAMPLE_RATE_HZ} Hz ({name}): got a model of {config.sample_rate_hz} Hz",
            "measure it clip by clip with mbx-deploy simulate",
        )


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_clips(subject: Subject, clips: np.ndarray, progress: Progress = lambda done, of: None) -> np.ndarray:
    """Return the logits of clips, (N, classes), by a few threads: engines are programs, or numpy's long loops.

    An interruption ends it after the clips that are being run.
    """
    step = max(1, min(find_engine(subject.engine).at_once, -(-len(clips) // subject.workers)))
    parts = [clips[start : start + step] for start in range(0, len(clips), step)]
    found: list[np.ndarray] = []
    pool = ThreadPoolExecutor(subject.workers)
    try:
        done = 0
        for part, logits in zip(parts, pool.map(subject.answers, parts), strict=True):
            found.append(logits)
            done += len(part)
            progress(done, len(clips))
    finally:
        pool.shutdown(cancel_futures=True)
    return np.concatenate(found)


def pick_clips(split: Split, count: int | None) -> Split:
    """Return at most count clips of a split, evenly spread over it, so that every class keeps its share."""
    if count is None or count >= len(split):
        return split
    return split.take(spread(count, len(split)))


def evaluate(
    subject: Subject,
    split: Split,
    snrs_db: Sequence[float] = (),
    noisy: int | None = None,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Return a model's measure on clips, as JSON takes it.

    split: labels are the subject's. snrs_db: ratios of the noise table, which begins with the clean clips (snr_db
    None). noisy: clips of that table at most, evenly spread. Silence has no ratio and is the same in each row.
    speakers: those that the clips' names tell; the intervals draw them, and a clip of an unknown one for itself.
    Fractions are of 1; a class without clips has no recall, one that was never chosen no precision: None.
    clips_per_second: by the clock, from samples to logits, on all cores. Raises InputError for ratios without noise.
    """
    part = pick_clips(split, noisy)
    total = len(split) + len(snrs_db) * len(part)
    start = time.perf_counter()
    logits = run_clips(subject, split.samples, lambda done, of: progress(done, total))
    seconds = time.perf_counter() - start
    clean = logits if part is split else logits[spread(len(part), len(split))]
    rows = [_noise_row(None, clean, part)]
    for snr_db in snrs_db:
        before = len(split) + (len(rows) - 1) * len(part)
        noisy_logits = run_clips(subject, noisy_clips(part, snr_db), partial(_shift, progress, before, total))
        rows.append(_noise_row(snr_db, noisy_logits, part))
    return {
        "model": subject.name,
        "model_digest": subject.digest,
        "frontend_digest": subject.config.digest(),
        "engine": subject.engine,
        **score(logits, split),
        "heard": heard_rows(logits, split),
        "snr": rows,
        "noise_seed": NOISE_SEED,
        "clips_per_second": len(split) / seconds,
    }


def score(logits: np.ndarray, split: Split) -> dict[str, Any]:
    """Return what the logits of a split's clips, (N, classes), are worth, as JSON takes it; see evaluate()."""
    found = measure(logits, split)
    right = logits.argmax(axis=1) == split.classes
    confusion = confusion_matrix(logits, split)
    chosen, clips = confusion.sum(axis=0), confusion.sum(axis=1)
    hits = np.diagonal(confusion)
    words = found.command_clips > 0
    return {
        "clips": len(split),
        "accuracy": float(right.mean()),
        "accuracy_interval": _pair(speaker_interval(right, split.voices)),
        "command_clips": found.command_clips,
        "command_accuracy": found.command_accuracy if words else None,
        "command_accuracy_interval": _pair(command_interval(logits, split)) if words else None,
        "balanced_accuracy": found.balanced_accuracy,
        "speakers": len(set(split.voices) - set(split.names)),
        "labels": list(split.labels),
        "clips_of": {label: int(clips[i]) for i, label in enumerate(split.labels)},
        "precision": {label: _share(hits[i], chosen[i]) for i, label in enumerate(split.labels)},
        "recall": {label: _share(hits[i], clips[i]) for i, label in enumerate(split.labels)},
        "confusion": confusion.tolist(),
    }


def heard_rows(logits: np.ndarray, split: Split) -> list[dict[str, Any]]:
    """Return a row a clip: its name, what was said and what was heard in it."""
    answers = logits.argmax(axis=1)
    return [
        {"clip": name, "said": split.labels[said], "heard": split.labels[heard], "right": bool(said == heard)}
        for name, said, heard in zip(split.names, split.classes, answers, strict=True)
    ]


def _pair(interval: tuple[float, float]) -> list[float]:
    return [float(end) for end in interval]


def _share(part: np.integer[Any], of: np.integer[Any]) -> float | None:
    return float(part / of) if of else None


def _shift(progress: Progress, before: int, total: int, done: int, of: int) -> None:
    progress(before + done, total)


def _noise_row(snr_db: float | None, logits: np.ndarray, split: Split) -> dict[str, Any]:
    found = measure(logits, split)
    return {
        "snr_db": snr_db,
        "clips": len(split),
        "accuracy": float((logits.argmax(axis=1) == split.classes).mean()),
        "command_accuracy": found.command_accuracy if found.command_clips else None,
        "balanced_accuracy": found.balanced_accuracy,
    }


def render(report: dict[str, Any]) -> str:
    """Return an evaluation as text: both accuracies, a line a class with its confusions, a line a ratio, the speed."""
    speakers = report["speakers"]
    over = f"{speakers} speakers" if speakers else "clips, as no name says who speaks"
    lines = [f"{report['model']} by the engine {report['engine']}, {report['clips']} clips; intervals over {over}"]
    if report["command_accuracy"] is not None:
        share = _percent(report["command_accuracy"], report["command_accuracy_interval"])
        lines.append(f"  command words    {share}, {report['command_clips']} clips, each among all classes")
    share = _percent(report["accuracy"], report["accuracy_interval"])
    lines.append(f"  all clips        {share}, {report['clips']} clips")
    lines.append(f"  mean of recalls  {report['balanced_accuracy']:.1%}")
    lines += ["", *_class_lines(report), "", *_noise_lines(report["snr"])]
    return "\n".join([*lines, "", f"{report['clips_per_second']:.1f} clips a second, features included"])


def _percent(value: float, interval: list[float]) -> str:
    return f"{value:.1%} (95 %: {interval[0]:.1%} to {interval[1]:.1%})"


def _class_lines(report: dict[str, Any]) -> list[str]:
    labels = report["labels"]
    width = max(len("class"), *map(len, labels))
    column = 1 + max(len(str(report["clips"])), min(_LONGEST_HEAD, max(map(len, labels))))
    heads = "".join(f"{label[: column - 1]:>{column}}" for label in labels)
    lines = [f"  {'class':<{width}}  clips  precision  recall   given as{heads}"]
    for label, row in zip(labels, report["confusion"], strict=True):
        precision, recall = (_maybe(report[key][label]) for key in ("precision", "recall"))
        counts = "".join(f"{count or '.':>{column}}" for count in row)
        lines.append(f"  {label:<{width}}{report['clips_of'][label]:>7}{precision:>11}{recall:>8}           {counts}")
    return lines


def _noise_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"  noise      command words  all clips   of {rows[0]['clips']} clips"]
    for row in rows:
        name = "clean" if row["snr_db"] is None else f"{row['snr_db']:g} dB"
        lines.append(f"  {name:<9}{_maybe(row['command_accuracy']):>15}{row['accuracy']:>11.1%}")
    return lines


def _maybe(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
