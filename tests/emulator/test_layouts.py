"""Layouts: the ecosystem's own tool where it is installed, else its sources with its flags, read from its own files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.layouts import LAYOUTS
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import ITEM_CLIP, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool

needs_gcc = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
needs_arm = pytest.mark.skipif(find_tool("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
needs_cmake = pytest.mark.skipif(find_tool("cmake") is None, reason="cmake is not installed")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
M4 = find_target("cortex-m4").compile_flags

# What the examples use of Arduino's core and its library PDM, declared alone: for a compiler's eyes only.
ARDUINO_H = """
#pragma once
#include <stdint.h>
#include <stddef.h>
#define LED_BUILTIN 13
#define OUTPUT 1
#define HIGH 1
#define LOW 0
void pinMode(uint8_t pin, uint8_t mode);
void digitalWrite(uint8_t pin, uint8_t level);
void delay(unsigned long ms);
struct Stream { void begin(unsigned long baud); void print(const char *text); void println(const char *text);
                void print(unsigned long value); void println(unsigned long value); };
extern Stream Serial;
"""
PDM_H = """
#pragma once
struct PDMClass { int begin(int channels, int rate); int read(void *buffer, size_t bytes);
                  void onReceive(void (*receiver)(void)); };
extern PDMClass PDM;
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A build of each layout, for the Cortex-M4."""
    made = {}
    for name in LAYOUTS:
        made[name] = tmp_path_factory.mktemp("layouts") / name
        report = build(shipped_model_path(), find_target("cortex-m4"), made[name], "spotter", layout=name)
        assert report.elf is None and report.missing_tools == () and report.to_dict()["layout"] == name
    return made


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[str, Path]:
    return request.param, folders[request.param]


def run(command: list[str], cwd: Path, timeout: float = 120) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def units(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.[cS]") if "listen" not in path.parts)


def include_flags(folder: Path) -> list[str]:
    return [f"-I{folder / name}" for name in ("include", "generated", "src") if (folder / name).is_dir()]


@needs_gcc
@pytest.mark.parametrize("name", ["arduino", "esp-idf"])  # with the kernels of the M4, and with the portable ones
def test_a_layout_gives_the_simulators_bytes(name: str, folders: dict[str, Path]) -> None:
    """What `verify` runs of such a build: the sources in the folder, with a main() that serves recordings."""
    loaded = load_build(folders[name])
    random = np.random.default_rng(6)
    items = [Item(ITEM_CLIP, random.integers(-9000, 9000, 16000).astype(np.int16))]
    expected = SimEngine(loaded.model).run(items)[0][0]
    got = HostEngine(loaded.model, loaded.files, ("-O1",)).run(items)[0][0]
    assert got.logits.tobytes() == expected.logits.tobytes()


def test_the_c_is_that_of_the_cmake_project(layout: tuple[str, Path], tmp_path: Path) -> None:
    from mbx_deploy.codegen.project import generate_project

    target = find_target("cortex-m4")
    if LAYOUTS[layout[0]].portable:
        from dataclasses import replace

        target = replace(target, kernels="portable")
    recognizer = load_build(layout[1]).model
    project = {n.rpartition("/")[2]: text for n, text in generate_project(recognizer, target, "spotter").items()
               if n.startswith(("src/", "include/", "generated/"))}  # fmt: skip
    for path in layout[1].rglob("*"):
        if path.suffix in (".c", ".h") and "listen" not in path.parts:
            assert path.read_text() == project.pop(path.name), path
    assert all(name.endswith(".S") for name in project) and (not project or not LAYOUTS[layout[0]].portable)


def test_the_readme_and_the_manifest(layout: tuple[str, Path]) -> None:
    name, folder = layout
    assert json.loads((folder / "manifest.json").read_text())["layout"] == name
    readme = (folder / "README.md").read_text()
    assert "spotter_feed" in readme and "{P}" not in readme
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".tflite",):
            assert "{{" not in path.read_text().replace("{{0}", ""), path


@needs_arm
@pytest.mark.parametrize("flags", [(), ("-mcpu=cortex-m3", "-mthumb"), M4], ids=["this machine", "M3", "M4"])
def test_every_source_compiles_for_cores_with_and_without_the_kernels(
    flags: tuple[str, ...], layout: tuple[str, Path], tmp_path: Path
) -> None:
    """Tools of libraries compile every file they find, whatever the core is."""
    if not flags and find_tool("gcc") is None:
        pytest.skip("gcc is not installed")
    compiler = "arm-none-eabi-gcc" if flags else "gcc"
    sources = [str(layout[1] / unit) for unit in units(layout[1])]
    command = [compiler, *flags, "-std=gnu11", "-O0", *WARNINGS, *include_flags(layout[1]), "-c", *sources]
    run(command, tmp_path)


@needs_arm
def test_the_header_from_cpp(folders: dict[str, Path], tmp_path: Path) -> None:
    """A C++ program links against the C: the functions' names are not mangled."""
    (tmp_path / "use.cpp").write_text(
        '#include "spotter.h"\nstatic spotter_t r;\nint main() { mbx_result s; size_t n; const int16_t x[1] = {0};\n'
        "if (spotter_init(&r) != MBX_OK || spotter_feed(&r, x, 1, &n) != MBX_OK) return 1;\n"
        "return spotter_run(&r, &s) == MBX_ERROR_STATE && *spotter_label(0) && spotter_is_word(0) >= 0 ? 0 : 2; }\n"
    )
    sources = [str(folders["arduino"] / unit) for unit in units(folders["arduino"]) if unit.endswith(".c")]
    for standard in ("gnu++11", "gnu++17", "c++20"):
        run(["g++", f"-std={standard}", *WARNINGS, *include_flags(folders["arduino"]), "-c", "use.cpp"], tmp_path)
    run(["gcc", "-O0", *include_flags(folders["arduino"]), "-c", *sources], tmp_path)
    run(["g++", *map(str, tmp_path.glob("*.o")), "-o", "use"], tmp_path)
    run(["./use"], tmp_path)


