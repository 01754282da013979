"""A network that streams -> one step of it as a program, with states that live from step to step, placed in the arena.

A state are the rows of a buffer that the next step sees again, with the new rows behind them in the same piece of
memory. Behind the last call that uses it, its newest rows move to its start; a depthwise line before that writes over
the oldest ones.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbx_deploy.compiler.step import State, Step, View
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import (
    Average,
    Buffer,
    Call,
    Convolution,
    KeepRows,
    Maximum,
    Program,
    Slice,
    StreamReduction,
    call_inputs,
    is_depthwise_line,
    redirected,
)
from mbx_deploy.network.time_axis import TimeAxis, on_rows
from mbx_deploy.sim.stream import StreamState, silent_state

MOST_VALUES = 255  # of one channel that a step sums up: int16 holds 255 times -128


@dataclass(frozen=True)
class StreamStep(Step):
    """One step of a stream.

    window: the program of the whole window, the definition. new_rows: buffer of the window -> the buffer of the rows
    that a step adds to it. sums: the buffer that holds the blocks of the reduction.
    """

    window: Program
    time: TimeAxis
    new_rows: dict[int, int]
    sums: int

    def newest(self, buffer: int, values: np.ndarray) -> np.ndarray:
        """Return of a buffer of the window, int8 (height, width, channels), what the last step added to it."""
        rows = self.time.step_rows.get(buffer)
        if rows is None:
            return values
        length = values.shape[self.time.axis]
        return np.take(values, np.arange(length - rows, length), self.time.axis)


class _Builder:
    """Buffers and calls of a step while they are made."""

    def __init__(self, window: Program, time: TimeAxis) -> None:
        self.window, self.time = window, time
        self.buffers: list[Buffer] = []
        self.views: dict[int, View] = {}
        self.whole: dict[int, int] = {}  # buffer of the window -> the state that holds it
        self.new: dict[int, int] = {}  # buffer of the window -> the buffer of its new rows
        for number, buffer in enumerate(window.buffers):
            if number in time.step_rows:
                self._add_rows(number, buffer)
            else:
                self.new[number] = self._add(buffer)

    def _add(self, buffer: Buffer) -> int:
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _add_rows(self, number: int, buffer: Buffer) -> None:
        rows, kept = self.time.step_rows[number], self.time.kept[number]
        added = replace(self.time.with_rows(buffer, rows), name=buffer.name)
        if not kept:
            self.new[number] = self._add(added)
            return
        self.whole[number] = self._add(self.time.with_rows(buffer, kept + rows))
        self.new[number] = self._add(added)
        self.views[self.new[number]] = View(self.whole[number], kept * self.time.row_bytes(buffer))

    def seen(self, number: int, buffer: int) -> int:
        """Return the buffer of what a call sees of a buffer of the window."""
        if number not in self.time.seen:
            return self.new[buffer]
        seen, rows, kept = self.time.seen[number], self.time.step_rows[buffer], self.time.kept[buffer]
        if (seen.count, seen.behind) == (rows, 0):
            return self.new[buffer]
        first = kept + rows - seen.depth
        if buffer not in self.whole:  # what is seen are some of the new rows
            return self._view(self.new[buffer], buffer, first, seen.count)
        if (first, seen.count) == (0, kept + rows):
            return self.whole[buffer]
        return self._view(self.whole[buffer], buffer, first, seen.count)

    def _view(self, base: int, buffer: int, first: int, rows: int) -> int:
        window = self.window.buffers[buffer]
        view = self._add(self.time.with_rows(window, rows))
        self.views[view] = View(base, first * self.time.row_bytes(window))
        return view


def make_step(window: Program, time: TimeAxis, silence: np.ndarray) -> StreamStep:
    """Return one step of a program that streams.

    silence: int8, the row of the network's input that a stream has heard for ever before its first one. Raises
    InputError where a step's sums would leave int16.
    """
    state = silent_state(window, time, silence)
    builder = _Builder(window, time)
    calls: list[Call] = []
    sums = -1
    for number, call in enumerate(window.calls):
        if number == time.reduction:
            sums = _add_sums(builder, call)
            places = (builder.new[call.input], builder.new[call.output], sums)
            calls.append(StreamReduction(call.name, *places, *_mean(window, call, time)))
            continue
        if _is_view(builder, number, call):
            builder.new[call.output] = builder.seen(number, call.input)
            continue
        rows = time.step_rows.get(call.output)
        made = call if rows is None else on_rows(window, call, time, rows)
        seen = {buffer: builder.seen(number, buffer) for buffer in call_inputs(call)}
        calls.append(redirected(made, seen, builder.new[call.output]))
    _write_over_oldest(builder, calls)
    program = replace(
        window,
        buffers=tuple(builder.buffers),
        calls=(),
        input=builder.new[window.input],
        output=builder.new[window.output],
    )
    states = _states(builder, state, sums)
    return StreamStep(
        replace(program, buffers=tuple(builder.buffers), calls=tuple(_keep(builder, calls, states))),
        builder.views,
        states,
        window,
        time,
        builder.new,
        sums,
    )


def _write_over_oldest(builder: _Builder, calls: list[Call]) -> None:
    """Have depthwise lines write at the start of the state that they read: those rows are not kept."""
    program = replace(builder.window, buffers=tuple(builder.buffers))
    states = set(builder.whole.values())
    for number, call in enumerate(calls):
        if not isinstance(call, Convolution) or not is_depthwise_line(program, call):
            continue
        if call.input not in states or call.output in builder.views:
            continue
        size = builder.buffers[call.output].size_bytes
        later = [b for c in calls[number + 1 :] for b in call_inputs(c)]
        reads = [builder.views[b].offset for b in later if b in builder.views and builder.views[b].state == call.input]
        if call.input not in later and all(offset >= size for offset in reads):
            builder.views[call.output] = View(call.input, 0)


def _is_view(builder: _Builder, number: int, call: Call) -> bool:
    """Whether a call only says which rows come next: a slice along time, aligned at the window's end."""
    if not isinstance(call, Slice) or number not in builder.time.seen:
        return False
    source, target = builder.window.buffers[call.input], builder.window.buffers[call.output]
    same_rows = builder.time.row_bytes(source) == builder.time.row_bytes(target)
    return same_rows and not builder.time.kept[call.output] and call.output != builder.window.output


