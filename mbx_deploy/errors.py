"""The few kinds of error that a user can cause, each with the exit code that the command line gives.

A message reads `<what is wrong> (<where>): got <x>, need <y>`, a hint names one thing to do.
Anything that is not an MbxError is ours, and keeps its traceback.
"""

import re

_MOST_LETTERS = 2000  # of a line: what is wrong may be a file's only line
# Controls, formats (among them what turns the direction of writing), surrogates (bytes of a name that are no UTF-8),
# separators of lines and paragraphs: Unicode's Cc, Cf, Cs, Zl and Zp.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)


def visible(text: str, allowed: str = "") -> str:
    r"""Return a text in which characters that steer instead of being seen stand as escapes: "\x1b" for ESC.

    allowed: those that stay.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in allowed else ascii(found[0])[1:-1], text)


def _line(text: str) -> str:
    return visible(text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}...")


class MbxError(Exception):
    """One clear line for the user, and at most one hint."""

    exit_code = 2

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def render(self) -> str:
        """Return the text for stderr: one line, and the hint on a second."""
        line = f"error: {_line(self.what)}"
        return f"{line}\n  hint: {_line(self.hint)}" if self.hint else line


class InputError(MbxError):
    """The user's input or command is wrong: exit code 2."""


class ToolMissing(MbxError):
    """A compiler, an emulator or an optional Python package is not installed: exit code 2."""


class CheckFailed(MbxError):
    """A check that the user asked for failed (bytes differ, a model disagrees): exit code 1."""

    exit_code = 1


class Interrupted(MbxError):
    """The user stopped it: exit code 130, 128 and the number of SIGINT, as shells have it."""

    exit_code = 130
