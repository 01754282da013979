"""A server that drips a byte at a time, in its header or its body, held a download for as long as it liked."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mbx_deploy.data import download as downloads
from mbx_deploy.data import pace
from mbx_deploy.data.download import Remote, download
from mbx_deploy.errors import InputError

DRIP_S = 0.02
Serve = Callable[[socket.socket], None]


def drip(connection: socket.socket, data: Iterator[bytes]) -> None:
    for piece in data:
        connection.sendall(piece)
        time.sleep(DRIP_S)


def header_without_end(connection: socket.socket) -> None:
    drip(connection, itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"a")))


def slow_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    drip(connection, itertools.repeat(b"a"))


def slow_chunk_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    drip(connection, itertools.repeat(b"a"))


def endless_redirection(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n")
    while True:
        connection.sendall(bytes(1 << 16))


def fast_and_too_long(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    drip(connection, itertools.repeat(bytes(500)))


def listen(serve: Serve) -> str:
    """Return the address of a server that lives as long as the tests."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        try:
            connection.recv(65536)
            serve(connection)
        except OSError:
            pass  # the client has gone
        finally:
            connection.close()

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}/a.tar.gz"


def fetch(serve: Serve, folder: Path) -> tuple[str, float]:
    begin = time.monotonic()
    with pytest.raises(InputError) as told:
        remote = Remote(listen(serve), 1_000_000, "0" * 64)
        download(remote, folder / "part", lambda line: None, lambda done, of: None, lambda seconds: None)
    return told.value.what, time.monotonic() - begin


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SLOW_S", 0.3)
    monkeypatch.setattr(pace, "LOOK_S", 0.05)
    monkeypatch.setattr(downloads, "MAX_FRUITLESS_TRIES", 2)


@pytest.mark.parametrize("serve", [header_without_end, slow_body, slow_chunk_header])
def test_too_slow(serve: Serve, tmp_path: Path) -> None:
    told, seconds = fetch(serve, tmp_path)
    assert "less than 20 KB a second" in told and seconds < 5


def test_a_redirection_is_not_read(tmp_path: Path) -> None:
    told, seconds = fetch(endless_redirection, tmp_path)
    assert "302" in told and seconds < 5


def test_all_in_all_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(downloads, "MAX_SECONDS", 0.6)
    told, seconds = fetch(fast_and_too_long, tmp_path)
    assert "it took too long" in told and seconds < 5
    assert (tmp_path / "part").stat().st_size > 1000  # the next run goes on from there
