"""A pipe in the place of a file was waited at for ever; small files of some kinds were read for minutes, or failed."""

import contextlib
import json
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.data.manifests import read_manifest
from mbx_deploy.data.tracks import find_recordings
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.image import read_flash_image
from mbx_deploy.network.metadata import pack_model, unpack_model
from mbx_deploy.network.reader import read_tflite
from mbx_deploy.system.json_documents import parse_json
from tests.fuzz.campaign import complaint
from tests.fuzz.readers import FRONTEND, READERS, Reader, audio
from tests.made.tflite import small_artifact

# Of these, what is no file is as if it were not there, or is our own: an image, labels beside a sound, a download.
OTHERS = ("elf", "track", "track-json", "track-manifest", "track-kinds", "tar")
FILES = [reader for reader in READERS if reader.name not in OTHERS]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("reader", FILES, ids=lambda reader: reader.name)
def test_a_pipe_is_no_file(tmp_path: Path, reader: Reader) -> None:
    path, waited = tmp_path / reader.file, []
    os.mkfifo(path)

    def let_go() -> None:
        with contextlib.suppress(OSError):  # which is raised where nobody waits
            waited.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            os.close(waited[0])

    timer = threading.Timer(20, let_go)
    timer.start()
    try:
        with pytest.raises(InputError) as told:
            complaint(reader, path)
        assert not waited and len(told.value.render().splitlines()) <= 2
    finally:
        timer.cancel()


def shared_subgraphs() -> bytes:
    """Return a .tflite of 20 KB whose 5,000 subgraphs are one."""
    data = small_artifact(FRONTEND)
    model = unpack_model(data)
    model.subgraphs *= 2
    made = bytearray(pack_model(model))
    root = struct.unpack_from("<I", made)[0]
    vtable = root - struct.unpack_from("<i", made, root)[0]
    place = root + struct.unpack_from("<H", made, vtable + 4 + 2 * 2)[0]
    vector = place + struct.unpack_from("<I", made, place)[0]
    first = vector + 4 + struct.unpack_from("<I", made, vector + 4)[0]
    end = len(made)
    struct.pack_into("<I", made, place, end - place)
    made += struct.pack("<I", 5000)
    for number in range(5000):
        # A table lies behind what points to it, for readers that heed the sign; those here take it modulo 2^32.
        made += struct.pack("<I", (first - (end + 4 + 4 * number)) & 0xFFFFFFFF)
    return bytes(made)


def test_a_flatbuffer_that_points_to_one_thing_often(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(shared_subgraphs())
    begin = time.process_time()
    with pytest.raises(InputError):
        read_tflite(path)
    assert time.process_time() - begin < 5


def test_an_npy_whose_header_is_no_python(tmp_path: Path) -> None:
    path, reader = tmp_path / "inputs.npy", next(reader for reader in READERS if reader.name == "npy")
    for header in (b"{'descr': (", b"{'shape': " + b"[" * 5000, b"1" * 5000, b"{'descr': '|i1', 'shape': (-1,)}"):
        path.write_bytes(np.lib.format.magic(1, 0) + struct.pack("<H", len(header)) + header)
        with pytest.raises(InputError, match=r"inputs\.npy"):
            complaint(reader, path)
    for data in (b"PK\x03\x04" + bytes(100), b"\x80\x04N.", b""):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"no \.npy"):
            complaint(reader, path)


def test_an_elf_with_a_gap_of_gigabytes() -> None:
    seeds = next(reader for reader in READERS if reader.name == "elf").seeds()
    for offset, value in ((52 + 32 + 12, 0xFFFF0000), (28, 0xFFFFFFF0), (44, 0xFFFF)):
        data = bytearray(seeds[0])
        struct.pack_into("<I", data, offset, value)
        with pytest.raises(ValueError, match="the ELF"):
            read_flash_image(bytes(data))
    assert len(read_flash_image(seeds[0]).data) == 0x140


@pytest.mark.parametrize("text", ['"' + "\\\\" * 3_000_000 + '"', '"' + "a" * 5_000_000, "[" * 2_000_000])
def test_long_json_in_little_memory(text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(ValueError):
        parse_json(text + "[" * 100)
    assert time.process_time() - begin < 5


def test_labels_of_long_recordings(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio("WAV", "PCM_16"))
    huge = json.dumps({"audio_filepath": "a.wav", "offset": 10**400, "duration": 0.5, "command": "yes"})
    for name, text in (
        ("a.txt", "1\t2\tyes\n" * 201_000),
        ("a.json", json.dumps([{"start": 1, "end": 2, "word": "yes"}] * 201_000)),
        ("x_manifest.json", huge),
        ("manifest.csv", 'file,kind\na.wav,"' + "x" * 200_000),
    ):
        path = tmp_path / name
        path.write_text(text)
        begin = time.process_time()
        with pytest.raises(InputError, match=name):
            find_recordings(tmp_path)
        assert time.process_time() - begin < 5
        path.unlink()


def test_a_long_manifest_is_read_in_time(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio("WAV", "PCM_16"))
    line = '{"audio_filepath": "a.wav", "duration": 1.0, "command": "yes", "speaker": "x"}\n'
    (tmp_path / "m.json").write_text(line * 20_000)
    begin = time.process_time()
    assert len(read_manifest(tmp_path / "m.json").utterances) == 20_000
    assert time.process_time() - begin < 4
