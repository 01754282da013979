"""What telephones and browsers give: by libsndfile, by ffmpeg, and where that is not installed by name."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.data import formats
from mbx_deploy.data.audio import read_recording
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.system.tools import find_tool

RATE_HZ = 48000
TONE = 0.3 * np.sin(np.arange(RATE_HZ) * 2 * np.pi * 440 / RATE_HZ)
needs_ffmpeg = pytest.mark.skipif(find_tool("ffmpeg") is None, reason="ffmpeg is not installed")
ENCODED = {
    "phone.m4a": ["-c:a", "aac"],
    "phone.3gp": ["-c:a", "aac", "-f", "3gp"],
    "browser.webm": ["-c:a", "libopus"],
    "stream.aac": ["-c:a", "aac", "-f", "adts"],
    "apple.caf": ["-c:a", "pcm_s16le"],
}


@pytest.fixture
def encode(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        soundfile.write(tmp_path / "tone.wav", TONE, RATE_HZ)
        command: list[str | Path] = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            tmp_path / "tone.wav",
            *ENCODED[name],
            tmp_path / name,
        ]
        subprocess.run(command, check=True)
        return tmp_path / name

    return make


def is_the_tone(samples: np.ndarray) -> bool:
    spectrum = np.abs(np.fft.rfft(samples[4000:12000] * np.hanning(8000)))
    return abs(int(spectrum.argmax()) * 2 - 440) <= 2 and 0.9 < samples.size / 16000 < 1.2


@needs_ffmpeg
@pytest.mark.parametrize("name", ENCODED)
def test_what_ffmpeg_reads(encode: Callable[[str], Path], name: str) -> None:
    path = encode(name)
    recording = read_recording(path)
    assert is_the_tone(recording.samples)
    assert recording.notes[0].startswith("decoded from ") and recording.notes[0].endswith(" by ffmpeg")
    path.rename(path.with_suffix(".wav"))  # the first bytes count, not the name
    assert is_the_tone(read_recording(path.with_suffix(".wav")).samples)


@pytest.mark.parametrize(("form", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("AIFF", "PCM_16")])
def test_what_needs_no_ffmpeg(tmp_path: Path, form: str, subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_tool", lambda name: None)
    soundfile.write(tmp_path / "sound", TONE, RATE_HZ, format=form, subtype=subtype)
    assert is_the_tone(read_recording(tmp_path / "sound").samples)


@needs_ffmpeg
def test_without_ffmpeg_it_is_named(encode: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode("phone.m4a")
    monkeypatch.setattr(formats, "find_tool", lambda name: None)
    with pytest.raises(ToolMissing, match="M4A needs ffmpeg"):
        read_recording(path)


@needs_ffmpeg
@pytest.mark.parametrize(
    "data", [b"\0\0\0\x18ftypM4A \0\0\0\0" + bytes(100), b"\x1aE\xdf\xa3" + bytes(500), b"#!AMR\n"]
)
def test_what_only_looks_like_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.m4a").write_bytes(data)
    with pytest.raises(InputError, match=r"ffmpeg says|no samples"):
        read_recording(tmp_path / "x.m4a")


@needs_ffmpeg
def test_a_playlist_in_disguise_opens_nothing(tmp_path: Path) -> None:
    """An m4a that is none: ffmpeg would otherwise follow what it names."""
    (tmp_path / "secret.wav").write_bytes(b"")
    (tmp_path / "x.m4a").write_bytes(b"\0\0\0\x14ftypM4A #EXTM3U\n#EXTINF:1,\n" + str(tmp_path / "secret.wav").encode())
    with pytest.raises(InputError):
        read_recording(tmp_path / "x.m4a")
