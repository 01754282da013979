"""OmegaConf's references in a YAML: ${model.timesteps} stands for the value at that place."""

import re
from collections.abc import Iterator
from typing import Any

from mbx_deploy.system.documents import MAX_DEPTH, DocumentError
from mbx_deploy.system.yaml_documents import MAX_NODES

_REFERENCE = re.compile(r"\$\{\s*([^${}]{1,200})\s*\}")
_PLACE = re.compile(r"[\w-]+(?:\.[\w-]+|\[\d{1,4}\])*")
_PART = re.compile(r"[\w-]+")


def resolve_references(content: Any) -> Any:
    """Return plain values with every reference replaced by what it stands for.

    A reference that is all of a text stands for any value, one within a text for a scalar. Where the configuration is a
    model's own, a leading `model.` is the configuration itself. A reference that leads nowhere or back to itself, or
    asks a resolver (${oc.env:X}), stays as it is written: who needs that value says so. Raises DocumentError where the
    document becomes too large.
    """
    return _Resolver(content).resolve(content, ())


class _LeadsNowhere(Exception):
    """A reference stands for nothing."""


class _Resolver:
    def __init__(self, root: Any) -> None:
        self.root = root
        self.nodes = 0

    def resolve(self, value: Any, within: tuple[str, ...]) -> Any:
        """within: the references that lead here."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise DocumentError(f"it holds too much, its references spelled out: need at most {MAX_NODES} values")
        if isinstance(value, dict):
            return {key: self.resolve(inner, within) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolve(inner, within) for inner in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            whole = _REFERENCE.fullmatch(value.strip())
            if whole:
                return self._target(whole[1].strip(), within)
            return _REFERENCE.sub(lambda match: self._text(match[1].strip(), within), value)
        except _LeadsNowhere:
            return value

    def _text(self, place: str, within: tuple[str, ...]) -> str:
        found = self._target(place, within)
        if isinstance(found, (dict, list)) or found is None:
            raise _LeadsNowhere
        return str(found)

    def _target(self, place: str, within: tuple[str, ...]) -> Any:
        if place in within or len(within) >= MAX_DEPTH or not _PLACE.fullmatch(place):
            raise _LeadsNowhere
        for parts in self._beginnings(_PART.findall(place)):
            found = _walk(self.root, parts)
            if found is not _NOTHING:
                return self.resolve(found, (*within, place))
        raise _LeadsNowhere

    def _beginnings(self, parts: list[str]) -> Iterator[list[str]]:
        yield parts
        if parts[0] == "model" and isinstance(self.root, dict) and "model" not in self.root:
            yield parts[1:]


_NOTHING = object()


def _walk(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _NOTHING
    return value
