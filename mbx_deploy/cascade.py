"""Cascades: calls that follow each other, run stripe by stripe of positions instead of layer by layer.

What lies between two of them is then never in memory as a whole: a few positions are, and where a convolution looks
back, those that it still needs. Every value is computed once, by the same kernels: the bytes are the same.
Source of the idea: cascades and stripes of Arm's Vela compiler.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mbx_deploy.program import (
    Addition,
    Average,
    Buffer,
    Call,
    Convolution,
    Pointwise,
    Program,
    call_inputs,
    is_depthwise_line,
)

# Positions that a round adds at the cascade's end: multiples of what kernels work on at a time, 4 of a pointwise call
# and 6 of a depthwise one.
STRIPES = (12, 24, 48)
POSITION_MULTIPLE = 4  # so that a stripe begins at a word, and no block of a pointwise call is broken
CHANNEL_MULTIPLE = 4
DILATIONS = (1, 2, 4)  # of which a stripe's first position is a multiple


@dataclass(frozen=True)
class Whole:
    """A call on all of its positions. call: its number."""

    call: int


@dataclass(frozen=True)
class Stripe:
    """A call on some of its positions.

    first, end: of its output; of a mean those of its input. source_first, source_end: those that it sees of its input.
    input_at, other_at, output_at: the place of the first of them in its buffer's memory, in positions.
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
    """The positions of a buffer that are still needed move to its start. first: the place of the first of them."""

    buffer: int
    first: int
    count: int


Step = Whole | Stripe | Shift


@dataclass(frozen=True)
class Cascade:
    """The calls first to last in stripes. steps: in the order in which they run.

    windows: buffer -> the most positions that are in memory at once, of what lies between the calls. carried: of
    these, the ones that keep positions from one stripe to the next.
    """

    first: int
    last: int
    steps: tuple[Stripe | Shift, ...]
    windows: dict[int, int]
    carried: frozenset[int]


def positions_before(call: Call) -> int:
    """Return how many positions before its own a call sees."""
    return call.pad[1] if isinstance(call, Convolution) else 0


def positions_behind(call: Call) -> int:
    """Return how many positions behind its own a call sees."""
    return (call.kernel[1] - 1) * call.dilation[1] - call.pad[1] if isinstance(call, Convolution) else 0


def make_cascade(program: Program, first: int, last: int, stripe: int) -> Cascade | None:
    """Return the calls first to last as a cascade, or None where they can't be one."""
    if not _may_cascade(program, first, last):
        return None
    calls = program.calls[first : last + 1]
    total = program.buffers[calls[0].input].width
    inner = [call.output for call in calls[:-1]]
    done = {call.output: 0 for call in calls}
    start = {call.output: 0 for call in calls}  # the position that lies at the start of a buffer's memory
    windows = dict.fromkeys(inner, 0)
    carried: set[int] = set()
    steps: list[Stripe | Shift] = []
    for end in (*range(stripe, total, stripe), total):
        need = _needs(calls, inner, end, total)
        for buffer in inner:
            readers = [call for call in calls if buffer in call_inputs(call)]
            keep = min(max(0, done[call.output] - positions_before(call)) for call in readers)
            if start[buffer] < keep < done[buffer]:
                steps.append(Shift(buffer, keep - start[buffer], done[buffer] - keep))
            if keep < done[buffer]:
                carried.add(buffer)
            start[buffer] = keep
        for number, call in enumerate(calls, first):
            before, behind = done[call.output], need[call.output]
            if before == behind:
                continue
            source_first = max(0, before - positions_before(call))
            source_end = min(total, behind + positions_behind(call))
            steps.append(
                Stripe(
                    call=number,
                    first=before,
                    end=behind,
                    source_first=source_first,
                    source_end=source_end,
                    input_at=source_first - start.get(call.input, 0),
                    other_at=before - start.get(call.other, 0) if isinstance(call, Addition) else 0,
                    output_at=0 if isinstance(call, Average) else before - start[call.output],
                )
            )
            if call.output in windows:
                windows[call.output] = max(windows[call.output], behind - start[call.output])
            done[call.output] = behind
    return Cascade(first, last, tuple(steps), windows, frozenset(carried))


