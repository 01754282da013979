"""Cascades: calls that follow each other, run stripe by stripe of rows instead of layer by layer.

A row is a position of a line (height 1), or a row of an image. What lies between two calls is then never in memory as a
whole: a few rows are, and where a convolution looks back, those that it still needs. Every value is computed once, by
the same kernels: the bytes are the same. Source of the idea: cascades and stripes of Arm's Vela compiler.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from mbx_deploy.network.program import (
    Addition,
    Average,
    Buffer,
    Call,
    Combination,
    Convolution,
    Join,
    KeepRows,
    Lookup,
    Maximum,
    Padding,
    Pointwise,
    Pooling,
    Program,
    Reshape,
    Resizing,
    Slice,
    Softmax,
    StreamReduction,
    Transposition,
    call_inputs,
    is_depthwise_line,
)

# Rows that a round adds at the cascade's end: multiples of what kernels work on at a time, 4 positions of a pointwise
# call and 6 of a depthwise line.
STRIPES = (4, 12, 24, 48)
ROW_MULTIPLE = 4  # so that a stripe begins at a word, and no block of a pointwise call is broken
WORD_BYTES = 4
DILATIONS = (1, 2, 4)  # of a line's kernels: a stripe's first row is a multiple
MOST_CALLS = 10  # of a cascade; each call more makes the search for the best ones longer
MOST_STRIPE_BYTES = (1 << 16) - 1  # what a step can tell an observer


@dataclass(frozen=True)
class Whole:
    """A call on all of its rows. call: its number."""

    call: int


@dataclass(frozen=True)
class Stripe:
    """A call on some of its rows.

    first, end: of its output; of a call that keeps sums those of its input. source_first, source_end: those that it
    sees of its input. input_at, other_at, output_at: the place of the first of them in its buffer's memory, in rows.
    """

    call: int
    first: int
    end: int
    source_first: int
    source_end: int
    input_at: int
    other_at: int
    output_at: int


@dataclass(frozen=True)
class Shift:
    """The rows of a buffer that are still needed move to its start. first: the place of the first of them."""

    buffer: int
    first: int
    count: int


Step = Whole | Stripe | Shift


@dataclass(frozen=True)
class Cascade:
    """The calls first to last in stripes. steps: in the order in which they run.

    windows: buffer -> the most rows that are in memory at once, of what lies between the calls. carried: of
    these, the ones that keep rows from one stripe to the next.
    """

    first: int
    last: int
    steps: tuple[Stripe | Shift, ...]
    windows: dict[int, int]
    carried: frozenset[int]


def row_count(buffer: Buffer) -> int:
    """Return how many rows a buffer has."""
    return buffer.width if buffer.height == 1 else buffer.height


def row_bytes(buffer: Buffer) -> int:
    """Return the size of a row."""
    return buffer.channels if buffer.height == 1 else buffer.width * buffer.channels


def _with_rows(buffer: Buffer, rows: int) -> Buffer:
    width = rows if buffer.height == 1 else buffer.width
    return Buffer(buffer.name, 1 if buffer.height == 1 else rows, width, buffer.channels)


def _axis(program: Program, call: Call) -> int:
    """Return along which of (height, width) the rows of a call's input run."""
    return 1 if program.buffers[call.input].height == 1 else 0


def make_cascade(
    program: Program, first: int, last: int, stripe: int, last_uses: Sequence[int] | None = None
) -> Cascade | None:
    """Return the calls first to last as a cascade, or None where they can't be one.

    last_uses: of each buffer, the call that reads it last, behind the last call for what the program gives; worked out
    where it is not known.
    """
    if not _may_cascade(program, first, last, last_uses or _last_uses(program)):
        return None
    calls = program.calls[first : last + 1]
    total = row_count(program.buffers[calls[0].input])
    inner = [call.output for call in calls[:-1]]
    before = {call.output: call.rows_before(_axis(program, call)) for call in calls}
    behind = {call.output: call.rows_behind(_axis(program, call)) for call in calls}
    readers = {buffer: [call.output for call in calls if buffer in call_inputs(call)] for buffer in inner}
    done = {call.output: 0 for call in calls}
    start = {call.output: 0 for call in calls}  # the row that lies at the start of a buffer's memory
    windows = dict.fromkeys(inner, 0)
    carried: set[int] = set()
    steps: list[Stripe | Shift] = []
    for end in (*range(stripe, total, stripe), total):
        need = _needs(calls, behind, end, total)
        for buffer in inner:
            keep = min(max(0, done[reader] - before[reader]) for reader in readers[buffer])
            if start[buffer] < keep < done[buffer]:
                steps.append(Shift(buffer, keep - start[buffer], done[buffer] - keep))
            if keep < done[buffer]:
                carried.add(buffer)
            start[buffer] = keep
        for number, call in enumerate(calls, first):
            made, wanted = done[call.output], need[call.output]
            if made == wanted:
                continue
            source_first = max(0, made - before[call.output])
            source_end = min(total, wanted + behind[call.output])
            steps.append(
                Stripe(
                    call=number,
                    first=made,
                    end=wanted,
                    source_first=source_first,
                    source_end=source_end,
                    input_at=source_first - start.get(call.input, 0),
                    other_at=made - start.get(call.other, 0) if isinstance(call, Addition) else 0,
                    output_at=0 if call.keeps_sums else made - start[call.output],
                )
            )
            if call.output in windows:
                windows[call.output] = max(windows[call.output], wanted - start[call.output])
            done[call.output] = wanted
            if (wanted - made) * row_bytes(program.buffers[call.output]) > MOST_STRIPE_BYTES:
                return None
    return Cascade(first, last, tuple(steps), windows, frozenset(carried))


