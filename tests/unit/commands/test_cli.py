"""The command line itself: what goes to stdout and stderr, exit codes, options, and what happens without an extra."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy import __version__
from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands import console
from mbx_deploy.commands import torch_runs as training
from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import load_model
from mbx_deploy.engines import recognize as simulator
from mbx_deploy.errors import CheckFailed, InputError, MbxError, ToolMissing
from mbx_deploy.firmware import build as builder
from mbx_deploy.firmware import folder as folders
from mbx_deploy.measure import items
from mbx_deploy.measure import verify as verifier
from mbx_deploy.measure.verify import Comparison
from mbx_deploy.system import doctor
from mbx_deploy.system.resources import shipped_model_path

COMMANDS = [
    *(
        "build",
        "card",
        "data",
        "doctor",
        "evaluate",
        "export",
        "features",
        "finetune",
        "flash",
        "import",
        "listen",
        "models",
        "monitor",
        "profile",
        "regress",
        "report",
        "run",
        "serve",
        "simulate",
        "sqnr",
        "targets",
    ),
    *("train", "tune", "verify"),
]
RUN_MAIN = "import sys; from mbx_deploy.commands.cli import main; sys.argv[0] = 'mbx-deploy'; "


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def call_process(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, after some lines of Python."""
    return subprocess.run(
        [sys.executable, "-c", RUN_MAIN + code + "; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.rint(8000 * np.sin(np.arange(16000) / 7)).astype(np.int16), 16000)
    return path


def test_help_names_every_command() -> None:
    result = call("--help")
    assert result.exit_code == 0
    listed = result.stdout.split("Commands:")[1].split()
    assert set(COMMANDS) <= set(listed)
    assert sorted(cli.commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_options(command: str) -> None:
    result = call(command, "-h")
    assert result.exit_code == 0
    options = [parameter for parameter in cli.commands[command].params if isinstance(parameter, click.Option)]
    assert all(option.help for option in options)
    assert all(option.opts[0] in result.stdout for option in options)
    assert cli.commands[command].help


def test_version() -> None:
    assert call("--version").stdout.split()[-1] == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["build", "--nonsense"],
        ["build"],
        ["simulate"],
        ["simulate", "kws10"],
        ["simulate", "kws10", "a.wav", "--engine", "firmware"],
        ["run", "somewhere"],
        ["features", "kws10", "a.wav"],
        ["verify", "somewhere"],
        ["verify", "somewhere", "--data", ".", "--clips", "0"],
        ["verify", "somewhere", "--data", ".", "--clips", "some"],
        ["build", "--target", "host", "--stride-ms", "a"],
        ["train", "--data", ".", "-o", "x", "--epochs", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_by_click(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr and "Error: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("bad", "mend it"), 2), (ToolMissing("gone", "install it"), 2), (CheckFailed("differs"), 1)],
)
def test_a_users_error_is_one_line_a_hint_and_its_code(
    error: MbxError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(simulator, "simulate", fail)
    result = call("simulate", "kws10", "a.wav")
    assert result.exit_code == code
    assert result.stdout == ""
    expected = [f"error: {error.what}"] + ([f"  hint: {error.hint}"] if error.hint else [])
    assert result.stderr.splitlines() == expected


def test_an_error_of_ours_keeps_its_traceback() -> None:
    code = "from mbx_deploy.codegen import target; target.list_targets = lambda: 1 / 0"
    done = call_process(code, "targets")
    assert done.returncode not in (0, 2)
    assert "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr
    assert done.stdout == ""


def test_an_interruption_is_one_line_and_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulator, "simulate", interrupted)
    result = call("simulate", "kws10", "a.wav")
    assert result.exit_code == 130
    assert result.stderr.split("\n")[1:3] == [
        "error: interrupted",
        "  hint: nothing is half-written; give the same line again",
    ]


def test_sigterm_ends_a_command_like_an_interruption() -> None:
    code = (
        "import os, signal, time; from mbx_deploy.codegen import target; "
        "target.list_targets = lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60))"
    )
    done = call_process(code, "targets")
    assert done.returncode == 130
    assert "error: interrupted" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_goes_away_makes_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mbx_deploy", "targets"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_targets_as_table_and_as_json() -> None:
    table = call("targets").stdout.splitlines()
    assert table[0].split()[:2] == ["target", "cpu"]
    listed = json.loads(call("targets", "--json").stdout)
    assert [line.split()[0] for line in table[1:]] == [target["name"] for target in listed]
    by_name = {target["name"]: target for target in listed}
    assert by_name["cortex-m4"]["machine"] == "mps2-an386"
    assert by_name["cortex-m4"]["memory"]["ram_bytes"] == 4 << 20
    assert by_name["host"]["memory"] is None


def test_doctor_fails_where_something_required_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    here = doctor.Finding("cmake", "building", "3.25", "apt-get install cmake", True, "apt", "cmake")
    gone = doctor.Finding("qemu", "run", None, "apt-get install qemu", True, "apt", "qemu")
    extra = doctor.Finding("torch", "train", None, "pip install torch", False, "pip", "train")
    for findings, code in (([here, extra], 0), ([here, gone], 1)):
        monkeypatch.setattr(doctor, "diagnose", lambda found=findings: found)
        result = call("doctor")
        assert result.exit_code == code
        assert findings[1].name in result.stdout
        listed = json.loads(call("doctor", "--json").stdout)
        assert [finding["name"] for finding in listed] == [finding.name for finding in findings]


def test_json_alone_is_on_stdout(tone: Path) -> None:
    result = call("simulate", "kws10", tone, tone, "--json")
    answers = json.loads(result.stdout)
    assert result.stderr == ""
    assert [answer["file"] for answer in answers] == [str(tone)] * 2
    assert {"file", "label", "scores", "logits"} <= set(answers[0])
    assert len(answers[0]["scores"]) == len(answers[0]["logits"]) == len(answers[0]["labels"])


def test_without_json_a_line_a_recording(tone: Path) -> None:
    answer = json.loads(call("simulate", "kws10", tone, "--json").stdout)[0]
    lines = call("simulate", "kws10", tone, tone).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{tone}: {answer['label']} ")
    assert f"{answer['label']} {answer['score']:.3f}" in lines[0]


@pytest.mark.slow
def test_a_file_name_that_is_no_utf8_is_printed(tone: Path) -> None:
    odd = os.path.join(os.fsencode(tone.parent), b"\xff.wav")
    os.link(tone, odd)
    for option in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "mbx_deploy", "simulate", "kws10", odd, *option],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()[-300:]


def test_build_hands_over_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def build(*arguments: Any) -> None:
        seen.append(arguments)
        raise InputError("enough")

    monkeypatch.setattr(builder, "build", build)
    monkeypatch.chdir(tmp_path)
    call("build", "--target", "cortex-m4")
    call("build", "--target", "host", "-o", "there", "--model", "m.tflite", "--prefix", "abc", "--stride-ms", "500")
    (model, target, *rest), (other_model, other_target, *other_rest) = seen
    assert (model.name, target.name) == ("kws10.tflite", "cortex-m4")
    assert rest[:3] == [Path("build/cortex-m4"), "kws", None]
    assert (other_model, other_target.name) == (Path("m.tflite"), "host")
    assert other_rest[:3] == [Path("there"), "abc", 500]
    assert list(tmp_path.iterdir()) == []


def a_build(folder: Path) -> folders.Build:
    """The build of a recogniser, as it is read from a folder."""
    return folders.Build(folder, load_model(shipped_model_path()), find_target("host"), 25, {})


@pytest.mark.parametrize("mismatched", [0, 3])
def test_verify_prints_writes_and_exits_by_what_differs(
    mismatched: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"engine": "c", "clip": "a", "stage": "mel", "index": [1, 2], "expected": 3, "got": 4}
    comparison = Comparison(1, 1, 0, ["sim", "c"], {"tflm": "not installed"}, 90, mismatched)
    comparison.first_mismatch = first if mismatched else None
    comparison.digests = {"sim": "0" * 64, "c": "1" * 64}
    monkeypatch.setattr(folders, "load_build", lambda folder: a_build(folder))
    monkeypatch.setattr(items, "find_clips", lambda data, clips: [data] * clips)
    monkeypatch.setattr(verifier, "verify", lambda build, clips, inputs, progress: comparison)
    written = tmp_path / "folder" / "result.json"
    result = call("verify", tmp_path, "--data", tmp_path, "--clips", 5, "--json", written)
    assert result.exit_code == (1 if mismatched else 0)
    assert json.loads(written.read_text()) == comparison.to_dict()
    assert {"clips", "engines", "mismatched_bytes", "first_mismatch"} <= set(comparison.to_dict())
    assert "left out: tflm, because not installed" in result.stdout
    expected = "first: a, stage mel, index [1, 2]: sim 3, c 4" if mismatched else "0 differ"
    assert result.stdout.splitlines()[-1].endswith(expected)


def test_verify_tells_its_result_even_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = Comparison(1, 1, 0, ["sim"], digests={"sim": "0" * 64})
    monkeypatch.setattr(folders, "load_build", lambda folder: a_build(folder))
    monkeypatch.setattr(items, "find_clips", lambda data, clips: [data])
    monkeypatch.setattr(verifier, "verify", lambda build, clips, inputs, progress: comparison)
    result = call("verify", tmp_path, "--data", tmp_path, "--json", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: can't write {tmp_path}")
    assert "equal" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_progress_off_a_terminal_is_at_most_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = console.Progress("verify")
    for done in range(1, 231):
        progress(done, 230)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 10
    assert lines[-1] == "verify: 230/230"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("torch", ["train", "--data", ".", "-o", "out"]),
        ("torch", ["simulate", "model.pt", "tone.wav", "--engine", "float"]),
        ("torch", ["export", "model.pt", "--data", ".", "-o", "out.tflite"]),
        ("tensorflow", ["export", "model.pt", "--data", ".", "-o", "out.tflite"]),
        ("onnx2tf", ["export", "model.pt", "--data", ".", "-o", "out.tflite"]),
        ("tflite_micro", ["simulate", "kws10", "tone.wav", "--engine", "tflm"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_without_an_extra_the_line_that_installs_it(
    module: str, arguments: list[str], tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tone.parent)
    (tone.parent / "model.pt").write_bytes(b"")
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = call_process(f"sys.modules[{module!r}] = None", *arguments, **environment)
    assert done.returncode == 2, done.stderr[-500:]
    lines = done.stderr.splitlines()
    assert lines[-2].startswith("error: ") and "not installed" in lines[-2]
    assert "pip install" in lines[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in tone.parent.iterdir()) == ["model.pt", "tone.wav"]


ENGINE = {"accelerator": "auto", "num_nodes": 1, "precision": "32-true", "devices": "auto"}


def test_train_hands_over_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def run_training(*arguments: Any) -> dict[str, Any]:
        seen.append(arguments)
        return {"accuracy": 0.5}

    monkeypatch.setattr(training, "run_training", run_training)
    assert call("train", "--data", "d", "-o", "o").stdout == "accuracy: 0.5\n"
    result = call(
        "train",
        "--data",
        "d",
        "-o",
        "o",
        "--seed",
        "0",
        "--config",
        "c.toml",
        "--restart",
        "--json",
        "--devices",
        "2",
        "--precision",
        "bf16-mixed",
    )
    assert json.loads(result.stdout) == {"accuracy": 0.5}
    assert seen == [
        (None, {}, Path("d"), Path("o"), True, ENGINE, ()),
        (
            *(Path("c.toml"), {"seed": 0}, Path("d"), Path("o"), False),
            {**ENGINE, "devices": 2, "precision": "bf16-mixed"},
            (),
        ),
    ]
