"""A .tar.gz -> a folder, taking nothing from it but plain files and folders that stay inside."""

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mbx_deploy.data.corpus import shown
from mbx_deploy.errors import InputError
from mbx_deploy.system.files import cannot_write

_BLOCK_BYTES = 1 << 18
_MAX_READ_BYTES = 1 << 20  # a longer one is a header that wants to fill the memory
_HEADER_BYTES = 4096  # of each file: its own header, that of a long name, and padding
_MEGABYTE = 1_000_000
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, RecursionError, ValueError)


def unpack(archive: Path, folder: Path, max_files: int, max_bytes: int, progress: Callable[[int, int], None]) -> int:
    """Unpack an archive into a folder that does not exist yet, and return how many files there were.

    Modes, owners and times are left behind. progress counts megabytes of the archive. On an error the folder is left
    as far as it came: the caller removes it. Raises InputError for absolute paths and ..,
    links, devices and sparse files, names that occur twice, too many or too large files, a broken archive, and a disk
    on which it has no room.
    """
    size = archive.stat().st_size
    try:
        folder.mkdir()
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as stream:
            bounded = _Bounded(stream, archive, max_bytes + max_files * _HEADER_BYTES)
            with tarfile.TarFile(fileobj=bounded, mode="r") as tar:  # type: ignore[arg-type]
                count, total, files, reported = 0, 0, 0, 0
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined] # or all headers stay in memory
                    count += 1
                    total += max(member.size, 0)
                    if count > max_files:
                        raise _refused(archive, f"more than {max_files} files", f"at most {max_files}")
                    if total > max_bytes:
                        raise _refused(archive, f"more than {max_bytes} bytes", f"at most {max_bytes}")
                    files += _unpack_member(archive, tar, member, folder)
                    if raw.tell() // _MEGABYTE != reported:
                        reported = raw.tell() // _MEGABYTE
                        progress(reported, -(-size // _MEGABYTE))
    except _BROKEN as error:
        raise _refused(archive, f"{type(error).__name__}: {error}", "a whole .tar.gz") from None
    except OSError as error:
        raise cannot_write(Path(error.filename or folder), error) from None
    if not files:
        raise _refused(archive, "no files", "at least one")
    return files


def _unpack_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> bool:
    """Write one member and return whether it is a file."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise _refused(archive, f"the path {shown(member.name)}", "paths that stay in the folder")
    if member.isdir():
        (folder / path).mkdir(parents=True, exist_ok=True)
        return False
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or member.size < 0:
        kind = next((name for name, test in _KINDS if test(member)), "something else")
        raise _refused(archive, f"{kind} at {shown(member.name)}", "plain files and folders only")
    source = tar.extractfile(member)
    if source is None or not path.parts:
        raise _refused(archive, f"a file without a name, {shown(member.name)}", "a name")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        raise _refused(archive, f"{shown(member.name)} twice", "each name once") from None
    with os.fdopen(handle, "wb") as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
        if target.tell() != member.size:
            raise _refused(archive, f"{shown(member.name)} cut short", "a whole .tar.gz")
    return True


_KINDS: tuple[tuple[str, Callable[[tarfile.TarInfo], bool]], ...] = (
    ("a symbolic link", tarfile.TarInfo.issym),
    ("a hard link", tarfile.TarInfo.islnk),
    ("a device", tarfile.TarInfo.isdev),
    ("a sparse file", tarfile.TarInfo.issparse),
)


def _refused(archive: Path, got: str, need: str) -> InputError:
    return InputError(f"the archive is refused ({archive.name}): got {got}, need {need}")


class _Bounded:
    """A stream that goes only so far, and gives only so much at a time: tarfile reads a header of any size whole."""

    def __init__(self, stream: gzip.GzipFile, archive: Path, limit: int) -> None:
        self.stream = stream
        self.archive = archive
        self.limit = limit

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ_BYTES:
            raise _refused(self.archive, f"a header of {size} bytes", f"at most {_MAX_READ_BYTES}")
        self._check(self.tell() + size)
        return self.stream.read(size)

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, position: int) -> int:
        self._check(position)
        return self.stream.seek(position)

    def _check(self, position: int) -> None:
        if position > self.limit:
            raise _refused(self.archive, f"more than {self.limit} bytes unpacked", "less")
