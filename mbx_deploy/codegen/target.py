"""targets/*.toml -> Target.

Unknown keys are refused, every number has a source, and a test loads every shipped file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mbx_deploy.compiler.kernels.choice import KERNEL_SETS
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, parse_toml, read_document, show
from mbx_deploy.system.resources import part_folders, targets_folder

ARM, RISCV, HOST, WASM = TOOLCHAINS = ("arm-none-eabi", "riscv64-unknown-elf", "host", "wasm")
BARE_METAL = (ARM, RISCV)  # with start-up code, a linker script and memory of their own
# What a firmware is put together with: with "application" it listens to a microphone, with "session" it is fed with
# recordings; with both it serves recordings, and where none wait, listens to what comes over its serial port.
SESSION_PART, APPLICATION_PART = "session", "application"
# A program beside it hears with it: a page, or Python.
LIVE_PART = "live"
# Of a board: the library that its firmware links, linked with the session for the CPU target that emulated_as names.
EMULATOR_ELF_NAME = "emulator.elf"
IMAGE_FORMATS = ("bin", "hex", "uf2")
RUN_FROM = ("flash", "ram")
_HINT = "start from one of targets/*.toml"
_UNSAFE = re.compile(r'["\\`$<>]|\*/|/\*')
# What chooses the CPU, a feature of the compiler, a macro or a warning; nothing that names a program or a file.
_FLAG = re.compile(r"-(?!fplugin|Wl|Wa|Wp)(m|f|D|W|O|std=)[A-Za-z0-9_+=.,-]{0,100}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
PROBE_METHODS = ("pyocd", "openocd", "bossac", "uf2")


@dataclass(frozen=True)
class Memory:
    """Addresses and sizes in bytes; stack_bytes are reserved at the end of the RAM."""

    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    stack_bytes: int


@dataclass(frozen=True)
class Microphone:
    """part: its name, or the kind that is wired. clock_hz: of its bits. gain_db: from full-scale bits to samples."""

    part: str
    interface: str
    clock_hz: int
    sample_rate_hz: int
    gain_db: int


@dataclass(frozen=True)
class Power:
    """What a core costs that listens; of a board, and each an estimate.

    cycles_per_instruction_milli: thousandths, wait states included. interrupt_instructions_per_s: of the microphone's
    interrupt: decimator and queue. awake_ua, asleep_ua: microamperes of the chip at clock_hz; asleep: between
    interrupts, with what the microphone needs running. microphone_ua: of the microphone.
    """

    cycles_per_instruction_milli: int
    interrupt_instructions_per_s: int
    awake_ua: int
    asleep_ua: int
    microphone_ua: int


@dataclass(frozen=True)
class Probe:
    """How a board is written to.

    name: what is on it. method: a PROBE_METHODS. chip: the name that pyOCD knows. What follows a board may lack:
    usb: how the probe, or the board's bootloader, shows itself on USB, "2341:005a" or "1366:*". openocd: the lines that
    set OpenOCD up. drive: the Board-ID of a bootloader that is a drive. The word at id_address, masked by id_mask, is
    id_value in this chip and in no other; a mask of 0 for none.
    """

    name: str
    method: str
    chip: str
    usb: tuple[str, ...] = ()
    openocd: tuple[str, ...] = ()
    drive: str = ""
    id_address: int = 0
    id_mask: int = 0
    id_value: int = 0


@dataclass(frozen=True)
class Target:
    """A CPU or board.

    text: its file. memory and machine are None for the host and for WebAssembly; machine is QEMU's name of it, None
    without an emulator.
    parts: the folders beside the board's that its firmware is made of. images: formats written beside the ELF.
    run_from: where its code lies when it runs: "ram" is copied there at the start. power: a board's.
    log: where a board's log comes out, as a sentence.
    emulated_as: the target whose machine runs a board's recogniser. microphone, probe and uart_baud: a board's.
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
    parts: tuple[str, ...] = (SESSION_PART,)
    images: tuple[str, ...] = ()
    uart_baud: int | None = None
    run_from: str = "flash"
    log: str = ""
    power: Power | None = None
    microphone: Microphone | None = None
    probe: Probe | None = None
    emulated_as: str | None = None

    @property
    def is_board(self) -> bool:
        """Whether its firmware listens to a microphone."""
        return APPLICATION_PART in self.parts and SESSION_PART not in self.parts

    @property
    def program_name(self) -> str:
        """The file that is compiled for it."""
        return "firmware.wasm" if self.toolchain == WASM else "firmware.elf"


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
        data = read_document(path)
        values = parse_toml(data)
    except DocumentError as error:
        raise InputError(f"can't read the target ({path.name}): {error}", "start from one of targets/*.toml") from None
    table = _Table(values, path.name)
    memory = table.take("memory", dict, default=None)
    emulator = table.take("emulator", dict, default=None)
    source_table = _Table(table.take("sources", dict), f"{path.name}, [sources]")
    sources = {key: source_table.take(key, str) for key in list(source_table.rest)}
    microphone = table.take("microphone", dict, default=None)
    probe = table.take("probe", dict, default=None)
    power = table.take("power", dict, default=None)
    machine, emulated_as = _emulator(emulator, path.name)
    target = Target(
        name=table.take("name", str),
        description=table.take("description", str),
        cpu=table.take("cpu", str),
        toolchain=table.take("toolchain", str),
        compile_flags=table.texts("compile_flags"),
        optimization=table.take("optimization", str),
        board=table.take("board", str),
        kernels=table.take("kernels", str),
        clock_hz=table.take("clock_hz", int, default=None),
        memory=memory and _fields(Memory, memory, f"{path.name}, [memory]"),
        machine=machine,
        sources=tuple(sorted(sources.items())),
        text=data.decode(),
        parts=table.texts("parts", default=[SESSION_PART]),
        images=table.texts("images", default=[]),
        uart_baud=table.take("uart_baud", int, default=None),
        run_from=table.take("run_from", str, default="flash"),
        log=table.take("log", str, default=""),
        power=power and _fields(Power, power, f"{path.name}, [power]"),
        microphone=microphone and _fields(Microphone, microphone, f"{path.name}, [microphone]"),
        probe=probe and _probe(probe, f"{path.name}, [probe]"),
        emulated_as=emulated_as,
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
            raise InputError(f"a key is missing ({self.where}): need {key}", _HINT)
        value = self.rest.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"bad value ({self.where}, {key}): got {show(value)}, need {kind.__name__}", _HINT)
        if isinstance(value, str):
            self._check_text(key, value)
        return value

    def texts(self, key: str, **default: Any) -> tuple[str, ...]:
        """Return a list of texts."""
        values = self.take(key, list, **default)
        if len(values) > 64 or not all(isinstance(value, str) for value in values):
            raise InputError(f"bad value ({self.where}, {key}): got {show(values)}, need at most 64 strings", _HINT)
        for value in values:
            self._check_text(key, value)
        return tuple(values)

    def _check_text(self, key: str, value: str) -> None:
        """Refuse what could end a string, a comment or a line of a generated file, or begin a variable in one."""
        if len(value) > 1000 or not value.isprintable() or _UNSAFE.search(value):
            need = 'at most 1000 printable characters without ", \\, `, $ or */'
            raise InputError(f"bad value ({self.where}, {key}): got {show(value)}, need {need}", _HINT)

    def refuse_rest(self) -> None:
        if self.rest:
            raise InputError(f"unknown key ({self.where}): got {show(sorted(self.rest)[0])}", _HINT)


