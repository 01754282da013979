"""--data means one thing: lists, stretches of files of hours, text, tarred sets; for every command that takes it."""

import json
import subprocess
import time
import tracemalloc
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands import console
from mbx_deploy.commands.cli import cli
from mbx_deploy.data import stretches
from mbx_deploy.data.audio import read_recording
from mbx_deploy.data.corpus import Utterance, passed_over
from mbx_deploy.data.dataset import load_known, load_split
from mbx_deploy.data.inspection import inspect
from mbx_deploy.data.negatives import own_words
from mbx_deploy.data.reader import read_corpus, read_sounds
from mbx_deploy.data.recordings import read_utterance
from mbx_deploy.data.stretches import LongSound
from mbx_deploy.errors import InputError
from mbx_deploy.measure.items import find_clips
from mbx_deploy.nemo.clips import real_calibration

RATE_HZ = 16000


def write(path: Path, samples: np.ndarray, rate: int = RATE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def clip(value: int) -> np.ndarray:
    return np.full(RATE_HZ // 2, value, np.int16)


def manifest(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    for number in range(6):
        write(tmp_path / ("yes" if number % 2 else "no") / f"s{number}_nohash_0.wav", clip(100 + number))
    return tmp_path


# Lists.


def test_a_list_of_paths_words_and_speakers(words: Path) -> None:
    write(words / "phone" / "17.flac", clip(7))
    path = words / "mine.txt"
    path.write_bytes(
        b"\xef\xbb\xbfyes/s1_nohash_0.wav\r\n\r\nno\\s0_nohash_0.wav\r\nphone/17.wav\tyes\tanna\r\n"
        + f"{words / 'phone' / '17.flac'}\tno\n".encode()
    )
    corpus = read_corpus(path)
    assert [(u.label, u.speaker) for u in corpus.utterances] == [
        ("yes", "s1"),
        ("no", "s0"),
        ("yes", "anna"),
        ("no", None),
    ]
    assert corpus.utterances[2].path.name == "17.flac" and corpus.utterances[2].origin.endswith("mine.txt:4")
    assert read_utterance(corpus.utterances[2])[0] == 7
    assert [u.path.name for u in read_sounds(path, "testing")] == [u.path.name for u in corpus.utterances]


def test_lists_that_are_called_alike_are_the_splits(words: Path) -> None:
    for name, lines in {
        "train_list.txt": ("yes/s1", "no/s0"),
        "val_list.txt": ("yes/s3", "no/s2"),
        "test_list.txt": ("yes/s5",),
    }.items():
        (words / name).write_text("".join(f"{line}_nohash_0.wav\n" for line in lines))
    corpus = read_corpus(words / "test_list.txt")
    assert [len(corpus.split(split)) for split in ("training", "validation", "testing")] == [2, 2, 1]
    assert list(load_split(words / "val_list.txt", "training", ("yes", "no"), progress=False).samples[:, 0]) == [
        101,
        100,
    ]
    assert "its lists" in CliRunner().invoke(cli, ["data", "inspect", str(words / "train_list.txt")]).stdout


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "an empty list"),
        ("yes/s1_nohash_0.wav\nyes/gone.wav\nno/gone.wav\n", "mine.txt:2.*gone.wav and 1 more of 3"),
        ("loose.wav\n", "no word.*mine.txt:1"),
        ("yes/s1_nohash_0.wav\tyes\tanna\tx\n", "too many fields.*mine.txt:1"),
        ("yes/s1_nohash_0.wav\t" + "y" * 101, "bad word.*mine.txt:1"),
        ("\tyes\n", "bad path|no word"),
        ("a\0b\tyes\n", "bad path.*mine.txt:1"),
    ],
)
def test_a_bad_list_is_named(words: Path, text: str, named: str) -> None:
    (words / "mine.txt").write_text(text)
    with pytest.raises(InputError, match=named) as caught:
        read_corpus(words / "mine.txt")
    assert caught.value.hint or "fields" in named or "bad" in named


# Text.