def _needs(calls: tuple[Call, ...], behind: dict[int, int], end: int, total: int) -> dict[int, int]:
    """Return up to which row each output is needed, so that the last one comes to end.

    behind: the rows behind its own that each output sees.
    """
    need = dict.fromkeys(behind, 0) | {calls[-1].output: end}
    for call in reversed(calls):
        seen = need[call.output] + behind[call.output]
        rounded = min(total, -(-seen // ROW_MULTIPLE) * ROW_MULTIPLE)
        for buffer in call_inputs(call):
            if buffer in need:
                need[buffer] = max(need[buffer], rounded)
    return need


def _last_uses(program: Program) -> list[int]:
    found = [-1] * len(program.buffers)
    for number, call in enumerate(program.calls):
        for buffer in call_inputs(call):
            found[buffer] = number
    found[program.output] = len(program.calls)
    return found


def could_take_stripes(call: Call) -> bool:
    """Return whether a call of this kind can be in a cascade at all."""
    return isinstance(call, Average | Convolution | Addition | Pointwise)


def _may_cascade(program: Program, first: int, last: int, last_uses: Sequence[int]) -> bool:
    calls = program.calls[first : last + 1]
    inner = {call.output for call in calls[:-1]}
    if not 2 <= len(calls) <= MOST_CALLS or any(last_uses[buffer] > last for buffer in inner):
        return False
    if len(inner) != len(calls) - 1 or not all(any(b in call_inputs(c) for c in calls) for b in inner):
        return False
    first_input = program.buffers[calls[0].input]
    lines, rows = first_input.height == 1, row_count(first_input)
    return all(_takes_stripes(program, call, lines, rows, call is calls[-1]) for call in calls)


def _takes_stripes(program: Program, call: Call, lines: bool, rows: int, is_last: bool) -> bool:
    """Whether a call can run on some of its rows: those of a line or of an image, so many in and out."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    if row_bytes(source) % WORD_BYTES or (source.height == 1) != lines or row_count(source) != rows:
        return False
    row_by_row = (target.height == 1) == lines and row_count(target) == rows and row_bytes(target) % WORD_BYTES == 0
    match call:
        case Average():
            whole = call.axes == (0, 1) or (lines and call.axes == (1,))
            return is_last and whole and source.channels == target.size_bytes and target.size_bytes % WORD_BYTES == 0
        case Convolution():
            axis = _axis(program, call)
            phases = is_depthwise_line(program, call) and call.dilation[1] not in DILATIONS
            return row_by_row and call.stride[axis] == 1 and call.rows_behind(axis) >= 0 and not phases
        case Addition():
            return row_by_row
        case Pointwise():
            return row_by_row and call.positions == source.height * source.width > 1
        case Maximum() | Pooling() | Lookup() | Softmax() | Padding() | Reshape() | Slice():
            return False
        case Transposition() | Join() | Resizing() | Combination():
            return False
        case StreamReduction() | KeepRows():
            return False
        case _:
            assert_never(call)


def lead_bytes(program: Program, cascade: Cascade, buffer: int) -> int:
    """Return how far before a buffer that a cascade reads its output must begin, to overwrite only what is not needed.

    At each step what is written must end before what that step and those after it still read.
    """
    read_bytes = row_bytes(program.buffers[buffer])
    output = program.calls[cascade.last].output
    target = program.buffers[output]
    still_read: int | None = None
    lead = 0
    for step in reversed(cascade.steps):
        if isinstance(step, Shift):
            continue
        call = program.calls[step.call]
        reads = [step.source_first] if call.input == buffer else []
        reads += [step.first] if buffer in call_inputs(call)[1:] else []
        for place in reads:
            still_read = place if still_read is None else min(still_read, place)
        if call.output == output and still_read is not None:
            end = target.size_bytes if call.keeps_sums else step.end * row_bytes(target)
            lead = max(lead, end - still_read * read_bytes)
    return lead


def stripe_view(program: Program, stripe: Stripe) -> tuple[Program, Call]:
    """Return a program of which the stripe is a whole call, and that call: what a kernel's struct is written from."""
    call = program.calls[stripe.call]
    buffers = list(program.buffers)
    rows = stripe.end - stripe.first
    for buffer in {*call_inputs(call), call.output}:
        if not (call.keeps_sums and buffer == call.output):
            buffers[buffer] = _with_rows(buffers[buffer], rows)
    match call:
        case Convolution():
            axis = _axis(program, call)
            pad = [*call.pad]
            pad[axis] -= stripe.first - stripe.source_first
            call = replace(call, pad=(pad[0], pad[1]))
            buffers[call.input] = _with_rows(program.buffers[call.input], stripe.source_end - stripe.source_first)
        case Pointwise():
            whole = program.buffers[call.input]
            call = replace(call, positions=call.positions // row_count(whole) * rows)
        case Addition() | Average():
            pass
        case Maximum() | Pooling() | Lookup() | Softmax() | Padding() | Reshape() | Slice():
            raise AssertionError(f"{call.name} does not run in stripes")
        case Transposition() | Join() | Resizing() | Combination():
            raise AssertionError(f"{call.name} does not run in stripes")
        case StreamReduction() | KeepRows():
            raise AssertionError(f"{call.name} does not run in stripes")
        case _:
            assert_never(call)
    return replace(program, buffers=tuple(buffers)), call


def stripes_of(cascade: Cascade) -> dict[int, list[Stripe]]:
    """Return the stripes of each call, in order."""
    found: dict[int, list[Stripe]] = {number: [] for number in range(cascade.first, cascade.last + 1)}
    for step in cascade.steps:
        if isinstance(step, Stripe):
            found[step.call].append(step)
    return found