@needs_arm
@pytest.mark.parametrize("target", ["cortex-m0plus", "host"])
def test_a_library_for_another_core_links_on_one_with_dsp(target: str, shipped: CompiledModel, tmp_path: Path) -> None:
    """The front end calls its assembly wherever the compiler says that there is DSP."""
    from mbx_deploy.codegen.project import generate_project

    for name, content in generate_project(shipped, find_target(target), layout="arduino").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    sources = [str(path) for path in sorted((tmp_path / "src").glob("*.[cS]"))]
    run(["arm-none-eabi-gcc", *M4, "-std=gnu11", "-O0", "-Isrc", "-c", *sources], tmp_path)
    listed = run(["arm-none-eabi-nm", *map(str, tmp_path.glob("*.o"))], tmp_path)
    undefined = set(re.findall(r" U (mbx_\w+)", listed)) - set(re.findall(r" [TtRr] (mbx_\w+)", listed))
    assert not undefined


# --- Arduino ---


def test_library_properties(folders: dict[str, Path]) -> None:
    """The fields that Arduino's library specification 1.5 demands, and the example beside its folder's name."""
    lines = (folders["arduino"] / "library.properties").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines)
    needed = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert needed <= set(values) and all(values.values())
    assert re.fullmatch(r"\d+\.\d+\.\d+", values["version"]) and re.fullmatch(
        r"[A-Za-z0-9][\w .-]{0,62}", values["name"]
    )
    assert values["category"] == "Signal Input/Output"  # one of the specification's
    assert (folders["arduino"] / "src" / values["includes"]).is_file()
    assert [path.name for path in (folders["arduino"] / "examples" / "Listen").iterdir()] == ["Listen.ino"]
    assert all(path.parent.name == "src" for path in folders["arduino"].rglob("*.[chS]"))


