"""What is made once and kept: in a folder that nobody else can write, each entry whole and looked at before it is used.

An entry's name ends in the digest of its content, so that a damaged one is known and made anew.
"""

import fcntl
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mbx_deploy.system.files import cannot_write, put_file
from mbx_deploy.system.scratch import process_folder

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHARED = stat.S_IWGRP | stat.S_IWOTH


def cached(key: str, suffix: str, make: Callable[[], bytes], program: bool = False) -> Path:
    """Return the file of a key, made where the cache has none that is whole.

    key: letters and digits, of all that the content depends on. program: it may be run. Another process that makes the
    same is waited for. Where the cache's disk is full, the entry lives as long as this process. Raises InputError where
    there is no place at all, and what make() raises.
    """
    folder = cache_folder()
    with _locked(folder, key):
        found = _find(folder, key, suffix, program)
        if found is not None:
            return found
        content = make()
        try:
            return _store(folder, key, suffix, content, program)
        except OSError as error:
            try:
                return _store(_fresh(), key, suffix, content, program)
            except OSError:
                raise cannot_write(folder, error) from None


def cache_folder() -> Path:
    """Return the cache's folder, made where it is missing: in $XDG_CACHE_HOME or ~/.cache, or else in TMPDIR.

    It is this user's and nobody else may write to it or to where it lies. Where there is no such place it is a new one,
    for this process. Raises InputError where none can be made.
    """
    for path in _places():
        if _is_private(path):
            return path
    try:
        return _fresh()
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from None


def _places() -> list[Path]:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the XDG Base Directory Specification has it
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return [Path(base) / "mbx-deploy", Path(tempfile.gettempdir()) / f"mbx-deploy-{os.geteuid()}"]


def _fresh() -> Path:
    folder = process_folder() / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_private(path: Path) -> bool:
    """Return whether a folder, made where it is missing, is ours alone and can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _SHARED:
            return False
        if any(_is_shared(above) for above in path.resolve().parents):
            return False
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
        with tempfile.TemporaryFile(dir=path):
            return True
    except (OSError, RuntimeError):  # RuntimeError: a circle of links
        return False


def _is_shared(folder: Path) -> bool:
    """Return whether others may rename what lies in a folder; a sticky one keeps them from it."""
    mode = folder.stat().st_mode
    return bool(mode & _SHARED) and not mode & stat.S_ISVTX


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    """Let one process at a time make an entry. Where the disk takes no lock's file, two may make it."""
    path = folder / f"{key}.lock"
    lock = _lock(path)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                path.unlink()
            os.close(lock)


def _lock(path: Path) -> int | None:
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return lock
        if os.fstat(lock).st_nlink:  # or its holder removed it while we waited: take the new one
            return lock
        os.close(lock)


def _find(folder: Path, key: str, suffix: str, program: bool) -> Path | None:
    """Return the entry of a key that is whole; broken ones are removed."""
    for path in sorted(folder.glob(f"{key}-*{suffix}")):
        digest = path.name.removeprefix(f"{key}-").removesuffix(suffix)
        try:
            found = path.lstat()
            data = path.read_bytes() if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() else None
            runs = not program or os.access(path, os.X_OK)
            if data is not None and runs and _DIGEST.fullmatch(digest) and _digest(data) == digest:
                return path
            path.unlink()
        except OSError:
            continue
    return None


def _store(folder: Path, key: str, suffix: str, content: bytes, program: bool) -> Path:
    path = folder / f"{key}-{_digest(content)}{suffix}"
    put_file(path, content, 0o700 if program else 0o600)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
