"""What is chosen: the nearest to float unless it changes labels; a tuned network only if it is right more often."""

import dataclasses

import numpy as np
import pytest

from mbx_deploy.compiler.lower import lower
from mbx_deploy.data.dataset import Split
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.float_network import dequantize_network, float_logits
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization.range_choice import (
    Candidate,
    Choice,
    Validation,
    add_candidate,
    best_candidate,
    choose_ranges,
    render,
)
from mbx_deploy.quantization.ranges import RULES, observe
from mbx_deploy.quantization.requantize import set_ranges
from mbx_deploy.sim import recognizer as sim_model
from tests.made.tflite import small_artifact

pytest.importorskip("torch")

CONFIG = FrontendConfig(clip_samples=4000)
FILE = small_artifact(CONFIG)
NETWORK = dequantize_network(parse_tflite(FILE, "small"))


def candidate(rule: str, changed: int, rms: float, clips: int = 1000) -> Candidate:
    return Candidate(rule, 1.0 - changed / clips, rms, 0.9, 0.9)


def simulated(data: bytes, features: np.ndarray) -> np.ndarray:
    program = lower(parse_tflite(data, "x"))
    return np.stack([sim_model.logits(clip, program) for clip in features])


@pytest.fixture(scope="module")
def validation() -> Validation:
    """Clips of a constant row each, so that the mean over time does not make them alike."""
    rng = np.random.default_rng(1)
    rows = rng.normal(0.0, 20.0, (60, 1, CONFIG.num_coefficients))
    features = rows + rng.normal(0.0, 3.0, (60, CONFIG.num_frames, CONFIG.num_coefficients))
    logits = float_logits(NETWORK, features).astype(np.float32)
    names = tuple(f"{number}" for number in range(60))
    split = Split(("no", "yes", "silence"), np.zeros((60, 1), np.int16), logits.argmax(axis=1), names, ())
    return Validation(split, np.rint(features * 65536).astype(np.int32), logits, simulated)


def choice_of(validation: Validation, rules: str) -> Choice:
    histograms = observe(NETWORK, validation.coefficients_q16 / 65536.0)
    return choose_ranges(FILE, NETWORK, histograms, rules, validation)


def test_the_smallest_rms_is_chosen_among_those_that_keep_the_labels() -> None:
    found = [candidate("a", 4, 0.03), candidate("b", 6, 0.02), candidate("c", 8, 0.01)]
    assert best_candidate(found, 1000).rule == "b"
    assert best_candidate([candidate("a", 0, 0.03), candidate("b", 2, 0.01)], 1000).rule == "a"
    assert best_candidate([candidate("a", 0, 0.03), candidate("b", 1, 0.01)], 1000).rule == "b"


def test_all_rules_are_measured_and_the_chosen_ones_are_written(validation: Validation) -> None:
    choice = choice_of(validation, "auto")
    assert [each.rule for each in choice.candidates] == list(RULES)
    assert choice.chosen in choice.candidates
    assert choice.data == set_ranges(FILE, NETWORK, choice.ranges)
    assert choice.commands_float == 1.0
    assert choice.loss_points == pytest.approx(100 * (1.0 - choice.chosen.score))
    assert f"{choice.chosen.rule:<18}" in next(line for line in render(choice).splitlines() if line.endswith(" <-"))
    assert choice.to_dict()["chosen"] == choice.chosen.rule
    assert choice.to_dict()["clips"] == 60


def test_a_forced_rule_is_the_only_candidate(validation: Validation) -> None:
    assert [each.rule for each in choice_of(validation, "mse").candidates] == ["mse"]
    assert {each.rule.split("-")[0] for each in choice_of(validation, "percentile").candidates} == {"percentile"}


def test_a_tuned_network_is_taken_only_where_it_is_right_more_often(validation: Validation) -> None:
    choice = choice_of(validation, "minmax")
    same, taken = add_candidate(choice, "qat", choice.data, choice.ranges, validation)
    assert not taken
    assert same.chosen == choice.chosen
    assert [each.rule for each in same.candidates] == ["minmax", "qat"]
    worse = dataclasses.replace(choice, chosen=dataclasses.replace(choice.chosen, commands=0.0))
    better, taken = add_candidate(worse, "qat", choice.data, choice.ranges, validation)
    assert taken
    assert better.chosen.rule == "qat"
