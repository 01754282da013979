"""The generated C as WebAssembly, as a build for the browser holds it: by wasmtime or node, where no browser is.

A page gives the same bytes: it is the same module, and the page's tests ask Chromium for them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES, generate_project
from mbx_deploy.codegen.target import find_target
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
from mbx_deploy.errors import ToolMissing
from mbx_deploy.firmware.compile import compile_project, missing_tools
from mbx_deploy.system.cache import cached
from mbx_deploy.system.tools import run_tool
from mbx_deploy.system.webassembly import find_runtime, module_answer

BROWSER = "browser"


class BrowserEngine:
    """A module, in wasmtime or in node."""

    name = "browser"

    def __init__(self, model: CompiledModel, module: Path, runtime: str | None = None) -> None:
        """module: the .wasm of a build. runtime: webassembly.WASMTIME or NODE; without it what is here.

        Raises ToolMissing where neither is.
        """
        self.model = model
        self.module = module.absolute()
        self.runtime = runtime or find_runtime()

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the module fails or hangs."""
        need_items(self.model, items)
        answer = module_answer(self.module, encode_request(items, trace), clips_of(items), self.runtime)
        return decode_response(answer, self.model, len(items))


def compile_module(model: CompiledModel) -> Path:
    """Return the path of a model's module, compiled once and kept by the digest of its sources.

    Raises ToolMissing without clang, wasm-ld or CMake, InputError for a network alone.
    """
    target = find_target(BROWSER)
    missing = missing_tools(target)
    if missing:
        raise ToolMissing(
            f"{' and '.join(missing)} not installed (needed to compile WebAssembly)",
            "mbx-deploy doctor names the line that installs it",
        )
    stride = min(DEFAULT_STRIDE_FRAMES, model.hearing.config.audio_frames if model.hearing else DEFAULT_STRIDE_FRAMES)
    project = generate_project(model, target, stride_frames=stride)
    version = run_tool(["clang", "-dumpversion"], what="asking clang for its version").stdout
    key = hashlib.sha256(repr((sorted(project.items()), version)).encode()).hexdigest()

    def make() -> bytes:
        module = compile_project(project, target)[0][target.program_name]
        assert isinstance(module, bytes)
        return module

    return cached(key[:32], ".wasm", make)
