"""What an epoch of the open world is made of: shares, caps, context, broken words, and what is mined."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mbx_deploy.data.dataset import Split
from mbx_deploy.data.negatives import Negatives, WordSource
from mbx_deploy.errors import InputError
from mbx_deploy.train.augment import AugmentConfig, NoiseSources
from mbx_deploy.train.mining import Mined
from mbx_deploy.train.open_world import BROKEN, COMMAND, QUIET, RECORDING, WORD, OpenWorldConfig, Windows

LABELS = ("go", "stop", "unknown", "silence")
PLAIN = AugmentConfig(
    speed_probability=0.0, noise_probability=0.0, gain_db=(0.0, 0.0), white_noise_probability=0.0, shift_ms=0.0
)
SIZE = 33760


def tone_clip(level: int = 8000) -> np.ndarray:
    """Return a second with a loud half from 0.25 to 0.75 s."""
    clip = np.zeros(16000, np.int16)
    clip[4000:12000] = level * np.sin(np.arange(8000) * 0.3)
    return clip


def windows(config: OpenWorldConfig, streaming: bool = True, size: int = SIZE) -> Windows:
    """Return windows over six clips of commands, two of another word, 60 clips a word of a folder, one recording."""
    samples = np.stack([tone_clip() for _ in range(8)])
    names = tuple(f"{word}/s{n}_nohash_0.wav" for n, word in enumerate(["go"] * 3 + ["stop"] * 3 + ["bed"] * 2))
    training = Split(LABELS, samples, np.array([0, 0, 0, 1, 1, 1, 2, 2]), names, ())
    more = WordSource("more", np.stack([tone_clip(3000)] * 80), ("many",) * 60 + tuple(f"w{n}" for n in range(20)))
    recording = np.full(20 * 16000, 500, np.int16)
    recording[10 * 16000 :] = 0
    return Windows(config, PLAIN, training, Negatives((more,), (recording,), ("r",)), NoiseSources(), size, streaming)


def test_a_round_has_the_shares_that_were_asked_for() -> None:
    config = OpenWorldConfig(draws=1000, command_share=0.4, word_share=0.3, broken_share=0.1, recording_share=0.15)
    drawn = windows(config).draw_round(0, 1, np.zeros((0, 3), np.int64))
    assert [int((drawn[:, 0] == kind).sum()) for kind in (COMMAND, WORD, BROKEN, RECORDING, QUIET)] == [
        400, 300, 100, 150, 50,
    ]  # fmt: skip
    made = windows(config)
    classes = made.classes(drawn)
    assert np.bincount(classes).tolist() == [200, 200, 550, 50]


def test_the_same_seed_and_round_draw_the_same() -> None:
    config = OpenWorldConfig(draws=100)
    none = np.zeros((0, 3), np.int64)
    one = windows(config).draw_round(3, 1, none)
    assert np.array_equal(one, windows(config).draw_round(3, 1, none))
    assert not np.array_equal(one, windows(config).draw_round(4, 1, none))
    assert not np.array_equal(one, windows(config).draw_round(3, 2, none))


def test_a_word_with_many_clips_is_capped_so_that_variety_wins() -> None:
    config = OpenWorldConfig(draws=40, command_share=0.5, word_share=0.5, broken_share=0, recording_share=0)
    made = windows(config)
    capped: list[int] = []
    free: list[int] = []
    for cap, counts in ((1, capped), (60, free)):
        made.config = dataclasses.replace(config, word_cap=cap)
        for number in range(50):
            drawn = made.draw_round(number, 1, np.zeros((0, 3), np.int64))
            words = made.words.words[drawn[drawn[:, 0] == WORD, 1]]
            counts.append(int((words == "many").sum()))
    assert np.mean(capped) < 3
    assert np.mean(free) > 10


def test_left_out_words_are_never_drawn() -> None:
    made = windows(OpenWorldConfig(left_out=("bed",)))
    assert "bed" not in set(made.words.words)
    assert "bed" in set(windows(OpenWorldConfig()).words.words)


def test_a_word_ends_where_it_was_asked_to() -> None:
    config = OpenWorldConfig(word_end_s=(0.1, 0.7), context_word_share=0, context_recording_share=0)
    made = windows(config)
    ends = []
    for place in range(40):
        window, label = made.make(np.array([COMMAND, 0, 0]), np.random.default_rng(place))
        assert label == 0
        assert len(window) == SIZE
        ends.append((SIZE - 1 - np.flatnonzero(window)[-1]) / 16000)
    assert 0.1 <= min(ends) < 0.2
    assert 0.6 < max(ends) <= 0.8  # slack() sees 50 ms beyond the loud part


def test_context_comes_before_the_word_and_leaves_it_as_it_is() -> None:
    config = OpenWorldConfig(word_end_s=(0.4, 0.4), context_word_share=1.0, context_recording_share=0)
    alone = windows(dataclasses.replace(config, context_word_share=0.0))
    drawn = np.array([COMMAND, 0, 0])
    window, _ = windows(config).make(drawn, np.random.default_rng(1))
    bare, _ = alone.make(drawn, np.random.default_rng(1))
    first = np.flatnonzero(bare)[0]
    assert np.array_equal(window[first:], bare[first:])
    assert np.any(window[:first])


def test_no_command_is_the_context_of_another_word() -> None:
    """It would have ended just before: the window would be a command's."""
    made = windows(OpenWorldConfig(context_word_share=1.0, context_recording_share=0))
    made.words = dataclasses.replace(made.words, samples=np.zeros_like(made.words.samples))
    for place in range(20):
        window, label = made.make(np.array([WORD, 0, 0]), np.random.default_rng(place))
        assert label == 2
        assert not np.any(window)


