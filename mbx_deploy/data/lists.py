"""Text lists: a recording a line, and behind tabs its word and its speaker where the folder's name does not say them.

    yes/004ae714_nohash_0.wav
    phone/17.m4a<tab>yes<tab>anna

Paths are absolute, or relative to the list's folder. Without a word the folder that the file lies in is the word. A
suffix may be .wav for a recording that is kept in another form, as Speech Commands' own lists have it.
"""

import os
from pathlib import Path

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
from mbx_deploy.data.formats import SOUND_SUFFIXES
from mbx_deploy.data.sisters import sisters_of
from mbx_deploy.data.word_folders import composed
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, one_line, read_document

LIST_SUFFIXES = (".txt", ".tsv")
MAX_LIST_BYTES = 64 << 20
_LONGEST = {"path": 4096, "word": 100, "speaker": 100}


def read_list(path: Path) -> Corpus:
    """Return the data set of a list; sisters and splits are as those of manifests, see manifests.read_manifest().

    Raises InputError naming list and line.
    """
    sisters = sisters_of(path, LIST_SUFFIXES, "lists")
    if sisters:
        utterances = [u for split in SPLITS if split in sisters for u in _read(sisters[split], split)]
    else:
        utterances = _read(path, None)
    if not utterances:
        raise InputError(f"an empty list ({path}): got no lines, need a recording a line", "name another list")
    kind, notes = "listed", list[str]()
    if not sisters:
        utterances, kind, notes = divide(utterances)
    labels = tuple(sorted({utterance.label for utterance in utterances}))
    return Corpus(path, kind, tuple(utterances), labels, find_noise(path.parent), notes=tuple(notes))


def list_lines(path: Path) -> list[tuple[int, str]]:
    """Return (number, text) of the lines of a list that are not empty, with slashes for backslashes.

    Raises InputError for what is no text file.
    """
    try:
        lines = read_document(path, MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
    except (DocumentError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read a list of clips ({path}): got {one_line(error)}, need a text file",
            "name the folder that holds testing_list.txt",
        ) from error
    named = [(number, line.strip().replace("\\", "/")) for number, line in enumerate(lines, start=1)]
    return [(number, name) for number, name in named if name]


def _read(path: Path, split: str | None) -> list[Utterance]:
    utterances = [_utterance(path, f"{path}:{number}", line, split) for number, line in list_lines(path)]
    missing = [utterance for utterance in utterances if not os.path.isfile(utterance.path)]
    if missing:
        raise missing_recordings(missing[0].origin, [str(u.path) for u in missing], len(utterances))
    return utterances


def _utterance(listing: Path, where: str, line: str, split: str | None) -> Utterance:
    fields = [field.strip() for field in line.split("\t")]
    for what, value in zip(_LONGEST, fields, strict=False):
        if not value.isprintable() or len(value) > _LONGEST[what] or (what == "path" and not value):
            raise InputError(f"bad {what} ({where}): got {shown(value)}, need path, word and speaker with tabs between")
    if len(fields) > len(_LONGEST):
        raise InputError(f"too many fields ({where}): got {len(fields)}, need path, word and speaker with tabs between")
    name, word, speaker = (*fields, "", "")[:3]
    path = _in_any_form(listing.parent / os.path.expanduser(name))
    word = word or composed(Path(name).parent.name)
    if not word or word in (".", ".."):
        raise InputError(f"no word ({where}): got {shown(name)} alone", "put the word behind it, with a tab between")
    known = speaker or speaker_of(name)
    return Utterance(path, name, word, known, split or which_set(speaker or path.name), origin=where)


def _in_any_form(path: Path) -> Path:
    """Return the file of a name, or of the same name and another suffix; the name itself where there is none."""
    if path.suffix.lower() in SOUND_SUFFIXES and not os.path.isfile(path):
        return next((other for s in SOUND_SUFFIXES if os.path.isfile(other := path.with_suffix(s))), path)
    return path
