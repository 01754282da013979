"""Budgets of flash, RAM and instructions that a firmware has to keep."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mbx_deploy.errors import CheckFailed, InputError

_UNITS_BYTES = {"": 1, "k": 1024, "m": 1024 * 1024}
_UNITS_COUNT = {"": 1, "k": 1000, "m": 1000 * 1000, "g": 1000 * 1000 * 1000}


@dataclass(frozen=True)
class Budgets:
    """What a firmware may need at most; None is no limit.

    flash_bytes: code and constants. ram_bytes: .data and .bss, what `size` tells; the stack is not in it.
    instructions: of one inference, from a window's features to its logits.
    """

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    instructions: int | None = None

    def exceeded(self, needs: dict[str, int | None]) -> list[str]:
        """Return what of the needs is more than its budget, as text. needs: by the names above; None is not known."""
        found = []
        for name, (what, option, unit) in _NAMES.items():
            most, got = getattr(self, name), needs.get(name)
            if most is not None and got is not None and got > most:
                found.append(f"{what} ({option}): got {got:,} {unit}, need at most {most:,}")
        return found

    def check(self, needs: dict[str, int | None], where: str) -> None:
        """Raise CheckFailed, in one line, where a budget is exceeded."""
        found = self.exceeded(needs)
        if found:
            raise CheckFailed(
                f"over budget ({where}), {'; '.join(found)}",
                "nothing was written; use a smaller model, or raise the budget",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the budgets as JSON takes them."""
        return dict(vars(self))


NO_BUDGETS = Budgets()
_NAMES = {
    "flash_bytes": ("flash", "--max-flash", "bytes"),
    "ram_bytes": ("RAM", "--max-ram", "bytes"),
    "instructions": ("instructions per inference", "--max-instructions", "instructions"),
}


def parse_bytes(text: str) -> int:
    """Return a size: "98304", "96K" or "1M", units of 1,024. Raises InputError for anything else."""
    return _parse(text, _UNITS_BYTES, r"(?:i?b)?", "bytes, say 98304 or 96K")


def parse_count(text: str) -> int:
    """Return a number: "9000000", "9M" or "9.5M", units of 1,000. Raises InputError for anything else."""
    return _parse(text, _UNITS_COUNT, "", "a number, say 9000000 or 9.5M")


def _parse(text: str, units: dict[str, int], tail: str, need: str) -> int:
    match = re.fullmatch(rf"(\d{{1,12}}(?:\.\d{{1,6}})?)\s?([{''.join(units)}]?){tail}", text.strip().lower())
    value = Decimal(match[1]) * units[match[2]] if match else Decimal(0)
    if value < 1 or value != int(value):
        raise InputError(f"bad budget: got {text!r:.40}, need {need}")
    return int(value)
