"""The engines of a network without a front end: each takes int8 inputs, and gives the same bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.codegen.network_project import generate_network_project
from mbx_deploy.codegen.target import Target, find_target
from mbx_deploy.compiler.lower import call_name
from mbx_deploy.compiler.network_model import Network
from mbx_deploy.engines import network_session
from mbx_deploy.engines.c import host_answer, make_interpreter, qemu_answer
from mbx_deploy.engines.network_session import NO_POSTERIORS
from mbx_deploy.engines.session import TRACE_RESULTS, Item, Result
from mbx_deploy.errors import ToolMissing
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.system.tools import compile_program, need_tool


class NetworkSim:
    """The numpy simulator."""

    name = "sim"

    def __init__(self, network: Network) -> None:
        self.network = network

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the one result of each item."""
        return [[self._run(item.values, trace)] for item in items]

    def _run(self, values: np.ndarray, trace: int) -> Result:
        stages: dict[str, np.ndarray] = {}
        output = sim_model.logits(values, self.network.program, stages.__setitem__ if trace else None)
        return Result(output, NO_POSTERIORS, stages)


class NetworkProgram:
    """A program for this machine: of the generated C, or of a build for the host."""

    def __init__(self, name: str, network: Network, program: Path) -> None:
        self.name = name
        self.network = network
        self.program = program.absolute()

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the one result of each item. Raises CheckFailed where the program fails."""
        answer = host_answer(self.program, network_session.encode_request(items, trace), len(items))
        return network_session.decode_response(answer, self.network, len(items))


class NetworkFirmware:
    """The ELF of a build, in QEMU."""

    name = "firmware"

    def __init__(self, network: Network, elf: Path, target: Target, plugin: str | None = None) -> None:
        """elf: of a build. plugin: QEMU's argument of that name.

        Raises ToolMissing where QEMU is not installed, or the target has no emulator.
        """
        if target.machine is None:
            raise ToolMissing(f"the target {target.name} has no emulator", "build for another target")
        self.network = network
        self.elf = elf.absolute()
        self.machine = target.machine
        self.options = ["-plugin", plugin] if plugin else []
        self.emulator = need_tool("qemu-system-arm", "run firmware")

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the one result of each item. Raises CheckFailed where the firmware fails or hangs."""
        request = network_session.encode_request(items, trace)
        answer = qemu_answer(self.emulator, self.machine, self.elf, request, len(items), self.options)
        return network_session.decode_response(answer, self.network, len(items))


class NetworkTflm:
    """TFLite Micro's interpreter, one that keeps every tensor."""

    name = "tflm"

    def __init__(self, network: Network) -> None:
        """Raises ToolMissing where tflite-micro is not installed, or does not take the model."""
        self.network = network
        self.tensors = {call_name(i, op): op.output for i, op in enumerate(network.network.ops)}
        try:
            self.interpreter = make_interpreter(network.data, keep_tensors=True)
        except RuntimeError as error:
            raise ToolMissing(f"TFLite Micro does not take the model: {error}") from None

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the one result of each item."""
        return [[self._run(item.values, trace)] for item in items]

    def _run(self, values: np.ndarray, trace: int) -> Result:
        program = self.network.program
        self.interpreter.set_input(np.ascontiguousarray(values.reshape(self.network.input.shape)), 0)
        self.interpreter.invoke()
        output = np.asarray(self.interpreter.get_output(0)).ravel().copy()
        stages: dict[str, np.ndarray] = {}
        for call in program.calls if trace else ():
            found: Any = self.interpreter.GetTensor(self.tensors[call.name], 0)["tensor_data"]
            stages[call.name] = np.asarray(found).reshape(program.buffers[call.output].shape).copy()
        return Result(output, NO_POSTERIORS, stages)


def compile_host(network: Network, files: dict[str, str | bytes], flags: Sequence[str] = ("-O3",)) -> Path:
    """Return a program for this machine of the C of a project for any target. Raises ToolMissing without gcc."""
    host = generate_network_project(network, find_target("host"), _prefix(files))
    chosen = {name: text for name, text in host.items() if name.startswith("board/")}
    chosen |= {name: text for name, text in files.items() if name.startswith(("src/", "generated/", "include/"))}
    sources = {name: text for name, text in chosen.items() if isinstance(text, str) and name.endswith((".c", ".h"))}
    return compile_program(sources, flags)


def _prefix(files: dict[str, str | bytes]) -> str:
    return next(Path(name).stem for name in files if name.startswith("include/"))
