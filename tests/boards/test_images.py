"""The real images, in emulators of their chips: from the microphone's bits to the word on the serial port.

With what the flash costs: by the line of the RP2040's cache, on the other chips in the cycles of an instruction. The
models are the manuals' words, not the chips.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mbx_deploy.codegen.target import Target, find_target, list_targets
from mbx_deploy.commands.cli import cli
from mbx_deploy.data.audio import read_recording
from mbx_deploy.emulation.heard import Heard, LineCollector
from mbx_deploy.emulation.images import before_gain, join_recordings, run_image
from mbx_deploy.emulation.modulator import microphone_bits
from mbx_deploy.emulation.rp2040 import find_rp2040js
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.measure.profile.inference import count_listening
from mbx_deploy.sim.microphone import pdm_decimate
from mbx_deploy.system.resources import resolve_model
from mbx_deploy.system.tools import find_tool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]
WORDS = ("yes", "stop", "left")
PAGE = EXAMPLES.parent / "docs" / "boards.md"


def made(name: str, folder: Path, model: str | None = None) -> Build:
    """Return a build whose stride is what its board keeps up with."""
    build(resolve_model(model), find_target(name), folder, listen=count_listening)
    return load_build(folder)


def check_the_page(build: Build, column: str) -> None:
    """docs/boards.md says of a board what its build tells."""
    told = json.loads((build.folder / "memory_report.json").read_text())["listening"]
    lines = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("|")]
    heads = [cell.strip() for cell in lines[0]]
    row = next(line for line in lines if line[0].strip() == f"`{build.target.name}`")
    cell = dict(zip(heads, (text.strip() for text in row), strict=True))[f"with `{column}`"]
    expected = f"{told['decisions_per_s']:g}, asleep {told['idle_share']:.0%}".replace("%", " %")
    assert cell in (expected, "the same"), (build.target.name, cell, expected)


@pytest.fixture(scope="module")
def nrf(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return made("nrf52840-dk", tmp_path_factory.mktemp("images") / "nrf52840-dk")


@pytest.fixture(scope="module", params=["nrf52840-dk", "stm32f4-discovery"])
def board(request: pytest.FixtureRequest, nrf: Build, tmp_path_factory: pytest.TempPathFactory) -> Build:
    if request.param == "nrf52840-dk":
        return nrf
    return made(request.param, tmp_path_factory.mktemp("images") / request.param)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def recordings(words: tuple[str, ...], target: Target) -> np.ndarray:
    """Return words with a second of quiet around each, as a board's microphone gives them."""
    return before_gain(join_recordings([read_recording(EXAMPLES / f"{word}.wav").samples for word in words]), target)


def test_words(board: Build) -> None:
    words = WORDS if board.target.clock_hz == 64_000_000 else WORDS[:1]  # a faster chip takes longer to emulate
    heard = run_image(board, recordings(words, board.target))
    assert [word for _, word, _ in heard.words] == list(words)
    check_the_page(board, "kws10")
    assert heard.faults == [] and heard.overruns == 0
    assert heard.decisions_per_s == pytest.approx(4, abs=0.05)
    told = json.loads((board.folder / "memory_report.json").read_text())["listening"]
    # What the build estimates is what the emulator counts; the first second of it has no windows.
    assert told["decisions_per_s"] == 4 and told["idle_share"] - 0.05 < heard.idle_share < told["idle_share"] + 0.25
    on, off = (time for time, _ in heard.lights[:2])
    assert heard.lights[0][1] and not heard.lights[1][1] and off - on == pytest.approx(0.5, abs=0.02)
    for second, line in heard.lines:  # the log's clock is the board's, less what a decision takes
        assert 0 <= second - float(line.split()[0]) < 0.5


def test_the_streaming_model_leaves_an_nrf52840_asleep(tmp_path: Path) -> None:
    """60 % of the time, deciding ten times a second."""
    made_build = made("nrf52840-dk", tmp_path / "b", "kws10s")
    heard = run_image(made_build, recordings(("yes",), made_build.target))
    assert heard.faults == [] and heard.overruns == 0
    assert heard.decisions_per_s == pytest.approx(10, abs=0.1)
    assert heard.idle_share > NRF_STREAMING_IDLE_SHARE
    check_the_page(made_build, "kws10s")


