"""What is plugged in: USB devices as Linux lists them, with the serial ports that they bring."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Source: Linux, Documentation/ABI/stable/sysfs-bus-usb, and Documentation/ABI/testing/sysfs-tty.
SYSTEM_DEVICES = Path("/sys/bus/usb/devices")
DEVICES = Path("/dev")


@dataclass(frozen=True)
class UsbDevice:
    """ident: vendor and product, "2341:005a". serial and product: "" where it tells none. ports: of a serial line."""

    ident: str
    serial: str
    product: str
    bus: int
    address: int
    ports: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What it calls itself, else its number."""
        return self.product or f"USB {self.ident}"


def list_usb(patterns: Sequence[str] = ("*",)) -> list[UsbDevice]:
    """Return the USB devices whose ident fits one of the patterns, by bus and address; none where Linux tells none."""
    found = []
    for folder in sorted(SYSTEM_DEVICES.glob("*")):
        ident = f"{_read(folder / 'idVendor')}:{_read(folder / 'idProduct')}"
        if ident != ":" and any(fnmatch.fnmatch(ident, pattern) for pattern in patterns):
            ports = tuple(DEVICES / tty.name for tty in sorted(folder.glob("*:*/tty/tty*")))
            bus, address = (int(_read(folder / name) or 0) for name in ("busnum", "devnum"))
            serial, product = _read(folder / "serial"), _read(folder / "product")
            found.append(UsbDevice(ident, serial, product, bus, address, ports))
    return sorted(found, key=lambda device: (device.bus, device.address))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
