"""NeMo's manifests: a JSON object a line, for each utterance.

    {"audio_filepath": "yes/004ae714_nohash_0.wav", "duration": 1.0, "offset": 0.0, "command": "yes"}

audio_filepath (or audio_filename) is absolute, or relative to the manifest's folder. command, target or label says the
class. duration and offset are in seconds; without a duration, or with 0 (NeMo's scripts write it for "not measured"),
an utterance lasts to the end of its file. speaker is ours, and may be left out. Other keys are NeMo's affair.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbx_deploy.data.corpus import (
    SPLITS,
    Corpus,
    Utterance,
    find_noise,
    missing_recordings,
    shown,
    speaker_of,
    which_set,
)
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.system.json_documents import parse_json

SUFFIXES = (".json", ".jsonl")
PATH_KEYS = ("audio_filepath", "audio_filename")
LABEL_KEYS = ("command", "target", "label")
MAX_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20
MAX_SECONDS = 86400.0  # a day: more is a slip of the unit
_PLAIN_NAME = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
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


def read_manifest(path: Path) -> Corpus:
    """Return the data set that a manifest belongs to.

    Where the name says a split, as train_manifest.json does, its sisters, validation_manifest.json and
    test_manifest.json, are the other splits if they lie beside it; every utterance has its manifest's split. A
    manifest of another name is all there is, and is divided by which_set(), of the speaker where the line names one
    and of the file's name elsewhere. Background noise is taken from _background_noise_ beside the manifest.
    Raises InputError naming file and line.
    """
    key, _ = _role(path)
    if key is None:
        return _corpus(path, "hash", _read_utterances(path, None))
    return read_manifests(path, _sisters(path, key))


def find_manifests(folder: Path) -> Path | None:
    """Return the manifest that stands for a folder, its training manifest if it has one; None if it has none."""
    ranked = []
    for path in sorted(folder.glob("*")):
        key, split = _role(path)
        if key is not None and "manifest" in key and split is not None:
            ranked.append((SPLITS.index(split), path.name, path))
    return min(ranked)[2] if ranked else None


def read_manifests(source: Path, paths: Mapping[str, Path]) -> Corpus:
    """Return the data set of a manifest a split. source: what to call it. Raises InputError naming file and line."""
    utterances = [u for split in SPLITS if split in paths for u in _read_utterances(paths[split], split)]
    return _corpus(source, "manifests", utterances)


def _corpus(source: Path, kind: str, utterances: list[Utterance]) -> Corpus:
    labels = tuple(sorted({utterance.label for utterance in utterances}))
    return Corpus(source, kind, tuple(utterances), labels, find_noise(source.parent))


def _role(path: Path) -> tuple[str | None, str | None]:
    """Return what a manifest's name has in common with its sisters', and its split; None for other names."""
    words = re.split(r"([^a-z]+)", path.name.lower())
    roles = [index for index, word in enumerate(words) if word in _ROLES]
    if path.suffix.lower() not in SUFFIXES or len(roles) != 1:
        return None, None
    split = _ROLES[words[roles[0]]]
    words[roles[0]] = "*"
    return "".join(words).removesuffix(path.suffix.lower()), split


def _sisters(path: Path, key: str) -> dict[str, Path]:
    """Return {split: manifest} of the manifests in a folder that are called alike, path itself among them."""
    found: dict[str, Path] = {}
    for other in sorted({path, *path.parent.glob("*")}):
        other_key, split = _role(other)
        if other_key != key or split is None:
            continue
        if split in found:
            raise InputError(
                f"two manifests for {split} ({path.parent}): got {found[split].name} and {other.name}, need one",
                "move one of them away",
            )
        found[split] = other
    return found


def _read_utterances(path: Path, split: str | None) -> list[Utterance]:
    """Return the utterances of one manifest in its order; split None: by which_set()."""
    try:
        lines = read_document(path, MAX_BYTES).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except DocumentError as error:
        raise InputError(f"cannot read a manifest ({path}): {error}", "check its name") from None
    utterances = [
        _utterance(path, number, _parse(line, f"{path}:{number}"), split)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not utterances:
        raise InputError(f"an empty manifest ({path}): got no lines, need a JSON object a line")
    # Not Path.is_file(): it raises on names that no file can have.
    present = {file: os.path.isfile(file) for file in {utterance.path for utterance in utterances}}
    missing = [utterance for utterance in utterances if not present[utterance.path]]
    if missing:
        raise missing_recordings(missing[0].origin, [str(u.path) for u in missing], len(utterances))
    return utterances


def _parse(line: bytes, where: str) -> dict[str, Any]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        unique = dict(items)
        if len(unique) < len(items):
            key, _ = Counter(key for key, _ in items).most_common(1)[0]
            raise InputError(f"a duplicated key ({where}): got {shown(key)} twice, need it once")
        return unique

    def constant(name: str) -> Any:
        raise InputError(f"a number that is none ({where}): got {name}, need a finite number")

    if len(line) > MAX_LINE_BYTES:
        raise InputError(f"a line is too long ({where}): got {len(line)} bytes, need at most {MAX_LINE_BYTES}")
    try:
        value = parse_json(line, pairs=pairs, constant=constant)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(
            f"a broken line ({where}): got {shown(line[:80].decode('utf-8', 'replace').strip())} ({reason}), "
            "need a JSON object",
            "a manifest has one JSON object a line, not one array, and not spread over lines",
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"a broken line ({where}): got {shown(value)}, need a JSON object")
    return value


def _utterance(manifest: Path, line: int, item: dict[str, Any], split: str | None) -> Utterance:
    where = f"{manifest}:{line}"
    file = _one_of(item, PATH_KEYS, where, longest=4096)
    label = _one_of(item, LABEL_KEYS, where, longest=100)
    offset_s = _seconds(item, "offset", where)
    duration_s = _seconds(item, "duration", where)
    path, name = _place(manifest.parent, os.path.expanduser(file))
    speaker = item.get("speaker")
    if speaker is not None and (not isinstance(speaker, str | int) or isinstance(speaker, bool) or speaker == ""):
        raise InputError(f"bad speaker ({where}): got {shown(speaker)}, need a name")
    named = str(speaker) if speaker is not None else None
    return Utterance(
        path=path,
        name=f"{name}@{offset_s:g}" if offset_s else name,
        label=label,
        speaker=named or speaker_of(path.name),
        split=split or which_set(named or path.name),
        offset_s=offset_s,
        duration_s=duration_s or None,
        origin=where,
    )


def _place(folder: Path, file: str) -> tuple[Path, str]:
    """Return the path of a file that a manifest in a folder names, and how reports call it."""
    if _PLAIN_NAME.fullmatch(file):  # as most are: paths take long to look at
        return folder / file, file
    path = folder / file
    return path, path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _one_of(item: dict[str, Any], keys: tuple[str, ...], where: str, longest: int) -> str:
    """Return the text that stands under one of the keys, or under several that agree."""
    found = [key for key in keys if key in item]
    if not found:
        raise InputError(f"a key is missing ({where}): got {shown(sorted(item))}, need {' or '.join(keys)}")
    text = item[found[0]]
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > longest:
        raise InputError(f"bad {found[0]} ({where}): got {shown(text)}, need one line of text")
    for other in found[1:]:
        if item[other] != text:
            raise InputError(
                f"two keys disagree ({where}): got {found[0]} {shown(text)} and {other} {shown(item[other])}, need one"
            )
    return text


def _seconds(item: dict[str, Any], key: str, where: str) -> float:
    value = item.get(key)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"bad {key} ({where}): got {shown(value)}, need seconds")
    if not 0 <= value <= MAX_SECONDS or not math.isfinite(value):
        raise InputError(f"bad {key} ({where}): got {shown(value)}, need seconds, 0 to {MAX_SECONDS:g}")
    return float(value)
