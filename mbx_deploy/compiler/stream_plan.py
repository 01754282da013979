"""Where a stream's states and what a step needs beside them lie in the arena, and the check of that."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mbx_deploy.compiler.kernels.kernel import Chosen
from mbx_deploy.compiler.memory_plan import (
    ALIGNMENT_BYTES,
    Block,
    LiveRange,
    MemoryPlan,
    aligned,
    alive_in,
    place,
    spans_of,
    top_of,
    whole_kernels,
)
from mbx_deploy.compiler.step import Step
from mbx_deploy.network.program import (
    Convolution,
    KeepRows,
    Program,
    StreamReduction,
    call_inputs,
    lead_in_place,
    may_overwrite,
)

SHUFFLES, FEWEST_SHUFFLES = 300, 4  # of the states, of which the best is kept
MANY_STATES = 32  # from which on fewer are tried, so that the time stays
BETWEEN = -1  # the time between two steps, when the front end works


@dataclass(frozen=True)
class StreamPlan:
    """memory: of the step's program. frontend_offsets: of the pieces of the front end's working memory, in use between
    steps.
    """

    memory: MemoryPlan
    frontend_offsets: tuple[int, ...]


def plan_stream(step: Step, kernel_set: str, frontend_bytes: tuple[int, ...] = ()) -> StreamPlan:
    """Return where everything lies: states for ever, the rest while it is needed.

    frontend_bytes: of the pieces of the front end's working memory, between steps. Checked by check_stream_plan().
    """
    program = step.program
    kernels = whole_kernels(program, kernel_set)
    ranges = _live_ranges(step)
    blocks, places = _blocks(step, ranges, kernels)
    first_piece = -1 - len(program.calls)
    pieces = [
        Block(((first_piece - i, 0),), ((BETWEEN, BETWEEN, 0, aligned(size)),)) for i, size in enumerate(frontend_bytes)
    ]
    blocks += pieces
    alive = alive_in(range(BETWEEN, len(program.calls) + 1), blocks)
    placed: dict[Block, int] = {}
    for order in _orders(blocks, max(alive)):
        found = place(order)
        placed = min(placed or found, found, key=top_of)
        if top_of(placed) == max(alive):
            break
    offsets = [0] * len(program.buffers)
    scratch = [0] * len(program.calls)
    for block in blocks:
        for mark, low in block.places:
            if mark >= 0:
                offsets[mark] = placed[block] + low
            elif -1 - mark < len(scratch):
                scratch[-1 - mark] = placed[block]
    for buffer in step.views:
        state, offset = places[buffer]
        offsets[buffer] = offsets[state] + offset
    for number, call in enumerate(program.calls):
        if isinstance(call, StreamReduction):
            scratch[number] = offsets[call.sums]
    memory = MemoryPlan(
        offsets=tuple(offsets),
        scratch_offsets=tuple(scratch),
        kernels=kernels,
        arena_bytes=top_of(placed),
        live_ranges=tuple(ranges),
        peak_call=max(0, alive.index(max(alive)) - 1),
        lower_bound_bytes=max(alive),
    )
    plan = StreamPlan(memory, tuple(placed[piece] for piece in pieces))
    check_stream_plan(step, plan, frontend_bytes)
    return plan


def _orders(blocks: list[Block], bound: int) -> Iterator[list[Block]]:
    """Yield orders to place blocks in: by size and by lifetime, then shuffled ones, states first; always the same.

    States are for ever and what a step adds to them is not, so where they lie decides which gaps the rest finds: there
    is no simple rule, and a search is quick.
    """
    rng = np.random.default_rng(bound)
    end = max(block.last for block in blocks)
    lasting = [block for block in blocks if block.first == BETWEEN and block.last == end]
    others = sorted((block for block in blocks if block not in lasting), key=lambda b: (-b.size_bytes, b.first))
    often = SHUFFLES * MANY_STATES**2 // max(MANY_STATES, len(lasting)) ** 2
    for _ in range(max(FEWEST_SHUFFLES, often)):
        yield [*(lasting[i] for i in rng.permutation(len(lasting))), *others]


def _base(step: Step, buffer: int) -> tuple[int, int]:
    """Return the buffer that a view is part of in the end, and where in it."""
    offset = 0
    while buffer in step.views:
        offset += step.views[buffer].offset
        buffer = step.views[buffer].state
    return buffer, offset


def _live_ranges(step: Step) -> list[LiveRange]:
    """Return from when to when each buffer's bytes are needed; states and their views for ever, unused ones never."""
    program = step.program
    first = {program.input: BETWEEN}
    last = {program.input: BETWEEN}
    for number, call in enumerate(program.calls):
        first.setdefault(call.output, number)
        for buffer in (*call_inputs(call), call.output):
            last[buffer] = number
    last[program.output] = len(program.calls)
    for state in step.states:
        first[state.buffer], last[state.buffer] = BETWEEN, len(program.calls)
    return [
        LiveRange(i, aligned(buffer.size_bytes), first.get(i, 0), last.get(i, -2))
        for i, buffer in enumerate(program.buffers)
    ]


