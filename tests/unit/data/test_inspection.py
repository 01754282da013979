"""What `mbx-deploy data inspect` finds."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.data.inspection import Inspection, inspect, is_clipped
from mbx_deploy.data.report import render_inspection

RATE_HZ = 16000


def sine(amplitude: float, hz: float = 440.0, count: int = RATE_HZ) -> np.ndarray:
    return np.rint(amplitude * np.sin(2 * np.pi * hz * np.arange(count) / RATE_HZ)).astype(np.int16)


def write_clip(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype=subtype)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two words, of three speakers each, one in each split. Every clip is another sound."""
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for number, word in enumerate(("no", "yes")):
        for speaker, split in enumerate(("training", "validation", "testing")):
            name = f"{word}/s{speaker}_nohash_0.wav"
            write_clip(tmp_path / name, sine(8000, 300 + 100 * number + 10 * speaker))
            if split in lists:
                lists[split].append(name)
    for split, names in lists.items():
        (tmp_path / f"{split}_list.txt").write_text("\n".join(names))
    write_clip(tmp_path / "_background_noise_" / "hum.wav", sine(100, 50, 2 * RATE_HZ))
    return tmp_path


def add(root: Path, name: str, split: str = "training") -> Path:
    if split != "training":
        with (root / f"{split}_list.txt").open("a") as file:
            file.write(f"\n{name}")
    return root / name


def test_sound_data(root: Path) -> None:
    found = inspect(root)
    assert found.sound
    assert found.labels["yes"] == {"training": 1, "validation": 1, "testing": 1}
    assert found.splits["testing"] == {"clips": 2, "seconds": 2.0, "speakers": 1, "without_speaker": 0}
    assert found.length_s == {"min": 1.0, "p5": 1.0, "median": 1.0, "p95": 1.0, "max": 1.0}
    assert found.peak_dbfs["median"] == pytest.approx(20 * np.log10(8000 / 32768), abs=0.06)
    assert found.rms_dbfs["median"] == pytest.approx(20 * np.log10(8000 / 32768) - 3.01, abs=0.06)
    assert found.noise == {"files": 1, "seconds": 2.0}
    lists = ("silent", "clipped", "overlong", "duplicates", "conflicts", "audio_leaks", "empty_labels", "ignored")
    assert not any(getattr(found, name) for name in lists)
    assert "nothing leaks" in render_inspection(found)


def test_what_is_noted_and_is_no_fault(root: Path) -> None:
    write_clip(add(root, "no/s9_nohash_0.wav"), np.clip(sine(32767) * 1.5, -32768, 32767).astype(np.int16))
    write_clip(add(root, "no/s9_nohash_1.wav"), sine(8000, 300))  # s0's
    write_clip(add(root, "yes/s9_nohash_2.wav"), sine(8000, 300))
    write_clip(add(root, "no/s9_nohash_3.wav"), np.zeros(8000, np.int16))
    write_clip(add(root, "no/s9_nohash_4.wav", "testing").with_name("s2_nohash_4.wav"), np.zeros(8000, np.int16))
    (root / "testing_list.txt").write_text(
        (root / "testing_list.txt").read_text().replace("s9_nohash_4", "s2_nohash_4")
    )
    write_clip(add(root, "no/take1.wav"), np.repeat(sine(999), 2), 2 * RATE_HZ)
    write_clip(add(root, "only/s2_nohash_0.wav", "testing"), sine(8000, 900, 20_000))
    write_clip(add(root, "no/s9_nohash_5.wav"), 1.5 * np.sin(np.arange(RATE_HZ)), subtype="FLOAT")
    (root / "empty").mkdir()
    (root / "no" / "x.txt").write_text("")
    found = inspect(root)
    assert found.sound
    assert found.clipped == ["no/s9_nohash_0.wav", "no/s9_nohash_5.wav"]
    assert found.duplicates == [["no/s0_nohash_0.wav", "no/s9_nohash_1.wav", "yes/s9_nohash_2.wav"]]
    assert found.conflicts == [["no: no/s0_nohash_0.wav", "no: no/s9_nohash_1.wav", "yes: yes/s9_nohash_2.wav"]]
    assert found.silent == ["no/s9_nohash_3.wav", "no/s2_nohash_4.wav"]
    assert (found.shorter_than_a_second, found.longer_than_a_second) == (2, 1)
    assert found.splits["training"]["without_speaker"] == 1
    assert found.conversions["converted from 32000 Hz to 16000 Hz"] == 1
    assert found.empty_labels == ["empty"]
    assert found.labels_only_in_testing == ["only"]
    assert found.ignored == ["no/x.txt"]
    text = render_inspection(found)
    for line in ("clipped: 2", "digital silence: 2", "labels without a recording: 1", "1 other files ignored: 1 .txt"):
        assert line in text.splitlines()


