"""Reads what tests want to know of an ELF, with nothing but struct. Source: System V ABI, chapter 4."""

import struct
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Section:
    """A section: its address in memory, and its bytes (zeros for one that holds none)."""

    address: int
    data: bytes


class Elf:
    """Sections and symbols of a little-endian 32-bit ELF."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:6] == b"\x7fELF\x01\x01"
        self.entry = struct.unpack_from("<I", self.data, 24)[0]
        table = struct.unpack_from("<I", self.data, 32)[0]
        size, count, names = struct.unpack_from("<3H", self.data, 46)
        headers = [struct.unpack_from("<10I", self.data, table + i * size) for i in range(count)]
        self.sections: dict[str, Section] = {}
        self.headers = headers
        for name, kind, _, address, offset, length, *_ in headers:
            content = b"\0" * length if kind == 8 else self.data[offset : offset + length]
            self.sections[self._text(headers[names][4] + name)] = Section(address, content)
        self.symbols = self._symbols()

    def _text(self, offset: int) -> str:
        return self.data[offset : self.data.index(b"\0", offset)].decode()

    def _symbols(self) -> dict[str, int]:
        found = {}
        self.sizes: dict[str, int] = {}
        for _, kind, _, _, offset, length, link, *_ in self.headers:
            for place in range(offset, offset + length, 16) if kind == 2 else ():
                name, value, size = struct.unpack_from("<3I", self.data, place)
                text = self._text(self.headers[link][4] + name)
                found[text], self.sizes[text] = value, size
        return found

    def words(self, section: str) -> tuple[int, ...]:
        """Return a section's 32-bit words."""
        data = self.sections[section].data
        return struct.unpack(f"<{len(data) // 4}I", data)
