"""Folders and manifests -> a Corpus, and from there to arrays; and what is refused on the way."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mbx_deploy.data import recordings
from mbx_deploy.data.audio import Recording, read_recording
from mbx_deploy.data.corpus import SPLITS, Utterance, check_disjoint, speaker_of, which_set
from mbx_deploy.data.dataset import (
    list_split,
    list_utterances,
    load_noise,
    load_speech_commands,
    load_split,
)
from mbx_deploy.data.protocols import class_of
from mbx_deploy.data.reader import read_corpus
from mbx_deploy.data.recordings import map_utterances, read_utterance
from mbx_deploy.errors import InputError

RATE_HZ = 16000
# By the hash rule; the first of each is in Speech Commands' own lists.
SPEAKERS = {
    "training": ("004ae714", "s0", "s1"),
    "validation": ("026290a7", "s3", "s21"),
    "testing": ("0c40e715", "s2", "s14"),
}


def write_clip(path: Path, value: int, count: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(count, value, np.int16), RATE_HZ, subtype="PCM_16")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words of nine speakers, and noise. The samples say which clip it is."""
    root = tmp_path_factory.mktemp("original")
    value = 0
    for word in ("yes", "no", "cat"):
        for speakers in SPEAKERS.values():
            for speaker in speakers:
                value += 1
                suffix = "flac" if value % 2 else "wav"
                write_clip(root / word / f"{speaker}_nohash_0.{suffix}", value)
    write_clip(root / "_background_noise_" / "hum.wav", 7, 40_000)
    return root


@pytest.fixture
def words(original: Path, tmp_path: Path) -> Path:
    """A copy of the original, to change."""
    return Path(shutil.copytree(original, tmp_path / "words"))


