"""Runs the programs that write to boards, and says in one line what went wrong."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.errors import InputError

LIST_S = 60.0
WRITE_S = 300.0
# pyOCD's log lines are "0000991 E text [module]", OpenOCD's "Error: text".
_DECORATION = re.compile(r"^(\d{7} [A-Z] |\*\* |[Ee]rror: *|ERROR: *)+|\s*\[\w+\]$|[\s*.]+$")
_ERROR = re.compile(
    r"^\d{7} [CE] |error|fail|unable|unsupported|no .*(found|connected)|not found|unknown", re.IGNORECASE
)


@dataclass(frozen=True)
class Outcome:
    """code: the exit code. output: stdout and stderr, as they came."""

    code: int
    output: str

    @property
    def complaint(self) -> str:
        """The line that most looks like the reason."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        told = [line for line in lines if _ERROR.search(line)] or lines[-1:] or ["no output"]
        return _DECORATION.sub("", told[0]) or told[0]


def run_program(command: Sequence[str], cwd: Path | None = None, timeout_s: float = WRITE_S) -> Outcome:
    """Return what a program said, whatever its exit code. Raises InputError where it can't run or does not end."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        hint = "unplug the board, plug it in again, then give the same line"
        raise InputError(f"{name} did not end within {timeout_s:.0f} s", hint) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"can't run {command[0]}: {reason}", "mbx-deploy doctor tells which tools work") from None
    return Outcome(done.returncode, done.stdout)
