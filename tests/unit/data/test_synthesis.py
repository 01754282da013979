"""Words that espeak-ng speaks: the seed decides how, and nothing that sounds like a command is among them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.data.synthesis import (
    WORD_LIST,
    edit_distance,
    english_voices,
    like_commands,
    phonemes,
    read_words,
    speak_some,
    synthesize,
)
from mbx_deploy.errors import InputError
from mbx_deploy.system.tools import find_tool

needs_espeak = pytest.mark.skipif(find_tool("espeak-ng") is None, reason="espeak-ng is not installed")


def test_edit_distance_counts_changes() -> None:
    assert edit_distance("abc", "abc") == 0
    assert edit_distance("abc", "abd") == edit_distance("abc", "ab") == edit_distance("ab", "abc") == 1
    assert edit_distance("", "abc") == 3
    assert edit_distance("kitten", "sitting") == 3


@needs_espeak
def test_likeness_is_judged_by_sound_not_by_spelling() -> None:
    commands = ("right", "no", "up")
    refused = like_commands(["write", "know", "cup", "snow", "night", "table", "rhythm", "right"], commands)
    assert refused == {
        "write": "right", "know": "no", "cup": "up", "snow": "no", "night": "right", "right": "right",
    }  # fmt: skip


@needs_espeak
def test_each_word_has_phonemes_of_its_own() -> None:
    found = phonemes(["stop", "yes", "unknown"], "en-us")
    assert len(found) == 3
    assert len(found[0]) == 4
    assert edit_distance(found[0], phonemes(["top"], "en-us")[0]) == 1


@needs_espeak
def test_there_are_many_english_voices_and_none_whispers() -> None:
    voices = english_voices()
    assert len(voices) > 100
    assert len(set(voices)) == len(voices)
    assert not [voice for voice in voices if "whisper" in voice]


@pytest.mark.slow
@needs_espeak
def test_a_seed_gives_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    found = synthesize(["table", "garden", "toe"], tmp_path / "a", ["go", "unknown"], clips=2, seed=3)
    assert (found.words, found.clips, found.refused) == (2, 4, {"toe": "go"})
    synthesize(["table", "garden"], tmp_path / "b", ["go"], clips=2, seed=3)
    synthesize(["table", "garden"], tmp_path / "c", ["go"], clips=2, seed=4)
    files = [sorted(p.relative_to(tmp_path / k).as_posix() for p in (tmp_path / k).rglob("*.flac")) for k in "abc"]
    assert files[0] == files[1] != files[2]
    assert {name.split("/")[0] for name in files[0]} == {"table", "garden"}
    for name in files[0]:
        one, rate = soundfile.read(tmp_path / "a" / name, dtype="int16")
        assert rate == 16000
        assert 0.15 < len(one) / rate < 2.5
        assert np.abs(one).max() > 1000
        assert np.array_equal(one, soundfile.read(tmp_path / "b" / name, dtype="int16")[0])


@needs_espeak
def test_words_alike_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no word is left"):
        synthesize(["write", "right"], tmp_path / "a", ["right"])
    assert not (tmp_path / "a").exists()


@needs_espeak
def test_some_words_for_who_has_none() -> None:
    found = speak_some(["go", "stop"], 6, seed=2)
    assert found.samples.shape == (6, 16000)
    assert len(set(found.words)) == 6
    assert not like_commands(found.words, ["go", "stop"])
    assert found.words != speak_some(["go", "stop"], 6, seed=3).words


def test_lists_are_files_or_commas(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# some\nTable\n\nchair # and more\ntable\n")
    assert read_words(str(tmp_path / "list")) == ("table", "chair")
    assert read_words("table, chair") == ("table", "chair")
    for bad, what in (("a b", "not a word"), ("x1", "not a word"), ("", "no words"), ("no/such.txt", "no such list")):
        with pytest.raises(InputError, match=what):
            read_words(bad)


def test_the_shipped_list_has_no_word_that_is_measured_with() -> None:
    words = read_words(str(WORD_LIST))
    assert len(words) > 1500
    assert not {"off", "on", "one", "wow", "learn", "follow", "dog", "marvin"} & set(words)
    assert not {"yes", "no", "up", "down", "left", "right", "stop", "go"} & set(words)
