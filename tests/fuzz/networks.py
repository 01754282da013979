"""Random networks, and files nearly of one, on several engines: the same bytes from all, or a refusal in one line."""

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import ITEM_FEATURES, TRACE_LAYERS, TRACE_RESULTS, Item, Result
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import MbxError, ToolMissing
from tests.fuzz.campaign import MOST_FINDINGS, Finding, Outcome, kept_finding
from tests.fuzz.mutation import mutate
from tests.fuzz.readers import FRONTEND
from tests.made.foreign_networks import foreign_network, image_network
from tests.made.random_networks import random_recognizer
from tests.made.stateful import stateful_network
from tests.made.tflite import small_artifact

NAMES = ("networks", "mutants")
C_EVERY = 25  # of the mutants that are taken, how often the C is compiled and compared, too
RUNS = 6  # of a network that keeps state
SMALL = 1 << 22  # multiply-accumulates: the simulator is a definition, not a fast one


@dataclass(frozen=True)
class Case:
    """data: the .tflite. model: None where it is refused. item: the input of the network."""

    data: bytes
    model: CompiledModel | None
    item: Item | None


def _item(model: CompiledModel, seed: int) -> Item:
    runs = RUNS if model.keeps_state else 1
    values = np.random.default_rng(seed).integers(-128, 128, runs * model.input.size)
    return Item(ITEM_FEATURES, values.astype(np.int8))


def network(seed: int, number: int) -> Case:
    """Return a drawn network of a case: of our layers, of foreign ones, on images, or one that keeps state."""
    draws: tuple[Callable[[int], CompiledModel], ...]
    draws = (random_recognizer, foreign_network, image_network, stateful_network)
    draw = draws[number % len(draws)]
    model = draw(1_000_003 * seed + number)
    return Case(model.data, model, _item(model, number))


def mutant(seed: int, number: int) -> Case:
    """Return a changed artifact of a case."""
    rng = random.Random(f"mutants {seed} {number}")
    seeds = [small_artifact(FRONTEND), small_artifact(FRONTEND, seed=1, channels=3), stateful_network(1, 3).data]
    return read(mutate(rng, seeds), number)


def read(data: bytes, number: int) -> Case:
    """Return the case of a file."""
    for alone in (False, True):
        try:
            model = parse_model(data, "model.tflite", alone)
        except MbxError:
            continue
        if sum(buffer.size_bytes for buffer in model.program.buffers) < SMALL:
            return Case(data, model, _item(model, number))
    return Case(data, None, None)


def difference(case: Case, with_c: bool) -> str | None:
    """Return which layer differs between engines; None where none does. Raises MbxError where TFLite Micro refuses."""
    model, item = case.model, case.item
    assert model is not None and item is not None
    told = SimEngine(model, 3).run([item], TRACE_LAYERS)[0]
    others: dict[str, Callable[[], list[list[Result]]]] = {
        "tflm": lambda: TflmEngine(model, 3).run([item], TRACE_LAYERS)
    }
    if with_c:
        others["c"] = lambda: HostEngine(model, flags=("-O1",)).run([item], TRACE_RESULTS)
    for name, run_engine in others.items():
        others_told = run_engine()[0]
        if len(told) != len(others_told):
            return f"{name} gives {len(others_told)} results, the simulator {len(told)}"
        for run, (want, have) in enumerate(zip(told, others_told, strict=True)):
            place = _differs(want, have)
            if place is not None:
                return f"{name} differs from the simulator in run {run} at {place}"
    return None


def _differs(told: Result, other: Result) -> str | None:
    for stage, values in other.stages.items():
        if stage in told.stages and not np.array_equal(values, told.stages[stage]):
            return stage
    return None if np.array_equal(told.logits, other.logits) else "the logits"


def run(name: str, seed: int, first: int, runs: int | None, seconds: float | None) -> Outcome:
    """Return the outcome of a harness."""
    outcome = Outcome(name)
    end = time.monotonic() + seconds if seconds is not None else None
    number = first
    while (runs is None or number < first + runs) and (end is None or time.monotonic() < end):
        if len(outcome.findings) >= MOST_FINDINGS:
            break
        begin = time.process_time()
        case = network(seed, number) if name == "networks" else mutant(seed, number)
        outcome.cases += 1
        if case.model is not None:
            outcome.taken += 1
            found = _finding(name, case, name == "networks" or outcome.taken % C_EVERY == 0)
            outcome.findings += [found] if found else []
        outcome.slowest_s = max(outcome.slowest_s, time.process_time() - begin)
        number += 1
    return outcome


def _finding(name: str, case: Case, with_c: bool) -> Finding | None:
    try:
        what, detail = difference(case, with_c), ""
    except ToolMissing:  # TFLite Micro refuses some that the compiler takes: a window larger than its input
        return None
    except Exception as error:
        what, detail = f"{type(error).__name__}: {error}", traceback.format_exc()
    return None if what is None else kept_finding(name, "model.tflite", case.data, what, detail)


def again(name: str, path: Path) -> int:
    """Compare the engines on one file, and print what is found."""
    case = read(path.read_bytes(), 0)
    if case.model is None:
        print("refused")
        return 0
    found = difference(case, True)
    print(found or "the same bytes")
    return int(found is not None)
