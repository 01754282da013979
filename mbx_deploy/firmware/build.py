"""A model and a target -> a C project, compiled where the compiler is installed.

The folder appears whole or not at all.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbx_deploy.codegen.calls import SHIFT_FUNCTION, STEP_PREFIX
from mbx_deploy.codegen.layouts import CMAKE, LAYOUTS
from mbx_deploy.codegen.project import generate_project, make_manifest, session_main
from mbx_deploy.codegen.target import EMULATOR_ELF_NAME, Target, read_target
from mbx_deploy.codegen.tflm import used_ops
from mbx_deploy.compiler.kernels.choice import PORTABLE
from mbx_deploy.compiler.model import Recognizer, load_recognizer, parse_recognizer
from mbx_deploy.compiler.network_model import Network
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.budgets import NO_BUDGETS, Budgets
from mbx_deploy.firmware.image import FlashImage, read_flash_image, to_bin, to_hex, to_uf2
from mbx_deploy.firmware.memory import check_fit, elf_sizes, memory_report, render_report, stack_bound
from mbx_deploy.firmware.tflm import (
    UNMEASURED,
    Checkouts,
    Measured,
    check_tflm_fit,
    measure_tflm,
    missing_for_tflm,
    tflm_definitions,
    tflm_library,
    tflm_report,
    with_stack,
)
from mbx_deploy.frontend.tables import FrontendConfig
from mbx_deploy.system.files import cannot_write, check_folder, write_folder
from mbx_deploy.system.tools import find_tool, run_tool

DEFAULT_STRIDE_MS = 250
DEFAULT_PREFIX = "kws"
ELF_NAME = "firmware.elf"
INDIRECT_FUNCTIONS = ("invoke", "observe", "keep_checksum", SHIFT_FUNCTION, f"{STEP_PREFIX}*")
INTERRUPT_PREFIX = "mbx_interrupt_"
RESET_FUNCTION = "mbx_reset"  # where a core begins, and main() is called
STACK_ASSERTION = "the RAM is too small for the data and the stack"  # what linker.ld.j2 asserts

Progress = Callable[[str], None]
Count = Callable[[Recognizer | Network, Path, Target], int]  # the instructions of an inference


@dataclass(frozen=True)
class BuildReport:
    """folder: the project.

    elf: the firmware, or None with the names of the tools that are missing. memory: the report.
    """

    folder: Path
    target: str
    elf: Path | None
    missing_tools: tuple[str, ...]
    memory: dict[str, Any]
    layout: str = CMAKE
    runtime: str = "c"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return {
            "folder": str(self.folder),
            "target": self.target,
            "layout": self.layout,
            "runtime": self.runtime,
            "elf": str(self.elf) if self.elf else None,
            "missing_tools": list(self.missing_tools),
            "memory": self.memory,
        }


def build(
    model: Path,
    target: Target,
    folder: Path,
    prefix: str = DEFAULT_PREFIX,
    stride_ms: int | None = None,
    progress: Progress = lambda line: None,
    budgets: Budgets = NO_BUDGETS,
    layout: str = CMAKE,
    checkouts: Checkouts | None = None,
    count: Count | None = None,
) -> BuildReport:
    """Write the project of a model for a target, compile it, and return what it needs.

    model: a .tflite, or a .nemo, which is converted; forward: which of NeMo's forward passes that is taken for.
    folder: made, or replaced if it is an earlier build. stride_ms: between the windows of continuous audio. layout: of
    layouts.NAMES; only CMake's is compiled here. Where the target's compiler or CMake is missing the C project is
    written all the same, unless there are budgets to keep. checkouts: of TFLite Micro, which the network runs on then.
    Raises InputError for a bad model, a target that it does not fit, a layout that budgets can't be measured of, or a
    folder that can't be written; CheckFailed where a budget is exceeded. The folder stays as it was then.
    """
    check_folder(folder)
    if budgets != NO_BUDGETS:
        if layout != CMAKE:
            raise InputError(f"no budgets for the layout {layout}: it is compiled by its own tools", "build for cmake")
        need_compiler(target)
    recognizer = load_recognizer(model)
    if layout in LAYOUTS and LAYOUTS[layout].portable and target.kernels != PORTABLE:
        progress(f"the layout {layout} is for other cores than Arm's: it takes the portable kernels")
        target = replace(target, kernels=PORTABLE)
    check_fit(recognizer, target)
    stride_frames = stride_in_frames(recognizer.config, stride_ms)
    missing = missing_tools(target) if layout == CMAKE else []
    measured, options = None, []
    if checkouts is not None:
        if layout != CMAKE:
            raise InputError(f"no TFLite Micro in the layout {layout}: it is compiled by its own tools", "use cmake")
        used_ops(recognizer)
        missing += missing_for_tflm(target, checkouts)
        if missing and budgets != NO_BUDGETS:
            raise ToolMissing(f"budgets of a firmware on TFLite Micro can't be checked: {missing[0]} is missing")
        measured = measure_tflm(recognizer, target, checkouts, progress) if not missing else None
    sizes = None if checkouts is None else measured.sizes if measured else UNMEASURED
    if measured:
        target = with_stack(target, measured)
        check_tflm_fit(recognizer, target, measured)
    files = generate_project(recognizer, target, prefix, stride_frames, layout, sizes)
    progress(f"generated {len(files)} files for {target.name}")
    compiled = None
    compiles = layout == CMAKE and not missing
    if compiles:
        progress("compiling")
        if checkouts is not None:
            options = tflm_definitions(checkouts, tflm_library(files, checkouts))
        binaries, compiled = compile_project(files, target, options, measured)
        check_compiled(compiled, target)
        check_budgets(budgets, recognizer, target, binaries, compiled, count)
    report = memory_report(recognizer, target, compiled)
    if sizes is not None:
        report = tflm_report(report, recognizer, sizes, measured)
    files["memory_report.json"] = json.dumps(report, indent=2, sort_keys=True) + "\n"
    files["memory_report.txt"] = render_report(report)
    if compiles:
        files |= binaries
    runtime = "c" if sizes is None else "tflm"
    files["manifest.json"] = make_manifest(files, recognizer, target, prefix, stride_frames, layout, runtime)
    write_folder(folder, files)
    elf = folder / ELF_NAME if compiles else None
    return BuildReport(folder, target.name, elf, tuple(missing), report, layout, runtime)


def stride_in_frames(config: FrontendConfig, stride_ms: int | None) -> int:
    """Return the frames between windows; without stride_ms those nearest to DEFAULT_STRIDE_MS.

    Raises InputError unless stride_ms is a number of whole frames, at most a window.
    """
    if stride_ms is None:
        nearest = round(DEFAULT_STRIDE_MS * config.sample_rate_hz / (1000 * config.hop_length))
        return min(max(1, nearest), config.audio_frames)
    frames, rest = divmod(stride_ms * config.sample_rate_hz, 1000 * config.hop_length)
    if rest or not 1 <= frames <= config.audio_frames:
        hop_ms = 1000 * config.hop_length / config.sample_rate_hz
        need = f"a multiple of {hop_ms:g} ms up to {hop_ms * config.audio_frames:g}"
        hint = f"without it the stride is that nearest to {DEFAULT_STRIDE_MS} ms"
        raise InputError(f"bad stride between windows (--stride-ms): got {stride_ms}, need {need}", hint)
    return frames


def missing_tools(target: Target) -> list[str]:
    """Return the names of the programs that compiling for a target needs and that are not installed."""
    compiler = "gcc" if target.toolchain == "host" else f"{target.toolchain}-gcc"
    missing = [tool for tool in (compiler, "cmake") if find_tool(tool) is None]
    if not find_tool("ninja") and not find_tool("make"):
        missing.append("make")
    return missing


def need_compiler(target: Target) -> None:
    """Raise ToolMissing unless a target can be compiled for here, which its budgets can't be checked without."""
    missing = missing_tools(target)
    if missing:
        raise ToolMissing(
            f"budgets of a firmware for {target.name} can't be checked: {' and '.join(missing)} not installed",
            "mbx-deploy doctor names the line that installs it",
        )


