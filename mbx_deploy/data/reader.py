"""Whatever the user names as the data -> its Corpus."""

from pathlib import Path

from mbx_deploy.data.corpus import Corpus
from mbx_deploy.data.folders import has_lists, read_hashed, read_lists
from mbx_deploy.data.manifests import SUFFIXES, find_manifests, read_manifest
from mbx_deploy.errors import InputError


def read_corpus(path: Path) -> Corpus:
    """Return the data set at a path.

    A folder with validation_list.txt or testing_list.txt is one in the layout of Speech Commands, whatever else lies in
    it; one with train_manifest.json is that manifest and its sisters; any other folder is one of word folders, divided
    by the official hash rule. A .json or .jsonl file is a manifest.
    Raises InputError for what is none of these, or is broken.
    """
    path = Path(path)
    if not path.is_dir():
        if path.suffix.lower() in SUFFIXES:
            return read_manifest(path)
        got = "a file" if path.exists() else "no folder"
        raise InputError(
            f"no data set ({path}): got {got}, need the Speech Commands folder, a folder a word, or a .json manifest",
            "name the folder that holds testing_list.txt, or a manifest",
        )
    if has_lists(path):
        return read_lists(path)
    manifest = find_manifests(path)
    return read_manifest(manifest) if manifest else read_hashed(path)
