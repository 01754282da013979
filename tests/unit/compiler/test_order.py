"""The order of calls: the best that there is on small graphs, the file's own where nothing is gained."""

import itertools

import numpy as np
from hypothesis import given, settings

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.compiler.order import order_calls
from mbx_deploy.network.program import Call, Program, call_inputs, may_overwrite
from mbx_deploy.sim.recognizer import logits
from tests.made.random_networks import random_recognizer
from tests.unit.compiler.test_memory_plan import program_of, programs


def peak_bytes(program: Program, order: tuple[Call, ...]) -> int | None:
    """Return the bytes alive at the worst call, by the definition; None for an order that reads what is not written."""
    peaks, written = [], {program.input}
    for t, call in enumerate(order):
        if not written >= set(call_inputs(call)):
            return None
        later = {buffer for other in order[t + 1 :] for buffer in call_inputs(other)} | {program.output}
        alive = {buffer for buffer in written if buffer in later or buffer in call_inputs(call)}
        dying = [b for b in call_inputs(call) if b not in later and may_overwrite(program, call, b)]
        written.add(call.output)
        output = program.buffers[call.output].size_bytes
        shared = max((min(output, program.buffers[b].size_bytes) for b in dying), default=0)
        peaks.append(sum(program.buffers[b].size_bytes for b in alive) + output - shared)
    return max(peaks)


@settings(max_examples=60, deadline=None)
@given(programs(most_calls=5))
def test_no_order_needs_less(program: Program) -> None:
    ordered = order_calls(program).calls
    assert sorted(call.name for call in ordered) == sorted(call.name for call in program.calls)
    needs = [peak_bytes(program, order) for order in itertools.permutations(program.calls)]
    best = min(need for need in needs if need is not None)
    assert peak_bytes(program, ordered) == best
    if peak_bytes(program, program.calls) == best:
        assert [call.name for call in ordered] == [call.name for call in program.calls]


def test_the_branch_runs_before_what_may_overwrite_their_input() -> None:
    """In the file's order the input has to outlive a call that could have worked in its place."""
    program = program_of([64, 64, 200, 40, 40, 40], [0, (1,), 2, 1, (3, 4)], 5)
    names = [call.name for call in order_calls(program).calls]
    assert names == ["0_pointwise", "1_mean", "2_pointwise", "3_pointwise", "4_add"]
    program = program_of([64, 40, 64, 40, 40], [(0,), 0, 2, (1, 3)], 4)
    assert peak_bytes(program, order_calls(program).calls) == 64 + 40


def test_a_graph_with_too_many_orders_keeps_its_own() -> None:
    branches = 20
    adds = [(1, 2), *((branches + i, i + 2) for i in range(1, branches - 1))]
    program = program_of([64] * (2 * branches), [*[0] * branches, *adds], 2 * branches - 1)
    assert order_calls(program) is program


def test_the_order_changes_no_byte(shipped: CompiledModel) -> None:
    """Run in the order of the file's ops, the simulator gives what it gives in the chosen one."""
    for recognizer in (shipped, *map(random_recognizer, (3, 5))):
        program = recognizer.program
        calls = tuple(sorted(program.calls, key=lambda call: int(call.name.split("_")[0])))
        count = program.buffers[program.input].size_bytes
        values = np.random.default_rng(0).integers(-128, 128, count, dtype=np.int8)
        values = values.reshape(program.buffers[program.input].shape)
        expected = logits(values, Program(**{**vars(program), "calls": calls}))
        np.testing.assert_array_equal(logits(values, program), expected)
