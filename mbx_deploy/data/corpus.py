"""One description of a data set, whichever way it is kept: a Corpus of Utterances.

Paths are not opened here, and no sound is read.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.data.formats import is_readable
from mbx_deploy.errors import InputError

SPLITS = ("training", "validation", "testing")
NOISE_FOLDER = "_background_noise_"

# Source: Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018, and the
# README of the data set.
MAX_NUM_WAVS_PER_CLASS = 2**27 - 1
VALIDATION_PERCENTAGE = 10.0
TESTING_PERCENTAGE = 10.0


@dataclass(frozen=True)
class Utterance:
    """One labelled stretch of sound.

    path: the sound file. name: how reports call it: the path relative to the data set, and "@<start>" in seconds
    where it does not begin with the file. speaker: None where nothing says who speaks. split: one of SPLITS.
    offset_s: where it begins in the file. duration_s: None for all of the rest.
    origin: "<manifest>:<line>", or "" where no line speaks of it.
    """

    path: Path
    name: str
    label: str
    speaker: str | None
    split: str
    offset_s: float = 0.0
    duration_s: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class Corpus:
    """A data set.

    source: the folder, manifest or list it was read from. kind: by what divides it, "lists" of a folder, "manifests",
    "listed" by lists alone, "hash" by the official rule, "speakers" or "recordings" where that leaves a split empty.
    utterances: those of one split stand in the order in which they are trained on. labels: all of them, sorted, also
    those without a recording. noise: recordings of background noise, ordered by name. ignored: the names of files
    among the recordings that are none. unread: the names of files that look like sound and can't be read on this
    machine. notes: what else a user would want to know of how the folder was taken, a line each.
    """

    source: Path
    kind: str
    utterances: tuple[Utterance, ...]
    labels: tuple[str, ...]
    noise: tuple[Path, ...] = ()
    ignored: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Utterance, ...]:
        """Return the utterances of one split."""
        return tuple(utterance for utterance in self.utterances if utterance.split == name)

    def counts(self, split: str) -> Counter[str]:
        """Return how many utterances each label has in a split."""
        return Counter(utterance.label for utterance in self.utterances if utterance.split == split)


def which_set(
    name: str,
    validation_percentage: float = VALIDATION_PERCENTAGE,
    testing_percentage: float = TESTING_PERCENTAGE,
) -> str:
    """Return the split of a clip by its file name, by the rule that made Speech Commands' own lists.

    What stands before "_nohash_" decides, else the whole name with its suffix: all clips of a speaker fall into one
    split, today and when more are added. Source: which_set() in the README of Speech Commands.
    """
    hashed_part = re.sub(r"_nohash_.*$", "", name.rsplit("/", 1)[-1])
    number = int(hashlib.sha1(os.fsencode(hashed_part)).hexdigest(), 16)
    percentage = (number % (MAX_NUM_WAVS_PER_CLASS + 1)) * (100.0 / MAX_NUM_WAVS_PER_CLASS)
    if percentage < validation_percentage:
        return "validation"
    if percentage < validation_percentage + testing_percentage:
        return "testing"
    return "training"


def speaker_of(name: str) -> str | None:
    """Return the speaker in a file's name, "<speaker>_nohash_<n>", or None for a name of another form."""
    speaker, mark, _ = name.rsplit("/", 1)[-1].partition("_nohash_")
    return speaker if mark and speaker else None


def find_noise(folder: Path) -> tuple[Path, ...]:
    """Return the recordings in the folder's _background_noise_, ordered by name."""
    found = sorted((folder / NOISE_FOLDER).glob("*"))
    return tuple(p for p in found if is_readable(p.suffix.lower()) and not p.name.startswith("."))


def passed_over(corpus: Corpus) -> list[str]:
    """Return what of a data set is not used, or not as it looks, a line each: nothing is passed over in silence."""
    lines = []
    if corpus.unread:
        by_label = Counter(name.split("/")[0] for name in corpus.unread)
        labels = ", ".join(f"{label} {count}" for label, count in sorted(by_label.items())[:8])
        lines.append(
            f"{len(corpus.unread)} files look like sound and are not used, for want of ffmpeg: {labels} "
            f"(first: {corpus.unread[0]}); install ffmpeg, or convert them to WAV"
        )
    return [*lines, *corpus.notes]


def check_disjoint(corpus: Corpus) -> None:
    """Raise InputError if one stretch of sound stands in two splits."""
    seen: dict[tuple[Path, float, float | None], Utterance] = {}
    for utterance in corpus.utterances:
        key = (utterance.path, utterance.offset_s, utterance.duration_s)
        first = seen.setdefault(key, utterance)
        if first.split != utterance.split:
            lines = " and ".join(where for where in (first.origin, utterance.origin) if where)
            raise InputError(
                f"a clip is in two splits ({lines or corpus.source}): got {utterance.name} in {first.split} and in "
                f"{utterance.split}, need it in one"
            )


def shown(text: object) -> str:
    """Return what a user's file holds, for a message: one line, and no longer than a line."""
    line = repr(text)
    return line if len(line) <= 100 else f"{line[:97]}..."


def missing_recordings(where: str, names: Iterable[str], of: int) -> InputError:
    """Return the user's error for a list that names files which are not there, the first of which is named.

    where: what names the first. of: how many the list names.
    """
    first, *others = names
    more = f" and {len(others)} more of {of}" if others else ""
    first = first if len(first) <= 500 else f"{first[:497]}..."
    what = f"a listed clip is missing ({where}): got no file {first}{more}, need every file that is listed"
    return InputError(what, "paths are relative to the folder of what lists them")
