"""A call that is not of the closed set was compiled to mbx_reshape(), a copy; now everything that asks refuses it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from mbx_deploy.compiler.cascade import Stripe, stripe_view
from mbx_deploy.compiler.kernels.choice import KERNEL_SETS, select_kernel
from mbx_deploy.compiler.proofs import verify_program
from mbx_deploy.network.program import Buffer, Program, Reshape, call_inputs, may_overwrite, multiply_accumulates
from mbx_deploy.sim.recognizer import run_call


@dataclass(frozen=True)
class Strange:
    """A call that nobody knows, with all that known ones have."""

    name: str = "strange"
    input: int = 0
    output: int = 1


def program_of(call: Any) -> Program:
    """Return a program of one call."""
    return Program((Buffer("x", 1, 4, 4), Buffer("y", 1, 4, 4)), (call,), 0, 1, 1.0, 0, 1.0, 0)


ASKED: dict[str, Callable[[Program, Any], object]] = {
    **{f"select_kernel_{name}": partial(select_kernel, kernel_set=name) for name in KERNEL_SETS},
    "call_inputs": lambda p, c: call_inputs(c),
    "may_overwrite": lambda p, c: may_overwrite(p, c, 0),
    "multiply_accumulates": lambda p, c: multiply_accumulates(p),
    "verify_program": lambda p, c: verify_program(p),
    "run_call": lambda p, c: run_call(c, {0: np.zeros((1, 4, 4), np.int8)}, (1, 4, 4)),
}


@pytest.mark.parametrize("asked", ASKED)
def test_unknown_call_is_refused(asked: str) -> None:
    known, strange = Reshape("reshape", 0, 1), Strange()
    ASKED[asked](program_of(known), known)
    with pytest.raises(AssertionError, match="unreachable"):
        ASKED[asked](program_of(strange), strange)


def test_unknown_call_in_stripes_is_refused() -> None:
    strange: Any = Strange()
    with pytest.raises((AssertionError, AttributeError)):
        stripe_view(program_of(strange), Stripe(0, 0, 4, 0, 4, 0, 0, 0))
