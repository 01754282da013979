"""A build's firmware, counted: instructions by layer and stage, bytes of flash, RAM and stack.

Instructions are those that the emulator executes, exactly, the same in every run. Cycles are an estimate and say so.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.codegen.calls import SHIFT_FUNCTION, STEP_PREFIX
from mbx_deploy.codegen.constants import frontend_arrays
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.cascade import Cascade, Shift
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.firmware import FirmwareEngine
from mbx_deploy.engines.session import FRONTEND_STAGES, ITEM_CLIP, ITEM_STREAM, TRACE_RESULTS, TRACE_STAGES, Item
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.firmware.folder import Build
from mbx_deploy.measure.items import random_input
from mbx_deploy.measure.profile.counting import Counts, Segment, count
from mbx_deploy.measure.profile.inference import NETWORK, network_end
from mbx_deploy.measure.profile.listing import (
    Instruction,
    Listing,
    estimate_cycles_m0plus,
    estimate_cycles_m4,
    mix,
    read_listing,
)
from mbx_deploy.network.program import Program

_FRAME, _AFTER_FRAME = "mbx_frame_coefficients", "mbx_quantize_features"
_OBSERVER = "mbx_session_observe"
_DECIDED = "mbx_decide"  # once a decision
SECOND_BLOCK_SAMPLES = 160  # as a microphone driver hands them over
_OTHER_CONSTANTS = re.compile(r"model|cascade_\w+_(steps|bytes)")  # than those of a layer, which bear its number
_M0PLUS = "cortex-m0plus"
_CYCLES_NOTES = {_M0PLUS: "estimate for a Cortex-M0+ without wait states, from ARM DDI 0484C"}
_CYCLES_NOTE = "estimate for a Cortex-M4 without wait states, from ARM DDI 0439B"


@dataclass(frozen=True)
class Layer:
    """One call of the network. name: as sqnr and the memory report have it. kernel: the C function; empty, without
    instructions, where the call needs no code.

    instructions: from this call's set-up to the next one's. bytes: its weights and constants in flash.
    """

    name: str
    kernel: str
    instructions: int
    bytes: int


@dataclass(frozen=True)
class Cost:
    """Instructions of one inference, or of one frame; their kinds; cycles, estimated; bytes.

    code_bytes: of the functions that ran. constant_bytes: weights or tables.
    """

    instructions: int
    mix: dict[str, int]
    cycles_estimate: int
    ram_bytes: int
    code_bytes: int
    constant_bytes: int

    @property
    def flash_bytes(self) -> int:
        """Return code and constants."""
        return self.code_bytes + self.constant_bytes


@dataclass(frozen=True)
class Frontend:
    """What the features cost. frame: one of so many frames. stages: {stage: instructions a frame}."""

    frame: Cost
    frames: int
    stages: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            **{key: value for key, value in _cost(self.frame).items() if key != "instructions"},
            "instructions_per_frame": self.frame.instructions,
            "frames": self.frames,
            "stages": [{"name": name, "instructions": found} for name, found in self.stages.items()],
        }


@dataclass(frozen=True)
class Second:
    """What listening costs: decisions in a second of audio, and all instructions for them: feed, front end, network,
    decision.
    """

    decisions: float
    instructions: int


@dataclass(frozen=True)
class Profile:
    """What one build costs. frontend: None for a network alone.

    firmware: bytes of the whole ELF, stack_bound_bytes among them. stack_bytes: the most stack that was written.
    second: of continuous audio; None for a network alone. recogniser_ram_bytes: of one instance.
    """

    target: str
    cpu: str
    network: Cost
    layers: tuple[Layer, ...]
    frontend: Frontend | None
    stack_bytes: int
    firmware: dict[str, int]
    second: Second | None = None
    recogniser_ram_bytes: int = 0

    @property
    def cycles_note(self) -> str:
        """What the cycles are."""
        return _CYCLES_NOTES.get(self.cpu, _CYCLES_NOTE)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON takes it."""
        total = self.network.instructions
        return {
            "target": self.target,
            "cpu": self.cpu,
            "network": _cost(self.network),
            "layers": [{**vars(layer), "share": round(layer.instructions / total, 6)} for layer in self.layers],
            "frontend": self.frontend.to_dict() if self.frontend else None,
            "stack": {"high_water_bytes": self.stack_bytes, "bound_bytes": self.firmware.get("stack_bound_bytes")},
            "firmware": {key: value for key, value in self.firmware.items() if key != "stack_bound_bytes"},
            "second": dict(vars(self.second)) if self.second else None,
            "recogniser_ram_bytes": self.recogniser_ram_bytes,
            "cycles_note": self.cycles_note,
        }


