"""What a baseline holds of long recordings: false accepts an hour and missed words, and what each may be at most."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.data.tracks import LongRecording
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.measure.evaluate import cores
from mbx_deploy.measure.listening import listen, read_streams, report

FALSE_ACCEPTS, MISSES = "false_accepts_per_hour", "miss_rate"
TITLES = {FALSE_ACCEPTS: "false accepts an hour", MISSES: "missed words"}
_OPTIONS = {FALSE_ACCEPTS: "--max-false-accepts", MISSES: "--max-misses"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeardBudgets:
    """false_accepts_per_hour, miss_rate (a fraction of 1): what may be at most; None is no limit."""

    false_accepts_per_hour: float | None = None
    miss_rate: float | None = None

    def or_else(self, other: "HeardBudgets") -> "HeardBudgets":
        """Return these, and the other's where one of these is None."""
        return HeardBudgets(
            *(getattr(other, name) if getattr(self, name) is None else getattr(self, name) for name in TITLES)
        )


NO_HEARD_BUDGETS = HeardBudgets()


@dataclass(frozen=True)
class Streams:
    """The long recordings of a baseline. folder: relative to the baseline's folder. recordings: how many they were.
    digest: of their names, sounds and labels.
    """

    folder: str
    recordings: int
    digest: str
    budgets: HeardBudgets

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "budgets": dict(vars(self.budgets))}


def measure_streams(
    engine: HostEngine,
    model: CompiledModel,
    folder: Path,
    baseline: Path,
    old: Streams | None,
    update: bool,
    asked: HeardBudgets,
    progress: Progress,
) -> tuple[Streams, dict[str, float | None]]:
    """Return the recordings with their budgets, and what was heard in them.

    asked: the command's budgets. Those that it leaves open are the old ones; an update that has none takes the upper
    ends of the 95 % intervals of what it measured. Raises InputError for other recordings than the old ones,
    CheckFailed for an update that would fail at once.
    """
    recordings = read_streams(folder, model.labels)
    digest = _digest(recordings, folder)
    if old is not None and not update and old.digest != digest:
        raise InputError(
            f"these are not the baseline's long recordings ({folder}): got {len(recordings)}, digest {digest}, need "
            f"{old.recordings}, digest {old.digest}",
            "give the same recordings; --update takes these from now on",
        )
    assert model.hearing is not None
    heard = listen(engine, model, recordings, cores(), progress)
    found = report(heard, model.hearing.decision, model.labels, model.config.sample_rate_hz, curve=False)
    budgets = asked.or_else(old.budgets if old else NO_HEARD_BUDGETS)
    if update:
        _check(asked, found, baseline)
        budgets = _raised(budgets, found)
    where = os.path.relpath(folder.resolve(), baseline.resolve().parent)
    return Streams(where, len(recordings), digest, budgets), {name: found[name] for name in TITLES}


def _check(asked: HeardBudgets, found: dict[str, Any], baseline: Path) -> None:
    """Raise CheckFailed, in one line, where an update asks for less than was measured."""
    over = [
        f"{title} ({_OPTIONS[name]}): got {told(name, found[name])}, need at most {told(name, getattr(asked, name))}"
        for name, title in TITLES.items()
        if getattr(asked, name) is not None and (found[name] or 0.0) > getattr(asked, name)
    ]
    if over:
        raise CheckFailed(
            f"over budget ({baseline}), {'; '.join(over)}", "nothing was written; tune the model, or raise the budget"
        )


def _raised(budgets: HeardBudgets, found: dict[str, Any]) -> HeardBudgets:
    """Return the budgets, those that are open or too small replaced by what chance would give at most."""
    upper = {
        FALSE_ACCEPTS: (found[f"{FALSE_ACCEPTS}_interval"] or (0.0, None))[1],
        MISSES: None if found[MISSES] is None else _upper(found["misses"], found["words"]),
    }
    kept = {
        name: getattr(budgets, name)
        if getattr(budgets, name) is not None and (found[name] or 0.0) <= getattr(budgets, name)
        else upper[name]
        for name in TITLES
    }
    return HeardBudgets(**{name: None if most is None else round(most, 4) for name, most in kept.items()})


def _upper(count: int, total: int) -> float:
    """Return the upper end of the 95 % interval of a share. Source: E. B. Wilson, 1927."""
    z, share = 1.96, count / total
    middle = share + z * z / (2 * total)
    reach = z * ((share * (1 - share) + z * z / (4 * total)) / total) ** 0.5
    return float(min((middle + reach) / (1 + z * z / total), 1.0))


def over_budget(streams: Streams, measured: dict[str, float | None]) -> list[tuple[str, bool, str]]:
    """Return (title, whether it is kept, got against need as text) of each budget that was measured."""
    rows = []
    for name, title in TITLES.items():
        most, got = getattr(streams.budgets, name), measured.get(name)
        if most is not None and got is not None:
            rows.append((title, got <= most, f"{told(name, got)}, need at most {told(name, most)}"))
    return rows


def told(name: str, value: float | None) -> str:
    """Return a number as text."""
    return f"{value or 0.0:.2%}" if name == MISSES else f"{value or 0.0:.2f}"


def _digest(recordings: Sequence[LongRecording], folder: Path) -> str:
    found = hashlib.sha256()
    for one in recordings:
        words = [(stretch.word, stretch.start_s, stretch.end_s) for stretch in one.words]
        name = one.path.relative_to(folder).as_posix()
        found.update(repr((name, one.kind, words)).encode("utf-8", "surrogateescape"))
        with one.path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]
