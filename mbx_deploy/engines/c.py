"""The engines: each takes clips, streams or features, and gives results that must be the same bytes.

sim        the numpy simulator
c          the generated C, compiled for this machine
firmware   the generated C in its ELF, in QEMU
tflm       the TFLite Micro interpreter, on the simulator's features
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mbx_deploy.codegen.layouts import SOURCE_FOLDERS
from mbx_deploy.codegen.project import generate_project, session_main
from mbx_deploy.codegen.target import EMULATOR_ELF_NAME, Target, find_target
from mbx_deploy.compiler.lower import call_name
from mbx_deploy.compiler.model import Recognizer
from mbx_deploy.engines.session import (
    ITEM_CLIP,
    ITEM_FEATURES,
    TRACE_RESULTS,
    TRACE_STAGES,
    Item,
    Result,
    decode_response,
    encode_request,
)
from mbx_deploy.errors import CheckFailed, ToolMissing
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.sim.frontend import Observer
from mbx_deploy.sim.kernels import posteriors
from mbx_deploy.system.tools import compile_program, need_tool

EMULATOR_START_S = 60.0
EMULATOR_CLIP_S = 60.0  # some 50 times what a clip takes on an idle core
HOST_START_S = 60.0
HOST_CLIP_S = 10.0
TFLM_ARENA_BYTES = 4 << 20
DEFAULT_STRIDE_FRAMES = 25
ENGINES = ("sim", "c", "tflm", "float")


class Engine(Protocol):
    """Runs items of a recogniser. trace: how much of the road the results tell (session.TRACE_...)."""

    name: str

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item."""


class SimEngine:
    """The numpy simulator."""

    name = "sim"

    def __init__(self, recognizer: Recognizer, stride_frames: int = DEFAULT_STRIDE_FRAMES) -> None:
        """stride_frames: between the windows of a stream."""
        self.recognizer = recognizer
        self.stride_frames = stride_frames
        self.exponentials_q15 = sim_model.exponential_table(recognizer.program.output_scale)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Only a clip has the front end's stages."""
        return [self._run(item, trace) for item in items]

    def _run(self, item: Item, trace: int) -> list[Result]:
        stages: dict[str, np.ndarray] = {}
        observe = stages.__setitem__ if trace == TRACE_STAGES and item.kind == ITEM_CLIP else None
        return [self._infer(window, dict(stages), trace) for window in self.windows(item, observe)]

    def windows(self, item: Item, observe: Observer | None = None) -> np.ndarray:
        """Return the int8 features of each window of an item: (windows, num_frames, num_coefficients)."""
        program, tables, config = self.recognizer.program, self.recognizer.tables, self.recognizer.config
        if item.kind == ITEM_FEATURES:
            return item.values.reshape(1, config.num_frames, config.num_coefficients)
        if item.kind == ITEM_CLIP:
            return sim_model.features(pad_clip(item.values, self.recognizer), tables, program, observe)[None]
        return sim_model.stream_features(item.values, tables, program, self.stride_frames)

    def _infer(self, features: np.ndarray, stages: dict[str, np.ndarray], trace: int) -> Result:
        if trace:
            stages["features"] = features
        observe = stages.__setitem__ if trace else None
        logits = sim_model.logits(features, self.recognizer.program, observe)
        return Result(logits, posteriors(logits, self.exponentials_q15), stages)


def pad_clip(samples: np.ndarray, recognizer: Recognizer) -> np.ndarray:
    """Return a clip of the model's length: zeros behind a short one, the end of a long one cut off.

    The C does the same.
    """
    length = recognizer.config.clip_samples
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


class HostEngine:
    """The generated C, compiled for this machine with the session's protocol on its standard streams."""

    name = "c"

    def __init__(
        self, recognizer: Recognizer, files: dict[str, str | bytes] | None = None, flags: Sequence[str] = ("-O3",)
    ) -> None:
        """files: a generated project, for any target; without it, one is generated. flags: for gcc."""
        self.recognizer = recognizer
        stride = min(DEFAULT_STRIDE_FRAMES, recognizer.config.audio_frames)
        host = generate_project(recognizer, find_target("host"), stride_frames=stride)
        if files is not None:
            # Its own main() may serve a port or a microphone, which this machine has not.
            prefixes = [Path(name).stem for name in files if name.startswith("include/")]
            host = {name: text for name, text in host.items() if name.startswith("board/")}
            if prefixes:
                host["board/main.c"] = session_main(prefixes[0])
            elif "board/main.c" in files:
                host["board/main.c"] = files["board/main.c"]
            host |= {name: text for name, text in files.items() if name.startswith(SOURCE_FOLDERS)}
        sources = {name: text for name, text in host.items() if isinstance(text, str) and name.endswith((".c", ".h"))}
        self.program = compile_program(sources, flags)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the program fails."""
        answer = host_answer(self.program, encode_request(items, trace), len(items))
        return decode_response(answer, self.recognizer, len(items))


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


def _failure(what: str, code: int, output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f"{what} failed with exit code {code}" + (f": {lines[-1].strip()}" if lines else "")


class FirmwareEngine:
    """The ELF of a build, in QEMU."""

    name = "firmware"

    def __init__(self, recognizer: Recognizer, elf: Path, target: Target, plugin: str | None = None) -> None:
        """elf: of a build. A board's library runs on the machine of its CPU target, in the ELF beside the board's.
        plugin: QEMU's argument of that name.

        Raises ToolMissing where QEMU is not installed, or the target has no emulator.
        """
        if target.emulated_as is not None:
            elf, target = elf.with_name(EMULATOR_ELF_NAME), find_target(target.emulated_as)
        if target.machine is None:
            raise ToolMissing(f"the target {target.name} has no emulator", "flash it, or build for another target")
        self.recognizer = recognizer
        self.elf = elf.absolute()
        self.machine = target.machine
        self.options = ["-plugin", plugin] if plugin else []
        self.emulator = need_tool("qemu-system-arm", "run firmware")

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the firmware fails or hangs."""
        request = encode_request(items, trace)
        answer = qemu_answer(self.emulator, self.machine, self.elf, request, len(items), self.options)
        return decode_response(answer, self.recognizer, len(items))