@needs_arm
def test_the_sketch_compiles_as_arduino_does(folders: dict[str, Path], tmp_path: Path) -> None:
    """The flags are those of arduino:mbed_nano 4; the core's headers are declarations of what the sketch calls."""
    sketch = (folders["arduino"] / "examples/Listen/Listen.ino").read_text()
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    (tmp_path / "PDM.h").write_text(PDM_H)
    (tmp_path / "Listen.ino.cpp").write_text("#include <Arduino.h>\n" + sketch)
    flags = [
        "-std=gnu++14",
        "-Os",
        "-fno-exceptions",
        "-fno-rtti",
        "-nostdlib",
        *M4,
        *WARNINGS,
        "-Wno-unused-parameter",
    ]
    run(["arm-none-eabi-g++", *flags, "-I.", f"-I{folders['arduino'] / 'src'}", "-c", "Listen.ino.cpp"], tmp_path)
    lint = find_tool("arduino-lint")
    if lint:
        run([lint, "--compliance", "specification", str(folders["arduino"])], tmp_path)


# --- PlatformIO ---


def test_library_json(folders: dict[str, Path]) -> None:
    values = json.loads((folders["platformio"] / "library.json").read_text())
    assert values["name"] == "spotter" and re.fullmatch(r"\d+\.\d+\.\d+", values["version"])
    assert (folders["platformio"] / values["build"]["includeDir"] / values["headers"]).is_file()
    for example in values["examples"]:
        assert all((folders["platformio"] / example["base"] / name).is_file() for name in example["files"])


def test_platformio_packs_the_library(folders: dict[str, Path], tmp_path: Path) -> None:
    tool = find_tool("pio") or find_tool(str(Path(sys.executable).with_name("pio")))
    if tool is None:
        pytest.skip("pio (PlatformIO) is not installed")
    run([tool, "pkg", "pack", "-o", str(tmp_path / "library.tar.gz"), "."], folders["platformio"])
    packed = run(["tar", "tzf", "library.tar.gz"], tmp_path)
    assert "library.json" in packed and "src/mbx_recognizer.c" in packed and "include/spotter.h" in packed


