"""A run of a network that remembers, as a program: with states that live from run to run in the arena.

A step is an ordinary program of whole calls, so kernels, their structs and their constants are chosen and written as
for any other. What is new are states. Calls read and write parts of a state (views). Behind the last call that uses a
state, what the next step is to find moves to its start.
"""

from dataclasses import dataclass

import numpy as np

from mbx_deploy.network.program import Program


@dataclass(frozen=True)
class View:
    """Where a buffer lies that is part of a state: so many bytes from the state's start."""

    state: int
    offset: int


@dataclass(frozen=True)
class State:
    """What is remembered in one piece of memory.

    buffer: of the step's program. kept_bytes: from its start, what lives from step to step; behind it lies what a step
    adds. silence: one row of it before the first step, int8 or int16, kept_rows times.
    """

    buffer: int
    name: str
    kept_bytes: int
    kept_rows: int
    silence: np.ndarray


@dataclass(frozen=True)
class Step:
    """One step: its program, and what of its buffers lives longer or lies in another."""

    program: Program
    views: dict[int, View]
    states: tuple[State, ...]