def write_manifest(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def line_of(utterance: Utterance, root: Path, **more: Any) -> dict[str, Any]:
    path = utterance.path.relative_to(root).as_posix()
    return {"audio_filepath": path, "duration": 1.0, "command": utterance.label, **more}


@pytest.fixture
def manifests(words: Path) -> Path:
    """The same data as NeMo's three manifests; the training manifest's path."""
    corpus = read_corpus(words)
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        write_manifest(words / f"{name}_manifest.json", [line_of(u, words) for u in corpus.split(split)])
    return words / "train_manifest.json"


@pytest.mark.parametrize("split", SPLITS)
def test_the_official_hash_rule(split: str) -> None:
    for speaker in SPEAKERS[split]:
        for name in (f"{speaker}_nohash_0.wav", f"bed/{speaker}_nohash_1.flac", f"/a/b/{speaker}_nohash_99.wav"):
            assert which_set(name) == split
    assert which_set("x_nohash_0.wav", 0, 0) == "training"
    assert which_set("x_nohash_0.wav", 100.1, 0) == "validation"
    assert which_set("x_nohash_0.wav", 0, 100.1) == "testing"


def test_speakers() -> None:
    assert speaker_of("yes/004ae714_nohash_0.wav") == "004ae714"
    assert speaker_of("yes/a_b_nohash_0.wav") == "a_b"
    assert speaker_of("yes/_nohash_0.wav") is None
    assert speaker_of("yes/take1.wav") is None


@pytest.mark.slow
def test_the_real_lists_are_the_hash_rule(speech_commands: Path) -> None:
    corpus = read_corpus(speech_commands)
    assert corpus.kind == "lists"
    # As the data says of itself: its testing list is what the rule gives to validation, all else is for training.
    for utterance in corpus.utterances:
        assert which_set(utterance.name) == ("validation" if utterance.split == "testing" else "training")
    assert len(corpus.noise) == 6
    check_disjoint(corpus)


def test_word_folders_are_divided_by_speaker(words: Path) -> None:
    corpus = read_corpus(words)
    assert (corpus.kind, corpus.labels) == ("hash", ("cat", "no", "yes"))
    for split in SPLITS:
        assert {utterance.speaker for utterance in corpus.split(split)} == set(SPEAKERS[split])
        names = [utterance.name for utterance in corpus.split(split)]
        assert names == sorted(names) == list_split(words, split)
    assert [path.name for path in corpus.noise] == ["hum.wav"]


def test_other_files_are_ignored_and_named(words: Path) -> None:
    (words / "yes" / "notes.txt").write_text("")
    (words / "yes" / "._004ae714_nohash_0.wav").write_text("left by another system")
    (words / ".git").mkdir()
    (words / "README.md").write_text("")
    corpus = read_corpus(words)
    assert corpus.ignored == ("yes/notes.txt",)
    assert len(corpus.utterances) == 27


def test_manifests_give_what_the_folder_gives(words: Path, manifests: Path) -> None:
    expected = read_corpus(words)
    (words / "validation_list.txt").write_text(
        "".join(f"{u.name}\n" for u in read_corpus(manifests).split("validation"))
    )
    (words / "testing_list.txt").write_text("".join(f"{u.name}\n" for u in read_corpus(manifests).split("testing")))
    assert read_corpus(words).kind == "lists"  # lists win over manifests in one folder
    for path in (manifests, words / "test_manifest.json", words):
        corpus = read_corpus(path)
        assert {(u.name, u.label, u.speaker, u.split) for u in corpus.utterances} == {
            (u.name, u.label, u.speaker, u.split) for u in expected.utterances
        }
    by_lists, by_manifests = (
        load_speech_commands(x, ("yes", "no", "unknown", "silence"), progress=False) for x in (words, manifests)
    )
    for split in SPLITS:
        first, second = by_lists[split], by_manifests[split]
        assert first.names == second.names
        for one, other in ((first.samples, second.samples), (first.classes, second.classes)):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(first.noise[0], second.noise[0])


def test_a_folder_of_manifests(tmp_path: Path, words: Path, manifests: Path) -> None:
    there = tmp_path / "manifests"
    for path in words.glob("*.json"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{**line, "audio_filepath": str(words / line["audio_filepath"])} for line in lines]
        write_manifest(there / path.name, lines)
    corpus = read_corpus(there)
    assert corpus.kind == "manifests"
    assert [len(corpus.split(split)) for split in SPLITS] == [9, 9, 9]
    assert corpus.utterances[0].name == str(words / "cat/004ae714_nohash_0.flac")
    assert corpus.utterances[0].origin == f"{there / 'train_manifest.json'}:1"


def test_a_manifest_alone(words: Path) -> None:
    lines = [line_of(u, words) for u in read_corpus(words).utterances]
    # Its name says no split: the hash rule, of the speaker where the line has one.
    lines[0]["speaker"] = "s3"
    corpus = read_corpus(write_manifest(words / "mine.jsonl", lines))
    assert corpus.kind == "hash"
    assert corpus.utterances[0].split == which_set("s3") == "validation"
    assert [u.split for u in corpus.utterances[1:]] == [which_set(u.name) for u in corpus.utterances[1:]]
    # Its name says one: it is that split, and the others are missed by name.
    alone = write_manifest(
        words / "alone" / "kws-test.json", [{**x, "audio_filepath": "../" + x["audio_filepath"]} for x in lines]
    )
    assert len(list_utterances(alone, "testing")) == 27
    with pytest.raises(InputError, match="no clips for training") as caught:
        list_utterances(alone, "training")
    assert "manifest" in (caught.value.hint or "")


def test_lines_of_every_form(words: Path) -> None:
    ramp = np.arange(32_000).astype(np.int16)
    soundfile.write(words / "ramp.wav", ramp, RATE_HZ, subtype="PCM_16")
    lines: list[Any] = [
        {"audio_filepath": "ramp.wav", "duration": 0.5, "offset": 0.25, "label": "yes", "speaker": 12, "text": "-"},
        "",
        {"audio_filename": str(words / "ramp.wav"), "target": "no", "duration": 0, "offset": None},
        {"audio_filepath": "./ramp.wav", "command": "cat", "label": "cat", "offset": 1, "duration": 1.01},
    ]
    path = write_manifest(words / "train.json", lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    corpus = read_corpus(path)
    assert [(u.label, u.speaker, u.offset_s, u.duration_s) for u in corpus.utterances] == [
        ("yes", "12", 0.25, 0.5),
        ("no", None, 0.0, None),
        ("cat", None, 1.0, 1.01),
    ]
    assert [u.name for u in corpus.utterances] == ["ramp.wav@0.25", "ramp.wav", "ramp.wav@1"]
    assert corpus.utterances[1].origin.endswith("train.json:3")
    sounds = [read_utterance(utterance) for utterance in corpus.utterances]
    for sound, (start, end) in zip(sounds, [(4000, 12_000), (0, 32_000), (16_000, 32_000)], strict=True):
        np.testing.assert_array_equal(sound, ramp[start:end])
    split = load_split(path, "training", ("yes", "no", "cat"), 16_000, progress=False)
    assert list(split.samples[0, [0, 7999, 8000]]) == [4000, 11_999, 0]
    assert list(split.classes) == [0, 1, 2]


def test_segments_of_one_file_are_read_once(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(words / "long.wav", np.arange(16_000).astype(np.int16), RATE_HZ, subtype="PCM_16")
    lines = [{"audio_filepath": "long.wav", "duration": 0.1, "offset": n / 10, "label": f"w{n % 3}"} for n in range(10)]
    corpus = read_corpus(write_manifest(words / "train.json", lines))
    read = []
    real = read_recording

    def counted(path: Path, rate_hz: int) -> Recording:
        read.append(path)
        return real(path, rate_hz)

    monkeypatch.setattr(recordings, "read_recording", counted)
    firsts = map_utterances(corpus.utterances, lambda number, _, samples: (number, int(samples[0])))
    assert firsts == [(n, 1600 * n) for n in range(10)]
    assert len(read) == 1


BAD_LINES: list[tuple[Any, str]] = [
    ("{", "broken line"),
    ("[1, 2]", "broken line"),
    ('"yes"', "broken line"),
    ("\x00\x01\x02", "broken line"),
    ("[" * 100_000, "broken line"),
    ("9" * 5000, "broken line"),
    ('{"label": "\udc80"}', "broken line"),
    ('{"audio_filepath": "a.wav", "label": "yes", "label": "no"}', "duplicated key.*'label'"),
    ('{"audio_filepath": "a.wav", "label": "yes", "duration": NaN}', "NaN"),
    ('{"audio_filepath": "a.wav", "label": "yes", "duration": 1e999}', "bad duration"),
    ({"label": "yes"}, "audio_filepath"),
    ({"audio_filepath": "a.wav", "duration": 1.0}, "command or target or label"),
    ({"audio_filepath": "a.wav", "command": "yes", "label": "no"}, "disagree"),
    ({"audio_filepath": 3, "label": "yes"}, "bad audio_filepath"),
    ({"audio_filepath": "a\0.wav", "label": "yes"}, "bad audio_filepath"),
    ({"audio_filepath": "", "label": "yes"}, "bad audio_filepath"),
    ({"audio_filepath": "a.wav", "label": ["yes"]}, "bad label"),
    ({"audio_filepath": "a.wav", "label": 1}, "bad label"),
    ({"audio_filepath": "a.wav", "label": "a\nb"}, "bad label"),
    ({"audio_filepath": "a.wav", "label": "yes", "duration": "1 s"}, "bad duration"),
    ({"audio_filepath": "a.wav", "label": "yes", "duration": True}, "bad duration"),
    ({"audio_filepath": "a.wav", "label": "yes", "offset": -1}, "bad offset"),
    ({"audio_filepath": "a.wav", "label": "yes", "offset": 1e9}, "bad offset"),
    ({"audio_filepath": "a.wav", "label": "yes", "speaker": [1]}, "bad speaker"),
    ({"audio_filepath": "x" * 300 + ".wav", "label": "yes"}, "missing"),
]


@pytest.mark.parametrize(("line", "named"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_is_named(tmp_path: Path, line: Any, named: str) -> None:
    write_clip(tmp_path / "good.wav", 1)
    path = tmp_path / "train.json"
    text = line if isinstance(line, str) else json.dumps(line)
    good = '{"audio_filepath": "good.wav", "label": "yes"}'
    path.write_bytes("\n".join([good, text, good]).encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=named) as caught:
        read_corpus(path)
    assert "train.json:2" in caught.value.what
    assert "\n" not in caught.value.what
    assert len(caught.value.what) < 800


def test_missing_recordings_are_counted(words: Path, manifests: Path) -> None:
    for speaker in SPEAKERS["training"]:
        for path in (words / "yes").glob(f"{speaker}_*"):
            path.unlink()
    with pytest.raises(InputError, match=r"train_manifest.json:7.*yes/004ae714_nohash_0.* and 2 more of 9"):
        read_corpus(manifests)
    (words / "testing_list.txt").write_text("no/s2_nohash_0.wav\nno/nobody.wav\nno/nothing.wav\n")
    (words / "validation_list.txt").write_text("")
    with pytest.raises(InputError, match=r"testing_list.txt:2.*no/nobody.wav and 1 more of 3"):
        read_corpus(words)


@pytest.mark.parametrize("offset", [1.0, 5.0])
def test_an_offset_beyond_the_end(words: Path, offset: float) -> None:
    path = write_manifest(
        words / "train.json", [{"audio_filepath": "yes/s1_nohash_0.flac", "offset": offset, "label": "yes"}]
    )
    (clip,) = (words / "yes").glob("s1_*")
    path.write_text(path.read_text().replace("s1_nohash_0.flac", clip.name))
    with pytest.raises(InputError, match=rf"train.json:1.*{clip.name}"):
        load_split(path, "training", ("yes", "unknown"), progress=False)


def test_nan_is_refused_by_name(words: Path) -> None:
    bad = words / "yes" / "s1_nohash_7.wav"
    soundfile.write(bad, np.array([0.0, np.nan, 0.5]), RATE_HZ, subtype="FLOAT")
    with pytest.raises(InputError, match=r"s1_nohash_7.wav.*finite"):
        load_split(words, "training", ("yes", "no"), progress=False)


def empty_class(root: Path) -> Path:
    (root / "dog").mkdir()
    return root


def only_in_testing(root: Path) -> Path:
    write_clip(root / "dog" / "s2_nohash_0.wav", 1)
    return root


def in_two_manifests(root: Path) -> Path:
    line = {"audio_filepath": "yes/s1_nohash_0.wav", "label": "yes"}
    write_clip(root / "yes" / "s1_nohash_0.wav", 1)
    for name in ("train", "val", "test"):
        write_manifest(root / f"{name}.json", [line, {**line, "label": "dog"}])
    return root / "train.json"


def two_for_one_split(root: Path) -> Path:
    for name in ("train", "test", "testing"):
        write_manifest(root / f"{name}.json", [{"audio_filepath": "yes/x", "label": "yes"}])
    return root / "train.json"


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (empty_class, "empty class.*'dog'"),
        (only_in_testing, "no training clips of 'dog'.*testing"),
        (in_two_manifests, r"two splits .*train.json:1 and .*val.json:1"),
        (two_for_one_split, "two manifests for testing"),
        (lambda root: root / "nowhere", "no data set"),
        (lambda root: root / "nowhere.json", "cannot read a manifest.*no such file"),
        (lambda root: root / "yes", "no recordings"),
        (lambda root: next((root / "yes").iterdir()), "no data set"),
        (lambda root: write_manifest(root / "train.json", [""]), "empty manifest"),
        (lambda root: root, "without recordings.*'dog'"),
    ],
)
def test_a_bad_data_set_is_named(words: Path, harm: Callable[[Path], Path], named: str) -> None:
    with pytest.raises(InputError, match=f"(?i){named}"):
        load_split(harm(words), "training", ("yes", "dog"), progress=False)


def test_a_word_that_is_not_trained_on_can_be_measured(words: Path) -> None:
    only_in_testing(words)
    assert len(load_split(words, "testing", ("yes", "dog"), progress=False).indices_of("dog")) == 1


def test_recorded_silence_is_no_unknown_word(words: Path) -> None:
    for speakers in SPEAKERS.values():
        write_clip(words / "silence" / f"{speakers[0]}_nohash_0.wav", 1)
    labels = ("yes", "unknown", "silence")
    assert class_of("silence", labels) == "silence"
    assert class_of("silence", ("yes", "unknown")) is None
    split = load_split(words, "testing", labels, progress=False)
    assert [split.names[index] for index in split.indices_of("silence")] == ["silence/0c40e715_nohash_0.wav"]
    assert len(load_split(words, "testing", ("yes", "unknown"), progress=False)) == 9


def test_noise_beside_the_manifest(words: Path, manifests: Path) -> None:
    assert [len(load_noise(manifests, split)[0]) for split in SPLITS] == [28_000, 6000, 6000]


def test_reading_data_needs_no_torch() -> None:
    code = "import sys, mbx_deploy.data.dataset, mbx_deploy.data.fetch, mbx_deploy.data.report; "
    code += "assert not {'torch', 'tensorflow', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
