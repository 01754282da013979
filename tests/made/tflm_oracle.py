"""A network in TFLite Micro, which others wrote, in the simulator and in C: byte for byte."""

from typing import Any

import numpy as np
from hypothesis import assume

from mbx_deploy.compiler.kernels.choice import KERNEL_SETS
from mbx_deploy.compiler.lower import lower
from mbx_deploy.engines.tflm import get_outputs, set_inputs
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import Program
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.sim import recognizer as sim_model
from tests.made.c_kernels import run_program_c


def compare_with_tflm(tflm: Any, data: bytes, seed: int, rounds: int = 3) -> Program:
    """Run a file in TFLite Micro, in the simulator and in C, on random inputs and on constant ones: the same bytes."""
    model = parse_tflite(data, "test")
    try:
        program = lower(model)
    except InputError as error:
        assume("overflow" not in error.what)
        raise
    interpreter = tflm.Interpreter.from_bytes(data, arena_size=1 << 20)
    shape = program.buffers[program.input].shape
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(rounds)]
    inputs += [np.full(shape, value, np.int8) for value in (-128, 127)]
    for values in inputs:
        set_inputs(interpreter, model, values)
        interpreter.invoke()
        oracle = get_outputs(interpreter, model)
        np.testing.assert_array_equal(sim_model.logits(values, program), oracle, "simulator against TFLite Micro")
        for kernel_set in KERNEL_SETS if values is inputs[0] else KERNEL_SETS[:2]:
            got = run_program_c(program, values, kernel_set)
            np.testing.assert_array_equal(got, oracle, f"C, {kernel_set}, against TFLite Micro")
    return program
