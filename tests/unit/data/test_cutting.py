"""Utterances in long recordings: where they are, what is left out, what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.data.cutting import find_spoken

RATE_HZ = 16000


def long_recording(lengths_s: tuple[float, ...], noise: float = 30.0) -> np.ndarray:
    """Return a recording with a tone of each length, one every three seconds from second one on, over noise."""
    rng = np.random.default_rng(1)
    samples = rng.normal(0, noise, round((3 * len(lengths_s) + 1) * RATE_HZ))
    for number, seconds in enumerate(lengths_s):
        start, count = (1 + 3 * number) * RATE_HZ, round(seconds * RATE_HZ)
        samples[start : start + count] += 5000 * np.sin(np.arange(count) / 5)
    return np.rint(samples).astype(np.int16)


def cut(folder: Path, *options: object) -> Result:
    line = ["data", "cut", str(folder / "long.wav"), "--word", "left", "-o", str(folder / "out")]
    return CliRunner().invoke(cli, [*line, *map(str, options)])


@pytest.mark.parametrize("noise", [0.0, 30.0, 300.0])
def test_where_somebody_speaks(noise: float) -> None:
    found = find_spoken(long_recording((0.5, 0.05, 0.9, 2.5, 0.3), noise), RATE_HZ)
    assert [one.why_not for one in found] == ["", "too short", "", "too long", ""]
    for one, start in zip(found, (1, 4, 7, 10, 13), strict=True):
        assert one.start_s == pytest.approx(start, abs=0.03)
    assert found[2].end_s == pytest.approx(7.9, abs=0.03)


def test_a_pause_within_a_word_does_not_divide_it() -> None:
    samples = long_recording((0.5,))
    samples[RATE_HZ + 3200 : RATE_HZ + 5000] = 0
    assert len(find_spoken(samples, RATE_HZ)) == 1


def test_clips_a_list_and_a_picture(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", long_recording((0.5, 0.05, 0.9)), RATE_HZ)
    result = cut(tmp_path, "--speaker", "anna")
    assert result.exit_code == 0, result.output
    assert "2 clips of 3 sounds" in result.stdout and "left out: too short" in result.stdout
    found = json.loads((tmp_path / "out" / "cut.json").read_text())
    assert [row["clip"] for row in found["utterances"]] == ["left/anna_nohash_0.wav", None, "left/anna_nohash_1.wav"]
    for name, seconds in (("anna_nohash_0.wav", 1.0), ("anna_nohash_1.wav", 1.4)):
        samples, rate = soundfile.read(tmp_path / "out" / "left" / name, dtype="int16")
        assert rate == RATE_HZ and len(samples) / rate == pytest.approx(seconds, abs=0.05)
        loud = np.flatnonzero(np.abs(samples) > 2000)
        assert loud[0] >= 0.2 * RATE_HZ and loud[-1] <= len(samples) - 0.2 * RATE_HZ
    assert (tmp_path / "out" / "cut.png").read_bytes().startswith(b"\x89PNG")


def test_the_clips_are_a_data_set(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", long_recording((0.5,) * 4), RATE_HZ)
    assert cut(tmp_path).exit_code == 0
    found = CliRunner().invoke(cli, ["data", "inspect", str(tmp_path / "out"), "--json"])
    assert sum(json.loads(found.stdout)["labels"]["left"].values()) == 4


@pytest.mark.parametrize(
    ("options", "what"),
    [(["--word", "../up"], "bad word"), (["--level", "59"], "nobody speaks"), (["--speaker", "a/b"], "bad word")],
)
def test_what_can_not_be_cut(tmp_path: Path, options: list[str], what: str) -> None:
    soundfile.write(tmp_path / "long.wav", long_recording((0.5,)), RATE_HZ)
    result = cut(tmp_path, *options)
    assert result.exit_code == 2 and what in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.wav"]