def test_a_text_of_one_word_is_the_label_and_a_sentence_is_left_out_and_told(words: Path) -> None:
    path = manifest(
        words / "all.json",
        {"audio_filepath": "yes/s1_nohash_0.wav", "text": " yes "},
        {"audio_filepath": "no/s0_nohash_0.wav", "text": "turn the light on"},
        {"audio_filepath": "no/s2_nohash_0.wav", "text": ""},
        {"audio_filepath": "no/s4_nohash_0.wav", "text": "turn on", "command": "on"},
    )
    corpus = read_corpus(path)
    assert [utterance.label for utterance in corpus.utterances] == ["yes", "on"]
    first, second = passed_over(corpus)
    assert first.startswith("2 of 4 lines have a text that is not one word")
    assert "left out" in first and "all.json:2, 'turn the light on'" in first
    assert second.startswith("1 of 4 lines") and "their text, one word, is their label" in second
    told = CliRunner().invoke(cli, ["data", "inspect", str(path)]).stdout
    assert first in told and second in told


def test_a_manifest_of_sentences_is_refused(words: Path) -> None:
    path = manifest(words / "asr.json", {"audio_filepath": "no/s0_nohash_0.wav", "text": "turn the light on"})
    with pytest.raises(InputError, match=r"no line says a word.*asr.json:1, 'turn the light on'") as caught:
        read_corpus(path)
    assert '"command"' in (caught.value.hint or "")


def test_other_words_of_a_manifest_are_called_by_their_labels(words: Path) -> None:
    lines = [{"audio_filepath": f"no/s{n}_nohash_0.wav", "label": label} for n, label in ((0, "yes"), (2, "tree"))]
    split = load_known(manifest(words / "x.json", *lines), "all", ("yes", "unknown"), progress=False)
    assert own_words(split).words == ("tree",)
    assert split.take(np.array([1])).spoken == ("tree",)


# Tarred data sets.


def tarred(folder: Path, *, unpack: bool) -> Path:
    """A tarred data set, as NeMo's script writes it: two stretches of one file, and another file."""
    write(folder / "raw" / "a_b.wav", np.repeat(np.array([1, 2], np.int16), RATE_HZ))
    write(folder / "raw" / "c.wav", clip(3))
    subprocess.run(["tar", "-cf", folder / "audio_0.tar", "-C", folder / "raw", "a_b.wav", "c.wav"], check=True)
    if unpack:
        subprocess.run(["tar", "-xf", "audio_0.tar"], cwd=folder, check=True)
    row = {"duration": 0.5, "shard_id": 0}
    return manifest(
        folder / "tarred_audio_manifest.json",
        {"audio_filepath": "a_b.wav", "label": "yes", "offset": 0.0, **row},
        {"audio_filepath": "a_b-sub1.wav", "label": "no", "offset": 1.0, **row},
        {"audio_filepath": "c.wav", "label": "no", **row},
    )


@pytest.mark.parametrize(
    "name", ["", "tarred_audio_manifest.json", "audio_0.tar", "audio__OP_0..7_CL_.tar", "a_{0..7}.tar"]
)
def test_a_tarred_data_set_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    tarred(tmp_path, unpack=False)
    for read in (read_corpus, lambda path: read_sounds(path, "testing")):
        with pytest.raises(InputError, match=r"a tarred data set is not read .*need the recordings") as caught:
            read(tmp_path / name)
        assert "tar -xf" in (caught.value.hint or "")


def test_what_the_hint_says_does(tmp_path: Path) -> None:
    corpus = read_corpus(tarred(tmp_path, unpack=True))
    assert [(u.label, int(read_utterance(u)[0])) for u in corpus.utterances] == [("yes", 1), ("no", 2), ("no", 3)]


# What lies elsewhere in a folder.


def test_recordings_outside_of_words_are_counted(words: Path) -> None:
    write(words / "loose.wav", clip(1))
    write(words / "yes" / "anna" / "old" / "deep.wav", clip(1))
    write(words / "yes" / "anna" / "x.wav", clip(1))
    (line,) = [line for line in passed_over(read_corpus(words)) if "no folder says their word" in line]
    assert line.startswith("2 recordings are not used") and "loose.wav" in line and "yes/anna/old/deep.wav" in line
    found = {u.name: u.label for u in read_sounds(words, "testing")}
    assert found["loose.wav"] == "" and found["yes/anna/x.wav"] == "yes" and len(found) == 9


