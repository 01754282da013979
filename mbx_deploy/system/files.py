"""Files that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mbx_deploy.errors import InputError

OWNER_FILE = ".mbx-deploy"
PROGRAM_SUFFIX = ".elf"


def write_file(path: Path, data: str | bytes) -> None:
    """Write one file: it appears whole, or the old one stays. Raises InputError where that can't be done."""
    try:
        put_file(path, data, 0o666 & ~_umask())
    except OSError as error:
        raise cannot_write(path, error) from None


def put_file(path: Path, data: str | bytes, mode: int) -> None:
    """Write one file of a mode, as write_file(). Raises OSError."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def check_file(path: Path) -> None:
    """Raise InputError where a file can't be put, before the work whose result it is to hold."""
    try:
        if path.is_dir():
            raise InputError(f"can't write {path}: it is a folder", "name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> InputError:
    """Return the user's error for a file or folder that can't be written."""
    reason = (error.strerror or str(error)).lower()
    hint = "free some space, or choose another place" if error.errno == errno.ENOSPC else "choose another place"
    return InputError(f"can't write {path}: {reason}", hint)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_folder(folder: Path, force: bool = False) -> None:
    """Raise InputError if a folder of results may not be (re)placed: it is a file, or holds what we did not write."""
    try:
        no_folder = folder.is_symlink() or (folder.exists() and not folder.is_dir())
        foreign = folder.is_dir() and any(folder.iterdir()) and not (folder / OWNER_FILE).is_file()
    except OSError as error:  # a name too long, or a folder above that may not be entered
        raise cannot_write(folder, error) from None
    if no_folder:
        raise InputError(f"the output is not a folder: {folder}", "choose another place with -o")
    if foreign and not force:
        raise InputError(
            f"the output folder is not empty and not an earlier build: {folder}", "choose an empty folder with -o"
        )


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write a folder of files: it appears whole, replacing an earlier one of ours, or the old one stays.

    files: {relative path: content}; what ends in .elf may be run. The folder is made beside its final place, then
    renamed. Raises InputError for a folder that is not ours, can't be written, or does not fit the disk.
    """
    check_folder(folder)
    folder = folder.absolute()
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        for name, content in {
            **files,
            OWNER_FILE: "This folder is written by mbx-deploy and replaced by it.\n",
        }.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            if path.suffix == PROGRAM_SUFFIX:
                os.chmod(path, 0o777 & ~_umask())
        os.chmod(temporary, 0o777 & ~_umask())
        replace_folder(temporary, folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder new in the place of folder; what was there goes away only after that."""
    if not folder.exists():
        os.replace(new, folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    try:
        os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:  # an interruption, too
        if not folder.exists():
            os.replace(old, folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