def _fields(kind: type, values: dict[str, Any], where: str) -> Any:
    """Return a dataclass of int and str fields from a table that has just these keys."""
    table = _Table(values, where)
    made = kind(
        **{field.name: table.take(field.name, int if field.type in (int, "int") else str) for field in fields(kind)}
    )
    table.refuse_rest()
    return made


def _probe(values: dict[str, Any], where: str) -> Probe:
    table = _Table(values, where)
    needed = {key: table.take(key, str) for key in ("name", "method", "chip")}
    usb, openocd = (table.texts(key, default=[]) for key in ("usb", "openocd"))
    drive = table.take("drive", str, default="")
    address, mask, value = (table.take(key, int, default=0) for key in ("id_address", "id_mask", "id_value"))
    table.refuse_rest()
    return Probe(**needed, usb=usb, openocd=openocd, drive=drive, id_address=address, id_mask=mask, id_value=value)


def _emulator(values: dict[str, Any] | None, name: str) -> tuple[str | None, str | None]:
    """Return the machine of a CPU target, or the target that a board is emulated as."""
    if values is None:
        return None, None
    table = _Table(values, f"{name}, [emulator]")
    machine = None if "target" in values else table.take("machine", str)
    emulated_as = table.take("target", str, default=None)
    table.refuse_rest()
    return machine, emulated_as