def speaker_leak(root: Path) -> None:
    write_clip(add(root, "yes/s0_nohash_1.wav", "testing"), sine(8000, 700))


def audio_leak(root: Path) -> None:
    write_clip(add(root, "yes/s2_nohash_1.wav", "testing"), sine(8000, 300))


def listed_twice(root: Path) -> None:
    add(root, "yes/s1_nohash_0.wav", "testing")


def cut_file(root: Path) -> None:
    path = root / "yes" / "s0_nohash_0.wav"
    path.write_bytes(path.read_bytes()[:1000])


def nan_file(root: Path) -> None:
    write_clip(root / "yes" / "s0_nohash_0.wav", np.array([0.0, np.nan]), subtype="FLOAT")


def empty_file(root: Path) -> None:
    (root / "yes" / "s0_nohash_0.wav").write_bytes(b"")


def broken_noise(root: Path) -> None:
    (root / "_background_noise_" / "hiss.wav").write_text("hiss")


@pytest.mark.parametrize(
    ("harm", "title", "named"),
    [
        (speaker_leak, "speakers in two splits: 1", "s0: training, testing"),
        (audio_leak, "sounds in two splits: 1", "testing: yes/s2_nohash_1.wav = training: no/s0_nohash_0.wav"),
        (listed_twice, "sounds in two splits: 1", "testing: yes/s1_nohash_0.wav = validation: yes/s1_nohash_0.wav"),
        (cut_file, "files that cannot be read: 1", "yes/s0_nohash_0.wav: the recording is cut short"),
        (nan_file, "files that cannot be read: 1", "finite"),
        (empty_file, "files that cannot be read: 1", "yes/s0_nohash_0.wav"),
        (broken_noise, "files that cannot be read: 1", "_background_noise_/hiss.wav"),
    ],
)
def test_faults(root: Path, harm, title: str, named: str) -> None:  # type: ignore[no-untyped-def]
    harm(root)
    done = CliRunner().invoke(cli, ["data", "inspect", str(root)])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    at = lines.index(f"WRONG, {title}")
    assert named in lines[at + 1]
    assert "inspect: " in done.stderr
    again = CliRunner().invoke(cli, ["data", "inspect", str(root), "--json"])
    assert again.exit_code == 1
    assert json.loads(again.stdout)["sound"] is False


def test_nothing_can_be_read(root: Path) -> None:
    for path in root.glob("*/*.wav"):
        path.write_text("no sound")
    found = inspect(root)
    assert len(found.broken) == 7
    assert found.rms_dbfs == {}
    assert "no clip can be read" in render_inspection(found)


def test_a_manifest(root: Path) -> None:
    line = {"audio_filepath": "yes/s0_nohash_0.wav", "duration": 1.5, "label": "yes"}
    for name, lines in (("train", [line, line]), ("val", [{**line, "offset": 0.5}]), ("test", [{**line, "offset": 2}])):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = inspect(root / "train.jsonl")
    assert found.repeated == 1
    assert found.duplicates == []
    assert found.overlong == ["yes/s0_nohash_0.wav", "yes/s0_nohash_0.wav", "yes/s0_nohash_0.wav@0.5"]
    assert list(found.broken) == ["yes/s0_nohash_0.wav@2"]
    assert f"{root / 'test.jsonl'}:1" in found.broken["yes/s0_nohash_0.wav@2"]
    assert found.speaker_leaks == {"s0": ["training", "validation", "testing"]}
    (root / "train.jsonl").write_text("{")
    done = CliRunner().invoke(cli, ["data", "inspect", str(root / "train.jsonl")])
    assert done.exit_code == 2
    assert "train.jsonl:1" in done.stderr


def test_clipping_is_a_run_at_full_scale() -> None:
    def wave(*samples: int) -> np.ndarray:
        return np.array(samples, np.int16)

    assert is_clipped(wave(32767, 32767, 32767))
    assert is_clipped(wave(0, -32768, -32767, -32768))
    assert not is_clipped(wave(32767, 32767, 0, 32767))
    assert not is_clipped(wave(32767, -32768, 32767, -32768))
    assert not is_clipped(wave(32766, 32766, 32766))
    assert not is_clipped(wave())


def test_the_same_data_gives_the_same_json(root: Path) -> None:
    first, again = (json.dumps(inspect(root).to_dict(), sort_keys=True) for _ in range(2))
    assert first == again
    assert Inspection(**{k: v for k, v in json.loads(first).items() if k != "sound"}) == inspect(root)


@pytest.mark.slow
def test_the_real_data(speech_commands: Path) -> None:
    start = time.monotonic()
    found = inspect(speech_commands)
    assert time.monotonic() - start < 50
    assert found.sound
    assert [split["clips"] for split in found.splits.values()] == [8876, 930, 2035]
    assert [split["speakers"] for split in list(found.splits.values())[1:]] == [120, 188]
    assert (found.duplicates, found.silent, found.longer_than_a_second) == ([], [], 0)
