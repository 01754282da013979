"""Where each activation lies in the arena, layer by layer or in cascades that are given."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mbx_deploy.compiler.cascade import Cascade, Step, Whole, lead_bytes, row_bytes, stripes_of
from mbx_deploy.compiler.kernels.choice import select_kernel, select_stripe_kernel
from mbx_deploy.compiler.kernels.kernel import Chosen
from mbx_deploy.network.program import (
    Addition,
    Call,
    Pointwise,
    Program,
    call_inputs,
    lead_in_place,
    may_overwrite,
)

ALIGNMENT_BYTES = 8
MOST_ORDERS = 20
MANY_CALLS = 200  # of a program, for which fewer plans are tried
FEW_ORDERS = 2
PIECE_CALLS = 8  # that spans are sorted by
FEW_PIECES = 4

Spans = list[tuple[int, int, int, int]]  # first call, last call, low, high


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
    kernels: tuple[Chosen, ...]
    arena_bytes: int
    live_ranges: tuple[LiveRange, ...]
    peak_call: int
    lower_bound_bytes: int
    cascades: tuple[Cascade, ...] = ()

    def is_free(self, call: Call) -> bool:
        """Return whether a call needs no code: it leaves the same bytes in the same place."""
        return call.keeps_bytes and self.offsets[call.input] == self.offsets[call.output]

    def scratch_calls(self, program: Program, number: int) -> tuple[int, int]:
        """Return the first and the last call during which a call's working memory is in use."""
        return _scratch_calls(program, self.cascades, number)

    def parts(self) -> list[Whole | Cascade]:
        """Return what runs one after another: calls, and cascades in the place of theirs."""
        begins = {cascade.first: cascade for cascade in self.cascades}
        inside = {number for cascade in self.cascades for number in range(cascade.first + 1, cascade.last + 1)}
        return [begins.get(number, Whole(number)) for number in range(len(self.kernels)) if number not in inside]

    def steps(self) -> list[Step]:
        """Return the same, the steps of a cascade in its place."""
        return [step for part in self.parts() for step in (part.steps if isinstance(part, Cascade) else (part,))]


@dataclass(frozen=True)
class Block:
    """Buffers of which each overwrites the one before, or one call's working memory.

    places: (buffer, bytes from the block's start). spans: (first, last, low, high): what it takes during some calls.
    """

    places: tuple[tuple[int, int], ...]
    spans: tuple[tuple[int, int, int, int], ...]

    @property
    def size_bytes(self) -> int:
        """Bytes from its start to its end."""
        return max(high for _, _, _, high in self.spans)

    @property
    def first(self) -> int:
        """The first call during which it takes something."""
        return min(span[0] for span in self.spans)

    @property
    def last(self) -> int:
        """The last one."""
        return max(span[1] for span in self.spans)


def live_ranges(program: Program, cascades: Sequence[Cascade] = ()) -> tuple[LiveRange, ...]:
    """Return one live range a buffer, in the order of the buffers."""
    first = {program.input: -1}
    last = {program.input: -1}
    for number, call in enumerate(program.calls):
        first.setdefault(call.output, number)
        last[call.output] = number
        for buffer in call_inputs(call):
            last[buffer] = number
    last[program.output] = len(program.calls)
    sizes = (aligned(buffer.size_bytes) for buffer in program.buffers)
    ranges = tuple(LiveRange(i, size, first[i], last[i]) for i, size in enumerate(sizes))
    return _in_cascades(program, ranges, cascades)


def _in_cascades(program: Program, ranges: tuple[LiveRange, ...], cascades: Sequence[Cascade]) -> tuple[LiveRange, ...]:
    """Return live ranges with those of what cascades read, write and carry along."""
    found = list(ranges)
    for cascade in cascades:
        for call in program.calls[cascade.first : cascade.last + 1]:
            for buffer in call_inputs(call):
                if buffer not in cascade.windows or buffer in cascade.carried:
                    found[buffer] = replace(found[buffer], last=max(found[buffer].last, cascade.last))
            if call.output not in cascade.windows or call.output in cascade.carried:
                found[call.output] = replace(found[call.output], first=cascade.first)
        for buffer, rows in cascade.windows.items():
            size = aligned(rows * row_bytes(program.buffers[buffer]))
            found[buffer] = replace(found[buffer], size_bytes=size)
    return tuple(found)


def aligned(size: int) -> int:
    """Return a size that ends where a block may begin."""
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def whole_kernels(program: Program, kernel_set: str) -> tuple[Chosen, ...]:
    """Return the kernel of each call of a set, on all of its positions."""
    return tuple(select_kernel(program, call, kernel_set) for call in program.calls)


def _striped(program: Program, kernels: tuple[Chosen, ...], cascades: Sequence[Cascade]) -> tuple[Chosen, ...]:
    """Return the kernels with those of cascades in the place of those of whole calls."""
    striped = list(kernels)
    for cascade in cascades:
        for number, stripes in stripes_of(cascade).items():
            striped[number] = select_stripe_kernel(program, stripes, kernels[number])
    return tuple(striped)


