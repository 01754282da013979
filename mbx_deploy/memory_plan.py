"""Where each activation lies in the arena, which calls run in stripes, and a checker that shares nothing with both."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mbx_deploy.cascade import (
    STRIPES,
    Cascade,
    Shift,
    Step,
    Stripe,
    Whole,
    lead_bytes,
    make_cascade,
    stripe_view,
    stripes_of,
)
from mbx_deploy.kernels import Kernel, select_kernel, select_stripe_kernel
from mbx_deploy.program import (
    Addition,
    Average,
    Call,
    Convolution,
    Pointwise,
    Program,
    Reshape,
    call_inputs,
    lead_in_place,
    may_overwrite,
    multiply_accumulates,
)

ALIGNMENT_BYTES = 8
# What a cascade saves in the arena must be worth its price. A step takes some 28 bytes of flash with its struct, and
# a microcontroller has some four bytes of flash for one of RAM. Each stripe of a depthwise layer prepares its channels
# anew, which takes the time of so many multiply-accumulates of that set of kernels (counted in the emulator, on the
# shipped model); one percent of time is to spare five of RAM.
STEP_COST_BYTES = 7
CHANNEL_COST_MACS = {"portable": 100, "dsp": 160, "thumb": 100, "helium": 350}
TIME_COST = 5
MOST_ORDERS = 20
MOST_ARENA_BYTES = 4 << 16  # that a step of a cascade can point into


@dataclass(frozen=True)
class LiveRange:
    """The calls during which a buffer holds something that is still needed, both ends included.

    first is the call that writes it, -1 for the network's input; last the call that reads it last, one past the last
    call for the network's output. What a cascade reads, writes or carries along lives for all of it. size_bytes: of
    what of it is in memory at once.
    """

    buffer: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """offsets: bytes from the arena's start, one a buffer. scratch_offsets: of each call's working memory.

    kernels: one a call. cascades: in the order of their calls, each call in at most one. lower_bound_bytes: what is
    alive at the worst call, peak_call; no plan in this order and with these cascades can do with less.
    """

    offsets: tuple[int, ...]
    scratch_offsets: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    arena_bytes: int
    live_ranges: tuple[LiveRange, ...]
    peak_call: int
    lower_bound_bytes: int
    cascades: tuple[Cascade, ...] = ()

    def is_free(self, call: Call) -> bool:
        """Return whether a call needs no code: it leaves the same bytes in the same place."""
        return isinstance(call, Reshape) and self.offsets[call.input] == self.offsets[call.output]

    def scratch_calls(self, program: Program, number: int) -> tuple[int, int]:
        """Return the first and the last call during which a call's working memory is in use."""
        return _scratch_calls(program, self.cascades, number)

    def steps(self) -> list[Step]:
        """Return what runs one after another: calls, and the steps of cascades."""
        steps: list[Step] = []
        number = 0
        begins = {cascade.first: cascade for cascade in self.cascades}
        while number < len(self.kernels):
            cascade = begins.get(number)
            steps += cascade.steps if cascade else [Whole(number)]
            number = cascade.last + 1 if cascade else number + 1
        return steps


@dataclass(frozen=True)
class _Block:
    """Buffers of which each overwrites the one before, or one call's working memory.

    places: (buffer, bytes from the block's start). spans: (first, last, low, high): what it takes during some calls.
    """

    places: tuple[tuple[int, int], ...]
    spans: tuple[tuple[int, int, int, int], ...]

    @property
    def size_bytes(self) -> int:
        return max(high for _, _, _, high in self.spans)

    @property
    def first(self) -> int:
        return min(span[0] for span in self.spans)

    @property
    def last(self) -> int:
        return max(span[1] for span in self.spans)