# Stretches of long files.


def utterance(path: Path, offset_s: float, duration_s: float | None = 1.0) -> Utterance:
    return Utterance(path, path.name, "x", None, "training", offset_s, duration_s, f"m.json:{round(offset_s)}")


@pytest.fixture(scope="module")
def long_sound() -> np.ndarray:
    """Ten minutes and ten seconds, 44.1 kHz, that are nowhere alike."""
    return np.random.default_rng(1).integers(-9000, 9000, 610 * 44100, dtype=np.int16)


@pytest.mark.parametrize("rate", [44100, 16000])
def test_a_stretch_is_what_the_whole_has_there(long_sound: np.ndarray, rate: int, tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", long_sound[: 605 * rate], rate)
    whole = read_recording(path, RATE_HZ, 1000).samples
    lines = [utterance(path, at) for at in (0.0, 0.1, 123.456, 602.01, 604.5)]
    with pytest.raises(InputError, match=r"too long.*at most 600 s") as caught:
        read_utterance(utterance(path, 0.0, None))
    assert "offset and duration" in (caught.value.hint or "")
    for line in lines:
        start = round(line.offset_s * RATE_HZ)
        np.testing.assert_array_equal(read_utterance(line), whole[start : start + RATE_HZ])
    np.testing.assert_array_equal(read_utterance(utterance(path, 600.25, None)), whole[round(600.25 * RATE_HZ) :])
    with pytest.raises(InputError, match=r"no sound where a line says \(m.json:605.*need a part of its 605 s"):
        read_utterance(utterance(path, 605.0))
    with pytest.raises(InputError, match=r"too long.*m.json:1.*a stretch of 601 s"):
        read_utterance(utterance(path, 1.0, 601.0))


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "late_ms"), [("flac", 0), ("mp3", 0), ("opus", 0), ("m4a", 0), ("webm", 10)])
def test_stretches_of_other_formats(long_sound: np.ndarray, suffix: str, late_ms: int, tmp_path: Path) -> None:
    """late_ms: how much a seek of ffmpeg's may miss."""
    source = write(tmp_path / "long.wav", long_sound[: 20 * 44100], 44100)
    path = tmp_path / f"long.{suffix}"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", source, path], check=True)
    whole = read_recording(path).samples.astype(np.int64)
    with LongSound(path, RATE_HZ) as sound:
        for at in (0.0, 0.1, 13.3, 12.25):
            found = sound.read(utterance(path, at)).samples.astype(np.int64)
            lags = range(-late_ms * 16, late_ms * 16 + 1)
            starts = [max(round(at * RATE_HZ) + lag, 0) for lag in lags]
            assert min(np.abs(found - whole[start : start + RATE_HZ]).mean() for start in starts) < 1.0


def test_a_flac_that_does_not_say_how_long_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.flac", np.arange(3 * RATE_HZ).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the count of samples in STREAMINFO: 0, not known
    data[22:26] = bytes(4)
    path.write_bytes(data)
    monkeypatch.setattr(stretches, "_BLOCK_FRAMES", 1000)
    with LongSound(path, RATE_HZ) as sound:
        for at in (2.0, 0.5, 1.0):
            samples = sound.read(utterance(path, at, 0.1)).samples
            assert samples[0] == np.int16(round(at * RATE_HZ) & 0xFFFF).astype(np.int16) and len(samples) == 1600
        with pytest.raises(InputError, match="no sound where a line says"):
            sound.read(utterance(path, 9.0))


