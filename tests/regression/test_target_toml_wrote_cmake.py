"""A compile flag of a target's TOML ended the string in toolchain.cmake and went on in CMake's language."""

from pathlib import Path

import pytest

from mbx_deploy.codegen.target import find_target, read_target
from mbx_deploy.errors import InputError
from mbx_deploy.system.resources import targets_folder


def write(folder: Path, old: str, new: str) -> Path:
    text = (targets_folder() / "cortex-m4.toml").read_text().replace('name = "cortex-m4"', 'name = "x"')
    assert old in text
    (folder / "x.toml").write_text(text.replace(old, new, 1))
    return folder / "x.toml"


FLAGS = (
    r"-mthumb\")\nfile(WRITE /tmp/x y)\n#",
    "-mthumb;x",
    "-m${x}",
    "-fplugin=x",
    "-Wl,-x",
    "-B/tmp",
    "@file",
    "-m x",
)


@pytest.mark.parametrize("flag", FLAGS)
def test_flag_is_refused(tmp_path: Path, flag: str) -> None:
    with pytest.raises(InputError, match=r"x.toml, compile_flags"):
        read_target(write(tmp_path, "-mthumb", flag))


@pytest.mark.parametrize("text", [r"a\" b", "a*/b", r"a\nb", "${x}", r"a\u001bb"])
def test_text_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"x.toml, description"):
        read_target(write(tmp_path, 'description = "', f'description = "{text}'))


@pytest.mark.parametrize("key", ["parts", "images", "compile_flags"])
def test_list_in_a_list_is_refused(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, "optimization =", f"{key}_ = 1\noptimization =")
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} =")]
    path.write_text("\n".join(lines).replace(f"{key}_ = 1", f"{key} = [[1]]"))
    with pytest.raises(InputError, match=rf"x.toml, {key}"):
        read_target(path)


def test_good_flags_stay(tmp_path: Path) -> None:
    assert read_target(write(tmp_path, "-mthumb", "-mthumb")).compile_flags == find_target("cortex-m4").compile_flags