def live_ranges(program: Program, cascades: Sequence[Cascade] = ()) -> tuple[LiveRange, ...]:
    """Return one live range a buffer, in the order of the buffers."""
    first = {program.input: -1}
    last = {program.input: -1}
    sizes = [buffer.size_bytes for buffer in program.buffers]
    for number, call in enumerate(program.calls):
        first.setdefault(call.output, number)
        last[call.output] = number
        for buffer in call_inputs(call):
            last[buffer] = number
    last[program.output] = len(program.calls)
    for cascade in cascades:
        for call in program.calls[cascade.first : cascade.last + 1]:
            for buffer in call_inputs(call):
                if buffer not in cascade.windows or buffer in cascade.carried:
                    last[buffer] = max(last[buffer], cascade.last)
            if call.output not in cascade.windows or call.output in cascade.carried:
                first[call.output] = cascade.first
        for buffer, positions in cascade.windows.items():
            sizes[buffer] = positions * program.buffers[buffer].channels
    return tuple(LiveRange(i, _aligned(sizes[i]), first[i], last[i]) for i in range(len(program.buffers)))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def plan_memory(program: Program, kernel_set: str = "portable") -> MemoryPlan:
    """Return the plan for a set of kernels whose arena is smallest, less what its cascades cost in flash.

    Layer by layer, or with cascades where the arena's peak is. A program's plans are kept as long as it lives.
    """
    known = _plans.setdefault(id(program), {})
    if not known:
        weakref.finalize(program, _plans.pop, id(program), None)
    if kernel_set not in known:
        known[kernel_set] = _smallest_plan(program, kernel_set)
    return known[kernel_set]


_plans: dict[int, dict[str, MemoryPlan]] = {}


def _smallest_plan(program: Program, kernel_set: str) -> MemoryPlan:
    whole = plan_cascades(program, kernel_set)
    price = _price(program, whole.arena_bytes, CHANNEL_COST_MACS[kernel_set])
    plans = [whole] + [_plan(program, whole.kernels, chosen) for chosen in _choose_cascades(program, whole, price)]
    usable = [plan for plan in plans if not plan.cascades or plan.arena_bytes <= MOST_ARENA_BYTES]
    best = min(usable, key=lambda plan: plan.arena_bytes + sum(map(price, plan.cascades)))
    check_plan(program, best)
    return best


def plan_cascades(program: Program, kernel_set: str, cascades: tuple[Cascade, ...] = ()) -> MemoryPlan:
    """Return the plan with these cascades, in the order of their calls, for a set of kernels."""
    return _plan(program, tuple(select_kernel(program, call, kernel_set) for call in program.calls), cascades)


def _price(program: Program, arena_bytes: int, channel_macs: int) -> Callable[[Cascade], int]:
    """Return what tells a cascade's price in flash and time, in bytes of an arena that has so many without it."""
    total = multiply_accumulates(program)

    def price(cascade: Cascade) -> int:
        depthwise = [
            program.buffers[call.output].channels
            for number, call in enumerate(program.calls[cascade.first : cascade.last + 1], cascade.first)
            if isinstance(call, Convolution)
            for _ in [*stripes_of(cascade, number)][1:]
        ]
        time = TIME_COST * arena_bytes * channel_macs * sum(depthwise) // max(1, total)
        return STEP_COST_BYTES * len(cascade.steps) + time

    return price


def _choose_cascades(program: Program, whole: MemoryPlan, price: Callable[[Cascade], int]) -> list[tuple[Cascade, ...]]:
    """Return sets of cascades that are worth a plan: for each peak that some set reaches, the one of least price.

    What is alive during a cascade depends on no other one: the peak of each is known by itself, and the best way to
    divide the calls up to one is the best way up to where the last cascade begins, and that cascade.
    """
    count = len(program.calls)
    alone = _alive(program, _blocks(program, whole.live_ranges, whole.kernels, ()))
    chosen: list[tuple[Cascade, ...]] = []
    for stripe in STRIPES:
        candidates: dict[int, list[tuple[int, Cascade]]] = {}
        for first in range(count):
            for last in range(first + 1, count):
                cascade = make_cascade(program, first, last, stripe)
                if cascade:
                    kernels = _striped(program, whole.kernels, (cascade,))
                    blocks = _blocks(program, live_ranges(program, (cascade,)), kernels, (cascade,))
                    peak = max(_alive(program, blocks)[first : last + 1])
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


def _striped(program: Program, kernels: tuple[Kernel, ...], cascades: Sequence[Cascade]) -> tuple[Kernel, ...]:
    """Return the kernels with those of cascades in the place of those of whole calls."""
    striped = list(kernels)
    for cascade in cascades:
        for number in range(cascade.first, cascade.last + 1):
            largest = max(stripes_of(cascade, number), key=lambda stripe: stripe.end - stripe.first)
            striped[number] = select_stripe_kernel(*stripe_view(program, largest), kernels[number])
    return tuple(striped)


