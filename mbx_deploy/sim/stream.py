"""A network that streams: state in, state out. The readable definition of what mbx_stream.c and the generated step do.

The state of a buffer is the rows that its readers will see again; that of the reduction is a sum, or the largest value,
of each of its last blocks. After every step the output is the window's over the last window_frames rows of the input,
byte for byte: each call sees the same values, whichever way they came.
"""

from dataclasses import dataclass

import numpy as np

from mbx_deploy.network.program import Average, Call, Maximum, Program, call_inputs
from mbx_deploy.network.time_axis import RowsSeen, TimeAxis, on_rows
from mbx_deploy.sim.fixed_point import clamp, multiply_by_quantized_multiplier
from mbx_deploy.sim.frontend import Observer
from mbx_deploy.sim.recognizer import run_call


@dataclass(frozen=True)
class StreamState:
    """What a stream remembers.

    rows: buffer -> int8 (kept, ...) along the time axis. blocks: int16 (blocks, channels) sums of what the reduction is
    a mean of, or int8 the largest values; the oldest first.
    """

    rows: dict[int, np.ndarray]
    blocks: np.ndarray


def silent_state(program: Program, time: TimeAxis, row: np.ndarray) -> StreamState:
    """Return the state of a stream that has heard the same row for ever.

    row: int8, one row of the network's input: the features of digital silence. Twin: mbx_reset_states().
    """
    shape = program.buffers[program.input].shape
    window = np.repeat(_row_first(row, shape, time.axis), shape[time.axis], axis=time.axis)
    buffers = {program.input: window}
    for number, call in enumerate(program.calls):
        if number > time.reduction:
            break
        target = program.buffers[call.output]
        if set(call_inputs(call)) <= set(buffers):
            buffers[call.output] = run_call(call, buffers, target.shape).reshape(target.shape)
    rows = {buffer: _last(buffers[buffer], count, time.axis) for buffer, count in time.kept.items() if count}
    reduction = program.calls[time.reduction]
    newest = _last(buffers[reduction.input], time.step_rows[reduction.input], time.axis)
    return StreamState(rows, np.repeat(reduce_block(newest, reduction)[None], time.blocks, axis=0))


def _row_first(row: np.ndarray, shape: tuple[int, int, int], axis: int) -> np.ndarray:
    return row.reshape([1 if i == axis else length for i, length in enumerate(shape)])


def _last(values: np.ndarray, count: int, axis: int) -> np.ndarray:
    return np.take(values, np.arange(values.shape[axis] - count, values.shape[axis]), axis)


def step(
    program: Program, time: TimeAxis, state: StreamState, rows: np.ndarray, observe: Observer | None = None
) -> tuple[StreamState, np.ndarray]:
    """Return (the state behind the step, the network's output, int8 (classes,)).

    rows: int8, step_frames rows of the network's input. observe(call's name, values) sees what every call adds.
    Twin: the generated step.
    """
    shape = time.with_rows(program.buffers[program.input], time.step_frames).shape
    added: dict[int, np.ndarray] = {program.input: rows.reshape(shape)}
    blocks = state.blocks
    for number, call in enumerate(program.calls):
        target = program.buffers[call.output]
        if number == time.reduction:
            newest = reduce_block(added[call.input], call)
            blocks = np.concatenate([blocks[1:], newest[None]])
            result = reduce_blocks(blocks, program, call).reshape(target.shape)
        elif number in time.seen:
            made = time.step_rows[call.output]
            seen = {b: _seen(state, added, b, time.seen[number], time.axis) for b in call_inputs(call)}
            shape = time.with_rows(target, made).shape
            result = run_call(on_rows(program, call, time, made), seen, shape).reshape(shape)
        else:
            result = run_call(call, added, target.shape).reshape(target.shape)
        added[call.output] = result
        if observe:
            observe(call.name, result)
    kept = {
        buffer: _last(np.concatenate([state.rows[buffer], added[buffer]], time.axis), count, time.axis)
        for buffer, count in time.kept.items()
        if count
    }
    return StreamState(kept, blocks), added[program.output].ravel()


def _seen(state: StreamState, added: dict[int, np.ndarray], buffer: int, seen: RowsSeen, axis: int) -> np.ndarray:
    """Return the rows that a call sees of a buffer: of those that were kept, and of those that this step added."""
    values = added[buffer]
    if buffer in state.rows:
        values = np.concatenate([state.rows[buffer], values], axis)
    newest = values.shape[axis] - seen.behind
    return np.take(values, np.arange(newest - seen.count, newest), axis)


def reduce_block(rows: np.ndarray, call: Call) -> np.ndarray:
    """Return what a step adds to the reduction: sums as int16, or largest values as int8, one a channel.

    Twin: the first half of mbx_stream_mean() and mbx_stream_max().
    """
    assert isinstance(call, Average | Maximum)
    if isinstance(call, Maximum):
        largest: np.ndarray = rows.max(axis=call.axes).ravel()
        return largest
    sums: np.ndarray = rows.sum(axis=call.axes, dtype=np.int16).ravel()
    return sums


def reduce_blocks(blocks: np.ndarray, program: Program, call: Call) -> np.ndarray:
    """Return the mean or the largest value over all rows of the blocks, int8 (channels,).

    The sum of a mean is that of mbx_mean(), whose values come less the zero point, one by one.
    """
    assert isinstance(call, Average | Maximum)
    if isinstance(call, Maximum):
        largest: np.ndarray = blocks.max(axis=0)
        return largest
    source = program.buffers[call.input]
    values = source.size_bytes // program.buffers[call.output].size_bytes
    accumulator = blocks.astype(np.int64).sum(axis=0) - values * call.input_zero_point
    scaled = multiply_by_quantized_multiplier(accumulator, call.multiplier, call.shift)
    return clamp(scaled + call.output_zero_point, -128, 127).astype(np.int8)


def run(program: Program, time: TimeAxis, state: StreamState, rows: np.ndarray) -> tuple[StreamState, np.ndarray]:
    """Return (the state behind all whole steps of the rows, int8 (steps, classes) outputs).

    rows: int8 (any, ...), rows of the network's input; those that fill no step are not used.
    """
    row_bytes = time.row_bytes(program.buffers[program.input])
    steps = rows.reshape(-1, row_bytes)
    count = len(steps) // time.step_frames
    outputs = np.zeros((count, program.buffers[program.output].size_bytes), np.int8)
    for number in range(count):
        part = steps[number * time.step_frames : (number + 1) * time.step_frames]
        state, outputs[number] = step(program, time, state, part)
    return state, outputs
