"""Connections that a server may not hold for ever: one that sends too slowly, or for too long, is cut.

A time-out of the socket sees single bytes only: a server that drips one a second would be listened to for days.
"""

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

TIMEOUT_S = 60.0  # without a byte
LEAST_BYTES_A_SECOND = 20_000
SLOW_S = 60.0  # so long it may be slower
LOOK_S = 0.25


class Pace:
    """Watches the connections of a request while its block lasts. received: bytes of the body so far, to be counted."""

    def __init__(self, deadline: float) -> None:
        """deadline: of time.monotonic(), when all must be done."""
        self.deadline = deadline
        self.received = 0
        self.reason: str | None = None  # why the connections were cut
        self.sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Pace":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        since, had = time.monotonic(), 0
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            if now >= self.deadline:
                self.reason = "it took too long"
            elif now - since >= SLOW_S:
                if self.received - had < LEAST_BYTES_A_SECOND * (now - since):
                    self.reason = f"it sent less than {LEAST_BYTES_A_SECOND / 1000:g} KB a second"
                since, had = now, self.received
            if self.reason is not None:
                for one in self.sockets:
                    with suppress(OSError):  # past TLS, whose own goodbye would wait for the server
                        socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _connection(self, kind: type[http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
        def make(host: str, **options: Any) -> http.client.HTTPConnection:
            made = kind(host, **options)
            connect = made.connect

            def watched() -> None:
                connect()
                self.sockets.append(made.sock)

            made.connect = watched  # type: ignore[method-assign]
            return made

        return make

    def opener(self) -> urllib.request.OpenerDirector:
        """Return what opens http and https addresses, and nothing else, on connections that are watched."""
        pace = self

        class Handler(urllib.request.AbstractHTTPHandler):
            http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

            def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(pace._connection(http.client.HTTPConnection), request)

            def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(pace._connection(http.client.HTTPSConnection), request)

        opener = urllib.request.OpenerDirector()
        for handler in (  # urllib's own set also opens file: and ftp:, where a redirection may lead
            urllib.request.ProxyHandler,
            Handler,
            _Redirections,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
            urllib.request.UnknownHandler,
        ):
            opener.add_handler(handler())
        return opener


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections without reading their pages, which may have no end."""

    def redirect_request(self, request: Any, file: Any, *rest: Any) -> urllib.request.Request | None:
        file.close()
        return super().redirect_request(request, file, *rest)
