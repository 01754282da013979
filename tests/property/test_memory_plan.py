"""The planner by its property: whatever is alive at once never overlaps; and the checker finds what is planted."""

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mbx_deploy.memory_plan import ALIGNMENT_BYTES, check_plan, live_ranges, plan_memory
from mbx_deploy.program import Addition, Average, Buffer, Call, Program


def program_of(sizes: list[int], reads: list[tuple[int, ...]], output: int) -> Program:
    """Return a program whose call i reads the buffers reads[i] and writes buffer i + 1; buffer 0 is the input."""
    calls: list[Call] = []
    for number, read in enumerate(reads):
        if len(read) == 2:
            ends = (read[0], read[1], number + 1)
            calls.append(Addition(f"{number}_add", *ends, (0, 0, 0), (0, 0, 0), (0, 0, 0), -128, 127))
        else:
            calls.append(Average(f"{number}_mean", read[0], number + 1, 0, 0, 0, 0))
    buffers = tuple(Buffer(f"b{i}", 1, 1, size) for i, size in enumerate(sizes))
    return Program(buffers, tuple(calls), 0, output, 1.0, 0, 1.0, 0)


@st.composite
def programs(draw: st.DrawFn, most_calls: int = 14) -> Program:
    """Draw any graph: long branches, results that nobody reads, an output that is read on, or an input that is not."""
    count = draw(st.integers(1, most_calls))
    sizes = draw(
        st.lists(st.sampled_from((1, 7, 8, 9, 64)) | st.integers(1, 400), min_size=count + 1, max_size=count + 1)
    )
    reads: list[tuple[int, ...]] = []
    for number in range(count):
        recent = st.integers(max(0, number - 2), number) | st.integers(0, number)
        reads.append(draw(st.tuples(recent) | st.tuples(recent, recent)))
    return program_of(sizes, reads, draw(st.just(count) | st.integers(1, count)))


@settings(max_examples=60, deadline=None)
@given(programs())
def test_what_is_alive_at_once_never_overlaps(program: Program) -> None:
    plan = plan_memory(program)
    check_plan(program, plan)
    needed_until = needs(program)
    for a, (first_a, last_a) in enumerate(needed_until):
        start_a, end_a = plan.offsets[a], plan.offsets[a] + program.buffers[a].size_bytes
        assert 0 <= start_a <= end_a <= plan.arena_bytes and start_a % ALIGNMENT_BYTES == 0
        for b, (first_b, last_b) in enumerate(needed_until[:a]):
            if first_a <= last_b and first_b <= last_a:
                start_b, end_b = plan.offsets[b], plan.offsets[b] + program.buffers[b].size_bytes
                assert end_a <= start_b or end_b <= start_a, f"buffers {a} and {b}"
    alive = [
        sum(
            -(-program.buffers[i].size_bytes // 8) * 8
            for i, (first, last) in enumerate(needed_until)
            if first <= t <= last
        )
        for t in range(len(program.calls))
    ]
    assert plan.peak_bytes == max(alive) == alive[plan.peak_call]
    assert plan.peak_bytes <= plan.arena_bytes <= sum(r.size_bytes for r in plan.live_ranges)


def needs(program: Program) -> list[tuple[int, int]]:
    """Return when each buffer is written and last read, worked out from the definition, not by live_ranges()."""
    times = []
    for buffer in range(len(program.buffers)):
        read = [t for t, call in enumerate(program.calls) if buffer in (call.input, getattr(call, "other", call.input))]
        written = buffer - 1
        last = len(program.calls) if buffer == program.output else max([written, *read])
        times.append((written, last))
    return times


@settings(max_examples=40, deadline=None)
@given(programs())
def test_live_ranges(program: Program) -> None:
    ranges = live_ranges(program)
    assert [(live.first, live.last) for live in ranges] == needs(program)
    assert [live.buffer for live in ranges] == list(range(len(program.buffers)))


@settings(max_examples=60, deadline=None)
@given(programs(), st.data())
def test_the_checker_finds_a_planted_overlap(program: Program, data: st.DataObject) -> None:
    plan = plan_memory(program)
    ranges = plan.live_ranges
    both = [(a, b) for a in ranges for b in ranges if a.buffer != b.buffer and a.overlaps(b)]
    assume(both)
    a, b = data.draw(st.sampled_from(both))
    offsets = list(plan.offsets)
    # The first byte of one lies on the last byte of the other, as far as the alignment lets it.
    last = (program.buffers[a.buffer].size_bytes - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    offsets[b.buffer] = offsets[a.buffer] + data.draw(st.sampled_from((0, last)))
    arena = max(plan.arena_bytes, offsets[b.buffer] + b.size_bytes)
    with pytest.raises(AssertionError):
        check_plan(program, dataclasses.replace(plan, offsets=tuple(offsets), arena_bytes=arena))


@settings(max_examples=50, deadline=None)
@given(programs(), st.data())
def test_the_checker_finds_a_buffer_that_leaves_the_arena(program: Program, data: st.DataObject) -> None:
    plan = plan_memory(program)
    moved = data.draw(st.sampled_from(range(len(plan.offsets))))
    for offset in (-8, plan.arena_bytes, plan.arena_bytes - 8 * (program.buffers[moved].size_bytes // 8), 3):
        if 0 <= offset <= plan.arena_bytes - program.buffers[moved].size_bytes and offset % ALIGNMENT_BYTES == 0:
            continue
        offsets = list(plan.offsets)
        offsets[moved] = offset
        with pytest.raises(AssertionError):
            check_plan(program, dataclasses.replace(plan, offsets=tuple(offsets)))


def test_the_plan_is_the_same_every_time() -> None:
    program = program_of([100, 100, 100, 50, 50], [(0,), (1,), (1, 2), (3,)], 4)
    assert plan_memory(program) == plan_memory(program)


def test_a_chain_needs_two_buffers() -> None:
    program = program_of([64] * 6, [(0,), (1,), (2,), (3,), (4,)], 5)
    assert plan_memory(program).arena_bytes == 128
