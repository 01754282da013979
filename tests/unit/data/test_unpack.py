"""Unpacking archives that somebody made to do harm, or that are broken."""

import gzip
import random
import tarfile
from pathlib import Path

import pytest

from mbx_deploy.data.unpack import unpack
from mbx_deploy.errors import InputError
from tests.made.archive_server import plain, special, tar_gz

NOISE = plain("./noise.wav", random.Random(0).randbytes(50_000))


def unpack_bytes(tmp_path: Path, content: bytes) -> int:
    (tmp_path / "x.tar.gz").write_bytes(content)
    (tmp_path / "deep").mkdir()
    return unpack(tmp_path / "x.tar.gz", tmp_path / "deep" / "x", 100, 200_000, lambda *_: None)


HOSTILE = {
    "absolute": ([plain("/tmp/mbx-deploy-escaped")], "paths that stay"),
    "parent": ([plain("yes/../../escaped")], "paths that stay"),
    "parent folder": ([special("../escaped", tarfile.DIRTYPE)], "paths that stay"),
    "symlink": ([special("yes", tarfile.SYMTYPE, "/tmp"), plain("yes/escaped")], "a symbolic link"),
    "hard link": ([special("passwd", tarfile.LNKTYPE, "/etc/passwd")], "a hard link"),
    "device": ([special("null", tarfile.CHRTYPE)], "a device"),
    "block device": ([special("disk", tarfile.BLKTYPE)], "a device"),
    "pipe": ([special("pipe", tarfile.FIFOTYPE)], "a device"),
    "sparse": ([special("sparse", tarfile.GNUTYPE_SPARSE)], "a sparse file"),
    "twice": ([plain("yes/a"), plain("./yes/a")], "twice"),
    "file as folder": ([plain("yes"), plain("yes/a")], "can't write"),
    "no name": ([plain("./")], "without a name|twice"),
    "too many": ([plain(f"yes/{n}") for n in range(101)], "more than 100 files"),
    "too large": ([plain("yes/a", b"0" * 150_000), plain("yes/b", b"0" * 150_000)], "more than 200000 bytes"),
    "nothing": ([special("yes", tarfile.DIRTYPE)], "no files"),
    "long name": ([plain("a" * 300)], "can't write"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives(tmp_path: Path, kind: str) -> None:
    members, named = HOSTILE[kind]
    with pytest.raises(InputError, match=named):
        unpack_bytes(tmp_path, tar_gz(members))
    assert not list(tmp_path.rglob("escaped"))
    assert not Path("/tmp/mbx-deploy-escaped").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


BROKEN = {
    "no archive": (b"no archive", "refused"),
    "empty": (b"", "refused"),
    "no tar": (gzip.compress(b"no tar" * 1000), "refused"),
    "gzip of nothing": (gzip.compress(b""), "refused"),
    "cut": (tar_gz([NOISE])[:5000], "refused"),
    "damaged": (tar_gz([NOISE])[:-300] + b"?" * 300, "refused"),
    "member cut": (gzip.compress(header(tarfile.REGTYPE, 1000) + b"0" * 500), "refused"),
    "endless member": (gzip.compress(header(tarfile.REGTYPE, 1 << 40)), "more than 200000 bytes"),
    "endless PAX header": (gzip.compress(header(tarfile.XHDTYPE, 1 << 40)), "a header of"),
    "endless long name": (gzip.compress(header(tarfile.GNUTYPE_LONGNAME, 1 << 30)), "a header of"),
    "headers without end": (gzip.compress(header(tarfile.XHDTYPE, 0) * 20_000), "refused"),
    "negative sizes": (gzip.compress(header(b"S", -512) + header(tarfile.REGTYPE, -512)), "refused"),
    # A gigabyte of nothing, in a megabyte.
    "bomb": (
        gzip.compress(header(tarfile.REGTYPE, 1 << 30)) + gzip.compress(bytes(1 << 20)) * 1024,
        "more than 200000",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_archives(tmp_path: Path, kind: str) -> None:
    content, named = BROKEN[kind]
    with pytest.raises(InputError, match=named):
        unpack_bytes(tmp_path, content)


def test_modes_and_times_stay_behind(tmp_path: Path) -> None:
    info, content = plain("yes/a", b"x")
    info.mode, info.mtime, info.uid = 0o4777, 1, 12345
    assert unpack_bytes(tmp_path, tar_gz([(info, content)])) == 1
    status = (tmp_path / "deep" / "x" / "yes" / "a").stat()
    assert status.st_mode & 0o7133 == 0
    assert status.st_mtime > 1
