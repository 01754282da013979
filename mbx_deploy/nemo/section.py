"""A mapping of a .nemo's YAML, and the errors that name its keys."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.interpolation import resolve_references
from mbx_deploy.system.documents import DocumentError, show
from mbx_deploy.system.yaml_documents import parse_yaml

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_ABSENT = object()


def load_yaml(data: bytes, path: Path, as_text: bool = False) -> dict[str, Any]:
    """Return the mapping that the YAML holds, plain values only; as_text: every scalar as it is written.

    Raises InputError, naming the file, for any other.
    """
    try:
        content = resolve_references(parse_yaml(data, as_text))
    except DocumentError as error:
        raise InputError(
            f"the configuration in the .nemo file is damaged ({path}): {error}", "NeMo's save_to() writes one"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"the configuration in the .nemo file is no mapping ({path}): got {show(content)}")
    return content


@dataclass(frozen=True)
class Section:
    """values: a mapping of the YAML. name: its dotted place; path: the file's. class_name: of a component, or ""."""

    values: Any
    path: Path
    name: str
    class_name: str = ""

    def __post_init__(self) -> None:
        """Raise InputError for what is no mapping."""
        if not isinstance(self.values, dict):
            raise InputError(f"bad configuration in the .nemo file ({self.path}, {self.name}): need a mapping")

    def get(self, key: str) -> Any:
        """Return a value, or None."""
        return self.values.get(key)

    def section(self, key: str) -> "Section":
        """Return a mapping within this one."""
        if self.values.get(key) is None:
            raise self.missing(key)
        return Section(self.values[key], self.path, self._place(key))

    def component(self, key: str) -> "Section":
        """Return the arguments of a class: beside `_target_`, or below Hydra's old `cls` and `params`."""
        found = self.section(key)
        target = found.get("_target_") or found.get("cls") or found.get("target")
        if not isinstance(target, str):
            raise found.missing("_target_")
        if "_target_" in found.values:
            values = {k: v for k, v in found.values.items() if k not in ("_target_", "params")}
        else:
            values = {}
        given = found.get("params") or {}
        if not isinstance(given, dict):
            raise found.bad("params", given, "a mapping")
        values |= given
        return Section(values, self.path, found.name, target.rpartition(".")[2])

    def need_class(self, *names: str) -> None:
        """Raise InputError unless the component's class is one of these."""
        if self.class_name not in names:
            raise self.unsupported("_target_", self.class_name, " or ".join(names))

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        """Raise InputError for a key that is not known: what it changes is unknown, too."""
        for key in self.values:
            if key not in known:
                raise self.unsupported(str(key)[:60], show(self.values[key]), "no such key")

    def need_default(self, key: str, default: object) -> None:
        """Raise InputError, naming the key, unless a value is absent or the default."""
        value = self.values.get(key)
        if value is not None and (value != default or isinstance(value, bool) != isinstance(default, bool)):
            raise self.unsupported(key, show(value), show(default))

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number from low to high."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.bad(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float) -> float:
        """Return a number; YAML 1.1 takes 1e-5 for text."""
        value = self._value(key, default)
        try:
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                number = float(value)
                if math.isfinite(number):
                    return number
        except (ValueError, OverflowError):
            pass
        raise self.bad(key, value, "a finite number")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return a truth value."""
        value = self._value(key, default)
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        if not isinstance(value, bool):
            raise self.bad(key, value, "true or false")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """Return one of the values that are supported."""
        value = self._value(key, default)
        if value not in choices:
            raise self.unsupported(key, show(value), " or ".join(choices))
        return str(value)

    def optional_text(self, key: str) -> str | None:
        """Return text, or None where it is absent or null."""
        value = self.values.get(key)
        return value if isinstance(value, str) and value not in ("", "null", "~") else None

    def words(self, key: str, required: bool) -> tuple[str, ...]:
        """Return a list of words, () where it is absent and not required."""
        value = self.values.get(key)
        if value in (None, "", "null", "~") and not required:
            return ()
        if value is None:
            raise self.missing(key)
        if not isinstance(value, list) or not 1 <= len(value) <= 1000:
            raise self.bad(key, value, "a list of 1 to 1000 words")
        for word in value:
            if not isinstance(word, str) or not 0 < len(word) <= 64 or not word.isprintable():
                raise self.bad(key, word, "words of 1 to 64 printable characters")
        if len(set(value)) != len(value):
            raise self.bad(key, value, "each word once")
        return tuple(value)

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is None:
            raise self.missing(key)
        return default

    def _place(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def missing(self, key: str) -> InputError:
        """Return the error for a key that must be there."""
        return InputError(f"the .nemo file's configuration lacks a key ({self.path}): need {self._place(key)}")

    def bad(self, key: str, got: object, need: str) -> InputError:
        """Return the error for a value of the wrong kind."""
        where = f"{self.path}, {self._place(key)}"
        return InputError(f"bad value in the .nemo file's configuration ({where}): got {show(got)}, need {need}")

    def unsupported(self, key: str, got: str, need: str) -> InputError:
        """Return the error for a value that NeMo knows and we don't."""
        return InputError(
            f"the .nemo file asks for what is not supported ({self.path}): {self._place(key)} is {got}, need {need}"
        )
