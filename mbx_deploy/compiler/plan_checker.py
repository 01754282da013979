"""Runs a program on the owners of the arena's bytes. It shares nothing with the planner but the plan."""

import numpy as np

from mbx_deploy.compiler.cascade import WORD_BYTES, Shift, Stripe, Whole, row_bytes, row_count
from mbx_deploy.compiler.memory_plan import ALIGNMENT_BYTES, MemoryPlan
from mbx_deploy.network.program import Addition, Call, Pointwise, Program, call_inputs, may_overwrite


def check_plan(program: Program, plan: MemoryPlan) -> None:
    """Raise AssertionError unless running the program in the arena gives every step the bytes that were written for it.

    It runs the program on owners instead of values: each byte of the arena knows of which buffer it is, and which byte
    of it. What a step reads must be just that; its working memory must meet neither that nor its output nor anything
    that is still to be read; its output may lie over an input only where the kernel allows it. Every call must run on
    all of its rows, in order.
    """
    arena = np.full(plan.arena_bytes, -1, np.int64)
    done = [0] * len(program.calls)

    def span(start: int, size: int, alignment: int) -> slice:
        if start < 0 or start % alignment or start + size > plan.arena_bytes:
            raise AssertionError(f"{size} bytes lie at {start} of {plan.arena_bytes}")
        return slice(start, start + size)

    def owners(buffer: int, start: int, size: int) -> np.ndarray:
        return (buffer << 32) + np.arange(start, start + size, dtype=np.int64)

    def read(buffer: int, place: slice, start: int, reader: str) -> None:
        if not np.array_equal(arena[place], owners(buffer, start, place.stop - place.start)):
            raise AssertionError(f"{reader} reads buffer {buffer} after it was overwritten")

    arena[span(plan.offsets[program.input], program.buffers[program.input].size_bytes, ALIGNMENT_BYTES)] = owners(
        program.input, 0, program.buffers[program.input].size_bytes
    )
    for step in plan.steps():
        if isinstance(step, Shift):
            size, start = row_bytes(program.buffers[step.buffer]), plan.offsets[step.buffer]
            source = span(start + step.first * size, step.count * size, WORD_BYTES)
            arena[span(start, step.count * size, WORD_BYTES)] = arena[source].copy()
            continue
        number = step.call
        call, kernel = program.calls[number], plan.kernels[number]
        operands = [*_operands(program, plan, step)]
        places = [
            span(at, size, WORD_BYTES if isinstance(step, Stripe) else ALIGNMENT_BYTES) for _, at, size, _ in operands
        ]
        *inputs, output = places
        scratch = span(plan.scratch_offsets[number], kernel.scratch_bytes, ALIGNMENT_BYTES)
        if isinstance(step, Stripe) and call.keeps_sums and step.first > 0:
            read(-1 - number, scratch, 0, call.name)
        if kernel.scratch_bytes and _meet(scratch, output):
            raise AssertionError(f"{call.name}: its working memory meets its output")
        arena[scratch] = owners(-1 - number, 0, kernel.scratch_bytes)
        for (buffer, _, _, start), place in zip(operands, inputs, strict=False):
            read(buffer, place, start, call.name)
            if _meet(output, place) and not _runs_behind(
                program, call, buffer, isinstance(step, Stripe), place, output
            ):
                raise AssertionError(f"{call.name}: its output meets its input {buffer}")
        first = step.first if isinstance(step, Stripe) else 0
        if done[number] != first:
            raise AssertionError(f"{call.name} goes on at row {first} after {done[number]}")
        done[number] = step.end if isinstance(step, Stripe) else _rows(program, call)
        buffer, _, size, start = operands[-1]
        arena[output] = owners(buffer, start, size)
    if any(done[number] != _rows(program, call) for number, call in enumerate(program.calls)):
        raise AssertionError("a call did not run on all of its rows")
    last = program.buffers[program.output].size_bytes
    read(program.output, span(plan.offsets[program.output], last, ALIGNMENT_BYTES), 0, "the application")


def _rows(program: Program, call: Call) -> int:
    return row_count(program.buffers[call.input])


def _operands(program: Program, plan: MemoryPlan, step: Whole | Stripe) -> list[tuple[int, int, int, int]]:
    """Return (buffer, offset in the arena, bytes, first byte of the buffer) of a step's inputs and its output."""
    call = program.calls[step.call]
    if isinstance(step, Whole):
        buffers = [*call_inputs(call), call.output]
        return [(buffer, plan.offsets[buffer], program.buffers[buffer].size_bytes, 0) for buffer in buffers]
    parts = [(call.input, step.input_at, step.source_first, step.source_end)]
    parts += [(other, step.other_at, step.first, step.end) for other in call_inputs(call)[1:]]
    if not call.keeps_sums:
        parts.append((call.output, step.output_at, step.first, step.end))
    found = []
    for buffer, at, first, end in parts:
        size = row_bytes(program.buffers[buffer])
        found.append((buffer, plan.offsets[buffer] + at * size, (end - first) * size, first * size))
    if call.keeps_sums:
        found.append((call.output, plan.offsets[call.output], program.buffers[call.output].size_bytes, 0))
    return found


def _runs_behind(program: Program, call: Call, buffer: int, striped: bool, source: slice, output: slice) -> bool:
    """Whether a call that writes over its input has read there before.

    Pointwise and ADD go from the first position on: an output that begins and ends no later than its input stays behind
    what is read.
    """
    if isinstance(call, Pointwise | Addition) and may_overwrite(program, call, buffer):
        behind: bool = output.start <= source.start and output.stop <= source.stop
        return behind
    return not striped and output.start == source.start and may_overwrite(program, call, buffer)


def _meet(left: slice, right: slice) -> bool:
    return bool(left.start < right.stop and right.start < left.stop)
