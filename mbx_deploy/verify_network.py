"""Runs the engines side by side on a network without a front end: random inputs and the user's own."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy import network_session
from mbx_deploy.engines import Engine, host_answer, make_interpreter, qemu_answer
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.network import Network
from mbx_deploy.network_build import NetworkBuild
from mbx_deploy.network_project import generate_network_project
from mbx_deploy.network_session import NO_POSTERIORS
from mbx_deploy.passes import call_name
from mbx_deploy.session import ITEM_FEATURES, TRACE_RESULTS, Item, Result
from mbx_deploy.sim import model as sim_model
from mbx_deploy.target import find_target
from mbx_deploy.toolchain import compile_program, need_tool
from mbx_deploy.verify import RANDOM_SEED, Comparison, NamedItem, Progress, compare_engines, open_engines

RANDOM_INPUTS = 20
MAX_INPUTS_BYTES = 256 << 20


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

    def __init__(self, build: NetworkBuild) -> None:
        """Raises ToolMissing where QEMU is not installed, or the target has no emulator."""
        if build.target.machine is None:
            raise ToolMissing(f"the target {build.target.name} has no emulator", "build for another target")
        self.build = build
        self.machine = build.target.machine
        self.elf = build.elf.absolute()
        self.emulator = need_tool("qemu-system-arm", "run firmware")

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the one result of each item. Raises CheckFailed where the firmware fails or hangs."""
        request = network_session.encode_request(items, trace)
        answer = qemu_answer(self.emulator, self.machine, self.elf, request, len(items))
        return network_session.decode_response(answer, self.build.network, len(items))


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


def read_inputs(path: Path, network: Network) -> np.ndarray:
    """Return the inputs of an .npy file, int8 (N, *the model's input shape without its batch).

    Raises InputError for a file that can't be read, or of another type or shape.
    """
    shape = network.input.shape
    need = f"int8 (N, {', '.join(str(length) for length in shape[1:])})"
    hint = f"save one with numpy.save: {need}"
    try:
        if path.stat().st_size > MAX_INPUTS_BYTES:
            raise InputError(f"the inputs are too many ({path}): need at most {MAX_INPUTS_BYTES >> 20} MiB")
        values = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"can't read the inputs ({path}): {(error.strerror or str(error)).lower()}") from None
    except (ValueError, EOFError, struct.error, SyntaxError, MemoryError) as error:
        raise InputError(
            f"the inputs are no .npy file ({path}): {error}", f"save one with numpy.save: {need}"
        ) from None
    if not isinstance(values, np.ndarray):
        raise InputError(f"the inputs are no .npy file ({path}): an .npz?", hint)
    fits = values.dtype == np.int8 and values.ndim >= 1 and len(values) > 0
    if not fits or values.shape[1:] not in (shape[1:], shape):
        got = f"{values.dtype} {values.shape}"
        raise InputError(f"the inputs do not fit the network ({path}): got {got}, need {need}")
    return values.reshape(-1, *shape[1:])


def network_items(network: Network, inputs: np.ndarray | None) -> list[NamedItem]:
    """Return uniform noise, constants, a ramp and the user's inputs; the same for the same network."""
    shape = network.input.shape
    random = np.random.default_rng(RANDOM_SEED)
    values = {f"random input {i}": random.integers(-128, 128, shape) for i in range(RANDOM_INPUTS)}
    values |= {f"all {value}": np.full(shape, value) for value in (-128, network.input.zero_point, 127)}
    values["a ramp"] = (np.arange(network.input.size) % 256 - 128).reshape(shape)
    values |= {f"input {i}": row for i, row in enumerate(inputs if inputs is not None else ())}
    return [NamedItem(name, Item(ITEM_FEATURES, row.astype(np.int8).ravel())) for name, row in values.items()]


def verify_network_build(
    build: NetworkBuild, inputs: np.ndarray | None = None, progress: Progress = lambda done, of: None
) -> Comparison:
    """Return how the engines compare, every byte of every layer and of the output. inputs: from read_inputs()."""
    network = build.network

    def firmware() -> Engine:
        if build.target.toolchain == "host":
            return NetworkProgram("firmware", network, build.elf)
        return NetworkFirmware(build)

    makers: dict[str, Callable[[], Engine]] = {
        "c": lambda: NetworkProgram("c", network, compile_host(network, build.files)),
        "firmware": firmware,
        "tflm": lambda: NetworkTflm(network),
    }
    engines, skipped = open_engines(NetworkSim(network), makers)
    items = network_items(network, inputs)
    comparison = Comparison(0, len(items), 0, [engine.name for engine in engines], skipped)
    compare_engines(engines, items, comparison, progress)
    return comparison
