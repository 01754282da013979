"""A build's firmware on recordings: the simulator's bytes, and clear ends for firmware that faults or hangs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.system import emulator
from mbx_deploy.system.resources import shipped_model_path
from tests.made.builds import sign_again

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def answers(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(4)
    recordings = {
        "second.wav": (rng.normal(0, 3000, 16000), 16000),
        "cd.flac": (rng.normal(0, 9000, (30000, 2)), 44100),
        "short.wav": (rng.normal(0, 9000, 8), 16000),
        "long.wav": (rng.normal(0, 1000, 24000), 16000),
        "silence.wav": (np.zeros(16000), 16000),
    }
    for name, (samples, rate_hz) in recordings.items():
        soundfile.write(folder / name, samples.clip(-32768, 32767).astype(np.int16), rate_hz)
    return [folder / name for name in recordings]


@pytest.fixture(scope="module")
def host_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("builds") / "host"
    build(shipped_model_path(), find_target("host"), folder)
    return load_build(folder)


def rebuilt(source: Build, folder: Path, path: str, pattern: str, replacement: str) -> Path:
    """Return a copy of a build whose C is changed in one place and whose firmware is compiled from that."""
    shutil.copytree(source.folder, folder)
    text, count = re.subn(pattern, replacement, (folder / path).read_text(), count=1)
    assert count == 1, f"{pattern} is not in {path}"
    (folder / path).write_text(text)
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    shutil.move(folder / "build/firmware.elf", folder / "firmware.elf")
    shutil.rmtree(folder / "build")
    sign_again(folder)
    return folder


def test_the_firmware_gives_the_simulators_bytes(m4_build: Build, clips: list[Path]) -> None:
    found = answers(call("run", m4_build.folder, *clips, "--json"))
    expected = answers(call("simulate", "kws10", *clips, "--json"))
    assert [answer.pop("engine") for answer in found] == ["firmware"] * len(clips)
    assert [answer.pop("engine") for answer in expected] == ["sim"] * len(clips)
    assert found == expected
    assert len({tuple(answer["logits"]) for answer in found}) > 2


def test_notes_go_to_stderr_and_stdout_is_as_of_simulate(m4_build: Build, clips: list[Path]) -> None:
    ran, simulated = call("run", m4_build.folder, *clips), call("simulate", "kws10", *clips)
    assert ran.exit_code == 0
    assert ran.stdout == simulated.stdout
    assert ran.stderr == simulated.stderr
    notes = [line.split(": ")[1] for line in ran.stderr.splitlines()]
    assert {Path(note).name for note in notes} == {"cd.flac", "long.wav"}


def test_the_firmware_traces_the_simulators_stages(m4_build: Build, clips: list[Path]) -> None:
    found = answers(call("run", m4_build.folder, clips[0], "--trace", "--json"))[0]["stages"]
    expected = answers(call("simulate", "kws10", clips[0], "--trace", "--json"))[0]["stages"]
    assert found == expected


def test_a_build_for_this_machine_runs(host_build: Build, clips: list[Path]) -> None:
    assert os.access(host_build.elf, os.X_OK)
    found = answers(call("run", host_build.folder, *clips, "--json"))
    expected = answers(call("simulate", "kws10", *clips, "--json"))
    assert [answer["logits"] for answer in found] == [answer["logits"] for answer in expected]


def test_run_works_from_another_folder_and_leaves_nothing(
    m4_build: Build, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "tmp"
    here.mkdir()
    temporary.mkdir()
    shutil.copytree(m4_build.folder, here / "a build")
    shutil.copy(clips[0], here / "clip.wav")
    done = subprocess.run(
        [sys.executable, "-m", "mbx_deploy", "run", "a build", "clip.wav"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("clip.wav: ")
    assert sorted(path.name for path in here.iterdir()) == ["a build", "clip.wav"]
    assert list(temporary.iterdir()) == []


def assert_failed(result: Result, pattern: str) -> None:
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and re.search(f"^error: .*{pattern}", lines[0]), result.stderr
    assert result.stdout == ""


HANG = "for (volatile int i = 0; !i;) { }\n    \\g<0>"


@pytest.mark.parametrize("fault", ["void (*volatile nothing)(void) = 0; nothing()", '__asm volatile("udf #0")'])
def test_a_fault_is_told_with_its_registers(fault: str, m4_build: Build, clips: list[Path], tmp_path: Path) -> None:
    folder = rebuilt(m4_build, tmp_path / "b", "board/main.c", "return mbx_session_serve", f"{fault};\n    \\g<0>")
    assert_failed(call("run", folder, clips[0]), r"exit code 99: mbx: fault, CFSR HFSR: [0-9a-f]{8} [0-9a-f]{8}$")


def test_firmware_that_ends_with_an_error_is_told(m4_build: Build, clips: list[Path], tmp_path: Path) -> None:
    folder = rebuilt(m4_build, tmp_path / "b", "board/main.c", "return mbx_session_serve.*", "return 7;")
    assert_failed(call("run", folder, clips[0]), "exit code 7")


def test_firmware_that_answers_nothing_is_told(m4_build: Build, clips: list[Path], tmp_path: Path) -> None:
    folder = rebuilt(m4_build, tmp_path / "b", "board/main.c", "return mbx_session_serve.*", "return 0;")
    assert_failed(call("run", folder, *clips[:2]), "breaks off: got 0 items, need 2")


def test_firmware_that_hangs_is_ended(
    m4_build: Build, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rebuilt(
        m4_build,
        tmp_path / "b",
        "board/main.c",
        "return mbx_session_serve",
        "for (volatile int i = 0; !i;) { }\n    \\g<0>",
    )
    monkeypatch.setattr(emulator, "EMULATOR_START_S", 0.5)
    monkeypatch.setattr(emulator, "EMULATOR_CLIP_S", 0.25)
    assert_failed(call("run", folder, *clips[:2]), "did not end within 1 s")


@pytest.mark.timeout(30)
def test_a_program_for_this_machine_that_hangs_is_ended(
    host_build: Build, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rebuilt(host_build, tmp_path / "b", "board/main.c", "return mbx_session_serve", HANG)
    for name in dir(emulator):
        if name.endswith("_S") and isinstance(getattr(emulator, name), float):
            monkeypatch.setattr(emulator, name, 0.5)
    assert_failed(call("run", folder, clips[0]), "did not end within")


def test_a_program_for_this_machine_that_crashes_is_told(host_build: Build, clips: list[Path], tmp_path: Path) -> None:
    folder = rebuilt(
        host_build, tmp_path / "b", "board/main.c", "return mbx_session_serve", "__builtin_trap();\n    \\g<0>"
    )
    assert_failed(call("run", folder, clips[0]), "failed with exit code -")


@pytest.mark.parametrize("content", [b"", b"no ELF", b"\x7fELF" + bytes(100)], ids=["empty", "text", "cut"])
def test_a_damaged_elf_is_told(content: bytes, m4_build: Build, clips: list[Path], tmp_path: Path) -> None:
    shutil.copytree(m4_build.folder, tmp_path / "b")
    (tmp_path / "b/firmware.elf").write_bytes(content)
    result = call("run", tmp_path / "b", clips[0])
    assert result.exit_code in (1, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""


def test_a_build_without_firmware_is_told(m4_build: Build, clips: list[Path], tmp_path: Path) -> None:
    shutil.copytree(m4_build.folder, tmp_path / "b", ignore=shutil.ignore_patterns("*.elf"))
    result = call("run", tmp_path / "b", clips[0])
    assert result.exit_code == 2
    assert "holds no firmware" in result.stderr and "  hint: mbx-deploy doctor" in result.stderr


def test_without_the_emulator_the_line_that_installs_it(
    m4_build: Build, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = call("run", m4_build.folder, clips[0])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: qemu-system-arm is not installed")
    assert "apt-get install qemu-system-arm" in result.stderr


@pytest.mark.parametrize(
    "damage", ["no folder", "empty folder", "a file", "bad json", "a list", "missing source", "name"]
)
def test_what_is_no_build_is_told(damage: str, m4_build: Build, clips: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / ("n" * 300 if damage == "name" else "b")
    if damage == "empty folder":
        folder.mkdir()
    elif damage == "a file":
        folder.write_text("")
    elif damage not in ("no folder", "name"):
        shutil.copytree(m4_build.folder, folder)
    if damage == "bad json":
        (folder / "manifest.json").write_text("{")
    elif damage == "a list":
        (folder / "manifest.json").write_text("[1]")
    elif damage == "missing source":
        (folder / "src/mbx_kernels.c").unlink()
    for command in (["run", folder, clips[0]], ["verify", folder, "--data", clips[0].parent]):
        result = call(*command)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert re.match("error: (not a build|the build is damaged)", lines[0])
        assert len(lines) == 2 and lines[1].startswith("  hint: ")
        assert result.stdout == ""
