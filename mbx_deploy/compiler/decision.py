"""The rule by which a model says that a word was said: from its metadata, or the default."""

from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.sim.decision import NEVER_Q15, NO_WORDS, DecisionRule

MOST_SMOOTHING = 32
MOST_ROWS = 100
MOST_REST_MS = 60_000
# Of a model that says nothing: two decisions in a row at 0.6, and a second of rest.
DEFAULT_ROWS = 2
DEFAULT_THRESHOLD_Q15 = 19661
DEFAULT_REST_MS = 1000


def default_decision(labels: tuple[str, ...], sample_rate_hz: int) -> DecisionRule:
    """Return the rule of a model whose metadata have none."""
    levels = (DEFAULT_THRESHOLD_Q15,) * len(labels)
    rest = DEFAULT_REST_MS * sample_rate_hz // 1000
    return DecisionRule(1, DEFAULT_ROWS, levels, levels, rest, _words(labels))


def read_decision(metadata: dict[str, Any], labels: tuple[str, ...], sample_rate_hz: int, name: str) -> DecisionRule:
    """Return the rule of a model's metadata, or the default. name: of the model, for messages.

    Raises InputError for a rule that is none.
    """
    values = metadata.get("decision")
    if values is None:
        return default_decision(labels, sample_rate_hz)
    if not isinstance(values, dict):
        raise InputError(f"bad metadata (decision, {name}): got {type(values).__name__}, need an object")
    limits = {"smoothing": (1, MOST_SMOOTHING), "rows": (1, MOST_ROWS), "rest_ms": (0, MOST_REST_MS)}
    for key, (least, most) in limits.items():
        if type(values.get(key)) is not int or not least <= values[key] <= most:
            raise InputError(f"bad metadata (decision.{key}, {name}): got {values.get(key)!r}, need {least} to {most}")
    for key in ("thresholds_q15", "release_q15"):
        levels = values.get(key)
        if (
            not isinstance(levels, list)
            or len(levels) != len(labels)
            or not all(type(level) is int and 0 <= level <= NEVER_Q15 for level in levels)
        ):
            raise InputError(
                f"bad metadata (decision.{key}, {name}): got {levels!r:.80}, need {len(labels)} of 0 to {NEVER_Q15}"
            )
    return DecisionRule(
        values["smoothing"],
        values["rows"],
        tuple(values["thresholds_q15"]),
        tuple(values["release_q15"]),
        values["rest_ms"] * sample_rate_hz // 1000,
        _words(labels),
    )


def decision_to_dict(rule: DecisionRule, sample_rate_hz: int) -> dict[str, Any]:
    """Return a rule as the metadata have it; see read_decision()."""
    return {
        "smoothing": rule.smoothing,
        "rows": rule.rows,
        "thresholds_q15": list(rule.thresholds_q15),
        "release_q15": list(rule.release_q15),
        "rest_ms": rule.rest_samples * 1000 // sample_rate_hz,
    }


def _words(labels: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple(label not in NO_WORDS for label in labels)
