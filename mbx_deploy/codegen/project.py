"""A compiled model and a target -> the files of a C project. Pure: the same input gives the same text, on any machine.

Templates hold data and the list of calls; arithmetic and loops live in firmware_templates/runtime, copied as it is.
"""

from dataclasses import replace
from typing import Any

from mbx_deploy.codegen.calls import call_contexts, runners
from mbx_deploy.codegen.constants import CArray, constant_arrays, frontend_arrays
from mbx_deploy.codegen.languages import Verbatim, plain_text
from mbx_deploy.codegen.layouts import CMAKE, arrange
from mbx_deploy.codegen.manifest import RUNTIME_VERSION, build_digest, describe_ends, describe_side
from mbx_deploy.codegen.names import check_prefix, label_macros
from mbx_deploy.codegen.target import (
    APPLICATION_PART,
    BARE_METAL,
    LIVE_PART,
    RISCV,
    SESSION_PART,
    WASM,
    Target,
    find_target,
)
from mbx_deploy.codegen.templates import (
    BANNER,
    board_files,
    kernel_modules,
    operation_modules,
    render_files,
    runtime_files,
    small_sources,
    sources_below,
)
from mbx_deploy.codegen.tflm import TFLM_RUNTIME, TflmSizes, tflm_context
from mbx_deploy.compiler.model import CompiledModel, Hearing
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.tables import feature_multiplier, fold_dct
from mbx_deploy.sim.recognizer import exponential_table
from mbx_deploy.system.resources import runtime_file

DEFAULT_STRIDE_FRAMES = 25

Files = dict[str, str | bytes]


def generate_project(
    model: CompiledModel,
    target: Target,
    prefix: str = "kws",
    stride_frames: int = DEFAULT_STRIDE_FRAMES,
    layout: str = CMAKE,
    tflm: TflmSizes | None = None,
) -> Files:
    """Return {path: content} of a C project, without the reports that need a compiler.

    prefix: begins every symbol of the model, so that several fit one image. stride_frames: between the windows of
    continuous audio; a network alone has none, and a model that streams its own. layout: of layouts.NAMES. tflm:
    the network runs on TFLite Micro, in memory of these sizes. Raises InputError for a prefix that is no C
    identifier, a stride out of range, or a network alone for a board whose firmware listens.
    """
    check_prefix(prefix)
    if tflm:
        model = model.in_windows()
    if model.streaming is not None:
        stride_frames = model.streaming.step_frames
    if model.hearing is not None:
        _check_stride(stride_frames, model.hearing)
    else:
        target = _without_microphone(target, layout)
    model = model.for_kernels(target.kernels)
    machine = find_target(target.emulated_as) if target.emulated_as else target
    context = _context(model, target, prefix, stride_frames) | tflm_context(model, tflm, machine)
    if tflm:
        context |= {"arrays": [], "kernel_headers": [], "calls": [], "structs": [], "runners": []}
    files, library = runtime_files(model, target, "tflm" if tflm else "c")
    files |= board_files(target, "board", model.hearing is not None)
    rendered = _templates(model, target, prefix)
    suffixes = ("", "_data", "_frontend") if model.hearing else ("", "_data")
    context["library_sources"] = [*library, *(f"generated/{prefix}{suffix}.c" for suffix in suffixes)]
    if tflm:
        rendered |= _add_tflm(files, context, target, prefix)
    context["board_sources"] = sources_below("board/", files)
    context["small_sources"] = small_sources(target, "board")
    if target.emulated_as:
        _add_emulator(files, context, machine)
    measured = context["emulator_sources"] or context["board_sources"]
    context["measure_sources"] = [
        *(path for path in measured if not path.endswith("/main.c")),
        *("measure/main.c", "src/mbx_tflm_measure.c"),
    ]
    files |= render_files(rendered, context)
    files["model.tflite"] = model.data
    files[f"{target.name}.toml"] = target.text
    return files if layout == CMAKE else arrange(layout, files, context)


def _check_stride(stride_frames: int, hearing: Hearing) -> None:
    if not 1 <= stride_frames <= hearing.config.audio_frames:
        need = f"1 to {hearing.config.audio_frames} frames"
        raise InputError(f"bad stride between windows: got {stride_frames}, need {need}")


