"""Sound files in every form that a user has, and every way in which one can be broken."""

import io
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.data.audio import Recording, fit_clip, read_recording
from mbx_deploy.data.sound_file import MAX_FILE_BYTES
from mbx_deploy.errors import InputError

RATE_HZ = 16000
EDGES = [-32768, 32767, -1, 0, 1, -32767, 12345]


def noise(count: int, seed: int = 0) -> np.ndarray:
    """int16 (count,) over the whole range, the extremes first."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(-32768, 32768, count).astype(np.int16)
    samples[: len(EDGES)] = EDGES[:count]
    return samples


def sine(rate_hz: int, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    """float64 sine of 440 Hz."""
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return amplitude * np.sin(2 * np.pi * 440.0 * time_s)


def wav_bytes(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytearray:
    """A plain 44-byte header, then the samples."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format="WAV", subtype="PCM_16")
    data = bytearray(buffer.getvalue())
    assert data[36:40] == b"data"
    return data


def flac_bytes(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytearray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format="FLAC", subtype="PCM_16")
    return bytearray(buffer.getvalue())


def with_flac_frames(data: bytearray, frames: int) -> bytearray:
    """STREAMINFO's 36-bit count of samples replaced; 0 is "unknown"."""
    changed = bytearray(data)
    changed[21] = (changed[21] & 0xF0) | frames >> 32
    changed[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return changed


def refused(path: Path | str, *words: str) -> InputError:
    """The InputError of reading the path: one line with these words, and a hint."""
    with pytest.raises(InputError) as caught:
        read_recording(path)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.what
    assert caught.value.hint
    for word in words:
        assert word in caught.value.what
    return caught.value


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write bytes to a file, return its path."""

    def write(data: bytes | bytearray, name: str = "clip.wav") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


# ---- what is read ----


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_mono_16_bit_keeps_every_bit(tmp_path: Path, suffix: str) -> None:
    samples = noise(20_000)
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    recording = read_recording(path)
    assert isinstance(recording, Recording)
    assert recording.path == str(path)
    assert recording.notes == ()
    assert recording.samples.dtype == np.int16
    np.testing.assert_array_equal(recording.samples, samples)


def test_flac_reads_as_the_flac_tool_decodes_it(speech_commands: Path, tmp_path: Path) -> None:
    if shutil.which("flac") is None:
        pytest.skip("the flac tool is not installed")
    listed = (speech_commands / "testing_list.txt").read_text().split()
    for name in listed[:: len(listed) // 20]:
        raw_form = ["--force-raw-format", "--endian=little", "--sign=signed"]
        raw = subprocess.run(
            ["flac", "-s", "-d", "-c", *raw_form, name],
            check=True,
            capture_output=True,
            cwd=speech_commands,
            timeout=60,
        ).stdout
        recording = read_recording(speech_commands / name)
        assert recording.notes == ()
        np.testing.assert_array_equal(recording.samples, np.frombuffer(raw, "<i2"))


def test_flac_under_the_name_of_a_wav(put: Callable[..., Path]) -> None:
    samples = noise(500)
    np.testing.assert_array_equal(read_recording(put(flac_bytes(samples))).samples, samples)
    path = put(flac_bytes(samples), "clip.raw")
    np.testing.assert_array_equal(read_recording(path).samples, samples)


def test_one_sample(put: Callable[..., Path]) -> None:
    path = put(wav_bytes(np.array([-32768], np.int16)))
    np.testing.assert_array_equal(read_recording(path).samples, [-32768])


def test_8_bit_wav(tmp_path: Path) -> None:
    samples = np.arange(-128, 128).astype(np.int16) * 256
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_U8")
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.samples, samples)
    assert recording.notes == ()


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_companded_wav(put: Callable[..., Path], subtype: str) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(1000), RATE_HZ, format="WAV", subtype=subtype)
    data = buffer.getvalue()
    expected, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    np.testing.assert_array_equal(read_recording(put(data)).samples, expected)


def test_ulaw_against_its_definition(put: Callable[..., Path]) -> None:
    codes = np.arange(256)
    inverted = ~codes & 0xFF  # ITU-T G.711
    magnitude = (((inverted & 15) << 3) + 132 << (inverted >> 4 & 7)) - 132
    expected = np.where(inverted & 128, -magnitude, magnitude)
    header = struct.pack("<4sI4s", b"RIFF", 4 + 24 + 8 + 256, b"WAVE")
    header += struct.pack("<4sIHHIIHH", b"fmt ", 16, 7, 1, RATE_HZ, RATE_HZ, 1, 8)
    data = header + struct.pack("<4sI", b"data", 256) + codes.astype(np.uint8).tobytes()
    np.testing.assert_array_equal(read_recording(put(data)).samples, expected)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_24_bit_rounds_to_even_and_saturates(tmp_path: Path, suffix: str) -> None:
    steps = [0, 127, 128, 129, 384, 640, -128, -384, 2**23 - 1, 2**23 - 128, 2**23 - 129, -(2**23)]
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, np.array(steps, np.int32) << 8, RATE_HZ, subtype="PCM_24")
    recording = read_recording(path)
    expected = [0, 0, 0, 1, 2, 2, 0, -2, 32767, 32767, 32767, -32768]
    np.testing.assert_array_equal(recording.samples, expected)
    # 2^23 - 128 is 32767.5, whose even neighbour is 32768.
    assert recording.notes == (
        "converted from 24-bit to 16-bit",
        "saturated 2 samples at full scale",
    )


def test_32_bit_wav(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    values = np.array([1 << 15, (1 << 15) + 1, 3 << 15, -(2**31), 2**31 - 1], np.int32)
    soundfile.write(path, values, RATE_HZ, subtype="PCM_32")
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.samples, [0, 1, 2, -32768, 32767])
    assert "converted from 32-bit to 16-bit" in recording.notes


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_wav_rounds_and_saturates(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "clip.wav"
    values = np.array([0.5, 0.5, 1.5, 2.5, -0.5, -1.5, 32768.0, 1e5, -32768.0, -1e5]) / 32768.0
    values[0] = 0.25
    soundfile.write(path, values, RATE_HZ, subtype=subtype)
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.samples, [8192, 0, 2, 2, 0, -2, 32767, 32767, -32768, -32768])
    assert recording.notes[-1] == "saturated 3 samples at full scale"


def test_float_copy_of_16_bit_is_exact(tmp_path: Path) -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples / np.float32(32768.0), RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(read_recording(path).samples, samples)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = noise(3000 * channels).reshape(-1, channels)
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    recording = read_recording(path)
    # Half an integer is exact in float64; a third is not, but no sum of int16 thirds is a tie.
    expected = np.rint(samples.astype(np.int64).sum(axis=1) / channels)
    np.testing.assert_array_equal(recording.samples, expected)
    kind = "stereo" if channels == 2 else f"{channels} channels"
    assert recording.notes == (f"converted from {kind} to mono (mean)",)


def test_stereo_extremes_do_not_overflow(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    pairs = [[-32768, -32768], [32767, 32767], [-32768, 32767], [1, 2], [2, 3], [-1, -2]]
    soundfile.write(path, np.array(pairs, np.int16), RATE_HZ)
    np.testing.assert_array_equal(read_recording(path).samples, [-32768, 32767, 0, 2, 2, -2])


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 96000])
def test_other_rates_are_resampled(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, sine(rate_hz), rate_hz, subtype="PCM_24")
    recording = read_recording(path)
    assert f"converted from {rate_hz} Hz to 16000 Hz" in recording.notes
    assert recording.samples.shape == (RATE_HZ,)
    error = recording.samples / 32768.0 - sine(RATE_HZ)
    # The ends are a filter's length from a jump to silence. Half a step is 1.5e-5.
    assert np.max(np.abs(error[500:-500])) < 2e-5


def test_a_resampled_recording_has_its_notes_in_order(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    stereo = np.stack([sine(44100), sine(44100)], axis=1)
    soundfile.write(path, stereo, 44100, subtype="PCM_24")
    assert read_recording(path).notes == (
        "converted from stereo to mono (mean)",
        "converted from 44100 Hz to 16000 Hz",
        "converted from 24-bit to 16-bit",
    )


def test_what_resampling_overshoots_is_saturated(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    square = np.where(np.arange(48000) // 100 % 2, -32768, 32767).astype(np.int16)
    soundfile.write(path, square, 48000)
    recording = read_recording(path)
    assert recording.samples.min() == -32768
    assert recording.samples.max() == 32767
    assert "saturated" in recording.notes[-1]


def test_the_rate_that_the_model_wants(tmp_path: Path) -> None:
    samples = noise(800)
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, 8000)
    recording = read_recording(path, sample_rate_hz=8000)
    np.testing.assert_array_equal(recording.samples, samples)
    assert recording.notes == ()


def test_ogg(tmp_path: Path) -> None:
    path = tmp_path / "clip.ogg"
    soundfile.write(path, sine(RATE_HZ), RATE_HZ, format="OGG", subtype="VORBIS")
    recording = read_recording(path)
    assert recording.notes == ("converted from Vorbis to 16-bit",)
    assert np.max(np.abs(recording.samples / 32768.0 - sine(RATE_HZ))) < 0.05


@pytest.mark.parametrize("form", ["WAVEX", "RF64"])
def test_other_wav_headers(put: Callable[..., Path], form: str) -> None:
    samples = noise(777)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=form, subtype="PCM_16")
    data = buffer.getvalue()
    np.testing.assert_array_equal(read_recording(put(data)).samples, samples)
    refused(put(data[:-100]), "cut short")


def test_big_endian_wav(put: Callable[..., Path]) -> None:
    samples = noise(777)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format="WAV", subtype="PCM_16", endian="BIG")
    data = buffer.getvalue()
    assert data[:4] == b"RIFX"
    np.testing.assert_array_equal(read_recording(put(data)).samples, samples)
    refused(put(data[:-100]), "cut short")


def test_chunks_around_the_data(put: Callable[..., Path]) -> None:
    samples = noise(100)
    plain = wav_bytes(samples)
    odd = struct.pack("<4sI", b"LIST", 5) + b"INFOx\0"
    data = plain[:36] + odd + plain[36:] + odd
    data[4:8] = struct.pack("<I", len(data) - 8)
    np.testing.assert_array_equal(read_recording(put(data)).samples, samples)


@pytest.mark.parametrize("data_size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
@pytest.mark.parametrize("riff_size", [0, 8, 36, 0xFFFFFFFF])
def test_sizes_that_a_streaming_writer_left(put: Callable[..., Path], data_size: int, riff_size: int) -> None:
    samples = noise(5000)
    data = wav_bytes(samples)
    data[4:8] = struct.pack("<I", riff_size)
    data[40:44] = struct.pack("<I", data_size)
    np.testing.assert_array_equal(read_recording(put(data)).samples, samples)


@pytest.mark.parametrize("tool", ["sox", "espeak-ng"])
def test_what_a_tool_writes_into_a_pipe(put: Callable[..., Path], tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    command = {
        "sox": "sox -n -r 16000 -b 16 -t wav - synth 1 sine 440 vol 0.5",
        "espeak-ng": "espeak-ng --stdout go",
    }[tool]
    data = subprocess.run(command.split(), check=True, capture_output=True, timeout=60).stdout
    assert data[40:44] == struct.pack("<I", 0x7FFFF000)
    assert 4000 < read_recording(put(data)).samples.size <= RATE_HZ


def test_flac_of_unknown_length(put: Callable[..., Path]) -> None:
    samples = noise(16000)
    data = with_flac_frames(flac_bytes(samples), 0)
    np.testing.assert_array_equal(read_recording(put(data)).samples, samples)
    refused(put(data[: len(data) // 2]), "cut short or damaged")


# ---- what is refused ----


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "no such recording", "none.wav")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "none.wav", "no such recording")
    refused("nul\0.wav", "no such recording", "nul\\x00.wav")
    refused("", "no such recording")


def test_a_directory(tmp_path: Path) -> None:
    refused(tmp_path, "got a directory")


def test_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "a device or a pipe")
    refused("/dev/zero", "a device or a pipe")


def test_an_empty_file(put: Callable[..., Path]) -> None:
    refused(put(b""), "got 0 bytes")


@pytest.mark.parametrize("size", [1, 3, 4, 8, 11, 12, 20, 36, 40, 43])
def test_a_file_that_ends_in_its_header(put: Callable[..., Path], size: int) -> None:
    refused(put(wav_bytes(noise(100))[:size]))
    refused(put(flac_bytes(noise(100))[:size], "clip.flac"))


def test_a_text_file_called_wav(put: Callable[..., Path]) -> None:
    refused(put(b"hello, this is not sound\n" * 100), "not a sound file", "clip.wav", "b'hell'")
    refused(put(b"RIFF, this is not sound\n" * 100), "clip.wav")


def test_another_sound_format(put: Callable[..., Path]) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(100), RATE_HZ, format="AU", subtype="PCM_16")
    refused(put(buffer.getvalue()), "need WAV, FLAC, Ogg or MP3")


def test_a_cut_wav(put: Callable[..., Path]) -> None:
    data = wav_bytes(noise(1000))
    for kept in (44, 45, 46, 1000, len(data) - 2, len(data) - 1):
        refused(put(data[:kept]), "cut short", "2000")


def test_a_cut_flac_at_every_length(put: Callable[..., Path]) -> None:
    data = flac_bytes((sine(RATE_HZ) * 20000).astype(np.int16)[:6000])
    for kept in range(0, len(data), 37):
        refused(put(data[:kept], "clip.flac"))
    refused(put(data[:-1], "clip.flac"), "cut short or damaged")


def test_flac_that_promises_more_than_it_holds(put: Callable[..., Path]) -> None:
    refused(put(with_flac_frames(flac_bytes(noise(5000)), 5001)), "5000 frames", "5001")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_damaged_flac(put: Callable[..., Path], place: float) -> None:
    data = flac_bytes(noise(16000))
    data[int(len(data) * place)] ^= 0x55
    refused(put(data), "cut short or damaged")


def test_no_samples(put: Callable[..., Path]) -> None:
    empty = wav_bytes(np.zeros(0, np.int16))
    refused(put(empty), "no samples")
    refused(put(flac_bytes(np.zeros(0, np.int16))))
    tagged = empty + struct.pack("<4sI", b"LIST", 6) + b"INFOxx"
    tagged[4:8] = struct.pack("<I", len(tagged) - 8)
    refused(put(tagged), "no samples")
    refused(put(wav_bytes(np.zeros(1, np.int16), 48000)), "no samples")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -20000.0])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_floats_that_are_no_sound(tmp_path: Path, value: float, rate_hz: int) -> None:
    samples = sine(rate_hz)
    samples[-7] = value
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.stack([samples, samples], axis=1), rate_hz, subtype="FLOAT")
    refused(path, "finite values within -1..1")


def test_too_long_is_seen_in_the_header(put: Callable[..., Path]) -> None:
    refused(put(with_flac_frames(flac_bytes(noise(500)), 600 * RATE_HZ + 1)), "600.0 s")
    refused(put(with_flac_frames(flac_bytes(noise(500)), 2**36 - 1)), "too long")


def test_ten_minutes_are_allowed_and_one_sample_more_is_not(put: Callable[..., Path]) -> None:
    silence = flac_bytes(np.zeros(600 * RATE_HZ, np.int16))
    assert read_recording(put(silence)).samples.size == 600 * RATE_HZ
    longer = flac_bytes(np.zeros(600 * RATE_HZ + 1, np.int16))
    refused(put(longer), "too long")
    refused(put(with_flac_frames(longer, 0)), "too long", "more than 600 s")


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(wav_bytes(noise(100)))
    os.truncate(path, MAX_FILE_BYTES + 1)  # sparse
    refused(path, "too large", str(MAX_FILE_BYTES))


def test_a_streamed_header_before_a_large_hole(tmp_path: Path) -> None:
    data = wav_bytes(noise(100))
    data[4:8] = data[40:44] = b"\0\0\0\0"
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    os.truncate(path, MAX_FILE_BYTES)  # sparse
    refused(path, "too long")


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_a_rate_that_no_recording_has(put: Callable[..., Path], rate_hz: int) -> None:
    data = wav_bytes(noise(100))
    data[24:28] = struct.pack("<I", rate_hz)
    refused(put(data), f"{rate_hz} Hz")


def test_an_unreadable_file(put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(wav_bytes(noise(100)))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(*_: object) -> io.FileIO:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("mbx_deploy.data.sound_file.io.FileIO", refuse)
    refused(path, "Permission denied", "clip.wav")


def test_a_name_that_would_break_the_line(tmp_path: Path) -> None:
    refused(tmp_path / "a\nb.wav", "a\\nb.wav")
    refused(tmp_path / "a\udc80.wav", "a\\udc80.wav")


# ---- fit_clip ----


def window_of_most_energy(samples: np.ndarray, clip_samples: int) -> np.ndarray:
    """The stated rule once more, in Python's integers."""
    last = samples.size - clip_samples
    starts = sorted({*range(0, last + 1, 160), last})
    values = [int(v) ** 2 for v in samples]
    best = max(starts, key=lambda s: (sum(values[s : s + clip_samples]), -s))
    return samples[best : best + clip_samples]


def test_short_gets_zeros_after_it() -> None:
    samples = noise(100)
    clip = fit_clip(samples, 160)
    assert clip.dtype == np.int16
    np.testing.assert_array_equal(clip, np.concatenate([samples, np.zeros(60, np.int16)]))
    np.testing.assert_array_equal(fit_clip(samples[:0], 5), np.zeros(5))


def test_exact_is_a_copy() -> None:
    samples = noise(16000)
    clip = fit_clip(samples, 16000)
    np.testing.assert_array_equal(clip, samples)
    assert not np.shares_memory(clip, samples)


def test_one_sample_longer() -> None:
    samples = np.zeros(16001, np.int16)
    samples[[0, 16000]] = 5, 6
    np.testing.assert_array_equal(fit_clip(samples, 16000), samples[1:])
    samples[0] = 6
    np.testing.assert_array_equal(fit_clip(samples, 16000), samples[:-1])  # a tie: the earliest


@pytest.mark.parametrize("place", [0, 7999, 8000, 20000, 39999])
def test_long_finds_the_loud_part(place: int) -> None:
    samples = noise(40000) // 1000
    samples[max(0, place - 4000) : place + 4000] = 30000
    clip = fit_clip(samples, 16000)
    assert clip.shape == (16000,)
    np.testing.assert_array_equal(clip, window_of_most_energy(samples, 16000))


def test_starts_are_multiples_of_160_and_the_last() -> None:
    samples = np.zeros(1000, np.int16)
    samples[170:180] = 100
    np.testing.assert_array_equal(fit_clip(samples, 10), samples[160:170])  # no start sees it
    samples[165] = 1
    np.testing.assert_array_equal(fit_clip(samples, 10), samples[160:170])
    samples[999] = 2
    np.testing.assert_array_equal(fit_clip(samples, 10), samples[990:])


def test_the_earliest_of_equals() -> None:
    samples = np.zeros(50000, np.int16)
    samples[[20000, 45000]] = 9, -9
    clip = fit_clip(samples, 16000)
    start = 160 * -(-(20000 - 15999) // 160)
    np.testing.assert_array_equal(clip, samples[start : start + 16000])
    assert np.count_nonzero(clip) == 1
    assert clip[20000 - start] == 9
    np.testing.assert_array_equal(fit_clip(np.zeros(50000, np.int16), 16000), np.zeros(16000))


def test_all_minus_32768_does_not_overflow() -> None:
    samples = np.full(600 * RATE_HZ, -32768, np.int16)
    samples[:-16000] = 32767
    np.testing.assert_array_equal(fit_clip(samples, 16000), np.full(16000, -32768))


def test_fit_clip_refuses_what_is_no_recording() -> None:
    with pytest.raises(ValueError, match="int16"):
        fit_clip(np.zeros(10), 5)
    with pytest.raises(ValueError, match="int16"):
        fit_clip(np.zeros((2, 10), np.int16), 5)
    with pytest.raises(ValueError, match="at least 1"):
        fit_clip(np.zeros(10, np.int16), 0)


@pytest.mark.parametrize("click", [160, 1600, 2400])
def test_a_click_does_not_win_over_the_word(click: int) -> None:
    """Full scale and shorter than a word, against half a second of a voice 20 dB below."""
    samples = noise(80000) // 2000
    samples[10000 : 10000 + click] = 32767
    word = (3000 * np.sin(np.arange(8000) / 9)).astype(np.int16)
    samples[60000:68000] = word
    clip = fit_clip(samples, 16000)
    at = next(start for start in range(0, 64001, 160) if np.array_equal(clip, samples[start : start + 16000]))
    assert at <= 60000 and at + 16000 >= 68000


@pytest.mark.parametrize("size", [0x40000001, 0x7FFFFFD8, 0x7FFFF024, 0xFFFFFFDB])
def test_a_streamed_header_of_any_huge_length(put: Callable[..., Path], size: int) -> None:
    samples = noise(1000)
    data = bytearray(wav_bytes(samples))
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    np.testing.assert_array_equal(read_recording(put(bytes(data))).samples, samples)
