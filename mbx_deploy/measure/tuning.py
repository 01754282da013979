"""The rule of decision that misses least at a rate of false accepts: found on one half, told on the other.

For each smoothing and number of rows every word's own curve is measured: how many false accepts and how many misses
each threshold leaves. Then thresholds rise one by one, always the one that costs fewest misses for a false accept
that goes, until the rate is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.compiler.decision import decision_to_dict
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import InputError
from mbx_deploy.measure.evaluate import cores
from mbx_deploy.measure.listening import Heard, listen, match, open_listener, read_streams, report
from mbx_deploy.network.metadata import read_metadata, write_metadata
from mbx_deploy.sim.decision import NEVER_Q15, DecisionRule
from mbx_deploy.system.files import write_file

SMOOTHINGS_STREAM, SMOOTHINGS_WINDOWED = (1, 3, 5, 7), (1, 2)
ROWS = (1, 2, 3)
RELEASE_SHARE = 0.8
REST_MS = 1000
LEVELS = (*range(6000, 31000, 1500), *range(30500, 32700, 300))  # Q15

Progress = Callable[[int, int], None]


def tune(
    model: str,
    positives: Path,
    negatives: Path,
    false_accepts_per_hour: float,
    output: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Return the rule that was found, what it does on the part that it was found on, and on the other part.

    positives: streams with labels. negatives: long recordings. output: a .tflite, the model with the rule in its
    metadata. Raises InputError for data without words or without recordings, or a model that is no .tflite of ours.
    """
    opened, compiled = open_listener(model, "c", None, note)
    if compiled.hearing is None:
        raise InputError(f"the model hears nothing ({model}): got a network alone, need one with labels")
    labels, rate = compiled.labels, compiled.config.sample_rate_hz
    spoken, quiet = read_streams(positives, labels), read_streams(negatives, labels)
    if not any(one.words for one in spoken):
        raise InputError(
            f"no words in the positives ({positives}): got recordings without labels, need some",
            "mbx-deploy data stream makes streams of a data set's words",
        )
    if len(spoken) < 2 or len(quiet) < 2:
        raise InputError("too little to tune on: need two recordings of each kind, one to tune on and one to tell on")
    both = [*spoken, *quiet]
    heard = listen(opened, compiled, both, cores(), progress)
    halves = [[*_half(heard[: len(spoken)], part), *_half(heard[len(spoken) :], part)] for part in (0, 1)]
    rule = _find(halves[0], compiled, false_accepts_per_hour)
    result = {
        "model": model,
        "false_accepts_per_hour": false_accepts_per_hour,
        "decision": decision_to_dict(rule, rate),
        "tuned_on": _short(report(halves[0], rule, labels, rate, curve=False)),
        "kept_aside": _short(report(halves[1], rule, labels, rate, curve=False)),
        "before": _short(report(halves[1], compiled.hearing.decision, labels, rate, curve=False)),
    }
    if output is not None:
        metadata = read_metadata(compiled.data)
        assert metadata is not None
        write_file(output, write_metadata(compiled.data, {**metadata, "decision": result["decision"]}))
    return result


def _half(heard: Sequence[Heard], part: int) -> list[Heard]:
    return list(heard[part::2])


def _short(found: dict[str, Any]) -> dict[str, Any]:
    keys = ("hours", "false_accepts", "false_accepts_per_hour", "false_accepts_per_hour_interval", "words", "misses")
    return {key: found[key] for key in (*keys, "miss_rate", "latency_s", "by_kind", "by_word")}


def _find(heard: Sequence[Heard], model: CompiledModel, target: float) -> DecisionRule:
    assert model.hearing is not None
    smoothings = SMOOTHINGS_WINDOWED if model.streaming is None else SMOOTHINGS_STREAM
    found = [
        _thresholds(heard, model, smoothing, rows, target)
        for smoothing in smoothings
        for rows in ROWS
        if smoothing * rows <= 9
    ]
    return min(found, key=lambda pair: pair[0])[1]


def _thresholds(
    heard: Sequence[Heard], model: CompiledModel, smoothing: int, rows: int, target: float
) -> tuple[float, DecisionRule]:
    """Return (misses, and a little for what is slow), the rule of thresholds that keep the rate."""
    assert model.hearing is not None
    labels, rate = model.labels, model.config.sample_rate_hz
    silent = (NEVER_Q15,) * len(labels)
    base = replace(
        model.hearing.decision, smoothing=smoothing, rows=rows, rest_samples=REST_MS * rate // 1000,
        thresholds_q15=silent, release_q15=silent,
    )  # fmt: skip
    words = [number for number, word in enumerate(base.is_word) if word]
    curves = {}
    for number in words:
        rows_of = [_counts(heard, _with_level(base, number, level), labels, rate, labels[number]) for level in LEVELS]
        curves[number] = np.array(rows_of)
    chosen = dict.fromkeys(words, 0)
    hours = sum(one.seconds for one in heard) / 3600
    while sum(curves[n][chosen[n]][0] for n in words) > target * hours:
        steps = []
        for number in words:
            falls, misses = curves[number][:, 0], curves[number][:, 1]
            at = chosen[number]
            for then in range(at + 1, len(LEVELS)):
                if falls[then] < falls[at]:
                    steps.append(((misses[then] - misses[at]) / (falls[at] - falls[then]), number, then))
        if not steps:
            break
        _, number, then = min(steps)
        chosen[number] = then
    rule = base
    for number in words:
        rule = _with_level(rule, number, LEVELS[chosen[number]])
    missed = sum(int(curves[n][chosen[n]][1]) for n in words)
    return missed + 0.01 * (smoothing + 2 * rows), rule


def _with_level(rule: DecisionRule, number: int, level: int) -> DecisionRule:
    thresholds, release = list(rule.thresholds_q15), list(rule.release_q15)
    thresholds[number], release[number] = level, int(level * RELEASE_SHARE)
    return replace(rule, thresholds_q15=tuple(thresholds), release_q15=tuple(release))


def _counts(heard: Sequence[Heard], rule: DecisionRule, labels: Sequence[str], rate: int, word: str) -> tuple[int, int]:
    """Return (false accepts, misses) of one word, by a rule that hears no other."""
    found = [m for one in heard for m in match(one, rule, labels, rate) if m.word == word]
    return sum(m.event is not None and not m.right for m in found), sum(m.event is None for m in found)


def render_tuning(found: dict[str, Any], labels: Sequence[str]) -> str:
    """Return what was found as text."""
    decision = found["decision"]
    levels = zip(labels, decision["thresholds_q15"], strict=True)
    lines = [
        f"smoothing {decision['smoothing']}, rows {decision['rows']}, rest {decision['rest_ms']} ms",
        "thresholds: " + ", ".join(f"{name} {level / 32768:.2f}" for name, level in levels if level < NEVER_Q15),
    ]
    for key, what in (("tuned_on", "tuned on"), ("kept_aside", "kept aside"), ("before", "kept aside, rule before")):
        row = found[key]
        low, high = row["false_accepts_per_hour_interval"]
        rate = row["false_accepts_per_hour"]
        lines.append(
            f"  {what:<24} {rate:6.1f} false an hour (95 %: {low:.1f} to {high:.1f}) in {row['hours']:.2f} h, "
            f"{row['miss_rate']:.1%} of {row['words']} words missed"
        )
    return "\n".join(lines)