def compile_project(
    files: dict[str, str | bytes], target: Target, options: Sequence[str] = (), measured: Measured | None = None
) -> tuple[dict[str, str | bytes], dict[str, int]]:
    """Return the ELF and its map, and sizes in bytes: the project's own CMakeLists.txt, run in a temporary folder."""
    generator = "Ninja" if find_tool("ninja") else "Unix Makefiles"
    try:
        with tempfile.TemporaryDirectory(prefix="mbx-build-") as temporary:
            source, binary, what = Path(temporary) / "project", Path(temporary) / "build", "configuring the project"
            write_folder(source, files)
            run_tool(["cmake", "-G", generator, "-S", str(source), "-B", str(binary), *options], what=what)
            jobs = str(os.cpu_count() or 1)
            run_tool(
                ["cmake", "--build", str(binary), "--parallel", jobs],
                what="compiling the project",
                explain=lambda output: too_large(output, target),
            )
            size_tool = "size" if target.toolchain == "host" else f"{target.toolchain}-size"
            table = run_tool([size_tool, "-A", str(binary / ELF_NAME)], what="measuring the firmware").stdout
            compiled = elf_sizes(table)
            if measured is None:
                graphs = [path.read_text() for path in sorted(binary.rglob("*.ci"))]
                root = "main" if target.toolchain == "host" else RESET_FUNCTION
                compiled["stack_bound_bytes"] = stack_bound(graphs, INDIRECT_FUNCTIONS, root, INTERRUPT_PREFIX)
            else:
                compiled["stack_measured_bytes"] = measured.stack
            made = (binary / name for name in (ELF_NAME, EMULATOR_ELF_NAME, "firmware.map"))
            results: dict[str, str | bytes] = {path.name: path.read_bytes() for path in made if path.exists()}
            return results | _images((binary / ELF_NAME).read_bytes(), target), compiled
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from None


