"""Frames: what is sent arrives whole or not at all, however the line cuts and damages it."""

import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mbx_deploy.serial.frames import (
    MAX_BODY_BYTES,
    Frame,
    FrameReader,
    cobs_decode,
    cobs_encode,
    decode_frame,
    encode_frame,
)

BODIES = st.binary(max_size=MAX_BODY_BYTES)


@given(st.binary(max_size=600))
@example(bytes(range(1, 255)))
@example(bytes(range(1, 256)))
@example(b"\1" * 254 + b"\0")
@example(b"")
def test_cobs_leaves_no_zero_and_comes_back(plain: bytes) -> None:
    encoded = cobs_encode(plain)
    assert 0 not in encoded
    assert len(encoded) <= len(plain) + 1 + len(plain) // 254
    assert cobs_decode(encoded) == plain


def test_cobs_is_that_of_the_paper() -> None:
    assert cobs_encode(b"\x11\x22\x00\x33") == b"\x03\x11\x22\x02\x33"
    assert cobs_encode(b"\x11\x00\x00\x00") == b"\x02\x11\x01\x01\x01"
    assert cobs_encode(bytes(range(1, 256))) == b"\xff" + bytes(range(1, 255)) + b"\x02\xff"


def test_a_frame_by_hand() -> None:
    plain = bytes([1, 0x85, 0x34, 0x12]) + b"ab"
    encoded = encode_frame(0x85, 0x1234, b"ab")
    assert encoded == b"\0" + cobs_encode(plain + zlib.crc32(plain).to_bytes(4, "little")) + b"\0"
    assert decode_frame(encoded.strip(b"\0")) == Frame(1, 0x85, 0x1234, b"ab")


def test_a_body_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="257"):
        encode_frame(1, 0, bytes(MAX_BODY_BYTES + 1))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 70000), BODIES), max_size=8), st.data())
def test_frames_come_out_however_the_stream_is_cut(sent: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(*frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = FrameReader()
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = [frame for part in parts for frame in reader.take(part)]
    assert found == [Frame(1, kind, sequence & 0xFFFF, body) for kind, sequence, body in sent]
    assert reader.damaged == 0


@pytest.mark.slow
@settings(max_examples=300)
@given(BODIES, st.data())
def test_a_damaged_frame_is_left_out_and_the_next_one_is_found(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(encode_frame(7, 1, body))
    place = data.draw(st.integers(0, len(damaged) - 1))
    how = data.draw(st.sampled_from(("lost", "changed", "repeated", "cut")))
    if how == "lost":
        del damaged[place]
    elif how == "changed":
        damaged[place] ^= data.draw(st.integers(1, 255))
    elif how == "repeated":
        damaged.insert(place, damaged[place])
    else:
        del damaged[place:]
    reader = FrameReader()
    found = list(reader.take(bytes(damaged) + encode_frame(8, 2, b"next")))
    assert found[-1] == Frame(1, 8, 2, b"next")
    assert all(frame == Frame(1, 7, 1, body) for frame in found[:-1])  # a delimiter more or less does no harm


@given(st.binary(max_size=3000))
def test_noise_is_no_frame_and_memory_is_bounded(noise: bytes) -> None:
    reader = FrameReader()
    assert list(reader.take(noise)) == []
    assert len(reader._held) <= 300
    assert list(reader.take(encode_frame(1, 2, b"x"))) == [Frame(1, 1, 2, b"x")]
