"""NVIDIA's checkpoints by name, from a server on the loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbx_deploy.errors import InputError
from mbx_deploy.nemo import ngc
from tests.made.archive_server import Server

NAME = "commandrecognition_en_matchboxnet3x2x64_v2"
CONTENT = bytes(range(256)) * 500


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(CONTENT)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MBX_NGC_URL", made.url.rpartition("/")[0])
    monkeypatch.setattr(ngc, "wait", lambda seconds: None)
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_name_is_fetched_once(server: Server) -> None:
    """Cut in the middle it goes on; the next time nothing is asked; what was touched is fetched again."""
    said: list[str] = []
    server.cuts = [1, 70_000]
    path = ngc.resolve_any_model(NAME, said.append)
    assert path.read_bytes() == CONTENT and path.suffix == ".nemo"
    assert any("Range" in headers and headers["Range"] == "bytes=70000-" for headers in server.asked)
    asked = len(server.asked)
    assert ngc.resolve_any_model(NAME, said.append) == path and len(server.asked) == asked
    path.write_bytes(b"touched")
    assert ngc.resolve_any_model(NAME, said.append).read_bytes() == CONTENT and len(server.asked) > asked


def test_another_file_under_the_name_is_refused(server: Server) -> None:
    """The digest of the first time is what the name stands for."""
    path = ngc.fetch_nemo(NAME, lambda text: None)
    path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match="SHA-256") as caught:
        ngc.fetch_nemo(NAME, lambda text: None)
    assert not path.exists() and "--model" in (caught.value.hint or "")


def test_limits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngc, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="too large"):
        ngc.fetch_nemo(NAME, lambda text: None)


def test_without_a_network_one_line_says_what_to_do(server: Server) -> None:
    server.statuses = [503] * 50
    with pytest.raises(InputError, match=f"{NAME} can't be fetched") as caught:
        ngc.fetch_nemo(NAME, lambda text: None)
    assert f"{NAME}.nemo" in (caught.value.hint or "") and "\n" not in caught.value.what


def test_other_names_are_files_or_shipped() -> None:
    assert ngc.resolve_any_model("x/y.tflite", print) == Path("x/y.tflite")
    assert ngc.resolve_any_model(None, print).is_file()
    with pytest.raises(InputError):
        ngc.resolve_any_model("commandrecognition_en", print)
