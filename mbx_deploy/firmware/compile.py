"""A generated project -> its firmware: CMake and the target's compiler, in a temporary folder."""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mbx_deploy.codegen.calls import SHIFT_FUNCTION, STEP_PREFIX
from mbx_deploy.codegen.target import EMULATOR_ELF_NAME, HOST, WASM, Target
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.image import FlashImage, read_flash_image, to_bin, to_hex, to_uf2
from mbx_deploy.firmware.stack import elf_sizes, stack_bound
from mbx_deploy.firmware.wasm import wasm_sizes
from mbx_deploy.system.files import cannot_write, write_folder
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import find_tool, run_tool

INDIRECT_FUNCTIONS = ("invoke", "observe", "mbx_session_observe", "keep_checksum", SHIFT_FUNCTION, f"{STEP_PREFIX}*")
INTERRUPT_PREFIX = "mbx_interrupt_"
RESET_FUNCTION = "mbx_reset"  # where a core begins, and main() is called
STACK_ASSERTION = "the RAM is too small for the data and the stack"  # what linker.ld.j2 asserts


def missing_tools(target: Target) -> list[str]:
    """Return the names of the programs that compiling for a target needs and that are not installed."""
    compilers = {HOST: ["gcc"], WASM: ["clang", "wasm-ld"]}.get(target.toolchain, [f"{target.toolchain}-gcc"])
    missing = [tool for tool in (*compilers, "cmake") if find_tool(tool) is None]
    if not find_tool("ninja") and not find_tool("make"):
        missing.append("make")
    return missing


def need_compiler(target: Target) -> None:
    """Raise ToolMissing unless a target can be compiled for here, which its budgets can't be checked without."""
    missing = missing_tools(target)
    if missing:
        raise ToolMissing(
            f"budgets of a firmware for {target.name} can't be checked: {' and '.join(missing)} not installed",
            "mbx-deploy doctor names the line that installs it",
        )


def compile_project(
    files: dict[str, str | bytes], target: Target, options: Sequence[str] = (), measured_stack: int | None = None
) -> tuple[dict[str, str | bytes], dict[str, int]]:
    """Return the ELF and its map, and sizes in bytes: the project's own CMakeLists.txt, run in a temporary folder.

    options: of CMake. measured_stack: bytes, where no bound is to be computed.
    """
    generator = "Ninja" if find_tool("ninja") else "Unix Makefiles"
    try:
        with scratch_folder() as temporary:
            source, binary, what = Path(temporary) / "project", Path(temporary) / "build", "configuring the project"
            write_folder(source, files)
            run_tool(["cmake", "-G", generator, "-S", str(source), "-B", str(binary), *options], what=what)
            jobs = str(os.cpu_count() or 1)
            run_tool(
                ["cmake", "--build", str(binary), "--parallel", jobs],
                what="compiling the project",
                explain=lambda output: too_large(output, target),
            )
            program = binary / target.program_name
            compiled = _sizes(program, target, measured_stack)
            made = (binary / name for name in (program.name, EMULATOR_ELF_NAME, "firmware.map"))
            results: dict[str, str | bytes] = {path.name: path.read_bytes() for path in made if path.exists()}
            return results | _images(program.read_bytes(), target), compiled
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from None


def _sizes(program: Path, target: Target, measured_stack: int | None) -> dict[str, int]:
    """Return bytes of a compiled program: flash, ram, code and, where the compiler tells it, stack."""
    if target.toolchain == WASM:
        return wasm_sizes(program.read_bytes())
    size_tool = "size" if target.toolchain == HOST else f"{target.toolchain}-size"
    table = run_tool([size_tool, "-A", str(program)], what="measuring the firmware").stdout
    compiled = elf_sizes(table)
    if measured_stack is None:
        graphs = [path.read_text() for path in sorted(program.parent.rglob("*.ci"))]
        root = "main" if target.toolchain == HOST else RESET_FUNCTION
        return compiled | {"stack_bound_bytes": stack_bound(graphs, INDIRECT_FUNCTIONS, root, INTERRUPT_PREFIX)}
    return compiled | {"stack_measured_bytes": measured_stack}


def too_large(output: str, target: Target) -> InputError | None:
    """Return the error that a linker's output tells of, where a firmware does not fit its target's flash or RAM."""
    memory = target.memory
    if memory is None:
        return None
    hint = "use fewer filters or a larger target"
    found = re.search(r"region `(FLASH|RAM)' overflowed by (\d+) bytes", output)
    if found:
        name, have = ("flash", memory.flash_bytes) if found[1] == "FLASH" else ("RAM", memory.ram_bytes)
        need = f"need {have + int(found[2]):,} bytes{'' if name == 'flash' else ' without the stack'}"
        return InputError(f"the firmware does not fit the {name} of {target.name}: {need}, have {have:,}", hint)
    if STACK_ASSERTION in output:
        room = f"have {memory.ram_bytes:,} bytes, {memory.stack_bytes:,} of them for the stack"
        return InputError(f"the firmware and its stack do not fit the RAM of {target.name}: {room}", hint)
    return None


def _images(elf: bytes, target: Target) -> dict[str, str | bytes]:
    """Return the files that the target's tools write to its flash, by name."""
    makers: dict[str, Callable[[FlashImage], str | bytes]] = {"bin": to_bin, "hex": to_hex, "uf2": to_uf2}
    if not target.images:  # a program for this machine is no image of a flash
        return {}
    image = read_flash_image(elf)
    return {f"firmware.{kind}": makers[kind](image) for kind in target.images}


def check_compiled(compiled: dict[str, int], target: Target) -> None:
    """Raise InputError where what a compiled firmware needs of the stack is not there."""
    if target.memory is None or "stack_bound_bytes" not in compiled:
        return
    need, have = compiled["stack_bound_bytes"], target.memory.stack_bytes
    if need > have:
        raise InputError(
            f"the firmware does not fit the stack of {target.name}: need {need:,} bytes, have {have:,}",
            "raise stack_bytes in the target's file",
        )
