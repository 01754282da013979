"""Recordings -> words: through an engine of a model, or the firmware of a build."""

import io
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mbx_deploy.codegen.target import emulation_note
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.audio import Recording, fit_clip, read_recording
from mbx_deploy.data.formats import is_readable
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.firmware import build_engine
from mbx_deploy.engines.float import float_engine, softmax
from mbx_deploy.engines.open import FLOATS, Source, find_engine, open_engine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_STREAM, TRACE_RESULTS, TRACE_STAGES, Item, Result
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import Build
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.sim.decision import answer
from mbx_deploy.sim.recognizer import features as sim_features
from mbx_deploy.system.files import write_file

FIRST_VALUES = 6
Q15 = 32768
ITEMS_AT_ONCE = 50

Note = Callable[[str], None]
Refused = Callable[[InputError], None]


def _raise(error: InputError) -> NoReturn:
    raise error


def read_clip(
    path: Path, config: FrontendConfig, note: Note, takes: Callable[[int], bool] = lambda samples: False
) -> np.ndarray:
    """Return the recording as the model's clip, int16 (clip_samples,): see audio.fit_clip() for the rule.

    note hears of every conversion. takes: says of a number of samples whether the model takes them as they are.
    Raises InputError for a file that can't be read.
    """
    recording = _read(path, config, note)
    if takes(len(recording.samples)):
        return recording.samples
    if len(recording.samples) > config.clip_samples:
        seconds = config.clip_samples / config.sample_rate_hz
        note(f"{path}: {len(recording.samples) / config.sample_rate_hz:.2f} s long, its loudest {seconds:g} s are used")
    return fit_clip(recording.samples, config.clip_samples)


def _read(path: Path, config: FrontendConfig, note: Note) -> Recording:
    recording = read_recording(path, config.sample_rate_hz)
    for text in recording.notes:
        note(f"{path}: {text}")
    return recording


def recordings_of(paths: Sequence[Path], refused: Refused = _raise) -> list[Path]:
    """Return the recordings that paths name: themselves, and of a folder each below it, by name.

    refused: hears of each folder without recordings, by default it raises the InputError.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(one for one in path.rglob("*") if is_readable(one.suffix.lower()) and one.is_file())
        if not inside:
            refused(
                InputError(
                    f"no recordings in the folder: got {path}, need sound files below it",
                    "name a recording, or a folder that holds some",
                )
            )
        found += inside
    return found


def simulate(
    model: Path,
    clips: Sequence[Path],
    engine: str,
    trace: bool,
    note: Note,
    forward: str | None = None,
    refused: Refused = _raise,
) -> list[dict[str, Any]]:
    """Return one answer a recording: file, label, score, labels, scores, logits, engine, and stages where traced.

    scores: posteriors in the order of labels, summing to 1. forward: of a .nemo, see pretrained.artifact_of().
    refused: hears of each bad recording, which then has no answer; by default it raises.
    Raises InputError for a bad model.
    """
    if find_engine(engine).makes == FLOATS:
        return _simulate_float(model, clips, trace, note, forward, refused)
    if model.suffix == ".pt":
        raise InputError(
            f"the engine {engine} takes a .tflite model: got {model}", "use --engine float, or mbx-deploy export first"
        )
    loaded = load_model(artifact_of(model, forward, note))
    return _answers(open_engine(engine, Source(loaded)), loaded, clips, trace, note, refused)


def run_firmware(build: Build, clips: Sequence[Path], trace: bool, note: Note) -> list[dict[str, Any]]:
    """Return the answers of a build's firmware, as simulate()."""
    if build.target.emulated_as is not None:
        note(emulation_note(build.target))
    return _answers(build_engine(build), build.model, clips, trace, note)


def write_features(
    model: Path, clips: Sequence[Path], output: Path, note: Note, forward: str | None = None
) -> tuple[int, ...]:
    """Write an .npz with features (int8), scale, zero_point and files; return the shape of features.

    The shape is (clips, frames, coefficients).
    """
    recognizer = load_model(artifact_of(model, forward, note))
    program = recognizer.program
    rows = [sim_features(read_clip(path, recognizer.config, note), recognizer.tables, program) for path in clips]
    values = np.stack(rows)
    file = io.BytesIO()
    np.savez(
        file,
        features=values,
        scale=np.float32(program.input_scale),
        zero_point=np.int32(program.input_zero_point),
        files=np.array([str(path) for path in clips]),
    )
    write_file(output, file.getvalue())
    return values.shape


