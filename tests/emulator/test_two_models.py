"""Two builds with prefixes of their own in one image, by each ecosystem's way of linking: the runtime is there once."""

import subprocess
from pathlib import Path

import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.firmware.build import build
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool
from tests.emulator.test_layouts import ZEPHYR_FUNCTIONS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed"),
    pytest.mark.skipif(find_tool("cmake") is None, reason="cmake is not installed"),
]
MODELS = {"left": "kws10", "right": "kws10s"}
MAIN = """#include "left.h"
#include "right.h"
#include <stdio.h>

static left_t one;
static right_t other;

int main(void)
{
    static const int16_t silence[LEFT_CLIP_SAMPLES];
    size_t consumed = 0;
    mbx_result result;
    if (left_init(&one) != MBX_OK || right_init(&other) != MBX_OK) {
        return 1;
    }
    if (left_feed(&one, silence, LEFT_CLIP_SAMPLES, &consumed) != MBX_OK ||
        left_finish_clip(&one) != MBX_WINDOW_READY || left_run(&one, &result) != MBX_OK) {
        return 2;
    }
    printf("%s", left_label(result.label));
    consumed = 0;
    if (right_feed(&other, silence, 16000, &consumed) != MBX_WINDOW_READY || right_run(&other, &result) != MBX_OK) {
        return 3;
    }
    printf(" %s\\n", right_label(result.label));
    return 0;
}
"""


def made(folder: Path, layout: str) -> dict[str, Path]:
    """Builds of a windowed and a streaming model for this machine."""
    for prefix, model in MODELS.items():
        build(shipped_model_path(model), find_target("host"), folder / prefix, prefix, layout=layout)
    return {prefix: folder / prefix for prefix in MODELS}


def run(command: list[str | Path], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_and_run(folder: Path, text: str) -> str:
    (folder / "main.c").write_text(MAIN)
    (folder / "CMakeLists.txt").write_text(f"cmake_minimum_required(VERSION 3.16)\nproject(both C ASM)\n{text}")
    run(["cmake", "-B", "build"], folder)
    run(["cmake", "--build", "build"], folder)
    return run([folder / "build" / "both"], folder)


def test_cmake(tmp_path: Path) -> None:
    made(tmp_path, "cmake")
    text = "add_subdirectory(left)\nadd_subdirectory(right)\nadd_executable(both main.c)\n"
    assert build_and_run(tmp_path, f"{text}target_link_libraries(both left right)\n") == "silence silence\n"


def test_zephyr_which_links_every_object(tmp_path: Path) -> None:
    made(tmp_path, "zephyr")
    functions = ZEPHYR_FUNCTIONS.replace("set(CONFIG_MBX_SPOTTER y)", "set(CONFIG_MBX_LEFT y)\nset(CONFIG_MBX_RIGHT y)")
    text = f"{functions}\nadd_subdirectory(left)\nadd_subdirectory(right)\nadd_executable(both main.c)\n"
    whole = "-Wl,--whole-archive left right -Wl,--no-whole-archive"
    assert build_and_run(tmp_path, f"{text}target_link_libraries(both {whole})\n") == "silence silence\n"


def test_arduino_which_links_archives(tmp_path: Path) -> None:
    """With dot_a_linkage a sketch's libraries are archives, of which an object is taken where something is missing."""
    folders = made(tmp_path, "arduino")
    (tmp_path / "main.c").write_text(MAIN)
    archives: list[str | Path] = []
    for prefix, folder in folders.items():
        assert "dot_a_linkage=true" in (folder / "library.properties").read_text().split()
        objects = tmp_path / f"{prefix}_objects"
        objects.mkdir()
        run(["gcc", "-c", "-O1", "-I", folder / "src", *sorted((folder / "src").glob("*.c"))], objects)
        archives.append(tmp_path / f"lib{prefix}.a")
        run(["ar", "rcs", archives[-1], *sorted(objects.glob("*.o"))], tmp_path)
    includes = [word for folder in folders.values() for word in ("-I", folder / "src")]
    run(["gcc", *includes, "main.c", *archives, "-o", "both"], tmp_path)
    assert run([tmp_path / "both"], tmp_path) == "silence silence\n"
