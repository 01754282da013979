"""A network that keeps state in variables of its own: state in, state out. The definition of what the C does."""

import numpy as np

from mbx_deploy.network.program import Program
from mbx_deploy.sim.frontend import Observer
from mbx_deploy.sim.recognizer import run_calls

State = tuple[np.ndarray, ...]  # what each of the program's variables holds, int8 (height, width, channels)


def initial_state(program: Program) -> State:
    """Return the state before the first run. Twin: mbx_reset_states()."""
    return tuple(variable.initial.reshape(program.buffers[variable.read].shape) for variable in program.variables)


def run(
    program: Program, state: State, values: np.ndarray, observe: Observer | None = None
) -> tuple[State, np.ndarray]:
    """Return (the state behind a run, the network's output, int8 (values,)).

    values: int8, as many as the input has. observe(call's name, values) sees the output of every call. Every variable
    is read as the run before left it. Twin: the generated call list, whose mbx_keep_rows() sets the states.
    """
    held = {variable.read: value for variable, value in zip(program.variables, state, strict=True)}
    buffers = run_calls({program.input: values, **held}, program, observe)
    return tuple(buffers[variable.assigned] for variable in program.variables), buffers[program.output].ravel()
