"""A model and a target -> a C project, compiled where the compiler is installed.

The folder appears whole or not at all.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbx_deploy.codegen.layouts import CMAKE, LAYOUTS
from mbx_deploy.codegen.manifest import make_manifest
from mbx_deploy.codegen.page import render_page
from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES, Files, generate_project
from mbx_deploy.codegen.target import WASM, Target
from mbx_deploy.codegen.tflm import TflmSizes, used_ops
from mbx_deploy.compiler.kernels.choice import PORTABLE
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.budgets import NO_BUDGETS, Budgets
from mbx_deploy.firmware.compile import check_compiled, compile_project, missing_tools, need_compiler
from mbx_deploy.firmware.folder import DEFAULT_PREFIX, PAGE_NAME
from mbx_deploy.firmware.memory import check_fit, memory_report, render_report
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
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.program import multiply_accumulates
from mbx_deploy.system.files import check_folder, write_folder
from mbx_deploy.system.scratch import scratch_folder

DEFAULT_STRIDE_MS = 250

Progress = Callable[[str], None]
Count = Callable[[CompiledModel, Path, Target], int]  # the instructions of an inference


@dataclass(frozen=True)
class BuildReport:
    """folder: the project.

    elf: the firmware, or None with the names of the tools that are missing. memory: the report. page: of a build
    for the browser, that was compiled.
    """

    folder: Path
    target: str
    elf: Path | None
    missing_tools: tuple[str, ...]
    memory: dict[str, Any]
    layout: str = CMAKE
    runtime: str = "c"
    page: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return {
            "folder": str(self.folder),
            "target": self.target,
            "layout": self.layout,
            "runtime": self.runtime,
            "elf": str(self.elf) if self.elf else None,
            "page": str(self.page) if self.page else None,
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
    network_only: bool = False,
    step_frames: int | None = None,
) -> BuildReport:
    """Write the project of a model for a target, compile it, and return what it needs.

    model: a .tflite. folder: made, or replaced if it is an earlier build. stride_ms: between the windows of continuous
    audio. layout: of layouts.NAMES; only CMake's is compiled here. Where the target's compiler or CMake is missing the
    C project is written all the same, unless there are budgets to keep. checkouts: of TFLite Micro, which the network
    runs on then. network_only: its network alone, whatever else the file holds. step_frames: it streams, so many frames
    a run; a model that says that it streams needs none.
    Raises InputError for a bad model, a target that it does not fit, a layout that budgets can't be measured of, or a
    folder that can't be written; CheckFailed where a budget is exceeded. The folder stays as it was then.
    """
    check_folder(folder)
    if budgets != NO_BUDGETS:
        if layout != CMAKE:
            raise InputError(f"no budgets for the layout {layout}: it is compiled by its own tools", "build for cmake")
        need_compiler(target)
    if layout in LAYOUTS and LAYOUTS[layout].portable and target.kernels != PORTABLE:
        progress(f"the layout {layout} is for other cores than Arm's: it takes the portable kernels")
        target = replace(target, kernels=PORTABLE)
    compiled_model = load_model(model, network_only, step_frames).for_kernels(target.kernels)
    if checkouts is not None and target.toolchain == WASM:
        raise InputError(f"no TFLite Micro in the browser: got --runtime tflm for {target.name}", "leave --runtime out")
    if checkouts is not None and compiled_model.streaming is not None:
        progress(_cost_of_windows(compiled_model))
        compiled_model = compiled_model.in_windows()
    check_fit(compiled_model, target)
    stride_frames = _stride(compiled_model, stride_ms)
    missing = missing_tools(target) if layout == CMAKE else []
    tflm = None
    if checkouts is not None:
        tflm, lacks = _prepare_tflm(compiled_model, target, checkouts, layout, missing, budgets, progress)
        missing += lacks
        target = tflm.target
    sizes = tflm.sizes if tflm else None
    files = generate_project(compiled_model, target, prefix, stride_frames, layout, sizes)
    progress(f"generated {len(files)} files for {target.name}")
    compiled: dict[str, int] | None = None
    binaries: Files = {}
    compiles = layout == CMAKE and not missing
    if compiles:
        progress("compiling")
        binaries, compiled = _compile(files, target, tflm)
        check_compiled(compiled, target)
        check_budgets(budgets, compiled_model, target, binaries, compiled, count)
    report = memory_report(compiled_model, target, compiled)
    if tflm is not None:
        report = tflm_report(report, compiled_model, tflm.sizes, tflm.measured)
    files["memory_report.json"] = json.dumps(report, indent=2, sort_keys=True) + "\n"
    files["memory_report.txt"] = render_report(report)
    files |= binaries
    listens = compiles and target.toolchain == WASM
    if listens:
        module = binaries[target.program_name]
        assert isinstance(module, bytes)
        files[PAGE_NAME] = render_page(compiled_model, target, prefix, stride_frames, module)
    runtime = "tflm" if tflm else "c"
    files["manifest.json"] = make_manifest(files, compiled_model, target, prefix, stride_frames, layout, runtime)
    write_folder(folder, files)
    elf = folder / target.program_name if compiles else None
    page = folder / PAGE_NAME if listens else None
    return BuildReport(folder, target.name, elf, tuple(missing), report, layout, runtime, page)


@dataclass(frozen=True)
class _Tflm:
    """A build on TFLite Micro. measured: None where it is not compiled. target: with the stack that it needs."""

    checkouts: Checkouts
    measured: Measured | None
    target: Target

    @property
    def sizes(self) -> TflmSizes:
        """Of the arena and the interpreter; a guess where nothing was measured."""
        return self.measured.sizes if self.measured else UNMEASURED


def _prepare_tflm(
    model: CompiledModel,
    target: Target,
    checkouts: Checkouts,
    layout: str,
    missing: list[str],
    budgets: Budgets,
    progress: Progress,
) -> tuple[_Tflm, list[str]]:
    """Return what TFLite Micro needs for a model, measured where that can be, and what this machine lacks for it.

    missing: what it lacks to compile at all.
    """
    if layout != CMAKE:
        raise InputError(f"no TFLite Micro in the layout {layout}: it is compiled by its own tools", "use cmake")
    used_ops(model)
    lacks = missing_for_tflm(target, checkouts)
    if (missing or lacks) and budgets != NO_BUDGETS:
        first = [*missing, *lacks][0]
        raise ToolMissing(f"budgets of a firmware on TFLite Micro can't be checked: {first} is missing")
    if missing or lacks:
        return _Tflm(checkouts, None, target), lacks
    measured = measure_tflm(model, target, checkouts, progress)
    target = with_stack(target, measured)
    check_tflm_fit(model, target, measured)
    return _Tflm(checkouts, measured, target), lacks


def _compile(files: Files, target: Target, tflm: _Tflm | None) -> tuple[Files, dict[str, int]]:
    """Return the ELF and its map, and sizes in bytes."""
    if tflm is None or tflm.measured is None:
        return compile_project(files, target)
    options = tflm_definitions(tflm.checkouts, tflm_library(files, tflm.checkouts))
    return compile_project(files, target, options, tflm.measured.stack)


def _cost_of_windows(model: CompiledModel) -> str:
    """Return what it costs that TFLite Micro computes the whole window of a model that streams at each step."""
    assert model.streaming is not None
    window, once = (multiply_accumulates(program) for program in (model.program, model.c_program))
    return (
        f"TFLite Micro keeps no state: each step of {model.streaming.step_frames} frames runs the whole window of "
        f"{model.streaming.time.window_frames}, {window / once:.1f} times the multiply-accumulates of the stream"
    )


def _stride(model: CompiledModel, stride_ms: int | None) -> int:
    """Return the frames between windows. Raises InputError as stride_in_frames(), and where there are no windows."""
    if model.streaming is not None:
        if stride_ms is not None:
            raise InputError(
                f"a model that streams decides at each step (--stride-ms): got {stride_ms}, need --step-frames",
                "leave it out, or give --step-frames",
            )
        return model.streaming.step_frames
    if model.hearing is not None:
        return stride_in_frames(model.hearing.config, stride_ms)
    if stride_ms is not None:
        raise InputError(f"a network alone has no windows (--stride-ms): got {stride_ms}", "leave it out")
    return DEFAULT_STRIDE_FRAMES


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


def check_budgets(
    budgets: Budgets,
    model: CompiledModel,
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
        with scratch_folder() as folder:
            write_folder(Path(folder) / "build", binaries)
            needs["instructions"] = count(model, Path(folder) / "build" / target.program_name, target)
    budgets.check(needs, target.name)
