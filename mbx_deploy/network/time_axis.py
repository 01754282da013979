"""Time in a network: which axis it is, and how many of a layer's rows a stream adds and keeps at each step.

A row is what a buffer holds of one point in time. A network can stream where every call sees only a few rows that
follow each other (a convolution without padding in time), up to one mean or maximum over all rows, behind which there
is no time. The window is the definition: after a step, the newest rows of every buffer are the last rows that the
window would compute, since every call is aligned at the window's end.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from mbx_deploy.errors import InputError
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
)


@dataclass(frozen=True)
class RowsSeen:
    """What a call sees of its input at a step: count rows, of which the last lies behind rows before the newest one."""

    count: int
    behind: int

    @property
    def depth(self) -> int:
        """How many of the newest rows hold what is seen."""
        return self.count + self.behind


@dataclass(frozen=True)
class TimeAxis:
    """How a program runs as a stream.

    axis: of (height, width), along which time runs. step_frames: rows of the input that a step takes. step_rows: buffer
    -> rows that a step adds to it; buffers behind the reduction are not among them. seen: number of a call -> what it
    sees.
    kept: buffer -> rows that the next step still needs; 0 where it needs none. reduction: number of the call that goes
    over time. window_frames: rows of the input of a window. blocks: steps that the reduction goes over.
    """

    axis: int
    step_frames: int
    step_rows: dict[int, int]
    seen: dict[int, RowsSeen]
    kept: dict[int, int]
    reduction: int
    window_frames: int
    blocks: int

    def with_rows(self, buffer: Buffer, rows: int) -> Buffer:
        """Return a buffer with so many rows."""
        if self.axis:
            return replace(buffer, width=rows)
        return replace(buffer, height=rows)

    def row_bytes(self, buffer: Buffer) -> int:
        """Return the size of a row."""
        return buffer.size_bytes // buffer.shape[self.axis]


def find_time_axis(program: Program, step_frames: int) -> TimeAxis:
    """Return how a program streams, step_frames rows of its input at a time.

    Raises InputError for a network that can't stream, naming the op that prevents it, and for a step that is no
    multiple of the strides or does not divide what is averaged.
    """
    source = program.buffers[program.input]
    axis = 1 if source.height == 1 else 0
    if step_frames < 1:
        raise InputError(f"bad step of a stream: got {step_frames} frames, need 1 or more")
    steps = {program.input: step_frames}
    seen: dict[int, RowsSeen] = {}
    reduction = None
    for number, call in enumerate(program.calls):
        timed = [buffer for buffer in call_inputs(call) if buffer in steps]
        if not timed:
            continue
        if len(timed) != len(call_inputs(call)):
            _refuse(call, "it joins what depends on time and what does not")
        if _goes_over(call, axis):
            if reduction is not None:
                _refuse(call, "it is a second one over time")
            reduction = number
            continue
        taken, stride = _rows_of(program, call, axis)
        if steps[call.input] % stride:
            raise InputError(
                f"bad step of a stream: got {step_frames} frames, of which {call.name} gets {steps[call.input]} rows, "
                f"need a multiple of its stride, {stride}"
            )
        added = steps[call.input] // stride
        steps[call.output] = added
        seen[number] = RowsSeen((added - 1) * stride + taken.count, taken.behind)
    if reduction is None:
        raise InputError(
            "the network can't stream: it has no mean or maximum over time",
            "end it with a mean over its frames before the layers without time",
        )
    if program.output in steps:
        raise InputError("the network can't stream: its output depends on time")
    pooled = program.calls[reduction].input
    rows = program.buffers[pooled].shape[axis]
    if rows % steps[pooled]:
        raise InputError(
            f"bad step of a stream: got {step_frames} frames, {steps[pooled]} rows of the {rows} that "
            f"{program.calls[reduction].name} goes over, need a step that divides them"
        )
    kept = dict.fromkeys(steps, 0)
    for number, rows_seen in seen.items():
        for buffer in call_inputs(program.calls[number]):
            kept[buffer] = max(kept[buffer], rows_seen.depth - steps[buffer])
    return TimeAxis(axis, step_frames, steps, seen, kept, reduction, source.shape[axis], rows // steps[pooled])


def on_rows(program: Program, call: Call, time: TimeAxis, rows: int) -> Call:
    """Return a call as it gives so many rows."""
    if isinstance(call, Pointwise):
        target = program.buffers[call.output]
        return replace(call, positions=call.positions // target.shape[time.axis] * rows)
    if isinstance(call, Slice):
        height, width, channels = call.begin
        begin = (height, 0, channels) if time.axis else (0, width, channels)
        height, width, channels = call.count
        return replace(call, begin=begin, count=(height, rows, channels) if time.axis else (rows, width, channels))
    return call


def _goes_over(call: Call, axis: int) -> bool:
    return isinstance(call, Average | Maximum) and axis in call.axes


def _rows_of(program: Program, call: Call, axis: int) -> tuple[RowsSeen, int]:
    """Return (what one row of a call's output sees, the last one first; its stride). Raises InputError for a call that
    is not local in time.
    """
    source, target = program.buffers[call.input], program.buffers[call.output]
    rows, wanted = source.shape[axis], target.shape[axis]
    match call:
        case Convolution():
            extent = (call.kernel[axis] - 1) * call.dilation[axis] + 1
            return _sliding(call, rows, wanted, extent, call.stride[axis], call.pad[axis])
        case Pooling():
            return _sliding(call, rows, wanted, call.window[axis], call.stride[axis], call.pad[axis])
        case Padding():
            if call.amounts[axis] != (0, 0):
                _refuse(call, "it pads in time")
        case Slice():
            if call.stride[axis] != 1:
                _refuse(call, "it leaves rows out")
            if call.count != target.shape:
                _refuse(call, "it moves time to another axis")
            return RowsSeen(1, rows - call.begin[axis] - wanted), 1
        case Pointwise():
            if call.positions != source.height * source.width:
                _refuse(call, "it sees all frames at once")
        case Reshape():
            if rows != wanted or source.size_bytes != target.size_bytes or (axis and source.height != target.height):
                _refuse(call, "it moves time to another axis")
        case Addition() | Lookup() | Softmax() | Average() | Maximum():
            pass
        case Transposition() | Join() | Resizing() | Combination():
            _refuse(call, "streams know no op of this kind")
        case StreamReduction() | KeepRows():
            _refuse(call, "it is of a stream's step already")
        case _:
            assert_never(call)
    if rows != wanted:
        _refuse(call, f"it makes {wanted} rows of {rows}")
    return RowsSeen(1, 0), 1


def _sliding(call: Call, rows: int, wanted: int, extent: int, stride: int, pad: int) -> tuple[RowsSeen, int]:
    if pad or (wanted - 1) * stride + extent > rows:
        _refuse(call, "it pads in time")
    return RowsSeen(extent, rows - ((wanted - 1) * stride + extent)), stride


def _refuse(call: Call, why: str) -> None:
    raise InputError(
        f"the network can't stream ({call.name}): {why}",
        "train one with `[model] streaming = true`, or build it without a step",
    )
