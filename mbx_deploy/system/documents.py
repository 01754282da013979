"""Text files from a stranger: size, kind, depth, keys and digits have limits, looked at before the parser works.

Every TOML goes through here, and every YAML through yaml_documents.py, which has these limits too. What is refused is a
DocumentError, one short line.
"""

import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_BYTES = 256 << 10
MAX_DEPTH = 32
MAX_KEY_PARTS = 16  # of a dotted TOML key: tomllib takes the square of their number
MAX_WORD = 128  # characters of a bare TOML word, or of a YAML number: a value of 64 bits takes 66
_PIECE_BYTES = 1 << 20
_TEXTS = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|(?P<open>["\'])', re.DOTALL
)
_LONG_KEY = re.compile(r"(?<![\w-])[\w-]+(?:[ \t]*\.[ \t]*[\w-]+){" + f"{MAX_KEY_PARTS}}}")
_LONG_WORD = re.compile(r"[\w+-]{" + f"{MAX_WORD + 1}}}")


class DocumentError(ValueError):
    """Why a document is refused, in one short line."""


def show(value: object) -> str:
    """Return a value for a message: short, and without walking through what may hold itself."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if (
        isinstance(value, list | tuple)
        and len(value) < 16
        and all(isinstance(x, bool | int | float | str) for x in value)
    ):
        return f"[{', '.join(show(x) for x in value)}]"[:60]
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r:.60}"
    if isinstance(value, str | bytes):
        return f"{value[:60]!r:.60}"
    return f"a {type(value).__name__}"


def read_document(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return a regular file's bytes. Raises DocumentError: not there, no regular file (a FIFO, a device), too large."""
    try:
        # O_NONBLOCK: a FIFO without a writer would be waited for.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DocumentError("it is no regular file")
            data = b"".join(_pieces(file, limit + 1))
    except (OSError, ValueError) as error:
        if isinstance(error, DocumentError):
            raise
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise DocumentError(reason) from None
    if len(data) > limit:
        raise DocumentError(f"it is too large: need at most {limit} bytes")
    return data


def _pieces(file: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield at most so many bytes: asked for at once, Python would set that much memory aside first."""
    while most > 0 and (piece := file.read(min(most, _PIECE_BYTES))):
        most -= len(piece)
        yield piece


def parse_toml(data: bytes) -> dict[str, Any]:
    """Return the tables of a TOML text in UTF-8. Raises DocumentError."""
    if len(data) > MAX_BYTES:
        raise DocumentError(f"it is too large: need at most {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")  # Windows' editors put a byte order mark in front
        _check_toml(text.replace("\r\n", "\n"))
        return tomllib.loads(text)
    except DocumentError:
        raise
    except (ValueError, RecursionError, OverflowError) as error:  # damaged TOML and UTF-8 are ValueErrors
        raise DocumentError(one_line(error)) from None


def _check_toml(text: str) -> None:
    """Refuse what tomllib takes too long or too deep for, by looking at the text without its strings and comments."""

    def replace(match: re.Match[str]) -> str:
        if match["open"]:
            raise DocumentError("a text in it does not end")
        return "" if match[0].startswith("#") else "s"

    bare = _TEXTS.sub(replace, text)
    if _LONG_WORD.search(bare):
        raise DocumentError(f"a number or key in it is too long: need at most {MAX_WORD} characters")
    if _LONG_KEY.search(bare):
        raise DocumentError(f"a key in it has too many parts: need at most {MAX_KEY_PARTS}")
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise DocumentError(f"it is nested too deep: need at most {MAX_DEPTH} levels")


def one_line(error: Exception) -> str:
    """Return why a parser failed, on one short line."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in text[:200])
    return text if len(text) <= 160 else f"{text[:157]}..."
