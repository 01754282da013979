"""The generated C, compiled for this machine, with the session's protocol on its standard streams."""

from collections.abc import Sequence
from pathlib import Path

from mbx_deploy.codegen.layouts import SOURCE_FOLDERS
from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES, Files, generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.codegen.templates import session_main
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.session import (
    TRACE_RESULTS,
    Item,
    Result,
    clips_of,
    decode_response,
    encode_request,
    need_items,
)
from mbx_deploy.system.emulator import host_answer
from mbx_deploy.system.tools import compile_program


class ProgramEngine:
    """The program of a build for this machine, as it was built."""

    name = "firmware"

    def __init__(self, model: CompiledModel, program: Path) -> None:
        """program: the build's executable."""
        self.model = model
        self.program = program.absolute()

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the program fails."""
        need_items(self.model, items)
        answer = host_answer(self.program, encode_request(items, trace), clips_of(items))
        return decode_response(answer, self.model, len(items))


class HostEngine(ProgramEngine):
    """The generated C, compiled here."""

    name = "c"

    def __init__(self, model: CompiledModel, files: Files | None = None, flags: Sequence[str] = ("-O3",)) -> None:
        """files: a generated project, for any target; without it, one is generated. flags: for gcc.

        Raises ToolMissing without gcc.
        """
        super().__init__(model, compile_program(_sources(model, files), flags))


def _sources(model: CompiledModel, files: Files | None) -> dict[str, str]:
    """Return {path: text} of the C of a program for this machine."""
    stride = DEFAULT_STRIDE_FRAMES
    if model.hearing is not None:
        stride = min(stride, model.hearing.config.audio_frames)
    host = generate_project(model, find_target("host"), stride_frames=stride)
    if files is not None:
        # Its own main() may serve a port or a microphone, which this machine has not.
        prefixes = [Path(name).stem for name in files if name.startswith("include/")]
        host = {name: text for name, text in host.items() if name.startswith("board/")}
        if prefixes:
            host["board/main.c"] = session_main(prefixes[0], model.hearing is not None)
        elif "board/main.c" in files:
            host["board/main.c"] = files["board/main.c"]
        host |= {name: text for name, text in files.items() if name.startswith(SOURCE_FOLDERS)}
    return {name: text for name, text in host.items() if isinstance(text, str) and name.endswith((".c", ".h"))}
