"""Streams: what a step computes against the window, in the simulator, the C and TFLite Micro, on drawn networks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.compiler.stream_plan import check_stream_plan
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import ITEM_FEATURES, TRACE_LAYERS, Item, Result
from mbx_deploy.engines.sim import SimEngine, rows_windows
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import InputError
from mbx_deploy.network.time_axis import find_time_axis
from mbx_deploy.sim import recognizer as sim
from mbx_deploy.sim import stream
from mbx_deploy.system.tools import find_tool
from tests.made.streaming_networks import draw_stream
from tests.made.tflite import Network, random_weights

seeds = st.integers(0, 2**32 - 1)
KERNEL_SETS = ("portable", "dsp", "thumb", "helium")


def drawn(seed: int) -> CompiledModel:
    """Return a drawn network that streams; one whose sums may overflow is drawn anew."""
    for attempt in range(20):
        found = draw_stream(seed * 20 + attempt)
        try:
            return parse_model(found.data, f"stream {seed}", network_only=True, step_frames=found.step)
        except InputError as error:
            if "overflow" not in error.what and "scales" not in error.what:
                raise
    raise AssertionError(f"no network for seed {seed}")


def rows_of(model: CompiledModel, seed: int) -> np.ndarray:
    """Return rows of the input for more than a window, int8 (rows, values)."""
    assert model.streaming is not None
    time = model.streaming.time
    steps = time.window_frames // time.step_frames + 3
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (steps * time.step_frames, len(model.streaming.silence))).astype(np.int8)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_stream_is_its_window(seed: int) -> None:
    model = drawn(seed)
    assert model.streaming is not None
    time, rows = model.streaming.time, rows_of(model, seed)
    state = stream.silent_state(model.program, time, model.streaming.silence)
    _, outputs = stream.run(model.program, time, state, rows)
    windows = rows_windows(rows, model.streaming)
    assert len(outputs) == len(windows) > time.window_frames // time.step_frames
    for window, output in zip(windows, outputs, strict=True):
        np.testing.assert_array_equal(sim.logits(window, model.program), output)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_stream_goes_on_where_it_was(seed: int) -> None:
    model = drawn(seed)
    assert model.streaming is not None
    time, rows = model.streaming.time, rows_of(model, seed)
    state = stream.silent_state(model.program, time, model.streaming.silence)
    _, whole = stream.run(model.program, time, state, rows)
    cut = len(rows) // 2 // time.step_frames * time.step_frames
    state, first = stream.run(model.program, time, state, rows[:cut])
    _, second = stream.run(model.program, time, state, rows[cut:])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from(KERNEL_SETS))
def test_no_call_touches_a_state_that_is_not_its_own(seed: int, kernel_set: str) -> None:
    """plan_stream() checks its plan; what was moved into another's place is found."""
    model = drawn(seed).for_kernels(kernel_set)
    assert model.step is not None
    plan = model.stream_plan
    check_stream_plan(model.step, plan, ())
    moved = next((s for s in model.step.states if s.kept_bytes and plan.memory.offsets[s.buffer]), None)
    if moved is None:
        return
    offsets = list(plan.memory.offsets)
    offsets[moved.buffer] = 0
    for buffer, view in model.step.views.items():
        if view.state == moved.buffer:
            offsets[buffer] = view.offset

    wrong = dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, offsets=tuple(offsets)))
    with pytest.raises(AssertionError):
        check_stream_plan(model.step, wrong, ())


def same(left: list[Result], right: list[Result]) -> None:
    """Fail where two engines' results differ, in a layer or in the output."""
    assert len(left) == len(right)
    for want, have in zip(left, right, strict=True):
        assert want.stages.keys() == have.stages.keys()
        for name, values in want.stages.items():
            np.testing.assert_array_equal(values, have.stages[name], name)
        np.testing.assert_array_equal(want.logits, have.logits)


@pytest.mark.slow
@pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("seed", range(8))
def test_the_c_and_tflite_micro(seed: int) -> None:
    model = drawn(seed).for_kernels(KERNEL_SETS[seed % 4])
    item = Item(ITEM_FEATURES, rows_of(model, seed).ravel())
    expected = SimEngine(model).run([item, item], TRACE_LAYERS)
    same(expected[0], expected[1])  # a stream begins anew with each item
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    for engine in (HostEngine(model, flags=flags), TflmEngine(model)):
        for want, have in zip(expected, engine.run([item, item], TRACE_LAYERS), strict=True):
            same(want, have)


def line(padding: str = "VALID", pooled: bool = True, stride: int = 1) -> bytes:
    """Return a network of one convolution of 3 rows, with a mean of what it leaves of 12."""
    network = Network()
    x = network.activation((1, 1, 12, 4), 0.5, 0)
    weights = random_weights(np.random.default_rng(1), (4, 1, 3, 4))
    x = network.conv_2d(x, weights, [0.002] * 4, None, 1.0, 0, padding=padding, stride=(1, stride))
    if pooled:
        x = network.mean(x, 1.0, 0)
    else:
        x = network.reshape(x, (1, 40))
    dense = random_weights(np.random.default_rng(2), (3, network.shape(x)[1]))
    return network.build(network.fully_connected(x, dense, [0.02], None, 1.0, 0))


@pytest.mark.parametrize(
    ("data", "step", "words"),
    [
        (line("SAME"), 2, "can't stream .*conv_2d.*pads in time"),
        (line(pooled=False), 2, "can't stream .*(reshape|fully_connected)"),
        (line(), 3, "a step that divides them"),
        (line(stride=2), 5, "a multiple of its stride, 2"),
    ],
)
def test_what_can_not_stream_is_told_with_the_op(data: bytes, step: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_model(data, "x", network_only=True, step_frames=step)


def test_rows_that_a_step_adds_and_keeps() -> None:
    time = find_time_axis(parse_model(line(), "x", network_only=True).program, 5)
    assert (time.window_frames, time.blocks, time.step_frames) == (12, 2, 5)
    assert time.kept[0] == 2 and max(time.kept.values()) == 2
