"""Folders of recordings, a folder a word: divided by Speech Commands' lists, or by its hash rule."""

from pathlib import Path

from mbx_deploy.data.corpus import (
    SPLITS,
    SUFFIXES,
    Corpus,
    Utterance,
    find_noise,
    missing_recordings,
    speaker_of,
    which_set,
)
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, one_line, read_document

MAX_LIST_BYTES = 64 << 20
_LISTED = ("validation", "testing")


def list_path(root: Path, split: str) -> Path:
    """Return where a folder keeps the list of a split."""
    return root / f"{split}_list.txt"


def has_lists(root: Path) -> bool:
    """Return whether a folder has one of Speech Commands' lists."""
    return any(list_path(root, split).exists() for split in _LISTED)


def read_lists(root: Path) -> Corpus:
    """Return a folder in the layout of Speech Commands: each split sorted by "<word>/<file>".

    A clip in neither list is for training, one in both is in both splits (check_disjoint() refuses that). A list names
    clips by their path; the suffix may be .wav for a clip that is kept as .flac.
    Raises InputError for a folder or a list that is missing, or a listed clip that is.
    """
    clips, labels, ignored = _find_clips(root)
    members = {split: _read_list(list_path(root, split), clips) for split in _LISTED}
    members["training"] = set(clips.values()) - members["validation"] - members["testing"]
    utterances = [_utterance(root, name, split) for split in SPLITS for name in sorted(members[split])]
    return Corpus(root, "lists", tuple(utterances), labels, find_noise(root), ignored)


def read_hashed(root: Path) -> Corpus:
    """Return a folder of word folders, divided by which_set(), each split sorted by "<word>/<file>".

    Of the clips one in ten is for validation and one in ten for testing, give or take the luck of the speakers' names.
    Where the names do not say who speaks ("<speaker>_nohash_<n>"), files of one name are kept together, no more.
    Raises InputError for a folder that is missing or holds no recordings.
    """
    clips, labels, ignored = _find_clips(root)
    if not clips:
        raise InputError(
            f"no recordings ({root}): got no .wav or .flac in a folder of it, need a folder a word",
            "name the folder whose folders are the words",
        )
    names = sorted(clips.values())
    utterances = [_utterance(root, name, which_set(name)) for name in names]
    return Corpus(root, "hash", tuple(utterances), labels, find_noise(root), ignored)


def _utterance(root: Path, name: str, split: str) -> Utterance:
    return Utterance(root / name, name, name.split("/")[0], speaker_of(name), split)


def _find_clips(root: Path) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Return {"word/file without suffix": "word/file"} of every clip under root, the words, and the other files.

    Of a clip that is kept in two forms, the .wav counts.
    """
    if not root.is_dir():
        raise InputError(
            f"no data set ({root}): got no folder, need the Speech Commands folder",
            "name the folder that holds testing_list.txt, or a manifest",
        )
    clips: dict[str, str] = {}
    labels: list[str] = []
    ignored: list[str] = []
    try:
        for folder in sorted(root.iterdir()):
            if not folder.is_dir() or folder.name.startswith(("_", ".")):
                continue
            labels.append(folder.name)
            for path in sorted(folder.iterdir()):
                if path.name.startswith("."):
                    continue
                name = f"{folder.name}/{path.name}"
                if path.suffix.lower() in SUFFIXES:
                    clips[f"{folder.name}/{path.stem}"] = name
                else:
                    ignored.append(name)
    except OSError as error:
        raise InputError(f"cannot read the data set ({error.filename}): {error.strerror}") from None
    return clips, tuple(labels), tuple(ignored)


def _read_list(path: Path, clips: dict[str, str]) -> set[str]:
    """Return the clips that a list names. Raises InputError naming the list, and the first clip that is missing."""
    try:
        lines = read_document(path, MAX_LIST_BYTES).decode("utf-8").splitlines()
    except (DocumentError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read a list of clips ({path}): got {one_line(error)}, need a text file",
            "name the folder that holds testing_list.txt",
        ) from error
    listed = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    missing = [(number, name) for number, name in listed if name.rsplit(".", 1)[0] not in clips]
    if missing:
        raise missing_recordings(f"{path}:{missing[0][0]}", [name for _, name in missing], len(listed))
    return {clips[name.rsplit(".", 1)[0]] for _, name in listed}
