"""listen: what a model hears as it comes is what its engine hears of the whole."""

import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.data.audio import read_recording
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import ITEM_STREAM, Item
from mbx_deploy.firmware.folder import Build
from mbx_deploy.live.listener import LISTENERS, Listener, open_listener
from mbx_deploy.live.sources import StreamSource
from tests.browser.conftest import WORDS, need_compiler

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: object, given: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["listen", *map(str, arguments)], input=given)


def events(result: Result, kind: str) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [event for event in map(json.loads, result.stdout.splitlines()) if event["event"] == kind]


def said(result: Result) -> list[tuple[str, float]]:
    return [(event["label"], event["time_s"]) for event in events(result, "detection")]


WORDS_SAID = [("yes", 1.7625), ("left", 3.7625), ("stop", 5.7625)]


@pytest.mark.parametrize("engine", LISTENERS)
@pytest.mark.parametrize("name", ["kws10", "kws10s"])
def test_what_comes_in_pieces_is_heard_as_the_whole(name: str, engine: str) -> None:
    """Decisions, times, scores and words of odd blocks, with a gap, are those of the C's stream."""
    if engine == "browser":
        need_compiler()
    listener, model = open_listener(name, engine, None, lambda line: None)
    samples = read_recording(WORDS).samples[14000:46000]
    rng, done, decisions = np.random.default_rng(3), 0, []
    while done < len(samples):
        count = int(rng.choice([1, 159, 160, 800, 1024, 5000]))
        decisions += listener.feed(samples[done : done + count])
        done += count
    expected = HostEngine(model).run([Item(ITEM_STREAM, samples)])[0]
    assert len(decisions) == len(expected) > 3
    for got, want in zip(decisions, expected, strict=True):
        np.testing.assert_array_equal(got.logits, want.logits)
        np.testing.assert_array_equal(got.posteriors_q15, want.posteriors_q15)
        assert (got.label, got.samples) == (want.label, want.event[2])
        event = (-1, 0) if got.event is None else (got.event.word, got.event.score_q15)
        assert event == tuple(want.event[:2])
    lost_moves_times(listener, int(decisions[-1].samples))


def lost_moves_times(listener: Listener, before: int) -> None:
    listener.lose(1234)
    (later, *_) = listener.feed(np.zeros(8000, np.int16))
    assert later.samples > before + 1234


def test_a_file_is_heard(tmp_path: Path) -> None:
    result = call("kws10", WORDS, "--json", "--record", tmp_path / "heard.wav")
    assert said(result) == WORDS_SAID
    (hello,), (end,) = events(result, "hello"), events(result, "end")
    assert hello["engine"] == "c" and hello["sample_rate_hz"] == 16000
    assert end == {"event": "end", "detections": 3, "heard_s": 7.0, "lost_samples": 0}
    scores = events(result, "scores")
    assert all(abs(sum(event["scores"].values()) - 1) < 0.01 for event in scores)
    levels = [event["rms_dbfs"] for event in events(result, "level")]
    assert None in levels and max(level for level in levels if level is not None) > -30  # digital silence, speech
    np.testing.assert_array_equal(
        soundfile.read(tmp_path / "heard.wav", dtype="int16")[0], read_recording(WORDS).samples
    )
    lines = call("kws10", WORDS).stdout.splitlines()
    assert [line.split()[2] for line in lines[1:4]] == ["yes", "left", "stop"] and lines[4] == "3 words in 7.0 s"


def test_seconds_end_it() -> None:
    result = call("kws10", WORDS, "--seconds", 2.5, "--json")
    assert said(result) == WORDS_SAID[:1] and events(result, "end")[0]["heard_s"] == 2.5


def wav(samples: np.ndarray, rate: int = 16000, channels: int = 1) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples, channels).astype("<i2").tobytes())
    return data.getvalue()


