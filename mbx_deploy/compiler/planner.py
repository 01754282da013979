"""The plan of a program's memory: layer by layer, or in cascades where that is worth its price."""

from collections.abc import Callable
from dataclasses import dataclass

from mbx_deploy.compiler.cascade import MOST_CALLS, STRIPES, Cascade, could_take_stripes, stripes_of
from mbx_deploy.compiler.memory_plan import (
    MANY_CALLS,
    MemoryPlan,
    alive_bytes,
    live_ranges,
    plan_cascades,
    whole_kernels,
)
from mbx_deploy.compiler.plan_checker import check_plan
from mbx_deploy.compiler.window import windows
from mbx_deploy.network.program import Convolution, Program, is_depthwise_line, multiply_accumulates

# What a cascade saves in the arena must be worth its price. A step takes some 28 bytes of flash with its struct, and
# a microcontroller has some four bytes of flash for one of RAM. Each stripe of a depthwise line prepares its channels
# anew, which takes the time of so many multiply-accumulates of that set of kernels (counted in the emulator, on the
# shipped model); one percent of time is to spare five of RAM.
STEP_COST_BYTES = 7
CHANNEL_COST_MACS = {"portable": 100, "dsp": 160, "thumb": 100, "helium": 350}
TIME_COST = 5
MOST_ARENA_BYTES = 4 << 16  # that a step of a cascade can point into
FEW_PEAKS = 8
FEW_LIMITS = 2  # that are tried for a stripe where a program has more than MANY_CALLS


@dataclass(frozen=True)
class Candidate:
    """A cascade that could be. peak: bytes that are alive at its worst call. price: in bytes of the arena."""

    peak: int
    price: int
    cascade: Cascade


def plan_memory(program: Program, kernel_set: str = "portable") -> MemoryPlan:
    """Return the plan for a set of kernels whose arena is smallest, less what its cascades cost in flash.

    Layer by layer, or with cascades where the arena's peak is.
    """
    kernels = whole_kernels(program, kernel_set)
    whole = plan_cascades(program, kernels)
    price = _price(program, whole.arena_bytes, CHANNEL_COST_MACS[kernel_set])
    plans = [whole, *(plan_cascades(program, kernels, chosen) for chosen in _choose_cascades(program, whole, price))]
    usable = [plan for plan in plans if not plan.cascades or plan.arena_bytes <= MOST_ARENA_BYTES]
    best = min(usable, key=lambda plan: plan.arena_bytes + sum(map(price, plan.cascades)))
    check_plan(program, best)
    return best


def _price(program: Program, arena_bytes: int, channel_macs: int) -> Callable[[Cascade], int]:
    """Return what tells a cascade's price in flash and time, in bytes of an arena that has so many without it."""
    total = multiply_accumulates(program)

    def price(cascade: Cascade) -> int:
        channels = 0
        for number, stripes in stripes_of(cascade).items():
            call = program.calls[number]
            if isinstance(call, Convolution) and is_depthwise_line(program, call):
                channels += program.buffers[call.output].channels * (len(stripes) - 1)
        time = TIME_COST * arena_bytes * channel_macs * channels // max(1, total)
        return STEP_COST_BYTES * len(cascade.steps) + time

    return price


def _choose_cascades(program: Program, whole: MemoryPlan, price: Callable[[Cascade], int]) -> list[tuple[Cascade, ...]]:
    """Return sets of cascades that are worth a plan: for each peak that some set reaches, the one of least price.

    What is alive during a cascade depends on no other one: the peak of each is known by itself, and the best way to
    divide the calls up to one is the best way up to where the last cascade begins, and that cascade.
    """
    count = len(program.calls)
    ranges = live_ranges(program)
    alone = alive_bytes(program, whole.kernels, (), range(count), ranges)
    chosen: list[tuple[Cascade, ...]] = []
    able = list(windows(program, ranges, whole.kernels, _lengths(program, alone)))
    for stripe in STRIPES:
        candidates: dict[int, list[Candidate]] = {}
        for window in able:
            for last in range(1, len(window.program.calls)):
                found = window.cascade(last, stripe)
                if found:
                    peak, cascade = found
                    candidates.setdefault(cascade.last, []).append(Candidate(peak, price(cascade), cascade))
        peaks = {candidate.peak for found in candidates.values() for candidate in found}
        limits = sorted(peak for peak in {*peaks, *alone} if peak < whole.arena_bytes)
        if count > MANY_CALLS:
            limits = [limits[i * len(limits) // FEW_LIMITS] for i in range(FEW_LIMITS)] if limits else []
        for limit in limits:
            divided = _divide(limit, alone, candidates)
            if divided and divided not in chosen:
                chosen.append(divided)
    return chosen


def _lengths(program: Program, alone: list[int]) -> list[int]:
    """Return how many calls from each on could be one cascade that is worth a look.

    alone: the peak of each call by itself. In a program of more than MANY_CALLS it is one that holds a call whose peak
    only FEW_PEAKS calls reach: where more do, the arena is none the smaller for some cascades.
    """
    count = len(program.calls)
    lengths = [0] * (count + 1)
    for number in range(count - 1, -1, -1):
        able = could_take_stripes(program.calls[number])
        lengths[number] = min(MOST_CALLS, lengths[number + 1] + 1) if able else 0
    if count > MANY_CALLS:
        common = sorted(alone)[-FEW_PEAKS - 1]
        peaks = {number for number, peak in enumerate(alone) if peak > common}
        near = {number - back for number in peaks for back in range(MOST_CALLS)}
        lengths = [length if number in near else 0 for number, length in enumerate(lengths)]
    return lengths[:count]


def _divide(limit: int, alone: list[int], candidates: dict[int, list[Candidate]]) -> tuple[Cascade, ...] | None:
    """Return the cascades of least price with which no call's peak is above a limit, or None.

    alone: the peak of each call by itself. candidates: by their last call.
    """
    best: list[tuple[int, tuple[Cascade, ...]] | None] = [(0, ())]
    for number, peak_alone in enumerate(alone):
        ways: list[tuple[int, tuple[Cascade, ...]]] = []
        before = best[number]
        if before is not None and peak_alone <= limit:
            ways.append(before)
        for candidate in candidates.get(number, ()):
            before = best[candidate.cascade.first]
            if before is not None and candidate.peak <= limit:
                ways.append((before[0] + candidate.price, (*before[1], candidate.cascade)))
        best.append(min(ways, key=lambda way: way[0]) if ways else None)
    found = best[-1]
    return found[1] if found else None
