"""The generated project: the same bytes always, valid C whatever the labels are, and a mixed set does not compile."""

import ctypes
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbx_deploy.codegen.constants import constant_arrays, frontend_arrays
from mbx_deploy.codegen.manifest import make_manifest
from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import compile_shared_library, find_tool
from tests.made.tflite import small_artifact

CONFIG = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")
HOSTILE = (
    "*/",
    '"); exit(1); ("',
    "??/",
    "\\",
    "\\n",
    "größer",
    "日本語",
    "%s%n",
    "// x",
    "/*",
    "'",
    "#define A",
    "{{ p }}",
    "a b",
)
needs_gcc = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")


def recognizer(
    labels: tuple[str, ...] = ("no", "yes", "silence"), config: FrontendConfig = CONFIG, seed: int = 0
) -> CompiledModel:
    return parse_model(small_artifact(config, labels, seed), "test")


def project(
    made: CompiledModel | None = None, prefix: str = "kws", target: str = "host", stride: int = 5
) -> dict[str, Any]:
    return generate_project(made or recognizer(), find_target(target), prefix, stride)


def check_c(files: dict[str, Any], folder: Path, compiler: str = "gcc", flags: tuple[str, ...] = STRICT) -> str:
    """Return what the compiler says about every C file of a project, empty where all is well."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    units = sorted(name for name in files if name.endswith(".c"))
    includes = [f"-I{name}" for name in ("include", "generated", "src", "board")]
    done = subprocess.run(
        [compiler, *flags, "-O2", "-fsyntax-only", *includes, *units],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == ("error" in done.stderr)
    return done.stderr


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = project(), project()
    assert first == second and list(first) == list(second)
    arguments = (recognizer(), find_target("host"), "kws", 5)
    assert make_manifest(first, *arguments) == make_manifest(dict(reversed(first.items())), *arguments)


def test_another_process_elsewhere_gives_the_same_bytes(tmp_path: Path) -> None:
    """Another folder, time zone, locale and hash seed."""
    code = (
        "import hashlib; from tests.unit.codegen.test_project import *; files = project(target='cortex-m4');"
        "print(hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest())"
    )
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    files = project(target="cortex-m4")
    assert done.stdout.strip() == hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_no_paths_and_no_times_in_it(target: str) -> None:
    """Nothing of the machine that generated it, and plain text."""
    files = project(target=target)
    files["manifest.json"] = make_manifest(files, recognizer(), find_target(target), "kws", 5)
    checkout = str(firmware_templates_folder().parent)
    for name, content in files.items():
        assert not name.startswith("/") and ".." not in name
        if isinstance(content, bytes):
            continue
        for word in (checkout, str(Path.home()), os.getcwd(), "/tmp/", "__DATE__", "__TIME__", "__FILE__"):
            assert word not in content, (name, word)
        assert not re.search(r"\b20[2-9]\d-\d\d-\d\d\b|\d\d:\d\d:\d\d", content), name
        assert (
            content.endswith("\n")
            and "\r" not in content
            and "{{" not in content.replace("{{0}", "")
            and "{%" not in content
        )
        assert all(line == line.rstrip() for line in content.splitlines()), name


def test_the_manifest_has_every_file() -> None:
    import json

    files = project()
    manifest = json.loads(make_manifest(files, recognizer(), find_target("host"), "kws", 5))
    assert set(manifest["files"]) == set(files)
    text = files["generated/kws.c"]
    assert manifest["files"]["generated/kws.c"] == hashlib.sha256(text.encode()).hexdigest()
    assert manifest["model_sha256"] == hashlib.sha256(files["model.tflite"]).hexdigest()


@needs_gcc
@pytest.mark.parametrize("config", [
    CONFIG,
    FrontendConfig(clip_samples=3000, window_length=100, hop_length=50, n_fft=128, center=False, n_mels=9, n_mfcc=0),
    FrontendConfig(clip_samples=3000, window_length=2048, hop_length=100, n_fft=2048, n_mels=128, pad_frames_before=2),
], ids=["small", "no DCT", "large"])  # fmt: skip
def test_strict_warnings(config: FrontendConfig, tmp_path: Path) -> None:
    assert check_c(project(recognizer(config=config)), tmp_path) == ""


@pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")
def test_strict_warnings_for_the_m4(tmp_path: Path) -> None:
    flags = find_target("cortex-m4").compile_flags
    assert check_c(project(target="cortex-m4"), tmp_path, "arm-none-eabi-gcc", (*STRICT, *flags)) == ""


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("standard", ["c11", "c17", "gnu99", "gnu2x"])
def test_other_standards(standard: str, tmp_path: Path) -> None:
    assert check_c(project(), tmp_path, flags=(f"-std={standard}", *STRICT[1:])) == ""


# --- a set that is not of one piece ---

PARTS = ("include/kws.h", "generated/kws.c", "generated/kws_data.h", "generated/kws_data.c", "generated/kws_frontend.c")


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("change", ["model", "stride", "front end"])
def test_a_stale_pair_does_not_compile(part: str, change: str, tmp_path: Path) -> None:
    """One file of another set in the place of its own, of the same prefix and the same sizes."""
    import dataclasses

    made = recognizer(seed=1 if change == "model" else 0)
    if change == "front end":
        made = recognizer(config=dataclasses.replace(CONFIG, log_offset=1e-5))
    other = project(made, stride=4 if change == "stride" else 5)
    files = project()
    assert other[part] != files[part]
    said = check_c(files | {part: other[part]}, tmp_path)
    assert "#error" in said and "generate the project again" in said


@needs_gcc
def test_another_runtime_does_not_compile(tmp_path: Path) -> None:
    files = project()
    header = files["src/mbx_runtime.h"]
    files["src/mbx_runtime.h"] = re.sub(r"(#define MBX_RUNTIME_VERSION) (\d+)", r"\1 9999", header)
    assert files["src/mbx_runtime.h"] != header
    assert "another version of the runtime" in check_c(files, tmp_path)


# --- labels ---


def library(made: CompiledModel, prefix: str = "kws") -> ctypes.CDLL:
    """Return the model's part of a project, loaded into this process."""
    files = project(made, prefix)
    sources = {
        name: text for name, text in files.items() if name.endswith((".c", ".h")) and not name.startswith("board/")
    }
    return ctypes.CDLL(str(compile_shared_library(sources, ("-O1",))))


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_are_valid_c(label: str, tmp_path: Path) -> None:
    assert check_c(project(recognizer(("no", "yes", label))), tmp_path, flags=(*STRICT, "-Wtrigraphs")) == ""