def test_a_quiet_window_of_a_recording_is_silence() -> None:
    made = windows(OpenWorldConfig())
    assert made.make(np.array([RECORDING, 0, 1000]), np.random.default_rng(0))[1] == 2
    assert made.make(np.array([RECORDING, 0, 12 * 16000]), np.random.default_rng(0))[1] == 3


@pytest.mark.parametrize("kind", [0, 1, 3])
def test_a_broken_command_is_less_than_the_command(kind: int) -> None:
    made = windows(OpenWorldConfig())
    made.commands.samples[0, 4000:12000] = np.arange(8000)
    clip, bounds = made._break(0, kind)
    loud = clip[bounds[0] : bounds[1]]
    if kind == 1:
        assert np.array_equal(clip[::-1].astype(np.int16), made.commands.samples[0])
    else:
        whole = made.commands.bounds[0]
        assert 0 < len(loud) < 1.1 * (whole[1] - whole[0])
        assert not np.array_equal(clip.astype(np.int16), made.commands.samples[0])


@pytest.mark.parametrize("begins", [0, 1])
def test_a_command_that_is_shifted_out_is_mostly_outside(begins: int) -> None:
    made = windows(OpenWorldConfig(), streaming=False, size=16000)
    first, last = made.commands.bounds[4]
    for seed in range(20):
        window, label = made.make(np.array([BROKEN, 4, 4 * begins + 2]), np.random.default_rng(seed))
        sounding = np.flatnonzero(window)
        assert label == 2
        assert len(sounding) <= 0.35 * (last - first) + 1
        if len(sounding):
            assert sounding[-1] >= 15990 if begins else sounding[0] <= 10


def test_a_stream_only_meets_the_beginning_of_a_command_that_is_shifted_out() -> None:
    made = windows(OpenWorldConfig(context_word_share=0, context_recording_share=0))
    for side in (2, 6):
        window, label = made.make(np.array([BROKEN, 4, side]), np.random.default_rng(1))
        sounding = np.flatnonzero(window)
        assert label == 2
        assert sounding[-1] >= len(window) - 10


def test_a_windowed_model_gets_windows_of_its_length() -> None:
    made = windows(OpenWorldConfig(), streaming=False, size=16000)
    window, label = made.make(np.array([COMMAND, 4, 0]), np.random.default_rng(0))
    assert label == 1
    assert np.array_equal(window, tone_clip())
    assert made.make(np.array([RECORDING, 0, 0]), np.random.default_rng(0))[0].shape == (16000,)


def test_mined_draws_come_again_and_only_in_place_of_others() -> None:
    config = OpenWorldConfig(draws=400, mined_share=0.5)
    mined = np.array([[WORD, 1, 0], [RECORDING, 0, 777]])
    drawn = windows(config).draw_round(0, 1, mined)
    again = sum(int((drawn == row).all(axis=1).sum()) for row in mined)
    assert again >= 4  # at most twice each on average
    assert int((drawn[:, 0] == COMMAND).sum()) == 200


def test_what_is_no_longer_hard_is_forgotten() -> None:
    one, two, three = [WORD, 1, 0], [WORD, 2, 0], [WORD, 3, 0]
    first = Mined().update(np.array([one, two, three]), np.array([0.9, 0.6, 0.1]), 0.5, 10)
    assert first.draws.tolist() == [one, two]
    second = first.update(np.array([one, three]), np.array([0.2, 0.7]), 0.5, 10)
    assert second.draws.tolist() == [three, two]
    assert second.update(np.array([one]), np.array([0.99]), 0.5, 2).draws.tolist() == [one, three]


def test_mined_draws_survive_a_checkpoint(tmp_path: Path) -> None:
    mined = Mined().update(np.array([[WORD, 1, 0], [BROKEN, 2, 5]]), np.array([0.9, 0.6]), 0.5, 10)
    torch.save(mined.to_state(), tmp_path / "mined.pt")
    again = Mined.from_state(torch.load(tmp_path / "mined.pt", weights_only=True))
    assert np.array_equal(again.draws, mined.draws)
    assert np.array_equal(again.scores, mined.scores)


@pytest.mark.parametrize(
    "values",
    [
        {"command_share": 0.0},
        {"command_share": 0.9, "word_share": 0.2},
        {"draws": -1},
        {"draws": 1.5},
        {"word_end_s": [0.7, 0.1]},
        {"left_out": "one"},
        {"context_word_share": 0.7, "context_recording_share": 0.7},
        {"nonsense": 1},
    ],
)
def test_bad_values_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="open"):
        OpenWorldConfig.from_dict(values)
