"""The plan of a program's memory: layer by layer, or in cascades where that is worth its price."""

from collections.abc import Callable

from mbx_deploy.compiler.cascade import MOST_CALLS, STRIPES, Cascade, make_cascade, stripes_of
from mbx_deploy.compiler.memory_plan import MemoryPlan, alive_bytes, plan_cascades, whole_kernels
from mbx_deploy.compiler.plan_checker import check_plan
from mbx_deploy.network.program import Convolution, Program, is_depthwise_line, multiply_accumulates

# What a cascade saves in the arena must be worth its price. A step takes some 28 bytes of flash with its struct, and
# a microcontroller has some four bytes of flash for one of RAM. Each stripe of a depthwise line prepares its channels
# anew, which takes the time of so many multiply-accumulates of that set of kernels (counted in the emulator, on the
# shipped model); one percent of time is to spare five of RAM.
STEP_COST_BYTES = 7
CHANNEL_COST_MACS = {"portable": 100, "dsp": 160, "thumb": 100, "helium": 350}
TIME_COST = 5
MOST_ARENA_BYTES = 4 << 16  # that a step of a cascade can point into


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
    alone = alive_bytes(program, whole.kernels, (), range(count))
    chosen: list[tuple[Cascade, ...]] = []
    for stripe in STRIPES:
        candidates: dict[int, list[tuple[int, Cascade]]] = {}
        for first in range(count):
            for last in range(first + 1, min(count, first + MOST_CALLS)):
                cascade = make_cascade(program, first, last, stripe)
                if cascade:
                    peak = max(alive_bytes(program, whole.kernels, (cascade,), range(first, last + 1)))
                    candidates.setdefault(last, []).append((peak, cascade))
        peaks = {peak for found in candidates.values() for peak, _ in found}
        for limit in sorted(peak for peak in {*peaks, *alone} if peak < whole.arena_bytes):
            divided = _divide(limit, alone, candidates, price)
            if divided and divided not in chosen:
                chosen.append(divided)
    return chosen


def _divide(
    limit: int,
    alone: list[int],
    candidates: dict[int, list[tuple[int, Cascade]]],
    price: Callable[[Cascade], int],
) -> tuple[Cascade, ...] | None:
    """Return the cascades of least price with which no call's peak is above a limit, or None.

    alone: the peak of each call by itself. candidates: last call -> (peak, cascade).
    """
    best: list[tuple[int, tuple[Cascade, ...]] | None] = [(0, ())]
    for number, peak_alone in enumerate(alone):
        ways: list[tuple[int, tuple[Cascade, ...]]] = []
        before = best[number]
        if before is not None and peak_alone <= limit:
            ways.append(before)
        for peak, cascade in candidates.get(number, ()):
            before = best[cascade.first]
            if before is not None and peak <= limit:
                ways.append((before[0] + price(cascade), (*before[1], cascade)))
        best.append(min(ways, key=lambda way: way[0]) if ways else None)
    found = best[-1]
    return found[1] if found else None
