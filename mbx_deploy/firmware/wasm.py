"""What a compiled WebAssembly module takes, read from its sections.

Source: WebAssembly Core Specification 2.0, 5.5 (modules).
"""

MAGIC = b"\0asm\1\0\0\0"
PAGE_BYTES = 65_536
_MEMORY_SECTION, _CODE_SECTION = 5, 10


def wasm_sizes(data: bytes) -> dict[str, int]:
    """Return bytes of flash (the file), ram (the memory that it begins with) and code.

    Raises ValueError for what is no module, or breaks off.
    """
    if not data.startswith(MAGIC):
        raise ValueError("no WebAssembly module")
    sizes = {"flash_bytes": len(data), "ram_bytes": 0, "code_bytes": 0}
    place = len(MAGIC)
    while place < len(data):
        kind = data[place]
        size, body = _number(data, place + 1)
        if body + size > len(data):
            raise ValueError(f"its section {kind} breaks off")
        if kind == _CODE_SECTION:
            sizes["code_bytes"] = size
        elif kind == _MEMORY_SECTION:
            count, limits = _number(data, body)
            if count:
                sizes["ram_bytes"] = _number(data, limits + 1)[0] * PAGE_BYTES
        place = body + size
    return sizes


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Return (an unsigned LEB128 number, the place behind it)."""
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("it breaks off in a number")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place
