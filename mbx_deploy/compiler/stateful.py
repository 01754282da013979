"""A network that keeps state in variables -> one run of it as a step, with a state for each variable.

Most variables hold the last rows that a convolution sees: a run reads them, puts the new rows behind them, and assigns
the newest of all. Such a state is one piece of memory in which the new rows are written behind the old ones; then the
newest move to its start. Any other state is read where it lies, and behind its last reader what is assigned is copied
there.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from mbx_deploy.compiler.step import State, Step, View
from mbx_deploy.errors import InputError
from mbx_deploy.network.ir import Variable
from mbx_deploy.network.program import (
    Buffer,
    Call,
    Join,
    KeepRows,
    Program,
    Reshape,
    Slice,
    call_inputs,
)

LARGEST_FIELD = (1 << 16) - 1  # bytes of a row, and rows, that the runtime's fields hold
SAME_BYTES = 16  # at most, of the row of a state whose bytes are all the same


@dataclass(frozen=True)
class _Held:
    """A variable. read: the buffer that holds it. source: of which size bytes from first on are what comes next."""

    name: str
    read: int
    source: int
    first: int
    size: int
    initial: np.ndarray


@dataclass
class _Builder:
    """The step in the making. homes: buffers that are states, in which others may lie (views)."""

    program: Program
    buffers: list[Buffer]
    calls: list[Call]
    views: dict[int, View] = field(default_factory=dict)
    homes: set[int] = field(default_factory=set)

    def readers(self, buffer: int) -> list[Call]:
        """Return the calls that read a buffer."""
        return [call for call in self.calls if buffer in call_inputs(call)]

    def writer(self, buffer: int) -> Call | None:
        """Return the call that writes a buffer."""
        return next((call for call in self.calls if call.output == buffer), None)

    def is_state(self, buffer: int) -> bool:
        """Whether a buffer is a state, or lies in one."""
        return buffer in self.homes or buffer in self.views

    def drop(self, call: Call) -> None:
        """Take a call out."""
        self.calls = [other for other in self.calls if other is not call]


def make_stateful_step(program: Program) -> Step:
    """Return one run of a program with variables. Raises InputError for a state that no field holds."""
    builder = _Builder(program, [*program.buffers], [*program.calls])
    assigned = [variable.assigned for variable in program.variables]
    held = [_tail_alone(builder, variable, assigned) for variable in program.variables]
    held = [_source_alone(builder, item, assigned) for item in held]
    builder.homes |= {item.read for item in held}
    moves, states = [], []
    for item in held:
        if not _write_behind(builder, item):
            continue
        moves.append(KeepRows(f"keep {item.name}", item.source, item.source, item.first, item.size))
        states.append(_state(builder, item, item.source))
    _view_reshaped(builder, {item.source for item in held})
    for item in held:
        if item.read in builder.views:
            continue
        item = _apart(builder, item)
        moves.append(KeepRows(f"keep {item.name}", item.source, item.read, item.first, item.size))
        states.append(_state(builder, item, item.read))
    made = replace(program, buffers=tuple(builder.buffers), calls=tuple(_with_moves(builder, moves)), variables=())
    return Step(made, builder.views, tuple(states))


def _tail_alone(builder: _Builder, variable: Variable, assigned: list[int]) -> _Held:
    """Return a variable; where all that is read of it is its end, as one that holds its end alone."""
    size = builder.buffers[variable.read].size_bytes
    initial = variable.initial.ravel()
    whole = _Held(variable.name, variable.read, variable.assigned, 0, size, initial)
    readers = builder.readers(variable.read)
    if len(readers) != 1 or variable.read in assigned or not isinstance(readers[0], Slice):
        return whole
    part = _part(builder, readers[0])
    if part is None or sum(part) != size or readers[0].output in (builder.program.output, *assigned):
        return whole
    builder.drop(readers[0])
    return replace(whole, read=readers[0].output, first=part[0], size=part[1], initial=initial[part[0] :])


def _source_alone(builder: _Builder, held: _Held, assigned: list[int]) -> _Held:
    """Return a variable; where a slice makes what comes next, and serves nothing else, as one that does without it."""
    call = builder.writer(held.source)
    if not isinstance(call, Slice) or builder.readers(held.source) or held.source == builder.program.output:
        return held
    part = _part(builder, call)
    if part is None or assigned.count(held.source) > 1:
        return held
    builder.drop(call)
    return replace(held, source=call.input, first=part[0] + held.first)


def _part(builder: _Builder, call: Slice) -> tuple[int, int] | None:
    """Return (first byte, bytes) of what a slice takes of its input, or None where that is no one piece."""
    shape = builder.buffers[call.input].shape
    sizes = (shape[1] * shape[2], shape[2], 1)
    cut = next((axis for axis in range(3) if call.count[axis] > 1), 2)  # the axes before it are at one place
    together = call.count[cut] == 1 or call.stride[cut] == 1
    if not together or any(call.count[axis] != shape[axis] for axis in range(cut + 1, 3)):
        return None
    first = sum(begin * size for begin, size in zip(call.begin, sizes, strict=True))
    return (first, math.prod(call.count))


def _write_behind(builder: _Builder, held: _Held) -> bool:
    """Have new rows be written behind the old ones where a variable is of that kind. Returns whether it is.

    The new rows begin at a multiple of their own row, as in a stream: kernels store by words where a row is of words.
    """
    join, output = builder.writer(held.source), builder.program.output
    if not isinstance(join, Join) or join.pieces != 1 or join.input != held.read:
        return False
    size, row = builder.buffers[held.read].size_bytes, builder.buffers[join.other].channels
    if output in (join.output, join.other) or size % row:
        return False
    if any(builder.is_state(buffer) for buffer in (join.output, join.other)):
        return False
    builder.drop(join)
    builder.homes.add(join.output)
    builder.views |= {held.read: View(join.output, 0), join.other: View(join.output, size)}
    return True


def _view_reshaped(builder: _Builder, sources: set[int]) -> None:
    """Have what is a state under another shape be read where it lies. sources: of what comes next."""
    for call in [call for call in builder.calls if isinstance(call, Reshape)]:
        kept = {builder.program.output, *builder.views, *sources}
        if builder.is_state(call.input) and call.output not in kept:
            builder.drop(call)
            builder.views[call.output] = View(call.input, 0)


def _apart(builder: _Builder, held: _Held) -> _Held:
    """Return a variable; where what comes next lies in a state, which is set, too, as one that takes a copy of it."""
    if not builder.is_state(held.source):
        return held
    builder.buffers.append(Buffer(f"{held.name}, next", 1, 1, held.size))
    copy = len(builder.buffers) - 1
    builder.calls.append(KeepRows(f"copy {held.name}", held.source, copy, held.first, held.size))
    return replace(held, source=copy, first=0)


def _state(builder: _Builder, held: _Held, buffer: int) -> State:
    row = _row(held, builder.buffers[held.read].channels)
    return State(buffer, held.name, held.size, held.size // len(row), row)


def _row(held: _Held, channels: int) -> np.ndarray:
    """Return what repeated gives a state before the first run, int8. Raises InputError for one that is too large."""
    first = held.initial
    lengths = [channels, held.size]
    if (first == first[0]).all():
        lengths.insert(0, math.gcd(held.size, SAME_BYTES))
    for length in lengths:
        fits = held.size % length == 0 and max(length, held.size // length) <= LARGEST_FIELD
        if fits and (first.reshape(-1, length) == first[:length]).all():
            return first[:length]
    raise InputError(
        f"a state is too large (variable {held.name!r}): got {held.size:,} bytes of which no row repeats, need at most "
        f"{LARGEST_FIELD:,}"
    )


def _with_moves(builder: _Builder, moves: list[KeepRows]) -> list[Call]:
    """Return the calls, and behind the last one that uses a state what sets it for the next run."""
    base_of: dict[int, int] = {}
    for buffer, view in builder.views.items():  # a view's own base is there before it
        base_of[buffer] = base_of.get(view.state, view.state)
    last_use: dict[int, int] = {}
    for number, call in enumerate(builder.calls):
        for buffer in (*call_inputs(call), call.output):
            last_use[base_of.get(buffer, buffer)] = number
    behind: dict[int, list[Call]] = {}
    for move in moves:
        number = max(last_use.get(move.output, -1), last_use.get(base_of.get(move.input, move.input), -1))
        behind.setdefault(number, []).append(move)
    every = [made for number, call in enumerate(builder.calls) for made in (call, *behind.get(number, ()))]
    return [*behind.get(-1, ()), *every]
