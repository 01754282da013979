"""How a value stands in a generated file: each language says what no text may bring into it.

Every value that a template prints passes through write(), whatever the template does. A text that this package wrote
for the language is Verbatim, and stays as it is; numbers do; any other text is escaped where people read it, and
refused where a tool does: a CMake flag that lacks a letter would be another flag.
"""

import html
import json
import re
from collections.abc import Callable
from typing import Any

import jinja2

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import show


class Verbatim(str):
    """A text of a generated file that our own code made for its language."""

    __slots__ = ()


_IN_C = re.compile(r'[^\x20-\x7e]|["\\`]|\?\?|/\*|\*/|//')
_IN_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^\s*(?:[#+-]|\d+[.)])(?=\s)")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain_text(text: str) -> Verbatim:
    """Return text that can stand in a comment, and bare in any of the languages."""
    return Verbatim(re.sub(r"[^A-Za-z0-9_ .,'-]", "_", text))


def c_string(text: str) -> Verbatim:
    """Return a text as a literal of C, in octal what is not plain ASCII."""
    parts = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()]
    return Verbatim('"' + "".join(parts) + '"')


def json_string(text: str) -> Verbatim:
    """Return a text as a literal of JSON, which is one of YAML and JavaScript, too."""
    return Verbatim(json.dumps(text))


def _c(text: str) -> str:
    return _IN_C.sub(lambda found: "_" * len(found[0]), text)


def _markdown(text: str) -> str:
    return _IN_MARKDOWN.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", _UNSEEN.sub(" ", text))


def _html(text: str) -> str:
    return html.escape(_UNSEEN.sub(" ", text))


def _bare(allowed: str) -> Callable[[str], str]:
    """Return what refuses a text with other characters than letters, digits, spaces and these."""
    pattern = re.compile(rf"[A-Za-z0-9 {re.escape(allowed)}]*")

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise InputError(
                f"a text can't stand in a generated file: got {show(text)}, need letters, digits, {allowed}"
            )
        return text

    return check


_CMAKE = _bare("_.,:+=/'-")
# By what the name of a template ends in, before .j2.
_LANGUAGES: dict[str, Callable[[str], str]] = {
    ".c": _c,
    ".cc": _c,
    ".h": _c,
    ".ino": _c,
    ".cmake": _CMAKE,
    "/cmake": _CMAKE,
    "CMakeLists.txt": _CMAKE,
    ".ld": _CMAKE,
    "Kconfig": _CMAKE,
    ".conf": _CMAKE,
    ".json": _bare("_.,:+/'-"),
    ".yml": _bare("_.,+/-"),
    ".yaml": _bare("_.,+/-"),
    ".properties": _bare("_.,:;+=/'()-"),
    ".ini": _bare("_.,+=/'()-"),
    ".js": _bare("_.,+/-"),
    ".html": _html,
    ".md": _markdown,
}


def language_of(template: str) -> Callable[[str], str]:
    """Return what makes a text fit for a template's language. Raises ValueError for a template of none."""
    name = "/" + template.removesuffix(".j2")
    for end, language in _LANGUAGES.items():
        if name.endswith(end):
            return language
    raise ValueError(f"a template of no known language: {template}")


@jinja2.pass_context
def write(context: jinja2.runtime.Context, value: Any) -> str:
    """Return a value as it stands in the file of the template that prints it.

    Raises InputError for a text that the language can't take, ValueError for a template of no known language,
    TypeError for a value that is neither text nor number.
    """
    if isinstance(value, Verbatim | jinja2.Undefined):
        return str(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"a template prints a {type(value).__name__} ({context.name})")
    return language_of(context.name or "")(value)
