"""Folders of recordings, a folder a word: divided by Speech Commands' lists, or by its hash rule."""

from collections import Counter
from pathlib import Path

from mbx_deploy.data.corpus import (
    NOISE_FOLDER,
    SPLITS,
    Corpus,
    Utterance,
    find_noise,
    missing_recordings,
    which_set,
)
from mbx_deploy.data.division import divide
from mbx_deploy.data.lists import list_lines
from mbx_deploy.data.word_folders import Found, composed, find_clips
from mbx_deploy.errors import InputError

_LISTED = ("validation", "testing")
_SHOWN = 3  # names in a note


def list_path(root: Path, split: str) -> Path:
    """Return where a folder keeps the list of a split."""
    return root / f"{split}_list.txt"


def has_lists(root: Path) -> bool:
    """Return whether a folder has one of Speech Commands' lists."""
    return any(list_path(root, split).exists() for split in _LISTED)


def read_lists(root: Path) -> Corpus:
    """Return a folder in the layout of Speech Commands: each split sorted by "<word>/<file>".

    A clip in neither list is for training, one in both is in both splits (check_disjoint() refuses that). A list names
    clips by their path; the suffix may be .wav for a clip that is kept in another form.
    Raises InputError for a folder or a list that is missing, or a listed clip that is.
    """
    found = find_clips(root)
    members = {split: _read_list(list_path(root, split), found.clips) for split in _LISTED}
    members["training"] = set(found.clips) - members["validation"] - members["testing"]
    utterances = [
        _in_split(clip, split)
        for split in SPLITS
        for clip in sorted((found.clips[key] for key in members[split]), key=lambda clip: clip.name)
    ]
    return _corpus(root, "lists", utterances, found)


def read_hashed(root: Path) -> Corpus:
    """Return a folder of word folders, divided by which_set() and divide(), sorted by "<word>/<file>".

    Of the clips one in ten is for validation and one in ten for testing, give or take the luck of the speakers' names.
    Where neither names ("<speaker>_nohash_<n>") nor folders say who speaks, files of one name are kept together, no
    more. Raises InputError for a folder that is missing or holds no recordings.
    """
    found = find_clips(root)
    if not found.clips:
        hint = "name the folder whose folders are the words"
        if found.unread:
            hint = f"{len(found.unread)} files need ffmpeg, which is not installed: {found.unread[0]}"
        raise InputError(f"no recordings ({root}): got no .wav or .flac in a folder of it, need a folder a word", hint)
    clips = sorted(found.clips.values(), key=lambda clip: clip.name)
    utterances, kind, notes = divide([_in_split(clip, which_set(_hashed(clip))) for clip in clips])
    found.notes += notes
    return _corpus(root, kind, utterances, found)


def _hashed(clip: Utterance) -> str:
    """Return the name that decides a clip's split: the speaker's, where a folder tells it."""
    return clip.speaker if clip.speaker is not None and clip.name.count("/") == 2 else clip.name


def _in_split(clip: Utterance, split: str) -> Utterance:
    return Utterance(clip.path, clip.name, clip.label, clip.speaker, split)


def _corpus(root: Path, kind: str, utterances: list[Utterance], found: Found) -> Corpus:
    noise = find_noise(root)
    labels, ignored, unread = tuple(found.labels), tuple(found.ignored), tuple(found.unread)
    return Corpus(root, kind, tuple(utterances), labels, noise, ignored, unread, tuple(_notes(root, noise, found)))


def _notes(root: Path, noise: tuple[Path, ...], found: Found) -> list[str]:
    notes = list(found.notes)
    if (root / NOISE_FOLDER).is_dir() and not noise:
        notes.append(f"{NOISE_FOLDER} holds no recording that can be read: noise is generated")
    if found.shadowed:
        some = ", ".join(found.shadowed[:_SHOWN])
        notes.append(f"{len(found.shadowed)} files are not used, for one of the same name beside them is: {some}")
    if found.elsewhere:
        some = ", ".join(found.elsewhere[:_SHOWN])
        notes.append(f"{len(found.elsewhere)} recordings are not used, for no folder says their word: {some}")
    alike = Counter(label.casefold() for label in found.labels)
    for label, count in sorted(alike.items()):
        if count > 1:
            names = ", ".join(repr(name) for name in found.labels if name.casefold() == label)
            notes.append(f"folders that differ in capital letters only are different words: {names}")
    return notes


def _read_list(path: Path, clips: dict[str, Utterance]) -> set[str]:
    """Return the keys of the clips that a list names. Raises InputError naming the list, and the first clip that is
    missing.
    """
    listed = [(number, composed(name)) for number, name in list_lines(path)]
    missing = [(number, name) for number, name in listed if name.rsplit(".", 1)[0] not in clips]
    if missing:
        raise missing_recordings(f"{path}:{missing[0][0]}", [name for _, name in missing], len(listed))
    return {name.rsplit(".", 1)[0] for _, name in listed}
