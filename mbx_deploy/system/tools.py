"""Finds and runs compilers and emulators."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from mbx_deploy.errors import MbxError, ToolMissing
from mbx_deploy.system.cache import cached
from mbx_deploy.system.files import cannot_write
from mbx_deploy.system.scratch import process_folder, scratch_folder

C_STANDARD_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")

INSTALL_HINTS = {
    "gcc": "apt-get install gcc",
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "riscv64-unknown-elf-gcc": "apt-get install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "qemu-system-riscv32": "apt-get install qemu-system-misc",
    "cmake": "apt-get install cmake",
    "ninja": "apt-get install ninja-build",
    "qemu-system-arm": "apt-get install qemu-system-arm",
}


def find_tool(name: str) -> str | None:
    """Return the path of a program, or None where it is not installed."""
    return shutil.which(name)


def need_tool(name: str, purpose: str) -> str:
    """Return the path of a program. Raises ToolMissing with the line that installs it."""
    path = find_tool(name)
    if path is None:
        hint = INSTALL_HINTS.get(name)
        raise ToolMissing(f"{name} is not installed (needed to {purpose})", hint and f"install it: {hint}")
    return path


def run_tool(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    timeout_s: float = 600.0,
    what: str = "the command",
    explain: Callable[[str], MbxError | None] = lambda output: None,
) -> subprocess.CompletedProcess[str]:
    """Return the finished process of a command that succeeded.

    Raises what explain makes of its output where it failed, else MbxError with the first line of it that tells of an
    error; MbxError, too, where it took longer than timeout_s, and InputError where TMPDIR can't be written.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            env={**os.environ, "TMPDIR": str(process_folder())},  # what a compiler leaves that is killed
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MbxError(f"{what} took longer than {timeout_s:.0f} s ({Path(command[0]).name})") from None
    except OSError as error:
        raise cannot_write(Path(error.filename or command[0]), error) from None
    if done.returncode != 0:
        known = explain(done.stdout + done.stderr)
        if known is not None:
            raise known
        output = (done.stdout + done.stderr).strip().splitlines()
        summaries = ("being treated as errors", "returned 1 exit status")
        errors = [line for line in output if "error" in line.lower() and not any(s in line for s in summaries)]
        first = (errors or output or ["no output"])[0].strip()
        hint = "mbx-deploy doctor tells which versions of the tools are here"
        raise MbxError(f"{what} failed ({Path(command[0]).name}, exit code {done.returncode}): {first}", hint)
    return done


def compile_shared_library(sources: dict[str, str], flags: Sequence[str] = ("-O3",)) -> Path:
    """Return the path of a shared library for this machine, compiled once and kept by the digest of its sources.

    sources: {relative path: text}; the .c files among them are compiled one by one, and linked.
    Raises ToolMissing where there is no gcc.
    """
    return _compile(sources, (*flags, "-shared", "-fPIC"), ".so")


def compile_program(sources: dict[str, str], flags: Sequence[str] = ("-O3",)) -> Path:
    """Return the path of a program for this machine; as compile_shared_library()."""
    return _compile(sources, tuple(flags), ".elf")


def _compile(sources: dict[str, str], flags: Sequence[str], suffix: str) -> Path:
    what = "compiling the C engine for this machine"
    compiler = need_tool("gcc", "compile the C engine for this machine")
    version = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True, check=False).stdout
    key = hashlib.sha256(repr((sorted(sources.items()), tuple(flags), version, os.uname().machine)).encode())

    def make() -> bytes:
        units = sorted(name for name in sources if name.endswith(".c"))
        includes = [f"-I{name}" for name in sorted({os.path.dirname(name) or "." for name in sources})]
        objects = [f"{number}.o" for number in range(len(units))]
        compile_one = [compiler, *C_STANDARD_FLAGS, *flags, *includes, "-c", "-o"]
        try:
            with scratch_folder() as folder:
                for name, text in sources.items():
                    path = folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
                for unit, compiled in zip(units, objects, strict=True):
                    run_tool([*compile_one, compiled, unit], cwd=folder, what=what)
                run_tool([compiler, *flags, "-o", "made", *objects], cwd=folder, what=what)
                return (folder / "made").read_bytes()
        except OSError as error:
            raise cannot_write(Path(error.filename or "a temporary folder"), error) from None

    return cached(key.hexdigest()[:32], suffix, make, program=suffix == ".elf")
