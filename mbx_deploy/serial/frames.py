"""Frames on a serial line on which bytes may be lost, changed, repeated or swapped: whole and right, or not there.

    0x00 | COBS( version u8, type u8, sequence u16, body, CRC-32 of all of these u32 ) | 0x00

Numbers are little-endian, the CRC is zlib's.
Source: Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999.
Twin: firmware_templates/parts/serial/mbx_frame.h.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

VERSION = 1
MAX_BODY_BYTES = 256
HEADER_BYTES = 4
CRC_BYTES = 4
MAX_PLAIN_BYTES = HEADER_BYTES + MAX_BODY_BYTES + CRC_BYTES
MAX_ENCODED_BYTES = MAX_PLAIN_BYTES + 2  # COBS adds a byte, and one for each 254
LONGEST_BLOCK = 0xFF


@dataclass(frozen=True)
class Frame:
    """A message as it was sent. version: of who sent it."""

    version: int
    type: int
    sequence: int
    body: bytes


def encode_frame(kind: int, sequence: int, body: bytes, version: int = VERSION) -> bytes:
    """Return the bytes of a frame, both delimiters included.

    kind: 0 to 255. sequence: counted modulo 2^16. body: at most MAX_BODY_BYTES.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"the body of a frame: got {len(body)} bytes, need at most {MAX_BODY_BYTES}")
    plain = struct.pack("<BBH", version, kind, sequence & 0xFFFF) + body
    return b"\0" + cobs_encode(plain + struct.pack("<I", zlib.crc32(plain))) + b"\0"


def cobs_encode(plain: bytes) -> bytes:
    """Return bytes without a zero that stand for any bytes."""
    out = bytearray(b"\0")
    block = 0  # the place of the length of the block that is being written
    for byte in plain:
        if byte:
            out.append(byte)
        if not byte or len(out) - block == LONGEST_BLOCK:
            out[block] = len(out) - block
            block = len(out)
            out.append(0)
    out[block] = len(out) - block
    return bytes(out)


def cobs_decode(encoded: bytes) -> bytes | None:
    """Return what cobs_encode() was given, or None for bytes that it never gives."""
    out = bytearray()
    place = 0
    while place < len(encoded):
        length = encoded[place]
        block = encoded[place + 1 : place + length]
        if length == 0 or len(block) != length - 1 or 0 in block:
            return None
        out += block
        place += length
        if length != LONGEST_BLOCK and place < len(encoded):
            out.append(0)
    return bytes(out)


def decode_frame(encoded: bytes) -> Frame | None:
    """Return the frame between two delimiters, or None where it is damaged."""
    plain = cobs_decode(encoded) if len(encoded) <= MAX_ENCODED_BYTES else None
    if plain is None or not HEADER_BYTES + CRC_BYTES <= len(plain) <= MAX_PLAIN_BYTES:
        return None
    content, crc = plain[:-CRC_BYTES], struct.unpack("<I", plain[-CRC_BYTES:])[0]
    if zlib.crc32(content) != crc:
        return None
    version, kind, sequence = struct.unpack_from("<BBH", content)
    return Frame(version, kind, sequence, content[HEADER_BYTES:])


class FrameReader:
    """Finds the frames in a stream of bytes, however it is cut. damaged: frames that were dropped."""

    def __init__(self) -> None:
        self.damaged = 0
        self._held = bytearray()

    def take(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes end."""
        *ended, rest = data.split(b"\0")
        for part in ended:
            self._hold(part)
            if self._held:
                frame = decode_frame(bytes(self._held))
                self._held.clear()
                if frame is None:
                    self.damaged += 1
                else:
                    yield frame
        self._hold(rest)

    def _hold(self, part: bytes) -> None:
        """Keep a part of a frame; of what is too long to be one, just enough to know that."""
        self._held += part[: MAX_ENCODED_BYTES + 1 - len(self._held)]