@needs_gcc
@pytest.mark.parametrize("name", ["platformio", "zephyr", "esp-idf"])
def test_the_example_runs(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    main = next(path for path in folders[name].rglob("main.c"))
    sources = [str(folders[name] / unit) for unit in units(folders[name]) if unit.endswith(".c")]
    extra = []
    if name == "esp-idf":  # whose start-up calls app_main()
        (tmp_path / "start.c").write_text("void app_main(void);\nint main(void) { app_main(); return 0; }\n")
        extra = ["start.c"]
    flags = ["-std=gnu17", "-O1", *WARNINGS, *include_flags(folders[name])]
    run(["gcc", *flags, str(main), *extra, *sources, "-o", "listen"], tmp_path)
    said = run(["./listen"], tmp_path)
    assert re.search(r"^\w+ \d+/32768$", said, re.M), said


# --- Zephyr and ESP-IDF: their CMakeLists.txt, read by CMake, with the build system's functions in plain CMake ---

ZEPHYR_FUNCTIONS = """
set(CONFIG_MBX_SPOTTER y)
set(CMAKE_C_FLAGS "-std=c11 -ffreestanding -fno-strict-aliasing -Wall -Wformat -Werror -Os")
function(zephyr_include_directories)
  foreach(folder ${ARGN})
    get_filename_component(folder ${folder} ABSOLUTE)
    set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY INCLUDE_DIRECTORIES ${folder})
  endforeach()
endfunction()
macro(zephyr_library_named name)
  add_library(${name} STATIC "")
  set(ZEPHYR_CURRENT_LIBRARY ${name})
endmacro()
macro(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_include_directories)
  target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
"""
IDF_FUNCTIONS = """
set(CMAKE_C_FLAGS "-std=gnu17 -ffunction-sections -fdata-sections -Wall -Wextra -Werror=all -Wno-unused-parameter -Og")
macro(idf_component_register)
  cmake_parse_arguments(C "" "" "SRCS;INCLUDE_DIRS;PRIV_INCLUDE_DIRS;REQUIRES;PRIV_REQUIRES" ${ARGN})
  if(C_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${C_UNPARSED_ARGUMENTS}")
  endif()
  set(COMPONENT_LIB component)
  add_library(component STATIC ${C_SRCS})
  target_include_directories(component PUBLIC ${C_INCLUDE_DIRS} PRIVATE ${C_PRIV_INCLUDE_DIRS})
endmacro()
"""


@needs_arm
@needs_cmake
@pytest.mark.parametrize(("name", "functions"), [("zephyr", ZEPHYR_FUNCTIONS), ("esp-idf", IDF_FUNCTIONS)])
def test_its_cmake_file_builds_the_library(name: str, functions: str, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nset(CMAKE_SYSTEM_NAME Generic)\n"
        "set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)\nset(CMAKE_C_COMPILER arm-none-eabi-gcc)\n"
        f"set(CMAKE_ASM_COMPILER arm-none-eabi-gcc)\nproject(check C ASM)\nadd_compile_options({' '.join(M4)})\n"
        f'{functions}\nadd_subdirectory("{folders[name]}" module)\n'
    )
    run(["cmake", "-B", "build"], tmp_path)
    run(["cmake", "--build", "build"], tmp_path)
    library = next((tmp_path / "build").rglob("*.a"))
    symbols = run(["arm-none-eabi-nm", str(library)], tmp_path)
    assert re.search(r" T spotter_run$", symbols, re.M) and re.search(r" T mbx_feed$", symbols, re.M)


def test_zephyrs_kconfig_and_module(folders: dict[str, Path], tmp_path: Path) -> None:
    kconfiglib = pytest.importorskip("kconfiglib", reason="kconfiglib is not installed")
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    folder = folders["zephyr"]
    kconfig = kconfiglib.Kconfig(str(folder / "Kconfig"), warn_to_stderr=False)
    assert kconfig.syms["MBX_SPOTTER"].str_value == "n"
    kconfig.load_config(str(folder / "samples/listen/prj.conf"), replace=False)
    assert kconfig.syms["MBX_SPOTTER"].str_value == "y"
    assert all("MAIN_STACK_SIZE" in warning for warning in kconfig.warnings)  # Zephyr's own
    module = yaml.safe_load((folder / "zephyr/module.yml").read_text())
    assert module.keys() == {"name", "build", "samples"}  # of those that Zephyr's schema knows (zephyr_module.py)
    assert module["build"].keys() == {"cmake", "kconfig"} and isinstance(module["samples"], list)
    assert (folder / module["build"]["kconfig"]).is_file()
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert all((folder / sample / "listen/prj.conf").is_file() for sample in module["samples"])
    assert "sample.spotter.listen" in yaml.safe_load((folder / "samples/listen/sample.yaml").read_text())["tests"]


def test_the_component_manifest(folders: dict[str, Path]) -> None:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    values = yaml.safe_load((folders["esp-idf"] / "idf_component.yml").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", values["version"]) and values["dependencies"] == {"idf": ">=5.0"}
    tool = find_tool("compote") or find_tool(str(Path(sys.executable).with_name("compote")))
    if tool is None:
        pytest.skip("compote (idf-component-manager) is not installed")
    run([tool, "manifest", "lint", str(folders["esp-idf"] / "idf_component.yml")], folders["esp-idf"])


# --- the command line ---


def test_the_command(tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mbx_deploy", *words]
        return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)

    folder = str(tmp_path / "a")
    report = json.loads(call("build", "--target", "cortex-m4", "--layout", "arduino", "-o", folder, "--json").stdout)
    assert report["layout"] == "arduino" and report["elf"] is None
    done = call("build", "--target", "cortex-m4", "--layout", "eclipse")
    assert done.returncode == 2 and "eclipse" in done.stderr
    done = call("run", folder, "x.wav")
    assert done.returncode == 2 and "arduino, is compiled by its own tools" in done.stderr
