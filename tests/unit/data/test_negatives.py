"""Folders of what is no command: short files are other words, long ones recordings; commands are refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.data.negatives import load_negatives
from mbx_deploy.errors import InputError

LABELS = ("go", "unknown", "silence")


def write(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 500, round(seconds * 16000))
    soundfile.write(path, noise.astype(np.int16), 16000)


def test_short_files_are_words_and_long_ones_recordings(tmp_path: Path) -> None:
    write(tmp_path / "a" / "tree" / "x.flac", 0.6)
    write(tmp_path / "a" / "tree" / "y.wav", 2.0)
    write(tmp_path / "b" / "kitchen.ogg", 4.0)
    found = load_negatives([tmp_path / "a", tmp_path / "b"], LABELS)
    assert [(source.name, source.words, source.samples.shape) for source in found.sources] == [
        ("a", ("tree", "tree"), (2, 16000))
    ]
    assert found.names == ("kitchen.ogg",)
    assert found.seconds == pytest.approx(4.0)


def test_a_recording_may_be_longer_than_a_command_ever_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "room.flac", np.zeros(601 * 16000, np.int16), 16000)
    assert load_negatives([tmp_path], LABELS).seconds == 601


def test_a_word_can_be_left_out_to_measure_with(tmp_path: Path) -> None:
    write(tmp_path / "one" / "x.wav", 0.5)
    write(tmp_path / "two" / "x.wav", 0.5)
    assert load_negatives([tmp_path], LABELS, ("one",)).sources[0].words == ("two",)


def test_the_digest_knows_names_and_lengths(tmp_path: Path) -> None:
    write(tmp_path / "tree" / "x.wav", 0.5)
    first = load_negatives([tmp_path], LABELS).digest
    assert load_negatives([tmp_path], LABELS).digest == first
    write(tmp_path / "tree" / "x.wav", 0.6)
    assert load_negatives([tmp_path], LABELS).digest != first


def test_a_command_among_them_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "go" / "x.wav", 0.5)
    with pytest.raises(InputError, match="a command among the negatives"):
        load_negatives([tmp_path], LABELS)


def test_folders_without_sound_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recordings"):
        load_negatives([tmp_path], LABELS)
    with pytest.raises(InputError, match="no such folder"):
        load_negatives([tmp_path / "nowhere"], LABELS)