@pytest.mark.slow
@needs_gcc
def test_labels_come_back_byte_for_byte() -> None:
    label = library(recognizer(("no", '"??/\\', "größer 日本 %n"))).kws_label
    label.restype = ctypes.c_char_p
    label.argtypes = [ctypes.c_uint16]
    assert [label(i).decode() for i in range(5)] == ["no", '"??/\\', "größer 日本 %n", "", ""]
    assert label(65535) == b""


@needs_gcc
@pytest.mark.parametrize(
    "labels", [("a-b", "a_b", "a b"), ("yes", "Yes", "YES"), ("да", "не", "щ"), ("*/", "//", "__")]
)
def test_labels_whose_names_in_c_would_be_one(labels: tuple[str, ...], tmp_path: Path) -> None:
    """Two words that differ only in what an identifier can't hold are still two #defines, each once."""
    files = project(recognizer(labels))
    assert check_c(files, tmp_path) == ""
    names = re.findall(r"#define (KWS_LABEL_\w+)", files["include/kws.h"])
    assert len(set(names)) == len(names)


# --- prefixes ---


@pytest.mark.parametrize(
    "prefix", ["", "Kws", "1a", "_a", "a-b", "a b", "a/b", "../a", "ä", "mbx", "mbx_a", "a" * 32, "a\n", "kws;"]
)
def test_prefixes_that_are_refused(prefix: str) -> None:
    with pytest.raises(InputError, match="prefix"):
        project(prefix=prefix)


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize(
    "prefix",
    ["a", "a1", "k_w_s", "a" * 31, "int", "main", "model", "call", "size", "int8", "uint16", "int32", "uint64",
     "ptrdiff", "string", "stdint", "stddef", "stdio", "semihosting", "board"],
)  # fmt: skip
def test_a_prefix_is_refused_or_compiles(prefix: str, tmp_path: Path) -> None:
    """size_t and <string.h> exist already."""
    try:
        files = project(prefix=prefix)
    except InputError as error:
        assert "prefix" in error.what
        return
    assert check_c(files, tmp_path) == ""


@pytest.mark.parametrize("prefix", ["firmware", "test", "all", "install", "clean", "help"])
def test_a_prefix_is_no_other_target_of_cmake(prefix: str) -> None:
    """The library is a CMake target; these names are taken, by our own executable or by CMake."""
    try:
        files = project(prefix=prefix)
    except InputError:
        return
    targets = re.findall(r"add_(?:library|executable)\((\w+)", files["CMakeLists.txt"])
    assert len(set(targets)) == len(targets) and not {"test", "all", "install", "clean", "help"} & set(targets)


@pytest.mark.parametrize("stride", [0, -1, 33, 10**6])
def test_strides_that_are_refused(stride: int) -> None:
    assert CONFIG.audio_frames == 32
    with pytest.raises(InputError, match="stride"):
        project(stride=stride)


# --- the data ---


def parse_array(text: str, name: str) -> np.ndarray:
    """Return the values of an array in C source."""
    found = re.search(rf"const \w+ {name}\[(\d+)\] = \{{\n(.*?)\n\}};", text, re.S)
    assert found, name
    words = found[2].replace("INT32_MIN", str(-(2**31))).replace("u", "").split(",")
    values = np.array([int(word) for word in words if word.strip()])
    assert len(values) == int(found[1])
    return values


@pytest.mark.parametrize(("target", "count"), [("host", 4 * 4), ("cortex-m4", 2 * 4 + 2 * 3)])
def test_the_data_are_those_of_the_program(target: str, count: int) -> None:
    """On a Cortex-M4 two of four layers with weights run a fast kernel, with three arrays each."""
    made = recognizer()
    files = project(made, target=target)
    arrays = constant_arrays(made, plan_memory(made.program, find_target(target).kernels), "kws")
    for array in arrays:
        np.testing.assert_array_equal(parse_array(files["generated/kws_data.c"], array.name), array.values.ravel())
    for array in frontend_arrays(made):
        np.testing.assert_array_equal(parse_array(files["generated/kws_frontend.c"], array.name), array.values.ravel())
    assert len(arrays) == count and len(frontend_arrays(made)) == 7


def test_templates_hold_no_arithmetic() -> None:
    """Data and calls only: no loop, no branch of C."""
    for path in (firmware_templates_folder() / "templates").glob("*.c.j2"):
        text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|/\*.*?\*/|^#.*?$", "", path.read_text(), flags=re.S | re.M)
        assert not re.search(r"\b(for|while|switch)\b", text), path.name


def test_every_file_of_the_board_is_compiled() -> None:
    for target in ("host", "cortex-m4"):
        files = project(target=target)
        for name in files:
            if name.endswith((".c", ".S")):
                assert f"  {name}\n" in files["CMakeLists.txt"], name
