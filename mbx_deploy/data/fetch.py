"""A published data set, from the network to a folder: whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mbx_deploy.data.archives import Archive
from mbx_deploy.data.download import Progress, Remote, Say, check_url, download, wait
from mbx_deploy.data.unpack import unpack
from mbx_deploy.errors import InputError
from mbx_deploy.system.files import OWNER_FILE, cannot_write


def fetch(
    archive: Archive,
    folder: Path,
    url: str | None,
    say: Say,
    progress: Callable[[str], Progress],
    sleep: Callable[[float], None] = wait,
) -> None:
    """Make folder the data set of an archive: download, check, unpack.

    It may be empty or not exist; if it is that data set already, nothing happens. What is under way lies beside it in
    .<folder>.download, from where an interrupted download goes on; the folder appears when all is there.
    url: in place of the official one; size and checksum must be the same. progress(what) gives a counter of megabytes.
    Raises InputError: the folder holds something else, the server fails, the archive is not the published one or is
    refused, or the disk is too small.
    """
    remote = Remote(url or archive.url, archive.size_bytes, archive.sha256)
    check_url(remote.url)
    folder = Path(folder).resolve()
    mark = f"{archive.name} {archive.sha256}\n"
    if _is_there(folder, mark):
        say(f"{archive.name} is there already")
        return
    work = folder.parent / f".{folder.name}.download"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with _locked(work):
            shutil.rmtree(work / "unpacked", ignore_errors=True)
            part = work / f"{archive.name}.tar.gz"
            try:
                _check_room(archive, part)
                download(remote, part, say, progress("download, MB"), sleep)
                unpack(part, work / "unpacked", archive.max_files, archive.max_bytes, progress("unpack, MB"))
                (work / "unpacked" / OWNER_FILE).write_text(mark)
                os.replace(work / "unpacked", folder)
                part.unlink()
            finally:
                shutil.rmtree(work / "unpacked", ignore_errors=True)
                _tidy(work, part)
    except OSError as error:
        raise cannot_write(folder, error) from None


def _tidy(work: Path, part: Path) -> None:
    """Leave nothing behind but a download that can be gone on with."""
    if not part.exists() or part.stat().st_size == 0:
        shutil.rmtree(work, ignore_errors=True)


def _is_there(folder: Path, mark: str) -> bool:
    """Return whether the folder holds the data set. Raises InputError if it holds anything else."""
    if not folder.exists():
        return False
    if not folder.is_dir() or folder == folder.parent:
        raise InputError(f"no folder for a data set ({folder}): need the name of a new one")
    try:
        if (folder / OWNER_FILE).read_text() == mark:
            return True
    except (OSError, UnicodeDecodeError):
        pass
    if any(folder.iterdir()):
        raise InputError(
            f"the folder is not empty ({folder}): got other files, need an empty or a new one", "choose another folder"
        )
    return False


def _check_room(archive: Archive, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    need = max(archive.size_bytes - have, 0) + archive.unpacked_bytes
    free = shutil.disk_usage(part.parent).free
    if free < need:
        raise InputError(
            f"no room for {archive.name} ({part.parent.parent}): got {free / 1e9:.1f} GB free, need {need / 1e9:.1f}",
            "free some space, or choose another folder",
        )


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Raise InputError if another process is at work in the folder."""
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another download is under way ({work}): need it to end", "wait for it") from None
        yield
