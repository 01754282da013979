"""Runs a step of a network with variables on the owners of bytes, beside the network itself.

It shares nothing with what made the step and its plan but these: neither how states lie nor when they are set matters
to it, only that every call reads, run after run, what the network says.
"""

import numpy as np

from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.step import Step
from mbx_deploy.network.program import Join, KeepRows, Program, Slice, call_inputs
from mbx_deploy.sim import elements

RUNS = 3
INITIAL = -1000  # owners of initial values: less the value


def check_stateful_step(program: Program, step: Step, memory: MemoryPlan) -> None:
    """Raise AssertionError unless every call of a step reads the bytes that the program gives it, in runs in a row.

    program: of the network, with variables. Each byte that a call computes has an owner of its own, in each run; what
    moves bytes moves their owners.
    """
    arena = np.full(memory.arena_bytes, -1, np.int64)
    for state in step.states:
        start = memory.offsets[state.buffer]
        arena[start : start + state.kept_bytes] = INITIAL - np.tile(state.silence.astype(np.int64), state.kept_rows)
    held = [INITIAL - variable.initial.astype(np.int64).ravel() for variable in program.variables]
    numbers = {call.name: number for number, call in enumerate(program.calls)}
    for run in range(RUNS):
        owners = _run_program(program, held, run)
        held = [owners[variable.assigned] for variable in program.variables]

        def place(buffer: int) -> slice:
            return slice(memory.offsets[buffer], memory.offsets[buffer] + step.program.buffers[buffer].size_bytes)

        arena[place(step.program.input)] = owners[program.input]
        for call in step.program.calls:
            if isinstance(call, KeepRows):
                first, last = memory.offsets[call.input] + call.first, memory.offsets[call.output]
                arena[last : last + call.size] = arena[first : first + call.size].copy()
            else:
                wanted = program.calls[numbers[call.name]]
                for buffer, needed in zip(call_inputs(call), call_inputs(wanted), strict=True):
                    if not np.array_equal(arena[place(buffer)], owners[needed]):
                        raise AssertionError(f"{call.name} reads other bytes than the network, in run {run}")
                arena[place(call.output)] = owners[wanted.output]
        if not np.array_equal(arena[place(step.program.output)], owners[program.output]):
            raise AssertionError(f"the application reads other bytes than the network gives, in run {run}")


def _run_program(program: Program, held: list[np.ndarray], run: int) -> dict[int, np.ndarray]:
    """Return the owners of each buffer's bytes in a run, in the buffer's order. held: of each variable."""
    size = 1 + max(buffer.size_bytes for buffer in program.buffers)
    owners = {variable.read: values for variable, values in zip(program.variables, held, strict=True)}
    for buffer in (program.input, *(call.output for call in program.calls)):
        first = (run * len(program.buffers) + buffer) * size
        owners[buffer] = np.arange(first, first + program.buffers[buffer].size_bytes, dtype=np.int64)
    for call in program.calls:
        source = owners[call.input].reshape(program.buffers[call.input].shape)
        if isinstance(call, Slice):
            owners[call.output] = elements.cut(source, call).ravel()
        elif isinstance(call, Join):
            owners[call.output] = elements.join(source, owners[call.other], call).ravel()
        elif call.keeps_bytes:
            owners[call.output] = owners[call.input]
    return owners
