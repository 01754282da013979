"""A build's firmware, counted: instructions by layer and stage, bytes of flash, RAM and stack.

Instructions are those that the emulator executes, exactly, the same in every run. Cycles are an estimate and say so.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.build import Build
from mbx_deploy.constant_arrays import frontend_arrays
from mbx_deploy.engines import FirmwareEngine
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.instructions import AFTER_NETWORK, NETWORK
from mbx_deploy.profiling.counting import Counts, Segment, count
from mbx_deploy.profiling.listing import Instruction, Listing, estimate_cycles_m4, mix, read_listing
from mbx_deploy.recognizer import Recognizer
from mbx_deploy.session import FRONTEND_STAGES, ITEM_CLIP, TRACE_RESULTS, TRACE_STAGES, Item
from mbx_deploy.target import find_target

_FRAME, _AFTER_FRAME = "mbx_frame_coefficients", "mbx_quantize_features"
_OBSERVER = "observe"
_CYCLES_NOTE = "estimate for a Cortex-M4 without wait states, from ARM DDI 0439B"


@dataclass(frozen=True)
class Layer:
    """One call of the network. name: as sqnr and the memory report have it. kernel: the C function.

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
class Profile:
    """What one build costs. frontend: of a frame. stages: {stage: instructions a frame}.

    firmware: bytes of the whole ELF, stack_bound_bytes among them. stack_bytes: the most stack that was written.
    """

    target: str
    cpu: str
    network: Cost
    layers: tuple[Layer, ...]
    frontend: Cost
    frames: int
    stages: dict[str, int]
    stack_bytes: int
    firmware: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON takes it."""
        total = self.network.instructions
        return {
            "target": self.target,
            "cpu": self.cpu,
            "network": _cost(self.network),
            "layers": [{**vars(layer), "share": round(layer.instructions / total, 6)} for layer in self.layers],
            "frontend": {
                **{key: value for key, value in _cost(self.frontend).items() if key != "instructions"},
                "instructions_per_frame": self.frontend.instructions,
                "frames": self.frames,
                "stages": [{"name": name, "instructions": found} for name, found in self.stages.items()],
            },
            "stack": {"high_water_bytes": self.stack_bytes, "bound_bytes": self.firmware.get("stack_bound_bytes")},
            "firmware": {key: value for key, value in self.firmware.items() if key != "stack_bound_bytes"},
            "cycles_note": _CYCLES_NOTE,
        }


def _cost(cost: Cost) -> dict[str, Any]:
    return {**vars(cost), "flash_bytes": cost.flash_bytes}


def profile_build(build: Build) -> Profile:
    """Return what a build's firmware costs, counted in QEMU on a second of noise, once.

    A board's is counted on the machine of its CPU. Raises InputError for a build for this machine or without an ELF,
    ToolMissing where QEMU, gcc or the target's binutils are missing, CheckFailed where the firmware fails.
    """
    if build.target.toolchain == "host":
        raise InputError(f"nothing to count in ({build.folder}): got a build for this machine, need one for a Cortex-M")
    recognizer = build.recognizer
    engine = FirmwareEngine(recognizer, build.elf, build.target)
    listing = read_listing(engine.elf, build.target.toolchain)
    plain = _run(build, listing, _network_marks(listing), TRACE_RESULTS)
    traced = _run(build, listing, _stage_marks(listing), TRACE_STAGES)
    network, layers = _measure_network(recognizer, listing, plain, _arena_bytes(build.folder))
    frontend, frames = _measure_frontend(recognizer, listing, plain)
    top = _need_symbol(listing, "mbx_stack_top")
    cpu = find_target(build.target.emulated_as).cpu if build.target.emulated_as else build.target.cpu
    return Profile(
        target=build.target.name,
        cpu=cpu,
        network=network,
        layers=layers,
        frontend=frontend,
        frames=frames,
        stages=_measure_stages(listing, traced),
        stack_bytes=top - plain.lowest_write,
        firmware=dict(_report(build.folder)["compiled"]),
    )


def _run(build: Build, listing: Listing, marks: Sequence[int], trace: int) -> Counts:
    samples = np.random.default_rng(0).integers(-8192, 8192, build.recognizer.config.clip_samples).astype(np.int16)

    def run(plugin: str) -> None:
        FirmwareEngine(build.recognizer, build.elf, build.target, plugin).run([Item(ITEM_CLIP, samples)], trace)

    top = _need_symbol(listing, "mbx_stack_top")
    return count(run, marks, (top - _need_symbol(listing, "mbx_stack_bytes"), top))


def _need_symbol(listing: Listing, name: str) -> int:
    found = {symbol.address for symbol in listing.symbols if symbol.name == name}
    if len(found) != 1:  # of two functions of one name, who knows which is called
        raise CheckFailed(f"the firmware can't be counted: its ELF has {len(found)} symbols {name}, need 1")
    return found.pop()


def _network_marks(listing: Listing) -> list[int]:
    """Return where the network begins and ends, each call of it returns, and a frame begins and ends."""
    ends = [_need_symbol(listing, name) for name in (NETWORK, AFTER_NETWORK, _FRAME, _AFTER_FRAME)]
    return ends + _returns(listing, NETWORK, ("bl",))


def _stage_marks(listing: Listing) -> list[int]:
    """Return where a frame begins and ends, and the observer is called and returns."""
    ends = [_need_symbol(listing, name) for name in (_FRAME, _AFTER_FRAME, _OBSERVER)]
    return ends + _returns(listing, _FRAME, ("blx",))


def _returns(listing: Listing, function: str, calls: Sequence[str]) -> list[int]:
    return [listing.behind(one.address) for one in listing.inside(function) if one.name in calls]


def _measure_network(
    recognizer: Recognizer, listing: Listing, counts: Counts, arena_bytes: int
) -> tuple[Cost, tuple[Layer, ...]]:
    """Return the cost of the inference, and of each of its calls, which together are the whole; no calls where the
    network runs on TFLite Micro.
    """
    segments = list(counts.segments)
    first, end = _need_symbol(listing, NETWORK), _need_symbol(listing, AFTER_NETWORK)
    start = next(i for i, segment in enumerate(segments) if segment.mark == first)
    stop = next(i for i, segment in enumerate(segments) if i > start and segment.mark == end)
    inside, calls = segments[start:stop], recognizer.program.calls
    if len(inside) == 1:  # another runtime interprets the model: it has one array and no calls
        array = sum(s.size for s in listing.symbols if s.name.endswith("_network") and s.kind in "rR")
        return _measure(listing, counts, inside, 1, arena_bytes, array), ()
    if len(inside) != len(calls) + 1:
        raise CheckFailed(f"the firmware can't be counted by layer: it made {len(inside) - 1} calls of {len(calls)}")
    layers, constants = [], _layer_bytes(listing, len(calls))
    for number, (call, segment) in enumerate(zip(calls, inside, strict=False)):
        parts = inside[number:] if number == len(calls) - 1 else [segment]  # the last one's with the way back
        kernel = _callee(listing, inside[number + 1].mark)
        layers.append(Layer(call.name, kernel, counts.instructions(parts), constants[number]))
    other = sum(s.size for s in listing.symbols if s.name == "model" and s.kind in "rR")
    return _measure(listing, counts, inside, 1, arena_bytes, sum(constants) + other), tuple(layers)


def _callee(listing: Listing, behind: int) -> str:
    """Return the name of the function whose call returns to an address."""
    call: Instruction | None = listing.code.get(behind - 4) or listing.code.get(behind - 2)
    match = re.search(r"<([^+>]+)", call.operands) if call else None
    return match[1] if match else "?"


def _layer_bytes(listing: Listing, calls: int) -> list[int]:
    """Return the bytes of constants of each call: the generated arrays bear its number."""
    found = [0] * calls
    for symbol in listing.symbols:
        match = re.fullmatch(r"\w+?_(\d+)", symbol.name)
        if match and symbol.kind in "rR" and int(match[1]) < calls:
            found[int(match[1])] += symbol.size
    return found


def _measure_frontend(recognizer: Recognizer, listing: Listing, counts: Counts) -> tuple[Cost, int]:
    first = _need_symbol(listing, _FRAME)
    frames = [segment for segment in counts.segments if segment.mark == first]
    config = recognizer.config
    tables = {array.name for array in frontend_arrays(recognizer)}
    table_bytes = sum(s.size for s in listing.symbols if s.kind in "rR" and _is_table(s.name, tables))
    history = 2 * (config.window_length + 3)
    working = 8 * (config.n_fft // 2 + 1 + config.n_mels) + 4 * config.num_coefficients
    return _measure(listing, counts, frames, len(frames), history + working, table_bytes), len(frames)


def _is_table(name: str, tables: set[str]) -> bool:
    return name in tables or name.endswith("_frontend")


def _measure(
    listing: Listing, counts: Counts, segments: Sequence[Segment], times: int, ram_bytes: int, constant_bytes: int
) -> Cost:
    """Return the cost of one of so many times; averages are rounded."""
    by_address = counts.by_address(segments)
    functions = {listing.function_at(address) for address in by_address}
    return Cost(
        instructions=round(counts.instructions(segments) / times),
        mix={kind: round(found / times) for kind, found in mix(listing, by_address).items()},
        cycles_estimate=round(estimate_cycles_m4(listing, by_address, counts.jumps(segments)) / times),
        ram_bytes=ram_bytes,
        code_bytes=sum(function.size for function in functions if function),
        constant_bytes=constant_bytes,
    )


def _measure_stages(listing: Listing, counts: Counts) -> dict[str, int]:
    """Return the instructions of each stage of a frame, on average, in a run whose stages are observed.

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
        f"    cycles, estimated        {network.cycles_estimate:>12,}",
        f"    RAM (arena)              {network.ram_bytes:>12,} bytes",
        f"    flash                    {network.flash_bytes:>12,} bytes, {network.code_bytes:,} of them code",
        f"  front end, one frame       {frontend.instructions:>12,} instructions",
        f"    cycles, estimated        {frontend.cycles_estimate:>12,}",
        f"    RAM                      {frontend.ram_bytes:>12,} bytes, most of it in the arena",
        f"    flash                    {frontend.flash_bytes:>12,} bytes, {frontend.code_bytes:,} of them code",
        f"  stack, most in use         {profile.stack_bytes:>12,} bytes",
    ]
    if "stack_bound_bytes" in profile.firmware:
        lines.append(f"  stack, static bound        {profile.firmware['stack_bound_bytes']:>12,} bytes")
    lines += ["", f"  {'layer':<28}{'instructions':>13}{'share':>8}{'bytes':>9}  kernel"] if profile.layers else []
    for layer in profile.layers:
        share = layer.instructions / network.instructions
        lines.append(f"  {layer.name:<28}{layer.instructions:>13,}{share:>8.1%}{layer.bytes:>9,}  {layer.kernel}")
    lines += ["", f"  {'stage of a frame':<28}{'instructions':>13}"]
    lines += [f"  {name:<28}{found:>13,}" for name, found in profile.stages.items()]
    lines += ["", f"  {'kind':<28}{'network':>13}{'front end':>13}"]
    lines += [f"  {kind:<28}{network.mix[kind]:>13,}{frontend.mix[kind]:>13,}" for kind in network.mix]
    return "\n".join([*lines, "", f"Cycles are an {_CYCLES_NOTE}."])
