"""The few kinds of error that a user can cause, each with the exit code that the command line gives.

A message reads `<what is wrong> (<where>): got <x>, need <y>`, a hint names one thing to do.
Anything that is not an MbxError is ours, and keeps its traceback.
"""

import unicodedata

# Controls, formats (among them what turns the direction of writing), surrogates (bytes of a name that are no UTF-8),
# separators of lines and paragraphs.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str, allowed: str = "") -> str:
    r"""Return a text in which characters that steer instead of being seen stand as escapes: "\x1b" for ESC.

    allowed: those that stay.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter in allowed or unicodedata.category(letter) not in _UNSEEN else ascii(letter)[1:-1]
        for letter in text
    )


class MbxError(Exception):
    """One clear line for the user, and at most one hint."""

    exit_code = 2

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def render(self) -> str:
        """Return the text for stderr: one line, and the hint on a second."""
        line = f"error: {visible(self.what)}"
        return f"{line}\n  hint: {visible(self.hint)}" if self.hint else line


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
