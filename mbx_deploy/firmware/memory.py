"""What a build needs in flash and RAM, and whether its target has that.

Models are taken for the target's kernels: CompiledModel.for_kernels().
"""

from dataclasses import dataclass
from typing import Any

from mbx_deploy.codegen.constants import constant_arrays, frontend_arrays
from mbx_deploy.codegen.project import arena_bytes
from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.cascade import row_bytes, row_count
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.pace import render_pace

RECOGNIZER_STRUCT_BYTES = 128  # struct mbx_recognizer on a 32-bit core
DECISION_CLASS_BYTES = 6
EXPONENTIALS_BYTES = 512
CODE_BYTES_ESTIMATE = 12 * 1024  # before a compiler has told; the runtime and a board are some 10 KB


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes, known before anything is compiled. instance: all that an application allocates, the arena included.

    ring, history and tables: of the front end, 0 for a network alone.
    """

    arena: int
    ring: int
    history: int
    instance: int
    weights: int
    tables: int


def memory_needs(model: CompiledModel) -> MemoryNeeds:
    """Return what the generated C allocates, from its declarations."""
    arena = -(-arena_bytes(model) // 8) * 8
    weights = sum(array.size_bytes for array in constant_arrays(model, model.plan, "kws"))
    if model.hearing is None:
        return MemoryNeeds(arena, 0, 0, arena, weights, 0)
    config = model.hearing.config
    ring = config.audio_frames * config.num_coefficients
    history = 2 * (config.window_length + 3)
    classes = len(model.hearing.labels)
    rest = (3 + DECISION_CLASS_BYTES + 2 * model.hearing.decision.smoothing) * classes
    if model.step is not None:  # new features and coefficients lie in the arena
        ring = 0
    else:
        rest += 4 * config.num_coefficients
    instance = -(-(RECOGNIZER_STRUCT_BYTES + arena + ring + history + rest) // 8) * 8
    tables = sum(array.size_bytes for array in frontend_arrays(model)) + EXPONENTIALS_BYTES
    return MemoryNeeds(arena, ring, history, instance, weights, tables)


def check_fit(model: CompiledModel, target: Target) -> None:
    """Raise InputError where the model can't fit the target's flash or RAM, naming what takes most."""
    if target.memory is None:
        return
    model = model.for_kernels(target.kernels)
    needs, memory, plan = memory_needs(model), target.memory, model.plan
    ram = needs.instance + memory.stack_bytes
    if ram > memory.ram_bytes:
        call = model.c_program.calls[plan.peak_call]
        heard = f"features and audio {needs.instance - needs.arena:,} + " if model.hearing else ""
        raise InputError(
            f"the model does not fit the RAM of {target.name}: need {ram:,} bytes (arena {needs.arena:,} + "
            f"{heard}stack {memory.stack_bytes:,}), have {memory.ram_bytes:,}",
            f"the peak is at {call.name}, {plan.lower_bound_bytes:,} bytes; use fewer filters or a larger target",
        )
    flash = needs.weights + needs.tables + CODE_BYTES_ESTIMATE
    if flash > memory.flash_bytes:
        tables = f"tables {needs.tables:,} + " if model.hearing else ""
        raise InputError(
            f"the model does not fit the flash of {target.name}: need {flash:,} bytes (weights {needs.weights:,} + "
            f"{tables}code, estimated, {CODE_BYTES_ESTIMATE:,}), have {memory.flash_bytes:,}",
            "use fewer filters or a larger target",
        )


def memory_report(model: CompiledModel, target: Target, compiled: dict[str, int] | None) -> dict[str, Any]:
    """Return the report as JSON takes it.

    compiled: bytes of flash, ram, code and stack_bound, measured in the ELF; None where there was no compiler.
    """
    model = model.for_kernels(target.kernels)
    needs = memory_needs(model)
    report = {
        "target": target.name,
        "arena": arena_report(model, needs.arena),
        "calls": [call.name for call in model.c_program.calls],
        "ram": {
            "instance_bytes": needs.instance,
            "arena_bytes": needs.arena,
            "feature_ring_bytes": needs.ring,
            "audio_history_bytes": needs.history,
        },
        "flash": {"weights_bytes": needs.weights, "tables_bytes": needs.tables},
        "compiled": compiled,
    }
    return report if model.hearing else report | {"network_only": True}


def arena_report(model: CompiledModel, arena: int) -> dict[str, Any]:
    """Return the size of an arena, its peak, and what lies where in it during which calls."""
    program, plan = model.c_program, model.plan
    writers = {call.output: call.name for call in program.calls}
    windows = {buffer: rows for cascade in plan.cascades for buffer, rows in cascade.windows.items()}
    states = {state.buffer: f"state {state.name}" for state in model.step.states} if model.step else {}
    buffers = []
    for live in plan.live_ranges:
        if live.last < live.first:
            continue
        whole = program.buffers[live.buffer]
        rows = windows.get(live.buffer)
        part = f", {rows} of {row_count(whole)} rows" if rows else ""
        place = {
            "name": states.get(live.buffer) or _name(live.buffer, writers, model) + part,
            "offset": plan.offsets[live.buffer],
            "bytes": rows * row_bytes(whole) if rows else whole.size_bytes,
            "first_call": live.first,
            "last_call": live.last,
        }
        buffers.append(place)
    for number, (kernel, offset) in enumerate(zip(plan.kernels, plan.scratch_offsets, strict=True)):
        if kernel.scratch_bytes:
            first, last = plan.scratch_calls(program, number)
            place = {
                "name": f"{program.calls[number].name}, working memory",
                "offset": offset,
                "bytes": kernel.scratch_bytes,
                "first_call": first,
                "last_call": last,
            }
            buffers.append(place)
    peak = {"call": program.calls[plan.peak_call].name, "bytes": plan.lower_bound_bytes}
    cascades = [[program.calls[c.first].name, program.calls[c.last].name] for c in plan.cascades]
    return {"bytes": arena, "peak": peak, "cascades": cascades, "buffers": buffers}


def _name(buffer: int, writers: dict[int, str], model: CompiledModel) -> str:
    """Return what a buffer is called in a report: what writes it, or that it is part of a state."""
    if buffer == model.c_program.input or model.step is None or buffer in writers:
        return writers.get(buffer, "input")
    return "part of a state"


def render_report(report: dict[str, Any]) -> str:
    """Return the report as text."""
    ram, flash, compiled = report["ram"], report["flash"], report["compiled"]
    engine = [("  interpreter", ram["engine_bytes"])] if "engine_bytes" in ram else []
    lines = [f"Memory of the build for {report['target']}, in bytes", ""]
    rows = [
        ("RAM, one recogniser", ram["instance_bytes"]),
        ("  arena", ram["arena_bytes"]),
        *engine,
        ("  ring of features", ram["feature_ring_bytes"]),
        ("  audio history", ram["audio_history_bytes"]),
        ("flash, weights", flash["weights_bytes"]),
        ("flash, tables", flash["tables_bytes"]),
    ]
    if report.get("network_only"):
        rows = [("RAM, one instance (arena)", ram["instance_bytes"])]
        rows += [*engine, ("flash, weights", flash["weights_bytes"])]
    if compiled:
        rows += [
            ("firmware, flash", compiled["flash_bytes"]),
            ("  of it code", compiled["code_bytes"]),
            ("firmware, RAM without stack", compiled["ram_bytes"]),
        ]
        for key, name in (
            ("stack_bound_bytes", "stack, static bound"),
            ("stack_measured_bytes", "stack, deepest measured"),
        ):
            rows += [(name, compiled[key])] if key in compiled else []
    lines += [f"  {name:<28}{value:>10,}" for name, value in rows]
    if not compiled:
        lines += ["", "Not compiled here: sizes of code and stack are not known."]
    if "listening" in report:
        lines += ["", *render_pace(report["listening"], report["listening"]["frame_ms"])]
    peak = report["arena"]["peak"]
    if report.get("runtime") == "tflm":
        margin = report["arena_margin_bytes"]
        lines += ["", f"The arena: {peak['bytes']:,} bytes in use ({peak['call']})."]
        lines += [f"It has a margin of {margin:,} bytes; init fails where it is too small."] if margin else []
        return "\n".join(lines) + "\n"
    lines += [""] + [f"In stripes: {first} to {last}." for first, last in report["arena"]["cascades"]]
    lines += [f"The arena's peak: {peak['bytes']:,} at {peak['call']}. What lies where, during which calls:", ""]
    lines += [f"  {'offset':>8}{'bytes':>8}  {'calls':<9} activation"]
    for buffer in sorted(report["arena"]["buffers"], key=lambda b: (b["first_call"], b["offset"])):
        calls = f"{max(0, buffer['first_call'])}-{min(len(report['calls']) - 1, buffer['last_call'])}"
        lines.append(f"  {buffer['offset']:>8,}{buffer['bytes']:>8,}  {calls:<9} {buffer['name']}")
    return "\n".join(lines) + "\n"