def too_large(output: str, target: Target) -> InputError | None:
    """Return the error that a linker's output tells of, where a firmware does not fit its target's flash or RAM."""
    memory = target.memory
    if memory is None:
        return None
    hint = "use fewer filters or a larger target"
    found = re.search(r"region `(FLASH|RAM)' overflowed by (\d+) bytes", output)
    if found:
        name, have = ("flash", memory.flash_bytes) if found[1] == "FLASH" else ("RAM", memory.ram_bytes)
        need = f"need {have + int(found[2]):,} bytes{'' if name == 'flash' else ' without the stack'}"
        return InputError(f"the firmware does not fit the {name} of {target.name}: {need}, have {have:,}", hint)
    if STACK_ASSERTION in output:
        room = f"have {memory.ram_bytes:,} bytes, {memory.stack_bytes:,} of them for the stack"
        return InputError(f"the firmware and its stack do not fit the RAM of {target.name}: {room}", hint)
    return None


def _images(elf: bytes, target: Target) -> dict[str, str | bytes]:
    """Return the files that the target's tools write to its flash, by name."""
    makers: dict[str, Callable[[FlashImage], str | bytes]] = {"bin": to_bin, "hex": to_hex, "uf2": to_uf2}
    if not target.images:  # a program for this machine is no image of a flash
        return {}
    image = read_flash_image(elf)
    return {f"firmware.{kind}": makers[kind](image) for kind in target.images}


def check_compiled(compiled: dict[str, int], target: Target) -> None:
    """Raise InputError where what a compiled firmware needs of the stack is not there."""
    if target.memory is None or "stack_bound_bytes" not in compiled:
        return
    need, have = compiled["stack_bound_bytes"], target.memory.stack_bytes
    if need > have:
        raise InputError(
            f"the firmware does not fit the stack of {target.name}: need {need:,} bytes, have {have:,}",
            "raise stack_bytes in the target's file",
        )