def _cost(cost: Cost) -> dict[str, Any]:
    return {**vars(cost), "flash_bytes": cost.flash_bytes}


def profile_build(build: Build) -> Profile:
    """Return what a build's firmware costs, counted in QEMU on noise: a second of audio, or a network's input, once.

    A board's is counted on the machine of its CPU. Raises InputError for a build for this machine or without an ELF,
    ToolMissing where QEMU, gcc or the target's binutils are missing, CheckFailed where the firmware fails.
    """
    if build.target.toolchain != "arm-none-eabi":
        what = "this machine" if build.target.toolchain == "host" else build.target.cpu
        raise InputError(f"nothing to count in ({build.folder}): got a build for {what}, need one for a Cortex-M")
    model = build.model
    listing = read_listing(FirmwareEngine(model, build.elf, build.target).elf, build.target.toolchain)
    cpu = find_target(build.target.emulated_as).cpu if build.target.emulated_as else build.target.cpu
    plain = _run(build, model, listing, _network_marks(listing, model), TRACE_RESULTS)
    end = network_end(listing, model.hearing is None)
    inference = _inference(listing, plain, end)
    layers: tuple[Layer, ...] = ()  # on TFLite Micro the network is one array, and has no calls
    constants = sum(s.size for s in listing.symbols if s.name.endswith("_network") and s.kind in "rR")
    if build.runtime != "tflm":
        layers = _measure_layers(model.c_program, model.plan, listing, plain, inference)
        others = [s.size for s in listing.symbols if _OTHER_CONSTANTS.fullmatch(s.name) and s.kind in "rR"]
        constants = sum(layer.bytes for layer in layers) + sum(others)
    network = _measure(listing, plain, inference, 1, _arena_bytes(build.folder), constants, cpu)
    frontend = None
    if model.hearing is not None:
        traced = _run(build, model, listing, _stage_marks(listing), TRACE_STAGES)
        frontend = _measure_frontend(model, listing, plain, traced, cpu)
    return Profile(
        target=build.target.name,
        cpu=cpu,
        network=network,
        layers=layers,
        frontend=frontend,
        stack_bytes=_need_symbol(listing, "mbx_stack_top") - plain.lowest_write,
        firmware=_firmware(build),
        second=_second(build, model, listing) if model.hearing is not None else None,
        recogniser_ram_bytes=int(_report(build.folder)["ram"]["instance_bytes"]),
    )


def _firmware(build: Build) -> dict[str, int]:
    """Return what was measured of the ELF that was run: of a board's build the emulator's has a stack of its own."""
    compiled = dict(_report(build.folder)["compiled"])
    bound = compiled.pop("emulator_stack_bound_bytes", None)
    return compiled | ({"stack_bound_bytes": bound} if bound is not None else {})


def _second(build: Build, model: CompiledModel, listing: Listing) -> Second:
    """Return what a second of continuous audio costs, of a stream that has gone on for a while: from decision to
    decision, all that the recogniser does.
    """
    config = model.config
    rate, stride = config.sample_rate_hz, build.stride_frames * config.hop_length
    periods = max(1, round(rate / stride))
    before = 0 if model.streaming is not None else config.clip_samples
    samples = np.random.default_rng(0).integers(-8192, 8192, before + (periods + 2) * stride + config.window_length)
    item = Item(ITEM_STREAM, samples.astype(np.int16), SECOND_BLOCK_SAMPLES)
    mark = _need_symbol(listing, _DECIDED)

    def run(plugin: str) -> None:
        FirmwareEngine(model, build.elf, build.target, plugin).run([item], TRACE_RESULTS)

    counts = count(run, [mark])
    decided = [segment for segment in counts.segments if segment.mark == mark]
    if len(decided) < periods + 1:
        raise CheckFailed(f"a second was not counted: got {len(decided)} decisions, need {periods + 1}")
    # A segment is from one decision to the next.
    instructions = counts.instructions(decided[:periods])
    return Second(rate / stride, round(instructions * rate / (periods * stride)))


