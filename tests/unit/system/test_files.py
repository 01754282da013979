"""Files and folders that appear whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mbx_deploy.errors import InputError
from mbx_deploy.system import files as output
from mbx_deploy.system.files import OWNER_FILE, check_folder, write_file, write_folder

FILES: dict[str, str | bytes] = {"a.txt": "ä\n", "sub/b.bin": b"\x00\xff", "sub/deep/c": ""}


def listing(folder: Path) -> list[str]:
    """Return every path below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def failing(code: int = errno.ENOSPC) -> Any:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f.txt"
    write_file(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    write_file(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert listing(tmp_path) == ["new", "new/f.txt"]


def test_the_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_file(tmp_path / "f", "x")
        write_folder(tmp_path / "d", {"p.elf": b"x", "q": "y"})
    finally:
        os.umask(mask)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("f", "d", "d/p.elf")}
    assert modes == {"f": 0o640, "d": 0o750, "d/p.elf": 0o750}


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_file_that_fails_leaves_the_old_one(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.txt"
    write_file(path, "old")
    monkeypatch.setattr(os, step, failing())
    with pytest.raises(InputError, match=r"f\.txt.*no space left") as caught:
        write_file(path, "new")
    assert "free some space" in (caught.value.hint or "")
    monkeypatch.undo()
    assert path.read_text() == "old" and listing(tmp_path) == ["f.txt"]


def test_a_file_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "f.txt", "new")
    assert listing(tmp_path) == []


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "f", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match="can't write"):
            write_file(path, "x")
    assert listing(tmp_path) == ["file", "folder"]


def test_a_folder_is_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "out"
    write_folder(folder, FILES)
    assert listing(folder) == sorted([OWNER_FILE, "a.txt", "sub", "sub/b.bin", "sub/deep", "sub/deep/c"])
    assert (folder / "a.txt").read_bytes() == "ä\n".encode()
    write_folder(folder, {"z": "new"})
    assert listing(folder) == [OWNER_FILE, "z"] and listing(folder.parent) == ["out", f"out/{OWNER_FILE}", "out/z"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", {"z": "new"})
    assert (tmp_path / "out" / "z").read_text() == "new"


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path("out"), {"z": "new"})
    assert (tmp_path / "out" / "z").read_text() == "new"


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("x")
    link, file = tmp_path / "link", tmp_path / "file"
    (tmp_path / "empty").mkdir()
    link.symlink_to(tmp_path / "empty")
    file.write_text("x")
    for folder in (foreign, link, file):
        for act in (check_folder, lambda f: write_folder(f, FILES)):
            with pytest.raises(InputError):
                act(folder)
    assert listing(tmp_path) == ["empty", "file", "link", "mine", "mine/thesis.txt"]


@pytest.mark.parametrize(
    ("where", "exists"),
    [
        *((where, exists) for where in ("write_bytes", "replace", "mkdir") for exists in (False, True)),
        ("second replace", True),  # of a new folder there is only one
    ],
)
def test_a_folder_that_fails_leaves_the_old_one(
    where: str, exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    if exists:
        write_folder(folder, {"old": "old"})
    before = listing(tmp_path)
    if where in ("write_bytes", "mkdir"):
        monkeypatch.setattr(Path, where, failing())
    elif where == "replace":
        monkeypatch.setattr(os, "replace", failing(errno.EACCES))
    else:
        real, calls = os.replace, []

        def second_fails(source: Path, target: Path) -> None:
            calls.append(target)
            if len(calls) == 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(source, target)

        monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(InputError, match="can't write"):
        write_folder(folder, FILES)
    monkeypatch.undo()
    assert listing(tmp_path) == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_folder_that_is_interrupted_leaves_the_old_one(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    write_folder(folder, {"old": "old"})
    real, calls = os.replace, []

    def interrupt(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == number:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, FILES)
    monkeypatch.undo()
    assert (folder / "old").read_text() == "old" and not (folder / "a.txt").exists()
    assert listing(tmp_path) == ["out", f"out/{OWNER_FILE}", "out/old"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    """A real ENOSPC, by way of a file system without room, is not made here: /dev/full stands for the write."""
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    error = output.cannot_write(tmp_path, caught.value)
    assert "no space left" in error.what and "free some space" in (error.hint or "")
