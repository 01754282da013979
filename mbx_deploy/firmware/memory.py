"""What a build needs in flash, RAM and stack, and whether its target has that."""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mbx_deploy.codegen.constants import constant_arrays, frontend_arrays
from mbx_deploy.codegen.project import arena_bytes
from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.cascade import row_bytes, row_count
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.model import Recognizer
from mbx_deploy.compiler.network_model import Network
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import Program

RECOGNIZER_STRUCT_BYTES = 64  # struct mbx_recognizer on a 32-bit core
EXPONENTIALS_BYTES = 512
CODE_BYTES_ESTIMATE = 12 * 1024  # before a compiler has told; the runtime and a board are some 10 KB
# Of a function that bears no stack usage: ample for memcpy, memset, memmove and libgcc's division, and what the kernels
# in assembly need at most (a test reads that from them).
LIBRARY_CALL_STACK_BYTES = 136
# What the core pushes, with the floating-point registers, and aligns: DDI 0403E B1.5.7.
INTERRUPT_FRAME_BYTES = 112


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes, known before anything is compiled. instance: all of an application's recognizer, the arena included."""

    arena: int
    ring: int
    history: int
    instance: int
    weights: int
    tables: int


def memory_needs(recognizer: Recognizer, plan: MemoryPlan) -> MemoryNeeds:
    """Return what the generated C allocates, from its declarations."""
    config = recognizer.config
    arena = -(-arena_bytes(recognizer, plan) // 8) * 8
    ring = config.audio_frames * config.num_coefficients
    history = 2 * (config.window_length + 3)
    rest = 4 * config.num_coefficients + 3 * len(recognizer.labels)
    instance = -(-(RECOGNIZER_STRUCT_BYTES + arena + ring + history + rest) // 8) * 8
    weights = sum(array.size_bytes for array in constant_arrays(recognizer, plan, "kws"))
    tables = sum(array.size_bytes for array in frontend_arrays(recognizer)) + EXPONENTIALS_BYTES
    return MemoryNeeds(arena, ring, history, instance, weights, tables)


def check_fit(recognizer: Recognizer, target: Target) -> None:
    """Raise InputError where the model can't fit the target's flash or RAM, naming what takes most."""
    if target.memory is None:
        return
    plan = plan_memory(recognizer.program, target.kernels)
    needs, memory = memory_needs(recognizer, plan), target.memory
    ram = needs.instance + memory.stack_bytes
    if ram > memory.ram_bytes:
        call = recognizer.program.calls[plan.peak_call]
        raise InputError(
            f"the model does not fit the RAM of {target.name}: need {ram:,} bytes (arena {needs.arena:,} + "
            f"features and audio {needs.instance - needs.arena:,} + stack {memory.stack_bytes:,}), "
            f"have {memory.ram_bytes:,}",
            f"the peak is at {call.name}, {plan.lower_bound_bytes:,} bytes; use fewer filters or a larger target",
        )
    flash = needs.weights + needs.tables + CODE_BYTES_ESTIMATE
    if flash > memory.flash_bytes:
        raise InputError(
            f"the model does not fit the flash of {target.name}: need {flash:,} bytes (weights {needs.weights:,} + "
            f"tables {needs.tables:,} + code, estimated, {CODE_BYTES_ESTIMATE:,}), have {memory.flash_bytes:,}",
            "use fewer filters or a larger target",
        )


def memory_report(recognizer: Recognizer, target: Target, compiled: dict[str, int] | None) -> dict[str, Any]:
    """Return the report as JSON takes it.

    compiled: bytes of flash, ram, code and stack_bound, measured in the ELF; None where there was no compiler.
    """
    program = recognizer.program
    plan = plan_memory(program, target.kernels)
    needs = memory_needs(recognizer, plan)
    return {
        "target": target.name,
        "arena": arena_report(program, plan, needs.arena),
        "calls": [call.name for call in program.calls],
        "ram": {
            "instance_bytes": needs.instance,
            "arena_bytes": needs.arena,
            "feature_ring_bytes": needs.ring,
            "audio_history_bytes": needs.history,
        },
        "flash": {"weights_bytes": needs.weights, "tables_bytes": needs.tables},
        "compiled": compiled,
    }


def arena_report(program: Program, plan: MemoryPlan, arena: int) -> dict[str, Any]:
    """Return the size of an arena, its peak, and what lies where in it during which calls."""
    writers = {call.output: call.name for call in program.calls}
    windows = {buffer: rows for cascade in plan.cascades for buffer, rows in cascade.windows.items()}
    buffers = []
    for live in plan.live_ranges:
        whole = program.buffers[live.buffer]
        rows = windows.get(live.buffer)
        part = f", {rows} of {row_count(whole)} rows" if rows else ""
        place = {
            "name": writers.get(live.buffer, "input") + part,
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


def render_report(report: dict[str, Any]) -> str:
    """Return the report as text."""
    ram, flash, compiled = report["ram"], report["flash"], report["compiled"]
    lines = [f"Memory of the build for {report['target']}, in bytes", ""]
    rows = [
        ("RAM, one recogniser", ram["instance_bytes"]),
        ("  arena", ram["arena_bytes"]),
        *([("  interpreter", ram["engine_bytes"])] if "engine_bytes" in ram else []),
        ("  ring of features", ram["feature_ring_bytes"]),
        ("  audio history", ram["audio_history_bytes"]),
        ("flash, weights", flash["weights_bytes"]),
        ("flash, tables", flash["tables_bytes"]),
    ]
    if report.get("network_only"):
        rows = [("RAM, one instance (arena)", ram["instance_bytes"]), ("flash, weights", flash["weights_bytes"])]
    if compiled:
        rows += [
            ("firmware, flash", compiled["flash_bytes"]),
            ("  of it code", compiled["code_bytes"]),
            ("firmware, RAM without stack", compiled["ram_bytes"]),
            ("stack, static bound", compiled["stack_bound_bytes"])
            if "stack_bound_bytes" in compiled
            else ("stack, deepest measured", compiled["stack_measured_bytes"]),
        ]
    lines += [f"  {name:<28}{value:>10,}" for name, value in rows]
    if not compiled:
        lines += ["", "Not compiled here: sizes of code and stack are not known."]
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


def elf_sizes(section_table: str) -> dict[str, int]:
    """Return bytes of flash, ram and code from what `size -A` prints."""
    sizes = {}
    for line in section_table.splitlines():
        match = re.match(r"^(\.\S+)\s+(\d+)\s", line)
        if match:
            sizes[match[1]] = int(match[2])
    code = sizes.get(".text", 0) + sizes.get(".vectors", 0) + sizes.get(".boot2", 0)
    data = sizes.get(".data", 0)
    return {
        "flash_bytes": code + sizes.get(".rodata", 0) + sizes.get(".ARM.exidx", 0) + data,
        "ram_bytes": data + sizes.get(".bss", 0),
        "code_bytes": code,
    }


def stack_bound(
    call_graphs: Iterable[str], indirect: Iterable[str], root: str = "main", interrupts: str | None = None
) -> int:
    """Return the most stack in bytes that a program can use below root, from gcc's call graphs (-fcallgraph-info=su).

    call_graphs: texts of the .ci files. indirect: patterns of the names of functions that are called through pointers.
    Functions without a graph (libc, libgcc) count LIBRARY_CALL_STACK_BYTES each. interrupts: what the names of handlers
    begin with, which may nest all, once each, on top of root.
    Raises AssertionError for recursion, a frame without a bound, or graphs without the root.
    """
    frames: dict[str, int] = {}
    edges: dict[str, set[str]] = {}
    targets = [*indirect]
    for text in call_graphs:
        for title, label in re.findall(r'^node: { title: "([^"]+)" label: "([^"]+)"', text, re.MULTILINE):
            size = re.search(r"(\d+) bytes \((\w+(?:,\w+)*)\)", label)
            if size:
                if size[2] not in ("static", "dynamic,bounded"):  # a frame that is aligned anew is bounded
                    raise AssertionError(f"the stack frame of {title} is not bounded: {size[2]}")
                frames[title] = int(size[1])
        for source, target in re.findall(r'^edge: { sourcename: "([^"]+)" targetname: "([^"]+)"', text, re.MULTILINE):
            edges.setdefault(source, set()).add(target)
    pointed = {t for t in frames if any(fnmatch.fnmatchcase(t.rsplit(":", 1)[-1], name) for name in targets)}

    def depth(node: str, path: frozenset[str]) -> int:
        if node == "__indirect_call":
            # A model's invoke calls observers, observers call neither: each stands at most once on a path.
            return max((depth(target, path) for target in sorted(pointed - path)), default=0)
        if node in path:
            raise AssertionError(f"{node} is recursive")
        below = path | {node}
        deepest = max((depth(target, below) for target in sorted(edges.get(node, ()))), default=0)
        return frames.get(node, LIBRARY_CALL_STACK_BYTES) + deepest

    if root not in frames:
        raise AssertionError(f"the call graphs know no {root}")
    handlers = [title for title in sorted(frames) if interrupts and title.startswith(interrupts)]
    above = sum(INTERRUPT_FRAME_BYTES + depth(handler, frozenset()) for handler in handlers)
    return depth(root, frozenset()) + above


def check_network_fit(network: Network, target: Target) -> None:
    """Raise InputError where the network can't fit the target's flash or RAM, naming what takes most."""
    if target.memory is None:
        return
    plan, memory = plan_memory(network.program, target.kernels), target.memory
    if plan.arena_bytes + memory.stack_bytes > memory.ram_bytes:
        call = network.program.calls[plan.peak_call]
        raise InputError(
            f"the model does not fit the RAM of {target.name}: need {plan.arena_bytes + memory.stack_bytes:,} bytes "
            f"(arena {plan.arena_bytes:,} + stack {memory.stack_bytes:,}), have {memory.ram_bytes:,}",
            f"the peak is at {call.name}, {plan.lower_bound_bytes:,} bytes; use fewer filters or a larger target",
        )
    weights = sum(array.size_bytes for array in constant_arrays(network, plan, "kws"))
    if weights + CODE_BYTES_ESTIMATE > memory.flash_bytes:
        raise InputError(
            f"the model does not fit the flash of {target.name}: need {weights + CODE_BYTES_ESTIMATE:,} bytes "
            f"(weights {weights:,} + code, estimated, {CODE_BYTES_ESTIMATE:,}), have {memory.flash_bytes:,}",
            "use fewer filters or a larger target",
        )


def network_memory_report(network: Network, target: Target, compiled: dict[str, int] | None) -> dict[str, Any]:
    """Return the report as memory_report() does; a network without a front end keeps no audio and has no tables."""
    plan = plan_memory(network.program, target.kernels)
    arena = -(-plan.arena_bytes // 8) * 8
    return {
        "target": target.name,
        "network_only": True,
        "arena": arena_report(network.program, plan, arena),
        "calls": [call.name for call in network.program.calls],
        "ram": {"instance_bytes": arena, "arena_bytes": arena, "feature_ring_bytes": 0, "audio_history_bytes": 0},
        "flash": {
            "weights_bytes": sum(array.size_bytes for array in constant_arrays(network, plan, "kws")),
            "tables_bytes": 0,
        },
        "compiled": compiled,
    }
