"""Targets: every shipped file loads, and what a file may not say is refused by file and key."""

import re
from pathlib import Path

import pytest

from mbx_deploy.codegen.target import find_target, list_targets, read_target, render_targets, target_to_dict
from mbx_deploy.errors import InputError
from mbx_deploy.system.resources import part_folders, targets_folder

GOOD = (targets_folder() / "cortex-m4.toml").read_text().replace('"cortex-m4"', '"some"', 1)


def write(folder: Path, text: str, name: str = "some.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_every_shipped_target_loads() -> None:
    names = [path.stem for path in sorted(targets_folder().glob("*.toml"))]
    targets = list_targets()
    assert [target.name for target in targets] == names and {"cortex-m4", "host"} <= set(names)
    for target in targets:
        assert target.board in part_folders()
        assert find_target(target.name) == target
        assert target.description and target_to_dict(target)["name"] == target.name
        assert target.name in render_targets(targets)


def test_the_file_that_the_others_are_broken_from_loads(tmp_path: Path) -> None:
    target = read_target(write(tmp_path, GOOD))
    assert target.name == "some" and target.memory is not None
    assert find_target(str(tmp_path / "some.toml")) == target
    assert (target.memory.ram_origin, target.memory.stack_bytes) == (0x20000000, 4096)


def test_an_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="cortex-m99") as caught:
        find_target("cortex-m99")
    assert "cortex-m4" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "key",
    [*re.findall(r"^(\w+) =", GOOD, re.M)[:8], "flash_origin", "flash_bytes", "ram_origin", "ram_bytes", "stack_bytes"],
)
def test_a_missing_key(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"some\.toml.*{key}"):
        read_target(write(tmp_path, re.sub(rf"^{key} = .*\n", "", GOOD, count=1, flags=re.M)))


@pytest.mark.parametrize("section", ["", "[memory]\n", "[emulator]\n"])
def test_an_unknown_key(section: str, tmp_path: Path) -> None:
    text = GOOD.replace(section, section + "clock_hertz = 5\n", 1) if section else "clock_hertz = 5\n" + GOOD
    with pytest.raises(InputError, match=r"unknown key \(some\.toml.*clock_hertz"):
        read_target(write(tmp_path, text))


def test_an_unknown_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key.*extra"):
        read_target(write(tmp_path, GOOD + "\n[extra]\nx = 1\n"))


BAD = [
    ("name", '"other"'),
    ("name", "5"),
    ("toolchain", '"iar"'),
    ("compile_flags", '"-mthumb"'),
    ("compile_flags", "[1]"),
    ("optimization", '"-Ofast"'),
    ("kernels", '"fastest"'),
    ("kernels", "1"),
    ("clock_hz", '"25 MHz"'),
    ("clock_hz", "true"),
    ("clock_hz", "-1"),
    ("board", '"no_such_board"'),
    ("board", '"../../../etc"'),
    ("board", '""'),
    ("flash_bytes", "0"),
    ("flash_bytes", "1.5"),
    ("ram_bytes", "-4096"),
    ("ram_bytes", str(1 << 40)),
    ("ram_origin", "-1"),
    ("flash_origin", str(1 << 33)),
    ("stack_bytes", "4097"),
    ("stack_bytes", "4_194_312"),
    ("machine", "5"),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{key} {value}" for key, value in BAD])
def test_a_bad_value(key: str, value: str, tmp_path: Path) -> None:
    text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", GOOD, count=1, flags=re.M)
    assert count == 1
    with pytest.raises(InputError, match=rf"some\.toml.*{key}"):
        read_target(write(tmp_path, text))


@pytest.mark.parametrize("key", ["compile_flags", "clock_hz", "memory"])
def test_every_number_has_a_source(key: str, tmp_path: Path) -> None:
    head, sources = GOOD.split("[sources]")
    text = head + "[sources]" + re.sub(rf"^{key} = .*\n", "", sources, count=1, flags=re.M)
    with pytest.raises(InputError, match=rf"sources.*{key}"):
        read_target(write(tmp_path, text))


def test_a_board_needs_memory(tmp_path: Path) -> None:
    text = re.sub(r"\[memory\]\n(\w+ = .*\n)+", "", GOOD)
    with pytest.raises(InputError, match="memory"):
        read_target(write(tmp_path, text))


@pytest.mark.parametrize("data", [b"name = ", b"\xff\xfe", b"name = 'a'\nname = 'b'", b""])
def test_a_file_that_is_no_toml(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"some\.toml"):
        find_target(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        find_target(str(tmp_path / "none.toml"))
