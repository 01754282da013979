"""evaluate on the data set: every engine counts as the model card does, and quickly enough."""

import json
import resource
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.firmware.folder import Build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CORES = 2
LEAST_C_CLIPS_PER_S = 300  # on two cores
LEAST_FIRMWARE_CLIPS_PER_S = 5
COMMAND_CLIPS = 1454


def evaluate(path: Path, *arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["evaluate", *map(str, arguments), "--json", str(path)])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_the_c_counts_what_the_model_says_and_is_quick(
    speech_commands: Path, shipped: CompiledModel, tmp_path: Path
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = evaluate(tmp_path / "c.json", "kws10", "--data", speech_commands, "--snr", "none")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    right = shipped.metadata["accuracy"]["commands_int8"]
    assert report["command_clips"] == COMMAND_CLIPS
    assert report["command_accuracy"] == pytest.approx(right, abs=0.5 / COMMAND_CLIPS)
    low, high = report["command_accuracy_interval"]
    assert low < report["command_accuracy"] < high and high - low > 0.02  # clips alone would say 0.021
    # Of the processor, not of the clock: other tests run at the same time.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert CORES * report["clips"] / seconds >= LEAST_C_CLIPS_PER_S


def test_noise_costs_accuracy_a_row_at_a_time(speech_commands: Path, tmp_path: Path) -> None:
    report = evaluate(tmp_path / "c.json", "kws10", "--data", speech_commands, "--clips", 300)
    rows = [row["command_accuracy"] for row in report["snr"]]
    assert [row["snr_db"] for row in report["snr"]] == [None, 20, 10, 5, 0, -5, -10]
    assert all(later <= earlier + 0.01 for earlier, later in pairwise(rows))
    assert rows[-1] < rows[0] - 0.1


def test_the_firmware_is_quick_and_counts_the_same(m4_build: Build, speech_commands: Path, tmp_path: Path) -> None:
    options = ("--data", speech_commands, "--clips", 60, "--snr", "0")
    firmware = evaluate(tmp_path / "f.json", m4_build.folder, "--engine", "firmware", *options)
    host = evaluate(tmp_path / "c.json", m4_build.folder, "--engine", "c", *options)
    assert firmware["confusion"] == host["confusion"] and firmware["snr"] == host["snr"]
    assert firmware["clips_per_second"] >= LEAST_FIRMWARE_CLIPS_PER_S


def test_a_nemo_checkpoint_of_eight_words_is_measured_on_them(
    shared_nemo: Path, speech_commands: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    model = shared_nemo / "matchboxnet_3x1x64_8w_nemo221.nemo"
    options = ("--data", speech_commands, "--clips", 200, "--snr", "none")
    integer = evaluate(tmp_path / "c.json", model, *options)
    floating = evaluate(tmp_path / "float.json", model, "--engine", "float", *options)
    assert integer["labels"] == floating["labels"] and len(integer["labels"]) == 8
    assert integer["clips"] == integer["command_clips"] == 200
    assert floating["accuracy"] > 0.93 and abs(integer["accuracy"] - floating["accuracy"]) <= 0.02
