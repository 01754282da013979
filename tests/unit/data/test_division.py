"""Who is in which split where nobody says: the official rule, and what is done where it leaves a split empty."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.data.corpus import SPLITS, Corpus, which_set
from mbx_deploy.data.reader import read_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def write(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * np.sin(np.arange(800) / (5 + number)), 16000)
        return tmp_path

    return write


def splits(corpus: Corpus, word: str) -> list[int]:
    return [corpus.counts(split)[word] for split in SPLITS]


def test_one_speaker_is_in_all_splits_and_it_is_told(folder: Callable[..., Path]) -> None:
    """As `data record --speaker anna` writes them."""
    root = folder(*(f"{word}/anna_nohash_{n:03d}.wav" for word in ("open", "close") for n in range(24)))
    corpus = read_corpus(root)
    assert corpus.kind == "recordings" and [splits(corpus, word) for word in corpus.labels] == [[20, 2, 2]] * 2
    assert "too few speakers to divide by" in corpus.notes[-1]
    told = CliRunner().invoke(cli, ["data", "inspect", str(root)])
    assert told.exit_code == 0 and "WRONG" not in told.stdout and "heard in training, too" in told.stdout
    assert read_corpus(root).utterances == corpus.utterances


def test_some_speakers_stay_together(folder: Callable[..., Path]) -> None:
    training = [f"s{n}" for n in range(200) if which_set(f"s{n}") == "training"][:8]
    root = folder(*(f"open/{speaker}_nohash_{n}.wav" for speaker in training for n in range(3)))
    corpus = read_corpus(root)
    assert corpus.kind == "speakers" and splits(corpus, "open") == [18, 3, 3]
    assert all(len({u.split for u in corpus.utterances if u.speaker == speaker}) == 1 for speaker in training)
    assert "8 speakers are few" in corpus.notes[-1]


def test_a_word_without_testing_clips_gets_some_and_others_stay(folder: Callable[..., Path]) -> None:
    names = {split: [n for n in range(900) if which_set(f"{n}.wav") == split] for split in SPLITS}
    own = {"open": names["training"][:20], "close": [n for split in SPLITS for n in names[split][20:24]]}
    root = folder(*(f"{word}/{n}.wav" for word, numbers in own.items() for n in numbers))
    corpus = read_corpus(root)
    assert corpus.kind == "hash" and splits(corpus, "open") == [16, 2, 2] and splits(corpus, "close") == [4, 4, 4]
    assert corpus.notes == ("the hash rule leaves a split without 'open': a tenth of its recordings is taken for each",)
    assert all(u.split == which_set(u.path.name) for u in corpus.utterances if u.label == "close")


def test_what_is_large_or_tiny_stays_as_the_rule_has_it(folder: Callable[..., Path]) -> None:
    training = [f"s{n}" for n in range(200) if which_set(f"s{n}") == "training"][:60]
    root = folder(*(f"open/{speaker}_nohash_0.wav" for speaker in training))
    assert Counter(u.split for u in read_corpus(root).utterances) == {"training": 60}
    for path in sorted((root / "open").iterdir())[9:]:
        path.unlink()
    corpus = read_corpus(root)
    assert Counter(u.split for u in corpus.utterances) == {"training": 9} and not corpus.notes


def test_stretches_of_one_recording_are_divided(folder: Callable[..., Path]) -> None:
    root = folder("long.wav")
    lines = (f'{{"audio_filepath": "long.wav", "offset": {n}, "duration": 1, "label": "open"}}\n' for n in range(20))
    (root / "mine.json").write_text("".join(lines))
    assert splits(read_corpus(root / "mine.json"), "open") == [16, 2, 2]
