"""The clips below a folder: word/file, word/speaker/file or speaker/word/file."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mbx_deploy.data.corpus import Utterance, speaker_of
from mbx_deploy.data.formats import SOUND_SUFFIXES, is_readable
from mbx_deploy.data.protocols import SILENCE, UNKNOWN, find_protocol
from mbx_deploy.errors import InputError

_COMMON_WORDS = Path(__file__).with_name("common_words.txt")


@dataclass
class Found:
    """What lies in a data set's folder. clips: {"word/file without suffix": its utterance, for training}. labels: also
    those without a clip. ignored, unread: as Corpus has them. shadowed: the names of files beside which one of the same
    name but for the suffix is used. elsewhere: of recordings that lie in no word's folder, or too deep in one.
    notes: of how the folder was taken, a line each.
    """

    clips: dict[str, Utterance] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    shadowed: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, path: Path, word: str, speaker: str | None) -> None:
        """Put a file where it belongs: among the clips, or among what is not used."""
        suffix, middle = path.suffix.lower(), "" if speaker is None else f"{speaker}/"
        name, key = f"{word}/{middle}{path.name}", f"{word}/{middle}{composed(path.stem)}"
        if suffix not in SOUND_SUFFIXES:
            self.ignored.append(name)
        elif not is_readable(suffix):
            self.unread.append(name)
        else:
            clip, before = Utterance(path, name, word, speaker or speaker_of(name), "training"), self.clips.get(key)
            if before is None or _rank(clip) < _rank(before):
                clip, before = before or clip, clip
                self.clips[key] = before
            if clip is not before:
                self.shadowed.append(clip.name)


def _rank(clip: Utterance) -> int:
    return SOUND_SUFFIXES.index(clip.path.suffix.lower())


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), whichever the file system keeps."""
    return unicodedata.normalize("NFC", name)


def find_clips(root: Path) -> Found:
    """Return what lies under root. Of a clip that is kept in several forms the first by SOUND_SUFFIXES counts.

    Names begin with the word, whichever way the folders are nested. Raises InputError for a folder that is missing or
    can't be read.
    """
    if not root.is_dir():
        raise InputError(
            f"no data set ({root}): got no folder, need the Speech Commands folder",
            "name the folder that holds testing_list.txt, or a manifest",
        )
    found = Found()
    try:
        tops = _folders(root)
        inner = {top: _folders(top) for top in tops}
        speakers_first = _speakers_first(inner)
        if any(inner.values()):
            order = "speaker/word/file" if speakers_first else "word/speaker/file"
            found.notes.append(f"folders in folders are read as {order}")
        labels = {composed(top.name) for top in tops if not (speakers_first and inner[top])}
        found.elsewhere += [path.name for path in _sounds(_files(root))]
        for top in tops:
            for path in _files(top):
                found.take(path, composed(top.name), None)
            for folder in inner[top]:
                deeper = [path for below in _folders(folder) for path in sorted(below.rglob("*"))]
                found.elsewhere += [path.relative_to(root).as_posix() for path in _sounds(deeper)]
                word, speaker = (folder, top) if speakers_first else (top, folder)
                labels.add(composed(word.name))
                for path in _files(folder):
                    found.take(path, composed(word.name), composed(speaker.name))
    except OSError as error:
        raise InputError(f"cannot read the data set ({error.filename}): {error.strerror}") from None
    found.labels = sorted(labels)
    return found


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(("_", "."))]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.is_dir()]


def _sounds(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in SOUND_SUFFIXES]


def _speakers_first(inner: dict[Path, list[Path]]) -> bool:
    """Return whether the outer folders are speakers: the inner names are words more often than the outer ones."""
    outer = {top.name for top, folders in inner.items() if folders}
    names = {folder.name for folders in inner.values() for folder in folders}
    if not names:
        return False
    common = _COMMON_WORDS.read_text(encoding="utf-8").split()
    words = {*find_protocol("35").labels, *common, UNKNOWN, SILENCE}

    def share(of: set[str]) -> float:
        return sum(name.lower() in words for name in of) / len(of)

    return share(names) > share(outer)
