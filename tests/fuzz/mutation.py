"""Bytes that are nearly right: a seed, changed here and there, the same for the same random numbers."""

import random
import re
from collections.abc import Sequence

MOST_BYTES = 1 << 20  # of what comes out
NUMBERS = (
    0, 1, 2, 4, 7, 8, 16, 64, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 1 << 24, (1 << 31) - 1,
    1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
TEXTS = (
    b"-1", b"0", b"1e999", b"-1e-999", b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"9" * 5000, b"0x" + b"f" * 5000,
    b"1:30:00", b"true", b"null", b"~", b"[]", b"{}", b'""', b"''", b"[" * 200, b"{" * 200, b"[" * 200 + b"]" * 200,
    b'{"a":' * 200, b"a.b.c." * 50, b"*a", b"&a ", b"<<: *a", b"!!python/object:os.system", b"\x00", b"\xff\xfe",
    b"\xed\xa0\x80", b"\x1b[2J", b"../", b"/", b"%s%n", b"\r\n", b"\n", b"\t", b'"', b"\\", b"\\u0000", b"\\ud800",
    "é".encode(), "\u202e".encode(), b"1" * 400, b"0.1e400", b"- ", b": ", b", ", b"=", b"#",
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{2,}")


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with one to a dozen changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 if rng.random() < 0.3 else rng.randint(1, 12)):
        rng.choice(_CHANGES)(rng, data, seeds)
        del data[MOST_BYTES:]
    return bytes(data)


def _place(rng: random.Random, data: bytearray) -> int:
    """Return a place, near the beginning as often as anywhere: headers stand there."""
    most = len(data) if rng.random() < 0.5 else min(len(data), 256)
    return rng.randrange(most) if most else 0


def _flip(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[_place(rng, data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "little", "big"))
    value = (rng.choice(NUMBERS) * rng.choice((1, -1)) + rng.choice((0, 0, 1, -1))) % (1 << 8 * size)
    place = _place(rng, data)
    if rng.random() < 0.7:
        place -= place % size
    data[place : place + size] = value.to_bytes(size, "little" if order == "little" else "big")


def _remove(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    place = _place(rng, data)
    del data[place : place + rng.choice((1, 2, 4, 8, 16, rng.randint(1, 1 + len(data)))) :]


def _repeat(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    place = _place(rng, data)
    piece = bytes(data[place : place + rng.choice((1, 2, 4, 16, 64, 256))])
    data[place:place] = piece * rng.choice((1, 1, 2, 10, 1000))


def _cut(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.choice((4, 16, 64, 1024, len(other)))]
    place = _place(rng, data)
    data[place : place + (len(piece) if rng.random() < 0.5 else 0)] = piece


def _text(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    place = _place(rng, data)
    data[place : place + rng.choice((0, 0, 1, 4))] = rng.choice(TEXTS)


def _written_number(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Put another number, or what is none, in the place of one that is written in digits."""
    found = list(_NUMBER.finditer(bytes(data[: 1 << 16])))
    if found:
        at = rng.choice(found)
        made = str(rng.choice(NUMBERS) * rng.choice((1, -1))).encode()
        data[at.start() : at.end()] = made if rng.random() < 0.6 else rng.choice(TEXTS)


def _swap_words(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Put a word of a seed, or its value, in the place of another: keys of another kind."""
    found = list(_WORD.finditer(bytes(data[: 1 << 16])))
    others = _WORD.findall(rng.choice(seeds)[: 1 << 16])
    if found and others:
        at = rng.choice(found)
        data[at.start() : at.end()] = rng.choice(others)


def _lines(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Repeat, remove or move a line."""
    lines = bytes(data).split(b"\n")
    line = lines[rng.randrange(len(lines))]
    if rng.random() < 0.5:
        lines.remove(line)
    lines.insert(rng.randrange(len(lines) + 1), line)
    data[:] = b"\n".join(lines)


_CHANGES = (
    _flip, _flip, _byte, _byte, _number, _number, _number, _remove, _repeat, _cut, _splice, _text, _text,
    _written_number, _written_number, _swap_words, _lines,
)  # fmt: skip
