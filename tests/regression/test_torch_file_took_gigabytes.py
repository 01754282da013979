"""Checkpoints of a few hundred bytes that took gigabytes or never ended: bytearray(N), shared lists and tuples."""

import io
import pickle
import pickletools
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError
from mbx_deploy.train.checkpoint import load_torch
from mbx_deploy.train.torch_file import read_torch


def saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def with_pickle(data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return torch's zip with another pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({}))) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for info in source.infolist():
            target.writestr(info.filename, data if info.filename.endswith("data.pkl") else source.read(info))
    return buffer.getvalue()


def shared_lists() -> list[Any]:
    nested: list[Any] = [1]
    for _ in range(30):
        nested = [nested, nested]
    return nested


def shared_tuples() -> bytes:
    """Return a dict whose key is a tuple that takes 2 ** 60 steps to hash."""
    program = b"\x80\x02}K\x01\x85q\x00"
    for number in range(1, 61):
        program += b"h" + bytes([number - 1]) + b"h" + bytes([number - 1]) + b"\x86q" + bytes([number])
    return program + b"K\x01s."


BYTEARRAY = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R."
STORAGE = b"\x80\x02ctorch.storage\nUntypedStorage\n\x8a\x05\x00\x00\x00\x00\x02\x85R."
HOSTILE = {
    "bytearray": with_pickle(BYTEARRAY),
    "storage": with_pickle(STORAGE),
    "bare bytearray": BYTEARRAY,
    "shared lists": saved({"format": shared_lists()}),
    "shared tuples": with_pickle(shared_tuples()),
    "huge number": with_pickle(pickle.dumps({"a": 1 << 60_000}, 2)),
    "many operations": with_pickle(b"\x80\x02]" + b"K\x01a" * 400_000 + b"."),
    "repeated value": saved({"a": torch.zeros(1).expand(1 << 34)}),
    "deflate bomb": with_pickle(b"\x80\x02" + b"N" * (4 << 20) + b".", zipfile.ZIP_DEFLATED),
    "cut": saved({"a": torch.zeros(4)})[:-30],
    "text": b"hello",
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused_at_once(tmp_path: Path, name: str) -> None:
    begin = time.process_time()
    with pytest.raises(DocumentError) as error:
        read_torch(HOSTILE[name])
    assert time.process_time() - begin < 8
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)
    (tmp_path / "m.pt").write_bytes(HOSTILE[name])
    with pytest.raises(InputError, match=r"m.pt"):
        load_torch(tmp_path / "m.pt")


def test_bytearray_is_one() -> None:
    assert [op.name for op, _, _ in pickletools.genops(BYTEARRAY)][1:3] == ["GLOBAL", "LONG1"]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_usual_stays(legacy: bool) -> None:
    weights = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.zeros(3, dtype=torch.int64))
    shape, state = (1, 2), {"rng": torch.get_rng_state(), "big": 1 << 127, "text": "x", "none": None, "real": 1.5}
    content = {"model": weights, "state": state, "shapes": [shape, shape], "size": torch.Size([1, 2])}
    found = read_torch(saved(content, legacy))
    assert torch.equal(found["model"]["a"], weights["a"]) and found["state"]["big"] == 1 << 127
    assert found["shapes"] == [shape, shape] and found["size"] == (1, 2)
    parameter = torch.nn.Parameter(torch.ones(2))
    assert torch.equal(read_torch(saved({"a": parameter}, legacy))["a"], parameter)
