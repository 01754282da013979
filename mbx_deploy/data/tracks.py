"""Words at known places in long recordings: Audacity's label tracks, JSON, NeMo's manifests with offsets.

    room.wav + room.txt     Audacity: start, end, word, separated by tabs, in seconds
    room.wav + room.json    [{"start": 1.2, "end": 1.8, "word": "yes"}, ...]
    *manifest*.json         NeMo: a line a stretch: audio_filepath, offset, duration, command or label
    manifest.csv            file, kind (and more columns): what a recording holds

Recordings that none of them mentions hold no words.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.data.formats import SOUND_SUFFIXES, is_readable
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.system.json_documents import parse_json

MOST_TEXT_BYTES = 64 << 20
MOST_SECONDS = 1e6
MOST_LABELS = 200_000  # of a file
# Labels that say that nobody speaks a word: their stretches are not words to be heard.
NOT_WORDS = frozenset(("", "silence", "unknown", "noise", "speech", "music", "background", "_silence_", "_unknown_"))


@dataclass(frozen=True)
class Stretch:
    """A word that is spoken: from start to end, in seconds."""

    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class LongRecording:
    """path: of the sound. kind: of what it holds, "" where nothing tells. words: in the order of time."""

    path: Path
    kind: str
    words: tuple[Stretch, ...]


def find_recordings(folder: Path) -> list[LongRecording]:
    """Return the recordings below a folder, by path, with their words.

    Raises InputError for a folder without recordings, and for labels that can't be read or point to no recording.
    """
    try:
        if not folder.is_dir():
            raise InputError(f"no folder of recordings: got {folder}", "give a folder with long recordings")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
    except OSError as error:
        raise InputError(f"can't read the folder ({folder}): {error.strerror}") from None
    sounds = [path for path in files if is_readable(path.suffix.lower())]
    if not sounds:
        raise InputError(f"no recordings ({folder}): need {', '.join(SOUND_SUFFIXES)} files")
    kinds, words = _kinds(folder), _manifests(folder, files, set(sounds))
    found = []
    for path in sounds:
        stretches = [*words.get(path, ()), *_track(path.with_suffix(".txt")), *_json(path.with_suffix(".json"))]
        name = path.relative_to(folder).as_posix()
        kind = kinds.get(name, "" if path.parent == folder else path.parent.name)
        found.append(LongRecording(path, kind, tuple(sorted(stretches, key=lambda s: (s.start_s, s.end_s, s.word)))))
    return found


def _text(path: Path) -> str:
    try:
        return read_document(path, MOST_TEXT_BYTES).decode("utf-8-sig")
    except (DocumentError, UnicodeDecodeError) as error:
        raise InputError(f"can't read the labels ({path}): {error}") from None


def _lines(path: Path) -> list[str]:
    lines = _text(path).splitlines()
    _check_count(path, len(lines))
    return lines


def _check_count(path: Path, count: int) -> None:
    if count > MOST_LABELS:
        raise InputError(f"too many labels ({path}): got {count:,} lines, need at most {MOST_LABELS:,}")


def _kinds(folder: Path) -> dict[str, str]:
    """Return {file: kind} of the folder's manifest.csv, or of that of the folder above it."""
    found: dict[str, str] = {}
    for where, prefix in ((folder, ""), (folder.parent, f"{folder.name}/")):
        path = where / "manifest.csv"
        if not path.is_file():
            continue
        try:
            rows = csv.DictReader(_lines(path))
            if not rows.fieldnames or not {"file", "kind"} <= set(rows.fieldnames):
                continue
            for row in rows:
                name = str(row["file"])
                if name.startswith(prefix):
                    found.setdefault(name[len(prefix) :], str(row["kind"]))
        except csv.Error as error:  # a cell that is longer than its limit
            raise InputError(f"can't read the kinds of recordings ({path}): {error}") from None
    return found


def _track(path: Path) -> list[Stretch]:
    """Return the words of an Audacity label track; none where there is no such file."""
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("\\"):  # a second line of a label: its frequencies
            continue
        parts = line.split("\t")
        where = f"{path}, line {number}"
        if len(parts) < 3:
            raise InputError(f"bad label ({where}): got {line!r:.60}, need start, end and word with tabs between them")
        found.append(_stretch(parts[2].strip(), parts[0], parts[1], where))
    return [stretch for stretch in found if stretch.word not in NOT_WORDS]


def _json(path: Path) -> list[Stretch]:
    if not path.is_file():
        return []
    values = _load(_text(path), str(path))
    if not isinstance(values, list):
        raise InputError(f"bad labels ({path}): got {type(values).__name__}, need a list of start, end and word")
    _check_count(path, len(values))
    found = []
    for number, row in enumerate(values):
        where = f"{path}, label {number}"
        if not isinstance(row, dict) or not isinstance(row.get("word"), str):
            raise InputError(f"bad label ({where}): got {row!r:.60}, need start, end and word")
        found.append(_stretch(row["word"], row.get("start"), row.get("end"), where))
    return [stretch for stretch in found if stretch.word not in NOT_WORDS]


def _load(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"bad labels ({where}): {error}") from None


def _stretch(word: str, start: object, end: object, where: str) -> Stretch:
    try:
        first, last = float(str(start)), float(str(end))
    except ValueError:
        raise InputError(f"bad label ({where}): got times {start!r:.30} and {end!r:.30}, need seconds") from None
    if not 0 <= first <= last < MOST_SECONDS:
        raise InputError(f"bad label ({where}): got {first} to {last}, need 0 <= start <= end")
    return Stretch(word, first, last)


def _manifests(folder: Path, files: Sequence[Path], sounds: set[Path]) -> dict[Path, list[Stretch]]:
    """Return the words of NeMo's manifests: a line each, with offset and duration."""
    found: dict[Path, list[Stretch]] = {}
    beside = {path.with_suffix(".json") for path in sounds}
    for path in files:
        if path.suffix != ".json" or "manifest" not in path.name or path in beside:
            continue
        for number, line in enumerate(_lines(path), start=1):
            where = f"{path}, line {number}"
            row = _load(line, where) if line.strip() else None
            if row is None:
                continue
            if not isinstance(row, dict) or not isinstance(row.get("audio_filepath"), str):
                raise InputError(f"bad manifest ({where}): got no audio_filepath, need one")
            sound = _sound(row["audio_filepath"], path.parent, folder, sounds)
            if sound is None:
                raise InputError(f"the manifest names no recording of the folder ({where}): {row['audio_filepath']}")
            word = next((row[key] for key in ("command", "label", "word") if isinstance(row.get(key), str)), "")
            start, duration = row.get("offset", 0.0), row.get("duration")
            known = all(isinstance(value, int | float) and abs(value) < MOST_SECONDS for value in (start, duration))
            if not known:  # NaN, too
                raise InputError(f"bad manifest ({where}): need offset and duration in seconds")
            stretch = _stretch(word, start, start + duration, where)
            if word not in NOT_WORDS:
                found.setdefault(sound, []).append(stretch)
    return found


def _sound(name: str, beside: Path, folder: Path, sounds: set[Path]) -> Path | None:
    for path in (beside / name, folder / name):
        if path in sounds:
            return path
    return None
