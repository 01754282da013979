"""Writes a build to its board: which tool, which probe, what will happen, and that it did."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.codegen.target import Target
from mbx_deploy.errors import InputError, Interrupted, ToolMissing
from mbx_deploy.flashing.bossac import Bossac
from mbx_deploy.flashing.debug_probe import OpenOcd, PyOcd
from mbx_deploy.flashing.device import Device, Say, Tool, choose_device, names
from mbx_deploy.flashing.firmware import Firmware, load_firmware
from mbx_deploy.flashing.uf2 import Picotool, Uf2Drive

MAKERS: dict[str, Callable[[], Tool]] = {
    "pyocd": PyOcd,
    "openocd": OpenOcd,
    "bossac": Bossac,
    "picotool": Picotool,
    "uf2": Uf2Drive,
}


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    firmware: Firmware
    tool: Tool
    device: Device

    def render(self) -> str:
        """Return it in a line."""
        image = self.firmware.image
        return (
            f"{self.firmware.target.name}: {len(image.data):,} bytes at {image.origin:#x} "
            f"(firmware.{self.tool.image}, SHA-256 {self.firmware.digest[:12]}), by {self.tool.name} "
            f"to {self.tool.what} {self.device}; {self.tool.after}"
        )

    def to_dict(self, verified: str | None) -> dict[str, Any]:
        """Return it as JSON takes it. verified: how, or None where nothing was written."""
        return {
            "build": str(self.firmware.folder),
            "target": self.firmware.target.name,
            "tool": self.tool.name,
            "probe": {"id": self.device.ident, "name": self.device.name},
            "image": f"firmware.{self.tool.image}",
            "origin": self.firmware.image.origin,
            "bytes": len(self.firmware.image.data),
            "sha256": self.firmware.digest,
            "written": verified is not None,
            "verified": verified,
        }


def make_plan(folder: Path, ident: str | None = None, tool: str | None = None) -> Plan:
    """Return what writing a build would do; nothing is touched but what is plugged in is looked at.

    ident: of a probe, port or drive, where there are several. tool: of MAKERS; default what the board is written by.
    Raises InputError for a bad build, no device or several, a tool that does not fit; ToolMissing for one not there.
    """
    firmware = load_firmware(folder)
    chosen = _choose_tool(firmware, ident, tool)
    return Plan(firmware, chosen, choose_device(chosen, firmware, ident))


def carry_out(plan: Plan, say: Say) -> dict[str, Any]:
    """Write, verify and start; return what was done. Raises InputError or CheckFailed, each saying what the board is
    left with.
    """
    try:
        verified = plan.tool.write(plan.firmware, plan.device, say)
    except KeyboardInterrupt:
        what = "interrupted: if the board was being written, its firmware is incomplete"
        raise Interrupted(what, "give the same line again") from None
    return plan.to_dict(verified)


def fitting_tools(target: Target) -> list[str]:
    """Return the names of the tools that can write a board, the board's own way first."""
    probe = target.probe
    assert probe is not None
    if probe.method == "bossac":
        fits = ["bossac", "pyocd"]
    elif probe.method == "uf2":
        fits = ["picotool", "uf2", "pyocd"]
    else:
        fits = [probe.method, "pyocd"]
    if probe.openocd:
        fits.append("openocd")
    return list(dict.fromkeys(fits))


def _choose_tool(firmware: Firmware, ident: str | None, name: str | None) -> Tool:
    fits = fitting_tools(firmware.target)
    if name is not None:
        if name not in fits:
            what = f"{firmware.target.name} can't be written by {name}"
            raise InputError(what, f"--tool {names(fits)}")
        return MAKERS[name]()
    probe = firmware.probe
    if probe.method == "uf2":
        return _choose_uf2(firmware, ident)
    try:
        return MAKERS[probe.method]()
    except ToolMissing:
        if probe.method == "pyocd" and probe.openocd:
            try:
                return OpenOcd()
            except ToolMissing:
                pass
        raise


def _choose_uf2(firmware: Firmware, ident: str | None) -> Tool:
    """Return picotool where it is there and sees a board: it reads back. Else the drive."""
    if ident is None or not Path(ident).exists():
        try:
            tool = Picotool()
        except ToolMissing:
            return Uf2Drive()
        if tool.find(firmware):
            return tool
    return Uf2Drive()
