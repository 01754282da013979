"""Recording words, a file or a pipe in the microphone's place: what is kept, what is said, and going on later."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.data.corpus import SPLITS
from mbx_deploy.data.dataset import load_split
from mbx_deploy.data.inspection import inspect
from mbx_deploy.data.reader import read_corpus
from mbx_deploy.data.streams import wav_bytes
from mbx_deploy.live.record import RecordOptions

RATE_HZ = 16000
ROOT = Path(__file__).resolve().parents[3]


def quiet(seconds: float, level: float = 20.0) -> np.ndarray:
    return np.random.default_rng(round(seconds * 100)).normal(0, level, round(seconds * RATE_HZ))


def said(seconds: float = 0.5, level: float = 6000.0) -> np.ndarray:
    return level * np.sin(np.arange(round(seconds * RATE_HZ)) / 5)


def sound(*parts: np.ndarray) -> np.ndarray:
    """A second of silence for the room, then parts with pauses between them."""
    pieces = [quiet(1.0)]
    for part in parts:
        pieces += [part, quiet(1.2)]
    return np.clip(np.rint(np.concatenate(pieces)), -32768, 32767).astype(np.int16)


def record(folder: Path, samples: np.ndarray, *options: str, keys: str | None = None) -> Result:
    """Run `data record` on a recording; keys: what the person types, without them nobody is asked."""
    path = folder / "heard.wav"
    soundfile.write(path, samples, RATE_HZ)
    line = ["data", "record", "-o", str(folder / "out"), "--silence", "1", "--input", str(path), *options]
    return CliRunner().invoke(cli, line if keys is not None else [*line, "--auto"], input=keys)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*") if path.is_file())


def test_a_folder_that_is_a_data_set(tmp_path: Path) -> None:
    result = record(
        tmp_path, sound(*[said()] * 4), "--words", "left,right", "--takes", "2", "--speaker", "anna", "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["complete"] and told["words"] == {w: {"new": 2, "clips": 2} for w in ("left", "right")}
    assert -70 < told["room_dbfs"] < -55 and told["silence"] == 1 and told["not_kept"] == {}
    assert names(tmp_path) == [
        f"{word}/anna_nohash_{number:03d}.wav"
        for word, count in (("left", 2), ("right", 2), ("silence", 1))
        for number in range(count)
    ]
    for path in (tmp_path / "out").rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
        assert info.duration == pytest.approx(1.0, abs=0.06)
    clip, _ = soundfile.read(tmp_path / "out" / "left" / "anna_nohash_001.wav", dtype="int16")
    loud = np.flatnonzero(np.abs(clip) > 3000)
    assert loud[0] > 0.2 * RATE_HZ and 0.45 < (loud[-1] - loud[0]) / RATE_HZ < 0.55
    found = inspect(tmp_path / "out")
    assert found.sound and found.labels.keys() == {"left", "right", "silence"}
    (split,) = {utterance.split for utterance in read_corpus(tmp_path / "out").utterances}
    assert load_split(tmp_path / "out", split, ("left", "right", "silence"), progress=False).voices == ["anna"] * 5


def test_as_many_takes_as_are_asked_for_are_enough_to_fine_tune(tmp_path: Path) -> None:
    (tmp_path / "go").mkdir()
    for number in range(RecordOptions(tmp_path, ("go",)).takes):
        soundfile.write(tmp_path / "go" / f"anna_nohash_{number:03d}.wav", said(), RATE_HZ)
    corpus = read_corpus(tmp_path)
    assert corpus.counts("training")["go"] >= 10 and min(len(corpus.split(split)) for split in SPLITS) > 0


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.clip(said(level=90_000.0), -32768, 32767), "clipped"),
        (said(level=300.0), "too quiet"),
        (said(2.5), "too long"),
        (quiet(3.5), "nothing heard"),
        (np.concatenate([said(0.05), quiet(4.0)]), "nothing heard"),  # a click
    ],
)
def test_a_bad_take_is_told_and_taken_again(tmp_path: Path, bad: np.ndarray, why: str) -> None:
    result = record(tmp_path, sound(bad, quiet(0.1), said()), "--words", "go", "--takes", "1", "--json")
    told = json.loads(result.stdout)
    assert told["complete"] and any(name.startswith(why) for name in told["not_kept"])
    assert f"  {why}" in result.stderr and "  good: " in result.stderr
    assert names(tmp_path) == ["go/take_000.wav", "silence/take_000.wav"]


def test_the_keys(tmp_path: Path) -> None:
    """Enter for the room, a take; r, which takes that one again; x is no key; s skips the word; q quits."""
    heard = sound(said(0.3), said(0.6), said(0.4), said(0.4))
    result = record(tmp_path, heard, "--words", "left,right,up", "--takes", "2", keys="\n\nr\nx\ns\n\nq\n")
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["left/take_000.wav", "right/take_000.wav", "silence/take_000.wav"]
    clip, _ = soundfile.read(tmp_path / "out" / "left" / "take_000.wav", dtype="int16")
    loud = np.flatnonzero(np.abs(clip) > 3000)
    assert (loud[-1] - loud[0]) / RATE_HZ == pytest.approx(0.6, abs=0.02)  # the second one
    assert "the same line goes on from here" in result.stdout


def test_the_last_take_again(tmp_path: Path) -> None:
    result = record(tmp_path, sound(said(0.3), said(0.6)), "--words", "left", "--takes", "1", keys="\n\nr\n\n")
    assert "all done" in result.stderr and "each word has its takes" in result.stdout
    clip, _ = soundfile.read(tmp_path / "out" / "left" / "take_000.wav", dtype="int16")
    assert np.count_nonzero(np.abs(clip) > 3000) / RATE_HZ > 0.3


def test_the_same_line_goes_on(tmp_path: Path) -> None:
    options = ("--words", "left", "--takes", "3", "--speaker", "anna", "--json")
    first = record(tmp_path, sound(said(), said()), *options)
    assert first.exit_code == 0 and not json.loads(first.stdout)["complete"] and "the sound has ended" in first.stderr
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path)}
    second = record(tmp_path, sound(said(0.7), said(0.8)), *options)
    assert json.loads(second.stdout)["words"] == {"left": {"new": 1, "clips": 3}}
    assert all((tmp_path / "out" / name).read_bytes() == data for name, data in before.items())
    third = record(tmp_path, sound(said()), *(*options[:5], "bert", *options[6:]))
    assert json.loads(third.stdout)["words"] == {"left": {"new": 1, "clips": 4}}
    assert "left/bert_nohash_000.wav" in names(tmp_path)


def test_a_loud_room_and_a_muted_one(tmp_path: Path) -> None:
    loud = np.concatenate([quiet(1.0, 400.0), said(level=20_000.0), quiet(1.0, 400.0)])
    assert "the room is loud" in record(tmp_path, loud.astype(np.int16), "--words", "go", "--takes", "1").stderr
    muted = np.concatenate([np.zeros(RATE_HZ), said(), np.zeros(RATE_HZ)])
    assert "digital silence" in record(tmp_path, muted.astype(np.int16), "--words", "up", "--takes", "1").stderr


def test_a_word_in_the_silence_is_not_kept_as_silence(tmp_path: Path) -> None:
    heard = np.concatenate([quiet(0.3), said(0.3), sound(said())]).astype(np.int16)
    result = record(tmp_path, heard, "--words", "go", "--takes", "1")
    assert "something was heard in it" in result.stderr and names(tmp_path) == ["go/take_000.wav"]


def test_nobody_speaks(tmp_path: Path) -> None:
    result = record(tmp_path, sound(quiet(45.0)), "--words", "go", "--takes", "1")
    assert result.exit_code == 2 and "no word was understood" in result.stderr and "hint:" in result.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--words", "a/b"], "bad word (--words)"),
        (["--words", "go,go"], "a word twice"),
        (["--words", "go,silence"], "a word too many"),
        (["--words", "go", "--speaker", "../x"], "bad word (--speaker)"),
        (["--words", "go", "--device", "1"], "--device is for a microphone"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: list[str], named: str) -> None:
    result = record(tmp_path, sound(said()), *options)
    assert result.exit_code == 2 and named in result.stderr
    assert not (tmp_path / "out").exists() or names(tmp_path) == []


def test_no_microphone_is_one_line_and_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = CliRunner().invoke(cli, ["data", "record", "--words", "go", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2 and "sounddevice is not installed" in result.stderr and "hint: " in result.stderr


def test_ctrl_c_keeps_what_was_recorded(tmp_path: Path) -> None:
    """The sound comes in a pipe, whose writer waits after two takes; then the person has had enough."""
    line = [sys.executable, "-m", "mbx_deploy", "data", "record", "--words", "go", "--input", "-", "--silence", "1"]
    child = subprocess.Popen(
        [*line, "-o", str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdin is not None
    child.stdin.write(wav_bytes(sound(said(), said()), RATE_HZ)[44:])
    child.stdin.flush()
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "go" / "take_001.wav").is_file():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=30)
    assert child.returncode == 130 and b"interrupted" in told
    assert names(tmp_path) == ["go/take_000.wav", "go/take_001.wav", "silence/take_000.wav"]