def _run(build: Build, model: CompiledModel, listing: Listing, marks: Sequence[int], trace: int) -> Counts:
    if model.hearing is None:
        item = random_input(model)
    else:
        samples = np.random.default_rng(0).integers(-8192, 8192, model.config.clip_samples)
        item = Item(ITEM_CLIP, samples.astype(np.int16))

    def run(plugin: str) -> None:
        FirmwareEngine(model, build.elf, build.target, plugin).run([item], trace)

    top = _need_symbol(listing, "mbx_stack_top")
    return count(run, marks, (top - _need_symbol(listing, "mbx_stack_bytes"), top))


def _need_symbol(listing: Listing, name: str) -> int:
    found = {symbol.address for symbol in listing.symbols if symbol.name == name}
    if len(found) != 1:  # of two functions of one name, who knows which is called
        raise CheckFailed(f"the firmware can't be counted: its ELF has {len(found)} symbols {name}, need 1")
    return found.pop()


def _network_marks(listing: Listing, model: CompiledModel) -> list[int]:
    """Return where the network begins and ends, each call of it returns, and a frame begins and ends."""
    alone = model.hearing is None
    begins = [_need_symbol(listing, name) for name in ((NETWORK,) if alone else (NETWORK, _FRAME, _AFTER_FRAME))]
    returns = _returns(listing, NETWORK, ("bl",))
    return [*begins, network_end(listing, alone), *returns, *_step_entries(listing)]


def _step_entries(listing: Listing) -> list[int]:
    """Return where the steps of cascades begin: the functions by which they call kernels."""
    functions = (symbol for symbol in listing.symbols if symbol.is_code)
    return [f.address for f in functions if f.name == SHIFT_FUNCTION or f.name.startswith(STEP_PREFIX)]


def _stage_marks(listing: Listing) -> list[int]:
    """Return where a frame begins and ends, and the observer is called and returns."""
    ends = [_need_symbol(listing, name) for name in (_FRAME, _AFTER_FRAME, _OBSERVER)]
    return ends + _returns(listing, _FRAME, ("blx",))


def _returns(listing: Listing, function: str, calls: Sequence[str]) -> list[int]:
    return [listing.behind(one.address) for one in listing.inside(function) if one.name in calls]


def _inference(listing: Listing, counts: Counts, end: int) -> Sequence[Segment]:
    """Return the segments of the first inference: to the return of each call, and the way back."""
    segments, first = counts.segments, _need_symbol(listing, NETWORK)
    start = next(i for i, segment in enumerate(segments) if segment.mark == first)
    return segments[start : next(i for i, segment in enumerate(segments) if i > start and segment.mark == end)]


def _measure_layers(
    program: Program, plan: MemoryPlan, listing: Listing, counts: Counts, inference: Sequence[Segment]
) -> tuple[Layer, ...]:
    """Return the cost of each call of an inference, which together are the whole."""
    entries = set(_step_entries(listing))
    pieces = _pieces(program, plan)
    steps = [segment.mark in entries for segment in inference]
    if len(steps) - len(pieces) not in (0, 1) or steps[: len(pieces)] != [piece.is_step for piece in pieces]:
        raise CheckFailed(
            f"the firmware can't be counted by layer: its {len(inference)} calls are not the {len(pieces)} of the plan"
        )
    constants = _layer_bytes(listing, len(program.calls))
    layers = [Layer(call.name, "", 0, constants[number]) for number, call in enumerate(program.calls)]
    for place, piece in enumerate(pieces):
        parts = inference[place:] if place + 1 == len(pieces) else [inference[place]]  # the last with the way back
        kernel = plan.kernels[piece.call].name
        if not piece.in_cascade and place + 1 < len(inference):
            kernel = _callee(listing, inference[place + 1].mark)
        elif not piece.in_cascade:  # it jumps to the last one, which returns for it
            kernel = next(iter(_jumps_out(listing, NETWORK)), "?")
        found = layers[piece.call].instructions + counts.instructions(parts)
        layers[piece.call] = replace(layers[piece.call], kernel=kernel, instructions=found)
    return tuple(layers)


