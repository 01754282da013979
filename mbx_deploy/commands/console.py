"""What the commands share: options, and how results, notes and progress are printed."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mbx_deploy.engines.open import MODEL, engine_names
from mbx_deploy.system.terminal import redraw

if TYPE_CHECKING:
    _IntType = click.ParamType[int]
    _TextChoice = click.Choice[str]
else:  # generic from click 8.3 on
    _IntType = click.ParamType
    _TextChoice = click.Choice

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
MODEL_ENGINES = click.Choice(engine_names(MODEL))
FORWARD_OPTION = click.option(
    "--forward",
    type=click.Choice(["crop", "no-crop"]),
    help="Of a .nemo: NeMo's forward pass up to 2.2, or from 2.3 on. Default: what the file says.",
)
DEFAULT_CLIPS = 200
DATA_SET = "A data set: a folder of word folders, a manifest (.json) or a list (.txt)"
PORT_OPTION = click.option(
    "--port", type=click.Path(path_type=Path), help="The serial port of a device, say /dev/ttyACM0."
)
BAUD_OPTION = click.option("--baud", type=click.IntRange(1), help="Of the port, if not what the target has.")


class BudgetType(_IntType):
    """A number with or without a unit. what: "bytes", as 96K, or "count", as 9.5M."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.name = {"bytes": "BYTES", "count": "N"}[what]

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. A bad one is told by click."""
        from mbx_deploy.errors import InputError
        from mbx_deploy.firmware.budgets import parse_bytes, parse_count

        if isinstance(value, int):
            return value
        try:
            return parse_bytes(value) if self.what == "bytes" else parse_count(value)
        except InputError as error:
            self.fail(error.what, param, ctx)


MAX_FLASH_OPTION = click.option(
    "--max-flash", type=BudgetType("bytes"), help="Budget: code and constants of the firmware, say 96K or 98304."
)
MAX_RAM_OPTION = click.option(
    "--max-ram", type=BudgetType("bytes"), help="Budget: .data and .bss of the firmware, without the stack."
)
MAX_INSTRUCTIONS_OPTION = click.option(
    "--max-instructions", type=BudgetType("count"), help="Budget: instructions of an inference in QEMU, say 9M."
)


def print_answers(answers: list[dict[str, Any]], as_json: bool) -> None:
    """Print what an engine said of each recording, as JSON or a line each."""
    from mbx_deploy.engines.recognize import render_answer

    if as_json:
        print_json(answers)
        return
    for answer in answers:
        click.echo(render_answer(answer))


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout: sorted keys, two spaces."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def say(line: str) -> None:
    """Print a line of progress on stderr."""
    click.echo(line, err=True)


def tell_passed_over(data: Path | None) -> None:
    """Say what of a data set is not used, or not as it looks. That it is none at all is told by whoever reads it."""
    from mbx_deploy.data.corpus import passed_over
    from mbx_deploy.data.reader import read_corpus
    from mbx_deploy.errors import InputError

    if data is None or data.suffix == ".npy":
        return
    try:
        lines = passed_over(read_corpus(data))
    except InputError:
        return
    for line in lines:
        note(f"{data}: {line}")


def summary_lines(values: Mapping[str, Any], indent: int = 0) -> list[str]:
    """Return a result as lines for people: a name and its value each, tables within tables indented."""
    lines: list[str] = []
    for key, value in values.items():
        name = f"{'  ' * indent}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            lines += [f"{name}:", *summary_lines(value, indent + 1)]
        elif isinstance(value, float):
            lines.append(f"{name}: {value:.4g}")
        elif isinstance(value, list | tuple):
            lines.append(f"{name}: {', '.join(f'{one:.4g}' if isinstance(one, float) else str(one) for one in value)}")
        else:
            lines.append(f"{name}: {value}")
    return lines


def note(line: str) -> None:
    """Print a note on stderr: something the user should know of a result."""
    click.echo(f"note: {line}", err=True)


class LateChoice(_TextChoice):
    """A choice among names that are asked for when they are needed, so that what knows them is not imported before."""

    def __init__(self, load: Callable[[], Sequence[str]]) -> None:
        self._load = load
        self.case_sensitive = True

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]  # click keeps a tuple
        """The names."""
        return tuple(self._load())


class Progress:
    """A counter on stderr: one changing line on a terminal, a line every tenth elsewhere."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.tenths = 0

    def __call__(self, done: int, of: int) -> None:
        """Show that so many of so many are done."""
        if sys.stderr.isatty():
            redraw(f"{self.what}: {done}/{of}", sys.stderr, end="\n" if done == of else "")
        elif done * 10 // of > self.tenths:
            self.tenths = done * 10 // of
            click.echo(f"{self.what}: {done}/{of}", err=True)
