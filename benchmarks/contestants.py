"""Who is compared: the C of each, and its firmware: one program, one linker script and the same flags for all."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import MbxError
from mbx_deploy.system.tools import need_tool, run_tool

HERE = Path(__file__).parent
# gnu11: bakenn's C is C11, CMSIS-NN's has GNU's extensions.
COMMON_FLAGS = ("-std=gnu11", "-ffunction-sections", "-fdata-sections")
LINK_FLAGS = ("-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections")
# Of a project of ours: the program that serves inputs. The rest of it is the network.
_PROGRAM = ("board/", "src/mbx_network", "src/mbx_runtime.h", "src/mbx_taps.h")
BAKENN_NAMES = {
    "portable": "bakenn 1.0.0, portable",
    "smlad": "bakenn 1.0.0, its SMLAD kernels",
    "cmsis_nn": "bakenn 1.0.0, CMSIS-NN 4.0.0",
}


@dataclass(frozen=True)
class Contestant:
    """name: for the table. sources, includes: paths. defines: as the compiler takes them."""

    name: str
    sources: tuple[Path, ...]
    includes: tuple[Path, ...]
    defines: tuple[str, ...] = ()


def write_ours(name: str, network: CompiledModel, target: Target, folder: Path) -> Contestant:
    """Return mbx-deploy's project of a network, written to a folder."""
    return _in_folder(name, folder, generate_project(network, target))


def write_empty(network: CompiledModel, target: Target, folder: Path) -> Contestant:
    """Return the program around a network that does nothing: what is to be taken off the others' bytes."""
    return _in_folder("empty", folder, _program(network, target), HERE / "firmware" / "empty")


def write_bakenn(python: Path, network: CompiledModel, target: Target, folder: Path) -> list[Contestant]:
    """Return what bakenn generates from a network, for each way to choose its kernels that it has for the core.

    python: of the environment that bakenn is installed in. Raises MbxError where bakenn refuses the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.tflite"
    model.write_bytes(network.data)
    command = [str(python), str(HERE / "bakenn_generate.py"), str(model), target.cpu, str(folder / "generated")]
    names = json.loads(run_tool(command, what="compiling with bakenn").stdout)
    found = []
    for name in names:
        program = _in_folder(name, folder / f"program_{name}", _program(network, target), HERE / "firmware" / "bakenn")
        generated = folder / "generated" / name
        lists = _read_cmake_lists(generated / "bakenn_sources.cmake")
        found.append(
            Contestant(
                BAKENN_NAMES[name],
                (*program.sources, *(generated / path for path in lists["SOURCES"])),
                (*program.includes, *(generated / path for path in lists["INCLUDE_DIRS"])),
                tuple(f"-D{macro}" for macro in lists["COMPILE_DEFINITIONS"]),
            )
        )
    return found


def _program(network: CompiledModel, target: Target) -> dict[str, str | bytes]:
    files = generate_project(network, target)
    return {name: text for name, text in files.items() if name.startswith(_PROGRAM) or name == "linker.ld"}


def _in_folder(name: str, folder: Path, files: dict[str, str | bytes], wrapper: Path | None = None) -> Contestant:
    """Return a project that was written to a folder. wrapper: the folder of kws.c and kws.h, if not among the files."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    sources = [folder / path for path in sorted(files) if path.endswith((".c", ".S"))]
    folders = sorted({(folder / path).parent for path in files if path.endswith(".h")})
    if wrapper:
        sources, folders = [*sources, wrapper / "kws.c"], [*folders, wrapper]
    return Contestant(name, tuple(sources), tuple(folders))


def _read_cmake_lists(path: Path) -> dict[str, list[str]]:
    """Return the lists that bakenn_sources.cmake sets, by the end of their names; paths relative to its folder."""
    found = {}
    for name, body in re.findall(r"set\(BAKENN_MODEL_(\w+)\s(.*?)\)", path.read_text(), re.DOTALL):
        found[name] = [word.strip('"').removeprefix("${CMAKE_CURRENT_LIST_DIR}/") for word in body.split()]
    missing = {"SOURCES", "INCLUDE_DIRS", "COMPILE_DEFINITIONS"} - found.keys()
    if missing:
        raise MbxError(f"bakenn's file list is of another format ({path.name}): got no {', '.join(sorted(missing))}")
    return found


def link(contestant: Contestant, target: Target, optimization: str, elf: Path, linker_script: Path) -> None:
    """Compile and link a contestant's firmware."""
    compiler = need_tool(f"{target.toolchain}-gcc", "compile the firmware")
    flags = [*target.compile_flags, optimization, *COMMON_FLAGS, *contestant.defines]
    includes = [f"-I{path}" for path in contestant.includes]
    sources = [str(path) for path in contestant.sources]
    run_tool(
        [compiler, *flags, *includes, *LINK_FLAGS, f"-T{linker_script}", "-o", str(elf), *sources],
        what=f"compiling {contestant.name}",
    )


def make_bakenn_environment(folder: Path) -> Path:
    """Return the Python of an environment with bakenn in it, made once. Raises MbxError where it can't be installed."""
    python, wanted = folder / "bin" / "python", HERE / "bakenn-requirements.txt"
    ready = folder / "ready.txt"
    if not ready.is_file() or ready.read_text() != wanted.read_text():
        run_tool([sys.executable, "-m", "venv", "--clear", str(folder)], what="making bakenn's environment")
        run_tool([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], what="installing bakenn")
        ready.write_text(wanted.read_text())
    return python