def _plan(program: Program, whole: tuple[Kernel, ...], cascades: tuple[Cascade, ...]) -> MemoryPlan:
    """Return a plan: outputs in the place of inputs that die, where kernels allow it.

    Blocks are placed one after another, each at the lowest offset where it meets no live neighbour: by size, by time, by
    lifetime, and, as long as the arena is above the lower bound, with the block that ends highest placed earlier.
    """
    ranges = live_ranges(program, cascades)
    kernels = _striped(program, whole, cascades)
    every = _blocks(program, ranges, kernels, cascades)
    orders = (
        sorted(every, key=lambda b: (-b.size_bytes, b.first)),
        sorted(every, key=lambda b: (b.first, -b.size_bytes)),
        sorted(every, key=lambda b: (b.first - b.last, -b.size_bytes, b.first)),
    )
    alive = _alive(program, every)
    placed = min((_climb(order, max(alive)) for order in orders), key=_top)
    offsets = {buffer: placed[block] + low for block in every for buffer, low in block.places if buffer >= 0}
    scratch = {-1 - mark: placed[block] for block in every for mark, _ in block.places if mark < 0}
    return MemoryPlan(
        offsets=tuple(offsets[live.buffer] for live in ranges),
        scratch_offsets=tuple(scratch.get(number, 0) for number in range(len(kernels))),
        kernels=kernels,
        arena_bytes=_top(placed),
        live_ranges=ranges,
        peak_call=max(range(len(alive)), key=alive.__getitem__),
        lower_bound_bytes=max(alive),
        cascades=cascades,
    )


def _alive(program: Program, blocks: Sequence[_Block]) -> list[int]:
    """Return the bytes that are taken during each call."""
    spans = [span for block in blocks for span in block.spans]
    return [
        sum(high - low for first, last, low, high in spans if first <= call <= last)
        for call in range(len(program.calls))
    ]


def _blocks(
    program: Program, ranges: tuple[LiveRange, ...], kernels: Sequence[Kernel], cascades: Sequence[Cascade]
) -> list[_Block]:
    """Return what is placed: a block for each chain of buffers that overwrite each other, and working memories.

    The working memory of a call is marked by -1 less its number.
    """
    leads = _leads(program, ranges, cascades)
    chain: dict[int, list[tuple[int, int]]] = {program.input: [(program.input, 0)]}
    for call in program.calls:
        host, lead = leads.get(call.output, (None, 0))
        chain[call.output] = chain[host] if host is not None else []
        place = dict(chain[host])[host] - lead if host is not None else 0
        chain[call.output].append((call.output, place))
    unique = {id(members): members for members in chain.values()}
    blocks = []
    for members in unique.values():
        lowest = min(place for _, place in members)
        places = tuple((buffer, place - lowest) for buffer, place in members)
        blocks.append(_Block(places, _spans([(ranges[buffer], place) for buffer, place in places])))
    for number, kernel in enumerate(kernels):
        size = _aligned(kernel.scratch_bytes)
        if size:
            blocks.append(_Block(((-1 - number, 0),), ((*_scratch_calls(program, cascades, number), 0, size),)))
    return blocks


def _scratch_calls(program: Program, cascades: Sequence[Cascade], number: int) -> tuple[int, int]:
    """A mean's sums are kept from its first stripe to its last; other calls keep nothing."""
    inside = [c for c in cascades if c.first <= number <= c.last and isinstance(program.calls[number], Average)]
    return (inside[0].first, inside[0].last) if inside else (number, number)


