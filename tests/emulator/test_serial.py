"""A device on a serial port: the firmware in QEMU, its UART a pseudo-terminal; ports that are wrong, busy or lost."""

import json
import os
import pty
import threading
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.codegen.manifest import build_digest
from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.engines.device import DeviceEngine
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.measure.items import random_features
from mbx_deploy.serial.link import Link
from mbx_deploy.serial.monitor import MonitorOptions, monitor
from mbx_deploy.serial.port import Port, find_port
from mbx_deploy.system.tools import find_tool
from tests.made.builds import sign_again
from tests.made.serial_lines import DamagingLine, emulated
from tests.made.tflite import small_artifact

needs_emulator = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]
CONFIG = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
YES = Path(__file__).resolve().parents[2] / "examples" / "yes.wav"
RATES = {"lost": 3e-4, "changed": 3e-4, "repeated": 3e-4, "swapped": 0.01}
# One core of each machine that QEMU has: they differ in the UART's address, and in how their interrupts wake the core.
CORES = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def assert_refused(result: Result, *words: str) -> None:
    """One line, a hint, exit code 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ") and lines[1].startswith("  hint: ")
    assert all(word in lines[0] for word in words), lines[0]


def identity(made: Build) -> tuple[bytes, bytes]:
    """The bytes by which a firmware tells what it is."""
    digest = build_digest(made.model, made.target, made.prefix, made.stride_frames)
    return bytes.fromhex(made.model.digest), digest.to_bytes(4, "little")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short recordings."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", random.integers(-9000, 9000, 900).astype(np.int16), 16000)
    return folder


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Build]:
    """A small model's firmware for every core."""
    folder = tmp_path_factory.mktemp("serial")
    (folder / "small.tflite").write_bytes(small_artifact(CONFIG))
    for core in CORES:
        build(folder / "small.tflite", find_target(core), folder / core)
    return {core: load_build(folder / core) for core in CORES}


@pytest.fixture
def emulated_m4(builds: dict[str, Build], tmp_path: Path) -> Generator[Path]:
    """The port of a Cortex-M4 that runs."""
    with emulated(builds["cortex-m4"], tmp_path) as port:
        yield port