def _mean(window: Program, call: Call, time: TimeAxis) -> tuple[Average | Maximum, int]:
    assert isinstance(call, Average | Maximum)
    source, target = window.buffers[call.input], window.buffers[call.output]
    values = time.step_rows[call.input] * time.row_bytes(source) // target.size_bytes
    if values > MOST_VALUES:
        raise InputError(
            f"bad step of a stream: {call.name} would sum up {values} values a channel, need at most {MOST_VALUES}",
            "take a smaller step",
        )
    return call, time.blocks


def _add_sums(builder: _Builder, call: Call) -> int:
    channels = builder.window.buffers[call.output].size_bytes
    size = 2 if isinstance(call, Average) else 1
    return builder._add(Buffer(f"{call.name} blocks", 1, builder.time.blocks, channels * size))


def _states(builder: _Builder, state: StreamState, sums: int) -> tuple[State, ...]:
    time = builder.time
    found = []
    for number, whole in builder.whole.items():
        row_bytes, kept = time.row_bytes(builder.window.buffers[number]), time.kept[number]
        row = np.take(state.rows[number], 0, time.axis).ravel()
        name = builder.window.buffers[number].name
        found.append(State(whole, name, kept * row_bytes, kept, row))
    found.append(State(sums, "blocks", builder.buffers[sums].size_bytes, time.blocks, state.blocks[0]))
    return tuple(found)


def _keep(builder: _Builder, calls: list[Call], states: tuple[State, ...]) -> list[Call]:
    """Return the calls, and behind the last one that reads a state the move of its newest rows to its start."""
    base_of = {buffer: view.state for buffer, view in builder.views.items()}
    last_use: dict[int, int] = {}
    for number, call in enumerate(calls):
        for buffer in (*call_inputs(call), call.output):
            last_use[base_of.get(buffer, buffer)] = number
    moves: dict[int, list[Call]] = {}
    for state in states[:-1]:
        size = builder.buffers[state.buffer].size_bytes
        move = KeepRows(f"keep {state.name}", state.buffer, state.buffer, size - state.kept_bytes, state.kept_bytes)
        moves.setdefault(last_use[state.buffer], []).append(move)
    return [made for number, call in enumerate(calls) for made in (call, *moves.get(number, ()))]
