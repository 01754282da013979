"""Stand-ins for what no machine without boards has: a probe with a chip behind it, seen through pyOCD, OpenOCD, bossac
or picotool. Each is a program on PATH that keeps the chip's flash in a file and understands only the lines that the
real one would, in the real one's words; the real ones are run, too, as far as they go without a board.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

NRF52840 = 0x00052840
READ32 = "{:08x}:  {:08x}                               |..(@|"  # as pyOCD prints it


class Bench:
    """A folder with programs for PATH, USB devices as Linux lists them, and the flash of the one board."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin, self.usb = folder / "bin", folder / "usb"
        for made in (self.bin, self.usb):
            made.mkdir(parents=True)
        self.set(probes=[], word=NRF52840, fault=None, objcopy=shutil.which("arm-none-eabi-objcopy"))

    def set(self, **values: object) -> None:
        """probes: as pyOCD tells them. word: at the chip's identity. fault: what goes wrong."""
        path = self.folder / "state.json"
        state = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(state | values))

    def install(self, name: str) -> None:
        """Put a program on the PATH that is this folder's bin."""
        path = self.bin / name
        path.write_text(
            f"#!{sys.executable} -ES\nimport sys\nsys.path.insert(0, {os.fspath(ROOT)!r})\n"
            f"from tests.made.stand_in_programs import {name}\nfrom pathlib import Path\n"
            f"sys.exit({name}(Path({os.fspath(self.folder)!r}), sys.argv[1:]))\n"
        )
        path.chmod(0o755)

    def plug(self, ident: str, number: int, serial: str = "", product: str = "", port: str = "") -> None:
        """Add a USB device."""
        folder = self.usb / f"1-{number}"
        folder.mkdir()
        vendor, _, kind = ident.partition(":")
        files = {"idVendor": vendor, "idProduct": kind, "serial": serial, "product": product}
        for name, text in (files | {"busnum": "1", "devnum": str(number)}).items():
            if text:
                (folder / name).write_text(f"{text}\n")
        if port:
            (folder / f"1-{number}:1.0" / "tty" / port).mkdir(parents=True)

    @property
    def flash(self) -> tuple[int, bytes] | None:
        """What the chip's flash holds, and from which address on; None as long as nobody wrote."""
        path = self.folder / "flash"
        if not path.exists():
            return None
        data = path.read_bytes()
        return int.from_bytes(data[:4], "little"), data[4:]

    @property
    def calls(self) -> list[list[str]]:
        """The lines that were given to the programs."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


ROOT = Path(__file__).resolve().parents[2]


def probe(ident: str, info: str = "SEGGER J-Link", target: str = "cortex_m") -> dict[str, str]:
    """Return a probe as `pyocd json --probes` tells it."""
    return {"unique_id": ident, "info": info, "target": target}


class _Chip:
    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        self.state = json.loads((folder / "state.json").read_text())
        self.fault = self.state["fault"]
        with (folder / "calls").open("a") as file:
            file.write(json.dumps(arguments) + "\n")

    def write_hex(self, path: Path) -> bool:
        """Return whether an Intel HEX file was written whole. binutils reads it."""
        rows = path.read_text().split()
        assert rows[0].startswith(":02000004")
        command = [self.state["objcopy"], "-I", "ihex", "-O", "binary", str(path), str(self.folder / "image")]
        subprocess.run(command, check=True)
        origin = int(rows[0][9:13], 16) << 16 | int(rows[1][3:7], 16)
        return self.write(origin, (self.folder / "image").read_bytes())

    def write(self, origin: int, data: bytes) -> bool:
        """Return whether all was written."""
        if self.fault == "unplugged":
            data = data[: len(data) // 2]
            self.state["probes"] = []
            (self.folder / "state.json").write_text(json.dumps(self.state))
            (self.folder / "usb").rename(self.folder / "what was on USB")
        (self.folder / "flash").write_bytes(origin.to_bytes(4, "little") + data)
        return self.fault != "unplugged"

    def read(self, origin: int, length: int) -> bytes:
        """Return what the flash holds, or what a fault makes of it."""
        held = (self.folder / "flash").read_bytes()
        start = 4 + origin - int.from_bytes(held[:4], "little")
        data = bytearray(held[start : start + length])
        if self.fault == "flipped":
            data[1000] ^= 0x10
        return bytes(data[: length // 2] if self.fault == "short" else data)


def pyocd(folder: Path, arguments: list[str]) -> int:
    """`json --probes`, and `cmd` with read32, load, savemem, reset."""
    chip = _Chip(folder, arguments)
    if arguments == ["json", "--probes"]:
        print(json.dumps({"status": 0, "boards": chip.state["probes"]}))
        return 0
    assert arguments[0] == "cmd"
    if arguments[arguments.index("-u") + 1] not in {known["unique_id"] for known in chip.state["probes"]}:
        print("No connected debug probe matches unique ID")
        return 3
    if chip.fault == "no pack":
        print(
            "0000991 C Target type stm32f407vg not recognized. Use 'pyocd list --targets' to see currently [__main__]"
        )
        return 1
    if chip.fault == "locked":
        print("0000265 W NRF52840 APPROTECT enabled: not automatically unlocking [target_nRF52]")
        print("0000271 C No cores were discovered! [__main__]")
        return 1
    for word, step in itertools.pairwise(arguments):
        name, *rest = step.split() if word == "-c" else [""]
        if name == "read32":
            if chip.fault == "no power":
                print("0000420 E No ACK received [cmd]")
                return 1
            print(READ32.format(int(rest[0], 0), chip.state["word"]))
        elif name == "load":
            if not chip.write_hex(Path(rest[0])):
                print("0003210 C STLink error (1): USB read failed [__main__]")
                return 1
        elif name == "savemem":
            Path(rest[2]).write_bytes(chip.read(int(rest[0], 0), int(rest[1])))
        elif name:
            assert name == "reset", name
    return 0


def openocd(folder: Path, arguments: list[str]) -> int:
    """mdw, flash write_image erase, dump_image, between init and shutdown."""
    chip = _Chip(folder, arguments)
    lines = arguments[1::2]
    assert arguments[::2] == ["-c"] * len(lines) and lines[-1] == "shutdown"
    for line in lines[lines.index("init") :]:
        words = line.split()
        if words[0] == "mdw":
            print(f"0x{int(words[1], 0):08x}: {chip.state['word']:08x} ", file=sys.stderr)
        elif words[:2] == ["flash", "write_image"]:
            if not chip.write_hex(Path(words[3])):
                print("Error: jtag_libusb_bulk_write error", file=sys.stderr)
                return 1
        elif words[0] == "dump_image":
            Path(words[1]).write_bytes(chip.read(int(words[2], 0), int(words[3])))
    return 0


def bossac(folder: Path, arguments: list[str]) -> int:
    """-e -w -v, as Arduino's says it: the bootloader adds its own 64 KB."""
    chip = _Chip(folder, arguments)
    assert {"-e", "-w", "-v", "-R"} < set(arguments)
    if not chip.write(0x10000, Path(next(word for word in arguments if word.endswith(".bin"))).read_bytes()):
        print("SAM-BA operation failed")
        return 1
    print("Verify failed\nPage errors: 1" if chip.fault == "flipped" else "Verify successful")
    return 2 if chip.fault == "flipped" else 0


def picotool(folder: Path, arguments: list[str]) -> int:
    """Load --verify --execute of a UF2."""
    chip = _Chip(folder, arguments)
    assert arguments[0] == "load" and {"--verify", "--execute"} < set(arguments)
    data = Path(next(word for word in arguments if word.endswith(".uf2"))).read_bytes()
    origin = int.from_bytes(data[12:16], "little")
    if not chip.write(origin, b"".join(data[at + 32 : at + 32 + 256] for at in range(0, len(data), 512))):
        print("ERROR: The RP2040 device returned an error")
        return 1
    if chip.fault == "flipped":
        print("ERROR: The device contents did not match the file")
        return 1
    return 0
