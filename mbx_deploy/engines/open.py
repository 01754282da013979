"""The engines by name: what each makes, what it takes, and how it is opened. Command-line choices come from here.

A new engine: its file in this folder, and an EngineKind below. Nothing heavy is imported before an engine is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mbx_deploy.errors import InputError, ToolMissing

if TYPE_CHECKING:
    from mbx_deploy.compiler.model import CompiledModel
    from mbx_deploy.engines.engine import Engine
    from mbx_deploy.firmware.folder import Build
    from mbx_deploy.serial.link import Link

# What an engine makes: the same bytes as all that make them, or logits in floating point.
BYTES, FLOATS = "bytes", "floats"
# What it takes: a compiled model, a build's folder, a checkpoint of training, a device at the end of a line.
MODEL, BUILD, CHECKPOINT, DEVICE = "model", "build", "checkpoint", "device"
WASM = "wasm"  # target.WASM, whose module is not imported here


@dataclass(frozen=True)
class Source:
    """What an engine is opened on. build: of the model, where there is one. link: to a device that runs it."""

    model: CompiledModel
    build: Build | None = None
    link: Link | None = None


@dataclass(frozen=True)
class EngineKind:
    """name: on the command line. makes: BYTES or FLOATS. takes: of MODEL, BUILD, CHECKPOINT and DEVICE.

    open: makes the engine, with what it needs of a source; raises ToolMissing where this machine can't. None for what
    makes no bytes, see float.float_engine(). at_once: clips handed over at a time when many are measured: so few that
    an interruption is heard soon, so many that starting a program is cheap. threads: whether several may ask at a time.
    fast: whether thousands of clips take minutes at most. toolchain: of the only builds that it takes, whose program it
    runs in the place of the engine firmware; "" for all.
    """

    name: str
    makes: str
    takes: frozenset[str]
    open: Callable[[Source], Engine] | None
    at_once: int
    threads: bool = True
    fast: bool = False
    toolchain: str = ""


def _stride(source: Source) -> int:
    from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES

    return source.build.stride_frames if source.build else DEFAULT_STRIDE_FRAMES


def _open_sim(source: Source) -> Engine:
    from mbx_deploy.engines.sim import SimEngine

    return SimEngine(source.model, _stride(source))


def _open_c(source: Source) -> Engine:
    from mbx_deploy.engines.c import HostEngine

    return HostEngine(source.model, source.build.sources if source.build else None)


def _open_firmware(source: Source) -> Engine:
    from mbx_deploy.engines.firmware import build_engine

    if source.build is None:
        raise ValueError("the engine firmware needs a build")
    return build_engine(source.build)


def _open_browser(source: Source) -> Engine:
    from mbx_deploy.engines.browser import BrowserEngine, compile_module

    if source.build is None:
        return BrowserEngine(source.model, compile_module(source.model))
    if source.build.target.toolchain != WASM:
        raise InputError(
            f"the engine browser takes a model, or a build for the browser: got one for {source.build.target.name}",
            "build it with --target browser",
        )
    return BrowserEngine(source.model, source.build.elf)


def _open_tflm(source: Source) -> Engine:
    from mbx_deploy.engines.tflm import TflmEngine

    return TflmEngine(source.model, _stride(source))


def _open_device(source: Source) -> Engine:
    from mbx_deploy.codegen.manifest import build_digest
    from mbx_deploy.engines.device import DeviceEngine

    if source.link is None or source.build is None:
        raise ValueError("the engine device needs a build, and a link to what runs it")
    build = source.build
    return DeviceEngine(
        source.model, source.link, build_digest(build.model, build.target, build.prefix, build.stride_frames)
    )


REFERENCE, FIRMWARE = "sim", "firmware"  # what the others are compared with; the program of a build
ENGINES = (
    EngineKind("sim", BYTES, frozenset((MODEL, BUILD)), _open_sim, 8),
    EngineKind("c", BYTES, frozenset((MODEL, BUILD)), _open_c, 100, fast=True),
    EngineKind(FIRMWARE, BYTES, frozenset((BUILD,)), _open_firmware, 12),
    EngineKind("browser", BYTES, frozenset((MODEL, BUILD)), _open_browser, 100, toolchain=WASM),
    EngineKind("tflm", BYTES, frozenset((MODEL, BUILD)), _open_tflm, 20, threads=False),  # it keeps its state
    EngineKind("float", FLOATS, frozenset((MODEL, BUILD, CHECKPOINT)), None, 32, fast=True),
    EngineKind("device", BYTES, frozenset((DEVICE,)), _open_device, 1, threads=False),
)


def find_engine(name: str) -> EngineKind:
    """Return the kind of an engine. Raises InputError for a name that is none."""
    for kind in ENGINES:
        if kind.name == name:
            return kind
    raise InputError(f"no engine of that name: got {name!r}, need one of {', '.join(kind.name for kind in ENGINES)}")


def engine_names(*takes: str) -> list[str]:
    """Return the names of the engines that take one of the things: MODEL, BUILD, CHECKPOINT, DEVICE."""
    return [kind.name for kind in ENGINES if kind.takes & set(takes)]


def open_engine(name: str, source: Source) -> Engine:
    """Return an engine that makes bytes. Raises InputError, or ToolMissing where this machine can't run it."""
    kind = find_engine(name)
    if kind.open is None:
        raise InputError(f"the engine {name} makes no bytes to compare: got {name}, need another one")
    return kind.open(source)


def build_engines(build: Build, link: Link | None = None) -> tuple[list[Engine], dict[str, str]]:
    """Return the engines that this machine can run on a build, the simulator first, and why others are left out.

    With a link: the simulator and the device at its other end. A build without firmware is no error.
    Raises ToolMissing where there is nothing to compare the simulator with.
    """
    source = Source(build.model, build, link)
    engines, skipped = [open_engine(REFERENCE, source)], {}
    takes = DEVICE if link is not None else BUILD
    program = next((kind.name for kind in ENGINES if kind.toolchain == build.target.toolchain), FIRMWARE)
    for kind in ENGINES:
        if kind.open is None or kind.name == REFERENCE or takes not in kind.takes:
            continue
        if (kind.toolchain or kind.name == FIRMWARE) and kind.name != program:
            continue
        try:
            engines.append(kind.open(source))
        except ToolMissing as error:
            skipped[kind.name] = error.what
        except InputError as error:
            if kind.name != program:
                raise
            skipped[kind.name] = error.what
    if len(engines) == 1:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ToolMissing(f"nothing to compare the simulator with: {why}", "mbx-deploy doctor names what to install")
    return engines, skipped
