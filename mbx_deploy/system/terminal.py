"""What is printed, on a terminal: control characters of a device, a file name or a label are shown, not obeyed.

One place for all that prints: the streams themselves. What moves the cursor on purpose goes through redraw().
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from mbx_deploy.errors import visible

_ALLOWED = "\n\t"


class VisibleStream:
    """A text stream that writes what would steer a terminal, or can't be encoded, as an escape."""

    buffer = None  # or click writes past us where the stream's encoding is ASCII

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, and return its length as it was given."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(visible(text, _ALLOWED).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def visible_streams() -> Iterator[None]:
    """Let stdout and stderr show control characters, until the end of the block."""
    before = sys.stdout, sys.stderr
    show_controls()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def show_controls() -> None:
    """Let stdout and stderr show control characters from here on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, VisibleStream):
            setattr(sys, name, cast(TextIO, VisibleStream(stream)))


def redraw(text: str, stream: TextIO, clear: bool = False, end: str = "") -> None:
    """Write a text over the line that stands on the terminal. clear: of what the line had. end: as print()'s."""
    line = f"\r{visible(text, _ALLOWED)}" if not clear else f"\r\x1b[K{visible(text, _ALLOWED)}"
    unshielded(stream).write(line + end)
    stream.flush()


def unshielded(stream: TextIO) -> TextIO:
    """Return the stream behind one that shows control characters: for a bar that draws itself of numbers only."""
    shown: object = stream
    return shown.stream if isinstance(shown, VisibleStream) else stream
