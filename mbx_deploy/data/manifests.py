"""NeMo's manifests: a JSON object a line, for each utterance.

    {"audio_filepath": "yes/004ae714_nohash_0.wav", "duration": 1.0, "offset": 0.0, "command": "yes"}

audio_filepath (or audio_filename) is absolute, or relative to the manifest's folder. command, target or label says the
class; where there is none of them, a text of one word does, and a line whose text is a sentence, or empty, is left out
and counted. duration and offset are in seconds; without a duration, or with 0 (NeMo's scripts write it for "not
measured"), an utterance lasts to the end of its file. speaker is ours, and may be left out. Other keys are NeMo's
affair, but for shard_id: the recordings lie in archives then, and are to be unpacked first.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from mbx_deploy.data.division import divide
from mbx_deploy.data.sisters import role_of, sisters_of
from mbx_deploy.data.tarred import refuse_shards, unpacked
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


def read_manifest(path: Path) -> Corpus:
    """Return the data set that a manifest belongs to.

    Where the name says a split, as train_manifest.json does, its sisters, validation_manifest.json and
    test_manifest.json, are the other splits if they lie beside it; every utterance has its manifest's split. A
    manifest of another name is all there is, and is divided by which_set(), of the speaker where the line names one
    and of the file's name elsewhere. Background noise is taken from _background_noise_ beside the manifest.
    Raises InputError naming file and line.
    """
    sisters = sisters_of(path, SUFFIXES, "manifests")
    if not sisters:
        return _corpus(path, "hash", _read_lines(path, None))
    return read_manifests(path, sisters)


def find_manifests(folder: Path) -> Path | None:
    """Return the manifest that stands for a folder, its training manifest if it has one; None if it has none."""
    ranked = []
    for path in sorted(folder.glob("*")):
        key, split = role_of(path, SUFFIXES)
        if key is not None and "manifest" in key and split is not None:
            ranked.append((SPLITS.index(split), path.name, path))
    return min(ranked)[2] if ranked else None


def read_manifests(source: Path, paths: Mapping[str, Path]) -> Corpus:
    """Return the data set of a manifest a split. source: what to call it. Raises InputError naming file and line."""
    lines = [line for split in SPLITS if split in paths for line in _read_lines(paths[split], split)]
    return _corpus(source, "manifests", lines)


@dataclass(frozen=True)
class _Line:
    """What a line says. utterance: None where its text is no word. text: what stood there; "" where nobody asked it."""

    utterance: Utterance | None
    origin: str
    text: str | None = None


def _corpus(source: Path, kind: str, lines: list[_Line]) -> Corpus:
    utterances = tuple(line.utterance for line in lines if line.utterance is not None)
    labels = tuple(sorted({utterance.label for utterance in utterances}))
    notes = tuple(_notes(lines))
    if kind == "hash" and utterances:
        divided, kind, more = divide(utterances)
        utterances, notes = tuple(divided), (*notes, *more)
    if not utterances:
        raise InputError(
            f"no line says a word ({source}): {notes[0]}",
            'a manifest of commands has "command": "yes" in each line; that of speech recognition is no such data set',
        )
    return Corpus(source, kind, utterances, labels, find_noise(source.parent), notes=notes)


def _notes(lines: list[_Line]) -> Iterator[str]:
    told = [line for line in lines if line.text is not None]
    words = sum(line.utterance is not None for line in told)
    left_out = [line for line in told if line.utterance is None]
    if left_out:
        first = left_out[0]
        yield (
            f"{len(left_out)} of {len(lines)} lines have a text that is not one word, and no "
            f"{' or '.join(LABEL_KEYS)}: left out (first: {first.origin}, {shown(first.text)})"
        )
    if words:
        yield f"{words} of {len(lines)} lines have no {' or '.join(LABEL_KEYS)}: their text, one word, is their label"


def _read_lines(path: Path, split: str | None) -> list[_Line]:
    """Return the lines of one manifest in its order; split None: by which_set()."""
    try:
        lines = read_document(path, MAX_BYTES).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except DocumentError as error:
        raise InputError(f"cannot read a manifest ({path}): {error}", "check its name") from None
    items = [
        (f"{path}:{number}", _parse(line, f"{path}:{number}"))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not items:
        raise InputError(f"an empty manifest ({path}): got no lines, need a JSON object a line")
    found = [_line(path, where, item, split) for where, item in items]
    utterances = [line.utterance for line in found if line.utterance is not None]
    # Not Path.is_file(): it raises on names that no file can have.
    present = {file: os.path.isfile(file) for file in {utterance.path for utterance in utterances}}
    missing = [utterance for utterance in utterances if not present[utterance.path]]
    if missing:
        refuse_shards(path, [item for _, item in items])
        raise missing_recordings(missing[0].origin, [str(u.path) for u in missing], len(utterances))
    return found


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


def _line(manifest: Path, where: str, item: dict[str, Any], split: str | None) -> _Line:
    file = _one_of(item, PATH_KEYS, where, longest=4096)
    text = None
    if not any(key in item for key in LABEL_KEYS) and "text" in item:
        text = item["text"]
        if not isinstance(text, str):
            raise InputError(f"bad text ({where}): got {shown(text)}, need one line of text")
        if len(text.split()) != 1:
            return _Line(None, where, text)
        label = _one_of({"text": text.strip()}, ("text",), where, longest=100)
    else:
        label = _one_of(item, LABEL_KEYS, where, longest=100, or_else="a text of one word")
    offset_s = _seconds(item, "offset", where)
    duration_s = _seconds(item, "duration", where)
    path, name = _place(manifest.parent, os.path.expanduser(file))
    if "shard_id" in item and not os.path.isfile(path):
        path = unpacked(path)
    speaker = item.get("speaker")
    if speaker is not None and (not isinstance(speaker, str | int) or isinstance(speaker, bool) or speaker == ""):
        raise InputError(f"bad speaker ({where}): got {shown(speaker)}, need a name")
    named = str(speaker) if speaker is not None else None
    utterance = Utterance(
        path=path,
        name=f"{name}@{offset_s:g}" if offset_s else name,
        label=label,
        speaker=named or speaker_of(path.name),
        split=split or which_set(named or path.name),
        offset_s=offset_s,
        duration_s=duration_s or None,
        origin=where,
    )
    return _Line(utterance, where, text)


def _place(folder: Path, file: str) -> tuple[Path, str]:
    """Return the path of a file that a manifest in a folder names, and how reports call it."""
    if _PLAIN_NAME.fullmatch(file):  # as most are: paths take long to look at
        return folder / file, file
    path = folder / file
    return path, path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _one_of(item: dict[str, Any], keys: tuple[str, ...], where: str, longest: int, or_else: str = "") -> str:
    """Return the text that stands under one of the keys, or under several that agree. or_else: what would do, too."""
    found = [key for key in keys if key in item]
    if not found:
        need = " or ".join((*keys, or_else) if or_else else keys)
        raise InputError(f"a key is missing ({where}): got {shown(sorted(item))}, need {need}")
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
