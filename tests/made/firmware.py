"""Firmware of many small networks: what all of a target have in common is compiled once."""

from collections.abc import Mapping
from pathlib import Path

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import RISCV, Target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.firmware import FirmwareEngine
from mbx_deploy.system.tools import run_tool

COMPILER = "arm-none-eabi-gcc"
PICOLIBC = "--specs=picolibc.specs"
INCLUDES = ("-Iinclude", "-Igenerated", "-Isrc", "-Iboard")
LINKER_FLAGS = ("-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", "-Wl,--fatal-warnings", "-Tlinker.ld")


def write_project(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Write the files of a project below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


class FirmwareBuilder:
    """Compiles projects of one target as their CMakeLists.txt does, with fewer steps."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.flags: tuple[str, ...] = ("-std=c99", target.optimization, *target.compile_flags)
        self.flags += ("-ffunction-sections", "-fdata-sections")
        self.compiler = f"{target.toolchain}-gcc"
        self.linker_flags: tuple[str, ...] = LINKER_FLAGS
        if target.toolchain == RISCV:
            self.flags += (PICOLIBC,)
            self.linker_flags = tuple(flag for flag in LINKER_FLAGS if not flag.startswith("--specs"))
        self.common: dict[str, str | bytes] = {}
        self.count = 0

    def engine(self, recognizer: CompiledModel) -> FirmwareEngine:
        """Return the engine of a network's firmware."""
        self.count += 1
        folder = self.folder / str(self.count)
        files = generate_project(recognizer, self.target, stride_frames=1)
        write_project(files, folder)
        common = {name: text for name, text in files.items() if name.startswith(("src/", "board/"))}
        del common["board/main.c"]
        new = [name for name in common if name not in self.common]
        self.common = common | self.common
        assert all(self.common[name] == text for name, text in common.items())
        self._compile(folder, [name for name in new if name.endswith((".c", ".S"))])
        own = [name for name in files if name.endswith(".c") and name not in common]
        objects = [str(path) for path in sorted((self.folder / "common").glob("*.o"))]
        command = [self.compiler, *self.flags, *INCLUDES, *own, *objects, *self.linker_flags, "-o", "firmware.elf"]
        run_tool(command, cwd=folder, what="compiling a network")
        return FirmwareEngine(recognizer, folder / "firmware.elf", self.target)

    def _compile(self, folder: Path, units: list[str]) -> None:
        if not units:
            return
        objects = self.folder / "common"
        objects.mkdir(exist_ok=True)
        includes = [f"-I{folder / include[2:]}" for include in INCLUDES]
        command = [self.compiler, *self.flags, *includes, "-c", *(str(folder / unit) for unit in units)]
        run_tool(command, cwd=objects, what="compiling the runtime")
