"""JSON from a stranger: how deep it is nested is counted before the parser works."""

import json
import re
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 64
# A text whole, or a bracket outside of one.
_MARKS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)  # possessive: nothing is kept to go back to
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def _check_depth(text: str) -> None:
    depth = 0
    for mark in _MARKS.finditer(text):
        depth += _STEPS.get(mark[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")


def parse_json(
    text: str | bytes,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant: Callable[[str], Any] | None = None,
) -> Any:
    """Return the value of a JSON text (bytes are UTF-8). `pairs` and `constant` are json.loads' hooks.

    Raises ValueError: no UTF-8, no JSON (json.JSONDecodeError), nested more than MAX_DEPTH deep. The parser's own guard
    is Python's recursion limit, which a library may have lifted (onnx2tf does): then the process would die of it.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
