"""Boards whose boot ROM shows itself as a drive that takes a UF2 file: by copying it, or through picotool."""

import os
import re
import time
from pathlib import Path

from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.flashing.device import READ_BACK, Device, Say, lost, wrong_chip
from mbx_deploy.flashing.firmware import Firmware
from mbx_deploy.flashing.programs import run_program
from mbx_deploy.flashing.usb import list_usb
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import find_tool

MOUNTS = Path("/proc/self/mounts")
INFO_NAME, IMAGE_NAME = "INFO_UF2.TXT", "firmware.uf2"  # the UF2 specification, "Files exposed by bootloaders"
GONE_S = 15.0
HOLD = "hold BOOTSEL while plugging the board in"


class Uf2Drive:
    """The drive of a boot ROM. It takes the blocks in any order, and goes away once it has the last of them."""

    name, what, image = "uf2", "drive", "uf2"
    after = "its boot ROM goes away and starts it when it has every block"
    where_none = f"{HOLD}, and mount the drive that appears; or name its folder with --probe"

    def find(self, firmware: Firmware) -> list[Device]:
        """Return the mounted drives of the build's kind of board."""
        drives = [folder for folder in _mounted() if (folder / INFO_NAME).is_file()]
        return [Device(str(d), _board(d)) for d in drives if _board(d) == firmware.probe.drive]

    def named(self, firmware: Firmware, ident: str) -> Device | None:
        """Return the drive in a folder. Raises InputError for a folder that is no such drive, or another board's."""
        folder = Path(ident)
        if not folder.exists():
            return None
        if not (folder / INFO_NAME).is_file():
            raise InputError(f"{ident} is no drive of a boot ROM: it holds no {INFO_NAME}", self.where_none)
        board = _board(folder)
        if board != firmware.probe.drive:
            raise wrong_chip(firmware, f"says it is {board or 'nothing that we know'} (need {firmware.probe.drive})")
        return Device(ident, board)

    def write(self, firmware: Firmware, device: Device, say: Say) -> str:
        """Copy the file. That the drive goes away after it was written whole is its word that all blocks came."""
        folder, data = Path(device.ident), firmware.content("uf2")
        is_drive = os.path.ismount(folder)
        path = folder / IMAGE_NAME
        say(f"copying {len(data):,} bytes to {path}")
        waiting = bool(list_usb(firmware.probe.usb))
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if not is_there(folder):
                raise lost(self, firmware, device, "its drive went away") from None
            reason = (error.strerror or str(error)).lower()
            hint = "plug the board in again, holding BOOTSEL, and give the same line"
            raise InputError(f"can't write {path}: {reason}", hint) from None
        if not is_drive:
            if path.read_bytes() != data:
                raise CheckFailed(f"{path} does not hold what was written", "write it again")
            return "read back from the folder, which is no drive: no board has told that it took it"
        end = time.monotonic() + GONE_S

        def is_left() -> bool:  # a mount by hand outlives its device
            return is_there(folder) and (not waiting or bool(list_usb(firmware.probe.usb)))

        while is_left() and time.monotonic() < end:
            time.sleep(0.1)
        if is_left():
            what = f"the board did not take the firmware: its drive is still there {GONE_S:.0f} s after the last block"
            raise CheckFailed(what, f"{HOLD}, and give the same line again")
        return "the boot ROM took every block and started the firmware; picotool could read it back"


class Picotool:
    """picotool, which reads back."""

    name, what, image = "picotool", "board", "uf2"
    after = READ_BACK
    where_none = HOLD

    def __init__(self) -> None:
        """Raises ToolMissing where there is no picotool."""
        found = find_tool("picotool")
        if found is None:
            hint = "build it from github.com/raspberrypi/picotool, or copy by --tool uf2"
            raise ToolMissing("picotool is not installed (needed to write to a board)", hint)
        self.command = found

    def find(self, firmware: Firmware) -> list[Device]:
        """Return the boards whose boot ROM waits on USB, by bus and address: their serial numbers are all the same."""
        return [Device(f"{d.bus}:{d.address}", d.name) for d in list_usb(firmware.probe.usb)]

    def named(self, firmware: Firmware, ident: str) -> Device | None:
        """Return None: USB lists all."""
        return None

    def write(self, firmware: Firmware, device: Device, say: Say) -> str:
        """Write, let picotool read back and compare, start."""
        bus, _, address = device.ident.partition(":")
        with scratch_folder() as temporary:
            (Path(temporary) / IMAGE_NAME).write_bytes(firmware.content("uf2"))
            say(f"writing {len(firmware.image.data):,} bytes")
            options = ["--verify", "--execute", IMAGE_NAME, "--bus", bus, "--address", address]
            told = run_program([self.command, "load", *options], cwd=Path(temporary))
        if told.code and re.search(r"did not match|mismatch|verif\w+.*fail|^\s*FAILED", told.output, re.I | re.M):
            raise CheckFailed(
                "the board does not hold what was written: picotool's comparison failed", "write it again"
            )
        if told.code:
            raise lost(self, firmware, device, told.complaint)
        return "read back by picotool"


def is_there(folder: Path) -> bool:
    """Whether a drive is still mounted and answers."""
    try:
        os.stat(folder / INFO_NAME)
        return True
    except OSError:
        return False


def _board(folder: Path) -> str:
    """Return the Board-ID of a drive, "" where it has none. Source: the UF2 specification, INFO_UF2.TXT."""
    try:
        text = (folder / INFO_NAME).read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"^Board-ID:\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _mounted() -> list[Path]:
    """Return the folders where FAT drives are mounted. Source: fstab(5): blanks in names are octal."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    found = [row[1] for row in words if len(row) > 2 and row[2] in ("vfat", "msdos")]
    return [Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name)) for name in found]
