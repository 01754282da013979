"""The page of a build on this machine, and over https for a phone in the same network."""

import base64
import hashlib
import http.server
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from mbx_deploy.errors import InputError, MbxError
from mbx_deploy.firmware.folder import load_hearing_build
from mbx_deploy.live.certificate import make_certificate, network_address, qr_code
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.version import __version__

HERE = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
WATCH_S = 0.5
KEEP_ALIVE_S = 10.0
REQUEST_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class ServeOptions:
    """port: on this machine, 0 for any. phone: over https, too. phone_port: 0 for any. address: of this machine, for
    the phone; without it what the system says. watch: the page is loaded anew after a new build.
    """

    port: int = 8000
    phone: bool = False
    phone_port: int = 8443
    address: str | None = None
    watch: bool = False


@dataclass
class Served:
    """What is served now: the page's bytes and their digest; changed tells those who wait."""

    page: bytes
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def digest(self) -> str:
        """SHA-256 of the page."""
        return hashlib.sha256(self.page).hexdigest()

    def wait_for_other(self, digest: str) -> None:
        """Wait until the page has another digest, at most KEEP_ALIVE_S."""
        with self.changed:
            self.changed.wait_for(lambda: self.digest != digest, KEEP_ALIVE_S)

    def replace(self, page: bytes) -> None:
        """Serve another page from now on."""
        with self.changed:
            self.page = page
            self.changed.notify_all()


def read_page(folder: Path) -> bytes:
    """Return the page of a build. Raises InputError for a folder that is no build for the browser, or was changed."""
    return load_hearing_build(folder).page.read_bytes()


class PageServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves one page. Each request has a thread of its own, so that one that waits holds up no other."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], served: Served, watch: bool, context: ssl.SSLContext | None) -> None:
        """Raises InputError where the port can't be had."""
        self.served, self.watch, self.context = served, watch, context
        try:
            super().__init__(address, _Handler)
        except (OSError, OverflowError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise InputError(f"can't listen at port {address[1]}: {reason}", "take another one, or 0 for any") from None

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.server_address[1])

    def finish_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """Do the handshake of TLS in the request's own thread."""
        request.settimeout(REQUEST_S)
        if self.context is not None:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser that dislikes the certificate, or goes away, is no error of ours."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = f"mbx-deploy/{__version__}", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve the page, the frame around it, or what tells of changes."""
        path = self.path.partition("?")[0]
        names = {"/": watch_page if self.server.watch else None, "/index.html": None, "/page.html": None}
        if path == "/changes" and self.server.watch:
            self._tell_changes()
        elif path in names:
            frame = names[path]
            self._send(HTTPStatus.OK, frame() if frame else self.server.served.page, "text/html; charset=utf-8")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is one page here: /\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _headers(kind).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _tell_changes(self) -> None:
        """Send the page's digest, and again each time that it changes, until the browser goes away."""
        self.send_response(HTTPStatus.OK)
        for name, value in _headers("text/event-stream").items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        served, told = self.server.served, ""
        while self.command != "HEAD":
            now = served.digest
            self.wfile.write(f"data: {now}\n\n".encode() if now != told else b": still here\n\n")
            self.wfile.flush()
            told = now
            served.wait_for_other(told)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of requests."""


def _headers(kind: str) -> dict[str, str]:
    return {
        "Content-Type": kind,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=()",
    }


def watch_page() -> bytes:
    """Return the frame around a page that is watched. Its own policy lets it ask this server for changes; the page's
    stays as it is.
    """
    text = (firmware_templates_folder() / "browser" / "watch.html").read_text()

    def digest(tag: str) -> str:
        found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert found is not None
        return "'sha256-" + base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode() + "'"

    policy = (
        f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; img-src data:; "
        "connect-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'"
    )
    return text.replace("@POLICY@", policy).encode()


def serve(folder: Path, options: ServeOptions, say: Say) -> None:
    """Serve the page of a build until Ctrl-C. say: hears where it is, and of each new build.

    Raises InputError for a bad build or a port that can't be had, ToolMissing for what --phone lacks.
    """
    served = Served(read_page(folder))
    servers = [PageServer((HERE, options.port), served, options.watch, None)]
    try:
        say(f"page:  http://localhost:{servers[0].port}/")
        if options.phone:
            servers.append(_serve_phone(options, served, say))
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(WATCH_S,), daemon=True).start()
        say("Ctrl-C ends it")
        _wait(folder, served, options.watch, say)
    except KeyboardInterrupt:
        say("stopped")
    finally:
        for server in servers:
            server.server_close()


def _serve_phone(options: ServeOptions, served: Served, say: Say) -> PageServer:
    address = options.address or network_address()
    certificate = make_certificate(address)
    server = PageServer((EVERYWHERE, options.phone_port), served, options.watch, certificate.context)
    url = f"https://{address}:{server.port}/"
    say(f"phone: {url}")
    code = qr_code(url)
    say(code if code is not None else "no QR code: install segno, pip install 'mbx-deploy[serve]'")
    say("Its certificate is self-signed: the phone warns, and goes on where you say so. It is this one, SHA-256:")
    say(f"  {certificate.fingerprint}")
    say("All in this network can open the page; what it hears stays on the phone.")
    return server


def _wait(folder: Path, served: Served, watch: bool, say: Say) -> None:
    """Wait for ever; where a build is watched, serve what is built anew."""
    seen = _stamp(folder)
    while True:
        time.sleep(WATCH_S)
        stamp = _stamp(folder) if watch else seen
        if stamp in (seen, None):
            continue
        try:
            page = read_page(folder)
        except MbxError as error:
            say(f"the new build is not served: {error.what}")
        else:
            if page != served.page:
                served.replace(page)
                say("a new build: the page is loaded anew")
        seen = stamp


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Return what tells a manifest from an earlier one; None while there is none, as while a build is put in place."""
    try:
        found = (folder / "manifest.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
