"""NeMo's tarred data sets: recordings in archives beside a manifest whose lines have a shard_id. Refused by name.

Words are drawn at random in training, and an archive is read from front to back; unpacked they are a manifest like any.
Source: scripts/speech_recognition/convert_to_tarred_audio_dataset.py of NeMo, for the names.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError

_ARCHIVE = re.compile(r"\.(tar|tgz|tar\.gz|tar\.bz2|tar\.xz|tar\.zst)$", re.IGNORECASE)
# audio__OP_0..127_CL_.tar, audio_{0..127}.tar: so many archives in one name.
_MANY = re.compile(r"_OP_\d+\.\.\d+_CL_|[{(<\[]\d+\.\.\d+[})>\]]")
_PART = re.compile(r"-sub\d+(?=\.\w+$)")
_MANIFEST = "tarred_audio_manifest.json"
_HINT = "unpack them beside the manifest (for t in *.tar; do tar -xf $t; done), and name the manifest"


def refuse_archive(path: Path) -> None:
    """Raise InputError for the name of an archive, or of many in NeMo's notation, and for a folder of them."""
    if os.path.isdir(path):
        archives = sorted(one.name for one in path.glob("*.tar"))
        if archives and (path / _MANIFEST).is_file():
            raise _tarred(path, f"{_MANIFEST} and {len(archives)} archives ({archives[0]} ...)")
    elif _MANY.search(path.name):
        raise _tarred(path, f"the name of many archives, {path.name}")
    elif _ARCHIVE.search(path.name):
        raise _tarred(path, f"the archive {path.name}")


def refuse_shards(manifest: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Raise InputError for a manifest whose recordings are not there, for they lie in archives."""
    numbers = {str(line["shard_id"]) for line in lines if "shard_id" in line}
    if numbers:
        raise _tarred(manifest, f"lines with a shard_id of {len(numbers)} archives, and no recordings beside them")


def unpacked(path: Path) -> Path:
    """Return the file that holds what a line of a tarred manifest names: its second stretch of a.wav is a-sub1.wav."""
    return path.with_name(_PART.sub("", path.name))


def _tarred(where: Path, got: str) -> InputError:
    return InputError(f"a tarred data set is not read ({where}): got {got}, need the recordings themselves", _HINT)
