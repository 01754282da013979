"""The boards that are plugged in, and which of them is meant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.flashing.firmware import Firmware

Say = Callable[[str], None]
READ_BACK = "then it is read back and started"


@dataclass(frozen=True)
class Device:
    """ident: what --probe takes. name: for people. chip: the one that the probe says is behind it, where it knows."""

    ident: str
    name: str
    chip: str | None = None

    def __str__(self) -> str:
        return f"{self.ident} ({self.name})"


class Tool(Protocol):
    """A way to write to a board."""

    name: str
    what: str  # it writes through: "probe", "port", "drive"
    where_none: str  # the hint where there is none
    image: str  # the kind of file that it takes
    after: str  # what follows the writing

    def find(self, firmware: Firmware) -> list[Device]:
        """Return what is plugged in."""

    def named(self, firmware: Firmware, ident: str) -> Device | None:
        """Return the device that --probe means where find() does not list it; None for none.

        Raises InputError for one that is there and is not fit.
        """

    def write(self, firmware: Firmware, device: Device, say: Say) -> str:
        """Write, verify, start the firmware; return how it was verified. Raises MbxError."""


def choose_device(tool: Tool, firmware: Firmware, ident: str | None) -> Device:
    """Return the device that is meant. Raises InputError where there is none, or several and ident does not choose."""
    devices = tool.find(firmware)
    listed = ", ".join(map(str, devices)) or "none"
    if ident is not None:
        exact = [device for device in devices if device.ident == ident]
        chosen = exact[0] if exact else tool.named(firmware, ident)
        if chosen is None:
            raise InputError(f"no {tool.what} {ident} is connected: there is {listed}", tool.where_none)
        return chosen
    if not devices:
        raise InputError(f"no {tool.what} for {firmware.target.name} is connected", tool.where_none)
    if len(devices) > 1:
        raise InputError(f"{len(devices)} {tool.what}s are connected: {listed}", "choose one with --probe")
    return devices[0]


def compare(firmware: Firmware, back: bytes, tool: str) -> str:
    """Return how it was verified. Raises CheckFailed unless what was read back is the image."""
    data, origin = firmware.image.data, firmware.image.origin
    if back == data:
        return f"read back by {tool}"
    if len(back) != len(data):
        what = f"the board could not be read back: got {len(back):,} bytes, need {len(data):,}"
        raise CheckFailed(what, "check the cable, then give the same line again")
    index = next(at for at, pair in enumerate(zip(back, data, strict=True)) if pair[0] != pair[1])
    count = sum(a != b for a, b in zip(back, data, strict=True))
    raise CheckFailed(
        f"the board does not hold what was written: {count:,} bytes differ, the first at {origin + index:#x} "
        f"(got {back[index]:#04x}, need {data[index]:#04x})",
        "write it again; if that fails, too, the flash is worn out or the cable bad",
    )


def wrong_chip(firmware: Firmware, got: str) -> InputError:
    """Return the error for a board with another chip than the build's."""
    chip = firmware.probe.chip
    what = f"another board is connected: the build is for {firmware.target.name} ({chip}), this one {got}"
    return InputError(what, "connect the build's board, or build for this one")


def check_identity(firmware: Firmware, word: int) -> None:
    """Raise InputError unless the word that was read at the probe's id_address is that of the build's chip."""
    probe = firmware.probe
    if word & probe.id_mask != probe.id_value:
        where = f"the word at {probe.id_address:#x} is {word & probe.id_mask:#x}, need {probe.id_value:#x}"
        raise wrong_chip(firmware, f"is not ({where})")


def lost(tool: Tool, firmware: Firmware, device: Device, complaint: str) -> InputError:
    """Return the error for a write that failed: that the device went away, if it did."""
    try:
        gone = device.ident not in {found.ident for found in tool.find(firmware)}
    except InputError:
        gone = False
    if gone:
        what = f"{device.ident} went away while it was written to: the board's firmware is incomplete"
        return InputError(what, "check the cable, plug it in again, then give the same line")
    what = f"{tool.name} could not write the board: {complaint}"
    return InputError(what, "check cable and supply; if it had begun to write, the board's firmware is incomplete")


def names(items: Sequence[str]) -> str:
    """Return words as a list in prose."""
    return ", ".join(items[:-1]) + " or " + items[-1] if len(items) > 1 else items[0]