def _blocks(
    step: Step, ranges: list[LiveRange], kernels: tuple[Chosen, ...]
) -> tuple[list[Block], dict[int, tuple[int, int]]]:
    """Return what is placed, and for each view its (state, bytes from the state's start)."""
    program = step.program
    views = {buffer: _base(step, buffer) for buffer in step.views}
    held: dict[int, list[LiveRange]] = {}
    for buffer, (base, _) in views.items():
        held.setdefault(base, []).append(ranges[buffer])
    blocks, chain = [], {}
    for state in step.states:
        size = program.buffers[state.buffer].size_bytes
        spans = [(BETWEEN, len(program.calls), 0, aligned(state.kept_bytes))]
        if size > state.kept_bytes:
            # What a step adds lives from where it is written to where it has moved to the start.
            uses = [live for live in held[state.buffer] if live.last > -2]
            moved = [
                n
                for n, c in enumerate(program.calls)
                if isinstance(c, KeepRows) and c.input == c.output == state.buffer
            ]
            spans.append((min(live.first for live in uses), moved[0], 0, aligned(size)))
        blocks.append(Block(((state.buffer, 0),), tuple(_apart(spans))))
    states = {state.buffer for state in step.states}
    hosts = {number: live for number, live in enumerate(ranges) if number not in states and number not in views}
    for base, parts in held.items():
        if base not in states:  # views of rows that are kept nowhere
            live = ranges[base]
            last = max(live.last, *(part.last for part in parts))
            hosts[base] = LiveRange(base, live.size_bytes, live.first, last)
    if program.input in hosts:
        chain[program.input] = [(program.input, 0)]
    for number, call in enumerate(program.calls):
        if call.output not in hosts or hosts[call.output].last < 0:
            continue
        dying = [b for b in call_inputs(call) if b in hosts and hosts[b].last == number and b not in held]
        usable = [b for b in dying if may_overwrite(program, call, b)]
        if usable and not isinstance(call, KeepRows):
            host = max(usable, key=lambda b: (hosts[b].size_bytes, -b))
            place = dict(chain[host])[host] - aligned(lead_in_place(program, call, host))
            chain[call.output] = chain[host]
        else:
            place, chain[call.output] = 0, []
        chain[call.output].append((call.output, place))
    for members in {id(found): found for found in chain.values()}.values():
        lowest = min(place for _, place in members)
        moved_up = tuple((buffer, place - lowest) for buffer, place in members)
        blocks.append(Block(moved_up, spans_of([(hosts[buffer], place) for buffer, place in moved_up])))
    for number, kernel in enumerate(kernels):
        size = aligned(kernel.scratch_bytes)
        if size and not isinstance(program.calls[number], StreamReduction):
            blocks.append(Block(((-1 - number, 0),), ((number, number, 0, size),)))
    return blocks, views


