"""targets/*.toml -> Target.

Unknown keys are refused, every number has a source, and a test loads every shipped file.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.kernels import KERNEL_SETS
from mbx_deploy.resources import firmware_templates_folder, targets_folder

TOOLCHAINS = ("arm-none-eabi", "host")


@dataclass(frozen=True)
class Memory:
    """Addresses and sizes in bytes; stack_bytes are reserved at the end of the RAM."""

    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    stack_bytes: int


@dataclass(frozen=True)
class Target:
    """A CPU or board.

    text: its file. memory and machine are None for the host; machine is QEMU's name of it, None without an emulator.
    """

    name: str
    description: str
    cpu: str
    toolchain: str
    compile_flags: tuple[str, ...]
    optimization: str
    board: str
    kernels: str
    clock_hz: int | None
    memory: Memory | None
    machine: str | None
    sources: tuple[tuple[str, str], ...]
    text: str


def list_targets() -> list[Target]:
    """Return every shipped target, by name."""
    return [read_target(path) for path in sorted(targets_folder().glob("*.toml"))]


def find_target(name: str) -> Target:
    """Return a shipped target, or the one that a path to a .toml describes. Raises InputError with what there is."""
    if name.endswith(".toml"):
        return read_target(Path(name))
    names = sorted(path.stem for path in targets_folder().glob("*.toml"))
    if name not in names:
        raise InputError(f"unknown target: got {name!r}", f"targets: {', '.join(names)}; mbx-deploy targets tells more")
    return read_target(targets_folder() / f"{name}.toml")


def read_target(path: Path) -> Target:
    """Return the target that a file describes, validated. Raises InputError naming the file and the key."""
    try:
        text = path.read_text()
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"can't read the target ({path.name}): {error}") from None
    table = _Table(values, path.name)
    memory = table.take("memory", dict, default=None)
    emulator = table.take("emulator", dict, default=None)
    sources = table.take("sources", dict)
    target = Target(
        name=table.take("name", str),
        description=table.take("description", str),
        cpu=table.take("cpu", str),
        toolchain=table.take("toolchain", str),
        compile_flags=tuple(table.take("compile_flags", list)),
        optimization=table.take("optimization", str),
        board=table.take("board", str),
        kernels=table.take("kernels", str),
        clock_hz=table.take("clock_hz", int, default=None),
        memory=memory and _memory(memory, path.name),
        machine=emulator and _Table(emulator, f"{path.name}, [emulator]").take_only("machine", str),
        sources=tuple(sorted(sources.items())),
        text=text,
    )
    table.refuse_rest()
    return _validate(target, path)


class _Table:
    """A TOML table whose keys are taken one by one; what is left is unknown."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.rest = dict(values)
        self.where = where

    def take(self, key: str, kind: type, **default: Any) -> Any:
        if key not in self.rest:
            if default:
                return default["default"]
            raise InputError(f"a key is missing ({self.where}): need {key}")
        value = self.rest.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"bad value ({self.where}, {key}): got {value!r}, need {kind.__name__}")
        return value

    def take_only(self, key: str, kind: type) -> Any:
        value = self.take(key, kind)
        self.refuse_rest()
        return value

    def refuse_rest(self) -> None:
        if self.rest:
            raise InputError(f"unknown key ({self.where}): got {sorted(self.rest)[0]!r}")


def _memory(values: dict[str, Any], name: str) -> Memory:
    table = _Table(values, f"{name}, [memory]")
    keys = ("flash_origin", "flash_bytes", "ram_origin", "ram_bytes", "stack_bytes")
    memory = Memory(**{key: table.take(key, int) for key in keys})
    table.refuse_rest()
    return memory


def _validate(target: Target, path: Path) -> Target:
    where = path.name

    def need(condition: bool, key: str, got: object, need: str) -> None:
        if not condition:
            raise InputError(f"bad value ({where}, {key}): got {got!r}, need {need}")

    need(target.name == path.stem, "name", target.name, f"the file's name, {path.stem!r}")
    need(target.toolchain in TOOLCHAINS, "toolchain", target.toolchain, " or ".join(TOOLCHAINS))
    need(all(isinstance(flag, str) for flag in target.compile_flags), "compile_flags", target.compile_flags, "strings")
    need(target.kernels in KERNEL_SETS, "kernels", target.kernels, " or ".join(KERNEL_SETS))
    boards = sorted(path.name for path in (firmware_templates_folder() / "boards").iterdir() if path.name != "session")
    need(target.board in boards, "board", target.board, " or ".join(boards))
    need(target.clock_hz is None or 1 <= target.clock_hz <= 10**10, "clock_hz", target.clock_hz, "1 to 10 GHz")
    need(target.optimization in ("-O2", "-O3", "-Os"), "optimization", target.optimization, "-O2, -O3 or -Os")
    if target.toolchain != "host":
        need(target.memory is not None, "memory", None, "a table [memory]")
    if target.memory is not None:
        memory = target.memory
        for key in ("flash_bytes", "ram_bytes", "stack_bytes"):
            need(1024 <= getattr(memory, key) <= 1 << 30, key, getattr(memory, key), "1 KiB to 1 GiB")
        for key in ("flash_origin", "ram_origin"):
            origin, size = getattr(memory, key), getattr(memory, key.replace("origin", "bytes"))
            need(origin >= 0 and origin + size <= 1 << 32, key, origin, "an address of 32 bits")
        need(memory.stack_bytes < memory.ram_bytes, "stack_bytes", memory.stack_bytes, "less than ram_bytes")
        need(memory.stack_bytes % 8 == 0, "stack_bytes", memory.stack_bytes, "a multiple of 8")
    sourced = dict(target.sources)
    for key, value in (("compile_flags", True), ("clock_hz", target.clock_hz), ("memory", target.memory)):
        need(value is None or key in sourced, "sources", sorted(sourced), f"where {key} is taken from")
    return target


def target_to_dict(target: Target) -> dict[str, Any]:
    """Return a target as JSON takes it."""
    values = dict(vars(target))
    values["memory"] = dict(vars(target.memory)) if target.memory else None
    values["sources"] = dict(target.sources)
    del values["text"]
    return values


def render_targets(targets: list[Target]) -> str:
    """Return a table: name, CPU, flash, RAM, clock, emulator, description."""
    rows = [("target", "cpu", "flash", "RAM", "clock", "emulator", "what it is")]
    for target in targets:
        memory = target.memory
        rows.append(
            (
                target.name,
                target.cpu,
                f"{memory.flash_bytes >> 10:,} KB" if memory else "-",
                f"{memory.ram_bytes >> 10:,} KB" if memory else "-",
                f"{target.clock_hz / 1e6:g} MHz" if target.clock_hz else "-",
                target.machine or "-",
                target.description,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
