"""Where each activation lies in the arena, and a checker that shares nothing with the planner."""

from dataclasses import dataclass

from mbx_deploy.program import Program, call_inputs

ALIGNMENT_BYTES = 8


@dataclass(frozen=True)
class LiveRange:
    """The calls during which a buffer holds something that is still needed, both ends included.

    first is the call that writes it, -1 for the network's input; last the call that reads it last, one past the last
    call for the network's output.
    """

    buffer: int
    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: "LiveRange") -> bool:
        """Whether both are alive during some call."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """offsets: bytes from the arena's start, one a buffer. peak_call: where most is alive at once."""

    offsets: tuple[int, ...]
    arena_bytes: int
    live_ranges: tuple[LiveRange, ...]
    peak_call: int
    peak_bytes: int


def live_ranges(program: Program) -> tuple[LiveRange, ...]:
    """Return one live range a buffer, in the order of the buffers."""
    first = {program.input: -1}
    last = {program.input: -1}
    for number, call in enumerate(program.calls):
        first.setdefault(call.output, number)
        last[call.output] = number
        for buffer in call_inputs(call):
            last[buffer] = number
    last[program.output] = len(program.calls)
    return tuple(
        LiveRange(index, _aligned(buffer.size_bytes), first[index], last[index])
        for index, buffer in enumerate(program.buffers)
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def plan_memory(program: Program) -> MemoryPlan:
    """Return a plan: the largest buffers first, each at the lowest offset where it meets no live neighbour."""
    ranges = live_ranges(program)
    placed: dict[int, int] = {}
    for live in sorted(ranges, key=lambda r: (-r.size_bytes, r.first, r.buffer)):
        neighbours = sorted(
            (placed[other.buffer], placed[other.buffer] + other.size_bytes)
            for other in ranges
            if other.buffer in placed and other.overlaps(live)
        )
        offset = 0
        for low, high in neighbours:
            if offset + live.size_bytes <= low:
                break
            offset = max(offset, high)
        placed[live.buffer] = offset
    alive = [sum(r.size_bytes for r in ranges if r.first <= call <= r.last) for call in range(len(program.calls))]
    peak = max(range(len(alive)), key=alive.__getitem__)
    plan = MemoryPlan(
        offsets=tuple(placed[live.buffer] for live in ranges),
        arena_bytes=max(placed[live.buffer] + live.size_bytes for live in ranges),
        live_ranges=ranges,
        peak_call=peak,
        peak_bytes=alive[peak],
    )
    check_plan(program, plan)
    return plan


def check_plan(program: Program, plan: MemoryPlan) -> None:
    """Raise AssertionError unless running the program in the arena gives every call the bytes that were written for it.

    It runs the program on owners instead of values: a call marks each byte of its output as its own, and each input
    must still belong, byte for byte, to the buffer that the call names.
    """
    owner = [-1] * plan.arena_bytes

    def span(buffer: int) -> slice:
        start = plan.offsets[buffer]
        end = start + program.buffers[buffer].size_bytes
        if start < 0 or start % ALIGNMENT_BYTES or end > plan.arena_bytes:
            raise AssertionError(f"buffer {buffer} lies at {start}..{end} of {plan.arena_bytes}")
        return slice(start, end)

    def write(buffer: int) -> None:
        place = span(buffer)
        owner[place] = [buffer] * (place.stop - place.start)

    def read(buffer: int, reader: str) -> None:
        if any(byte != buffer for byte in owner[span(buffer)]):
            raise AssertionError(f"{reader} reads buffer {buffer} after it was overwritten")

    write(program.input)
    for call in program.calls:
        write(call.output)
        for buffer in call_inputs(call):
            read(buffer, call.name)
    read(program.output, "the application")
