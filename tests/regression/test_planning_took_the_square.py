"""Planning took four times as long for twice the ops: 8.4 s for 1,000, more than 40 s for 2,000."""

import time

import numpy as np
import pytest

from mbx_deploy.compiler.lower import lower
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.network.program import Program
from mbx_deploy.network.reader import parse_tflite
from tests.made.tflite import Network

CALLS = 2000
MOST_SECONDS = 10.0  # of processor time; 1.2 to 3.5 were measured


def chain() -> Program:
    """Return one RELU behind the other."""
    network = Network()
    x = network.activation((1, 1, 4, 4), 0.1, 0)
    for _ in range(CALLS):
        x = network.clamp(x, "RELU")
    return lower(parse_tflite(network.build(x), "test"))


def convolutions() -> Program:
    """Return convolutions that could all be in cascades."""
    network, weights = Network(), np.ones((4, 1, 1, 4), np.int8)
    x = network.activation((1, 1, 24, 4), 0.1, 0)
    for _ in range(CALLS):
        x = network.conv_2d(x, weights, [0.01], None, 0.1, 0)
    return lower(parse_tflite(network.build(x), "test"))


def fan() -> Program:
    """Return branches that are all alive at once, added up in pairs."""
    network = Network()
    x = network.activation((1, 4, 4, 4), 0.1, 0)
    rows = [network.clamp(x, "RELU") for _ in range(CALLS // 2)]
    while len(rows) > 1:
        rows = [network.add(rows[i], rows[i + 1], 0.1, 0) for i in range(0, len(rows) - 1, 2)] + rows[len(rows) & ~1 :]
    return lower(parse_tflite(network.build(rows[0]), "test"))


@pytest.mark.slow
@pytest.mark.parametrize("make", [chain, convolutions, fan])
def test_two_thousand_calls_are_planned_in_seconds(make: object) -> None:
    assert callable(make)
    begin = time.process_time()
    program = make()
    plan = plan_memory(program, "dsp")
    assert time.process_time() - begin < MOST_SECONDS
    assert len(program.calls) == CALLS - (make is fan) and plan.arena_bytes == plan.lower_bound_bytes