@dataclass(frozen=True)
class _Piece:
    """A part of an inference: a call up to its return, a cascade's set-up, or a step of it from its entry on."""

    call: int
    in_cascade: bool = False
    is_step: bool = False


def _pieces(program: Program, plan: MemoryPlan) -> list[_Piece]:
    """Return the parts of an inference, in order. A shift counts with the call that writes what is shifted."""
    writers = {call.output: number for number, call in enumerate(program.calls)}
    pieces = []
    for part in plan.parts():
        if isinstance(part, Cascade):
            numbers = [writers[step.buffer] if isinstance(step, Shift) else step.call for step in part.steps]
            pieces += [_Piece(part.first, in_cascade=True)]
            pieces += [_Piece(number, in_cascade=True, is_step=True) for number in numbers]
        elif not plan.is_free(program.calls[part.call]):
            pieces.append(_Piece(part.call))
    return pieces


def _callee(listing: Listing, behind: int) -> str:
    """Return the name of the function whose call returns to an address."""
    call: Instruction | None = listing.code.get(behind - 4) or listing.code.get(behind - 2)
    return _destination(call) if call else "?"


def _jumps_out(listing: Listing, function: str) -> list[str]:
    """Return the names of the functions that end this one: it jumps to them instead of calling them."""
    jumps = [one for one in listing.inside(function) if one.name == "b"]
    return [name for name in map(_destination, jumps) if name not in (function, "?")]


def _destination(jump: Instruction) -> str:
    """Return the name of the function that a jump or a call leads to, or into the middle of."""
    match = re.search(r"<([^+>]+)", jump.operands)
    return match[1] if match else "?"


def _layer_bytes(listing: Listing, calls: int) -> list[int]:
    """Return the bytes of constants of each call: the generated arrays bear its number."""
    found = [0] * calls
    for symbol in listing.symbols:
        match = re.fullmatch(r"\w+?_(\d+)", symbol.name)
        if match and symbol.kind in "rR" and int(match[1]) < calls:
            found[int(match[1])] += symbol.size
    return found


