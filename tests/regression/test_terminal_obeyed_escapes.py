"""A file's name, a label and a device's words could move the cursor, clear the screen or begin a line of their own."""

import io
import os
import pty
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.commands.device import _Screen
from mbx_deploy.errors import InputError, visible
from mbx_deploy.serial import messages
from mbx_deploy.serial.link import _text
from mbx_deploy.serial.messages import Answer, parse_message
from mbx_deploy.serial.port import describe_port
from mbx_deploy.system.terminal import VisibleStream, redraw, visible_streams

NASTY = "\x1b[2J\x1b]0;title\x07\r\x9b1m\u202e\u2028\udc9b\x7f"
SEEN = r"\x1b[2J\x1b]0;title\x07\r\x9b1m\u202e\u2028\udc9b\x7f"


def test_what_steers_is_shown() -> None:
    assert visible(NASTY) == SEEN
    assert visible("ja\n\tschön 是 é") == r"ja\n\tschön 是 é"
    assert InputError(f"no {NASTY}\nerror: other", "try\x1b[1m").render() == (
        f"error: no {SEEN}\\nerror: other\n  hint: try\\x1b[1m"
    )


def test_all_that_steers_is_known() -> None:
    """By the tables of the Unicode that this Python has."""
    kinds = {chr(code): unicodedata.category(chr(code)) for code in range(0x110000)}
    shown = {letter for letter in kinds if visible(letter) != letter}
    steer = {letter for letter, kind in kinds.items() if kind in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert steer <= shown and {kinds[letter] for letter in shown - steer} <= {"Cn"}  # newer than its tables


def test_a_line_of_megabytes_is_told_in_short() -> None:
    begin = time.process_time()
    assert len(InputError("\0" * 10**7, "\n" * 10**7).render()) < 20_000
    assert len(visible("a\n" * 10**6, "\n")) == 2 * 10**6
    assert time.process_time() - begin < 3


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_stream_shows_it(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    with visible_streams():
        print(f"a {NASTY}\n\tb ä 是")
        redraw("c\x1b", sys.stdout, clear=True, end="\n")
        sys.stdout.flush()
    assert not isinstance(sys.stdout, VisibleStream)
    lines = raw.getvalue().decode(encoding).split("\n")
    assert lines[0] == f"a {SEEN}" and lines[2] == "\r\x1b[Kc\\x1b"
    assert lines[1].encode("ascii", "backslashreplace") in (rb"	b \xe4 \u662f", rb"	b \xe4 \u662f")


@pytest.mark.parametrize("arguments", [
    ["simulate", "kws10", f"x{NASTY}\n.wav"],
    ["run", f"x{NASTY}", "x.wav"],
    ["build", "--target", f"x{NASTY}.toml", "-o", "out"],
    ["monitor", "--port", f"x{NASTY}"],
    [f"--x{NASTY}"],
    [f"x{NASTY}"],
])  # fmt: skip
def test_commands_show_it(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert all(letter.isprintable() or letter == "\n" for letter in result.output), repr(result.output)
    assert r"\x1b" in result.output


def test_on_a_terminal_too(tmp_path: Path) -> None:
    """Click takes escapes away where no terminal is, so that only one tells."""
    host, device = pty.openpty()
    command = [sys.executable, "-m", "mbx_deploy", "models", "x\x1b[31mred\x1b]0;t\x07"]
    done = subprocess.run(command, stdout=device, stderr=device, stdin=subprocess.DEVNULL, timeout=100)
    os.close(device)
    told = os.read(host, 65536)
    os.close(host)
    assert done.returncode == 2 and b"\x1b" not in told and b"\x07" not in told and rb"\x1b[31mred" in told


def test_a_device_names_itself_visibly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _text(Answer(0, 0, messages.READ_LABEL, 0, 1, f"yes{NASTY}".encode("utf-8", "replace"))).isprintable()
    hello = messages.Hello.layout.pack(1, 0, 0, bytes(32), 16000, 16000, 1, 2, 1) + b"m4\x1b[2J\n"
    found = parse_message(messages.HELLO, hello)
    assert isinstance(found, messages.Hello) and found.target == r"m4\x1b[2J\n"
    (tmp_path / "ttyACM0" / "device").mkdir(parents=True)
    (tmp_path / "ttyACM0" / "product").write_bytes(b"Board\x1b[2J \xff\n")
    assert describe_port(Path("/dev/ttyACM0"), tmp_path).isprintable()
    screen = _Screen(False)
    screen.meter = True
    screen({"event": "detection", "time_s": 1.0, "label": "yes\x1b[2J", "score": 0.5})
    assert capsys.readouterr().out == "\r\x1b[K     1.0 s  yes\\x1b[2J      0.50\n"
