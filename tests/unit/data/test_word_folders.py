"""How people's folders are read: nested by word or by speaker, in two forms, with other names; what is passed over."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.data import formats
from mbx_deploy.data.corpus import passed_over
from mbx_deploy.data.dataset import load_split
from mbx_deploy.data.reader import read_corpus
from mbx_deploy.system.documents import parse_toml

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(*names: str, content: bytes | None = None) -> None:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                soundfile.write(path, 0.1 * np.sin(np.arange(8000) / (5 + number)), 16000, format="WAV")
            else:
                path.write_bytes(content)

    return write


@pytest.mark.parametrize("form", ["{word}/{speaker}/{n}.wav", "{speaker}/{word}/{n}.wav"])
def test_folders_in_folders(put: Put, tmp_path: Path, form: str) -> None:
    for word in ("yes", "no"):
        for speaker in ("anna", "bert", "carl-7"):
            put(*(form.format(word=word, speaker=speaker, n=n) for n in range(2)))
    corpus = read_corpus(tmp_path)
    assert corpus.labels == ("no", "yes")
    assert {(u.label, u.speaker) for u in corpus.utterances} == {
        (word, speaker) for word in ("yes", "no") for speaker in ("anna", "bert", "carl-7")
    }
    assert all(u.name.startswith(f"{u.label}/{u.speaker}/") and u.path.is_file() for u in corpus.utterances)
    for speaker in ("anna", "bert", "carl-7"):
        assert len({u.split for u in corpus.utterances if u.speaker == speaker}) == 1
    outer = "speaker/word" if form.startswith("{speaker}") else "word/speaker"
    assert passed_over(corpus) == [f"folders in folders are read as {outer}/file"]


def test_one_of_two_forms_is_used_and_told(put: Put, tmp_path: Path) -> None:
    put("yes/a.mp3", "yes/a.wav", "yes/b.wav", "no/a.wav")
    corpus = read_corpus(tmp_path)
    assert sorted(u.name for u in corpus.utterances) == ["no/a.wav", "yes/a.wav", "yes/b.wav"]
    assert passed_over(corpus) == ["1 files are not used, for one of the same name beside them is: yes/a.mp3"]


def test_what_needs_ffmpeg_is_counted_by_word(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_tool", lambda name: None)
    put("yes/a.m4a", "yes/b.webm", "no/c.m4a", "no/d.wav", "yes/e.wav")
    line = passed_over(read_corpus(tmp_path))[0]
    assert line.startswith("3 files look like sound and are not used") and "no 1, yes 2" in line
    told = CliRunner().invoke(cli, ["data", "inspect", str(tmp_path)])
    assert line in told.output


def test_capitals_and_an_empty_folder_of_noise(put: Put, tmp_path: Path) -> None:
    put("Yes/a.wav", "yes/b.wav", "no/c.wav")
    put("_background_noise_/readme.txt", content=b"")
    assert passed_over(read_corpus(tmp_path)) == [
        "_background_noise_ holds no recording that can be read: noise is generated",
        "folders that differ in capital letters only are different words: 'Yes', 'yes'",
    ]


def test_lists_as_windows_and_macs_write_them(put: Put, tmp_path: Path) -> None:
    """A byte order mark, backslashes, and composed letters for what the disk keeps decomposed."""
    word = unicodedata.normalize("NFD", "für")
    put(f"{word}/a.wav", f"{word}/b.wav", "no/c.wav")
    (tmp_path / "validation_list.txt").write_bytes(b"\xef\xbb\xbf")
    (tmp_path / "testing_list.txt").write_bytes("für\\a.wav\r\nno\\c.wav\r\n".encode("utf-8-sig"))
    corpus = read_corpus(tmp_path)
    assert corpus.labels == ("für", "no")
    assert sorted(u.split for u in corpus.utterances if u.label == "für") == ["testing", "training"]
    assert parse_toml("labels = ['für']".encode("utf-8-sig")) == {"labels": ["für"]}


def test_a_manifests_speaker_counts(put: Put, tmp_path: Path) -> None:
    put("a.wav", "b.wav", "c.wav")
    lines = [
        f'{{"audio_filepath": "{n}.wav", "command": "yes", "speaker": "{s}"}}'
        for n, s in zip("abc", "xxy", strict=True)
    ]
    (tmp_path / "train_manifest.json").write_text("\n".join(lines))
    split = load_split(tmp_path / "train_manifest.json", "training", ("yes",), progress=False)
    assert split.voices == ["x", "x", "y"]