def _without_microphone(target: Target, layout: str) -> Target:
    """Return a target as a network alone takes it: its firmware serves inputs, and does not listen."""
    if LIVE_PART in target.parts and layout == CMAKE:
        raise InputError(
            f"a network without a front end can't listen: {target.name} is a page with a microphone",
            "build it for host, which verify compares, or give a model that mbx-deploy export made",
        )
    if target.is_board and layout == CMAKE:
        cpu = target.emulated_as or "its CPU"
        raise InputError(
            f"a network without a front end can't listen: {target.name} is a board with a microphone",
            f"build it for {cpu}, and link the library into a firmware of your own; or take a --layout",
        )
    parts = tuple(part for part in target.parts if part == SESSION_PART)
    return replace(target, parts=parts, emulated_as=None)


def _templates(model: CompiledModel, target: Target, prefix: str) -> dict[str, str]:
    """Return {path in the project: template}."""
    rendered = {
        f"include/{prefix}.h": "model.h.j2",
        f"generated/{prefix}_data.h": "model_data.h.j2",
        f"generated/{prefix}_data.c": "model_data.c.j2",
        f"generated/{prefix}.c": "model.c.j2",
        "board/main.c": _main_template(target),
        "README.md": "README.md.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
    }
    if model.hearing is not None:
        rendered[f"generated/{prefix}_frontend.c"] = "frontend_tables.c.j2"
    if target.toolchain in BARE_METAL:
        rendered |= {"toolchain.cmake": "toolchain.cmake.j2", "linker.ld": "linker.ld.j2"}
    elif target.toolchain == WASM:
        rendered["toolchain.cmake"] = "toolchain_wasm.cmake.j2"
    return rendered


def _main_template(target: Target) -> str:
    if LIVE_PART in target.parts:
        return "main_live.c.j2"
    return "main_application.c.j2" if APPLICATION_PART in target.parts else "main.c.j2"


def _add_tflm(files: Files, context: dict[str, Any], target: Target, prefix: str) -> dict[str, str]:
    """Add the runtime of TFLite Micro to a project; return the further templates."""
    for name in TFLM_RUNTIME:
        files[f"src/{name}"] = runtime_file(name).read_text()
    context["library_sources"] += [
        "src/mbx_tflm.cc",
        f"generated/{prefix}_tflm.cc",
        f"generated/{prefix}_network.c",
    ]
    context["measure_folder"] = "emulator" if target.emulated_as else "board"
    return {
        f"generated/{prefix}_network.c": "tflm/network.c.j2",
        f"generated/{prefix}_tflm.cc": "tflm/ops.cc.j2",
        "tflm/CMakeLists.txt": "tflm/cmake.j2",
        "measure/main.c": "tflm/measure.c.j2",
    }


def _add_emulator(files: Files, context: dict[str, Any], machine: Target) -> None:
    """Add what a board's library is linked with to run in the emulator of a CPU target."""
    files |= board_files(machine, "emulator")
    context["emulator_sources"] = sources_below("emulator/", files)
    context["small_sources"] += small_sources(machine, "emulator")
    templates = {"emulator/main.c": _main_template(machine), "emulator/linker.ld": "linker.ld.j2"}
    files |= render_files(templates, context | {"target": machine})


def _context(model: CompiledModel, target: Target, prefix: str, stride_frames: int) -> dict[str, Any]:
    """Return what the templates need; of a model for the target's kernels."""
    program, plan = model.c_program, model.plan
    calls, structs = call_contexts(program, plan, prefix)
    context: dict[str, Any] = {
        "banner": BANNER,
        "p": prefix,
        "P": prefix.upper(),
        "runtime_version": RUNTIME_VERSION,
        "target": target,
        "embedded": target.toolchain in BARE_METAL,
        "wasm": target.toolchain == WASM,
        "picolibc": target.toolchain == RISCV,
        "digest": f"0x{build_digest(model, target, prefix, stride_frames):08x}",
        "hearing": model.hearing is not None,
        "input": _describe_input(model),
        "output": describe_side(model.network, "outputs"),
        "inputs": describe_ends(model.network, "inputs"),
        "outputs": describe_ends(model.network, "outputs"),
        "arena_bytes": arena_bytes(model),
        "arrays": constant_arrays(model, plan, prefix),
        "input_offset": plan.offsets[program.input],
        "output_offset": plan.offsets[program.output],
        "kernel_headers": [f"{name}.h" for name in (*operation_modules(model), *kernel_modules(target))],
        "calls": calls,
        "structs": structs,
        "runners": runners(program, plan),
        "silences": _silences(model, prefix),
        "states": _state_contexts(model, prefix),
        "keeps_state": model.keeps_state,
        "state_bytes": sum(state.kept_bytes for state in model.step.states) if model.step else 0,
        "stream": _stream_context(model),
        "silent": None,
        "tail_frames": model.streaming.tail_frames if model.streaming else 0,
        "emulator_sources": [],
    }
    return context if model.hearing is None else context | _hearing_context(model, model.hearing, stride_frames)


