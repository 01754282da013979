"""Temporary folders of ours, each locked by the process that uses it: what a killed one left, the next one clears."""

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "mbx-deploy-scratch-"
_TRIES = 20
_swept: set[str] = set()
_of_process: dict[int, tuple[Path, int]] = {}


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder in TMPDIR that only we may enter; it goes away at the end. Raises OSError."""
    sweep()
    folder, lock = _make()
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def process_folder() -> Path:
    """Return a folder in TMPDIR that only we may enter, the same for all of this process, at whose end it goes away.

    Compilers that we start put their own temporary files there. Raises OSError.
    """
    pid = os.getpid()
    if pid not in _of_process:  # another after a fork
        sweep()
        _of_process[pid] = _make()
        atexit.register(_leave, pid)
    return _of_process[pid][0]


def sweep() -> None:
    """Remove what killed processes of this user left in TMPDIR; once a process and place."""
    with contextlib.suppress(OSError):  # TMPDIR may not be there
        place = tempfile.gettempdir()
        if place in _swept:
            return
        _swept.add(place)
        for folder in sorted(Path(place).glob(f"{PREFIX}*")):
            with contextlib.suppress(OSError):  # somebody else's, in use, or gone
                _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
    finally:
        os.close(lock)


def _make() -> tuple[Path, int]:
    """Return a new folder and the file descriptor that holds its lock, for as long as it is open."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # swept before it was locked
            continue
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.stat(folder).st_ino == os.fstat(lock).st_ino:
                return folder, lock
        os.close(lock)
    raise FileNotFoundError(f"a folder in {tempfile.gettempdir()} goes away as soon as it is made")


def _remove(folder: Path) -> None:
    for _ in range(3):  # an orphaned compiler may still write into it
        shutil.rmtree(folder, onerror=_open_up)
        if not folder.exists():
            return


def _open_up(function: object, path: str, error: object) -> None:
    """Give back the rights to remove a folder that somebody took away; what can't be removed stays."""
    with contextlib.suppress(OSError):
        parent = os.path.dirname(path)
        os.chmod(parent, stat.S_IRWXU)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, stat.S_IRWXU)
        else:
            os.unlink(path)


def _leave(pid: int) -> None:
    if os.getpid() == pid and pid in _of_process:
        folder, lock = _of_process.pop(pid)
        _remove(folder)
        os.close(lock)
