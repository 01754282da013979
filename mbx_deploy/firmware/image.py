"""An ELF -> what its board's flash holds, and that in the formats that the tools of boards take: .bin, .hex, .uf2."""

import struct
from dataclasses import dataclass

PT_LOAD = 1
HEX_ROW_BYTES = 16
UF2_PAYLOAD_BYTES = 256
UF2_FAMILY_RP2040 = 0xE48BFF56
UF2_MAGIC = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
UF2_FAMILY_PRESENT = 0x2000
BOOT2_BYTES = 256
BOOT2_CRC_POLYNOMIAL = 0x04C11DB7
ERASED = b"\xff"
MAX_IMAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class FlashImage:
    """data: bytes, from the address origin on without a gap."""

    origin: int
    data: bytes


def read_flash_image(elf: bytes) -> FlashImage:
    """Return what a little-endian 32-bit ELF loads, at its load addresses; gaps hold 0xFF, as erased flash does.

    Source: System V ABI, chapters 4 and 5: ELF header and program headers.
    Raises ValueError for bytes that are no such ELF.
    """
    if elf[:6] != b"\x7fELF\x01\x01":
        raise ValueError("not a little-endian 32-bit ELF")
    segments = []
    try:
        table, size, count = struct.unpack_from("<I", elf, 28)[0], *struct.unpack_from("<2H", elf, 42)
        for number in range(count):
            kind, offset, _, address, length = struct.unpack_from("<5I", elf, table + number * size)
            if kind == PT_LOAD and length:
                segments.append((address, elf[offset : offset + length]))
            if sum(len(content) for _, content in segments) > MAX_IMAGE_BYTES:
                raise ValueError(f"the ELF loads more than {MAX_IMAGE_BYTES} bytes")
    except struct.error:
        raise ValueError("the ELF is cut short") from None
    if not segments:
        raise ValueError("the ELF loads nothing")
    segments.sort()
    origin = segments[0][0]
    if segments[-1][0] - origin > MAX_IMAGE_BYTES:
        raise ValueError(f"the ELF's parts lie more than {MAX_IMAGE_BYTES} bytes apart")
    data = bytearray()
    for address, content in segments:
        data += ERASED * (address - origin - len(data))
        data[address - origin : address - origin + len(content)] = content
    return FlashImage(origin, bytes(data))


def to_bin(image: FlashImage) -> bytes:
    """Return the bytes alone: the tool must be told the address."""
    return image.data


def to_hex(image: FlashImage) -> str:
    """Return Intel HEX: rows of 16 bytes, an extended linear address (type 04) wherever the upper half changes.

    Source: Intel, Hexadecimal Object File Format Specification, revision A.
    """
    rows = []
    upper = -1
    for offset in range(0, len(image.data), HEX_ROW_BYTES):
        address = image.origin + offset
        if address >> 16 != upper:
            upper = address >> 16
            rows.append(_hex_row(0, 4, upper.to_bytes(2, "big")))
        rows.append(_hex_row(address & 0xFFFF, 0, image.data[offset : offset + HEX_ROW_BYTES]))
    rows.append(_hex_row(0, 1, b""))
    return "\n".join(rows) + "\n"


def _hex_row(address: int, kind: int, data: bytes) -> str:
    body = bytes([len(data), address >> 8, address & 255, kind]) + data
    return ":" + (body + bytes([-sum(body) & 255])).hex().upper()


def to_uf2(image: FlashImage, family: int = UF2_FAMILY_RP2040) -> bytes:
    """Return UF2: blocks of 512 bytes that carry 256 each, the last one filled up with 0xFF.

    Source: the UF2 specification, "File format"; the RP2040's family: RP2040 datasheet, section 2.8.4.2, UF2 format.
    """
    if image.origin % UF2_PAYLOAD_BYTES:
        raise ValueError(f"the image begins at {image.origin:#x}: need a multiple of {UF2_PAYLOAD_BYTES}")
    count = -(-len(image.data) // UF2_PAYLOAD_BYTES)
    blocks = []
    for number in range(count):
        start = number * UF2_PAYLOAD_BYTES
        payload = image.data[start : start + UF2_PAYLOAD_BYTES].ljust(UF2_PAYLOAD_BYTES, ERASED)
        head = (*UF2_MAGIC[:2], UF2_FAMILY_PRESENT, image.origin + start, UF2_PAYLOAD_BYTES, number, count, family)
        blocks.append(struct.pack("<8I", *head) + payload.ljust(476, b"\0") + struct.pack("<I", UF2_MAGIC[2]))
    return b"".join(blocks)


def boot2_checksum(code: bytes) -> int:
    """Return the CRC-32 of the first 252 bytes of the RP2040's second stage, which its ROM checks before it runs it.

    Polynomial 0x04C11DB7, most significant bit first, start value 0xFFFFFFFF, nothing reflected or inverted.
    Source: RP2040 datasheet, section 2.8.1.3.1, Checksum.
    """
    if len(code) != BOOT2_BYTES - 4:
        raise ValueError(f"the second stage: got {len(code)} bytes, need {BOOT2_BYTES - 4}")
    crc = 0xFFFFFFFF
    for byte in code:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (BOOT2_CRC_POLYNOMIAL if crc & 0x80000000 else 0)
            crc &= 0xFFFFFFFF
    return crc
