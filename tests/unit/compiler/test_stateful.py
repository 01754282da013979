"""Networks with variables as steps: where states lie, what is left out, and that a wrong step or plan is found."""

from dataclasses import replace

import numpy as np
import pytest

from mbx_deploy.compiler.kernels.choice import KERNEL_SETS
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.compiler.stateful import make_stateful_step
from mbx_deploy.compiler.stateful_checker import check_stateful_step
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import KeepRows, Reshape
from tests.made.stateful import Drawing, StatefulNetwork, stateful_network

RING, SHIFTED, NEWEST_FIRST, FEEDBACK, EXCHANGE, BESIDE, READ_AGAIN = range(7)


def chain(*kinds: int, seed: int = 3) -> CompiledModel:
    """Return a network of layers of some kinds."""
    return parse_model(Drawing(np.random.default_rng(seed)).file(len(kinds), kinds), "chain", network_only=True)


def names(model: CompiledModel) -> str:
    """Return what the C runs, without numbers."""
    return " ".join(call.name.split("_", 1)[-1] for call in model.c_program.calls)


@pytest.mark.parametrize("kind", [RING, SHIFTED])
def test_new_rows_are_written_behind_the_old_ones(kind: int) -> None:
    """Neither CONCATENATION nor STRIDED_SLICE is left: the convolution reads the state itself."""
    model = chain(kind)
    assert model.step is not None
    assert "concatenation" not in names(model) and "strided_slice" not in names(model)
    (state,) = model.step.states
    convolution = model.c_program.calls[-3]
    assert convolution.input == state.buffer
    move = next(call for call in model.c_program.calls if isinstance(call, KeepRows))
    assert move.input == move.output == state.buffer and move.size == state.kept_bytes
    assert model.c_program.buffers[state.buffer].size_bytes > state.kept_bytes
    (variable,) = model.program.variables
    kept = variable.initial.ravel()[-state.kept_bytes :]
    np.testing.assert_array_equal(np.tile(state.silence, state.kept_rows), kept)


def test_what_is_assigned_from_a_state_is_copied_first() -> None:
    """One variable takes what another held: both are set behind both reads."""
    model = chain(EXCHANGE)
    moves = [call.name.split()[0] for call in model.c_program.calls if isinstance(call, KeepRows)]
    assert moves.count("copy") == 1 and moves.count("keep") == 2


def test_a_state_under_another_shape_is_read_where_it_lies() -> None:
    network = StatefulNetwork()
    x = network.activation((1, 1, 1, 4), 0.1, 0)
    read = network.read("rows", np.zeros((1, 5, 1, 4), np.int8), 0.1, 0)
    every = slice(None)
    kept = network.strided_slice(read, [every, slice(1, None), every, every])
    joined = network.concatenation([kept, network.clamp(x, "RELU")], 1)
    network.assign("rows", joined)
    flat = network.reshape(joined, (1, 20))
    network.fully_connected(flat, np.ones((2, 20), np.int8), [0.01], None, 0.1, 0)
    model = parse_model(network.build(network.operators[-1].outputs[0]), "m", network_only=True)
    assert not any(isinstance(call, Reshape) for call in model.c_program.calls)
    assert names(model) == "relu fully_connected keep rows" and model.plan.arena_bytes <= 32


@pytest.mark.parametrize("kernels", KERNEL_SETS)
@pytest.mark.parametrize("seed", range(200, 206))
def test_a_state_that_lies_elsewhere_is_found(seed: int, kernels: str) -> None:
    """check_stateful_step() runs with every plan; a plan with a state moved onto another is no plan."""
    model = stateful_network(seed).for_kernels(kernels)
    step, plan = model.step, model.plan
    assert step is not None and len(step.states) > 1
    first, second = step.states[:2]
    offsets = list(plan.offsets)
    offsets[second.buffer] = offsets[first.buffer]
    for buffer, view in step.views.items():
        if view.state == second.buffer:
            offsets[buffer] = offsets[second.buffer] + view.offset
    with pytest.raises(AssertionError):
        check_stateful_step(model.program, step, replace(plan, offsets=tuple(offsets)))


@pytest.mark.parametrize("kind", [RING, SHIFTED, NEWEST_FIRST, EXCHANGE, BESIDE, READ_AGAIN])
def test_a_state_that_is_set_too_early_is_found(kind: int) -> None:
    """Each move of a step, before the call that it stands behind."""
    model = chain(kind)
    step = make_stateful_step(model.program)
    calls = list(step.program.calls)
    numbers = [number for number, call in enumerate(calls) if call.name.startswith("keep")]
    assert numbers
    found = 0
    for number in numbers:
        place = next((i for i in range(number) if not isinstance(calls[i], KeepRows)), number)
        changed = [*calls[:place], calls[number], *calls[place:number], *calls[number + 1 :]]
        wrong = replace(step, program=replace(step.program, calls=tuple(changed)))
        if place < number:
            with pytest.raises(AssertionError):
                check_stateful_step(model.program, wrong, model.plan)
            found += 1
    assert found


def test_another_beginning_is_found() -> None:
    model = chain(RING)
    assert model.step is not None
    state = model.step.states[0]
    other = replace(state, silence=state.silence ^ np.int8(1))
    with pytest.raises(AssertionError, match="in run 0"):
        check_stateful_step(model.program, replace(model.step, states=(other,)), model.plan)


@pytest.mark.parametrize(
    ("values", "row"),
    [
        (np.full((1, 6, 1, 5), 7), 2),  # a divisor of 30 of at most 16 bytes that 16 has, too
        (np.full((1, 8, 1, 4), -128), 16),
        (np.tile(np.arange(5), 6).reshape(1, 6, 1, 5), 5),
        (np.arange(30).reshape(1, 6, 1, 5), 30),
    ],
)
def test_the_row_of_a_beginning(values: np.ndarray, row: int) -> None:
    """What repeats is in flash once."""
    network = StatefulNetwork()
    network.activation(values.shape, 0.1, 0)
    read = network.read("x", values.astype(np.int8), 0.1, 0)
    total = network.add(read, 0, 0.2, 0)
    network.assign("x", network.brought(total, "INT8", 0.1, 0))
    step = parse_model(network.build(total), "m", network_only=True).step
    assert step is not None
    assert len(step.states[0].silence) == row and step.states[0].kept_rows == values.size // row


def test_a_beginning_that_is_too_large() -> None:
    values = np.random.default_rng(1).integers(-128, 128, (1, 300, 1, 256)).astype(np.int8)
    network = StatefulNetwork()
    network.activation(values.shape, 0.1, 0)
    read = network.read("x", values, 0.1, 0)
    network.assign("x", 0)
    model = parse_model(network.build(network.clamp(read, "RELU")), "m", network_only=True)
    with pytest.raises(InputError, match=r"a state is too large \(variable 'x'\): got 76,800 bytes"):
        _ = model.plan
