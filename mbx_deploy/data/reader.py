"""Whatever the user names as the data -> its Corpus, or where no words are needed its recordings."""

import os
from pathlib import Path

from mbx_deploy.data.corpus import Corpus, Utterance
from mbx_deploy.data.folders import has_lists, read_hashed, read_lists
from mbx_deploy.data.formats import SOUND_SUFFIXES, is_readable
from mbx_deploy.data.lists import LIST_SUFFIXES, read_list
from mbx_deploy.data.manifests import SUFFIXES, find_manifests, read_manifest
from mbx_deploy.data.tarred import refuse_archive
from mbx_deploy.data.word_folders import find_clips
from mbx_deploy.errors import InputError

DIVIDED = ("lists", "listed", "manifests")  # by something that says so


def read_corpus(path: Path) -> Corpus:
    """Return the data set at a path.

    A folder with validation_list.txt or testing_list.txt is one in the layout of Speech Commands, whatever else lies in
    it; one with train_manifest.json is that manifest and its sisters; any other folder is one of word folders, divided
    by the official hash rule. A .json or .jsonl file is a manifest, a .txt or .tsv file a list.
    Raises InputError for what is none of these, or is broken; for NeMo's tarred data sets by their name.
    """
    path = Path(path)
    refuse_archive(path)
    if not os.path.isdir(path):  # Path.is_dir() raises on names that are too long
        if path.suffix.lower() in SUFFIXES:
            return read_manifest(path)
        if path.suffix.lower() in LIST_SUFFIXES and os.path.exists(path):
            return read_list(path)
        got = "a file" if os.path.exists(path) else "no folder"
        raise InputError(
            f"no data set ({path}): got {got}, need a folder a word, Speech Commands' folder, a .json manifest or a "
            ".txt list",
            "name the folder whose folders are the words, or a manifest",
        )
    if has_lists(path):
        return read_lists(path)
    manifest = find_manifests(path)
    return read_manifest(manifest) if manifest else read_hashed(path)


def read_sounds(path: Path, split: str) -> tuple[Utterance, ...]:
    """Return the recordings at a path, for what needs no words of them.

    As read_corpus() takes it; where lists or manifests divide it, those of a split, or all if it has none. A folder
    that neither divides may have any order: all recordings below it, by their paths, but what lies in folders that
    begin with "_" or ".". Raises InputError as read_corpus(), and where there are none.
    """
    path = Path(path)
    refuse_archive(path)
    if not os.path.isdir(path) or has_lists(path) or find_manifests(path) is not None:
        corpus = read_corpus(path)
        return (corpus.split(split) if corpus.kind in DIVIDED else ()) or corpus.utterances
    words = {clip.path: clip.label for clip in find_clips(path).clips.values()}
    found = []
    try:
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            if is_readable(file.suffix.lower()) and not any(part.startswith(("_", ".")) for part in inside.parts):
                label = words.get(file, inside.parent.name)
                found.append(Utterance(file, inside.as_posix(), label, None, split))
    except OSError as error:
        raise InputError(f"cannot read the data set ({error.filename}): {error.strerror}", "check it") from None
    if not found:
        need = ", ".join(SOUND_SUFFIXES)
        raise InputError(f"no recordings below the folder ({path}): got none, need {need} files", "name another folder")
    return tuple(found)
