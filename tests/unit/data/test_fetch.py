"""Fetching a data set from a local server that misbehaves."""

import contextlib
import errno
import hashlib
import os
import random
import socket
import tarfile
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.data import archives, download, fetch, unpack
from mbx_deploy.data.archives import ARCHIVES, Archive, find_archive
from mbx_deploy.errors import InputError
from tests.made.archive_server import Server, plain, special, tar_gz

FILES = {"yes/a_nohash_0.wav": b"yes" * 3000, "no/b_nohash_0.wav": b"no", "testing_list.txt": b"yes/a_nohash_0.wav\n"}


def published(content: bytes, **changes: Any) -> Archive:
    values = {
        "name": "speech_commands_v1",
        "url": "http://127.0.0.1:9/archive.tar.gz",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "unpacked_bytes": 100_000,
        "max_files": 100,
        "max_bytes": 200_000,
        "licence": "CC BY 4.0",
    }
    return Archive(**{**values, **changes})


# Noise does not compress: the archive is longer than a few blocks of the network.
GOOD = tar_gz(
    [special("./", tarfile.DIRTYPE), special("./yes", tarfile.DIRTYPE)]
    + [plain(f"./{name}", content) for name, content in FILES.items()]
    + [plain("./_background_noise_/noise.wav", random.Random(0).randbytes(50_000))]
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT_S", 5.0)
    with Server(GOOD) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Run:
    """Calls fetch() and keeps what it says."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.said: list[str] = []
        self.slept: list[float] = []
        self.counted: list[tuple[str, int, int]] = []

    def __call__(self, archive: Archive | None = None) -> None:
        def progress(what: str) -> download.Progress:
            return lambda done, of: self.counted.append((what, done, of))

        fetch.fetch(
            archive or published(GOOD), self.folder, self.server.url, self.said.append, progress, self.slept.append
        )

    def beside(self) -> list[str]:
        return sorted(path.name for path in self.folder.parent.iterdir() if path != self.folder)

    def check_whole(self) -> None:
        found = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}
        assert set(found) == {*FILES, "_background_noise_/noise.wav", ".mbx-deploy"}
        assert {name: found[name].read_bytes() for name in FILES} == FILES
        assert self.beside() == []


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    (tmp_path / "sets").mkdir()
    return Run(server, tmp_path / "sets" / "v1")


def part_of(run: Run) -> Path:
    return run.folder.parent / ".v1.download" / "speech_commands_v1.tar.gz"


def begin(run: Run, count: int) -> None:
    """Leave a download as a killed one leaves it, after count bytes."""
    run.server.cuts = [count]
    run.server.on_answer = lambda: run.server.statuses.append(404)
    with pytest.raises(InputError, match="404"):
        run()
    run.server.on_answer = lambda: None
    assert part_of(run).stat().st_size == count
    assert not run.folder.exists()
    run.server.asked.clear()
    run.said.clear()


def test_fetch_and_fetch_again(run: Run) -> None:
    run()
    run.check_whole()
    assert run.said == []
    assert {what for what, *_ in run.counted} == {"download, MB"}  # less than a megabyte is unpacked at once
    assert all(0 <= done <= of for _, done, of in run.counted)
    run()
    assert run.said == ["speech_commands_v1 is there already"]
    assert len(run.server.asked) == 1


def test_an_empty_folder_is_filled(run: Run) -> None:
    run.folder.mkdir()
    run()
    run.check_whole()


@pytest.mark.parametrize("reset", [False, True])
def test_cut_connections_are_gone_on_from(run: Run, reset: bool) -> None:
    run.server.reset = reset
    run.server.cuts = [10_000, 1, 0, 20_000]
    run()
    run.check_whole()
    # A reset may swallow what was on its way; what came is never asked for again.
    starts = [int(asked.get("Range", "bytes=0-")[6:-1]) for asked in run.server.asked]
    assert starts == sorted(starts)
    if not reset:
        assert starts == [0, 10_000, 10_001, 10_001, 30_001]
    assert len(run.said) == len(run.slept) == len(starts) - 1
    assert all(asked["If-Range"] == '"1"' for asked in run.server.asked[1:] if "Range" in asked)


def test_a_killed_download_goes_on_in_the_next_run(run: Run) -> None:
    begin(run, 30_000)
    run()
    run.check_whole()
    assert [asked["Range"] for asked in run.server.asked] == ["bytes=30000-"]


def test_a_server_without_ranges_begins_anew(run: Run) -> None:
    run.server.knows_ranges = False
    begin(run, 30_000)
    run()
    run.check_whole()
    assert len(run.server.asked) == 1


@pytest.mark.parametrize("honours", [False, True])
def test_a_file_that_changed_is_begun_anew(run: Run, honours: bool) -> None:
    begin(run, 30_000)
    run.server.etag = '"2"'
    run.server.honours_if_range = honours
    part_of(run).write_bytes(b"0" * 30_000)  # the old version's bytes
    run()
    run.check_whole()


def test_without_etags_the_checksum_tells(run: Run) -> None:
    run.server.etag = None
    begin(run, 30_000)
    part_of(run).write_bytes(b"0" * 30_000)
    run()
    run.check_whole()
    assert "right checksum" in run.said[0]


def test_a_part_that_is_too_long_is_begun_anew(run: Run) -> None:
    begin(run, 30_000)
    part_of(run).write_bytes(GOOD + b"0")
    run()
    run.check_whole()


def test_a_server_that_does_not_say_how_long(run: Run) -> None:
    run.server.says_length = False
    run.server.cuts = [100]
    run()
    run.check_whole()


def test_a_busy_server_is_asked_again(run: Run) -> None:
    run.server.statuses = [503, 429, 500]
    run()
    run.check_whole()
    assert run.slept == [2.0, 4.0, 8.0]


def test_a_redirection_is_followed_to_http_only(run: Run) -> None:
    run.server.statuses = [302]
    run.server.location = run.server.url
    run()
    run.check_whole()
    run.folder = run.folder.with_name("v2")
    run.server.statuses = [302] * 9
    run.server.location = "file:///etc/passwd"
    with pytest.raises(InputError, match="302"):
        run()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda server: server.statuses.append(404), "404"),
        (lambda server: server.statuses.append(403), "403"),
        (lambda server: setattr(server, "content", GOOD[:-1] + b"?"), "SHA-256"),
        (lambda server: setattr(server, "content", b"<html>"), "got 6 bytes"),
        (lambda server: setattr(server, "content", GOOD + b"?"), f"need {len(GOOD)}"),
        (lambda server: server.statuses.extend([503] * 9), "got 0 of .*503"),
        (lambda server: server.cuts.extend([0] * 9), "got 0 of .*cut"),
    ],
)
def test_what_the_server_can_do_wrong(run: Run, harm: Callable[[Server], None], named: str) -> None:
    harm(run.server)
    with pytest.raises(InputError, match=named):
        run()
    assert not run.folder.exists()
    assert run.beside() == []


def test_more_than_was_promised_is_not_taken(run: Run) -> None:
    run.server.says_length = False
    run.server.content = GOOD + b"0" * 1_000_000
    with pytest.raises(InputError, match="more than"):
        run()
    assert run.beside() == []


def test_nobody_answers(run: Run) -> None:
    with contextlib.closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        with pytest.raises(InputError, match="refused"):
            fetch.fetch(published(GOOD), run.folder, url, run.said.append, lambda _: lambda *_: None, run.slept.append)
    assert len(run.slept) == download.MAX_FRUITLESS_TRIES - 1
    assert run.beside() == []


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://a/b", "file:///etc/passwd", "http://", "http://[::1", "http://a b/", "http://ä/"]
)
def test_bad_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="bad address"):
        download.check_url(url)


def test_a_folder_with_other_things_is_left_alone(run: Run) -> None:
    run.folder.mkdir()
    (run.folder / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        run()
    assert [path.name for path in run.folder.iterdir()] == ["thesis.tex"]
    (run.folder.parent / "file").write_text("mine")
    run.folder = run.folder.parent / "file"
    with pytest.raises(InputError, match="no folder"):
        run()
    assert run.server.asked == []


def test_two_at_once(run: Run) -> None:
    begin(run, 100)
    with fetch._locked(part_of(run).parent), pytest.raises(InputError, match="under way"):
        run()


def test_a_disk_that_is_too_small(run: Run) -> None:
    with pytest.raises(InputError, match="no room"):
        run(published(GOOD, unpacked_bytes=1 << 60))
    assert run.beside() == []
    assert run.server.asked == []


class FullDisk:
    """A file on a disk that has room for so many bytes more."""

    def __init__(self, file: Any, room_bytes: int) -> None:
        self.file, self.room_bytes = file, room_bytes

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, block: bytes) -> int:
        self.room_bytes -= len(block)
        if self.room_bytes < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(block))


def test_a_disk_that_fills_up_while_unpacking(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen
    files = types.SimpleNamespace(**{**vars(os), "fdopen": lambda *more: FullDisk(real(*more), 5000)})
    monkeypatch.setattr(unpack, "os", files)
    with pytest.raises(InputError, match="no space left"):
        run()
    assert not run.folder.exists()
    assert [path.name for path in part_of(run).parent.glob("*.gz")] == [part_of(run).name]
    assert not (part_of(run).parent / "unpacked").exists()
    monkeypatch.undo()
    run.server.asked.clear()
    run()
    run.check_whole()
    assert run.server.asked == []  # the archive was there


def test_a_disk_that_fills_up_while_downloading(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def limited(path: Path, mode: str = "r", *more: Any, **others: Any) -> Any:
        file = real(path, mode, *more, **others)
        return FullDisk(file, 20_000) if mode == "ab" else file

    monkeypatch.setattr(Path, "open", limited)
    run.server.cuts = [15_000]
    with pytest.raises(InputError, match="no space left") as caught:
        run()
    assert caught.value.hint is not None
    assert not run.folder.exists()
    assert part_of(run).stat().st_size == 15_000
    monkeypatch.undo()
    run.server.asked.clear()
    run()
    run.check_whole()
    assert run.server.asked[0]["Range"] == "bytes=15000-"


def test_a_hostile_archive_leaves_nothing(run: Run) -> None:
    run.server.content = tar_gz([plain("yes/a"), plain("../escaped")])
    with pytest.raises(InputError, match="paths that stay"):
        run(published(run.server.content))
    assert not run.folder.exists()
    assert not list(run.folder.parent.rglob("escaped"))
    assert not (part_of(run).parent / "unpacked").exists()


def test_the_published_archives() -> None:
    assert [archive.name for archive in ARCHIVES] == ["speech_commands_v1", "speech_commands_v2"]
    for archive in ARCHIVES:
        download.check_url(archive.url)
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.size_bytes < archive.unpacked_bytes < archive.max_bytes
    with pytest.raises(InputError, match="speech_commands_v1 or speech_commands_v2"):
        find_archive("speech_commands")


def test_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ARCHIVES", (published(GOOD, url=run.server.url),))
    done = CliRunner().invoke(cli, ["data", "fetch", "speech_commands_v1", str(run.folder)])
    assert done.exit_code == 0, done.output
    run.check_whole()
    assert "CC BY 4.0" in done.stdout
    again = ["data", "fetch", "speech_commands_v1", str(run.folder / "sub"), "--url", "gopher://x"]
    refused = CliRunner().invoke(cli, again)
    assert (refused.exit_code, refused.stderr.splitlines()[0][:18]) == (2, "error: bad address")
