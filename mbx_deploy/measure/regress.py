"""Whether a model still is what its baseline says: the same bytes, as accurate, as near to float, as small and quick.

Bytes are compared first: accuracy hardly moves when one weight or one entry of a table is wrong, the digest of a stage
always does. A model that is meant to be another one (trained anew) is held to its accuracy alone by
allow_changed_bytes, or becomes the baseline by an update.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.dataset import Split, load_known
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.firmware import build_engine
from mbx_deploy.engines.session import ITEM_CLIP, Item
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.budgets import NO_BUDGETS, Budgets
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.compile import missing_tools
from mbx_deploy.firmware.folder import Build, load_hearing_build
from mbx_deploy.measure.baseline import Baseline, Margins, Recordings, read_baseline, write_baseline
from mbx_deploy.measure.checks import Check, check_update, compare
from mbx_deploy.measure.evaluate import Subject, integer_answers, open_float, pick_clips, run_clips, score
from mbx_deploy.measure.fingerprint import Fingerprint, clips_digest, constants, fingerprint
from mbx_deploy.measure.items import synthetic_items
from mbx_deploy.measure.profile.inference import can_count, count_inference
from mbx_deploy.measure.stream_budgets import NO_HEARD_BUDGETS, HeardBudgets, measure_streams
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.system.files import check_file
from mbx_deploy.system.resources import resolve_model
from mbx_deploy.system.scratch import scratch_folder

DEFAULT_TARGET = "cortex-m4"
DEFAULT_SPLIT = "testing"
TRACED_RECORDINGS = 16
BUDGET_SLACK = 1.05  # another version of gcc makes a little other code

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What regress() is asked. What is None comes from the baseline, or where there is none yet, from the defaults.

    model: a path, a shipped model's name, or the folder of a build. data: a data set.
    streams: a folder of long recordings. heard: budgets of what is heard in them. update: write the baseline.
    """

    model: str
    baseline: Path
    data: Path | None = None
    update: bool = False
    target: str | None = None
    split: str | None = None
    clips: int | None = None
    accuracy_margin: float | None = None
    float_margin: float | None = None
    budgets: Budgets = NO_BUDGETS
    streams: Path | None = None
    heard: HeardBudgets = NO_HEARD_BUDGETS
    allow_changed_bytes: bool = False
    skip_accuracy: bool = False
    forward: str | None = None


