"""The TFLite Micro interpreter of the PyPI package tflite-micro, on the simulator's features."""

import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES
from mbx_deploy.compiler.lower import call_name
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.compiler.streaming import StreamStep
from mbx_deploy.engines.session import TRACE_RESULTS, Item, Result
from mbx_deploy.engines.sim import SimEngine, with_events
from mbx_deploy.errors import ToolMissing
from mbx_deploy.network import ir
from mbx_deploy.network.ends import from_int8, to_int8

TFLM_ARENA_BYTES = 16 << 20


class TflmEngine:
    """TFLite Micro's interpreter. It takes the network's input; that of clips is the simulator's."""

    name = "tflm"

    def __init__(self, model: CompiledModel, stride_frames: int = DEFAULT_STRIDE_FRAMES) -> None:
        """Raises ToolMissing where the package is not installed, or does not take the model."""
        self.model = model
        self.front_end = SimEngine(model, stride_frames)
        self._interpreters: dict[bool, Any] = {}
        self._interpreter(False)

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Traced are the features and every layer."""
        stride = self.front_end.stride_frames
        return [with_events(self._run(item, trace != TRACE_RESULTS), item, self.model, stride) for item in items]

    def _run(self, item: Item, trace: bool) -> list[Result]:
        if self.model.keeps_state:  # an interpreter sets the state at its first run only
            self._interpreters.clear()
        return [self._infer(window, trace) for window in self.front_end.windows(item)]

    def _infer(self, values: np.ndarray, trace: bool) -> Result:
        model, network = self.model, self.model.network
        interpreter = self._interpreter(trace)
        set_inputs(interpreter, network, values)
        interpreter.invoke()
        logits = get_outputs(interpreter, network)
        stream = model.step if isinstance(model.step, StreamStep) else None
        step = values if stream is None else values[-stream.time.step_frames :]
        stages = {"features": step} if trace and model.hearing else {}
        untold: frozenset[str] = frozenset()
        if trace:
            tensors = {call_name(i, op): op.output for i, op in enumerate(network.ops)}
            told = {call.name for call in model.c_program.calls}
            untold = frozenset(told - set(tensors))
            for call in (call for call in model.program.calls if call.name in told and call.name in tensors):
                found = np.asarray(interpreter.GetTensor(tensors[call.name], 0)["tensor_data"])
                found = to_int8(found, network.tensors[tensors[call.name]], found.dtype.name)
                layer = found.reshape(model.program.buffers[call.output].shape).copy()
                stages[call.name] = layer if stream is None else stream.newest(call.output, layer)
        return Result(logits, self.front_end.posteriors(logits), stages, untold=untold)

    def _interpreter(self, trace: bool) -> Any:
        """Return an interpreter; one that keeps every tensor shares no memory between layers."""
        if trace not in self._interpreters:
            try:
                self._interpreters[trace] = make_interpreter(self.model.data, trace)
            except (
                RuntimeError,
                struct.error,
                IndexError,
                ValueError,
                TypeError,
            ) as error:  # its Python reads more than ours
                raise ToolMissing(f"TFLite Micro does not take the model: {error}") from None
        return self._interpreters[trace]


def set_inputs(interpreter: Any, network: ir.Model, values: np.ndarray) -> None:
    """Set the inputs of an interpreter. values: int8, all inputs behind each other; a file may take other types."""
    start = 0
    for number, end in enumerate(network.inputs):
        tensor = network.tensors[end.tensor]
        part = values.ravel()[start : start + tensor.size]
        start += tensor.size
        shape = network.tensors[end.place].shape
        interpreter.set_input(np.ascontiguousarray(from_int8(part, tensor, end.dtype).reshape(shape)), number)


def get_outputs(interpreter: Any, network: ir.Model) -> np.ndarray:
    """Return all outputs of an interpreter behind each other, int8 (values,)."""
    parts = [
        to_int8(np.asarray(interpreter.get_output(number)), network.tensors[end.tensor], end.dtype).ravel()
        for number, end in enumerate(network.outputs)
    ]
    return np.concatenate(parts)


def make_interpreter(data: bytes, keep_tensors: bool) -> Any:
    """Return TFLite Micro's interpreter of a model. keep_tensors: share no memory between layers.

    Raises ToolMissing where tflite-micro is not installed, RuntimeError for a model that it does not take.
    """
    runtime = import_tflm()
    kind = runtime.InterpreterConfig
    config = kind.kPreserveAllTensors if keep_tensors else kind.kAllocationRecording
    return runtime.Interpreter.from_bytes(data, arena_size=TFLM_ARENA_BYTES, intrepreter_config=config)


def import_tflm() -> Any:
    """Return the package's runtime. Raises ToolMissing where it is not installed."""
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
