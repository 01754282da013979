"""Runs a generated program: for this machine on its standard streams, firmware in QEMU by semihosting."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from mbx_deploy.errors import CheckFailed
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import need_tool

EMULATOR_START_S = 60.0
EMULATOR_CLIP_S = 60.0  # some 50 times what a clip takes on an idle core
HOST_START_S = 60.0
HOST_CLIP_S = 10.0
RESPONSE_FILE = "mbx-response.bin"


def need_emulator(why: str = "run firmware") -> str:
    """Return the path of QEMU for Arm. why: what it is needed to do. Raises ToolMissing where it is not installed."""
    return need_tool("qemu-system-arm", why)


def emulator_command(emulator: str, machine: str, elf: Path, options: Sequence[str] = ()) -> list[str]:
    """Return the command that runs an ELF on a machine of QEMU's, its streams being files where it runs."""
    command = [emulator, "-M", machine, "-nographic", "-monitor", "none", "-serial", "none"]
    return [*command, "-semihosting-config", "enable=on,target=native", "-kernel", str(elf), *options]


def host_answer(program: Path, request: bytes, items: int) -> bytes:
    """Return what a program for this machine answers to a request. Raises CheckFailed where it fails or hangs."""
    limit = HOST_START_S + HOST_CLIP_S * items
    try:
        done = subprocess.run([str(program)], input=request, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the program for this machine did not end within {limit:.0f} s") from None
    if done.returncode != 0:
        raise CheckFailed(_failure("the program for this machine", done.returncode, done.stderr))
    return done.stdout


def qemu_answer(
    emulator: str, machine: str, elf: Path, request: bytes, items: int, options: Sequence[str] = ()
) -> bytes:
    """Return what an ELF answers to a request, in QEMU. options: further ones of QEMU.

    Raises CheckFailed where it fails or hangs.
    """
    with scratch_folder() as folder:
        (Path(folder) / "mbx-request.bin").write_bytes(request)
        command = emulator_command(emulator, machine, elf, options)
        limit = EMULATOR_START_S + EMULATOR_CLIP_S * items
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"the firmware did not end within {limit:.0f} s ({machine})") from None
        if done.returncode != 0:
            raise CheckFailed(_failure(f"the firmware in {machine}", done.returncode, done.stderr))
        response = Path(folder) / RESPONSE_FILE
        return response.read_bytes() if response.exists() else b""


def _failure(what: str, code: int, output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f"{what} failed with exit code {code}" + (f": {lines[-1].strip()}" if lines else "")
