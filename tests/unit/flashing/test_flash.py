"""`flash`: what it writes, what it refuses, and what it says when hardware fails.

No board is here. The drive of a boot ROM is a folder, or a file system that is mounted for the test; pyOCD, OpenOCD and
bossac are the real ones as far as they go without a board; what they do with one, stand-ins do
(tests/stand_in_programs.py).
"""

import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mbx_deploy.codegen.target import find_target, list_targets
from mbx_deploy.commands.cli import cli
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.image import read_flash_image
from mbx_deploy.flashing import uf2, usb
from mbx_deploy.flashing.debug_probe import OpenOcd
from mbx_deploy.flashing.device import Device
from mbx_deploy.flashing.firmware import load_firmware
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool
from tests.made.stand_in_programs import READ32, Bench, probe

pytestmark = [
    pytest.mark.slow,  # firmware of three boards is built
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("cmake") is None, reason="cmake is not installed"),
]
DK, PICO, NANO = "nrf52840-dk", "raspberry-pi-pico", "arduino-nano-33-ble-sense"
INFO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
BUSY_S = 10


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of the shipped model's build for a target, made once."""
    root, made = tmp_path_factory.mktemp("boards"), {}

    def make(name: str) -> Path:
        if name not in made:
            build(shipped_model_path(), find_target(name), root / name)
            made[name] = root / name
        return made[name]

    return make


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A machine where no board is plugged in yet, and none of the programs installed but the compilers."""
    made = Bench(tmp_path / "bench")
    monkeypatch.setattr(usb, "SYSTEM_DEVICES", made.usb)
    monkeypatch.setattr(uf2, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{made.bin}:{Path(sys.executable).parent}:/usr/bin:/bin")
    return made


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["flash", *map(str, arguments)])


def told(result: Result) -> str:
    """Return the error: one line and a hint, with no traceback and nothing on stdout."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(":")[0].strip() for line in lines[-2:]] == ["error", "hint"], result.stderr
    return lines[-2]


def refused(result: Result, pattern: str) -> None:
    line = told(result)
    assert result.exit_code == 2 and re.search(pattern, line), line


def failed(result: Result, pattern: str) -> None:
    line = told(result)
    assert result.exit_code == 1 and re.search(pattern, line), line


def image_of(folder: Path) -> tuple[int, bytes]:
    image = read_flash_image((folder / "firmware.elf").read_bytes())
    return image.origin, image.data


def assert_holds(bench: Bench, folder: Path) -> None:
    """The stand-in's flash holds the build's ELF, at its address."""
    origin, data = image_of(folder)
    assert bench.flash is not None
    held_from, held = bench.flash
    assert held_from == origin and held[: len(data)] == data and set(held[len(data) :]) <= {0xFF}


# The programs and their boards: a build, and how its board shows itself.
def plug_dk(bench: Bench) -> None:
    bench.install("pyocd")
    bench.set(probes=[probe("683000001")])


def plug_dk_for_openocd(bench: Bench) -> None:
    bench.install("openocd")
    bench.plug("1366:1051", 3, "683000001", "J-Link")


def plug_nano(bench: Bench) -> None:
    bench.install("bossac")
    os.symlink(os.ttyname(pty.openpty()[1]), bench.folder / "ttyACM0")
    bench.plug("2341:005a", 4, "768275C7726D618B", "Arduino Nano 33 BLE", "ttyACM0")


def plug_pico(bench: Bench) -> None:
    bench.install("picotool")
    bench.plug("2e8a:0003", 5, "E0C912D24340", "RP2 Boot")


WAYS = {
    "pyocd": (DK, plug_dk, "683000001"),
    "openocd": (DK, plug_dk_for_openocd, "683000001"),
    "bossac": (NANO, plug_nano, "768275C7726D618B"),
    "picotool": (PICO, plug_pico, "1:5"),
}


@pytest.fixture(params=WAYS)
def way(
    request: pytest.FixtureRequest, bench: Bench, builds: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path, str]:
    """A tool, a build and its board, plugged in."""
    target, plug, ident = WAYS[request.param]
    monkeypatch.setattr(usb, "DEVICES", bench.folder)
    plug(bench)
    return request.param, builds(target), ident


def test_a_board_is_written_and_read_back(bench: Bench, way: tuple[str, Path, str]) -> None:
    tool, folder, ident = way
    for option in ([], ["--probe", ident]):
        result = call(folder, "--tool", tool, "--json", *option)
        assert result.exit_code == 0, result.stderr
        done = json.loads(result.stdout)
        origin, data = image_of(folder)
        assert (done["tool"], done["written"], done["origin"], done["bytes"]) == (tool, True, origin, len(data))
        assert done["sha256"] == hashlib.sha256(data).hexdigest()
        assert done["verified"].startswith("read back")
        assert f"{len(data):,} bytes at {origin:#x}" in result.stderr
        assert_holds(bench, folder)