def check_budgets(
    budgets: Budgets,
    model: Recognizer | Network,
    target: Target,
    binaries: dict[str, str | bytes],
    compiled: dict[str, int],
    count: Count | None,
) -> None:
    """Raise CheckFailed where a firmware exceeds a budget; ToolMissing where its instructions can't be counted.

    binaries: its ELF among them. compiled: bytes, measured in it.
    """
    needs: dict[str, int | None] = {name: compiled[name] for name in ("flash_bytes", "ram_bytes")}
    if budgets.instructions is not None:
        if count is None:
            raise ValueError("a budget of instructions needs a count")
        with tempfile.TemporaryDirectory(prefix="mbx-build-") as folder:
            write_folder(Path(folder) / "build", binaries)
            needs["instructions"] = count(model, Path(folder) / "build" / ELF_NAME, target)
    budgets.check(needs, target.name)


@dataclass(frozen=True)
class Build:
    """A folder that build() wrote, read back. files: its text files by relative path."""

    folder: Path
    recognizer: Recognizer
    target: Target
    stride_frames: int
    files: dict[str, str | bytes]
    layout: str = CMAKE
    runtime: str = "c"
    prefix: str = DEFAULT_PREFIX

    @property
    def sources(self) -> dict[str, str | bytes]:
        """The C of the build; of one on TFLite Micro, that which the same model is without it."""
        if self.runtime == "c":
            return self.files
        return generate_project(self.recognizer, self.target, self.prefix, self.stride_frames)

    @property
    def elf(self) -> Path:
        """The firmware. Raises InputError where the build has none."""
        if self.layout != CMAKE:
            what = (
                f"the build holds no firmware ({self.folder}): its layout, {self.layout}, is compiled by its own tools"
            )
            raise InputError(what, "build it again without --layout")
        return need_elf(self.folder)


def need_elf(folder: Path) -> Path:
    """Return the firmware of a build. Raises InputError where it has none."""
    path = folder / ELF_NAME
    if not path.is_file():
        raise InputError(
            f"the build holds no firmware ({folder}): it was made without a compiler",
            "mbx-deploy doctor names the line that installs one; then build again",
        )
    return path


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a build's manifest. Raises InputError for a folder that is no build, or a damaged one."""
    path = folder / "manifest.json"
    try:
        if not path.is_file():
            raise InputError(f"not a build ({folder}): it holds no manifest.json", "make one with mbx-deploy build")
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", "build it again") from None
    if not isinstance(manifest, dict):
        raise InputError(f"the build is damaged ({folder}): its manifest is no object", "build it again")
    return manifest


def read_sources(folder: Path, manifest: dict[str, Any]) -> dict[str, str | bytes]:
    """Return {path: text} of a build's C files, those inside it. Raises OSError, ValueError, KeyError or TypeError."""
    names = [str(name) for name in manifest["files"] if str(name).endswith((".c", ".h"))]
    inside = [name for name in names if (folder / name).resolve().is_relative_to(folder.resolve())]
    return {name: (folder / name).read_text() for name in inside}


def load_build(folder: Path) -> Build:
    """Return a build of a recogniser.

    Raises InputError for a folder that is none, or whose manifest is damaged, and for a network alone.
    """
    manifest = read_manifest(folder)
    if manifest.get("network_only"):
        raise InputError(
            f"the build holds a network without a front end ({folder}): it takes no recordings",
            "mbx-deploy verify compares it on inputs of int8",
        )
    try:
        target, stride = read_target(folder / f"{manifest['target']}.toml"), int(manifest["stride_frames"])
        files = read_sources(folder, manifest)
        data = (folder / "model.tflite").read_bytes()
        layout, runtime = str(manifest.get("layout", CMAKE)), str(manifest.get("runtime", "c"))
        if layout != CMAKE:  # its examples have a main() of their own
            files["board/main.c"] = session_main(str(manifest["prefix"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", "build it again") from None
    recognizer, prefix = parse_recognizer(data, str(folder / "model.tflite")), str(manifest["prefix"])
    return Build(folder, recognizer, target, stride, files, layout, runtime, prefix)
