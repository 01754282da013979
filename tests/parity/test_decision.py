"""Decisions: the C against the simulator, call by call, on drawn rules and drawn scores."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.sim.decision import DecisionRule, answer, decide, silent_decision, smoothed
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.tools import compile_shared_library, find_tool

pytestmark = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
NO_WORD = 0xFFFF


class CRule(ctypes.Structure):
    """mbx_decision_rule."""

    _fields_ = (
        ("num_classes", ctypes.c_uint16),
        ("smoothing", ctypes.c_uint8),
        ("rows", ctypes.c_uint8),
        ("rest_samples", ctypes.c_uint32),
        *((name, ctypes.c_void_p) for name in ("thresholds_q15", "release_q15", "is_word")),
    )


class CDecision(ctypes.Structure):
    """mbx_decision."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("rule", "classes", "recent_q15")),
        ("rest_until", ctypes.c_uint64),
        ("next", ctypes.c_uint8),
    )


class CEvent(ctypes.Structure):
    """mbx_event."""

    _fields_ = (("word", ctypes.c_uint16), ("score_q15", ctypes.c_uint16), ("samples", ctypes.c_uint64))


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    sources = {name: runtime_file(name).read_text() for name in ("mbx_decision.c", "mbx_decision.h")}
    found = ctypes.CDLL(str(compile_shared_library(sources, ("-O2", "-fsanitize=undefined"))))
    found.mbx_decide.restype = CEvent
    found.mbx_decide.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    found.mbx_decision_init.argtypes = [ctypes.c_void_p] * 4
    found.mbx_decision_init.restype = None
    return found


@st.composite
def rules(draw: st.DrawFn) -> DecisionRule:
    classes = draw(st.integers(1, 5))
    levels = st.lists(st.sampled_from((0, 1, 100, 16384, 32767, 32768, 32769)), min_size=classes, max_size=classes).map(
        tuple
    )
    return DecisionRule(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 4)),
        draw(levels),
        draw(levels),
        draw(st.sampled_from((0, 1, 1600, 16000))),
        tuple(draw(st.lists(st.booleans(), min_size=classes, max_size=classes))),
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(rules(), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_c_hears_what_the_simulator_hears(
    library: ctypes.CDLL, rule: DecisionRule, seed: int, decisions: int
) -> None:
    rng = np.random.default_rng(seed)
    classes = len(rule.is_word)
    # Scores that stay for a while, among them the edges of the levels.
    edges = np.array((0, 1, 100, 101, 16383, 16384, 16385, 32766, 32767, 32768), np.uint16)
    scores = np.repeat(rng.choice(edges, (decisions, classes)), rng.integers(1, 4, decisions), axis=0)[:decisions]
    thresholds, release = np.array(rule.thresholds_q15, np.uint16), np.array(rule.release_q15, np.uint16)
    words = np.array(rule.is_word, np.uint8)
    addresses = (thresholds.ctypes.data, release.ctypes.data, words.ctypes.data)
    c_rule = CRule(classes, rule.smoothing, rule.rows, rule.rest_samples, *addresses)
    c_classes, recent = np.full(3 * classes, 0xA5A5, np.uint16), np.full(rule.smoothing * classes, 0xA5A5, np.uint16)
    c_state = CDecision()
    library.mbx_decision_init(
        ctypes.addressof(c_state), ctypes.addressof(c_rule), c_classes.ctypes.data, recent.ctypes.data
    )
    state = silent_decision(rule)
    samples = 0
    for row in scores:
        samples += int(rng.choice((1, 1600, 4000, 2**33)))
        kept = np.ascontiguousarray(row)
        found = library.mbx_decide(ctypes.addressof(c_state), kept.ctypes.data, samples)
        state, event = decide(rule, state, row, samples)
        expected = (NO_WORD, 0) if event is None else (event.word, event.score_q15)
        assert (found.word, found.score_q15, found.samples) == (*expected, samples)


RULE = DecisionRule(2, 2, (16000, 16000, 16000), (8000, 8000, 8000), 16000, (True, True, False))


def said(rule: DecisionRule, *scores: tuple[int, int, int], step: int = 4000) -> list[tuple[int, int]]:
    """Return (number of the decision, word) of each event."""
    state, found = silent_decision(rule), []
    for number, row in enumerate(scores):
        state, event = decide(rule, state, np.array(row), (number + 1) * step)
        if event:
            found.append((number, event.word))
    return found


HIGH, LOW = (32000, 500, 268), (300, 200, 32268)


def test_a_word_counts_once_however_long_it_lasts() -> None:
    # The mean of two is above at the second decision, in a row at the third.
    assert said(RULE, *[HIGH] * 20) == [(2, 0)]


def test_a_word_counts_again_below_its_release_and_after_the_rest() -> None:
    assert said(RULE, *[HIGH] * 3, *[LOW] * 2, *[HIGH] * 3) == [(2, 0), (6, 0)]
    between = (20000, 12000, 768)  # never below the release level
    assert said(RULE, *[HIGH] * 3, *[between] * 9, *[HIGH] * 9) == [(2, 0)]


def test_another_word_waits_for_the_rest() -> None:
    other = (500, 32000, 268)
    assert said(RULE, *[HIGH] * 3, *[other] * 9) == [(2, 0), (6, 1)]


def test_silence_and_unknown_words_are_never_said() -> None:
    assert said(RULE, *[(0, 0, 32768)] * 9) == []


def test_the_answer_to_a_clip_is_its_surest_word_or_the_last_decision() -> None:
    rows = [np.array(row) for row in (LOW, HIGH, HIGH, LOW)]
    label, scores = answer(RULE, rows)
    assert label == 0 and scores[0] == 32000 == smoothed(RULE, rows)[2][0]
    assert answer(RULE, [np.array(LOW)] * 3)[0] == 2
