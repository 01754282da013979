"""A board's firmware from the microphone's bits to the word in its log, in QEMU: all of it that is not registers."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.data.audio import read_recording
from mbx_deploy.engines.session import ITEM_STREAM, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.sim.microphone import pdm_decimate, pdm_words
from mbx_deploy.system.tools import find_tool, run_tool
from tests.made.c_microphone import sigma_delta
from tests.made.firmware import INCLUDES, LINKER_FLAGS

pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHARED = ("application", "report", "link", "frame", "remote", "audio_queue", "microphone", "pdm", "light", "board")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
BLOCK = 160
STRIDE_FRAMES = 25


class ListeningBoard:
    """The firmware of a board's core, with a file for its microphone."""

    def __init__(self, name: str, recognizer: CompiledModel, folder: Path) -> None:
        self.folder = folder
        target = find_target(name)
        assert target.emulated_as
        self.machine = find_target(target.emulated_as).machine
        files = generate_project(recognizer, target, stride_frames=STRIDE_FRAMES)
        kept = {n: t for n, t in files.items() if n.startswith(("src/", "include/", "generated/"))}
        kept |= {n: t for n, t in files.items() if n.startswith("board/") and n[10:].split(".")[0] in SHARED}
        kept["board/main.c"] = files["board/main.c"]
        for part in ("startup.c", "semihosting.c", "semihosting.h"):
            kept[f"board/{part}"] = files[f"emulator/{part}"]
        kept["linker.ld"] = files["emulator/linker.ld"]
        kept["board/listening_board.c"] = (Path(__file__).parent / "listening_board.c").read_text()
        for path, content in kept.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        units = sorted(path for path in kept if path.endswith((".c", ".S")))
        flags = (*STRICT, target.optimization, *target.compile_flags, "-ffunction-sections", "-fdata-sections")
        command = ["arm-none-eabi-gcc", *flags, *INCLUDES, *units, *LINKER_FLAGS, "-o", "firmware.elf"]
        run_tool(command, cwd=folder, what="compiling the board")

    def listen(self, words: np.ndarray, burst: int) -> dict[str, Any]:
        """Return the samples, the log's lines and the light's changes for words that arrive in bursts of blocks."""
        (self.folder / "bits.bin").write_bytes(np.uint32(burst).tobytes() + words.astype("<u2").tobytes())
        command = ["qemu-system-arm", "-M", str(self.machine), "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", "firmware.elf"]
        done = subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        assert done.returncode == 0, (done.returncode, done.stderr)
        return {
            "samples": np.fromfile(self.folder / "samples.bin", "<i2"),
            "log": (self.folder / "log.txt").read_text().replace("\r\n", "\n").splitlines(),
            "light": list((self.folder / "light.bin").read_bytes()),
        }


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    """A microphone's words for half a second of quiet, "yes", and a second of quiet, 20 dB below full scale."""
    spoken = read_recording(EXAMPLES / "yes.wav").samples / 32768 * 0.1
    signal = np.concatenate([np.zeros(8000), spoken, np.zeros(16000)])
    signal = signal[: len(signal) // BLOCK * BLOCK]
    fine = np.interp(np.arange(128 * len(signal)) / 128, np.arange(len(signal)), signal)
    return pdm_words(sigma_delta(fine + 0.01))


@pytest.fixture(scope="module")
def samples(words: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(words.astype(">u2").view(np.uint8))
    return pdm_decimate(bits, 160)


@pytest.fixture(scope="module", params=["nrf52840-dk", "raspberry-pi-pico"])
def board(
    request: pytest.FixtureRequest, shipped: CompiledModel, tmp_path_factory: pytest.TempPathFactory
) -> ListeningBoard:
    return ListeningBoard(request.param, shipped, tmp_path_factory.mktemp("listening") / request.param)


def decisions(recognizer: CompiledModel, samples: np.ndarray) -> list[str]:
    """Return the log's lines of the simulator's events."""
    lines = []
    for result in SimEngine(recognizer, STRIDE_FRAMES).run([Item(ITEM_STREAM, samples)])[0]:
        word, score, heard = (int(value) for value in result.event)
        if word >= 0:
            hundredths, tenths = score * 100 >> 15, heard // 1600
            text = f"{hundredths // 100}.{hundredths % 100:02}"
            lines.append(f"{tenths // 10}.{tenths % 10} s {recognizer.labels[word]} {text}")
    return lines


def test_bits_to_words(board: ListeningBoard, words: np.ndarray, samples: np.ndarray, shipped: CompiledModel) -> None:
    """The decimator's bytes are its twin's, and the log says what the simulator's results lead to."""
    heard = board.listen(words, 1)
    np.testing.assert_array_equal(heard["samples"], samples)
    expected = decisions(shipped, samples)
    assert heard["log"] == expected and len(expected) == 1 and " yes " in expected[0]
    assert heard["light"] == [1, 0]


def test_a_core_that_falls_behind_passes_windows_over_and_loses_no_audio(
    board: ListeningBoard, words: np.ndarray, samples: np.ndarray
) -> None:
    heard = board.listen(words, 100)  # a second at once: half of it is a backlog
    np.testing.assert_array_equal(heard["samples"], samples)
    assert heard["log"].count("too slow: windows are passed over") == 1
    assert not any(line.startswith("overruns") for line in heard["log"])


def test_overruns_are_counted_and_told(board: ListeningBoard, words: np.ndarray) -> None:
    heard = board.listen(words, 150)  # a second and a half: the queue takes 102 blocks of it
    assert next(line for line in heard["log"] if line.startswith("overruns")) == "overruns 48"