def _hearing_context(model: CompiledModel, hearing: Hearing, stride_frames: int) -> dict[str, Any]:
    program, tables, labels = model.program, hearing.tables, hearing.labels
    multiplier, shift = feature_multiplier(program.input_scale, tables.unit)
    return {
        "model_sha256": _byte_rows(bytes.fromhex(model.digest)),
        "labels": labels,
        "label_macros": label_macros(labels),
        "word_flags": [int(word) for word in hearing.decision.is_word],
        "decision": hearing.decision,
        "config": hearing.config,
        "stride_frames": stride_frames,
        "tables": frontend_arrays(model),
        "preemphasis_q30": tables.preemphasis_q30,
        "ln2_q24": tables.ln2_q24,
        "dct_folds": fold_dct(tables)[0],
        "log_bias_q24": tables.log_bias_q24,
        "log_offset": tables.log_offset,
        "silent": CArray("silent_frame", "int8_t", model.streaming.silence, "") if model.streaming else None,
        "exponentials": CArray("exponentials_q15", "uint16_t", exponential_table(program.output_scale), ""),
        "feature_multiplier": multiplier,
        "feature_shift": shift,
        "feature_zero_point": program.input_zero_point,
    }


def _describe_input(model: CompiledModel) -> dict[str, Any]:
    """Return what a run takes: the network's input, or the rows of a step."""
    described = describe_side(model.network, "inputs")
    if model.step is None or model.keeps_state:
        return described
    buffer = model.c_program.buffers[model.c_program.input]
    return described | {"shape": [1, *buffer.shape], "bytes": buffer.size_bytes}


def _stream_context(model: CompiledModel) -> dict[str, Any] | None:
    if model.step is None:
        return None
    names = ("bins_offset", "mels_offset", "coefficients_offset")
    return {"states": len(model.step.states), **dict(zip(names, model.stream_plan.frontend_offsets, strict=False))}


def _silences(model: CompiledModel, prefix: str) -> list[CArray]:
    """Return the rows that states hold before the first step."""
    if model.step is None:
        return []
    return [
        CArray(
            f"{prefix}_silence_{number}",
            f"{state.silence.dtype.name}_t",
            state.silence,
            f"{plain_text(state.name)}: what is remembered before the first step, one row of it",
        )
        for number, state in enumerate(model.step.states)
    ]


def _state_contexts(model: CompiledModel, prefix: str) -> list[dict[str, Any]]:
    if model.step is None:
        return []
    return [
        {
            "offset": model.plan.offsets[state.buffer],
            "rows": state.kept_rows,
            "row_bytes": state.silence.nbytes,
            "name": f"{prefix}_silence_{number}",
            "comment": plain_text(state.name),
        }
        for number, state in enumerate(model.step.states)
    ]


def _byte_rows(data: bytes) -> list[Verbatim]:
    return [
        Verbatim(", ".join(f"0x{byte:02x}" for byte in data[start : start + 16])) for start in range(0, len(data), 16)
    ]


def arena_bytes(model: CompiledModel) -> int:
    """Return the size of the arena: the network's activations, or the front end's working memory if that is more."""
    if model.hearing is None or model.step is not None:
        return model.plan.arena_bytes
    config = model.hearing.config
    return max(model.plan.arena_bytes, 8 * (config.n_fft // 2 + 1 + config.n_mels))