def test_standard_input_is_heard() -> None:
    """A WAV, one of unknown length, one of two channels, and bare samples."""
    samples = read_recording(WORDS).samples
    whole = wav(samples)
    streamed = whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:]
    for given in (whole, streamed, wav(samples, channels=2), samples.astype("<i2").tobytes()):
        assert said(call("kws10", "-", "--json", given=given)) == WORDS_SAID
    faster = wav(np.repeat(samples, 3), 48000)
    assert [word for word, _ in said(call("kws10", "-", "--json", given=faster))] == ["yes", "left", "stop"]


def test_a_build_hears_with_its_own_program(browser_builds: dict[str, Build], m4_build: Build) -> None:
    result = call(browser_builds["kws10"].folder, WORDS, "--json")
    assert said(result) == WORDS_SAID and events(result, "hello")[0]["engine"] == "browser"
    assert said(call(m4_build.folder, WORDS, "--json")) == WORDS_SAID
    refused = call(m4_build.folder, WORDS, "--engine", "browser")
    assert refused.exit_code == 2 and "a build for the browser" in refused.stderr


BAD_STREAMS = {
    "breaks off": (b"RIFF\0\0\0\0WAVEfmt ", "breaks off before its first sample"),
    "eight bits": (
        b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 16000, 1, 8) + b"data\x10\0\0\0" + bytes(16),
        "got format 1, 8 bits, need 16-bit PCM",
    ),
    "no rate": (
        b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 3, 6, 2, 16) + b"data\x10\0\0\0" + bytes(16),
        "an odd rate: got 3 Hz",
    ),
    "endless chunks": (b"RIFF\0\0\0\0WAVE" + (b"junk\0\0\1\0" + bytes(65536)) * 40, "breaks off"),
}


@pytest.mark.parametrize("what", BAD_STREAMS)
def test_streams_that_can_not_be_heard(what: str) -> None:
    given, told = BAD_STREAMS[what]
    result = call("kws10", "-", given=given)
    assert result.exit_code == 2 and told in result.stderr


def test_a_stream_that_ends_in_the_middle_of_a_sample() -> None:
    blocks = list(StreamSource(io.BytesIO(b"\1\0\2\0\3"), 16000).blocks())
    assert [block.samples.tolist() for block in blocks] == [[1, 2]]
    assert list(StreamSource(io.BytesIO(b""), 16000).blocks()) == []


def test_without_a_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none where tests run; and what to install where the package or PortAudio is not there."""
    result = call("kws10", "--device", "no such microphone")
    assert result.exit_code == 2 and result.stderr.startswith("error: no such microphone: got 'no such microphone'")
    assert "--devices" in result.stderr
    assert call("--devices").exit_code == 0
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = call("kws10")
    assert result.exit_code == 2 and "sounddevice is not installed" in result.stderr and "[listen]" in result.stderr
    assert call("kws10", WORDS, "--device", "1").exit_code == 2


def test_ctrl_c_ends_it_and_keeps_the_recording(tmp_path: Path) -> None:
    """On a terminal, live: level, bars and words are drawn; what was heard is written whole."""
    master, slave = pty.openpty()
    recorded = tmp_path / "heard.wav"
    process = subprocess.Popen(
        [sys.executable, "-m", "mbx_deploy", "listen", "kws10", "-", "--record", str(recorded)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"},
        stdin=subprocess.PIPE,
        stdout=slave,
        stderr=subprocess.PIPE,
    )
    os.close(slave)
    assert process.stdin is not None
    samples = read_recording(WORDS).samples[: 3 * 16000]
    process.stdin.write(samples.astype("<i2").tobytes())
    process.stdin.flush()
    shown = b""
    until = time.monotonic() + 60
    while b"yes          0.9" not in shown and time.monotonic() < until:
        shown += os.read(master, 4096)
    process.send_signal(signal.SIGINT)
    while True:
        try:
            more = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0, complaints
    text = shown.decode("utf-8", "replace")
    assert "dBFS" in text and "unknown" in text and "1 words in" in text
    heard = soundfile.read(recorded, dtype="int16")[0]
    assert 16000 < len(heard) <= len(samples)
    np.testing.assert_array_equal(heard, samples[: len(heard)])
