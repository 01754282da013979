"""Networks that keep state: the simulator, the C and TFLite Micro over sequences of runs, on drawn networks."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel, load_model, parse_model
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import TRACE_LAYERS, TRACE_RESULTS, Item, Result
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import InputError
from mbx_deploy.measure.items import SEQUENCE_RUNS, network_items
from mbx_deploy.network.program import Join
from mbx_deploy.sim import stateful
from mbx_deploy.system.tools import compile_program, find_tool
from tests.made.stateful import stateful_network
from tests.made.streaming_tensorflow import streaming_tflite

SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
seeds = st.integers(0, 2**32 - 1)
needs_gcc = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")

# Runs, resets, and runs again, two instances by turns; the second is fed in place.
MAIN = """
#include <stdio.h>
#include <string.h>

#include "kws.h"

static int8_t input[KWS_INPUT_BYTES];
static int8_t output[KWS_OUTPUT_BYTES];

int main(void)
{
    static kws_t first, second;
    if (kws_reset(NULL) != MBX_ERROR_ARGUMENT || kws_reset(&first) != MBX_OK || kws_reset(&second) != MBX_OK) {
        return 1;
    }
    for (int run = 0; fread(input, 1, sizeof input, stdin) == sizeof input; run++) {
        if (run == 5 && kws_reset(&first) != MBX_OK) {
            return 1;
        }
        if (kws_run(&first, input, output) != MBX_OK) {
            return 1;
        }
        fwrite(output, 1, sizeof output, stdout);
        memcpy(kws_input(&second), input, sizeof input);
        if (kws_run(&second, kws_input(&second), output) != MBX_OK) {
            return 1;
        }
        fwrite(output, 1, sizeof output, stdout);
    }
    return 0;
}
"""


def sequences(model: CompiledModel) -> list[Item]:
    """Return what verify runs, some of it."""
    found = [named.item for named in network_items(model, None)]
    assert all(item.values.size == SEQUENCE_RUNS * model.input.size for item in found)
    return [found[0], *found[-3:]]


def same(left: list[list[Result]], right: list[list[Result]]) -> None:
    """Fail where two engines' results differ, in a layer or in the output."""
    for wants, haves in zip(left, right, strict=True):
        for want, have in zip(wants, haves, strict=True):
            for name, values in want.stages.items():
                if name not in have.untold:
                    np.testing.assert_array_equal(values, have.stages[name], name)
            np.testing.assert_array_equal(want.logits, have.logits)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seeds)
def test_the_simulator_is_as_tflite_micro(seed: int) -> None:
    model = stateful_network(seed)
    items = sequences(model)
    same(SimEngine(model).run(items, TRACE_LAYERS), TflmEngine(model).run(items, TRACE_LAYERS))


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("seed", range(4))
def test_the_c_is_as_the_simulator(seed: int) -> None:
    model = stateful_network(seed, 10)
    items = sequences(model)
    expected = SimEngine(model).run([items[0], *items], TRACE_LAYERS)
    same(expected[:1], expected[1:2])  # each sequence is for a network as new
    same(expected, HostEngine(model, flags=SANITIZED).run([items[0], *items], TRACE_LAYERS))


def test_outputs_depend_on_what_was() -> None:
    """The same input again and again gives other outputs: there is a state, and it matters."""
    found = 0
    for seed in range(8):
        model = stateful_network(seed)
        values = np.random.default_rng(seed).integers(-128, 128, model.input.size)
        item = Item(2, np.tile(values, SEQUENCE_RUNS).astype(np.int8))
        (results,) = SimEngine(model).run([item], TRACE_RESULTS)
        found += len({result.logits.tobytes() for result in results}) > 1
    assert found >= 6


@pytest.mark.slow
def test_what_tensorflow_converts() -> None:
    """A streaming network as kws_streaming writes them: two convolutions, each with the rows that it saw before."""
    pytest.importorskip("tensorflow", reason="tensorflow is not installed, whose converter writes the file")
    model = parse_model(streaming_tflite(), "converted", network_only=True)
    assert {variable.name for variable in model.program.variables} == {"wide", "narrow"}
    assert model.network.outputs[0].dtype == "uint8" and not any(isinstance(c, Join) for c in model.c_program.calls)
    items = sequences(model)
    same(SimEngine(model).run(items, TRACE_LAYERS), TflmEngine(model).run(items, TRACE_LAYERS))


@pytest.mark.slow
def test_a_float_one_is_quantized(tmp_path: Path) -> None:
    """Its samples are a sequence: the calibration sees the states that they lead to."""
    pytest.importorskip("tensorflow", reason="tensorflow is not installed, which quantizes")
    (tmp_path / "float.tflite").write_bytes(streaming_tflite(quantized=False))
    with pytest.raises(InputError, match="got float32, need int8") as caught:
        load_model(tmp_path / "float.tflite", network_only=True)
    assert caught.value.hint is not None and "import FILE.tflite --data" in caught.value.hint
    np.save(tmp_path / "samples.npy", np.random.default_rng(5).normal(0, 1, (60, 2, 8)).astype(np.float32))
    arguments = ["import", "float.tflite", "--data", "samples.npy", "-o", "int8.tflite"]
    done = CliRunner().invoke(cli, [str(tmp_path / word) if "." in word else word for word in arguments])
    assert done.exit_code == 0, done.output
    model = load_model(tmp_path / "int8.tflite", network_only=True)
    assert len(model.program.variables) == 2
    items = sequences(model)
    same(SimEngine(model).run(items, TRACE_LAYERS), TflmEngine(model).run(items, TRACE_LAYERS))


@needs_gcc
def test_reset_makes_an_instance_as_new(tmp_path: Path) -> None:
    """By the interface of an application: state goes on from run to run, in each instance its own."""
    model = stateful_network(4)
    files = generate_project(model, find_target("host"))
    kept = {name: text for name, text in files.items() if name.startswith(("src/", "generated/", "include/"))}
    sources = {name: text for name, text in kept.items() if isinstance(text, str) and name.endswith((".c", ".h"))}
    program = compile_program({**sources, "main.c": MAIN}, SANITIZED)
    inputs = np.random.default_rng(9).integers(-128, 128, (9, model.input.size)).astype(np.int8)
    done = subprocess.run([program], input=inputs.tobytes(), capture_output=True, check=True)
    told = np.frombuffer(done.stdout, np.int8).reshape(9, 2, -1)
    state = stateful.initial_state(model.program)
    resumed = stateful.initial_state(model.program)
    for run, values in enumerate(inputs):
        state, output = stateful.run(model.program, state, values)
        np.testing.assert_array_equal(told[run, 1], output)
        if run == 5:
            resumed = stateful.initial_state(model.program)
        resumed, output = stateful.run(model.program, resumed, values)
        np.testing.assert_array_equal(told[run, 0], output)
    assert not np.array_equal(told[5:, 0], told[5:, 1])
