"""Files that are a split each, told by their names: train_manifest.json, val_manifest.json, test_manifest.json."""

import re
from pathlib import Path

from mbx_deploy.errors import InputError

_ROLES = {
    "train": "training",
    "training": "training",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "testing",
    "testing": "testing",
    "eval": "testing",
}


def role_of(path: Path, suffixes: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return what a file's name has in common with its sisters', and its split; None for other names and suffixes."""
    words = re.split(r"([^a-z]+)", path.name.lower())
    roles = [index for index, word in enumerate(words) if word in _ROLES]
    if path.suffix.lower() not in suffixes or len(roles) != 1:
        return None, None
    split = _ROLES[words[roles[0]]]
    words[roles[0]] = "*"
    return "".join(words).removesuffix(path.suffix.lower()), split


def sisters_of(path: Path, suffixes: tuple[str, ...], what: str) -> dict[str, Path]:
    """Return {split: file} of the files beside path that are called alike, itself among them; {} where its name says no
    split. what: they are, for a message. Raises InputError for two of one split.
    """
    key, _ = role_of(path, suffixes)
    if key is None:
        return {}
    found: dict[str, Path] = {}
    for other in sorted({path, *path.parent.glob("*")}):
        other_key, split = role_of(other, suffixes)
        if other_key != key or split is None:
            continue
        if split in found:
            raise InputError(
                f"two {what} for {split} ({path.parent}): got {found[split].name} and {other.name}, need one",
                "move one of them away",
            )
        found[split] = other
    return found