def _needs(calls: tuple[Call, ...], inner: list[int], end: int, total: int) -> dict[int, int]:
    """Return up to which position each output is needed, so that the last one comes to end."""
    need = {calls[-1].output: end} | dict.fromkeys(inner, 0)
    for call in reversed(calls):
        seen = need[call.output] + positions_behind(call)
        rounded = min(total, -(-seen // POSITION_MULTIPLE) * POSITION_MULTIPLE)
        for buffer in call_inputs(call):
            if buffer in need:
                need[buffer] = max(need[buffer], rounded)
    return need


def _may_cascade(program: Program, first: int, last: int) -> bool:
    calls = program.calls[first : last + 1]
    inner = {call.output for call in calls[:-1]}
    outside = (*program.calls[:first], *program.calls[last + 1 :])
    if len(calls) < 2 or program.output in inner or any(inner & set(call_inputs(call)) for call in outside):
        return False
    if len(inner) != len(calls) - 1 or not all(any(b in call_inputs(c) for c in calls) for b in inner):
        return False
    width = program.buffers[calls[0].input].width
    return all(_takes_stripes(program, call, width, call is calls[-1]) for call in calls)


def _takes_stripes(program: Program, call: Call, width: int, is_last: bool) -> bool:
    """Whether a call can run on some of its positions: those of one line of a width, to as many."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    if source.channels % CHANNEL_MULTIPLE or target.channels % CHANNEL_MULTIPLE or source.height != 1:
        return False
    if isinstance(call, Average):
        return (
            is_last and source.width == width and call.axes in ((1,), (0, 1)) and source.channels == target.size_bytes
        )
    if (source.height, source.width, target.height, target.width) != (1, width, 1, width):
        return False
    if isinstance(call, Convolution):
        behind = positions_behind(call)
        return is_depthwise_line(program, call) and call.dilation[1] in DILATIONS and behind >= 0
    return isinstance(call, Addition) or (isinstance(call, Pointwise) and call.positions == width)


def lead_bytes(program: Program, cascade: Cascade, buffer: int) -> int:
    """Return how far before a buffer that a cascade reads its output must begin, to overwrite only what is not needed.

    At each step what is written must end before what that step and those after it still read.
    """
    read_channels = program.buffers[buffer].channels
    output = program.calls[cascade.last].output
    target = program.buffers[output]
    still_read: int | None = None
    lead = 0
    for step in reversed(cascade.steps):
        if isinstance(step, Shift):
            continue
        call = program.calls[step.call]
        reads = [step.source_first] if call.input == buffer else []
        reads += [step.first] if isinstance(call, Addition) and call.other == buffer else []
        for place in reads:
            still_read = place if still_read is None else min(still_read, place)
        if call.output == output and still_read is not None:
            end = target.size_bytes if isinstance(call, Average) else step.end * target.channels
            lead = max(lead, end - still_read * read_channels)
    return lead


def stripe_view(program: Program, stripe: Stripe) -> tuple[Program, Call]:
    """Return a program of which the stripe is a whole call, and that call: what a kernel's struct is written from."""
    call = program.calls[stripe.call]
    buffers = list(program.buffers)
    for buffer in {*call_inputs(call), call.output}:
        whole = buffers[buffer]
        buffers[buffer] = Buffer(whole.name, 1, stripe.end - stripe.first, whole.channels)
    if isinstance(call, Convolution):
        pad = call.pad[1] - (stripe.first - stripe.source_first)
        call = Convolution(**{**vars(call), "pad": (0, pad)})
        whole = program.buffers[call.input]
        buffers[call.input] = Buffer(whole.name, 1, stripe.source_end - stripe.source_first, whole.channels)
    elif isinstance(call, Pointwise):
        call = Pointwise(**{**vars(call), "positions": stripe.end - stripe.first})
    elif isinstance(call, Average):
        buffers[call.output] = program.buffers[call.output]
    return Program(**{**vars(program), "buffers": tuple(buffers)}), call


def stripes_of(cascade: Cascade, number: int) -> Iterator[Stripe]:
    """Yield the stripes of a call."""
    return (step for step in cascade.steps if isinstance(step, Stripe) and step.call == number)
