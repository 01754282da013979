"""mbx-deploy evaluate: what it counts, what it leaves out and says so, and that no engine counts otherwise."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.data.accuracy import speaker_interval
from mbx_deploy.data.dataset import Split, load_known
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import Build
from mbx_deploy.measure.evaluate import pick_clips, score

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
YES = ROOT / "examples" / "yes.wav"


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def report(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the C says of the shipped model on them."""
    path = tmp_path_factory.mktemp("report") / "c.json"
    result = evaluate("kws10", "--data", small_data, "--engine", "c", "--json", path)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(path.read_text())
    assert f"{found['clips']} clips" in result.stdout and "-10 dB" in result.stdout
    assert "testing clips none is of down, no, right, stop, up" in result.stderr
    return found


def test_the_numbers_fit_together(report: dict[str, Any]) -> None:
    confusion = np.array(report["confusion"])
    labels = report["labels"]
    assert report["engine"] == "c" and report["split"] == "testing"
    assert confusion.shape == (10, 10) and confusion.sum() == report["clips"] == 12 + report["clips_of"]["silence"]
    assert report["accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
    assert report["command_clips"] == 11
    words = [i for i, label in enumerate(labels) if label not in ("unknown", "silence")]
    assert report["command_accuracy"] == pytest.approx(sum(confusion[i, i] for i in words) / 11)
    assert report["recall"]["yes"] == 1.0 and report["recall"]["down"] is None
    assert report["precision"]["yes"] == pytest.approx(2 / confusion[:, labels.index("yes")].sum())
    low, high = report["accuracy_interval"]
    assert 0.0 <= low <= report["accuracy"] <= high <= 1.0
    assert report["clips_per_second"] > 0


def test_the_table_of_noise_begins_clean(report: dict[str, Any]) -> None:
    assert [row["snr_db"] for row in report["snr"]] == [None, 20, 10, 5, 0, -5, -10]
    assert report["snr"][0]["accuracy"] == report["accuracy"]
    assert all(row["clips"] == report["clips"] and 0 <= row["accuracy"] <= 1 for row in report["snr"])


@pytest.mark.parametrize("engine", ["sim", "tflm"])
def test_integer_engines_count_the_same(small_data: Path, report: dict[str, Any], tmp_path: Path, engine: str) -> None:
    if engine == "tflm":
        pytest.importorskip("tflite_micro")
    arguments = ["--engine", engine, "--json", tmp_path / "r.json", "--snr", "0,-10"]
    assert evaluate("kws10", "--data", small_data, *arguments).exit_code == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["confusion"] == report["confusion"] and found["accuracy"] == report["accuracy"]
    expected = [row for row in report["snr"] if row["snr_db"] in (None, 0.0, -10.0)]
    assert found["snr"] == expected


@pytest.mark.slow
def test_a_build_is_measured_by_its_own_c(
    small_data: Path, report: dict[str, Any], m4_build: Build, tmp_path: Path
) -> None:
    for engine in ("c", "firmware"):
        arguments = ["--engine", engine, "--json", tmp_path / "r.json", "--snr", "none"]
        result = evaluate(m4_build.folder, "--data", small_data, *arguments)
        assert result.exit_code == 0, result.output
        found = json.loads((tmp_path / "r.json").read_text())
        assert found["confusion"] == report["confusion"] and found["model_digest"] == report["model_digest"]
        assert [row["snr_db"] for row in found["snr"]] == [None]


def test_float_is_near(small_data: Path, report: dict[str, Any], tmp_path: Path) -> None:
    result = evaluate(
        "kws10", "--data", small_data, "--engine", "float", "--snr", "none", "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["engine"] == "float" and found["recall"]["yes"] == 1.0
    assert abs(found["accuracy"] - report["accuracy"]) <= 2 / report["clips"]


def test_clips_are_spread_evenly_and_keep_their_classes() -> None:
    classes = np.repeat([0, 1, 2], [20, 20, 20])
    names = tuple(f"{number}" for number in range(60))
    split = Split(("go", "stop", "unknown"), np.zeros((60, 4), np.int16), classes, names, ())
    picked = pick_clips(split, 6)
    assert picked.names == ("0", "10", "20", "30", "40", "50")
    assert picked.classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert pick_clips(split, 61) is split and pick_clips(split, None) is split


def test_score_by_hand() -> None:
    labels = ("go", "stop", "unknown", "silence")
    names = ("go/a_nohash_0.wav", "go/a_nohash_1.wav", "stop/b_nohash_0.wav", "x/b_nohash_0.wav", "silence/0000")
    split = Split(labels, np.zeros((5, 1), np.int16), np.array([0, 0, 1, 2, 3]), names, ())
    found = score(np.eye(4)[[0, 1, 1, 2, 2]], split)
    assert found["accuracy"] == pytest.approx(3 / 5) and found["command_accuracy"] == pytest.approx(2 / 3)
    assert found["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert found["precision"] == {"go": 1.0, "stop": 0.5, "unknown": 0.5, "silence": None}
    assert found["recall"] == {"go": 0.5, "stop": 1.0, "unknown": 1.0, "silence": 0.0}
    assert found["speakers"] == 2


def test_speakers_are_drawn_and_not_clips() -> None:
    right = np.repeat([True, False], [90, 10])
    few = speaker_interval(right, ["a"] * 90 + ["b"] * 10)
    many = speaker_interval(right, [str(number) for number in range(100)])
    assert few == (0.0, 1.0)
    assert 0.8 < many[0] < 0.9 < many[1] < 1.0
    names = ("go/a_nohash_0.wav", "up/a_nohash_1.wav", "go/me_1.wav")
    split = Split(("go", "up"), np.zeros((3, 1), np.int16), np.array([0, 1, 0]), names, ())
    assert split.voices == ["a", "a", "go/me_1.wav"]


def test_a_word_without_recordings_is_no_hindrance_but_no_word_at_all_is(small_data: Path) -> None:
    found = load_known(small_data, "testing", ("go", "yes", "nothing"), progress=False)
    assert sorted(found.names) == ["go/b_nohash_0.wav", "yes/a_nohash_0.wav", "yes/f_nohash_0.wav"]
    every = load_known(small_data, "all", ("go", "stop"), progress=False)
    assert sorted(every.names) == ["go/b_nohash_0.wav", "stop/d_nohash_0.wav"]
    with pytest.raises(InputError, match="none of the model's words"):
        load_known(small_data, "testing", ("open", "close", "unknown"), progress=False)
    with pytest.raises(InputError, match="no clips of the model's words for testing"):
        load_known(small_data, "testing", ("stop", "unknown"), progress=False)


def test_clips_that_are_not_measured_are_not_read(small_data: Path) -> None:
    labels = ("left", "yes", "unknown", "silence")
    every = load_known(small_data, "testing", labels, progress=False)
    some = load_known(small_data, "testing", labels, progress=False, limit=5)
    assert some.names == pick_clips(every, 5).names and len(some) == 5
    assert some.names[-1].startswith("silence/")
    np.testing.assert_array_equal(some.samples, pick_clips(every, 5).samples)
    np.testing.assert_array_equal(some.classes, pick_clips(every, 5).classes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kws10", "--data", "nowhere"], "no data set"),
        (["nothing10", "--data", "DATA"], "no shipped model of that name"),
        (["missing.tflite", "--data", "DATA"], "missing.tflite"),
        (["DATA", "--data", "DATA"], "not a build"),
        (["model.pt", "--data", "DATA", "--engine", "c"], "takes no .pt"),
        (["kws10", "--data", "DATA", "--target", "cortex-m4"], "--target is for the engine firmware"),
        (["kws10", "--data", "DATA", "--forward", "crop"], "--forward is for .nemo"),
        (["kws10", "--data", "QUIET", "--snr", "10"], "no background noise"),
        (["kws10", "--data", "FOREIGN"], "none of the model's words"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(arguments: list[str], said: str, small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data, tmp_path / "quiet", ignore=shutil.ignore_patterns("_background_noise_"))
    (tmp_path / "foreign" / "open").mkdir(parents=True)
    shutil.copy(YES, tmp_path / "foreign" / "open" / "a_nohash_0.wav")
    places = {"DATA": small_data, "QUIET": tmp_path / "quiet", "FOREIGN": tmp_path / "foreign"}
    result = evaluate(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert result.stdout == "" and said in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "  hint: " in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("ratios", ["loud", "0,0", "0,nan", "1e9", ""])
def test_ratios_that_are_none_are_told_by_click(ratios: str, small_data: Path) -> None:
    result = evaluate("kws10", "--data", small_data, "--snr", ratios)
    assert result.exit_code == 2 and "Usage: " in result.stderr


def test_data_without_noise_gives_no_table(small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data, tmp_path / "quiet", ignore=shutil.ignore_patterns("_background_noise_"))
    result = evaluate("kws10", "--data", tmp_path / "quiet", "--clips", 3, "--json", tmp_path / "r.json")
    assert result.exit_code == 0 and "no background noise" in result.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert [row["snr_db"] for row in found["snr"]] == [None] and found["clips"] == 3


def test_torch_is_not_needed(small_data: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from mbx_deploy.commands.cli import main; main()"
    arguments = ["evaluate", "kws10", "--data", str(small_data), "--clips", "4", "--snr", "none"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "clips a second" in done.stdout
