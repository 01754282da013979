"""Small TOML files that took minutes, gigabytes or the stack: dotted keys, nesting, digits, a FIFO."""

import os
import time
from pathlib import Path

import pytest

from mbx_deploy.system.documents import DocumentError, parse_toml, read_document

HOSTILE = {
    "dotted key": ".".join(["a"] * 20_000) + " = 1",
    "dotted key with spaces and quotes": " . ".join(['"a"', "'b'"] * 5_000) + " = 1",
    "dotted table": "[" + ".".join(["a"] * 20_000) + "]",
    "nested lists": "a = " + "[" * 5_000 + "]" * 5_000,
    "nested tables": "a = " + "{a = " * 5_000 + "1" + "}" * 5_000,
    "digits": "a = " + "9" * 5_000,
    "digits apart": "a = " + "9_" * 5_000 + "9",
    "open text": 'a = """' + '\\"""' * 50_000,
    "open literal": "a = '''" + "'" * 2,
    "large": "#" * (1 << 20),
    "damaged": "a = = 1",
    "no UTF-8": "a = '\udcff'",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused_at_once(name: str) -> None:
    begin = time.process_time()
    with pytest.raises(DocumentError) as error:
        parse_toml(HOSTILE[name].encode(errors="surrogateescape"))
    assert time.process_time() - begin < 2
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_limits_leave_what_is_usual() -> None:
    text = (
        'a.b.c = "[[[[ . . # \\" " # [[[\nx = [1.5, -2e-9, 0xffff_ffff]\n'
        'y = \'\'\'a "" [ \'\'\'\nz = """ \\""" \' """\n'
    )
    assert parse_toml(text.encode()) == {
        "a": {"b": {"c": '[[[[ . . # " '}},
        "x": [1.5, -2e-9, 0xFFFF_FFFF],
        "y": 'a "" [ ',
        "z": ' """ \' ',
    }


def test_fifo_and_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.toml")
    for path in (tmp_path / "x.toml", Path("/dev/zero"), tmp_path):
        with pytest.raises(DocumentError):
            read_document(path)
