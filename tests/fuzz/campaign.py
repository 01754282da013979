"""Feeds changed files to a reader: each must be taken, or refused in one line, in bounded time and memory.

A case is known by the reader's name, the seed and its number, and is the same on every machine.
"""

import faulthandler
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mbx_deploy.errors import MbxError
from tests.fuzz.readers import READERS, ROOT, Reader

MOST_SECONDS = 10  # of the processor, for one file
MOST_BYTES = 1 << 30  # of memory, beyond what the process had
MOST_FINDINGS = 20
HANG_SECONDS = 180  # in C, where no exception can be raised
FOLDER = ROOT / "build" / "fuzz"


@dataclass(frozen=True)
class Finding:
    """Something that a reader must not do. file: what it did it on. command: that does it again."""

    harness: str
    what: str
    detail: str
    file: str
    command: str


@dataclass
class Outcome:
    """cases: files that were read. taken: those of them that were not refused. slowest_s: of the processor."""

    harness: str
    cases: int = 0
    taken: int = 0
    slowest_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON takes it."""
        return asdict(self)


class _TooLong(BaseException):
    """Not caught by any `except Exception` of a reader."""


def _raise_too_long(number: int, frame: FrameType | None) -> NoReturn:
    raise _TooLong


@contextmanager
def _limited() -> Iterator[None]:
    before = signal.signal(signal.SIGVTALRM, _raise_too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGVTALRM, before)


def find_reader(name: str) -> Reader:
    """Return the reader of a name."""
    return next(reader for reader in READERS if reader.name == name)


def made_case(reader: Reader, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return a case's file, the same for the same numbers."""
    rng = random.Random(f"{reader.name} {seed} {number}")
    return reader.make(rng, seeds)


def complaint(reader: Reader, path: Path, limited: bool = True) -> tuple[str, str] | None:
    """Return what is wrong with how a reader treats a file, and where; None where nothing is. Raises MbxError for one
    that is refused as it should be.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal = None
    try:
        with _limited() if limited else nullcontext():
            reader.read(path)
    except MbxError as error:
        refusal = error
    except _TooLong:
        return f"more than {MOST_SECONDS} s", traceback.format_exc()
    except Exception as error:
        return f"{type(error).__name__}: {error}", traceback.format_exc()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) << 10
    if grown > MOST_BYTES:
        return f"more than {MOST_BYTES >> 20} MiB of memory", f"{grown >> 20} MiB"
    if refusal is not None:
        lines = refusal.render().splitlines()
        if len(lines) > 2 or len(lines[0]) > 2000 or not all(line.isprintable() for line in lines):
            return "a refusal of more than one line and a hint", refusal.render()
        raise refusal
    return None


def run_cases(reader: Reader, seed: int, first: int, count: int | None, seconds: float | None) -> Outcome:
    """Read cases until there were as many, or the time is over. A finding's file is kept below build/fuzz."""
    work = FOLDER / reader.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    path, seeds, outcome = work / reader.file, reader.seeds(), Outcome(reader.name)
    end = time.monotonic() + seconds if seconds is not None else None
    known: set[str] = set()
    number = first
    path.write_bytes(made_case(reader, seeds, seed, -1))
    with suppress(MbxError):  # what importing torch takes does not count
        complaint(reader, path, limited=False)
    while (count is None or number < first + count) and (end is None or time.monotonic() < end):
        if len(outcome.findings) >= MOST_FINDINGS:
            break
        path.write_bytes(made_case(reader, seeds, seed, number))
        begin = time.process_time()
        try:
            found = complaint(reader, path)
            outcome.taken += 1
        except MbxError:
            found = None
        outcome.cases += 1
        outcome.slowest_s = max(outcome.slowest_s, time.process_time() - begin)
        if found is not None and (place := _place(*found)) not in known:
            known.add(place)
            outcome.findings.append(kept_finding(reader.name, reader.file, path.read_bytes(), *found))
        number += 1
    return outcome


def _place(what: str, detail: str) -> str:
    """Return where an exception was raised and of which kind, by which one is known from others."""
    lines = [line.strip() for line in detail.splitlines() if line.strip().startswith("File ")]
    return what.split(":")[0] + "".join(lines[-2:])


def kept_finding(harness: str, name: str, data: bytes, what: str, detail: str) -> Finding:
    """Keep a file, and return the finding that tells how to see it again."""
    file = FOLDER / "findings" / f"{harness}-{hashlib.sha256(data).hexdigest()[:12]}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    shown = file.relative_to(ROOT)
    return Finding(
        harness, what, detail, str(shown), f"{sys.executable} -m tests.fuzz --only {harness} --input {shown}"
    )


def run_apart(name: str, seed: int, first: int, count: int | None, seconds: float | None) -> Outcome:
    """Return the outcome of a reader's cases in a process of its own: what kills it is a finding, too."""
    command = [sys.executable, "-m", "tests.fuzz", "--child", name, "--seed", str(seed), "--first", str(first)]
    command += ["--runs", str(count)] if count is not None else []
    command += ["--seconds", str(seconds)] if seconds is not None else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    reader = find_reader(name)
    if done.returncode != 0:
        path = FOLDER / name / reader.file
        data = path.read_bytes() if path.is_file() else b""
        what = f"its process ended with {done.returncode}"
        return Outcome(name, findings=[kept_finding(name, reader.file, data, what, done.stderr[-4000:])])
    values = json.loads(done.stdout.splitlines()[-1])
    return Outcome(**{**values, "findings": [Finding(**found) for found in values["findings"]]})
