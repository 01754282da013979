"""Cascades: every layer has the bytes that it has as a whole, and the checker finds what is planted."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.cascade import Cascade, Shift, Stripe, make_cascade, row_count, stripe_view, stripes_of
from mbx_deploy.compiler.kernels.choice import KERNEL_SETS
from mbx_deploy.compiler.memory_plan import MemoryPlan, plan_cascades, whole_kernels
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.compiler.plan_checker import check_plan
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.network.program import Average, Convolution, Program, multiply_accumulates
from mbx_deploy.sim.recognizer import logits, run_call
from tests.made.c_kernels import run_plan_c
from tests.made.foreign_networks import image_network
from tests.made.random_networks import random_recognizer


@st.composite
def divided_networks(draw: st.DrawFn) -> tuple[Program, tuple[Cascade, ...]]:
    """Draw a network, of lines or of images, and cascades of it, long or short, one behind another."""
    seed = draw(st.integers(0, 400))
    program = image_network(seed).program if draw(st.booleans()) else random_recognizer(seed).program
    stripe = draw(st.sampled_from((4, 8, 12)))
    cascades: list[Cascade] = []
    first = 0
    while first < len(program.calls):
        lasts = [last for last in range(first + 1, len(program.calls)) if make_cascade(program, first, last, stripe)]
        last = draw(st.sampled_from([first, *lasts])) if lasts else first
        cascade = make_cascade(program, first, last, stripe)
        cascades += [cascade] if cascade else []
        first = last + 1
    return program, tuple(cascades)


def layers_of(program: Program, values: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    logits(values, program, lambda name, layer: found.append(layer.ravel()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
@settings(max_examples=25, deadline=None)
@given(divided_networks(), st.integers(0, 2**32 - 1))
def test_every_layer_has_its_bytes(kernel_set: str, drawn: tuple[Program, tuple[Cascade, ...]], seed: int) -> None:
    program, cascades = drawn
    plan = plan_cascades(program, whole_kernels(program, kernel_set), cascades)
    check_plan(program, plan)
    values = np.random.default_rng(seed).integers(-128, 128, program.buffers[program.input].size_bytes).astype(np.int8)
    *seen, output = run_plan_c(program, values, plan)
    for call, want, have in zip(program.calls, layers_of(program, values), seen, strict=True):
        np.testing.assert_array_equal(have, want, call.name)
    np.testing.assert_array_equal(output, layers_of(program, values)[-1])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(divided_networks())
def test_a_call_runs_once_on_each_of_its_positions(drawn: tuple[Program, tuple[Cascade, ...]]) -> None:
    program, cascades = drawn
    for cascade in cascades:
        for number, stripes in stripes_of(cascade).items():
            rows = row_count(program.buffers[program.calls[number].input])
            assert [s.first for s in stripes] == [0, *(s.end for s in stripes[:-1])] and stripes[-1].end == rows
            assert all(s.first % 4 == 0 for s in stripes)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(divided_networks(), st.integers(0, 2**32 - 1))
def test_a_stripe_is_a_call_of_its_own(drawn: tuple[Program, tuple[Cascade, ...]], seed: int) -> None:
    """What a kernel's struct is written from gives, in the simulator, the positions of the whole layer."""
    program, cascades = drawn
    rng = np.random.default_rng(seed)
    buffers = {i: rng.integers(-128, 128, b.shape).astype(np.int8) for i, b in enumerate(program.buffers)}
    for cascade in cascades:
        for stripe in (step for step in cascade.steps if isinstance(step, Stripe)):
            call = program.calls[stripe.call]
            if isinstance(call, Average):
                continue
            shape = program.buffers[call.output].shape
            axis = 1 if shape[0] == 1 else 0
            whole = run_call(call, buffers, shape).reshape(shape)
            view, part = stripe_view(program, stripe)
            own, seen = range(stripe.first, stripe.end), range(stripe.source_first, stripe.source_end)
            cut = {i: values.take([r for r in own if r < values.shape[axis]], axis) for i, values in buffers.items()}
            if isinstance(call, Convolution):
                cut[call.input] = buffers[call.input].take(seen, axis)
            part_shape = view.buffers[call.output].shape
            have = run_call(part, cut, part_shape).reshape(part_shape)
            np.testing.assert_array_equal(have, whole.take(own, axis))