def _measure_frontend(
    recognizer: CompiledModel, listing: Listing, counts: Counts, traced: Counts, cpu: str
) -> Frontend:
    first = _need_symbol(listing, _FRAME)
    frames = [segment for segment in counts.segments if segment.mark == first]
    config = recognizer.config
    tables = {array.name for array in frontend_arrays(recognizer)}
    table_bytes = sum(s.size for s in listing.symbols if s.kind in "rR" and _is_table(s.name, tables))
    history = 2 * (config.window_length + 3)
    working = 8 * (config.n_fft // 2 + 1 + config.n_mels) + 4 * config.num_coefficients
    frame = _measure(listing, counts, frames, len(frames), history + working, table_bytes, cpu)
    return Frontend(frame, len(frames), _measure_stages(listing, traced))


def _is_table(name: str, tables: set[str]) -> bool:
    return name in tables or name.endswith("_frontend")


def _measure(
    listing: Listing,
    counts: Counts,
    segments: Sequence[Segment],
    times: int,
    ram_bytes: int,
    constant_bytes: int,
    cpu: str,
) -> Cost:
    """Return the cost of one of so many times; averages are rounded."""
    by_address = counts.by_address(segments)
    functions = {listing.function_at(address) for address in by_address}
    estimate = estimate_cycles_m0plus if cpu == _M0PLUS else estimate_cycles_m4
    return Cost(
        instructions=round(counts.instructions(segments) / times),
        mix={kind: round(found / times) for kind, found in mix(listing, by_address).items()},
        cycles_estimate=round(estimate(listing, by_address, counts.jumps(segments)) / times),
        ram_bytes=ram_bytes,
        code_bytes=sum(function.size for function in functions if function),
        constant_bytes=constant_bytes,
    )


def _measure_stages(listing: Listing, counts: Counts) -> dict[str, int]:
    """Return the instructions of each stage of a frame, on average, in a run whose stages are observed.

    They are more than a frame's: what is otherwise computed at once is then computed stage by stage.
    A few instructions that hand a stage over to the observer are counted with it, or missing.
    """
    first, end, observer = (_need_symbol(listing, name) for name in (_FRAME, _AFTER_FRAME, _OBSERVER))
    totals, frames, stage, inside = [0] * len(FRONTEND_STAGES), 0, 0, False
    for segment in counts.segments:
        if segment.mark == first:
            frames, stage, inside = frames + 1, 0, True
        elif segment.mark == end:
            inside = False
        if inside and segment.mark == observer:
            stage += 1
        elif inside:
            totals[min(stage, len(totals) - 1)] += counts.instructions([segment])
    return {name: round(total / max(frames, 1)) for name, total in zip(FRONTEND_STAGES, totals, strict=True)}


def _report(folder: Path) -> dict[str, Any]:
    try:
        report = json.loads((folder / "memory_report.json").read_text(encoding="utf-8"))
        if not isinstance(report["compiled"], dict):
            raise KeyError("compiled")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", "build it again") from None
    return dict(report)


def _arena_bytes(folder: Path) -> int:
    return int(_report(folder)["arena"]["bytes"])


def render(profile: Profile) -> str:
    """Return the profile as text."""
    network, frontend = profile.network, profile.frontend
    lines = [
        f"{profile.target} ({profile.cpu}), instructions counted in the emulator",
        "",
        f"  network, one inference     {network.instructions:>12,} instructions",
        *_render_cost(network, "RAM (arena)", ""),
    ]
    if frontend:
        lines.append(f"  front end, one frame       {frontend.frame.instructions:>12,} instructions")
        lines += _render_cost(frontend.frame, "RAM", ", most of it in the arena")
    if profile.second:
        told = f"{profile.second.decisions:g} decisions"
        lines.append(f"  a second of audio          {profile.second.instructions:>12,} instructions, {told}")
        lines.append(f"  RAM, one recogniser        {profile.recogniser_ram_bytes:>12,} bytes")
    lines.append(f"  stack, most in use         {profile.stack_bytes:>12,} bytes")
    if "stack_bound_bytes" in profile.firmware:
        lines.append(f"  stack, static bound        {profile.firmware['stack_bound_bytes']:>12,} bytes")
    lines += ["", f"  {'layer':<28}{'instructions':>13}{'share':>8}{'bytes':>9}  kernel"] if profile.layers else []
    for layer in profile.layers:
        share = layer.instructions / network.instructions
        lines.append(f"  {layer.name:<28}{layer.instructions:>13,}{share:>8.1%}{layer.bytes:>9,}  {layer.kernel}")
    if frontend:
        lines += ["", f"  {'stage of a frame, by itself':<28}{'instructions':>13}"]
        lines += [f"  {name:<28}{found:>13,}" for name, found in frontend.stages.items()]
    columns = {"network": network} | ({"front end": frontend.frame} if frontend else {})
    lines += ["", f"  {'kind':<28}" + "".join(f"{name:>13}" for name in columns)]
    lines += [f"  {kind:<28}" + "".join(f"{one.mix[kind]:>13,}" for one in columns.values()) for kind in network.mix]
    return "\n".join([*lines, "", f"Cycles are an {profile.cycles_note}."])


def _render_cost(cost: Cost, ram: str, note: str) -> list[str]:
    return [
        f"    cycles, estimated        {cost.cycles_estimate:>12,}",
        f"    {ram:<25}{cost.ram_bytes:>12,} bytes{note}",
        f"    flash                    {cost.flash_bytes:>12,} bytes, {cost.code_bytes:,} of them code",
    ]