def test_a_dry_run_says_it_and_writes_nothing(bench: Bench, way: tuple[str, Path, str]) -> None:
    tool, folder, _ = way
    result = call(folder, "--tool", tool, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert f"by {tool} to" in result.stderr
    assert "nothing was written" in result.stdout
    assert bench.flash is None
    assert json.loads(call(folder, "--tool", tool, "--dry-run", "--json").stdout)["written"] is False


def test_what_is_read_back_otherwise_fails(bench: Bench, way: tuple[str, Path, str]) -> None:
    tool, folder, _ = way
    bench.set(fault="flipped")
    failed(call(folder, "--tool", tool), "does not hold what was written")


def test_an_unplugged_cable_in_mid_flash(bench: Bench, way: tuple[str, Path, str]) -> None:
    tool, folder, _ = way
    bench.set(fault="unplugged")
    refused(call(folder, "--tool", tool), "went away while it was written to: the board's firmware is incomplete")


def test_an_unknown_probe(bench: Bench, way: tuple[str, Path, str]) -> None:
    tool, folder, _ = way
    refused(call(folder, "--tool", tool, "--probe", "nobody"), r"no \w+ nobody is connected: there is [^n]")
    assert bench.flash is None


@pytest.mark.parametrize("tool", ["pyocd", "openocd"])
def test_two_probes_need_a_choice(tool: str, bench: Bench, builds: Callable[[str], Path]) -> None:
    WAYS[tool][1](bench)
    bench.set(probes=[probe("683000001"), probe("683000002")])
    bench.plug("1366:1051", 9, "683000002", "J-Link")
    result = call(builds(DK), "--tool", tool)
    refused(result, "2 probes are connected: 683000001 .*, 683000002")
    assert "--probe" in result.stderr
    assert bench.flash is None
    assert call(builds(DK), "--tool", tool, "--probe", "683000002").exit_code == 0
    assert "683000002" in " ".join(bench.calls[-1])


def test_a_probe_without_a_serial_number_is_not_guessed(bench: Bench, builds: Callable[[str], Path]) -> None:
    bench.install("openocd")
    bench.plug("1366:1051", 3)
    bench.plug("1366:1051", 4)
    refused(call(builds(DK), "--tool", "openocd", "--probe", "1:4"), "can't choose 1:4")
    shutil.rmtree(bench.usb / "1-3")
    assert call(builds(DK), "--tool", "openocd").exit_code == 0
    assert not [line for line in bench.calls[-1] if "adapter serial" in line]


@pytest.mark.parametrize("tool", ["pyocd", "openocd"])
def test_another_chip_is_refused_before_anything_is_written(
    tool: str, bench: Bench, builds: Callable[[str], Path]
) -> None:
    WAYS[tool][1](bench)
    bench.set(word=0x00052832)
    refused(call(builds(DK), "--tool", tool), r"another board .* nrf52840-dk \(nrf52840\).* 0x52832, need 0x52840")
    assert bench.flash is None


def test_a_probe_that_knows_its_board_is_believed(bench: Bench, builds: Callable[[str], Path]) -> None:
    plug_dk(bench)
    bench.set(probes=[probe("1", "ST Discovery", "stm32f407vg")])
    refused(call(builds(DK)), "another board is connected: .* has a stm32f407vg")
    bench.set(probes=[probe("1", "Nordic DK", "nrf52840_xxaa")])
    assert call(builds(DK)).exit_code == 0


@pytest.mark.parametrize(
    ("fault", "code", "pattern"),
    [
        ("no power", 2, "683000001 does not reach the chip of nrf52840-dk: No ACK received$"),
        ("no pack", 2, "pyocd does not know the chip nrf52840"),
        ("locked", 2, "683000001.* is locked"),
        ("short", 1, "could not be read back: got [0-9,]+ bytes"),
    ],
)
def test_what_else_goes_wrong_behind_a_probe(
    fault: str, code: int, pattern: str, bench: Bench, builds: Callable[[str], Path]
) -> None:
    plug_dk(bench)
    bench.set(fault=fault)
    (refused if code == 2 else failed)(call(builds(DK)), pattern)


def test_the_chip_is_neither_halted_nor_unlocked_to_look_at_it(bench: Bench, builds: Callable[[str], Path]) -> None:
    plug_dk(bench)
    assert call(builds(DK)).exit_code == 0
    look, write = (line for line in bench.calls if line[0] == "cmd")
    assert look[look.index("-M") + 1] == "attach" and write[write.index("-M") + 1] == "halt"
    assert all("auto_unlock=false" in line for line in (look, write))


def test_openocd_stands_in_where_there_is_no_pyocd(
    bench: Bench, builds: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{bench.bin}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = call(builds(DK))
    refused(result, "pyocd is not installed")
    assert "pip install" in result.stderr
    plug_dk_for_openocd(bench)
    assert json.loads(call(builds(DK), "--json").stdout)["tool"] == "openocd"


@pytest.mark.parametrize(("tool", "name"), [("openocd", DK), ("bossac", NANO), ("picotool", PICO)])
def test_a_missing_tool_is_named_with_what_installs_it(
    tool: str, name: str, bench: Bench, builds: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = builds(name)
    monkeypatch.setenv("PATH", str(bench.bin))
    refused(call(folder, "--tool", tool), f"{tool} is not installed")


def test_builds_that_are_for_no_board(
    bench: Bench, builds: Callable[[str], Path], m4_build: object, tmp_path: Path
) -> None:
    refused(call(getattr(m4_build, "folder", None)), "a build for cortex-m4 can't be .* emulator .mps2-an386.")
    refused(call(tmp_path / "nowhere"), "not a build")
    refused(call(builds(DK), "--tool", "bossac"), "nrf52840-dk can't be written by bossac")
    build(shipped_model_path(), find_target(DK), tmp_path / "arduino", layout="arduino")
    refused(call(tmp_path / "arduino"), "its layout, arduino, is compiled by its own tools")


def test_a_changed_firmware_is_not_written(bench: Bench, builds: Callable[[str], Path], tmp_path: Path) -> None:
    plug_dk(bench)
    folder = tmp_path / "copy"
    shutil.copytree(builds(DK), folder)
    data = bytearray((folder / "firmware.elf").read_bytes())
    data[5000] ^= 1
    (folder / "firmware.elf").write_bytes(data)
    refused(call(folder), "the build was changed .*firmware.elf")
    assert bench.flash is None


def test_a_project_that_was_not_compiled_is_compiled_now(
    bench: Bench, builds: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_dk(bench)
    folder = tmp_path / "copy"
    with monkeypatch.context() as lean:
        lean.setenv("PATH", str(bench.bin))
        build(shipped_model_path(), find_target(DK), folder)
        assert not (folder / "firmware.elf").exists()
        refused(call(folder), "holds no firmware .* arm-none-eabi-gcc and cmake")
    assert call(folder).exit_code == 0
    assert_holds(bench, builds(DK))
    (folder / "src" / "mbx_kernels.c").write_text("int x;\n")
    refused(call(folder), "the build was changed .*mbx_kernels.c")


def drive(folder: Path, info: str = INFO) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "INFO_UF2.TXT").write_bytes(info.encode())
    return folder


def test_a_uf2_is_copied_to_a_named_folder(bench: Bench, builds: Callable[[str], Path], tmp_path: Path) -> None:
    folder = drive(tmp_path / "a drive")
    done = json.loads(call(builds(PICO), "--probe", folder, "--json").stdout)
    assert (done["tool"], done["written"]) == ("uf2", True)
    assert "no board has told" in done["verified"]
    assert (folder / "firmware.uf2").read_bytes() == (builds(PICO) / "firmware.uf2").read_bytes()


@pytest.mark.parametrize(
    ("info", "pattern"),
    [
        (INFO.replace("RPI-RP2", "RP2350"), r"another board .*says it is RP2350 \(need RPI-RP2\)"),
        ("no UF2 at all", "another board .*nothing that we know"),
        (None, "no drive of a boot ROM: it holds no INFO_UF2.TXT"),
    ],
)
def test_a_folder_that_is_not_the_boards(
    info: str | None, pattern: str, bench: Bench, builds: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = drive(tmp_path / "drive", info or "")
    if info is None:
        (folder / "INFO_UF2.TXT").unlink()
    refused(call(builds(PICO), "--probe", folder), pattern)
    assert not (folder / "firmware.uf2").exists()


def test_drives_are_found_where_they_are_mounted(bench: Bench, builds: Callable[[str], Path], tmp_path: Path) -> None:
    refused(call(builds(PICO)), "no drive for raspberry-pi-pico is connected")
    one, other, stick = (
        drive(tmp_path / "RPI RP2"),
        drive(tmp_path / "RP2350", "Board-ID: RP2350\n"),
        tmp_path / "stick",
    )
    stick.mkdir()
    rows = [f"/dev/sd{n} {str(d).replace(' ', chr(92) + '040')} vfat rw 0 0" for n, d in enumerate((one, other, stick))]
    (tmp_path / "mounts").write_text("\n".join([*rows, "proc /proc proc rw 0 0", ""]))
    assert json.loads(call(builds(PICO), "--json").stdout)["probe"] == {"id": str(one), "name": "RPI-RP2"}
    drive(stick)
    refused(call(builds(PICO)), "2 drives are connected")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a file system of so many KB in the place of a boot ROM's drive."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems can't be mounted here")
        return drive(folder)

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def test_a_drive_that_goes_away_has_taken_it(
    bench: Bench, builds: Callable[[str], Path], mounted: Callable[[int], Path]
) -> None:
    folder = mounted(1024)
    size = (builds(PICO) / "firmware.uf2").stat().st_size
    seen = []

    def boot_rom() -> None:
        path = folder / "firmware.uf2"
        while not (path.exists() and path.stat().st_size == size):
            time.sleep(0.01)
        time.sleep(0.3)
        seen.append(path.read_bytes())
        subprocess.run(["umount", "-l", str(folder)], check=True)

    thread = threading.Thread(target=boot_rom, daemon=True)
    thread.start()
    result = call(builds(PICO), "--probe", folder)
    thread.join(BUSY_S)
    assert result.exit_code == 0, result.stderr
    assert "took every block" in result.stdout
    assert seen == [(builds(PICO) / "firmware.uf2").read_bytes()]


def test_a_drive_that_stays_has_not_taken_it(
    bench: Bench, builds: Callable[[str], Path], mounted: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uf2, "GONE_S", 0.3)
    failed(call(builds(PICO), "--probe", mounted(1024)), "the board did not take the firmware")


def test_a_drive_that_is_full(bench: Bench, builds: Callable[[str], Path], mounted: Callable[[int], Path]) -> None:
    refused(call(builds(PICO), "--probe", mounted(64)), "can't write .*no space left")


def test_picotool_is_preferred_where_it_sees_the_board(
    bench: Bench, builds: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = drive(tmp_path / "drive")
    (tmp_path / "mounts").write_text(f"/dev/sda {folder} vfat rw 0 0\n")
    bench.install("picotool")
    assert json.loads(call(builds(PICO), "--dry-run", "--json").stdout)["tool"] == "uf2"
    bench.plug("2e8a:0003", 5, "E0C912D24340", "RP2 Boot")
    assert json.loads(call(builds(PICO), "--dry-run", "--json").stdout)["tool"] == "picotool"


def test_ports_that_are_not_the_bootloaders(
    bench: Bench, builds: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is no port; a board that runs a sketch; another maker's board; a port that nobody brings."""
    monkeypatch.setattr(usb, "DEVICES", tmp_path)
    bench.install("bossac")
    result = call(builds(NANO))
    refused(result, "no port for arduino-nano-33-ble-sense is connected")
    assert "reset button twice" in result.stderr
    _, line = pty.openpty()
    for name in ("ttyACM0", "ttyUSB0", "ttyS0"):
        os.symlink(os.ttyname(line), tmp_path / name)
    bench.plug("2341:805a", 4, "768275C7726D618B", "Nano 33 BLE", "ttyACM0")
    bench.plug("0403:6001", 5, "A5XK3RJT", "FT232R", "ttyUSB0")
    (tmp_path / "file").write_text("")
    for name, pattern in {
        "ttyACM0": "not the port of a bootloader: got USB 2341:805a, Nano 33 BLE, need USB 2341:005a",
        "ttyUSB0": "another board is connected: .* is FT232R .USB 0403:6001.",
        "ttyS0": "not the port of a bootloader: got no USB device",
        "file": "not a serial port",
        "nothing": "no port .*/nothing is connected: there is none",
    }.items():
        refused(call(builds(NANO), "--probe", tmp_path / name), pattern)
    assert bench.flash is None


def test_a_busy_port(bench: Bench, builds: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb, "DEVICES", bench.folder)
    plug_nano(bench)
    with (bench.folder / "ttyACM0").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(call(builds(NANO)), "ttyACM0 is busy: another program has it open")
    assert bench.flash is None
    assert call(builds(NANO)).exit_code == 0


def test_an_interruption_while_writing_says_what_the_board_is_left_with(
    bench: Bench, builds: Callable[[str], Path]
) -> None:
    """A program that writes for ever; SIGINT to ours alone, which ends the other."""
    plug_dk(bench)
    path = bench.bin / "pyocd"
    writes = f'case "$*" in *load*) echo $$ > {bench.folder}/begun; exec sleep 60;; esac'
    path.rename(bench.bin / "pyocd-real")
    path.write_text(f'#!/bin/sh\n{writes}\nexec {bench.bin}/pyocd-real "$@"\n')
    path.chmod(0o755)
    command = [sys.executable, "-m", "mbx_deploy", "flash", str(builds(DK))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not (bench.folder / "begun").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: interrupted: if the board was being written, its firmware is incomplete" in errors
    assert "Traceback" not in errors
    state = Path(f"/proc/{(bench.folder / 'begun').read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"  # ended, maybe not yet collected


# From here on the real programs, as far as they go without a board.


def test_the_real_pyocd_finds_no_probe(builds: Callable[[str], Path]) -> None:
    pytest.importorskip("pyocd", reason="pyocd is not installed")
    refused(call(builds(DK), "--tool", "pyocd"), "no probe for nrf52840-dk is connected")
    refused(call(builds(DK), "--probe", "683000001"), "no probe 683000001 is connected: there is none")


def test_the_real_pyocd_knows_the_lines_and_the_chips() -> None:
    """Names, numbers of words, and all chips but that of ST, whose pack brings it."""
    pytest.importorskip("pyocd", reason="pyocd is not installed")
    from pyocd.commands import commands
    from pyocd.core.options import OPTIONS_INFO
    from pyocd.target.builtin import BUILTIN_TARGETS
    from pyocd.utility.hex import dump_hex_data_to_str

    infos = [kind.INFO for kind in vars(commands).values() if isinstance(getattr(kind, "INFO", None), dict)]
    known = {name: info["nargs"] for info in infos for name in info["names"]}
    for name, count in {"read32": 1, "load": 1, "savemem": 3}.items():
        assert count == known[name] or count in known[name]
    assert "reset" in known and "auto_unlock" in OPTIONS_INFO
    assert dump_hex_data_to_str([0x00052840], start_address=0x10000100, width=32).strip() == READ32.format(
        0x10000100, 0x00052840
    )
    chips = {target.probe.chip for target in list_targets() if target.probe}
    assert chips - set(BUILTIN_TARGETS) == {"stm32f407vg"}


@pytest.mark.skipif(find_tool("openocd") is None, reason="openocd is not installed")
@pytest.mark.parametrize("name", [target.name for target in list_targets() if target.probe and target.probe.openocd])
def test_the_real_openocd_takes_the_lines_and_finds_no_probe(name: str, builds: Callable[[str], Path]) -> None:
    firmware = load_firmware(builds(name))
    with pytest.raises(
        Exception, match=r"123 does not reach the chip of .*: .*(No J-Link|open failed|CMSIS-DAP device)"
    ):
        OpenOcd().write(firmware, Device("123", "nobody"), lambda line: None)


@pytest.mark.skipif(find_tool("openocd") is None, reason="openocd is not installed")
@pytest.mark.parametrize("line", ["adapter serial", "gdb_port"])
def test_the_real_openocd_has_the_command(line: str) -> None:
    done = subprocess.run(
        ["openocd", "-c", "adapter driver dummy", "-c", f"help {line}", "-c", "exit"], capture_output=True, text=True
    )
    assert re.search(rf"^\s*{line}\b", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.skipif(find_tool("bossac") is None, reason="bossac is not installed")
def test_the_real_bossac_of_other_makers_does_not_know_the_chip(
    bench: Bench, builds: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bootloader that answers as the board's does, in as far as bossac asks before it gives up."""
    monkeypatch.setattr(usb, "DEVICES", bench.folder)
    ours, theirs = pty.openpty()
    os.symlink(os.ttyname(theirs), bench.folder / "ttyACM0")
    bench.plug("2341:005a", 4, "768275C7726D618B", "Arduino Nano 33 BLE", "ttyACM0")
    answers = {
        b"N": b"\n\r",
        b"V": b"Arduino Bootloader (SAM-BA extended) 2.0 [Arduino:IKXYZ]\n\r",
        b"I": b"nRF52840-QIAA\n\r",
    }

    def bootloader() -> None:
        waiting = b""
        while True:
            try:
                waiting += os.read(ours, 100)
            except OSError:
                return
            while b"#" in waiting:
                line, _, waiting = waiting.partition(b"#")
                os.write(ours, answers.get(line[-1:] or b"", b"\0\0\0\0") if line[-1:] in answers else b"\0\0\0\0")

    threading.Thread(target=bootloader, daemon=True).start()
    result = call(builds(NANO))
    refused(result, "bossac does not know the chip of arduino-nano-33-ble-sense: need Arduino's build")
    assert "arduino-cli" in result.stderr