def _apart(spans: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return spans of which no two hold a state at one time: what a step adds counts with what is kept."""
    if len(spans) == 1:
        return spans
    (first, last, low, kept), (begin, end, _, size) = spans
    found = [(first, begin - 1, low, kept), (begin, end, low, size), (end + 1, last, low, kept)]
    return [span for span in found if span[0] <= span[1]]


def check_stream_plan(step: Step, plan: StreamPlan, frontend_bytes: tuple[int, ...]) -> None:
    """Raise AssertionError unless two steps in a row give every call the bytes that were written for it.

    It runs steps on owners instead of values, as check_plan() does: nothing may touch a state but the calls that add to
    it and the one that moves it. It shares nothing with the planner but the plan.
    """
    _Owners(step, plan, frontend_bytes).run_steps(2)


class _Owners:
    """The arena, each byte of which knows which value it holds: a number for each byte of each row of each step."""

    def __init__(self, step: Step, plan: StreamPlan, frontend_bytes: tuple[int, ...]) -> None:
        self.step, self.plan, self.frontend_bytes = step, plan, frontend_bytes
        self.arena = np.full(plan.memory.arena_bytes, -1, np.int64)
        self.fresh = 0
        self.values: dict[int, np.ndarray] = {}  # buffer of the step -> the owners that it must hold
        for state in step.states:
            kept = self._new(state.kept_bytes)
            self.values[state.buffer] = kept
            self.arena[self._span(plan.memory.offsets[state.buffer], state.kept_bytes)] = kept

    def _new(self, size: int) -> np.ndarray:
        self.fresh += size
        return np.arange(self.fresh - size, self.fresh, dtype=np.int64)

    def _span(self, start: int, size: int) -> slice:
        if start < 0 or start + size > len(self.arena):
            raise AssertionError(f"{size} bytes lie at {start} of {len(self.arena)}")
        return slice(start, start + size)

    def _place(self, buffer: int) -> slice:
        return self._span(self.plan.memory.offsets[buffer], self.step.program.buffers[buffer].size_bytes)

    def _expected(self, buffer: int) -> np.ndarray:
        base, offset = _base(self.step, buffer)
        size = self.step.program.buffers[buffer].size_bytes
        return self.values[base][offset : offset + size]

    def _write(self, buffer: int) -> None:
        size = self.step.program.buffers[buffer].size_bytes
        base, offset = _base(self.step, buffer)
        made = self._new(size)
        self.arena[self._place(buffer)] = made
        held = made if base == buffer else self.values[base].copy()
        if base != buffer:
            held = np.concatenate([held[:offset], made, held[offset + size :]])
        self.values[base] = held

    def _read(self, buffer: int, reader: str) -> None:
        if not np.array_equal(self.arena[self._place(buffer)], self._expected(buffer)):
            raise AssertionError(f"{reader} reads {self.step.program.buffers[buffer].name} after it was overwritten")

    def run_steps(self, count: int) -> None:
        program, memory = self.step.program, self.plan.memory
        kept = {state.buffer: state.kept_bytes for state in self.step.states}
        for _ in range(count):
            pieces = zip(self.plan.frontend_offsets, self.frontend_bytes, strict=True)
            places = [self._span(offset, size) for offset, size in pieces]
            for piece in places:
                self.arena[piece] = self._new(piece.stop - piece.start)
            if len({i for piece in places for i in range(piece.start, piece.stop)}) != sum(self.frontend_bytes):
                raise AssertionError("pieces of the front end's memory meet")
            self._write(program.input)
            for number, call in enumerate(program.calls):
                if isinstance(call, KeepRows):
                    self._keep(call)
                    continue
                for buffer in call_inputs(call):
                    self._read(buffer, call.name)
                if isinstance(call, StreamReduction):
                    self._read(call.sums, call.name)
                    self._write(call.sums)
                elif memory.kernels[number].scratch_bytes:
                    scratch = self._span(memory.scratch_offsets[number], memory.kernels[number].scratch_bytes)
                    self._check_apart(scratch, number)
                    self.arena[scratch] = self._new(scratch.stop - scratch.start)
                    for buffer in call_inputs(call):
                        self._read(buffer, call.name)
                self._check_output(number)
                self._write(call.output)
            self._read(program.output, "the application")
            for buffer, size in kept.items():
                place = self._span(memory.offsets[buffer], size)
                if not np.array_equal(self.arena[place], self.values[buffer][:size]):
                    raise AssertionError(f"the state {program.buffers[buffer].name} was overwritten")

    def _keep(self, call: KeepRows) -> None:
        offsets = self.plan.memory.offsets
        self._read(call.input, call.name)
        wanted = self._expected(call.input)[call.first : call.first + call.size]
        moved = self.arena[self._span(offsets[call.input] + call.first, call.size)].copy()
        if not np.array_equal(moved, wanted):
            raise AssertionError(f"{call.name} moves something else than it is to keep")
        self.arena[self._span(offsets[call.output], call.size)] = moved
        self.values[call.output] = moved

    def _check_apart(self, scratch: slice, number: int) -> None:
        output = self._place(self.step.program.calls[number].output)
        if scratch.start < output.stop and output.start < scratch.stop:
            raise AssertionError(f"{self.step.program.calls[number].name}: its working memory meets its output")

    def _check_output(self, number: int) -> None:
        program: Program = self.step.program
        call = program.calls[number]
        output = self._place(call.output)
        if self.plan.memory.offsets[call.output] % ALIGNMENT_BYTES and call.output not in self.step.views:
            raise AssertionError(f"{call.name}: its output is not aligned")
        for buffer in call_inputs(call):
            source = self._place(buffer)
            meets = source.start < output.stop and output.start < source.stop
            behind = output.start <= source.start and output.stop <= source.stop
            if isinstance(call, Convolution):
                behind = behind and output.start == source.start
            if meets and not (may_overwrite(program, call, buffer) and behind):
                raise AssertionError(f"{call.name}: its output meets its input")