def _leads(
    program: Program, ranges: tuple[LiveRange, ...], cascades: Sequence[Cascade]
) -> dict[int, tuple[int | None, int]]:
    """Return for each output that takes the place of an input: that input, and by how much it begins before it."""
    leads: dict[int, tuple[int | None, int]] = {}
    inside = {number: c for c in cascades for number in range(c.first, c.last + 1)}
    for number, call in enumerate(program.calls):
        cascade = inside.get(number)
        if cascade:
            found = _leads_in_stripes(program, ranges, cascade, number)
        else:
            dying = [b for b in call_inputs(call) if ranges[b].last == number and may_overwrite(program, call, b)]
            found = {b: lead_in_place(program, call, b) for b in dying}
        spared = []
        for buffer, lead in found.items():
            both = ranges[call.output].size_bytes + ranges[buffer].size_bytes
            union = max(ranges[call.output].size_bytes, _aligned(lead) + ranges[buffer].size_bytes)
            # Of equals the largest: what lies behind the output's end is then free soonest.
            spared.append((both - union, ranges[buffer].size_bytes, -buffer))
        best = max(spared, default=(0, 0, 0))
        if best[0] > 0:
            leads[call.output] = (-best[2], _aligned(found[-best[2]]))
    return leads


def _leads_in_stripes(program: Program, ranges: tuple[LiveRange, ...], cascade: Cascade, number: int) -> dict[int, int]:
    """Return the inputs whose place the output of a call in a cascade may take, and by how much it begins before them.

    The cascade's own output that of one of its inputs; a stripe that of one whose positions it holds.
    """
    call = program.calls[number]
    if number == cascade.last:
        read = {b for c in program.calls[cascade.first : number + 1] for b in call_inputs(c)} - {*cascade.windows}
        return {b: lead_bytes(program, cascade, b) for b in sorted(read) if ranges[b].last == number}
    if call.output in cascade.carried or not isinstance(call, Pointwise | Addition):
        return {}
    dying = [b for b in call_inputs(call) if ranges[b].last == number and b in cascade.windows]
    positions, channels = cascade.windows[call.output], program.buffers[call.output].channels
    return {b: max(0, positions * (channels - program.buffers[b].channels)) for b in dying if b not in cascade.carried}


def _spans(chain: list[tuple[LiveRange, int]]) -> tuple[tuple[int, int, int, int], ...]:
    """Return (first, last, low, high) of what a chain of (live range, place) holds, in pieces of time."""
    edges = sorted({live.first for live, _ in chain} | {live.last + 1 for live, _ in chain})
    spans = []
    for first, end in zip(edges, edges[1:], strict=False):
        held = [(place, place + live.size_bytes) for live, place in chain if live.first <= first <= live.last]
        if held:
            spans.append((first, end - 1, min(low for low, _ in held), max(high for _, high in held)))
    return tuple(spans)


def _climb(order: list[_Block], bound: int) -> dict[_Block, int]:
    """Return the best placement of an order and of those that follow from it, the highest block moved to the front."""
    best = placed = _place(order)
    for _ in range(MOST_ORDERS):
        if _top(best) == bound:
            break
        highest = max(order, key=lambda block: placed[block] + block.size_bytes)
        order = [highest, *(block for block in order if block is not highest)]
        placed = _place(order)
        best = min(best, placed, key=_top)
    return best


def _place(blocks: list[_Block]) -> dict[_Block, int]:
    placed: dict[_Block, int] = {}
    for block in blocks:
        # Offsets of the block from..to that would lay one of its spans over what is placed.
        taken = [
            (at + low - high_here, at + high - low_here)
            for other, at in placed.items()
            for first, last, low, high in other.spans
            for start, end, low_here, high_here in block.spans
            if first <= end and start <= last
        ]
        candidates = sorted({0, *(end for _, end in taken if end > 0)})
        placed[block] = next(o for o in candidates if all(o <= begin or o >= end for begin, end in taken))
    return placed


def _top(placed: dict[_Block, int]) -> int:
    return max(offset + block.size_bytes for block, offset in placed.items())


