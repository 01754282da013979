"""`verify` on builds: no byte differs, and a fault planted in one engine is found and named."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.firmware.folder import Build
from mbx_deploy.measure import verify as verifier
from mbx_deploy.measure.items import hostile_clips, random_features
from mbx_deploy.network.program import Convolution, Pointwise
from mbx_deploy.system import emulator
from tests.made.builds import sign_again

ALL_ENGINES = ["sim", "c", "firmware", "tflm"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three recordings."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(6)
    for number in range(3):
        noise = np.convolve(rng.normal(0, 900, 16000 + 4000 * (number - 1)), rng.normal(0, 1, 9), "same")
        soundfile.write(folder / f"{number}.wav", noise.clip(-32768, 32767).astype(np.int16), 16000)
    return folder


def verify(folder: Path, data: Path, *options: object) -> tuple[Result, dict[str, Any]]:
    written = folder.parent / "verify.json"
    written.unlink(missing_ok=True)
    result = call("verify", sign_again(folder), "--data", data, "--json", written, *options)
    return result, json.loads(written.read_text()) if written.exists() else {}


@pytest.fixture
def copied(m4_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the build, to plant a fault in; of the hostile inputs it meets two, for time."""
    monkeypatch.setattr(verifier, "hostile_clips", lambda recognizer: hostile_clips(recognizer)[5:7])
    monkeypatch.setattr(verifier, "random_features", lambda recognizer, count: random_features(recognizer, 1)[:1])
    shutil.copytree(m4_build.folder, tmp_path / "copy")
    return tmp_path / "copy"


def edit(path: Path, pattern: str, change: Callable[[re.Match[str]], str] | str) -> None:
    text, count = re.subn(pattern, change, path.read_text(), count=1)
    assert count == 1, f"{pattern} is not in {path.name}"
    path.write_text(text)


def higher(match: re.Match[str]) -> str:
    """Return what was matched with a last number that is higher by more than rounding hides."""
    return re.sub(r"-?\d+$", lambda number: str(int(number[0]) + 20_000), match[0])


def compile_firmware(folder: Path) -> None:
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    shutil.move(folder / "build/firmware.elf", folder / "firmware.elf")
    shutil.rmtree(folder / "build")


@pytest.mark.slow
def test_all_engines_are_equal_in_every_byte(m4_build: Build, data: Path, tmp_path: Path) -> None:
    written = tmp_path / "out" / "verify.json"
    result = call("verify", m4_build.folder, "--data", data, "--clips", 2, "--json", written)
    assert result.exit_code == 0, result.output
    told = json.loads(written.read_text())
    assert {"clips", "engines", "mismatched_bytes", "first_mismatch"} <= set(told)
    assert (told["clips"], told["engines"]) == (2, ALL_ENGINES)
    assert (told["mismatched_bytes"], told["first_mismatch"], told["skipped"]) == (0, None, {})
    assert len(set(told["digests"].values())) == 1
    # Each engine but the simulator tells the features and all layers of two clips at least.
    layers = sum(m4_build.model.program.buffers[c.output].size_bytes for c in m4_build.model.program.calls)
    assert told["compared_bytes"] > 3 * 2 * (101 * 64 + layers)
    assert "0 differ" in result.stdout and all(name in result.stdout for name in ALL_ENGINES)
    assert [path.name for path in written.parent.iterdir()] == ["verify.json"]


def test_verify_twice_tells_the_same(copied: Path, data: Path) -> None:
    first, second = (verify(copied, data, "--clips", 1) for _ in range(2))
    assert first[0].stdout == second[0].stdout
    assert first[1] == second[1]


def test_a_changed_weight_is_traced_to_its_layer(m4_build: Build, copied: Path, data: Path) -> None:
    calls = m4_build.model.program.calls
    number = next(i for i, layer in enumerate(calls) if isinstance(layer, Pointwise) and i > 5)
    # The middle of the filters, in the hope that its input is not all zero.
    edit(
        copied / "generated/kws_data.c",
        rf"kws_weights_{number}\[[^{{]*{{(?:\s*-?\d+,){{200}}\s*-?\d+",
        lambda match: re.sub(r"(-?\d+)$", lambda value: str(int(value[1]) ^ 64), match[0]),
    )
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 1, result.output
    first = told["first_mismatch"]
    assert (first["engine"], first["stage"]) == ("c", calls[number].name)
    assert first["expected"] != first["got"]
    assert told["mismatched_bytes"] > 0
    digests = told["digests"]
    assert digests["sim"] == digests["firmware"] == digests["tflm"], "the firmware is of the sound sources"
    assert f"stage {calls[number].name}, index {first['index']}" in result.stdout


def test_a_changed_bias_is_traced_to_its_channel(m4_build: Build, copied: Path, data: Path) -> None:
    first_layer = m4_build.model.program.calls[0]
    assert isinstance(first_layer, Convolution)
    edit(copied / "generated/kws_data.c", r"kws_constants_0\[[^{]*{\s*-?\d+", higher)  # 2 b, m a channel
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 1
    assert told["first_mismatch"]["stage"] == first_layer.name
    assert told["first_mismatch"]["index"][-1] == 0, "the channel whose bias was changed"


