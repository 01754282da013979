"""The firmware of a build: in QEMU, for the host as the program that it is, for the browser as WebAssembly."""

from collections.abc import Sequence
from pathlib import Path

from mbx_deploy.codegen.target import EMULATOR_ELF_NAME, HOST, WASM, Target, find_target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.browser import BrowserEngine
from mbx_deploy.engines.c import ProgramEngine
from mbx_deploy.engines.session import (
    TRACE_RESULTS,
    Item,
    Result,
    clips_of,
    decode_response,
    encode_request,
    need_items,
)
from mbx_deploy.errors import ToolMissing
from mbx_deploy.firmware.folder import Build
from mbx_deploy.system.emulator import need_emulator, qemu_answer


class FirmwareEngine:
    """The ELF of a build, in QEMU."""

    name = "firmware"

    def __init__(self, model: CompiledModel, elf: Path, target: Target, plugin: str | None = None) -> None:
        """elf: of a build. A board's library runs on the machine of its CPU target, in the ELF beside the board's.
        plugin: QEMU's argument of that name.

        Raises ToolMissing where QEMU is not installed, or the target has no emulator.
        """
        if target.emulated_as is not None:
            elf, target = elf.with_name(EMULATOR_ELF_NAME), find_target(target.emulated_as)
        if target.machine is None:
            raise ToolMissing(f"the target {target.name} has no emulator", "flash it, or build for another target")
        self.model = model
        self.elf = elf.absolute()
        self.machine = target.machine
        self.options = ["-plugin", plugin] if plugin else []
        self.emulator = need_emulator()

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the firmware fails or hangs."""
        need_items(self.model, items)
        request = encode_request(items, trace)
        answer = qemu_answer(self.emulator, self.machine, self.elf, request, clips_of(items), self.options)
        return decode_response(answer, self.model, len(items))


def build_engine(build: Build) -> ProgramEngine | FirmwareEngine | BrowserEngine:
    """Return the engine of a build's firmware.

    Raises InputError for a build without one, ToolMissing as FirmwareEngine and BrowserEngine do.
    """
    if build.target.toolchain == WASM:
        return BrowserEngine(build.model, build.elf)
    if build.target.toolchain == HOST:
        return ProgramEngine(build.model, build.elf)
    return FirmwareEngine(build.model, build.elf, build.target)
