"""The cache was any folder of the expected name: a library that somebody else had put there was loaded."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mbx_deploy.errors import InputError
from mbx_deploy.system import cache
from mbx_deploy.system.cache import cache_folder, cached
from mbx_deploy.system.scratch import PREFIX, process_folder
from mbx_deploy.system.tools import compile_program, find_tool

CONTENT = b"whole" * 1000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a TMPDIR of the test's own."""
    for name in ("cache", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def fallback(home: Path) -> Path:
    return home / "tmp" / f"mbx-deploy-{os.geteuid()}"


def test_it_is_private(home: Path) -> None:
    folder = cache_folder()
    assert folder == home / "cache" / "mbx-deploy" and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)  # as earlier versions made it
    assert cache_folder() == folder and folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "cache" / "mbx-deploy").mkdir()
    (home / "cache" / "mbx-deploy").chmod(0o777)
    assert cache_folder() == fallback(home)
    fallback(home).chmod(0o770)
    assert cache_folder().is_relative_to(process_folder())
    fallback(home).rmdir()
    fallback(home).symlink_to(home)
    assert cache_folder().is_relative_to(process_folder())
    fallback(home).unlink()
    (home / "tmp").chmod(0o777)  # whoever can write it can put another folder in its place
    assert cache_folder().is_relative_to(process_folder())
    (home / "tmp").chmod(0o1777)
    assert cache_folder() == fallback(home)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)  # all of this is another's now
    assert cache_folder().is_relative_to(process_folder())


def test_a_planted_program_is_not_run(home: Path) -> None:
    if find_tool("gcc") is None:
        pytest.skip("gcc is not installed")
    source = {"a.c": 'int puts(const char *);\nint main(void) { puts("ours"); return 0; }\n'}
    made = compile_program(source)
    for planted in (b"#!/bin/sh\necho theirs\n", b"", made.read_bytes()[:100]):
        made.write_bytes(planted)
        again = compile_program(source)
        assert subprocess.run([again], capture_output=True, text=True).stdout == "ours\n"
        assert again == made and again.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("broken", [b"", CONTENT[:2000], CONTENT + b"x", None])
def test_a_broken_entry_is_made_anew(broken: bytes | None) -> None:
    path = cached("key", ".bin", lambda: CONTENT)
    assert cached("key", ".bin", lambda: b"never") == path
    if broken is None:
        path.unlink()
        path.mkdir()
        path = cached("key", ".bin", lambda: CONTENT + b"!")
        assert path.read_bytes() == CONTENT + b"!"
    else:
        path.write_bytes(broken)
        assert cached("key", ".bin", lambda: CONTENT) == path and path.read_bytes() == CONTENT
    assert [name for name in os.listdir(path.parent) if name.endswith(".lock")] == []


def test_nothing_is_kept_where_making_fails(home: Path) -> None:
    def fail() -> bytes:
        raise InputError("no")

    with pytest.raises(InputError):
        cached("key", ".bin", fail)
    assert os.listdir(home / "cache" / "mbx-deploy") == []


def test_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.fsync

    def full(file: int) -> None:
        if "tmp" not in os.readlink(f"/proc/self/fd/{file}").replace(str(home.parent), ""):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(file)

    monkeypatch.setattr(os, "fsync", full)
    path = cached("key", ".bin", lambda: CONTENT)
    assert path.is_relative_to(process_folder()) and path.read_bytes() == CONTENT
    assert os.listdir(home / "cache" / "mbx-deploy") == []
    monkeypatch.setattr(cache, "_fresh", lambda: home / "cache" / "mbx-deploy")
    with pytest.raises(InputError, match="no space left"):
        cached("other", ".bin", lambda: CONTENT)


def test_the_folder_of_a_process_goes_away_with_it(home: Path) -> None:
    (home / "cache").chmod(0o777)
    fallback(home).mkdir(mode=0o700)
    fallback(home).chmod(0o777)
    program = "from mbx_deploy.system.cache import cached; print(cached('k', '.bin', lambda: b'x'))"
    environment = {**os.environ, "TMPDIR": str(home / "tmp"), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert PREFIX in done.stdout, done.stderr
    assert not Path(done.stdout.strip()).exists() and list((home / "tmp").glob(f"{PREFIX}*")) == []
