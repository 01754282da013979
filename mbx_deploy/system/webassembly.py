"""Runs a compiled WebAssembly module, that of a build for the browser, where no browser is: by wasmtime, or by node."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from mbx_deploy.errors import CheckFailed, ToolMissing
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import find_tool

WASMTIME, NODE = "wasmtime", "node"
START_S = 60.0
CLIP_S = 10.0


def find_runtime() -> str:
    """Return what runs a module here, WASMTIME or NODE. Raises ToolMissing where neither is installed."""
    try:
        import wasmtime  # noqa: F401

        return WASMTIME
    except ImportError:
        if find_tool(NODE):
            return NODE
    raise ToolMissing(
        "neither wasmtime nor node is installed (needed to run WebAssembly)", "install one: pip install wasmtime"
    )


def module_answer(module: Path, request: bytes, items: int, runtime: str) -> bytes:
    """Return what a module answers to a request, in a process of its own.

    Raises CheckFailed where it traps, hangs, or is no module of ours.
    """
    node = [NODE, str(firmware_templates_folder() / "browser" / "engine.mjs")]
    command = [*(node if runtime == NODE else (sys.executable, "-m", __name__)), str(module)]
    limit = START_S + CLIP_S * items
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the module did not end within {limit:.0f} s ({runtime})") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        why = next((line for line in lines if "Error" in line or "trap" in line), lines[-1] if lines else "no output")
        raise CheckFailed(f"the module failed in {runtime} with exit code {done.returncode}: {why.strip()}")
    return done.stdout


class Module:
    """An instance of a module in wasmtime. Its functions are called by name; its memory is read and written."""

    def __init__(self, data: bytes) -> None:
        """Raises ToolMissing without wasmtime, CheckFailed for what is no module of ours."""
        try:
            import wasmtime
        except ImportError:
            hint = "install it: pip install 'mbx-deploy[browser]'"
            raise ToolMissing("the package wasmtime is not installed (needed to run WebAssembly)", hint) from None
        self.request, self.place, self.written = b"", 0, list[bytes]()
        number = wasmtime.ValType.i32()
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        kind = wasmtime.FuncType([number, number], [number])
        linker.define_func("session", "read", kind, self._read, access_caller=True)
        linker.define_func("session", "write", kind, self._write, access_caller=True)
        try:
            self._exports = linker.instantiate(self._store, wasmtime.Module(engine, data)).exports(self._store)
            self.memory: Any = self._exports["memory"]
        except (wasmtime.WasmtimeError, KeyError) as error:
            raise CheckFailed(f"the module is not one of ours: {str(error).splitlines()[0]}") from None

    def call(self, name: str, *arguments: int) -> int:
        """Return what a function of the module returns, as it is there: unsigned for addresses and counts.

        Raises CheckFailed where the module has no such function, or traps in it.
        """
        import wasmtime

        try:
            function: Any = self._exports[name]
            return int(function(self._store, *arguments))
        except KeyError:
            raise CheckFailed(f"the module is not one of ours: it has no {name}") from None
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            raise CheckFailed(f"the module failed in {name}: {str(error).splitlines()[-1].strip()}") from None

    def read(self, start: int, count: int) -> bytes:
        """Return count bytes of its memory."""
        return bytes(self.memory.read(self._store, start, start + count))

    def write(self, start: int, data: bytes) -> None:
        """Put bytes into its memory."""
        self.memory.write(self._store, data, start)

    def serve(self, request: bytes) -> bytes:
        """Return what it answers to a request of a session. Raises CheckFailed where it refuses it."""
        self.request, self.place, self.written = request, 0, []
        if self.call("mbx_serve") != 0:
            raise CheckFailed("the module refuses the request")
        return b"".join(self.written)

    def _read(self, caller: Any, to: int, count: int) -> int:
        if self.place + count > len(self.request):
            return 0
        caller["memory"].write(caller, self.request[self.place : self.place + count], to)
        self.place += count
        return 1

    def _write(self, caller: Any, start: int, count: int) -> int:
        self.written.append(bytes(caller["memory"].read(caller, start, start + count)))
        return 1


def _main() -> int:
    """Serve one request: the module's path is the argument, its streams are this process's."""
    try:
        module = Module(Path(sys.argv[1]).read_bytes())
        sys.stdout.buffer.write(module.serve(sys.stdin.buffer.read()))
    except CheckFailed as error:
        print(f"Error: {error.what}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