class TestEmulated:
    pytestmark = needs_emulator

    @pytest.mark.parametrize("core", CORES)
    def test_verify_compares_the_device_with_the_simulator(
        self, core: str, builds: dict[str, Build], recordings: Path, tmp_path: Path
    ) -> None:
        with emulated(builds[core], tmp_path) as port:
            report = tmp_path / "v.json"
            result = call("verify", builds[core].folder, "--data", recordings, "--port", port, "--json", report)
        assert result.exit_code == 0, result.output
        found = json.loads(report.read_text())
        assert found["engines"] == ["sim", "device"]
        assert found["clips"] == 2
        assert found["streams"] == 2
        assert found["mismatched_bytes"] == 0
        assert found["compared_bytes"] > 4000
        assert len(set(found["digests"].values())) == 1

    def test_a_device_that_computes_something_else_is_found_out(
        self, builds: dict[str, Build], recordings: Path, tmp_path: Path
    ) -> None:
        """Another model's firmware, which says that it is the build that is asked for."""
        ours = builds["cortex-m4"]
        (tmp_path / "other.tflite").write_bytes(small_artifact(CONFIG, seed=1))
        build(tmp_path / "other.tflite", find_target("cortex-m4"), tmp_path / "other")
        other = load_build(tmp_path / "other")
        elf = other.elf.read_bytes()
        for old, new in zip(identity(other), identity(ours), strict=True):
            assert old in elf
            elf = elf.replace(old, new)
        other.elf.write_bytes(elf)
        sign_again(other.folder)
        with emulated(other, tmp_path) as port:
            result = call("verify", ours.folder, "--data", recordings, "--port", port)
        assert result.exit_code == 1, result.output
        assert "first: hostile: silence, stage 0_depthwise_conv_2d" in result.stdout

    @pytest.mark.parametrize("seed", [1, 2])
    def test_damaged_bytes_change_no_result(self, seed: int, builds: dict[str, Build], emulated_m4: Path) -> None:
        recognizer = builds["cortex-m4"].model
        items = [named.item for named in random_features(recognizer, 3)]
        with Port(emulated_m4) as port:
            got = DeviceEngine(recognizer, Link(DamagingLine(port, seed, RATES))).run(items)
        for left, right in zip(got, SimEngine(recognizer, 25).run(items), strict=True):
            np.testing.assert_array_equal(left[0].logits, right[0].logits)

    def test_a_word_is_heard_and_the_recording_is_what_was_played(self, m4_build: Build, tmp_path: Path) -> None:
        with emulated(m4_build, tmp_path) as port:
            result = call("monitor", "--port", port, "--play", YES, "--record", tmp_path / "heard.wav", "--json")
        assert result.exit_code == 0, result.output
        events = [json.loads(line) for line in result.stdout.splitlines()]
        assert events[0]["event"] == "hello" and events[0]["target"] == "cortex-m4"
        assert [event["label"] for event in events if event["event"] == "detection"] == ["yes"]
        assert events[-1] | {"frames_lost": 0} == events[-1]
        heard, rate = soundfile.read(tmp_path / "heard.wav", dtype="int16")
        played, _ = soundfile.read(YES, dtype="int16")
        assert rate == 16000
        np.testing.assert_array_equal(heard[: len(played)], played)
        assert not heard[len(played) :].any()

    def test_a_build_that_the_device_does_not_run_is_refused(
        self, m4_build: Build, recordings: Path, emulated_m4: Path
    ) -> None:
        result = call("verify", m4_build.folder, "--data", recordings, "--port", emulated_m4)
        assert_refused(result, str(emulated_m4), "another model")

    def test_a_device_without_a_microphone_asks_for_a_recording(self, emulated_m4: Path, tmp_path: Path) -> None:
        result = call("monitor", "--port", emulated_m4, "--record", tmp_path / "x.wav")
        assert_refused(result, "no microphone")
        assert "--play" in result.stderr
        assert not list(tmp_path.glob("*x.wav*"))

    def test_a_port_in_use_is_busy(self, emulated_m4: Path) -> None:
        with Port(emulated_m4):
            assert_refused(call("monitor", "--port", emulated_m4, "--seconds", 1), str(emulated_m4), "busy")

    def test_a_cable_pulled_in_the_middle(self, builds: dict[str, Build], tmp_path: Path) -> None:
        """What was recorded until then is kept, whole."""
        long = np.random.default_rng(2).integers(-9000, 9000, 160_000).astype(np.int16)
        with emulated(builds["cortex-m4"], tmp_path) as path, Port(path) as port:
            link = Link(port)

            def show(event: dict[str, object]) -> None:
                if event["event"] == "level" and not pulled.is_set():
                    pulled.set()
                    os.system(f"pkill -f {builds['cortex-m4'].elf}")

            pulled = threading.Event()
            with pytest.raises(InputError, match=r"gone|no answer|takes no bytes"):
                monitor(link, MonitorOptions(None, tmp_path / "part.wav", long), show)
        heard, _ = soundfile.read(tmp_path / "part.wav", dtype="int16")
        assert 0 < len(heard) < len(long)
        np.testing.assert_array_equal(heard, long[: len(heard)])


@pytest.fixture
def silent_port() -> Generator[Path]:
    """A pseudo-terminal at whose other end nobody answers."""
    host, device = pty.openpty()
    yield Path(os.ttyname(device))
    os.close(host)
    os.close(device)


def test_nobody_answers(silent_port: Path) -> None:
    started = time.monotonic()
    assert_refused(call("monitor", "--port", silent_port, "--baud", 921600), "no answer", str(silent_port))
    assert time.monotonic() - started < 8


def test_a_port_that_is_not_there(tmp_path: Path) -> None:
    assert_refused(call("monitor", "--port", tmp_path / "ttyACM9"), "no such port", "ttyACM9")


def test_a_file_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert_refused(call("monitor", "--port", tmp_path / "file"), "not a serial port")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_speed_that_no_port_has(silent_port: Path) -> None:
    assert_refused(call("monitor", "--port", silent_port, "--baud", 12345), "12345 baud")


def test_the_recording_must_be_writable_before_anybody_speaks(silent_port: Path, tmp_path: Path) -> None:
    assert_refused(call("monitor", "--port", silent_port, "--record", tmp_path), str(tmp_path), "folder")


def test_the_only_port_is_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no serial port"):
        find_port(tmp_path)
    (tmp_path / "ttyACM0").touch()
    (tmp_path / "ttyS0").touch()
    assert find_port(tmp_path) == tmp_path / "ttyACM0"
    (tmp_path / "ttyUSB3").touch()
    with pytest.raises(InputError, match=r"2 serial ports found: .*ttyACM0.*ttyUSB3") as found:
        find_port(tmp_path)
    assert found.value.hint and "--port" in found.value.hint
