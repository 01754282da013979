"""serve: the page on this machine, over https for a phone, and loaded anew after a new build."""

import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Playwright

from mbx_deploy.commands.cli import cli
from mbx_deploy.firmware.folder import Build
from mbx_deploy.live import certificate
from mbx_deploy.live.certificate import qr_code
from mbx_deploy.live.serve import Served, watch_page
from tests.browser.conftest import OpenPage, launch
from tests.made.builds import sign_again

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The command, once it says that it serves; its lines so far. It is ended by Ctrl-C."""
    command = [sys.executable, "-m", "mbx_deploy", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if "Ctrl-C" in line:
                break
        else:
            pytest.fail("\n".join(lines))
        yield process, lines
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and rest.rstrip().endswith("stopped"), rest


def address_of(lines: list[str], what: str) -> tuple[str, int]:
    found = re.search(rf"^{what}: +https?://([\w.]+):(\d+)/$", "\n".join(lines), re.MULTILINE)
    assert found is not None, lines
    return found[1], int(found[2])


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.read(), dict(response.headers)


def test_it_serves_the_page_and_nothing_else(browser_builds: dict[str, Build]) -> None:
    made = browser_builds["kws10"]
    with serving(made.folder) as (_, lines):
        host, port = address_of(lines, "page")
        assert host == "localhost" and not any("phone" in line for line in lines)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        status, body, headers = ask(connection, "/")
        assert status == 200 and body == made.page.read_bytes()
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
        assert ask(connection, "/", "HEAD")[:2] == (200, b"")
        for path in ("/firmware.wasm", "/../manifest.json", "/manifest.json", "/changes", "/%2e%2e/x"):
            assert ask(connection, path)[0] == 404, path
        assert ask(connection, "/index.html?x=1")[1] == body
        with pytest.raises(OSError):  # nobody else reaches it
            socket.create_connection((certificate.network_address(), port), timeout=5).close()


def test_a_phone_is_served_over_https(browser_builds: dict[str, Build]) -> None:
    """Its certificate is its own, the fingerprint is told, the QR code is there."""
    made = browser_builds["kws10"]
    with serving(made.folder, "--phone", "--phone-port", "0", "--address", "127.0.0.1") as (_, lines):
        host, port = address_of(lines, "phone")
        told = "\n".join(lines)
        code = qr_code(f"https://{host}:{port}/")
        assert "self-signed" in told and code is not None and code in told + "\n"
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            ask(http.client.HTTPSConnection(host, port, context=context, timeout=20), "/")
        served = ssl.get_server_certificate((host, port))
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(served)).hexdigest().upper()
        assert digest in told.replace(":", "")
        trusting = ssl.create_default_context(cadata=served)
        status, body, _ = ask(http.client.HTTPSConnection(host, port, context=trusting, timeout=20), "/")
        assert status == 200 and body == made.page.read_bytes()
        plain = http.client.HTTPConnection(host, port, timeout=20)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(plain, "/")
        silent = socket.create_connection((host, port))  # who says nothing holds up nobody
        assert ask(http.client.HTTPSConnection(host, port, context=trusting, timeout=20), "/")[0] == 200
        silent.close()


def test_over_plain_http_the_page_says_why_it_hears_nothing(
    browser_builds: dict[str, Build], open_page: OpenPage, playwright: Playwright
) -> None:
    """As another machine would open it, by a name that is not localhost."""
    browser = launch(playwright, "--host-resolver-rules=MAP laptop.test 127.0.0.1")
    try:
        with serving(browser_builds["kws10"].folder) as (_, lines):
            page = open_page(f"http://laptop.test:{address_of(lines, 'page')[1]}/", "", browser)
            assert "came over plain http" in page.inner_text("#trouble") and "--phone" in page.inner_text("#trouble")
            assert page.is_disabled("#listen") and page.is_enabled("#files")
            page.context.close()
    finally:
        browser.close()


def test_a_new_build_is_loaded_anew(browser_builds: dict[str, Build], open_page: OpenPage, tmp_path: Path) -> None:
    """In the frame of --watch; the page itself, and its policy, stay as built. A broken build is not served."""
    folder = tmp_path / "build"
    shutil.copytree(browser_builds["kws10"].folder, folder)
    with serving(folder, "--watch") as (process, lines):
        port = address_of(lines, "page")[1]
        context = open_page(f"http://localhost:{port}/page.html").context
        page = context.new_page()
        page.goto(f"http://localhost:{port}/")
        inner = page.frame_locator("iframe")
        inner.locator("#check[data-state=good]").wait_for()
        assert inner.locator("#listen").is_enabled()
        text = (folder / "index.html").read_text()
        (folder / "index.html").write_text("broken")
        (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
        assert process.stdout is not None
        assert "not served: the build was changed" in process.stdout.readline()
        new = text.replace(": a recogniser of", ": another recogniser of")
        replace_build(folder, new)
        assert "a new build" in process.stdout.readline()
        inner.locator("h1", has_text="another recogniser").wait_for()
        inner.locator("#check[data-state=good]").wait_for()


def replace_build(folder: Path, page: str) -> None:
    """Put a build with another page in a build's place, at once."""
    made = folder.with_name("new")
    shutil.copytree(folder, made)
    (made / "index.html").write_text(page)
    sign_again(made)
    time.sleep(0.02)  # another time stamp
    for name in ("index.html", "manifest.json"):
        os.replace(made / name, folder / name)


def test_the_frame_is_held_by_a_policy_of_its_own() -> None:
    text = watch_page().decode()
    assert "connect-src 'self'" in text and "@" not in text.partition("<style>")[0]


def test_waiting_for_a_change_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbx_deploy.live.serve.KEEP_ALIVE_S", 0.05)
    served = Served(b"one")
    served.wait_for_other(served.digest)  # in vain, for a while
    served.replace(b"two")
    served.wait_for_other(hashlib.sha256(b"one").hexdigest())
    assert served.digest == hashlib.sha256(b"two").hexdigest()


def test_what_can_not_be_served(browser_builds: dict[str, Build], m4_build: Build, tmp_path: Path) -> None:
    folder = browser_builds["kws10"].folder
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, told in (
            ([folder, "--port", port], f"can't listen at port {port}"),
            ([m4_build.folder], "holds no page"),
            ([tmp_path], "holds no manifest.json"),
            ([folder, "--address", "here"], "--address: got 'here'"),
            ([folder, "--port", "70000"], "70000"),
        ):
            result = CliRunner().invoke(cli, ["serve", *map(str, arguments)])
            assert result.exit_code == 2 and told in result.stderr, result.output


def test_what_the_phone_lacks_is_named(browser_builds: dict[str, Build], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    arguments = ["serve", str(browser_builds["kws10"].folder), "--port", "0", "--address", "127.0.0.1"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2 and "cryptography is not installed" in result.stderr and "[serve]" in result.stderr
    monkeypatch.setitem(sys.modules, "segno", None)
    assert qr_code("https://x/") is None
