"""Engines that hear continuous audio as it comes: samples in, decisions out, each as soon as it is due.

The C is called by the names of firmware_templates/parts/live/mbx_live.h: in a shared library, or as WebAssembly.
"""

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from mbx_deploy.codegen.layouts import SOURCE_FOLDERS
from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES, Files, generate_project
from mbx_deploy.codegen.target import WASM, find_target
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.engines.browser import BROWSER, compile_module
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.firmware.folder import Build, load_hearing_build
from mbx_deploy.live.decisions import Decision
from mbx_deploy.live.simulated import SimListener
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.sim.decision import Event
from mbx_deploy.system.resources import resolve_model
from mbx_deploy.system.tools import compile_shared_library
from mbx_deploy.system.webassembly import Module

OK, WINDOW_READY = 0, 1
NO_WORD = 0xFFFF
RESULT = struct.Struct("<4IQ")  # MBX_LIVE_RESULTS
ADDRESSES = ("samples", "result", "logits", "posteriors")
LIVE_SOURCES = ("board/mbx_live.c", "board/mbx_live.h", "board/main.c")


class Listener(Protocol):
    """Hears continuous audio. name: the engine's."""

    name: str

    def feed(self, samples: np.ndarray) -> list[Decision]:
        """Return the decisions that are due in these samples, int16 (n,)."""

    def lose(self, count: int) -> None:
        """Count samples that never arrived, so that times stay right."""


class _Calls(Protocol):
    """Functions of the C by name, and its memory by address."""

    def call(self, name: str, *arguments: int) -> int: ...

    def read(self, start: int, count: int) -> bytes: ...

    def write(self, start: int, data: bytes) -> None: ...


class Library:
    """The C as a shared library of this machine."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name in ADDRESSES:
            getattr(self._library, f"mbx_live_{name}").restype = ctypes.c_void_p

    def call(self, name: str, *arguments: int) -> int:
        """Return what a function returns."""
        return int(getattr(self._library, name)(*map(ctypes.c_uint32, arguments)))

    def read(self, start: int, count: int) -> bytes:
        """Return bytes at an address."""
        return ctypes.string_at(start, count)

    def write(self, start: int, data: bytes) -> None:
        """Put bytes at an address."""
        ctypes.memmove(start, data, len(data))


class LiveListener:
    """The generated C, in a shared library or as WebAssembly; one at a time of each."""

    def __init__(self, name: str, calls: _Calls, classes: int) -> None:
        """Raises CheckFailed where it does not start."""
        self.name = name
        self._calls, self._classes = calls, classes
        if self._call("begin") != OK:
            raise CheckFailed(f"the recogniser does not start ({name})")
        self._samples, self._capacity = self._call("samples"), self._call("capacity")

    def feed(self, samples: np.ndarray) -> list[Decision]:
        """Return the decisions that are due in these samples, int16 (n,)."""
        decisions = []
        for start in range(0, len(samples), self._capacity):
            part = np.ascontiguousarray(samples[start : start + self._capacity], "<i2")
            self._calls.write(self._samples, part.tobytes())
            done = 0
            while done < len(part):
                status = self._call("feed", done, len(part) - done)
                done += self._call("consumed")
                if status == WINDOW_READY:
                    decisions.append(self._run())
                elif status != OK:
                    raise CheckFailed(f"the recogniser takes no samples ({self.name}): status {status}")
        return decisions

    def lose(self, count: int) -> None:
        """Count samples that never arrived."""
        self._call("lose", count)

    def _run(self) -> Decision:
        if self._call("run") != OK:
            raise CheckFailed(f"the recogniser does not run ({self.name})")
        label, score, word, mean, samples = RESULT.unpack(self._calls.read(self._call("result"), RESULT.size))
        logits = np.frombuffer(self._calls.read(self._call("logits"), self._classes), "<i1")
        posteriors = np.frombuffer(self._calls.read(self._call("posteriors"), 2 * self._classes), "<u2")
        event = None if word == NO_WORD else Event(word, mean, samples)
        return Decision(samples, label, score, logits, posteriors.astype(np.int32), event)

    def _call(self, name: str, *arguments: int) -> int:
        return self._calls.call(f"mbx_live_{name}", *arguments)


def _library_sources(model: CompiledModel, build: Build | None) -> dict[str, str]:
    """Return {path: text} of the C of a recogniser that Python hears with; of a build its own."""
    target, files = find_target(BROWSER), Files()
    if build is not None:
        files = build.sources
    stride = build.stride_frames if build else min(DEFAULT_STRIDE_FRAMES, model.config.audio_frames)
    prefix = build.prefix if build else "kws"
    made = generate_project(model, target, prefix, stride)
    made = {name: text for name, text in made.items() if name.startswith(SOURCE_FOLDERS) or name in LIVE_SOURCES}
    if files:
        made = {name: text for name, text in made.items() if not name.startswith(SOURCE_FOLDERS)}
        made |= {name: text for name, text in files.items() if name.startswith(SOURCE_FOLDERS)}
    return {name: text for name, text in made.items() if isinstance(text, str) and name.endswith((".c", ".h"))}


def _open_c(model: CompiledModel, build: Build | None) -> Listener:
    path = compile_shared_library(_library_sources(model, build))
    return LiveListener("c", Library(path), len(model.labels))


def _open_browser(model: CompiledModel, build: Build | None) -> Listener:
    if build is not None and build.target.toolchain != WASM:
        raise InputError(
            f"the engine browser takes a model, or a build for the browser: got one for {build.target.name}",
            "take --engine c, or build it with --target browser",
        )
    module = compile_module(model) if build is None else build.elf
    return LiveListener("browser", Module(module.read_bytes()), len(model.labels))


def _open_sim(model: CompiledModel, build: Build | None) -> Listener:
    return SimListener(model, build.stride_frames if build else DEFAULT_STRIDE_FRAMES)


# Those that can take audio as it comes; the others run what is whole.
LISTENERS: dict[str, Callable[[CompiledModel, Build | None], Listener]] = {
    "c": _open_c,
    "sim": _open_sim,
    "browser": _open_browser,
}


def open_listener(
    model: str | None, engine: str | None, forward: str | None, note: Callable[[str], None]
) -> tuple[Listener, CompiledModel]:
    """Return what hears, and its model: of a build's folder, a .tflite, a .nemo or a shipped model's name; without
    one the shipped model.

    engine: of LISTENERS; without it c, of a build for the browser browser. Raises InputError for a bad model, or an
    engine that does not take it, ToolMissing where this machine can't run it.
    """
    path = resolve_model(model)
    build = load_hearing_build(path) if path.is_dir() else None
    found = build.model if build is not None else load_model(artifact_of(path, forward, note))
    own = "browser" if build is not None and build.target.toolchain == WASM else "c"
    found.config  # noqa: B018  # raises InputError for a network alone
    return LISTENERS[engine or own](found, build), found
