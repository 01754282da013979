"""TFLite Micro for a target: finds its checkouts, compiles it once, and measures what memory it needs there.

The static library is kept in the cache, by the target's flags, the kernels, and the checkouts' files as they are.
"""

import hashlib
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import Target, find_target
from mbx_deploy.codegen.tflm import MEASURE_ENGINE_BYTES, TflmSizes, measured_arena_bytes
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.firmware.memory import memory_needs
from mbx_deploy.network.stripped import bare_network
from mbx_deploy.system.cache import cached
from mbx_deploy.system.files import write_folder
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import find_tool, need_tool, run_tool

ARENA_MARGIN_BYTES = 256
MEASURE_STACK_BYTES = 16384
STACK_MARGIN_BYTES = 2048  # for main and the session above the network, whose block of audio takes 1 KB, and interrupts
MEASURE_LIMIT_S = 120.0
# What an instance keeps beside its arena on a 32-bit core: struct mbx_model, or of a network alone struct mbx_network.
MODEL_STRUCT_BYTES, NETWORK_STRUCT_BYTES = 56, 32

# Each checkout: CMake's variable, and a file that it must hold. MBX_ and the variable is its environment variable.
_HOLDS = {
    "TFLM_DIR": ("TFLite Micro", "tensorflow/lite/micro/micro_interpreter.h"),
    "FLATBUFFERS_DIR": ("flatbuffers", "include/flatbuffers/flatbuffers.h"),
    "GEMMLOWP_DIR": ("gemmlowp", "fixedpoint/fixedpoint.h"),
    "RUY_DIR": ("ruy", "ruy/profiler/instrumentation.h"),
    "CMSIS_NN_DIR": ("CMSIS-NN", "Include/arm_nnfunctions.h"),
}
_OPTIONAL = ("CMSIS_NN_DIR",)
_SOURCES = (".h", ".hpp", ".inc", ".c", ".cc", ".cpp", "CMakeLists.txt")

# Of a project that is not compiled here: ample for networks of this kind, and checked by init.
UNMEASURED = TflmSizes(1 << 16, MEASURE_ENGINE_BYTES)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Checkouts:
    """folders: by CMake's variable. missing: variables that are not given; the project is not compiled then."""

    folders: dict[str, Path]
    missing: tuple[str, ...]

    @property
    def definitions(self) -> list[str]:
        """The options that CMake takes."""
        return [f"-D{variable}={folder}" for variable, folder in sorted(self.folders.items())]


@dataclass(frozen=True)
class Measured:
    """Bytes, measured on the target's core. arena: the smallest that works; stack: the deepest seen, 0: not seen."""

    arena: int
    used: int
    engine: int
    stack: int

    @property
    def sizes(self) -> TflmSizes:
        """What the firmware gets: the arena with its margin."""
        return TflmSizes(self.arena + ARENA_MARGIN_BYTES, self.engine)


def find_checkouts(given: dict[str, Path | None]) -> Checkouts:
    """Return where TFLite Micro and what it needs lie: as given by CMake's variable, else by the environment.

    Raises InputError for a folder that does not hold what it should.
    """
    folders, missing = {}, []
    for variable, (what, file) in _HOLDS.items():
        environment = os.environ.get(f"MBX_{variable}")
        option = f"--{variable.lower().replace('_', '-')}"
        folder = given.get(variable) or (Path(environment) if environment else None)
        if folder is None:
            missing += [] if variable in _OPTIONAL else [variable]
        elif not (folder / file).is_file():
            raise InputError(
                f"not a checkout of {what} ({option}): {folder} holds no {file}",
                f"give the folder that git clone of {what} made, by {option} or MBX_{variable}",
            )
        else:
            folders[variable] = folder.resolve()
    return Checkouts(folders, tuple(missing))


