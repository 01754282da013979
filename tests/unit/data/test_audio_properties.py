"""No bytes whatever make the reader raise anything but InputError, or allocate without bound."""

import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.data.sound_file import MAX_DURATION_S
from mbx_deploy.errors import InputError

RATE_HZ = 16000


def encoded(form: str, subtype: str, rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    """A valid file of 600 frames of noise."""
    rng = np.random.default_rng(1)
    samples = rng.integers(-32768, 32768, (600, channels)).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=form, subtype=subtype)
    return buffer.getvalue()


SEEDS = [
    encoded("WAV", "PCM_16"),
    encoded("WAV", "PCM_24", 44100, 2),
    encoded("WAV", "FLOAT", 8000),
    encoded("WAV", "ULAW"),
    encoded("WAV", "IMA_ADPCM"),
    encoded("WAVEX", "PCM_16", 48000, 6),
    encoded("RF64", "PCM_16"),
    encoded("FLAC", "PCM_16"),
    encoded("FLAC", "PCM_24", 44100, 2),
    encoded("OGG", "VORBIS"),
]
MAGICS = [b"", b"RIFF", b"RIFF\x24\x10\x00\x00WAVE", b"fLaC", b"fLaC\0\0\0\x22", b"OggS\0\x02"]
WORDS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\xfe\xff\xff\x7f"]
WORDS += [b"data", b"fmt ", b"ds64", b"LIST", b"PEAK", b"fact", b"cue ", b"RIFX", b"RF64"]


def read_or_refuse(data: bytes) -> None:
    """Read the bytes as a file: a proper recording, or a proper InputError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        path.write_bytes(data)
        try:
            recording = read_recording(path)
        except InputError as error:
            assert "\n" not in error.what
            assert error.what.isprintable()
            assert error.hint
        else:
            assert recording.samples.dtype == np.int16
            assert recording.samples.ndim == 1
            assert 1 <= recording.samples.size <= MAX_DURATION_S * RATE_HZ + 1


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """A valid file with bytes or words of its header replaced, a piece removed or doubled."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    places = st.one_of(st.integers(0, min(120, len(data) - 4)), st.integers(0, len(data) - 4))
    for _ in range(draw(st.integers(1, 4))):
        at = min(draw(places), max(0, len(data) - 4))
        change = draw(st.sampled_from(["byte", "word", "integer", "cut", "double", "end"]))
        if change == "byte":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif change == "word":
            data[at : at + 4] = draw(st.sampled_from(WORDS))
        elif change == "integer":
            data[at : at + 4] = struct.pack("<I", draw(st.integers(0, 2**32 - 1)))
        elif change == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif change == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            del data[max(4, at) :]
    return bytes(data)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MAGICS), st.binary(max_size=400))
def test_random_bytes(magic: bytes, rest: bytes) -> None:
    read_or_refuse(magic + rest)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(mutated_files())
def test_mutated_files(data: bytes) -> None:
    read_or_refuse(data)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_every_cut_of_a_file_is_refused(seed: bytes, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(seed) - 1))
    read_or_refuse(seed[:kept])
    if seed[:4] != b"OggS":  # which does not say how long it is
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.wav"
            path.write_bytes(seed[:kept])
            try:
                read_recording(path)
            except InputError:
                return
        raise AssertionError(f"{kept} of {len(seed)} bytes were read as a whole file")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300), st.sampled_from(["WAV", "FLAC"]))
def test_16_bit_samples_survive(values: list[int], form: str) -> None:
    samples = np.array(values, np.int16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        soundfile.write(path, samples, RATE_HZ, format=form, subtype="PCM_16")
        np.testing.assert_array_equal(read_recording(path).samples, samples)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2000),
    st.integers(1, 1500),
    st.sampled_from([1, 2, 32768]),
    st.integers(0, 2**32 - 1),
)
def test_a_clip_is_the_loudest_window(count: int, clip_samples: int, amplitude: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.integers(-amplitude, amplitude, count).astype(np.int16)
    clip = fit_clip(samples, clip_samples)
    assert clip.dtype == np.int16
    assert clip.shape == (clip_samples,)
    if count <= clip_samples:
        np.testing.assert_array_equal(clip[:count], samples)
        assert not clip[count:].any()
        return
    last = count - clip_samples
    starts = sorted({*range(0, last + 1, 160), last})
    energies = [int(np.sum(samples[s : s + clip_samples].astype(object) ** 2)) for s in starts]
    start = starts[energies.index(max(energies))]
    np.testing.assert_array_equal(clip, samples[start : start + clip_samples])
