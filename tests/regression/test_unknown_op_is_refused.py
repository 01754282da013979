"""An op that is not of the closed set was called FULLY_CONNECTED; now everything that asks refuses it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mbx_deploy.compiler.lower import lower
from mbx_deploy.network import ir
from mbx_deploy.network.float_network import FloatNetwork, run_op
from mbx_deploy.network.rules import verify_model

TENSORS = tuple(ir.Tensor(name, (1, 1, 4, 4), "int8", (np.float32(1),), 0) for name in "xy")


@dataclass(frozen=True)
class Strange:
    """An op that nobody knows."""

    input: int = 0
    output: int = 1


def model_of(op: Any) -> ir.Model:
    """Return a network of one op."""
    return ir.Model(TENSORS, (op,), (ir.End(0, "int8", 0),), (ir.End(1, "int8", 1),), None, "")


def test_unknown_op_is_refused() -> None:
    strange: Any = Strange()
    for ask in (
        lambda: ir.op_name(strange),
        lambda: ir.op_inputs(strange),
        lambda: verify_model(model_of(strange)),
        lambda: lower(model_of(strange)),
        lambda: run_op(FloatNetwork(model_of(strange), {}, {}), 0, [np.zeros((1, 1, 4, 4))]),
    ):
        with pytest.raises(AssertionError, match="unreachable"):
            ask()


@pytest.mark.parametrize("name", ["RESHAPE", "SQUEEZE"])
def test_known_op_keeps_its_name(name: str) -> None:
    assert ir.op_name(ir.Reshape(name, 0, 1)) == name
    assert lower(model_of(ir.Reshape(name, 0, 1))).calls[0].name == f"0_{name.lower()}"
