"""A large file over HTTP: goes on where it was cut, and is not believed before its SHA-256 is right."""

import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mbx_deploy.data.pace import TIMEOUT_S, Pace
from mbx_deploy.errors import InputError
from mbx_deploy.system.files import cannot_write
from mbx_deploy.system.json_documents import parse_json

Say = Callable[[str], None]
Progress = Callable[[int, int], None]

MAX_SECONDS = 86_400.0  # for all tries of a run; the next one goes on
MAX_FRUITLESS_TRIES = 5  # in a row, without a byte or too slow
MAX_TRIES = 1000
MEGABYTE = 1_000_000
_BLOCK_BYTES = 1 << 16
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Remote:
    """A file on a server. size_bytes, sha256: what it must be; None where that is not known."""

    url: str
    size_bytes: int
    sha256: str | None


class _Cut(Exception):
    """The server or the network failed in a way that may pass."""


class _Slow(_Cut):
    """The server sends, but too slowly."""


def download(remote: Remote, part: Path, say: Say, progress: Progress, sleep: Callable[[float], None]) -> None:
    """Bring a file to the path part, and check it.

    What lies at part, with its <part>.json, is gone on from, if the server still has the same file. A part that turns
    out wrong is removed; if it was begun by an earlier run, it is tried once more from the beginning. progress counts
    megabytes. Raises InputError for a server that refuses, has another file or keeps failing, and for a full disk; what
    has come by then stays, for the next time.
    """
    check_url(remote.url)
    begun_before = part.exists() and part.stat().st_size > 0
    _receive(remote, part, say, progress, sleep)
    found = _sha256(part)
    if remote.sha256 is None:
        return
    if found != remote.sha256 and begun_before:
        say("the download does not have the right checksum: once more from the beginning")
        part.unlink()
        _receive(remote, part, say, progress, sleep)
        found = _sha256(part)
    if found != remote.sha256:
        part.unlink()
        raise InputError(
            f"not the published archive ({remote.url}): got SHA-256 {found}, need {remote.sha256}",
            "try again, or another --url",
        )


def check_url(url: str) -> None:
    """Raise InputError for what is no http or https address."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise InputError(f"bad address: got {url!r:.200}, need http:// or https://")


def size_of(url: str) -> int:
    """Return the size of a file on a server, bytes. Raises InputError where it does not tell."""
    headers = {"User-Agent": "mbx-deploy", "Accept-Encoding": "identity", "Range": "bytes=0-0"}
    try:
        with (
            Pace(time.monotonic() + MAX_SECONDS) as pace,
            pace.opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as response,
        ):
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            found = total if response.status == 206 else response.headers.get("Content-Length", "")
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"the server can't be reached ({url}): {_reason(error)}") from None
    if not found.isdecimal() or len(found) > 15 or int(found) == 0:
        raise InputError(f"the server does not tell the file's size ({url}): got {found!r:.40}")
    return int(found)


def _receive(remote: Remote, part: Path, say: Say, progress: Progress, sleep: Callable[[float], None]) -> None:
    """Return when part has the file's size."""
    fruitless = 0
    deadline = time.monotonic() + MAX_SECONDS
    try:
        with part.open("ab") as file:
            have = file.tell()
            for _ in range(MAX_TRIES):
                if have == remote.size_bytes:
                    return
                before = have
                slow, reason = False, "the connection was cut"
                try:
                    _request(remote, part, file, progress, deadline)
                except _Cut as cut:
                    slow, reason = isinstance(cut, _Slow), str(cut)
                file.flush()
                have = file.seek(0, 2)
                if have == remote.size_bytes:
                    return
                fruitless = 0 if have > before and not slow else fruitless + 1
                if fruitless == MAX_FRUITLESS_TRIES or time.monotonic() >= deadline:
                    break
                say(f"{reason} after {_megabytes(have)} of {_megabytes(remote.size_bytes)} MB, trying again")
                sleep(min(2.0**fruitless, 30.0))
    except OSError as error:
        raise cannot_write(part, error) from None
    raise InputError(
        f"the download failed ({remote.url}): got {have} of {remote.size_bytes} bytes, {reason}",
        "the same line goes on from there",
    )