def missing_for_tflm(target: Target, checkouts: Checkouts) -> list[str]:
    """Return what compiling TFLite Micro for a target lacks on this machine."""
    compiler = "g++" if target.toolchain == "host" else f"{target.toolchain}-g++"
    lacks = [] if find_tool(compiler) else [compiler]
    if not lacks and not _has_cpp_library(compiler, target):
        lacks.append("libstdc++" if target.toolchain == "host" else "libstdc++-arm-none-eabi-newlib")
    return lacks + [f"a checkout of {_HOLDS[variable][0]} (MBX_{variable})" for variable in checkouts.missing]


def _has_cpp_library(compiler: str, target: Target) -> bool:
    command = [compiler, *target.compile_flags, "-fsyntax-only", "-x", "c++", "-"]
    done = subprocess.run(command, input="#include <cstdint>\n#include <algorithm>\n", text=True, capture_output=True)
    return done.returncode == 0


def tflm_definitions(checkouts: Checkouts, library: Path) -> list[str]:
    """Return the options that CMake takes for a project with a library that is compiled already."""
    return [f"-DTFLM_LIBRARY={library}", *checkouts.definitions]


def tflm_library(files: dict[str, str | bytes], checkouts: Checkouts) -> Path:
    """Return TFLite Micro's static library for a project, compiled unless the cache has it.

    Raises MbxError with the compiler's first error.
    """
    names = [name for name in ("tflm/CMakeLists.txt", "toolchain.cmake") if name in files]
    sources: dict[str, str | bytes] = {name: files[name] for name in names}
    key = hashlib.sha256(repr((sorted(sources.items()), checkouts.definitions)).encode())
    for folder in checkouts.folders.values():
        for line in _listing(folder):
            key.update(line.encode())

    def make() -> bytes:
        with scratch_folder() as scratch:
            write_folder(scratch / "source", sources)
            binary = scratch / "build"
            generator = "Ninja" if find_tool("ninja") else "Unix Makefiles"
            configure = ["cmake", "-G", generator, "-S", str(scratch / "source" / "tflm"), "-B", str(binary)]
            run_tool([*configure, *checkouts.definitions], what="configuring TFLite Micro")
            jobs = str(os.cpu_count() or 1)
            command = ["cmake", "--build", str(binary), "--parallel", jobs]
            run_tool(command, what="compiling TFLite Micro", timeout_s=3600.0)
            return (binary / "libtflm.a").read_bytes()

    return cached(f"tflm-{key.hexdigest()[:32]}", ".a", make)


