"""The planner by its property: what is needed later is never overwritten; and the checker finds what is planted."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.kernels.choice import KERNEL_SETS
from mbx_deploy.compiler.memory_plan import ALIGNMENT_BYTES, MemoryPlan, live_ranges
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.compiler.plan_checker import check_plan
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.network.program import Addition, Average, Buffer, Call, Pointwise, Program, Requantization

Read = tuple[int, ...] | int


def program_of(sizes: list[int], reads: list[Read], output: int) -> Program:
    """Return a program whose call i reads the buffers reads[i] and writes buffer i + 1; buffer 0 is the input.

    Two buffers are added; of one the mean is taken; a number that is no tuple is the input of a pointwise call.
    """
    calls: list[Call] = []
    for number, read in enumerate(reads):
        if isinstance(read, int):
            channels = sizes[number + 1]
            rows = (np.zeros(channels, np.int64), np.zeros(channels, np.int32), np.full(channels, -1, np.int8))
            weights = np.zeros((channels, sizes[read]), np.int8)
            r = Requantization(*rows, 0, -128, 127)
            calls.append(Pointwise(f"{number}_pointwise", read, number + 1, 2, weights, r))
        elif len(read) == 2:
            ends = (read[0], read[1], number + 1)
            calls.append(Addition(f"{number}_add", *ends, (0, 0, 0), (0, 0, 0), (0, 0, 0), -128, 127))
        else:
            calls.append(Average(f"{number}_mean", read[0], number + 1, 0, 0, 0, 0))
    buffers = tuple(Buffer(f"b{i}", 1, 1, size) for i, size in enumerate(sizes))
    return Program(buffers, tuple(calls), 0, output, 1.0, 0, 1.0, 0)


def reads_of(call: Call) -> set[int]:
    return {call.input, call.other} if isinstance(call, Addition) else {call.input}


def overwritable(program: Program, buffer: int, output: int) -> bool:
    """Whether a buffer is read last by the call that writes output, and the call may write over it."""
    call = program.calls[output - 1]
    dies = needs(program)[buffer][1] == output - 1 and buffer in reads_of(call)
    return dies and isinstance(call, Addition | Pointwise)


def stays_behind(program: Program, offsets: tuple[int, ...], buffer: int, output: int) -> bool:
    """Whether an output may lie over a buffer there: it begins and ends no later."""
    ends = [offsets[i] + program.buffers[i].size_bytes for i in (output, buffer)]
    return overwritable(program, buffer, output) and offsets[output] <= offsets[buffer] and ends[0] <= ends[1]


@st.composite
def programs(draw: st.DrawFn, most_calls: int = 14) -> Program:
    """Draw any graph: long branches, results that nobody reads, an output that is read on, or an input that is not."""
    count = draw(st.integers(1, most_calls))
    sizes = draw(
        st.lists(st.sampled_from((1, 7, 8, 9, 64)) | st.integers(1, 400), min_size=count + 1, max_size=count + 1)
    )
    reads: list[Read] = []
    for number in range(count):
        recent = st.integers(max(0, number - 2), number) | st.integers(0, number)
        read = draw(st.tuples(recent) | st.tuples(recent, recent) | recent)
        if isinstance(read, tuple) and len(read) == 2:  # an addition is of three buffers of one size
            equal = [i for i in range(number + 1) if sizes[i] == sizes[read[0]]]
            read = (read[0], draw(st.sampled_from(equal)))
            sizes[number + 1] = sizes[read[0]]
        reads.append(read)
    return program_of(sizes, reads, draw(st.just(count) | st.integers(1, count)))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(programs(), st.sampled_from(KERNEL_SETS))
def test_what_is_alive_at_once_never_overlaps(program: Program, kernel_set: str) -> None:
    plan = plan_memory(program, kernel_set)
    check_plan(program, plan)
    times = needs(program)
    for a, (first_a, last_a) in enumerate(times):
        start_a, end_a = span(program, plan, a)
        assert 0 <= start_a <= end_a <= plan.arena_bytes and start_a % ALIGNMENT_BYTES == 0
        for b, (first_b, last_b) in enumerate(times[:a]):
            start_b, end_b = span(program, plan, b)
            replaces = stays_behind(program, plan.offsets, b, a)
            if first_a <= last_b and first_b <= last_a and not replaces:
                assert end_a <= start_b or end_b <= start_a, f"buffers {a} and {b}"
    for t, kernel in enumerate(plan.kernels):
        start, end = plan.scratch_offsets[t], plan.scratch_offsets[t] + kernel.scratch_bytes
        assert 0 <= start <= end <= plan.arena_bytes and start % ALIGNMENT_BYTES == 0
        for buffer, (first, last) in enumerate(times):
            low, high = span(program, plan, buffer)
            apart = start == end or end <= low or high <= start
            assert apart or not first <= t <= last, f"scratch {t}, buffer {buffer}"


def span(program: Program, plan: MemoryPlan, buffer: int) -> tuple[int, int]:
    return plan.offsets[buffer], plan.offsets[buffer] + program.buffers[buffer].size_bytes


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@settings(max_examples=80, deadline=None)
@given(programs(), st.sampled_from(KERNEL_SETS))
def test_the_lower_bound(program: Program, kernel_set: str) -> None:
    """What is alive at each call, its working memory with it, less what the output shares with an input."""
    plan = plan_memory(program, kernel_set)
    times, sizes = needs(program), [aligned(buffer.size_bytes) for buffer in program.buffers]
    alive = []
    for t, kernel in enumerate(plan.kernels):
        total = sum(size for size, (first, last) in zip(sizes, times, strict=True) if first <= t <= last)
        shared = [0]
        for b in range(t + 1):
            if overwritable(program, b, t + 1):  # both end at one place, or begin there
                lead = aligned(max(0, program.buffers[t + 1].size_bytes - program.buffers[b].size_bytes))
                shared.append(sizes[b] + sizes[t + 1] - max(sizes[t + 1], lead + sizes[b]))
        alive.append(total + aligned(kernel.scratch_bytes) - max(shared))
    assert plan.lower_bound_bytes == max(alive) == alive[plan.peak_call]
    assert plan.lower_bound_bytes <= plan.arena_bytes
    assert plan.arena_bytes <= sum(sizes) + sum(aligned(kernel.scratch_bytes) for kernel in plan.kernels)


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


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(programs(), st.data())
def test_the_checker_finds_a_planted_overlap(program: Program, data: st.DataObject) -> None:
    plan, times = plan_memory(program), needs(program)
    count = range(len(times))
    meet = [[times[a][0] <= times[b][1] and times[b][0] <= times[a][1] for b in count] for a in count]
    both = [(a, b) for a in count for b in count if a != b and meet[a][b]]
    assume(both)
    a, b = data.draw(st.sampled_from(both))
    # The first byte of one lies on the first or the last byte of the other, as far as the alignment lets it.
    last = (program.buffers[a].size_bytes - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    offsets = list(plan.offsets)
    offsets[b] = offsets[a] + data.draw(st.sampled_from((0, last)))
    assume(not stays_behind(program, tuple(offsets), min(a, b), max(a, b)))
    arena = max(plan.arena_bytes, offsets[b] + aligned(program.buffers[b].size_bytes))
    with pytest.raises(AssertionError):
        check_plan(program, dataclasses.replace(plan, offsets=tuple(offsets), arena_bytes=arena))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(programs(), st.sampled_from(KERNEL_SETS), st.data())
def test_the_checker_finds_working_memory_on_what_is_alive(
    program: Program, kernel_set: str, data: st.DataObject
) -> None:
    plan, times = plan_memory(program, kernel_set), needs(program)
    pairs = [
        (t, buffer)
        for t, kernel in enumerate(plan.kernels)
        for buffer, (first, last) in enumerate(times)
        if kernel.scratch_bytes and first <= t <= last
    ]
    assume(pairs)
    t, buffer = data.draw(st.sampled_from(pairs))
    last_word = (program.buffers[buffer].size_bytes - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    offsets = list(plan.scratch_offsets)
    offsets[t] = plan.offsets[buffer] + data.draw(st.sampled_from((0, last_word)))
    arena = max(plan.arena_bytes, offsets[t] + plan.kernels[t].scratch_bytes)
    with pytest.raises(AssertionError):
        check_plan(program, dataclasses.replace(plan, scratch_offsets=tuple(offsets), arena_bytes=arena))


@pytest.mark.parametrize("offset", [-8, 3, 1 << 20])
def test_the_checker_finds_working_memory_outside_the_arena(offset: int) -> None:
    program = program_of([64, 64], [0], 1)
    plan = plan_memory(program)
    assert plan.kernels[0].scratch_bytes == 64
    with pytest.raises(AssertionError):
        check_plan(program, dataclasses.replace(plan, scratch_offsets=(offset,)))


@pytest.mark.parametrize(
    ("sizes", "read", "start", "allowed"),
    [
        ([64, 64], (0,), 0, False),  # a mean reads all before it is done
        ([64, 64], 0, 0, True),
        ([64, 40], 0, 0, True),
        ([64, 40], 0, 8, False),  # behind the input's start it runs ahead of what is read
        ([64, 72], 0, 0, False),
        ([64, 72], 0, -8, True),
        ([64, 80], 0, -8, False),  # its last bytes lie behind what is read last
        ([64, 64], (0, 0), 0, True),
        ([64, 64], (0, 0), 8, False),
    ],
)
def test_outputs_over_inputs(sizes: list[int], read: Read, start: int, allowed: bool) -> None:
    program = program_of(sizes, [read], 1)
    plan = dataclasses.replace(plan_memory(program), offsets=(16, 16 + start), scratch_offsets=(200,), arena_bytes=400)
    if allowed:
        check_plan(program, plan)
        return
    with pytest.raises(AssertionError, match="meets its input"):
        check_plan(program, plan)


def test_an_input_that_is_read_again_is_not_overwritten() -> None:
    program = program_of([64, 64, 64], [0, (0, 1)], 2)
    plan = plan_memory(program)
    assert plan.offsets[0] != plan.offsets[1]
    planted = dataclasses.replace(plan, offsets=(0, 0, 64), scratch_offsets=(200, 200), arena_bytes=400)
    with pytest.raises(AssertionError, match="after it was overwritten"):
        check_plan(program, planted)


@pytest.mark.slow
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
    program = program_of([100, 100, 100, 100, 50], [(0,), 1, (1, 2), (3,)], 4)
    assert plan_memory(program) == plan_memory(program)


def test_a_chain_needs_two_buffers() -> None:
    program = program_of([64] * 6, [(0,), (1,), (2,), (3,), (4,)], 5)
    assert plan_memory(program).arena_bytes == 128


def test_a_chain_in_place_needs_one_buffer_and_a_row() -> None:
    program = program_of([64, 64, 40, 40], [0, 1, (2, 2)], 3)
    plan = plan_memory(program)
    assert len(set(plan.offsets)) == 1
    assert plan.arena_bytes == plan.lower_bound_bytes == 128


@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
def test_the_shipped_model_is_planned_without_a_gap(shipped: CompiledModel, kernel_set: str) -> None:
    plan = plan_memory(shipped.program, kernel_set)
    assert plan.arena_bytes == plan.lower_bound_bytes
