"""Decisions: from the scores of one decision after another to events, in integers. The readable definition.

Twin: firmware_templates/runtime/recognizer/mbx_decision.c, the same steps in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Labels that are not reported as words.
NO_WORDS = frozenset(("silence", "unknown", "_silence_", "_unknown_", "background", "_background_noise_", "noise"))
NEVER_Q15 = 32769  # a threshold that no score exceeds
MOST_ABOVE = 255


@dataclass(frozen=True)
class DecisionRule:
    """When a word was said.

    smoothing: decisions that the mean is of. rows: decisions in a row in which the mean must be above the
    threshold. thresholds_q15, release_q15: one a class; a word counts again once its mean was below its release
    level. rest_samples: after an event. is_word: one a class, False for silence and unknown words.
    """

    smoothing: int
    rows: int
    thresholds_q15: tuple[int, ...]
    release_q15: tuple[int, ...]
    rest_samples: int
    is_word: tuple[bool, ...]


@dataclass(frozen=True)
class Event:
    """A word that was said. word: the class. score_q15: its mean. samples: that had arrived since the start."""

    word: int
    score_q15: int
    samples: int


@dataclass(frozen=True)
class DecisionState:
    """What a decision remembers.

    recent_q15: int64 (smoothing, classes), the oldest first. above: int64 (classes,) decisions in a row. released: bool
    (classes,). rest_until: in samples since the start.
    """

    recent_q15: np.ndarray
    above: np.ndarray
    released: np.ndarray
    rest_until: int


def silent_decision(rule: DecisionRule) -> DecisionState:
    """Return the state before the first decision: all scores were 0. Twin: mbx_decision_reset()."""
    classes = len(rule.is_word)
    recent = np.zeros((rule.smoothing, classes), np.int64)
    return DecisionState(recent, np.zeros(classes, np.int64), np.ones(classes, bool), 0)


def decide(
    rule: DecisionRule, state: DecisionState, posteriors_q15: np.ndarray, samples: int
) -> tuple[DecisionState, Event | None]:
    """Return (the state behind a decision, the event that it is, or None).

    posteriors_q15: (classes,). samples: that arrived since the start, lost ones included. Means are rounded down. Of
    words that are above their thresholds long enough the one with the highest mean counts, the first of equals.
    Twin: mbx_decide().
    """
    recent = np.concatenate([state.recent_q15[1:], posteriors_q15.astype(np.int64)[None]])
    mean = recent.sum(axis=0) // rule.smoothing
    word = np.array(rule.is_word)
    released = state.released | (word & (mean < np.array(rule.release_q15)))
    over = word & released & (mean > np.array(rule.thresholds_q15))
    above = np.where(over, np.minimum(state.above + 1, MOST_ABOVE), 0)
    candidates = np.where(above >= rule.rows, mean, -1)
    best = int(np.argmax(candidates))
    if samples < state.rest_until or candidates[best] <= 0:
        return DecisionState(recent, above, released, state.rest_until), None
    released = released & (np.arange(len(released)) != best)
    event = Event(best, int(mean[best]), samples)
    return DecisionState(recent, np.zeros_like(above), released, samples + rule.rest_samples), event


def smoothed(rule: DecisionRule, posteriors_q15: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean at each decision, int64 (decisions, classes)."""
    scores = np.array(posteriors_q15, np.int64).reshape(-1, len(rule.is_word))
    padded = np.concatenate([np.zeros((rule.smoothing, scores.shape[1]), np.int64), scores]).cumsum(axis=0)
    means: np.ndarray = (padded[rule.smoothing :] - padded[: -rule.smoothing]) // rule.smoothing
    return means


def events(rule: DecisionRule, posteriors_q15: np.ndarray, samples: Sequence[int]) -> list[Event]:
    """Return the events of a whole recording, as decide() from a fresh state says, in much less time.

    posteriors_q15: (decisions, classes). samples: when each decision was due. Only decisions at which some word is
    above its threshold are looked at one by one.
    """
    means = smoothed(rule, list(posteriors_q15))
    word = np.array(rule.is_word)
    over = word & (means > np.array(rule.thresholds_q15))
    under = word & (means < np.array(rule.release_q15))
    # For each class, at each decision: the last decision up to it at which the mean was below the release level.
    places = np.where(under, np.arange(len(means))[:, None], -1)
    last_under = np.maximum.accumulate(places, axis=0) if len(means) else places
    said_at = np.full(len(word), -1)  # the decision at which a class was last said; -1: it may count from the start
    above = np.zeros(len(word), np.int64)
    rest_until, before, found = 0, -2, []
    for number in np.flatnonzero(over.any(axis=1)).tolist():
        if number != before + 1:
            above[:] = 0
        before = number
        released = (said_at < 0) | (last_under[number] > said_at)
        above = np.where(over[number] & released, np.minimum(above + 1, MOST_ABOVE), 0)
        candidates = np.where(above >= rule.rows, means[number], -1)
        best = int(np.argmax(candidates))
        if samples[number] >= rest_until and candidates[best] > 0:
            found.append(Event(best, int(means[number][best]), int(samples[number])))
            said_at[best] = number
            above[:] = 0
            rest_until = samples[number] + rule.rest_samples
    return found


def answer(rule: DecisionRule, posteriors_q15: Sequence[np.ndarray]) -> tuple[int, np.ndarray]:
    """Return (the class that a clip alone is taken for, the scores that say so), of all decisions of a fresh stream.

    It is the word with the highest mean that is above its threshold; where no word is, what the last decision says.
    Raises ValueError for a clip without a decision.
    """
    if not len(posteriors_q15):
        raise ValueError("a clip without a decision has no answer")
    means = smoothed(rule, posteriors_q15)
    heard = np.where(np.array(rule.is_word) & (means > np.array(rule.thresholds_q15)), means, -1)
    place = int(np.argmax(heard))
    decision, label = divmod(place, means.shape[1])
    if heard.ravel()[place] >= 0:
        return label, means[decision]
    last = np.asarray(posteriors_q15[-1])
    return int(np.argmax(last)), last