def test_twelve_hours_cost_what_a_stretch_costs(tmp_path: Path) -> None:
    """A file of 1.4 GB, sparse on the disk; ten stretches of it through a manifest."""
    path = tmp_path / "day.wav"
    soundfile.write(path, np.zeros(8, np.int16), RATE_HZ)
    size = 12 * 3600 * RATE_HZ * 2
    with path.open("r+b") as file:
        head = bytearray(file.read(44))
        head[4:8], head[40:44] = (36 + size).to_bytes(4, "little"), size.to_bytes(4, "little")
        file.seek(0)
        file.write(head)
        file.truncate(44 + size)
        for hour in range(10):
            file.seek(44 + 2 * (hour * 3600 + 1) * RATE_HZ)
            file.write(np.full(RATE_HZ, 1000 + hour, np.int16).tobytes())
    lines = [
        {"audio_filepath": "day.wav", "offset": 3600 * hour + 1, "duration": 1, "label": "yes", "speaker": f"s{hour}"}
        for hour in range(10)
    ]
    path = manifest(tmp_path / "train.json", *lines)
    begun = time.process_time()
    tracemalloc.start()
    try:
        split = load_split(path, "training", ("yes", "no", "unknown")[::2], progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [int(row.min()) for row in split.samples] == [1000 + hour for hour in range(10)]
    assert split.voices == [f"s{hour}" for hour in range(10)]
    assert peak < 8 << 20 and time.process_time() - begun < 5
    lines[3]["offset"] = 12 * 3600
    found = inspect(manifest(tmp_path / "train.json", *lines))
    assert list(found.broken) == [f"day.wav@{12 * 3600}"] and found.splits["training"]["clips"] == 10


# What needs no words.


def test_recordings_to_verify_with_and_to_calibrate_on(words: Path) -> None:
    """Stretches of a file, of the split where the names say one; words where there are any, by their labels."""
    write(words / "long.wav", np.repeat(np.arange(1, 9, dtype=np.int16), RATE_HZ))
    for name, first, label in (("train.json", 0, "yes"), ("test.json", 4, "no")):
        rows = [{"audio_filepath": "long.wav", "offset": first + n, "duration": 1, "label": label} for n in range(4)]
        manifest(words / name, *rows)
    heard = find_clips(words / "train.json", 3)
    assert [read_utterance(utterance)[0] for utterance in heard] == [5, 6, 7]
    found = real_calibration(words / "test.json", RATE_HZ, RATE_HZ, ("yes", "no"), 4)
    assert sorted(found.clips[:, 0]) == [1, 2, 3, 4] and found.text.startswith("4 recordings of 1 of 2 words")
    by_folder = real_calibration(words, RATE_HZ, RATE_HZ, ("yes",), 3)
    assert sorted(by_folder.clips[:, 0]) == [101, 103, 105]
    (words / "mine.txt").write_text("yes/s1_nohash_0.wav\nno/s2_nohash_0.wav\n")
    assert [utterance.label for utterance in find_clips(words / "mine.txt", None)] == ["yes", "no"]


# Every command.


def takes_data(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [found for one in command.commands.values() for found in takes_data(one)]
    return [command] if any("--data" in parameter.opts for parameter in command.params) else []


def test_every_command_says_the_same_of_its_data() -> None:
    found = {command.name: next(p for p in command.params if "--data" in p.opts) for command in takes_data(cli)}
    assert set(found) == {
        *("train", "finetune", "export", "sqnr", "evaluate", "regress", "card", "verify", "report", "build", "import"),
    }
    assert all(getattr(option, "help", "").startswith(console.DATA_SET) for option in found.values())


@pytest.mark.parametrize("form", ["manifest", "list"])
def test_evaluate_takes_manifests_and_lists(form: str, small_data: Path, tmp_path: Path) -> None:
    names = ("yes/a_nohash_0.wav", "yes/f_nohash_0.wav", "go/b_nohash_0.wav")
    if form == "list":
        data = tmp_path / "mine.txt"
        data.write_text("".join(f"{small_data / name}\n" for name in names))
    else:
        rows = [{"audio_filepath": str(small_data / name), "command": name.split("/")[0]} for name in names]
        data = manifest(tmp_path / "mine.json", *rows)
    found = tmp_path / "found.json"
    line = ["evaluate", "kws10", "--data", str(data), "--split", "all", "--snr", "none", "--json", str(found)]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    rows = [row for row in json.loads(found.read_text())["heard"] if not row["clip"].startswith("silence/")]
    assert {Path(row["clip"]).name for row in rows} == {Path(name).name for name in names}