def _listing(folder: Path) -> Iterator[str]:
    """Yield a line for each source of a checkout, by which a changed one is told: path, size and time of change."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(_SOURCES):
                found = os.stat(os.path.join(place, name))
                yield f"{place}/{name} {found.st_size} {found.st_mtime_ns}\n"


def measure_tflm(model: CompiledModel, target: Target, checkouts: Checkouts, progress: Progress) -> Measured:
    """Return what TFLite Micro needs for a model on a target's core, measured in its emulator, or here for the host.

    Raises ToolMissing where the target has no emulator or QEMU is missing; CheckFailed where the interpreter refuses
    the model.
    """
    roomy = UNMEASURED
    machine = find_target(target.emulated_as) if target.emulated_as else target
    # The same core with an emulator's memory: a board's own may be too small to try arenas in.
    if machine.memory is not None:
        stack = max(machine.memory.stack_bytes, MEASURE_STACK_BYTES)
        machine = replace(machine, memory=replace(machine.memory, stack_bytes=stack))
    machine = replace(machine, compile_flags=target.compile_flags)
    files = generate_project(model, machine, tflm=roomy)
    progress("compiling TFLite Micro, which takes a while the first time")
    library = tflm_library(files, checkouts)
    with scratch_folder() as temporary:
        source, binary = Path(temporary) / "project", Path(temporary) / "build"
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content.encode() if isinstance(content, str) else content)
        generator = "Ninja" if find_tool("ninja") else "Unix Makefiles"
        options = tflm_definitions(checkouts, library)
        run_tool(
            ["cmake", "-G", generator, "-S", str(source), "-B", str(binary), *options], what="configuring the project"
        )
        run_tool(["cmake", "--build", str(binary), "--target", "measure"], what="compiling the measurement")
        answer = _run(binary / "measure.elf", machine, Path(temporary))
    if len(answer) != 16:
        raise CheckFailed("the measurement of TFLite Micro's memory gave no answer")
    arena, used, engine, stack = struct.unpack("<4I", answer)
    if arena == 0:
        most = measured_arena_bytes(machine)
        raise CheckFailed(f"TFLite Micro refuses the model: it can't be set up in any arena up to {most:,} bytes")
    lacking = 0
    if model.hearing is not None:
        # Between inferences the front end works at the arena's beginning, where TFLite Micro keeps tensors only.
        config = model.hearing.config
        lacking = max(0, 8 * (config.n_fft // 2 + 1 + config.n_mels) - model.input.size)
    return Measured(-(-(arena + lacking) // 16) * 16, used, -(-engine // 16) * 16, stack)


def with_stack(target: Target, measured: Measured) -> Target:
    """Return a target whose stack holds what was measured and a margin."""
    if target.memory is None:
        return target
    need = -(-(measured.stack + STACK_MARGIN_BYTES) // 8) * 8
    return replace(target, memory=replace(target.memory, stack_bytes=max(target.memory.stack_bytes, need)))


def _struct_bytes(model: CompiledModel) -> int:
    return MODEL_STRUCT_BYTES if model.hearing else NETWORK_STRUCT_BYTES


def check_tflm_fit(model: CompiledModel, target: Target, measured: Measured) -> None:
    """Raise InputError where a model on TFLite Micro can't fit the target's RAM, naming what takes how much."""
    if target.memory is None:
        return
    needs = memory_needs(model.for_kernels(target.kernels))
    rest, stack = needs.instance - needs.arena + _struct_bytes(model), target.memory.stack_bytes
    sizes = measured.sizes
    ram = sizes.arena + sizes.engine + rest + stack
    if ram > target.memory.ram_bytes:
        raise InputError(
            f"the model on TFLite Micro does not fit the RAM of {target.name}: need {ram:,} bytes (arena "
            f"{sizes.arena:,} + interpreter {sizes.engine:,} + features and audio {rest:,} + stack {stack:,}), "
            f"have {target.memory.ram_bytes:,}",
            "build without --runtime tflm, or use fewer filters or a larger target",
        )


def tflm_report(
    report: dict[str, Any], model: CompiledModel, sizes: TflmSizes, measured: Measured | None
) -> dict[str, Any]:
    """Return a memory report of the C runtime as one of TFLite Micro, which plans its arena itself."""
    ram = report["ram"]
    other = ram["instance_bytes"] - ram["arena_bytes"]
    peak = {
        "call": "TFLite Micro's own plan, its bookkeeping included"
        if measured
        else "no measurement: not compiled here",
        "bytes": measured.used if measured else sizes.arena,
    }
    return report | {
        "runtime": "tflm",
        "arena": {"bytes": sizes.arena, "peak": peak, "buffers": []},
        "arena_measured_bytes": measured.arena if measured else None,
        "arena_margin_bytes": ARENA_MARGIN_BYTES if measured else None,
        "ram": ram
        | {
            "arena_bytes": sizes.arena,
            "engine_bytes": sizes.engine,
            "instance_bytes": other + sizes.arena + sizes.engine + _struct_bytes(model),
        },
        "flash": report["flash"] | {"weights_bytes": len(bare_network(model.data))},
    }


def _run(program: Path, machine: Target, folder: Path) -> bytes:
    command = [str(program)]
    if machine.toolchain != "host":
        if machine.machine is None:
            raise ToolMissing(f"the target {machine.name} has no emulator to measure in", "build for another target")
        emulator = need_tool("qemu-system-arm", "measure what memory TFLite Micro needs")
        command = [emulator, "-M", machine.machine, "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(program)]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=MEASURE_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the measurement of TFLite Micro did not end within {MEASURE_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CheckFailed(f"the measurement of TFLite Micro failed: {lines[-1] if lines else done.returncode}")
    response = folder / "mbx-response.bin"
    return done.stdout if machine.toolchain == "host" else response.read_bytes() if response.exists() else b""
