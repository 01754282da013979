"""Events against words at known places: matching, intervals, curves, tuning, and the files that hold the words."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.data.streams import wav_bytes
from mbx_deploy.data.tracks import LongRecording, Stretch, find_recordings
from mbx_deploy.errors import InputError
from mbx_deploy.measure.listening import Heard, cut_wrong, match, poisson_interval, report, with_threshold
from mbx_deploy.sim.decision import DecisionRule, decide, events, silent_decision

LABELS = ("yes", "no", "silence")
RATE = 16000
RULE = DecisionRule(1, 1, (16000,) * 3, (8000,) * 3, 16000, (True, True, False))
YES, NO, QUIET = (30000, 1000, 1768), (1000, 30000, 1768), (300, 300, 32168)


def heard(scores: list[tuple[int, int, int]], words: tuple[Stretch, ...] = (), kind: str = "speech") -> Heard:
    """Return a recording with a decision every 100 ms."""
    recording = LongRecording(Path("room.wav"), kind, words)
    samples = (np.arange(len(scores)) + 1) * RATE // 10
    return Heard(recording, len(scores) / 10, np.array(scores), samples, np.zeros((0, 3), np.int64))


def test_a_word_is_heard_once_and_a_second_event_is_false() -> None:
    scores = [QUIET] * 10 + [YES] * 3 + [QUIET] * 20 + [YES] * 3 + [QUIET] * 10
    one = heard(scores, (Stretch("yes", 0.7, 1.2),))
    found = match(one, RULE, LABELS, RATE)
    assert [(m.word, m.right) for m in found] == [("yes", True), ("yes", False)]


@pytest.mark.parametrize(("start", "end", "right"), [
    (1.0, 1.1, True), (1.1, 1.2, True), (1.2, 1.3, False), (0.0, 0.0, True), (0.0, -0.0, True),
])  # fmt: skip
def test_the_window_is_from_a_words_start_to_a_while_behind_its_end(start: float, end: float, right: bool) -> None:
    one = heard([QUIET] * 10 + [YES] * 2 + [QUIET] * 9, (Stretch("yes", start, end),))
    assert [m.right for m in match(one, RULE, LABELS, RATE) if m.event] == [right]


def test_a_wrong_word_is_a_false_accept_and_a_miss() -> None:
    one = heard([QUIET] * 10 + [NO] * 3 + [QUIET] * 9, (Stretch("yes", 0.8, 1.2),))
    found = report([one], RULE, LABELS, RATE)
    assert (found["false_accepts"], found["misses"], found["miss_rate"]) == (1, 1, 1.0)
    assert found["by_word"]["no"]["false_accepts"] == found["by_word"]["yes"]["missed"] == 1
    event = found["events"][0]
    assert (event["word"], event["right"], event["file"], event["seconds"]) == ("no", False, "room.wav", 1.1)


def test_hours_kinds_and_latency() -> None:
    music = heard([NO] * 2 + [QUIET] * 3598, kind="music")
    speech = heard([QUIET] * 10 + [YES] * 3 + [QUIET] * 1787, (Stretch("yes", 0.6, 1.0),))
    found = report([music, speech], RULE, LABELS, RATE)
    assert found["hours"] == pytest.approx(540 / 3600)
    assert found["by_kind"]["music"]["false_accepts_per_hour"] == pytest.approx(10)
    assert found["by_kind"]["speech"]["false_accepts"] == 0
    assert found["latency_s"]["median"] == pytest.approx(0.1)
    low, high = found["false_accepts_per_hour_interval"]
    assert low < found["false_accepts_per_hour"] < high


def test_the_curve_falls() -> None:
    rng = np.random.default_rng(1)
    yes = rng.integers(0, 32768, 3000)
    one = heard([(int(y), 0, 32768 - int(y)) for y in yes])
    rates = [row["false_accepts_per_hour"] for row in report([one], RULE, LABELS, RATE)["curve"]]
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[10] > rates[-1]


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904)])
def test_the_interval_of_a_rate(count: int, low: float, high: float) -> None:
    """Source: the table of exact Poisson limits, F. Garwood, 1936."""
    assert poisson_interval(count, 1.0) == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize("seed", range(40))
def test_events_of_a_whole_recording_are_those_of_one_decision_after_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = (0, 5000, 16000, 20000, 32769)
    rule = DecisionRule(
        int(rng.integers(1, 5)), int(rng.integers(1, 4)), tuple(rng.choice(levels, 3).tolist()),
        tuple(rng.choice(levels, 3).tolist()), int(rng.choice((0, 3200, 16000))), (True, True, seed % 2 == 0),
    )  # fmt: skip
    scores = np.repeat(rng.choice((0, 4000, 15000, 17000, 32768), (80, 3)), rng.integers(1, 5, 80), axis=0)
    samples = [1600 * (number + 1) for number in range(len(scores))]
    state, expected = silent_decision(rule), []
    for row, at in zip(scores, samples, strict=True):
        state, event = decide(rule, state, row, at)
        expected += [event] if event else []
    assert events(rule, scores, samples) == expected


def test_one_threshold_for_all_words_keeps_the_share_of_the_release() -> None:
    assert with_threshold(RULE, 0.5).release_q15 == (8192,) * 3


def test_labels_of_every_kind(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.wav").write_bytes(wav_bytes(np.zeros(16000, np.int16), RATE))
    (tmp_path / "a.txt").write_text("\ufeff0.5\t1.0\tyes\n\\\t100\t200\n1.5\t1.75\tsilence\n")
    (tmp_path / "b.json").write_text(json.dumps([{"start": 0.25, "end": 0.5, "word": "no"}]))
    rows = [{"audio_filepath": "c.wav", "offset": 0.125, "duration": 0.5, "command": "yes"}]
    (tmp_path / "room_manifest.json").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "manifest.csv").write_text("file,kind\na.wav,speech\nd.wav,music\n")
    found = find_recordings(tmp_path)
    assert [one.words for one in found] == [
        (Stretch("yes", 0.5, 1.0),), (Stretch("no", 0.25, 0.5),), (Stretch("yes", 0.125, 0.625),), (),
    ]  # fmt: skip
    assert [one.kind for one in found] == ["speech", "", "", "music"]


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.txt", "1.0 2.0 yes\n", "a.txt, line 1.*tabs"), ("a.txt", "x\ty\tyes\n", "line 1.*seconds"),
    ("a.txt", "2\t1\tyes\n", "start <= end"), ("a.json", "{", "bad labels"), ("a.json", "[[[", "bad labels"),
    ("a.json", '[{"word": "yes"}]', "label 0.*seconds"),
    ("x_manifest.json", '{"audio_filepath": "gone.wav"}', "names no"),
])  # fmt: skip
def test_bad_labels_are_one_line(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.zeros(160, np.int16), RATE))
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        find_recordings(tmp_path)


def test_what_was_wrong_is_cut_out_to_listen_to(tmp_path: Path) -> None:
    path = tmp_path / "room.wav"
    path.write_bytes(wav_bytes(np.arange(4 * RATE, dtype=np.int64).astype(np.int16), RATE))
    scores = [QUIET] * 10 + [NO] * 3 + [QUIET] * 27
    one = heard(scores, (Stretch("yes", 2.0, 2.5),))
    one = Heard(LongRecording(path, "", one.recording.words), 4.0, one.posteriors_q15, one.samples, one.told)
    cuts = cut_wrong(match(one, RULE, LABELS, RATE), RATE)
    assert sorted(name.split("/")[0] for name in cuts) == ["false", "missed"]
    missed = next(cut for name, cut in cuts.items() if name.startswith("missed"))
    np.testing.assert_array_equal(missed, np.arange(RATE, int(3.5 * RATE)).astype(np.int16))
    file = tmp_path / "cut.wav"
    file.write_bytes(wav_bytes(missed, RATE))
    with wave.open(str(file)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (RATE, len(missed))