def check_plan(program: Program, plan: MemoryPlan) -> None:
    """Raise AssertionError unless running the program in the arena gives every step the bytes that were written for it.

    It runs the program on owners instead of values: each byte of the arena knows of which buffer it is, and which byte
    of it. What a step reads must be just that; its working memory must meet neither that nor its output nor anything
    that is still to be read; its output may lie over an input only where the kernel allows it. Every call must run on
    all of its positions, in order.
    """
    arena = np.full(plan.arena_bytes, -1, np.int64)
    done = [0] * len(program.calls)

    def span(start: int, size: int, alignment: int) -> slice:
        if start < 0 or start % alignment or start + size > plan.arena_bytes:
            raise AssertionError(f"{size} bytes lie at {start} of {plan.arena_bytes}")
        return slice(start, start + size)

    def owners(buffer: int, start: int, size: int) -> np.ndarray:
        return (buffer << 32) + np.arange(start, start + size, dtype=np.int64)

    def read(buffer: int, place: slice, start: int, reader: str) -> None:
        if not np.array_equal(arena[place], owners(buffer, start, place.stop - place.start)):
            raise AssertionError(f"{reader} reads buffer {buffer} after it was overwritten")

    arena[span(plan.offsets[program.input], program.buffers[program.input].size_bytes, ALIGNMENT_BYTES)] = owners(
        program.input, 0, program.buffers[program.input].size_bytes
    )
    for step in plan.steps():
        if isinstance(step, Shift):
            channels, start = program.buffers[step.buffer].channels, plan.offsets[step.buffer]
            source = span(start + step.first * channels, step.count * channels, 4)
            arena[span(start, step.count * channels, 4)] = arena[source].copy()
            continue
        number = step.call
        call, kernel = program.calls[number], plan.kernels[number]
        operands = [*_operands(program, plan, step)]
        places = [span(at, size, 4 if isinstance(step, Stripe) else ALIGNMENT_BYTES) for _, at, size, _ in operands]
        *inputs, output = places
        scratch = span(plan.scratch_offsets[number], kernel.scratch_bytes, ALIGNMENT_BYTES)
        keeps = isinstance(step, Stripe) and isinstance(call, Average)  # the sums
        if keeps and step.first > 0:
            read(-1 - number, scratch, 0, call.name)
        if kernel.scratch_bytes and _meet(scratch, output):
            raise AssertionError(f"{call.name}: its working memory meets its output")
        arena[scratch] = owners(-1 - number, 0, kernel.scratch_bytes)
        for (buffer, _, _, start), place in zip(operands, inputs, strict=False):
            read(buffer, place, start, call.name)
            if _meet(output, place) and not _runs_behind(program, call, isinstance(step, Stripe), place, output):
                raise AssertionError(f"{call.name}: its output meets its input {buffer}")
        first = step.first if isinstance(step, Stripe) else 0
        if done[number] != first:
            raise AssertionError(f"{call.name} goes on at position {first} after {done[number]}")
        done[number] = step.end if isinstance(step, Stripe) else _positions(program, call)
        buffer, _, size, start = operands[-1]
        arena[output] = owners(buffer, start, size)
    if any(done[number] != _positions(program, call) for number, call in enumerate(program.calls)):
        raise AssertionError("a call did not run on all of its positions")
    last = program.buffers[program.output].size_bytes
    read(program.output, span(plan.offsets[program.output], last, ALIGNMENT_BYTES), 0, "the application")


def _positions(program: Program, call: Call) -> int:
    return program.buffers[call.input].width


def _operands(program: Program, plan: MemoryPlan, step: Whole | Stripe) -> list[tuple[int, int, int, int]]:
    """Return (buffer, offset in the arena, bytes, first byte of the buffer) of a step's inputs and its output."""
    call = program.calls[step.call]
    if isinstance(step, Whole):
        buffers = [*call_inputs(call), call.output]
        return [(buffer, plan.offsets[buffer], program.buffers[buffer].size_bytes, 0) for buffer in buffers]
    parts = [(call.input, step.input_at, step.source_first, step.source_end)]
    if isinstance(call, Addition):
        parts.append((call.other, step.other_at, step.first, step.end))
    parts.append(
        (call.output, 0, 0, 1) if isinstance(call, Average) else (call.output, step.output_at, step.first, step.end)
    )
    found = []
    for buffer, at, first, end in parts:
        channels = program.buffers[buffer].channels
        found.append((buffer, plan.offsets[buffer] + at * channels, (end - first) * channels, first * channels))
    return found


def _runs_behind(program: Program, call: Call, striped: bool, source: slice, output: slice) -> bool:
    """Whether a call that writes over its input has read there before. Pointwise and ADD go from the first position on,
    so that an output that begins and ends no later than its input stays behind it."""
    if isinstance(call, Pointwise | Addition):
        return output.start <= source.start and output.stop <= source.stop
    return not striped and output.start == source.start and may_overwrite(program, call, call.input)


def _meet(left: slice, right: slice) -> bool:
    return bool(left.start < right.stop and right.start < left.stop)
