"""Picks the rule for the activations' ranges by what each does to the validation clips."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbx_deploy.data.dataset import Split
from mbx_deploy.network.float_network import FloatNetwork
from mbx_deploy.quantization.convert import Int8Logits, real_logits
from mbx_deploy.quantization.ranges import RULES, Histogram, Range, rules_of
from mbx_deploy.quantization.requantize import set_ranges


@dataclass(frozen=True)
class Validation:
    """The clips on which choices are made, and what the float network says of them.

    coefficients_q16: int32 (N, num_frames, num_coefficients). logits: float32 (N, classes), of the trained network.
    """

    split: Split
    coefficients_q16: np.ndarray
    logits: np.ndarray
    int8_logits: Int8Logits


@dataclass(frozen=True)
class Candidate:
    """An int8 network on the validation clips.

    rule: of its ranges, or "qat". same_label: share of clips with the float network's label. int8_rms: of the logits'
    error, as a share of the float logits' standard deviation. commands, balanced: accuracies as in export.Accuracy.
    """

    rule: str
    same_label: float
    int8_rms: float
    commands: float
    balanced: float

    @property
    def score(self) -> float:
        """What networks that differ in their weights are compared by, as epochs are in training."""
        return (self.commands + self.balanced) / 2.0


@dataclass(frozen=True)
class Choice:
    """What was chosen, among what, on how many clips of the validation split.

    data: the chosen network's .tflite. ranges: its activations', in the order of float_network.activation_tensors().
    commands_float, balanced_float: the trained network's accuracies on the same clips.
    """

    data: bytes
    ranges: tuple[Range, ...]
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    clips: int
    commands_float: float
    balanced_float: float

    @property
    def loss_points(self) -> float:
        """Percentage points of the score that int8 lost against float."""
        return 100.0 * ((self.commands_float + self.balanced_float) / 2.0 - self.chosen.score)

    def to_dict(self) -> dict[str, Any]:
        """Return the choice without the network, as plain JSON values."""
        return {
            "split": "validation",
            "clips": self.clips,
            "chosen": self.chosen.rule,
            "float": {"commands": round(self.commands_float, 6), "balanced": round(self.balanced_float, 6)},
            "candidates": [
                {key: round(value, 6) if isinstance(value, float) else value for key, value in entry.items()}
                for entry in map(dataclasses.asdict, self.candidates)
            ],
        }


def choose_ranges(
    int8_tflite: bytes,
    network: FloatNetwork,
    histograms: Sequence[Histogram],
    rules: str,
    validation: Validation,
) -> Choice:
    """Return the best of the rules that the choice `rules` names (calibration.rules_of()).

    network: of int8_tflite, with the float weights. histograms: of its activations, in their order.
    """
    files: dict[str, bytes] = {}
    ranges: dict[str, tuple[Range, ...]] = {}
    for rule in rules_of(rules):
        ranges[rule] = tuple(RULES[rule](histogram) for histogram in histograms)
        files[rule] = set_ranges(int8_tflite, network, ranges[rule])
    candidates = tuple(measure_candidate(rule, data, validation) for rule, data in files.items())
    best = best_candidate(candidates, len(validation.split))
    in_float = _accuracies(validation.logits, validation.split)
    return Choice(files[best.rule], ranges[best.rule], best, candidates, len(validation.split), *in_float)


def add_candidate(
    choice: Choice, rule: str, data: bytes, ranges: tuple[Range, ...], validation: Validation
) -> tuple[Choice, bool]:
    """Return the choice with one more candidate, and whether that is chosen: where its score is higher."""
    candidate = measure_candidate(rule, data, validation)
    candidates = (*choice.candidates, candidate)
    if candidate.score <= choice.chosen.score:
        return dataclasses.replace(choice, candidates=candidates), False
    return dataclasses.replace(choice, data=data, ranges=ranges, chosen=candidate, candidates=candidates), True


def best_candidate(candidates: Sequence[Candidate], clips: int) -> Candidate:
    """Return the candidate of the smallest rms error among those that keep the float network's labels best.

    How many labels of some hundred clips change is a small number, and chance for the most part: within one more
    than its standard error, the square root of the least, it does not decide.
    """
    changed = [round((1.0 - candidate.same_label) * clips) for candidate in candidates]
    bound = min(changed) + 1 + min(changed) ** 0.5
    kept = [each for each, count in zip(candidates, changed, strict=True) if count <= bound]
    return min(kept, key=lambda candidate: candidate.int8_rms)


def measure_candidate(rule: str, data: bytes, validation: Validation) -> Candidate:
    """Return what an int8 .tflite does to the validation clips."""
    logits = real_logits(data, validation.coefficients_q16, validation.int8_logits)
    expected = validation.logits
    return Candidate(
        rule,
        float(np.mean(logits.argmax(axis=1) == expected.argmax(axis=1))),
        float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std()),
        *_accuracies(logits, validation.split),
    )


def _accuracies(logits: np.ndarray, split: Split) -> tuple[float, float]:
    from mbx_deploy.data.accuracy import measure

    found = measure(logits, split)
    return found.command_accuracy, found.balanced_accuracy


def render(choice: Choice) -> str:
    """Return the candidates as a table."""
    lines = [f"{'ranges':<18} {'same label':>10} {'rms':>7} {'commands':>9} {'balanced':>9}"]
    lines.append(f"{'(float)':<18} {'':>10} {'':>7} {choice.commands_float:>9.2%} {choice.balanced_float:>9.2%}")
    for each in choice.candidates:
        mark = " <-" if each == choice.chosen else ""
        lines.append(
            f"{each.rule:<18} {each.same_label:>10.2%} {each.int8_rms:>7.4f} {each.commands:>9.2%} "
            f"{each.balanced:>9.2%}{mark}"
        )
    return "\n".join(lines)
