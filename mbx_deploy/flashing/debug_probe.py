"""Boards with a debug probe: through pyOCD, or through OpenOCD.

Both go the same way: the chip's identity is read without halting it, then in one session the image is written, read
back, and started.
"""

import importlib.util
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.flashing.device import READ_BACK, Device, Say, check_identity, compare, lost, wrong_chip
from mbx_deploy.flashing.firmware import Firmware
from mbx_deploy.flashing.programs import LIST_S, Outcome, run_program
from mbx_deploy.flashing.usb import list_usb
from mbx_deploy.system.doctor import apt_line, pip_line
from mbx_deploy.system.json_documents import parse_json
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import find_tool

IMAGE_NAME, BACK_NAME = "firmware.hex", "back.bin"
UNKNOWN_CHIP = "cortex_m"  # what pyOCD says of a probe that does not know its board


class _ProbeTool(ABC):
    """What both do. A subclass has the program's own words for looking at the chip and for writing to it."""

    name, what, image = "", "probe", "hex"
    after = READ_BACK
    where_none = ""

    def named(self, firmware: Firmware, ident: str) -> Device | None:
        """Return None: find() lists all."""
        return None

    def write(self, firmware: Firmware, device: Device, say: Say) -> str:
        """Write, read back, compare, start."""
        probe = firmware.probe
        if device.chip is not None and not _same_chip(device.chip, probe.chip):
            raise wrong_chip(firmware, f"has a {device.chip}")
        if probe.id_mask:
            check_identity(firmware, _word(self._look(firmware, device), self.name, firmware, device))
        else:
            say(f"the file of {firmware.target.name} names no identity of its chip: it is not compared")
        with scratch_folder() as temporary:
            folder = Path(temporary)
            (folder / IMAGE_NAME).write_bytes(firmware.content("hex"))
            say(f"writing {len(firmware.image.data):,} bytes")
            told = self._write_and_read(firmware, device, folder)
            if told.code or not (folder / BACK_NAME).is_file():
                raise lost(self, firmware, device, told.complaint)
            return compare(firmware, (folder / BACK_NAME).read_bytes(), self.name)

    @abstractmethod
    def find(self, firmware: Firmware) -> list[Device]:
        """Return the probes that are plugged in."""

    @abstractmethod
    def _look(self, firmware: Firmware, device: Device) -> Outcome:
        """Have the word at id_address printed, without halting the chip."""

    @abstractmethod
    def _write_and_read(self, firmware: Firmware, device: Device, folder: Path) -> Outcome:
        """Write IMAGE_NAME of the folder, read the same bytes into BACK_NAME, start the firmware."""


class PyOcd(_ProbeTool):
    """pyOCD's command line, in an environment of its own or in ours."""

    name = "pyocd"
    where_none = "plug the board in by its debug probe's socket; pyocd list tells what there is"

    def __init__(self) -> None:
        """Raises ToolMissing where there is no pyOCD."""
        found = find_tool("pyocd")
        if found is None and importlib.util.find_spec("pyocd") is None:
            raise ToolMissing(
                "pyocd is not installed (needed to write to a board)", f"install it: {pip_line(['flash'])}"
            )
        self.command = [found] if found else [sys.executable, "-m", "pyocd"]

    def find(self, firmware: Firmware) -> list[Device]:
        """Return the probes that pyOCD sees."""
        told = run_program([*self.command, "json", "--probes"], timeout_s=LIST_S)
        try:
            listed = parse_json(told.output[told.output.index("{") : told.output.rindex("}") + 1])
            if listed["status"]:
                raise InputError(f"pyocd can't list the probes: {listed.get('error')}", "pyocd list tells more")
            return [
                Device(str(board["unique_id"]), str(board["info"]), _known_chip(board.get("target")))
                for board in listed["boards"]
            ]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"pyocd can't list the probes: {told.complaint}", "pyocd list tells more") from None

    def _look(self, firmware: Firmware, device: Device) -> Outcome:
        return self._commands(firmware, device, "attach", [f"read32 {firmware.probe.id_address:#x}"])

    def _write_and_read(self, firmware: Firmware, device: Device, folder: Path) -> Outcome:
        image = firmware.image
        steps = [f"load {IMAGE_NAME}", f"savemem {image.origin:#x} {len(image.data)} {BACK_NAME}", "reset"]
        return self._commands(firmware, device, "halt", steps, folder)

    def _commands(
        self, firmware: Firmware, device: Device, mode: str, steps: Sequence[str], folder: Path | None = None
    ) -> Outcome:
        # auto_unlock would erase a locked chip merely to look at it.
        connect = ["-W", "-u", device.ident, "-t", firmware.probe.chip, "-M", mode, "-O", "auto_unlock=false"]
        given = [word for step in steps for word in ("-c", step)]
        told = run_program([*self.command, "cmd", *connect, *given], cwd=folder)
        if "not recognized" in told.output and "Target type" in told.output:
            what = f"pyocd does not know the chip {firmware.probe.chip}"
            hint = f"its pack brings it: pyocd pack install {firmware.probe.chip}"
            raise InputError(what, f"{hint}; or --tool openocd" if firmware.probe.openocd else hint)
        if "APPROTECT enabled" in told.output:  # what pyOCD says of Nordic's chips
            unlock = f"pyocd erase --mass -u {device.ident} -t {firmware.probe.chip}"
            raise InputError(
                f"the chip behind {device} is locked", f"{unlock} unlocks it, and erases all that it holds"
            )
        return told


