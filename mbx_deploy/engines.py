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
from typing import Protocol

import numpy as np

from mbx_deploy.codegen import generate_project
from mbx_deploy.errors import CheckFailed, ToolMissing
from mbx_deploy.recognizer import Recognizer
from mbx_deploy.session import (
    ITEM_CLIP,
    ITEM_FEATURES,
    TRACE_RESULTS,
    TRACE_STAGES,
    Item,
    Result,
    decode_response,
    encode_request,
)
from mbx_deploy.sim import model as sim_model
from mbx_deploy.sim.kernels import posteriors
from mbx_deploy.target import Target, find_target
from mbx_deploy.toolchain import compile_program, need_tool

EMULATOR_START_S = 60.0
EMULATOR_CLIP_S = 60.0  # some 50 times what a clip takes on an idle core
ENGINES = ("sim", "c", "tflm", "float")


class Engine(Protocol):
    """Runs items of a recogniser. trace: how much of the road the results tell (session.TRACE_...)."""

    name: str

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item."""


class SimEngine:
    """The numpy simulator."""

    name = "sim"

    def __init__(self, recognizer: Recognizer, stride_frames: int = 25) -> None:
        """stride_frames: between the windows of a stream."""
        self.recognizer = recognizer
        self.stride_frames = stride_frames
        self.exponentials_q15 = sim_model.exponential_table(recognizer.program.output_scale)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Only a clip has the front end's stages."""
        return [self._run(item, trace) for item in items]

    def _run(self, item: Item, trace: int) -> list[Result]:
        program, tables = self.recognizer.program, self.recognizer.tables
        stages: dict[str, np.ndarray] = {}
        if item.kind == ITEM_CLIP:
            observe = stages.__setitem__ if trace == TRACE_STAGES else None
            samples = pad_clip(item.values, self.recognizer)
            windows = sim_model.features(samples, tables, program, observe)[None]
        elif item.kind == ITEM_FEATURES:
            windows = item.values.reshape(1, *_feature_shape(self.recognizer))
        else:
            windows = sim_model.stream_features(item.values, tables, program, self.stride_frames)
        return [self._infer(window, dict(stages), trace) for window in windows]

    def _infer(self, features: np.ndarray, stages: dict[str, np.ndarray], trace: int) -> Result:
        if trace:
            stages["features"] = features
        observe = stages.__setitem__ if trace else None
        logits = sim_model.logits(features, self.recognizer.program, observe)
        return Result(logits, posteriors(logits, self.exponentials_q15), stages)


def pad_clip(samples: np.ndarray, recognizer: Recognizer) -> np.ndarray:
    """Return a clip of the model's length: zeros behind a short one, the end of a long one cut off. The C does the same."""
    length = recognizer.config.clip_samples
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _feature_shape(recognizer: Recognizer) -> tuple[int, int]:
    return recognizer.config.num_frames, recognizer.config.num_coefficients


class HostEngine:
    """The generated C, compiled for this machine with the session's protocol on its standard streams."""

    name = "c"

    def __init__(
        self, recognizer: Recognizer, files: dict[str, str | bytes] | None = None, flags: Sequence[str] = ("-O3",)
    ) -> None:
        """files: a generated project, for any target; without it, one is generated. flags: for gcc."""
        self.recognizer = recognizer
        host = generate_project(recognizer, find_target("host"))
        if files is not None:
            host = {name: text for name, text in host.items() if name.startswith("board/") and name != "board/main.c"}
            host |= {name: text for name, text in files.items() if _is_portable(name)}
        sources = {name: text for name, text in host.items() if isinstance(text, str) and name.endswith((".c", ".h"))}
        self.program = compile_program(sources, flags)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the program fails."""
        request = encode_request(items, trace)
        done = subprocess.run([str(self.program)], input=request, capture_output=True, check=False)
        if done.returncode != 0:
            raise CheckFailed(_failure("the program for this machine", done.returncode, done.stderr))
        return decode_response(done.stdout, self.recognizer, len(items))


def _is_portable(name: str) -> bool:
    session = name in ("board/main.c", "board/mbx_session.c", "board/mbx_session.h")
    return session or name.startswith(("src/", "generated/", "include/"))


def _failure(what: str, code: int, output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f"{what} failed with exit code {code}" + (f": {lines[-1].strip()}" if lines else "")


class FirmwareEngine:
    """The ELF of a build, in QEMU."""

    name = "firmware"

    def __init__(self, recognizer: Recognizer, elf: Path, target: Target) -> None:
        """Raises ToolMissing where QEMU is not installed, or the target has no emulator."""
        if target.machine is None:
            raise ToolMissing(f"the target {target.name} has no emulator", "flash it, or build for another target")
        self.recognizer = recognizer
        self.elf = elf.absolute()
        self.machine = target.machine
        self.emulator = need_tool("qemu-system-arm", "run firmware")

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Raises CheckFailed where the firmware fails or hangs."""
        with tempfile.TemporaryDirectory(prefix="mbx-run-") as folder:
            (Path(folder) / "mbx-request.bin").write_bytes(encode_request(items, trace))
            command = [self.emulator, "-M", self.machine, "-nographic", "-monitor", "none", "-serial", "none"]
            command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(self.elf)]
            limit = EMULATOR_START_S + EMULATOR_CLIP_S * len(items)
            try:
                done = subprocess.run(
                    command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
                )
            except subprocess.TimeoutExpired:
                raise CheckFailed(f"the firmware did not end within {limit:.0f} s ({self.machine})") from None
            if done.returncode != 0:
                raise CheckFailed(_failure(f"the firmware in {self.machine}", done.returncode, done.stderr))
            response = Path(folder) / "mbx-response.bin"
            data = response.read_bytes() if response.exists() else b""
        return decode_response(data, self.recognizer, len(items))


class ProgramEngine(HostEngine):
    """The program of a build for this machine, as it was built."""

    name = "firmware"

    def __init__(self, recognizer: Recognizer, program: Path) -> None:
        """program: the build's executable."""
        self.recognizer = recognizer
        self.program = program.absolute()


class TflmEngine:
    """The TFLite Micro interpreter of the PyPI package tflite-micro. It takes features; those of clips are the simulator's."""

    name = "tflm"

    def __init__(self, recognizer: Recognizer, stride_frames: int = 25) -> None:
        """Raises ToolMissing where the package is not installed."""
        runtime = _import_tflm()
        self.interpreter = runtime.Interpreter.from_bytes(recognizer.data, arena_size=4 << 20)
        self.recognizer = recognizer
        self.shape = tuple(self.interpreter.get_input_details(0)["shape"])
        self.features = SimEngine(recognizer, stride_frames)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item; of the stages, the features alone."""
        return [self._run(item, trace) for item in items]

    def _run(self, item: Item, trace: int) -> list[Result]:
        recognizer = self.recognizer
        if item.kind == ITEM_FEATURES:
            windows = [item.values]
        elif item.kind == ITEM_CLIP:
            samples = pad_clip(item.values, recognizer)
            windows = [sim_model.features(samples, recognizer.tables, recognizer.program)]
        else:
            stride = self.features.stride_frames
            windows = list(sim_model.stream_features(item.values, recognizer.tables, recognizer.program, stride))
        results = []
        for window in windows:
            self.interpreter.set_input(np.ascontiguousarray(window.reshape(self.shape)), 0)
            self.interpreter.invoke()
            logits = np.asarray(self.interpreter.get_output(0)).ravel().copy()
            stages = {"features": window} if trace else {}
            results.append(Result(logits, posteriors(logits, self.features.exponentials_q15), stages))
        return results


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
