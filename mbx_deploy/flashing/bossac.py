"""Boards whose bootloader speaks SAM-BA over USB: through bossac, in the build that Arduino made of it."""

from pathlib import Path

from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.flashing.device import READ_BACK, Device, Say, lost, wrong_chip
from mbx_deploy.flashing.firmware import Firmware
from mbx_deploy.flashing.programs import run_program
from mbx_deploy.flashing.usb import UsbDevice, list_usb
from mbx_deploy.serial.port import close_port, open_alone
from mbx_deploy.system.doctor import BOSSAC_INSTALL, find_bossac
from mbx_deploy.system.scratch import scratch_folder


class Bossac:
    """bossac. The bootloader itself adds the length of the flash that it keeps for itself, so no offset is given."""

    name, what, image = "bossac", "port", "bin"
    after = READ_BACK
    where_none = "tap the board's reset button twice (its light fades in and out), then give the same line again"

    def __init__(self) -> None:
        """Raises ToolMissing where there is no bossac. Arduino's own is taken before any other."""
        found = find_bossac()
        if found is None:
            raise ToolMissing(
                "bossac is not installed (needed to write to a board)", f"Arduino's brings it: {BOSSAC_INSTALL}"
            )
        self.command = str(found)

    def find(self, firmware: Firmware) -> list[Device]:
        """Return the serial ports of the board's bootloader."""
        return [_device(device) for device in list_usb(firmware.probe.usb) if device.ports]

    def named(self, firmware: Firmware, ident: str) -> Device | None:
        """Return the board of a serial number. Raises InputError for a port that is not its bootloader's."""
        for device in list_usb(firmware.probe.usb):
            if device.ports and device.serial == ident:
                return _device(device)
        if not Path(ident).exists():
            return None
        close_port(open_alone(Path(ident), "--probe"))
        owner = next((device for device in list_usb() if Path(ident) in device.ports), None)
        if owner and owner.ident.partition(":")[0] != firmware.probe.usb[0].partition(":")[0]:
            raise wrong_chip(firmware, f"is {owner.name} (USB {owner.ident})")
        got = f"USB {owner.ident}, {owner.name}" if owner else "no USB device"
        what = f"{ident} is not the port of a bootloader: got {got}, need USB {' or '.join(firmware.probe.usb)}"
        raise InputError(what, self.where_none)

    def write(self, firmware: Firmware, device: Device, say: Say) -> str:
        """Write, let bossac read back and compare, start."""
        close_port(open_alone(Path(device.ident), "--probe"))
        with scratch_folder() as temporary:
            (Path(temporary) / "firmware.bin").write_bytes(firmware.content("bin"))
            say(f"writing {len(firmware.image.data):,} bytes")
            options = ["-U", "-i", "-e", "-w", "-v", "firmware.bin", "-R"]
            told = run_program([self.command, f"--port={device.ident}", *options], cwd=Path(temporary))
        if "Device unsupported" in told.output:
            what = f"{self.command} does not know the chip of {firmware.target.name}: need Arduino's build of bossac"
            raise InputError(what, f"install it: {BOSSAC_INSTALL}")
        if "Verify failed" in told.output:
            raise CheckFailed("the board does not hold what was written: bossac's comparison failed", "write it again")
        if told.code:
            raise lost(self, firmware, device, told.complaint)
        if "Verify successful" not in told.output:
            raise CheckFailed("bossac did not say that it compared what it wrote", "write it again")
        return "read back by bossac"


def _device(device: UsbDevice) -> Device:
    return Device(str(device.ports[0]), device.name)