def plan_cascades(program: Program, whole: tuple[Chosen, ...], cascades: tuple[Cascade, ...] = ()) -> MemoryPlan:
    """Return a plan with these cascades: outputs in the place of inputs that die, where kernels allow it.

    whole: as whole_kernels().

    Blocks are placed one after another, each at the lowest offset where it meets no live neighbour: by size, by time,
    by lifetime, and, as long as the arena is above the lower bound, with the block that ends highest placed earlier.
    """
    ranges = live_ranges(program, cascades)
    kernels = _striped(program, whole, cascades)
    calls = range(len(program.calls))
    every = _blocks(program, ranges, kernels, cascades, calls)
    orders = (
        sorted(every, key=lambda b: (-b.size_bytes, b.first)),
        sorted(every, key=lambda b: (b.first, -b.size_bytes)),
        sorted(every, key=lambda b: (b.first - b.last, -b.size_bytes, b.first)),
    )
    alive = alive_in(calls, every)
    repeats = MOST_ORDERS if len(program.calls) <= MANY_CALLS else FEW_ORDERS
    placed = _first_best((best_placement(order, max(alive), repeats) for order in orders), max(alive))
    starts = [(block, placed[block]) for block in every]
    offsets = {buffer: start + low for block, start in starts for buffer, low in block.places if buffer >= 0}
    scratch = {-1 - mark: start for block, start in starts for mark, _ in block.places if mark < 0}
    return MemoryPlan(
        offsets=tuple(offsets[live.buffer] for live in ranges),
        scratch_offsets=tuple(scratch.get(number, 0) for number in range(len(kernels))),
        kernels=kernels,
        arena_bytes=top_of(placed),
        live_ranges=ranges,
        peak_call=max(range(len(alive)), key=alive.__getitem__),
        lower_bound_bytes=max(alive),
        cascades=cascades,
    )


def _first_best(found: Iterable[dict[Block, int]], bound: int) -> dict[Block, int]:
    """Return the best placement, the first of equals; those behind one that reaches the bound are not looked at."""
    best: dict[Block, int] | None = None
    for placed in found:
        if best is None or top_of(placed) < top_of(best):
            best = placed
        if top_of(best) == bound:
            break
    assert best is not None
    return best


def alive_bytes(
    program: Program,
    whole: tuple[Chosen, ...],
    cascades: Sequence[Cascade],
    calls: range,
    ranges: tuple[LiveRange, ...],
) -> list[int]:
    """Return the bytes that are taken during each of some calls, wherever they are placed.

    whole: as whole_kernels(). calls: all, or those of a cascade, which depend on no other one. ranges: of the buffers
    without cascades.
    """
    kernels = _striped(program, whole, cascades)
    blocks = _blocks(program, _in_cascades(program, ranges, cascades), kernels, cascades, calls)
    return alive_in(calls, blocks)


def alive_in(calls: range, blocks: Sequence[Block]) -> list[int]:
    """Return the bytes that blocks take during each of some calls."""
    changes = [0] * (len(calls) + 1)
    for block in blocks:
        for first, last, low, high in block.spans:
            begin, end = max(first, calls.start), min(last + 1, calls.stop)
            if begin < end:
                changes[begin - calls.start] += high - low
                changes[end - calls.start] -= high - low
    return list(itertools.accumulate(changes[:-1]))


def _blocks(
    program: Program,
    ranges: tuple[LiveRange, ...],
    kernels: Sequence[Chosen],
    cascades: Sequence[Cascade],
    calls: range,
) -> list[Block]:
    """Return what is placed: a block for each chain of buffers that overwrite each other, and working memories.

    Of what is in use during some calls. The working memory of a call is marked by -1 less its number.
    """
    leads = _leads(program, ranges, cascades, calls)
    before = [live.buffer for live in ranges if live.first < calls.start <= live.last or live.first < 0]
    chain = {buffer: [(buffer, 0)] for buffer in before}
    at = dict.fromkeys(before, 0)  # a buffer's place in its chain
    for call in program.calls[calls.start : calls.stop]:
        host, lead = leads.get(call.output, (None, 0))
        chain[call.output] = chain[host] if host is not None else []
        at[call.output] = at[host] - lead if host is not None else 0
        chain[call.output].append((call.output, at[call.output]))
    unique = {id(members): members for members in chain.values()}
    blocks = []
    for members in unique.values():
        lowest = min(place for _, place in members)
        places = tuple((buffer, place - lowest) for buffer, place in members)
        blocks.append(Block(places, spans_of([(ranges[buffer], place) for buffer, place in places])))
    for number in calls:
        size = aligned(kernels[number].scratch_bytes)
        if size:
            blocks.append(Block(((-1 - number, 0),), ((*_scratch_calls(program, cascades, number), 0, size),)))
    return blocks