def _request(remote: Remote, part: Path, file: BinaryIO, progress: Progress, deadline: float) -> None:
    """Ask once, and append what comes, from the beginning if the server says so. Raises _Cut, InputError, OSError where
    the file cannot be written.
    """
    with Pace(deadline) as pace:
        try:
            _take_answer(remote, part, file, progress, pace)
        except _Cut:
            if pace.reason is not None:
                raise _Slow(pace.reason) from None
            raise


def _take_answer(remote: Remote, part: Path, file: BinaryIO, progress: Progress, pace: Pace) -> None:
    have = file.tell()
    headers = {"User-Agent": "mbx-deploy", "Accept-Encoding": "identity"}
    validator = _load_validator(part, remote.url) if have else None
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with _open(remote, headers, file, pace) as response:
        if not (have and _continues(response, have, remote.size_bytes, validator)):
            if response.status == 206:  # a part of another file, or another part: ask anew, for all of it
                file.truncate(0)
                raise _Cut("the file changed on the server")
            _check_size(response, remote)
            file.truncate(0)
            have = 0
        _save_validator(part, remote.url, response)
        shown = -1
        while have < remote.size_bytes:
            try:
                block = response.read1(_BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _Cut(_reason(error)) from None
            if not block:
                raise _Cut("the connection was cut")
            file.write(block[: remote.size_bytes - have])
            have += len(block)
            pace.received += len(block)
            if have > remote.size_bytes:
                file.truncate(0)
                raise _other_file(remote, f"more than {remote.size_bytes} bytes")
            if have // MEGABYTE != shown:
                shown = have // MEGABYTE
                progress(_megabytes(have), _megabytes(remote.size_bytes))


def _open(remote: Remote, headers: dict[str, str], file: BinaryIO, pace: Pace) -> http.client.HTTPResponse:
    try:
        response = pace.opener().open(urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            file.truncate(0)
            raise _Cut("the server has less of the file than is here") from None
        if error.code in _TRY_AGAIN:
            raise _Cut(f"the server said {error.code} {error.reason:.100}") from None
        raise InputError(
            f"the server refuses ({remote.url}): got {error.code} {error.reason:.100}, need the archive",
            "try another --url",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(_reason(error)) from None
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _continues(response: http.client.HTTPResponse, have: int, size: int, validator: str | None) -> bool:
    """Return whether an answer is the rest of the file that was begun."""
    if response.status != 206:
        return False
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != have or found[2] not in (str(size), "*"):
        return False
    new = _validator(response)
    return validator is None or new is None or new == validator


def _check_size(response: http.client.HTTPResponse, remote: Remote) -> None:
    """Raise InputError if a whole file is of another size than the one that is wanted."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) != remote.size_bytes:
        raise _other_file(remote, f"{int(length)} bytes")


def _other_file(remote: Remote, got: str) -> InputError:
    return InputError(
        f"not the published archive ({remote.url}): got {got}, need {remote.size_bytes}", "try another --url"
    )


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return what tells this version of the file from others: a strong ETag, or its date."""
    etag: str | None = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _save_validator(part: Path, url: str, response: http.client.HTTPResponse) -> None:
    part.with_suffix(".json").write_text(json.dumps({"url": url, "validator": _validator(response)}))


def _load_validator(part: Path, url: str) -> str | None:
    """Return what tells the version that was begun; None if that is not known, then the checksum has to tell."""
    try:
        saved = parse_json(part.with_suffix(".json").read_text())
        validator = saved["validator"] if saved["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return validator if isinstance(validator, str) and validator.isprintable() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _megabytes(count: int) -> int:
    return -(-count // MEGABYTE)


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner).lower() or type(inner).__name__


def wait(seconds: float) -> None:
    """Sleep; what download() waits by between tries."""
    time.sleep(seconds)
