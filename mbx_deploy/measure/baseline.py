"""A baseline: what a model reached when somebody said that it is good, in a JSON file that a CI compares with.

    {"format": "mbx-deploy baseline 1", "labels": [...], "frontend_digest": hex, "model_digest": hex, "target": name,
     "data": null or {"folder", "split", "limit", "clips", "digest"}, "margins": {"accuracy", "float"},
     "budgets": {"flash_bytes", "ram_bytes", "instructions"}, "constants": {name: digest},
     "stages": {"synthetic": {...}, "recordings": null or {...}}, "measured": {...},
     "streams": {"folder", "recordings", "digest", "budgets": {"false_accepts_per_hour", "miss_rate"}}, where there are}

Fractions are of 1. "folder" is relative to the file, so that both can lie in a repository.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.firmware.budgets import Budgets
from mbx_deploy.measure.fingerprint import Fingerprint, need_digests
from mbx_deploy.measure.stream_budgets import HeardBudgets, Streams
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.system.files import write_file
from mbx_deploy.system.json_documents import parse_json

FORMAT = "mbx-deploy baseline 1"
MOST_BYTES = 4 << 20
STORED_STAGES = ("synthetic", "recordings")


@dataclass(frozen=True)
class Margins:
    """accuracy: what each accuracy may fall. floating: what int8 may be worse than float, and how much more often
    than in the baseline it may choose another word than float. Fractions of 1.
    """

    accuracy: float = 0.005
    floating: float = 0.01


@dataclass(frozen=True)
class Recordings:
    """The clips of a baseline. folder: of the data set, relative to the baseline's folder. limit: clips at most, None
    for all. clips: how many they were. digest: of their names and samples.
    """

    folder: str
    split: str
    limit: int | None
    clips: int
    digest: str


@dataclass(frozen=True)
class Baseline:
    """What is compared. measured: "accuracy" and others where there are recordings; "flash_bytes" and others."""

    labels: tuple[str, ...]
    frontend_digest: str
    model_digest: str
    target: str
    data: Recordings | None
    margins: Margins
    budgets: Budgets
    constants: dict[str, str]
    stages: dict[str, Fingerprint]
    measured: dict[str, float | None]
    streams: Streams | None = None

    def to_json(self) -> str:
        """Return the file's text; the same baseline gives the same bytes."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "labels": list(self.labels),
            "frontend_digest": self.frontend_digest,
            "model_digest": self.model_digest,
            "target": self.target,
            "data": dict(vars(self.data)) if self.data else None,
            "margins": {"accuracy": self.margins.accuracy, "float": self.margins.floating},
            "budgets": self.budgets.to_dict(),
            "constants": self.constants,
            "stages": {name: dict(vars(found)) for name, found in self.stages.items() if name in STORED_STAGES},
            "measured": self.measured,
        }
        if self.streams is not None:
            values["streams"] = self.streams.to_dict()
        return json.dumps(values, indent=1) + "\n"  # unsorted: stages stand in the order of the road


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all. Raises InputError where that can't be done."""
    write_file(path, baseline.to_json())


def read_baseline(path: Path) -> Baseline | None:
    """Return a baseline, None where there is no such file.

    Raises InputError for a file that is no baseline, is damaged, or is of another version.
    """
    try:
        if not path.exists():
            return None
        values = parse_json(read_document(path, MOST_BYTES))
    except DocumentError as error:
        raise _damaged(path, str(error)) from None
    except UnicodeDecodeError:
        raise _damaged(path, "it is no text") from None
    except OSError as error:
        raise InputError(f"can't read the baseline ({path}): {error.strerror}", "name a file with --baseline") from None
    except ValueError as error:
        raise _damaged(path, f"it is no JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        got = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise InputError(
            f"not a baseline ({path}): got format {got!r:.60}, need {FORMAT!r}",
            "name another file with --baseline, or delete this one and give --update",
        )
    try:
        return _parse(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise _damaged(path, what) from None
    except InputError as error:
        raise _damaged(path, error.what) from None


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"the baseline is damaged ({path}): {why:.200}", "take it from version control again, or delete it and --update"
    )


def _parse(values: dict[str, Any]) -> Baseline:
    labels = values["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels are no words")
    data = values["data"]
    recordings = None
    if data is not None:
        recordings = Recordings(
            _text(data["folder"]),
            _text(data["split"]),
            None if data["limit"] is None else _count(data["limit"]),
            _count(data["clips"]),
            _text(data["digest"]),
        )
    budgets = {name: None if most is None else _count(most) for name, most in values["budgets"].items()}
    stages = {
        _text(name): Fingerprint(_count(found["items"]), need_digests(found["stages"], name))
        for name, found in values["stages"].items()
    }
    if "synthetic" not in stages or (recordings is not None) != ("recordings" in stages):
        raise ValueError("stages do not fit the data")
    measured = {_text(name): None if value is None else _number(value) for name, value in values["measured"].items()}
    if recordings is not None and not {"accuracy", "agreement"} <= {k for k, v in measured.items() if v is not None}:
        raise ValueError("no measured accuracy of the data")
    return Baseline(
        tuple(labels),
        _text(values["frontend_digest"]),
        _text(values["model_digest"]),
        _text(values["target"]),
        recordings,
        Margins(_number(values["margins"]["accuracy"]), _number(values["margins"]["float"])),
        Budgets(**budgets),
        need_digests(values["constants"], "constants"),
        stages,
        measured,
        _streams(values.get("streams"), measured),
    )


def _streams(values: Any, measured: dict[str, float | None]) -> Streams | None:
    if values is None:
        return None
    if measured.get("false_accepts_per_hour") is None:
        raise ValueError("nothing was measured of the streams")
    budgets = {name: None if most is None else _number(most) for name, most in values["budgets"].items()}
    return Streams(
        _text(values["folder"]), _count(values["recordings"]), _text(values["digest"]), HeardBudgets(**budgets)
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"got {value!r:.60}, need a text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise ValueError(f"got {value!r:.60}, need a number, 0 or more")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"got {value!r:.60}, need a whole number, 1 or more")
    return value