def _scratch_calls(program: Program, cascades: Sequence[Cascade], number: int) -> tuple[int, int]:
    """Sums are kept from a call's first stripe to its last; other calls keep nothing."""
    inside = [c for c in cascades if c.first <= number <= c.last and program.calls[number].keeps_sums]
    return (inside[0].first, inside[0].last) if inside else (number, number)


def _leads(
    program: Program, ranges: tuple[LiveRange, ...], cascades: Sequence[Cascade], calls: range
) -> dict[int, tuple[int | None, int]]:
    """Return for each output that takes the place of an input: that input, and by how much it begins before it."""
    leads: dict[int, tuple[int | None, int]] = {}
    inside = {number: c for c in cascades for number in range(c.first, c.last + 1)}
    for number in calls:
        call, cascade = program.calls[number], inside.get(number)
        if cascade:
            found = _leads_in_stripes(program, ranges, cascade, number)
        else:
            dying = [b for b in call_inputs(call) if ranges[b].last == number and may_overwrite(program, call, b)]
            found = {b: lead_in_place(program, call, b) for b in dying}
        spared = []
        for buffer, lead in found.items():
            both = ranges[call.output].size_bytes + ranges[buffer].size_bytes
            union = max(ranges[call.output].size_bytes, aligned(lead) + ranges[buffer].size_bytes)
            # Of equals the largest: what lies behind the output's end is then free soonest.
            spared.append((both - union, ranges[buffer].size_bytes, -buffer))
        best = max(spared, default=(0, 0, 0))
        if best[0] > 0:
            leads[call.output] = (-best[2], aligned(found[-best[2]]))
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
    rows, size = cascade.windows[call.output], row_bytes(program.buffers[call.output])
    return {b: max(0, rows * (size - row_bytes(program.buffers[b]))) for b in dying if b not in cascade.carried}


def spans_of(chain: list[tuple[LiveRange, int]]) -> tuple[tuple[int, int, int, int], ...]:
    """Return (first, last, low, high) of what a chain of (live range, place) holds, in pieces of time."""
    edges = sorted({live.first for live, _ in chain} | {live.last + 1 for live, _ in chain})
    begins = sorted(chain, key=lambda member: member[0].first)
    spans = []
    held: list[tuple[LiveRange, int]] = []
    begun = 0
    for first, end in itertools.pairwise(edges):
        held = [(live, place) for live, place in held if live.last >= first]
        while begun < len(begins) and begins[begun][0].first <= first:
            held.append(begins[begun])
            begun += 1
        if held:
            low, high = min(place for _, place in held), max(place + live.size_bytes for live, place in held)
            spans.append((first, end - 1, low, high))
    return tuple(spans)


def best_placement(order: list[Block], bound: int, repeats: int = MOST_ORDERS) -> dict[Block, int]:
    """Return the best placement of an order and of those that follow from it, the highest block moved to the front."""
    best = placed = place(order)
    for _ in range(repeats):
        if top_of(best) == bound:
            break
        highest = max(order, key=lambda block: placed[block] + block.size_bytes)
        order = [highest, *(block for block in order if block is not highest)]
        placed = place(order)
        best = min(best, placed, key=top_of)
    return best


def place(blocks: list[Block]) -> dict[Block, int]:
    """Return where blocks lie, each placed in its turn at the lowest offset where it meets no live neighbour."""
    placed: dict[Block, int] = {}
    spans: Spans = []  # of what is placed
    by_time: dict[int, Spans] = {}  # the same, by pieces of time
    for block in blocks:
        # Offsets of the block from..to that would lay one of its spans over what is placed.
        taken = {
            (low - high_here, high - low_here)
            for start, end, low_here, high_here in block.spans
            for near in _near(start, end, spans, by_time)
            for first, last, low, high in near
            if first <= end and start <= last
        }
        at = 0
        for begin, end in sorted(taken):
            if begin < at < end:
                at = end
        placed[block] = at
        for first, last, low, high in block.spans:
            spans.append((first, last, at + low, at + high))
            for piece in range(first // PIECE_CALLS, last // PIECE_CALLS + 1):
                by_time.setdefault(piece, []).append(spans[-1])
    return placed


def _near(start: int, end: int, spans: Spans, by_time: dict[int, Spans]) -> Iterable[Spans]:
    """Return the spans among which all are that meet the calls start to end: of some pieces of time, or all of them."""
    pieces = range(start // PIECE_CALLS, end // PIECE_CALLS + 1)
    return (by_time.get(piece, []) for piece in pieces) if len(pieces) <= FEW_PIECES else (spans,)


def top_of(placed: dict[Block, int]) -> int:
    """Return where a placement ends."""
    return max(offset + block.size_bytes for block, offset in placed.items())