def _validate(target: Target, path: Path) -> Target:
    where = path.name

    def need(condition: bool, key: str, got: object, need: str) -> None:
        if not condition:
            raise InputError(f"bad value ({where}, {key}): got {show(got)}, need {need}", _HINT)

    need(target.name == path.stem, "name", target.name, f"the file's name, {path.stem!r}")
    need(target.toolchain in TOOLCHAINS, "toolchain", target.toolchain, " or ".join(TOOLCHAINS))
    for key in ("name", "cpu", "machine"):
        found = getattr(target, key)
        need(found is None or bool(_NAME.fullmatch(found)), key, found, "letters, digits, -, _, . and +")
    for flag in target.compile_flags:
        need(
            bool(_FLAG.fullmatch(flag)),
            "compile_flags",
            flag,
            "flags such as -mcpu=cortex-m4, nothing that needs quotes",
        )
    need(target.kernels in KERNEL_SETS, "kernels", target.kernels, " or ".join(KERNEL_SETS))
    folders = sorted(part_folders())
    need(target.board in folders, "board", target.board, " or ".join(folders))
    need(bool(target.parts) and set(target.parts) <= set(folders), "parts", target.parts, f"of {', '.join(folders)}")
    need(set(target.images) <= set(IMAGE_FORMATS), "images", target.images, f"of {', '.join(IMAGE_FORMATS)}")
    need(target.run_from in RUN_FROM, "run_from", target.run_from, " or ".join(RUN_FROM))
    need(target.uart_baud is None or 1200 <= target.uart_baud <= 10**7, "uart_baud", target.uart_baud, "1200 to 10^7")
    need(target.clock_hz is None or 1 <= target.clock_hz <= 10**10, "clock_hz", target.clock_hz, "1 to 10 GHz")
    need(target.optimization in ("-O2", "-O3", "-Os"), "optimization", target.optimization, "-O2, -O3 or -Os")
    if target.toolchain in BARE_METAL:
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
    if target.is_board:
        _validate_board(target, need)
    sourced = dict(target.sources)
    numbers = ("clock_hz", "memory", "uart_baud", "microphone", "power", "probe")
    for key, value in (("compile_flags", True), *((key, getattr(target, key)) for key in numbers)):
        need(value is None or key in sourced, "sources", sorted(sourced), f"where {key} is taken from")
    return target


def _validate_board(target: Target, need: Callable[[bool, str, object, str], None]) -> None:
    for key in ("microphone", "probe", "uart_baud"):
        need(getattr(target, key) is not None, key, None, "one, for a board that listens")
    need(target.emulated_as is not None, "emulator", None, "a table [emulator] with the CPU target to emulate it as")
    if target.power is not None:
        for key, most in (("cycles_per_instruction_milli", 20_000), ("interrupt_instructions_per_s", 10**9)):
            need(1 <= getattr(target.power, key) <= most, f"power.{key}", getattr(target.power, key), f"1 to {most}")
        for key in ("awake_ua", "asleep_ua", "microphone_ua"):
            need(0 <= getattr(target.power, key) <= 10**7, f"power.{key}", getattr(target.power, key), "0 to 10^7")
    microphone, probe = target.microphone, target.probe
    assert microphone is not None and probe is not None and target.emulated_as is not None
    need(1 <= microphone.clock_hz <= 10**7, "microphone.clock_hz", microphone.clock_hz, "1 Hz to 10 MHz")
    need(8000 <= microphone.sample_rate_hz <= 48000, "sample_rate_hz", microphone.sample_rate_hz, "8000 to 48000")
    need(0 <= microphone.gain_db <= 36, "gain_db", microphone.gain_db, "0 to 36 dB")
    need(probe.method in PROBE_METHODS, "probe.method", probe.method, " or ".join(PROBE_METHODS))
    for pattern in probe.usb:
        need(re.fullmatch(r"[0-9a-f]{4}:([0-9a-f]{4}|\*)", pattern) is not None, "probe.usb", pattern, '"2341:005a"')
    need(probe.id_value & ~probe.id_mask == 0, "probe.id_value", probe.id_value, "bits of id_mask")
    proof = targets_folder() / f"{target.emulated_as}.toml"
    need(
        Path(target.emulated_as).name == target.emulated_as and proof.is_file(),
        "emulator.target",
        target.emulated_as,
        "a shipped CPU target",
    )
    emulated = read_target(proof)
    same = (emulated.machine is not None, emulated.compile_flags, emulated.kernels, emulated.optimization)
    need(
        same == (True, target.compile_flags, target.kernels, target.optimization),
        "emulator.target",
        emulated.name,
        "a target with an emulator and with the same compile_flags, kernels and optimization",
    )


def emulation_note(target: Target) -> str:
    """Return what an emulator's run proves of a board."""
    return (
        f"{target.name} is emulated as {target.emulated_as}: the recogniser's library is the board's, the rest is not"
    )


def target_to_dict(target: Target) -> dict[str, Any]:
    """Return a target as JSON takes it."""
    values = dict(vars(target))
    for key in ("memory", "microphone", "probe", "power"):
        values[key] = dict(vars(values[key])) if values[key] else None
    values["sources"] = dict(target.sources)
    for key in ("flash_bytes", "ram_bytes"):
        values[key] = getattr(target.memory, key) if target.memory else None
    del values["text"]
    return values


def render_targets(targets: list[Target]) -> str:
    """Return a table: name, CPU, flash, RAM, clock, microphone, probe, emulator, description."""
    rows = [("target", "cpu", "flash", "RAM", "clock", "microphone", "probe", "emulator", "what it is")]
    for target in targets:
        memory = target.memory
        rows.append(
            (
                target.name,
                target.cpu,
                f"{memory.flash_bytes >> 10:,} KB" if memory else "-",
                f"{memory.ram_bytes >> 10:,} KB" if memory else "-",
                f"{target.clock_hz / 1e6:g} MHz" if target.clock_hz else "-",
                target.microphone.part if target.microphone else "-",
                target.probe.name if target.probe else "-",
                target.machine or (f"as {target.emulated_as}" if target.emulated_as else "-"),
                target.description,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
