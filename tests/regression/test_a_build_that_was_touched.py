"""run once believed a build whose model had other labels, and whose manifest said anything at all."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_tool("gcc") is None or find_tool("cmake") is None:
        pytest.skip("gcc and cmake are not installed")
    folder = tmp_path_factory.mktemp("made") / "build"
    build(shipped_model_path(), find_target("host"), folder)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["model.tflite", "firmware.elf", "src/mbx_kernels.c", "include/kws.h", "host.toml"])
def test_a_file_that_was_changed_is_named(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(InputError, match=f"the build was changed .*{name}"):
        load_build(copied)


@pytest.mark.parametrize(("key", "value"), [
    ("stride_frames", 10**30), ("stride_frames", 0), ("stride_frames", "25"), ("stride_frames", True),
    ("runtime", "x"), ("layout", ["cmake"]), ("format", 9), ("format", None), ("network_only", "yes"),
    ("prefix", 7), ("target", "x" * 101), ("files", []), ("files", {"a": 1}), ("step_frames", -1),
])  # fmt: skip
def test_values_that_no_build_writes(copied: Path, key: str, value: Any) -> None:
    path = copied / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(InputError, match=f"the build is damaged .*{key}") as told:
        load_build(copied)
    assert len(str(told.value.what)) < 400


def test_nesting_without_end_and_files_outside(copied: Path) -> None:
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "files": {"../outside": "0"}}))
    with pytest.raises(InputError, match="outside"):
        load_build(copied)
    path.write_text("[" * 200_000)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)  # onnx2tf lifts it for the whole process
    try:
        with pytest.raises(InputError, match=r"damaged.*nested more than"):
            load_build(copied)
    finally:
        sys.setrecursionlimit(limit)