def qemu_answer(
    emulator: str, machine: str, elf: Path, request: bytes, items: int, options: Sequence[str] = ()
) -> bytes:
    """Return what an ELF answers to a request, in QEMU. options: further ones of QEMU.

    Raises CheckFailed where it fails or hangs.
    """
    with tempfile.TemporaryDirectory(prefix="mbx-run-") as folder:
        (Path(folder) / "mbx-request.bin").write_bytes(request)
        command = [emulator, "-M", machine, "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(elf), *options]
        limit = EMULATOR_START_S + EMULATOR_CLIP_S * items
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            raise CheckFailed(f"the firmware did not end within {limit:.0f} s ({machine})") from None
        if done.returncode != 0:
            raise CheckFailed(_failure(f"the firmware in {machine}", done.returncode, done.stderr))
        response = Path(folder) / "mbx-response.bin"
        return response.read_bytes() if response.exists() else b""


class ProgramEngine(HostEngine):
    """The program of a build for this machine, as it was built."""

    name = "firmware"

    def __init__(self, recognizer: Recognizer, program: Path) -> None:
        """program: the build's executable."""
        self.recognizer = recognizer
        self.program = program.absolute()


class TflmEngine:
    """The TFLite Micro interpreter of the PyPI package tflite-micro.

    It takes features; those of clips are the simulator's.
    """

    name = "tflm"

    def __init__(self, recognizer: Recognizer, stride_frames: int = DEFAULT_STRIDE_FRAMES) -> None:
        """Raises ToolMissing where the package is not installed."""
        self.recognizer = recognizer
        self.front_end = SimEngine(recognizer, stride_frames)
        self._interpreters: dict[bool, Any] = {}

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Traced are the features and every layer."""
        return [
            [self._infer(window, trace != TRACE_RESULTS) for window in self.front_end.windows(item)] for item in items
        ]

    def _infer(self, features: np.ndarray, trace: bool) -> Result:
        recognizer = self.recognizer
        interpreter = self._interpreter(trace)
        interpreter.set_input(
            np.ascontiguousarray(features.reshape(recognizer.network.tensors[recognizer.network.input].shape)), 0
        )
        interpreter.invoke()
        logits = np.asarray(interpreter.get_output(0)).ravel().copy()
        stages = {}
        if trace:
            stages["features"] = features
            tensors = {call_name(i, op): op.output for i, op in enumerate(recognizer.network.ops)}
            for call in recognizer.program.calls:
                values = np.asarray(interpreter.GetTensor(tensors[call.name], 0)["tensor_data"])
                stages[call.name] = values.reshape(recognizer.program.buffers[call.output].shape).copy()
        return Result(logits, posteriors(logits, self.front_end.exponentials_q15), stages)

    def _interpreter(self, trace: bool) -> Any:
        """Return an interpreter; one that keeps every tensor shares no memory between layers."""
        if trace not in self._interpreters:
            self._interpreters[trace] = make_interpreter(self.recognizer.data, trace)
        return self._interpreters[trace]


def make_interpreter(data: bytes, keep_tensors: bool) -> Any:
    """Return TFLite Micro's interpreter of a model. keep_tensors: share no memory between layers.

    Raises ToolMissing where tflite-micro is not installed, RuntimeError for a model that it does not take.
    """
    runtime = _import_tflm()
    kind = runtime.InterpreterConfig
    config = kind.kPreserveAllTensors if keep_tensors else kind.kAllocationRecording
    return runtime.Interpreter.from_bytes(data, arena_size=TFLM_ARENA_BYTES, intrepreter_config=config)


def _import_tflm():  # type: ignore[no-untyped-def]
    try:
        with _quiet_stderr():
            from tflite_micro.python.tflite_micro import runtime
    except ImportError:
        hint = "install it: pip install 'mbx-deploy[verify]'"
        raise ToolMissing("the package tflite-micro is not installed (needed for the engine tflm)", hint) from None
    return runtime


class _quiet_stderr:
    """Keeps the start-up messages of a compiled library off the terminal."""

    def __enter__(self) -> None:
        self.kept = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)

    def __exit__(self, *_: object) -> None:
        os.dup2(self.kept, 2)
        os.close(self.kept)