class OpenOcd(_ProbeTool):
    """OpenOCD with the lines that the target's file has for it."""

    name = "openocd"
    where_none = "plug the board in by its debug probe's socket; lsusb tells what there is"

    def __init__(self) -> None:
        """Raises ToolMissing where there is no OpenOCD."""
        found = find_tool("openocd")
        if found is None:
            raise ToolMissing(
                "openocd is not installed (needed to write to a board)", f"install it: {apt_line(['openocd'])}"
            )
        self.command = [found]

    def find(self, firmware: Firmware) -> list[Device]:
        """Return the probes of the board's kind on USB: OpenOCD itself lists none."""
        found = list_usb(firmware.probe.usb)
        return [Device(device.serial or f"{device.bus}:{device.address}", device.name) for device in found]

    def _look(self, firmware: Firmware, device: Device) -> Outcome:
        return self._commands(firmware, device, [f"mdw {firmware.probe.id_address:#x}"])

    def _write_and_read(self, firmware: Firmware, device: Device, folder: Path) -> Outcome:
        image = firmware.image
        dump = f"dump_image {BACK_NAME} {image.origin:#x} {len(image.data)}"
        steps = ["reset halt", f"flash write_image erase {IMAGE_NAME}", dump, "reset run"]
        return self._commands(firmware, device, steps, folder)

    def _commands(
        self, firmware: Firmware, device: Device, steps: Sequence[str], folder: Path | None = None
    ) -> Outcome:
        serial = [f"adapter serial {device.ident}"]
        if ":" in device.ident:  # it has no serial number
            if len(self.find(firmware)) > 1:
                what = f"openocd can't choose {device}, which has no serial number"
                raise InputError(what, "unplug the other probes")
            serial = []
        ports = [f"{server}_port disabled" for server in ("gdb", "tcl", "telnet")]
        lines = [*firmware.probe.openocd, *serial, *ports, "init", *steps, "shutdown"]
        return run_program([*self.command, *(word for line in lines for word in ("-c", line))], cwd=folder)


def _known_chip(told: object) -> str | None:
    return None if told in (None, "", UNKNOWN_CHIP) else str(told)


def _same_chip(told: str, wanted: str) -> bool:
    """Whether two names mean one chip: pyOCD has families, "stm32f407vg" and "stm32f407vgtx"."""
    one, other = told.lower(), wanted.lower()
    return one.startswith(other) or other.startswith(one)


def _word(told: Outcome, tool: str, firmware: Firmware, device: Device) -> int:
    """Return the word that read32 or mdw printed. Raises InputError where there is none: nothing was written then."""
    found = re.search(rf"\b(?:0x)?{firmware.probe.id_address:08x}:\s+([0-9a-f]{{8}})\b", told.output, re.IGNORECASE)
    if told.code or not found:
        what = f"{device.ident} does not reach the chip of {firmware.target.name}: {told.complaint}"
        raise InputError(what, f"check the board's supply and cable; {tool} says more by itself")
    return int(found[1], 16)
