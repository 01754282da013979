"""Where each activation lies in the arena, and a checker that shares nothing with the planner."""

from dataclasses import dataclass

from mbx_deploy.kernels import Kernel, select_kernel
from mbx_deploy.program import Call, Program, Reshape, call_inputs, may_overwrite

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


@dataclass(frozen=True)
class MemoryPlan:
    """offsets: bytes from the arena's start, one a buffer. scratch_offsets: of each call's working memory.

    kernels: one a call. lower_bound_bytes: what is alive at the worst call, peak_call; no plan in this
    order can do with less.
    """

    offsets: tuple[int, ...]
    scratch_offsets: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    arena_bytes: int
    live_ranges: tuple[LiveRange, ...]
    peak_call: int
    lower_bound_bytes: int

    def is_free(self, call: Call) -> bool:
        """Return whether a call needs no code: it leaves the same bytes in the same place."""
        return isinstance(call, Reshape) and self.offsets[call.input] == self.offsets[call.output]


@dataclass(frozen=True)
class _Block:
    """Buffers that begin at one address, each overwriting the one before; or one call's working memory.

    spans: (first, last, size_bytes) of each.
    """

    members: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]

    @property
    def size_bytes(self) -> int:
        return max(size for _, _, size in self.spans)

    @property
    def first(self) -> int:
        return min(first for first, _, _ in self.spans)

    @property
    def last(self) -> int:
        return max(last for _, last, _ in self.spans)


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


def plan_memory(program: Program, kernel_set: str = "portable") -> MemoryPlan:
    """Return a plan for a set of kernels: outputs in the place of inputs that die, where kernels allow it.

    Blocks are placed one after another, each at the lowest offset where it meets no live neighbour; of a few orders
    (by size, by time, by lifetime) the one with the smallest arena wins.
    """
    ranges = live_ranges(program)
    kernels = tuple(select_kernel(program, call, kernel_set) for call in program.calls)
    blocks = _share(program, ranges)
    scratch = [_Block((), ((number, number, _aligned(kernel.scratch_bytes)),)) for number, kernel in enumerate(kernels)]
    every = [*blocks, *(block for block in scratch if block.size_bytes)]
    orders = (
        sorted(every, key=lambda b: (-b.size_bytes, b.first)),
        sorted(every, key=lambda b: (b.first, -b.size_bytes)),
        sorted(every, key=lambda b: (b.first - b.last, -b.size_bytes, b.first)),
    )
    placed = min((_place(order) for order in orders), key=_top)
    spans = [span for block in every for span in block.spans]
    alive = [sum(size for first, last, size in spans if first <= call <= last) for call in range(len(program.calls))]
    offsets = {member: placed[block] for block in blocks for member in block.members}
    plan = MemoryPlan(
        offsets=tuple(offsets[live.buffer] for live in ranges),
        scratch_offsets=tuple(placed.get(block, 0) for block in scratch),
        kernels=kernels,
        arena_bytes=_top(placed),
        live_ranges=ranges,
        peak_call=max(range(len(alive)), key=alive.__getitem__),
        lower_bound_bytes=max(alive),
    )
    check_plan(program, plan)
    return plan


def _share(program: Program, ranges: tuple[LiveRange, ...]) -> list[_Block]:
    """Return one block for each chain of buffers of which each takes the place of the one before."""
    chain = {program.input: [program.input]}
    for number, call in enumerate(program.calls):
        dying = [b for b in call_inputs(call) if ranges[b].last == number and may_overwrite(program, call, b)]
        # The largest one: what lies behind its end is then free soonest.
        host = max(dying, key=lambda b: ranges[b].size_bytes, default=None)
        chain[call.output] = chain[host] if host is not None else []
        chain[call.output].append(call.output)
    unique = {id(members): members for members in chain.values()}
    return [_Block(tuple(members), _spans([ranges[member] for member in members])) for members in unique.values()]


def _spans(chain: list[LiveRange]) -> tuple[tuple[int, int, int], ...]:
    """Return (first, last, size_bytes) of what a chain holds; while one overwrites another, the larger of both."""
    spans = []
    for number, live in enumerate(chain):
        first, last = live.first, live.last
        if number > 0:
            spans.append((first, first, max(live.size_bytes, chain[number - 1].size_bytes)))
            first += 1
        if number + 1 < len(chain):
            last -= 1
        if first <= last:
            spans.append((first, last, live.size_bytes))
    return tuple(spans)


def _place(blocks: list[_Block]) -> dict[_Block, int]:
    placed: dict[_Block, int] = {}
    for block in blocks:
        taken = [
            (at, at + other_size, size)
            for other, at in placed.items()
            for first, last, other_size in other.spans
            for start, end, size in block.spans
            if first <= end and start <= last
        ]
        candidates = sorted({0, *(high for _, high, _ in taken)})
        placed[block] = next(o for o in candidates if all(o >= high or o + size <= low for low, high, size in taken))
    return placed


def _top(placed: dict[_Block, int]) -> int:
    return max(offset + block.size_bytes for block, offset in placed.items())


def check_plan(program: Program, plan: MemoryPlan) -> None:
    """Raise AssertionError unless running the program in the arena gives every call the bytes that were written for it.

    It runs the program on owners instead of values. A call's inputs must belong to the buffers that it names, byte for
    byte; its working memory must meet neither them nor its output nor anything that is still to be read; its output may
    lie over an input only from the same address on, and where the kernel allows that.
    """
    owner = [-1] * plan.arena_bytes

    def span(start: int, size: int) -> range:
        if start < 0 or start % ALIGNMENT_BYTES or start + size > plan.arena_bytes:
            raise AssertionError(f"{size} bytes lie at {start} of {plan.arena_bytes}")
        return range(start, start + size)

    def place(buffer: int) -> range:
        return span(plan.offsets[buffer], program.buffers[buffer].size_bytes)

    def read(buffer: int, reader: str) -> None:
        if any(owner[byte] != buffer for byte in place(buffer)):
            raise AssertionError(f"{reader} reads buffer {buffer} after it was overwritten")

    def write(bytes_: range, value: int) -> None:
        owner[bytes_.start : bytes_.stop] = [value] * len(bytes_)

    write(place(program.input), program.input)
    for number, call in enumerate(program.calls):
        output, scratch = place(call.output), span(plan.scratch_offsets[number], plan.kernels[number].scratch_bytes)
        if scratch and _meet(scratch, output):
            raise AssertionError(f"{call.name}: its working memory meets its output")
        write(scratch, -1)
        for buffer in call_inputs(call):
            read(buffer, call.name)
            if _meet(output, place(buffer)) and not (
                output.start == plan.offsets[buffer] and may_overwrite(program, call, buffer)
            ):
                raise AssertionError(f"{call.name}: its output meets its input {buffer}")
        write(output, call.output)
    read(program.output, "the application")


def _meet(left: range, right: range) -> bool:
    return left.start < right.stop and right.start < left.stop