@dataclass(frozen=True)
class Outcome:
    """checks: empty after an update. measured: the baseline that the model would have now."""

    checks: tuple[Check, ...]
    measured: Baseline

    @property
    def passed(self) -> bool:
        """Return whether no check failed."""
        return not any(check.passed is False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON takes it."""
        checks = [dict(vars(check)) for check in self.checks]
        return {"passed": self.passed, "checks": checks, "measured": json.loads(self.measured.to_json())}


def regress(request: Request, note: Note = lambda line: None, progress: Progress = lambda done, of: None) -> Outcome:
    """Return how a model compares with its baseline, or after an update no checks.

    Raises InputError for a baseline that is missing, damaged or another model's, for data that are not the baseline's,
    and as evaluate.evaluate_model(); ToolMissing where a budget can't be checked for want of a compiler; CheckFailed
    for an update that would fail at once.
    """
    old = read_baseline(request.baseline)
    if request.update:
        check_file(request.baseline)
    elif old is None:
        raise InputError(
            f"no baseline ({request.baseline}): got no such file, need one",
            f"make it: mbx-deploy regress {request.model} --baseline {request.baseline} --data DIR --update",
        )
    else:
        _check_options(request)
    with scratch_folder() as scratch:
        recognizer, built = _open_model(request, old, Path(scratch), note)
        if old is not None:
            _check_identity(request, old, recognizer, note)
        now = _measure(request, old, recognizer, built, note, progress)
    if request.update:
        check_update(request.baseline, now)
        write_baseline(request.baseline, now)
        return Outcome((), now)
    assert old is not None
    return Outcome(tuple(compare(old, now, request.allow_changed_bytes)), now)


def _check_options(request: Request) -> None:
    for value, option in ((request.target, "--target"), (request.split, "--split"), (request.clips, "--clips")):
        if value is not None:
            raise InputError(f"{option} is what the baseline says: got {option} {value}", "give it with --update only")


def _open_model(
    request: Request, old: Baseline | None, scratch: Path, note: Note
) -> tuple[CompiledModel, Build | None]:
    """Return the model, and its build; None where there is no compiler for it."""
    path = resolve_model(request.model)
    if path.is_dir():
        built = load_hearing_build(path)
        if request.forward is not None or (request.target or built.target.name) != built.target.name:
            raise InputError(
                f"--target and --forward are for a model: got a build for {built.target.name}", "leave it out"
            )
        if old is not None and not request.update and old.target != built.target.name:
            raise InputError(
                f"the baseline is for another target ({request.baseline}): got a build for {built.target.name}, "
                f"need {old.target}",
                "build for that target, or name this target's baseline",
            )
        return built.model, built
    if path.suffix == ".pt":
        raise InputError(f"a baseline is of an int8 model: got {path}", "mbx-deploy export makes a .tflite of it")
    artifact = artifact_of(path, request.forward, note)
    recognizer = load_model(artifact)
    if old is not None and not request.update:
        _check_identity(request, old, recognizer, note)  # before it is built
    target = find_target(request.target or (old.target if old else DEFAULT_TARGET))
    missing = missing_tools(target)
    if missing:
        note(f"not built for {target.name}, so what it needs is not known: {', '.join(missing)} not installed")
        return recognizer, None
    build(artifact, target, scratch / "build")
    return recognizer, load_hearing_build(scratch / "build")


def _check_identity(request: Request, old: Baseline, recognizer: CompiledModel, note: Note) -> None:
    """Raise InputError for a baseline of another model: other labels, or another front end."""
    differences = []
    if old.labels != recognizer.labels:
        differences.append(f"got labels {_words(recognizer.labels)}, need {_words(old.labels)}")
    if old.frontend_digest != recognizer.config.digest():
        got, need = recognizer.config.digest()[:8], old.frontend_digest[:8]
        differences.append(f"got the front end {got}, need {need}")
    if not differences:
        return
    text = f"the baseline is of another model ({request.baseline}): {'; '.join(differences)}"
    if not request.update:
        raise InputError(text, "name this model's baseline; --update makes it this model's")
    note(f"{text}; it is replaced")


def _words(labels: tuple[str, ...]) -> str:
    return ",".join(labels[:12]) + (",..." if len(labels) > 12 else "")


def _measure(
    request: Request,
    old: Baseline | None,
    recognizer: CompiledModel,
    built: Build | None,
    note: Note,
    progress: Progress,
) -> Baseline:
    margins = old.margins if old else Margins()
    if request.accuracy_margin is not None:
        margins = Margins(request.accuracy_margin, margins.floating)
    if request.float_margin is not None:
        margins = Margins(margins.accuracy, request.float_margin)
    host = HostEngine(recognizer, built.sources if built else None)
    synthetic = synthetic_items(recognizer)
    stages = {"synthetic": fingerprint(host, synthetic)}
    measured: dict[str, float | None] = {}
    recordings = None
    where = _data_folder(request, old)
    if where is not None:
        split, recordings = _load(request, old, recognizer, where)
        stages["recordings"] = fingerprint(host, _items(pick_clips(split, TRACED_RECORDINGS)))
        measured |= _accuracy(request, recognizer, host, split, progress)
    streams = None
    where = _streams_folder(request, old)
    if where is not None:
        streams, heard = measure_streams(
            host,
            recognizer,
            where,
            request.baseline,
            old.streams if old else None,
            request.update,
            request.heard,
            progress,
        )
        measured |= heard
    if built is not None:
        measured |= _needs(built)
        stages |= _firmware_stages(built, synthetic, note)
    needs = {name: _whole(measured.get(name)) for name in NO_BUDGETS.to_dict()}
    return Baseline(
        recognizer.labels,
        recognizer.config.digest(),
        hashlib.sha256(recognizer.data).hexdigest(),
        built.target.name if built else request.target or (old.target if old else DEFAULT_TARGET),
        recordings,
        margins,
        _budgets(request, old.budgets if old else NO_BUDGETS, needs, note),
        constants(recognizer),
        stages,
        measured,
        streams,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _data_folder(request: Request, old: Baseline | None) -> Path | None:
    kept = None if old is None or old.data is None else old.data.folder
    return _recorded(request, old, request.data, kept, "accuracy", "recordings", "--data")


def _streams_folder(request: Request, old: Baseline | None) -> Path | None:
    kept = None if old is None or old.streams is None else old.streams.folder
    where = _recorded(request, old, request.streams, kept, "long recordings", "long recordings", "--streams")
    if where is None and not request.skip_accuracy and request.heard != NO_HEARD_BUDGETS:
        raise InputError(
            "budgets of false accepts and misses are of long recordings: got none, need --streams DIR",
            "with --update, the baseline remembers the folder",
        )
    return where


def _recorded(
    request: Request, old: Baseline | None, given: Path | None, kept: str | None, measured: str, what: str, option: str
) -> Path | None:
    """Return where recordings lie that the command gives, or that the baseline has kept; None where neither does.

    measured: what a baseline without them does not hold. what, option: how they are called. Raises InputError.
    """
    if request.skip_accuracy:
        return None
    if given is not None:
        if old is not None and kept is None and not request.update:
            raise InputError(
                f"the baseline holds no {measured} ({request.baseline}): it was made without {what}",
                f"leave {option} out, or give --update with it",
            )
        return given
    if kept is None:
        return None
    folder = request.baseline.parent / kept
    if not folder.exists():
        raise InputError(
            f"the baseline's {what} are not here ({request.baseline}): got no {folder}",
            f"name them with {option}; --skip-accuracy compares bytes and sizes only",
        )
    return folder


def _load(request: Request, old: Baseline | None, recognizer: CompiledModel, where: Path) -> tuple[Split, Recordings]:
    kept = old.data if old else None
    split_name = request.split or (kept.split if kept else DEFAULT_SPLIT)
    limit = request.clips or (kept.limit if kept else None)
    clips = load_known(where, split_name, recognizer.labels, recognizer.recording_samples, limit=limit)
    folder = os.path.relpath(where.resolve(), request.baseline.resolve().parent)
    found = Recordings(folder, split_name, limit, len(clips), clips_digest(clips.names, clips.samples))
    if not request.update and kept is not None and kept.digest != found.digest:
        raise InputError(
            f"these are not the baseline's recordings ({where}): got {found.clips:,} clips, digest {found.digest}, "
            f"need {kept.clips:,}, digest {kept.digest}",
            "give the same recordings; --update takes these from now on",
        )
    return clips, found


def _items(split: Split) -> list[Item]:
    return [Item(ITEM_CLIP, clip) for clip in split.samples]


def _accuracy(
    request: Request, recognizer: CompiledModel, host: HostEngine, split: Split, progress: Progress
) -> dict[str, float | None]:
    answers = integer_answers(host, recognizer)
    length = recognizer.recording_samples
    integer = Subject(request.model, "c", "", recognizer.labels, recognizer.config, answers, length)
    path = resolve_model(request.model)
    floating = open_float(request.model, path / "model.tflite" if path.is_dir() else path, request.forward)
    total = 2 * len(split)
    logits = run_clips(integer, split.samples, lambda done, of: progress(done, total))
    yardstick = run_clips(floating, split.samples, lambda done, of: progress(len(split) + done, total))
    found, real = score(logits, split), score(yardstick, split)
    return {
        "accuracy": found["accuracy"],
        "command_accuracy": found["command_accuracy"],
        "float_accuracy": real["accuracy"],
        "float_command_accuracy": real["command_accuracy"],
        "agreement": float((logits.argmax(axis=1) == yardstick.argmax(axis=1)).mean()),
    }


def _needs(built: Build) -> dict[str, float | None]:
    """Return what the build's firmware needs: sizes measured when it was built, instructions counted now."""
    try:
        compiled = json.loads((built.folder / "memory_report.json").read_text())["compiled"] or {}
        needs: dict[str, float | None] = {
            name: None if compiled.get(name) is None else int(compiled[name]) for name in ("flash_bytes", "ram_bytes")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the build is damaged ({built.folder}, memory_report.json): {error}", "build it again"
        ) from None
    if can_count(built.target) and _has_program(built):
        needs["instructions"] = count_inference(built.model, built.elf, built.target)
    return needs


def _has_program(built: Build) -> bool:
    """Return whether a build was compiled: it may have been made without a compiler, or for other tools."""
    return (built.folder / built.target.program_name).is_file()


def _firmware_stages(built: Build, items: list[Item], note: Note) -> dict[str, Fingerprint]:
    """Return the digests of the program itself, or nothing where it can't run here."""
    if not _has_program(built):
        note(f"the firmware was not run: {built.folder} holds none")
        return {}
    try:
        engine = build_engine(built)
    except ToolMissing as error:
        note(f"the firmware was not run: {error.what}")
        return {}
    return {"firmware": fingerprint(engine, items)}


def _budgets(request: Request, old: Budgets, needs: dict[str, int | None], note: Note) -> Budgets:
    """Return the budgets that hold: the command's, else the baseline's; for an update what is missing or too small is
    a little more than what was measured.
    """
    chosen: dict[str, int | None] = {}
    for name, need in needs.items():
        most = getattr(request.budgets, name)
        before = getattr(old, name)
        if most is None and (not request.update or (before is not None and (need is None or need <= before))):
            most = before
        elif most is None and need is not None:
            most = int(need * BUDGET_SLACK)
            if before is not None:
                note(f"the budget of {name} is raised from {before:,} to {most:,}: {need:,} are needed")
        chosen[name] = most
        if most is not None and need is None and not request.update:
            raise ToolMissing(
                f"a budget can't be checked ({name}): it is not known what the firmware needs",
                "mbx-deploy doctor names what to install",
            )
    budgets = Budgets(**chosen)
    if request.update:
        request.budgets.check(needs, str(request.baseline))
    return budgets


def render(outcome: Outcome, request: Request) -> str:
    """Return the outcome as text, a line a check."""
    now = outcome.measured
    if request.update:
        clips = f"{now.data.clips} recordings, " if now.data else "no recordings, "
        return f"baseline: {request.baseline} ({clips}{now.target})"
    marks = {True: "ok   ", False: "FAIL ", None: "-    "}
    width = max(len(check.name) for check in outcome.checks)
    lines = [f"{request.model} against {request.baseline}, {now.target}"]
    lines += [f"  {marks[check.passed]}{check.name:<{width}}  {check.told}" for check in outcome.checks]
    failed = [check.name for check in outcome.checks if check.passed is False]
    return "\n".join([*lines, f"REGRESSED: {', '.join(failed)}" if failed else "no regression"])