NRF_STREAMING_IDLE_SHARE = 0.6  # 0.66 after the first word


@pytest.mark.slow
def test_three_words_on_an_stm32f407(tmp_path: Path) -> None:
    made_build = made("stm32f4-discovery", tmp_path / "b")
    heard = run_image(made_build, recordings(WORDS, made_build.target))
    assert [word for _, word, _ in heard.words] == list(WORDS) and heard.overruns == 0


@pytest.mark.slow
def test_the_pico_boots_hears_a_word_and_keeps_up(tmp_path: Path) -> None:
    """Its flash costs 544 cycles a missed line of eight bytes: run from there, it decided once in 1.84 s."""
    try:
        find_rp2040js()
    except ToolMissing as error:
        pytest.skip(str(error))
    made_build = made("raspberry-pi-pico", tmp_path / "b")
    heard = run_image(made_build, recordings(("yes",), made_build.target)[8000:])
    assert [word for _, word, _ in heard.words] == ["yes"]
    assert heard.faults == [] and heard.overruns == 0
    assert not any("passed over" in line for _, line in heard.lines)
    assert heard.decisions_per_s == pytest.approx(2, abs=0.05)
    assert heard.idle_share > 0.05
    check_the_page(made_build, "kws10")


def test_a_fault_is_told(nrf: Build, tmp_path: Path) -> None:
    """A firmware that reaches for what is not there does not go on in silence."""
    base = b"\x00\xd0\x01\x40"  # the PDM's address, among the driver's constants
    elf = nrf.elf.read_bytes()
    assert base in elf
    folder = tmp_path / "b"
    shutil.copytree(nrf.folder, folder)
    (folder / "firmware.elf").write_bytes(elf.replace(base, b"\x00\x00\x00\x60"))
    heard = run_image(replace(nrf, folder=folder), np.zeros(3200, np.int16))
    assert heard.faults and "nvalid memory" in heard.faults[0] and heard.lines == []


def test_from_the_command_line(nrf: Build) -> None:
    done = call("run", nrf.folder, EXAMPLES / "yes.wav", "--image", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [word["word"] for word in told["words"]] == ["yes"] and told["overruns"] == 0
    done = call("run", nrf.folder, EXAMPLES / "yes.wav", "--image", "--trace")
    assert done.exit_code == 2 and "--trace" in done.output


def test_what_no_emulator_boots_is_refused(nrf: Build) -> None:
    with pytest.raises(InputError, match=r"no emulator here boots an image of cortex-m4"):
        run_image(replace(nrf, target=find_target("cortex-m4")), np.zeros(16, np.int16))
    with pytest.raises(InputError, match="too much to hear"):
        run_image(nrf, np.zeros(61 * 16000, np.int16))


def test_bits_are_the_samples() -> None:
    """The modulator's bits, decimated, are what went in."""
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(3200) / 16000)).astype(np.int16)
    back = pdm_decimate(microphone_bits(tone)[: 128 * 3000], 16)[1600:3000].astype(float)
    assert back.std() == pytest.approx(8000 / np.sqrt(2), rel=0.02)


def test_what_is_read_from_the_log() -> None:
    heard = Heard()
    collector = LineCollector(heard)
    for byte in b"1.2 s yes 0.93\r\noverruns 3\r\noverruns 5\r\nmissed blocks 2\r\n":
        collector.take(byte, 1.5)
    assert heard.words == [(1.2, "yes", 0.93)] and heard.overruns == 7


def test_the_page_lists_every_board_with_its_core_and_its_log() -> None:
    text = PAGE.read_text()
    for target in (one for one in list_targets() if one.is_board):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{target.name}` |"))
        assert all(f"`.{kind}`" in row for kind in target.images)
        assert target.log and f"{target.uart_baud:,} baud" in text
        assert ("USB socket" in row.split("|")[5]) == ("stay" not in target.log)