def _answers(
    engine: Engine,
    recognizer: CompiledModel,
    clips: Sequence[Path],
    trace: bool,
    note: Note,
    refused: Refused = _raise,
) -> list[dict[str, Any]]:
    answers = []
    for start in range(0, len(clips), ITEMS_AT_ONCE):
        recordings: list[tuple[Path, Recording]] = []  # one may be named twice
        for path in clips[start : start + ITEMS_AT_ONCE]:
            try:
                recordings.append((path, _read(path, recognizer.config, note)))
            except InputError as error:
                refused(error)
        if recognizer.streaming is not None:
            items = [Item(ITEM_CLIP, recording.samples) for _, recording in recordings]
        else:
            items = [Item(ITEM_CLIP, _window(r, path, recognizer, note)) for path, r in recordings]
        results = engine.run(items, TRACE_STAGES if trace else TRACE_RESULTS)
        for (path, recording), found in zip(recordings, results, strict=True):
            if not found:
                refused(
                    InputError(
                        f"the recording is too short ({path}): no decision is due before its end",
                        "give a longer recording",
                    )
                )
                continue
            told = _answer(path, engine.name, recognizer, found, trace)
            heard = found if recognizer.streaming is not None else _continuous(engine, recognizer, recording)
            answers.append(told | {"events": list_events(heard, recognizer)})
    return answers


def _window(recording: Recording, path: Path, model: CompiledModel, note: Note) -> np.ndarray:
    """Return a recording as the window of a model that does not stream."""
    config = model.config
    if len(recording.samples) > config.clip_samples:
        seconds = config.clip_samples / config.sample_rate_hz
        note(f"{path}: {len(recording.samples) / config.sample_rate_hz:.2f} s long, its loudest {seconds:g} s are used")
    return fit_clip(recording.samples, config.clip_samples)


def _continuous(engine: Engine, model: CompiledModel, recording: Recording) -> list[Result]:
    """Return what is heard in a recording that is longer than two windows; of a shorter one nothing."""
    if len(recording.samples) < 2 * model.config.clip_samples:
        return []
    return engine.run([Item(ITEM_STREAM, recording.samples)])[0]


def list_events(results: Sequence[Result], model: CompiledModel) -> list[dict[str, Any]]:
    """Return the words that were said: word, seconds since the start, score."""
    rate = model.config.sample_rate_hz
    told = [result.event for result in results if result.event.size and result.event[0] >= 0]
    return [
        {"word": model.labels[int(word)], "seconds": round(int(samples) / rate, 4), "score": int(score) / Q15}
        for word, score, samples in told
    ]


def _answer(
    path: Path, engine: str, recognizer: CompiledModel, results: Sequence[Result], trace: bool
) -> dict[str, Any]:
    """Return the answer to a recording: of a window, or of all decisions of a stream, whose last one is traced."""
    result = results[-1]
    label, posteriors = result.label, result.posteriors_q15
    if recognizer.streaming is not None and recognizer.hearing is not None:
        label, posteriors = answer(recognizer.hearing.decision, [one.posteriors_q15 for one in results])
    scores = [int(value) / Q15 for value in posteriors]
    told: dict[str, Any] = {
        "file": str(path),
        "engine": engine,
        "label": recognizer.labels[label],
        "score": scores[label],
        "labels": list(recognizer.labels),
        "scores": scores,
        "logits": [int(value) for value in result.logits],
    }
    if trace:
        told["stages"] = [_stage(name, values) for name, values in result.stages.items()]
    return told


def _stage(name: str, values: np.ndarray) -> dict[str, Any]:
    """Return name, shape, type, first values and CRC-32 of the little-endian bytes of a stage."""
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return {
        "name": name,
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        "first": values.ravel()[:FIRST_VALUES].tolist(),
        "crc32": f"{zlib.crc32(data):08x}",
    }


def _simulate_float(
    model: Path, clips: Sequence[Path], trace: bool, note: Note, forward: str | None, refused: Refused
) -> list[dict[str, Any]]:
    engine = float_engine(model, forward, note)
    answers = []
    for path in clips:
        try:
            samples = read_clip(path, engine.config, note, engine.takes)
        except InputError as error:
            refused(error)
            continue
        logits = engine.logits(samples)
        scores = softmax(logits)
        label = int(np.argmax(logits))
        answer: dict[str, Any] = {
            "file": str(path),
            "engine": "float",
            "label": engine.labels[label],
            "score": float(scores[label]),
            "labels": list(engine.labels),
            "scores": scores.tolist(),
            "logits": logits.tolist(),
        }
        if trace:
            stages = {"features": engine.features(samples), "logits": logits}
            answer["stages"] = [_stage(name, values) for name, values in stages.items()]
        answers.append(answer)
    return answers


def render_answer(answer: dict[str, Any]) -> str:
    """Return an answer as text: the word, then the three best scores; a line a stage where it was traced."""
    best = sorted(zip(answer["scores"], answer["labels"], strict=True), key=lambda pair: -pair[0])[:3]
    scores = "  ".join(f"{label} {score:.3f}" for score, label in best)
    file = os.fsencode(answer["file"]).decode("utf-8", "replace")  # a terminal may refuse what is no UTF-8
    lines = [f"{file}: {answer['label']}   ({scores})"]
    lines += [f"  {e['seconds']:7.2f} s  {e['word']}  {e['score']:.2f}" for e in answer.get("events", ())]
    for stage in answer.get("stages", ()):
        shape = " x ".join(map(str, stage["shape"]))
        first = " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in stage["first"])
        lines.append(f"  {stage['name']:<24} {stage['dtype']:<7} {shape:<14} {stage['crc32']}  {first} ...")
    return "\n".join(lines)