@pytest.mark.parametrize(
    ("table", "entry", "stage"),
    [
        ("window_q29", 100, "windowed"),
        ("mel_weights_q32", 60, "mel"),
        ("log_q24", 128, "log_mel"),
        ("dct_q31", 70, "coefficients"),
    ],
)
def test_a_changed_table_is_traced_to_its_stage(table: str, entry: int, stage: str, copied: Path, data: Path) -> None:
    edit(
        copied / "generated/kws_frontend.c",
        rf"{table}\[[^{{]*{{(?:\s*-?\d+u?,){{{entry}}}\s*-?\d+",
        lambda match: re.sub(r"(-?\d+)$", lambda value: str(int(value[1]) // 4), match[0]),
    )
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 1, result.output
    first = told["first_mismatch"]
    assert (first["engine"], first["stage"]) == ("c", stage)
    assert f"stage {stage}, " in result.stdout


def test_firmware_that_alone_differs_is_named(m4_build: Build, copied: Path, data: Path) -> None:
    source = copied / "generated/kws_data.c"
    sound = source.read_text()
    number = max(map(int, re.findall(r"kws_channels_(\d+)\[", sound)))
    edit(source, rf"kws_channels_{number}\[[^{{]*{{\s*-?\d+", higher)
    compile_firmware(copied)
    source.write_text(sound)
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 1, result.output
    assert told["first_mismatch"]["engine"] == "firmware"
    assert told["first_mismatch"]["stage"] == m4_build.model.program.calls[number].name
    digests = told["digests"]
    assert digests["sim"] == digests["c"] == digests["tflm"] != digests["firmware"]


def test_firmware_that_keeps_a_stage_to_itself_is_not_taken_as_equal(copied: Path, data: Path) -> None:
    source = copied / "board/mbx_session.c"
    sound = source.read_text()
    edit(source, r"session->trace_level >= \(uint32_t\)wanted", r"stage != FIRST_STAGE_OF_LAYERS && \g<0>")
    compile_firmware(copied)
    source.write_text(sound)
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 1, result.output
    assert (told["first_mismatch"]["engine"], told["first_mismatch"]["stage"]) == ("firmware", "features")


def test_firmware_that_faults_or_hangs_fails_the_check(
    copied: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(copied / "board/main.c", "return mbx_session_serve", "for (volatile int i = 0; !i;) { }\n    \\g<0>")
    compile_firmware(copied)
    monkeypatch.setattr(emulator, "EMULATOR_START_S", 1.0)
    monkeypatch.setattr(emulator, "EMULATOR_CLIP_S", 0.0)
    # The C engine is made of the same board/main.c: it gets the sound one back.
    edit(copied / "board/main.c", r"for \(volatile int i = 0; !i;\) { }\n    ", "")
    result, _ = verify(copied, data, "--clips", 1)
    assert result.exit_code == 1
    assert re.match(r"error: the firmware did not end within 1 s", result.stderr)


def test_the_exit_code_is_1_also_where_sources_do_not_compile(copied: Path, data: Path) -> None:
    (copied / "generated/kws_data.c").write_text("this is no C\n")
    result, _ = verify(copied, data, "--clips", 1)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("error: compiling the C engine") and "Traceback" not in result.stderr


@pytest.mark.parametrize("what", ["missing", "empty", "a file", "broken recording"])
def test_data_without_recordings_is_told(what: str, m4_build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    if what == "a file":
        folder.write_text("")
    elif what != "missing":
        folder.mkdir()
    if what == "broken recording":
        (folder / "a.wav").write_text("no sound")
    result = call("verify", m4_build.folder, "--data", folder, "--json", tmp_path / "f.json")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ") and lines[1].startswith("  hint: ") and len(lines) == 2
    assert str(folder) in lines[0]
    assert result.stdout == "" and not (tmp_path / "f.json").exists()


def test_what_cannot_run_is_left_out_by_name(
    copied: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "firmware.elf").unlink()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 0, result.output
    assert told["engines"] == ["sim", "tflm"]
    assert set(told["skipped"]) == {"c", "firmware"}
    assert "left out: c, because gcc is not installed" in result.stdout
    assert "left out: firmware, because the build holds no firmware" in result.stdout


def test_without_the_interpreter_it_is_left_out_by_name(
    copied: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tflite_micro", "tflite_micro.python.tflite_micro"):
        monkeypatch.setitem(sys.modules, module, None)
    result, told = verify(copied, data, "--clips", 1)
    assert result.exit_code == 0, result.output
    assert told["engines"] == ["sim", "c", "firmware"]
    assert "tflite-micro is not installed" in told["skipped"]["tflm"]


@pytest.mark.slow
def test_a_build_for_this_machine_is_verified(data: Path, tmp_path: Path) -> None:
    assert call("build", "--target", "host", "-o", tmp_path / "b").exit_code == 0
    result, told = verify(tmp_path / "b", data, "--clips", 1)
    assert result.exit_code == 0, result.output
    assert told["engines"] == ALL_ENGINES and told["mismatched_bytes"] == 0
