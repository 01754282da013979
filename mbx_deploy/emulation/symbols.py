"""The functions of an ELF and where they lie. Source: System V ABI, chapter 4."""

import struct

_SYMBOL_TABLE = 2


def read_symbols(elf: bytes) -> dict[str, int]:
    """Return {name: address} of a little-endian 32-bit ELF's symbols, bit 0 of a Thumb function's address cleared."""
    if elf[:6] != b"\x7fELF\x01\x01":
        raise ValueError("not a little-endian 32-bit ELF")
    table = struct.unpack_from("<I", elf, 32)[0]
    size, count = struct.unpack_from("<2H", elf, 46)
    headers = [struct.unpack_from("<10I", elf, table + number * size) for number in range(count)]
    found: dict[str, int] = {}
    for _, kind, _, _, offset, length, link, *_ in headers:
        if kind != _SYMBOL_TABLE:
            continue
        names = headers[link][4]
        for place in range(offset, offset + length, 16):
            name, value = struct.unpack_from("<2I", elf, place)
            begin = names + name
            found[elf[begin : elf.index(b"\0", begin)].decode()] = value & ~1
    return found