def plan_of(program: Program) -> tuple[MemoryPlan, Cascade]:
    """Return a plan with a cascade that carries positions along and writes over its input."""
    cascade = make_cascade(program, 1, 5, 12)
    assert cascade is not None and cascade.carried
    plan = plan_cascades(program, whole_kernels(program, "dsp"), (cascade,))
    check_plan(program, plan)
    return plan, cascade


def planted_steps(cascade: Cascade) -> Iterator[tuple[str, list[Stripe | Shift]]]:
    steps = [*cascade.steps]
    shift = next(i for i, step in enumerate(steps) if isinstance(step, Shift))
    stripe = next(i for i, step in enumerate(steps) if isinstance(step, Stripe) and step.first > 0)
    yield "a shift left out", steps[:shift] + steps[shift + 1 :]
    moved = steps[shift]
    assert isinstance(moved, Shift)
    yield "a shift of too few", [*steps[:shift], dataclasses.replace(moved, count=1), *steps[shift + 1 :]]
    yield "a stripe left out", steps[:stripe] + steps[stripe + 1 :]
    yield "a stripe twice", [*steps[:stripe], steps[stripe], *steps[stripe:]]
    yield "two stripes exchanged", [*steps[:stripe], *steps[stripe : stripe + 2][::-1], *steps[stripe + 2 :]]
    yield "the last stripe left out", steps[:-1]
    step = steps[stripe]
    assert isinstance(step, Stripe)
    for name in ("input_at", "output_at"):
        off = dataclasses.replace(step, **{name: getattr(step, name) + 1})
        yield f"{name} off by one", [*steps[:stripe], off, *steps[stripe + 1 :]]


def test_the_checker_finds_planted_steps(shipped: CompiledModel) -> None:
    plan, cascade = plan_of(shipped.program)
    for what, steps in planted_steps(cascade):
        planted = dataclasses.replace(plan, cascades=(dataclasses.replace(cascade, steps=tuple(steps)),))
        try:
            check_plan(shipped.program, planted)
        except AssertionError:
            continue
        pytest.fail(what)


def test_the_checker_finds_an_output_too_close_to_what_is_read(shipped: CompiledModel) -> None:
    plan, cascade = plan_of(shipped.program)
    calls = shipped.program.calls
    source, output = calls[cascade.first].input, calls[cascade.last].output
    assert plan.offsets[output] <= plan.offsets[source] < plan.offsets[output] + 64 * 101
    for nearer in (8, 64, 128, 640):
        offsets = [*plan.offsets]
        offsets[output] = plan.offsets[source] + nearer
        planted = dataclasses.replace(plan, offsets=tuple(offsets), arena_bytes=plan.arena_bytes + nearer)
        with pytest.raises(AssertionError):
            check_plan(shipped.program, planted)


def test_working_memory_over_what_is_carried_is_found(shipped: CompiledModel) -> None:
    plan, cascade = plan_of(shipped.program)
    for number in range(cascade.first, cascade.last + 1):
        for buffer in cascade.carried:
            offsets = [*plan.scratch_offsets]
            offsets[number] = plan.offsets[buffer]
            if plan.kernels[number].scratch_bytes:
                with pytest.raises(AssertionError):
                    check_plan(shipped.program, dataclasses.replace(plan, scratch_offsets=tuple(offsets)))


@pytest.mark.slow
@pytest.mark.parametrize("kernel_set", KERNEL_SETS)
def test_the_shipped_model_needs_a_third_less(shipped: CompiledModel, kernel_set: str) -> None:
    plan, whole = (
        plan_memory(shipped.program, kernel_set),
        plan_cascades(shipped.program, whole_kernels(shipped.program, kernel_set)),
    )
    assert plan.cascades and plan.arena_bytes < 0.70 * whole.arena_bytes
    assert plan.arena_bytes == plan.lower_bound_bytes


@pytest.mark.slow
def test_what_saves_nothing_is_not_divided() -> None:
    """A cascade costs flash and time: where the arena's peak is elsewhere there is none."""
    for seed in range(8):
        program = random_recognizer(seed).program
        plan, whole = plan_memory(program), plan_cascades(program, whole_kernels(program, "portable"))
        assert plan.arena_bytes < whole.arena_bytes if plan.cascades else plan.arena_bytes == whole.arena_bytes
        assert multiply_accumulates(program) > 0
