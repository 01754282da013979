"""A model file with all that is derived from it: the network, its program and plan, and where it hears, with what.

One compiled model goes through the whole of mbx-deploy, be it a recogniser of words or a network alone.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.compiler.decision import read_decision
from mbx_deploy.compiler.kernels.choice import PORTABLE
from mbx_deploy.compiler.lower import lower
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.compiler.stateful import make_stateful_step
from mbx_deploy.compiler.stateful_checker import check_stateful_step
from mbx_deploy.compiler.step import Step
from mbx_deploy.compiler.stream_plan import StreamPlan, plan_stream
from mbx_deploy.compiler.streaming import make_step
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.tables import FrontendTables, build_tables, feature_multiplier
from mbx_deploy.network import ir
from mbx_deploy.network.program import Program
from mbx_deploy.network.reader import parse_tflite, read_model_file
from mbx_deploy.network.time_axis import TimeAxis, find_time_axis
from mbx_deploy.sim import frontend
from mbx_deploy.sim.decision import DecisionRule

_STREAMING_KEYS = ("receptive_frames", "pool_frames", "step_frames", "tail_frames")
MAX_TAIL_FRAMES = 10_000
MAX_LABELS = 1000
MAX_LABEL_LENGTH = 64


@dataclass(frozen=True)
class Hearing:
    """What makes a network a recogniser. labels: of its outputs, in their order. tables: of the front end of config.
    decision: when a word was said.
    """

    labels: tuple[str, ...]
    config: FrontendConfig
    tables: FrontendTables
    decision: DecisionRule


@dataclass(frozen=True)
class Streaming:
    """How a model streams.

    step_frames: between decisions. tail_frames: of digital silence that follow a clip alone. silence: int8, the row of
    the network's input that it has seen for ever before its first one. in_windows: the C runs the whole window at each
    step; the stream computes the same.
    """

    step_frames: int
    tail_frames: int
    silence: np.ndarray
    time: TimeAxis
    in_windows: bool = False


@dataclass(frozen=True)
class CompiledModel:
    """A network, lowered, with the plan of its memory for a set of kernels.

    name: the file's, for messages. data: its bytes. digest: their SHA-256. metadata: as stored in the file, {} where
    there is none. network: as read. program: lowered from it: of a window, where the model streams. hearing: None for a
    network alone. streaming: None for a model that takes a window at a time. kernel_set: of compiler.kernels, for which
    the plan is made.
    """

    name: str
    data: bytes
    digest: str
    metadata: dict[str, Any]
    network: ir.Model
    program: Program
    hearing: Hearing | None = None
    streaming: Streaming | None = None
    kernel_set: str = PORTABLE
    _siblings: dict[str, "CompiledModel"] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def plan(self) -> MemoryPlan:
        """What lies where in the arena when the C's program runs, computed at the first use.

        Raises InputError for what no plan is made of.
        """
        return plan_memory(self.program, self.kernel_set) if self.step is None else self.stream_plan.memory

    @cached_property
    def step(self) -> Step | None:
        """What the C runs at each step of a stream, or of a network that keeps state; None where it runs windows.

        Raises InputError for a step that no sum holds, or a state that no field holds.
        """
        if self.keeps_state:
            return make_stateful_step(self.program)
        if self.streaming is None or self.streaming.in_windows:
            return None
        return make_step(self.program, self.streaming.time, self.streaming.silence)

    @property
    def keeps_state(self) -> bool:
        """Whether the network has variables, and so is more than a function of its input."""
        return bool(self.program.variables)

    @property
    def c_program(self) -> Program:
        """The program that the C runs, for which the plan is: of a window, or of a step of a stream."""
        return self.program if self.step is None else self.step.program

    @cached_property
    def stream_plan(self) -> StreamPlan:
        """The plan of a step, with what the front end needs between steps: its bins, mel energies, coefficients."""
        assert self.step is not None
        pieces: tuple[int, ...] = ()
        if self.hearing is not None:
            config = self.hearing.config
            pieces = (8 * (config.n_fft // 2 + 1), 8 * config.n_mels, 4 * config.num_coefficients)
        plan = plan_stream(self.step, self.kernel_set, pieces)
        if self.keeps_state:
            check_stateful_step(self.program, self.step, plan.memory)
        return plan

    def in_windows(self) -> "CompiledModel":
        """Return the same model, whose C runs the whole window at each step."""
        if self.streaming is None or self.streaming.in_windows:
            return self
        return replace(self, streaming=replace(self.streaming, in_windows=True))

    def for_kernels(self, kernel_set: str) -> "CompiledModel":
        """Return the same model with the plan for a set of kernels; the same object each time."""
        if kernel_set == self.kernel_set:
            return self
        if kernel_set not in self._siblings:
            self._siblings[kernel_set] = replace(self, kernel_set=kernel_set)
        return self._siblings[kernel_set]

    @property
    def input(self) -> ir.Tensor:
        """The network's input: shape (1, ...), scale, zero point."""
        return self.network.tensors[self.network.input]

    @property
    def output(self) -> ir.Tensor:
        """The network's output."""
        return self.network.tensors[self.network.output]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a model that hears. Raises InputError for a network alone."""
        return self._need_hearing().labels

    @property
    def config(self) -> FrontendConfig:
        """The front end of a model that hears. Raises InputError for a network alone."""
        return self._need_hearing().config

    @property
    def tables(self) -> FrontendTables:
        """The front end's tables of a model that hears. Raises InputError for a network alone."""
        return self._need_hearing().tables

    @property
    def recording_samples(self) -> int:
        """The length to which a recording of a word is brought: a window, or a second for a model that streams."""
        config = self._need_hearing().config
        return config.clip_samples if self.streaming is None else config.sample_rate_hz

    def _need_hearing(self) -> Hearing:
        if self.hearing is None:
            raise InputError(
                f"the model is a network alone ({self.name}): got neither labels nor a front end, need both",
                "give a model that mbx-deploy export made, which stores both in the file",
            )
        return self.hearing


def load_model(path: str | Path, network_only: bool = False, step_frames: int | None = None) -> CompiledModel:
    """Return the model of a .tflite file. network_only: of its network alone, whatever else the file holds.

    step_frames: it streams, so many frames at a time; without it a model that says that it streams does as it says, and
    another does not.
    Raises InputError for a file that is missing, foreign, corrupt or not int8; unless network_only, also for one
    without our metadata, or whose labels or front end don't fit its network.
    """
    return parse_model(read_model_file(path), str(path), network_only, step_frames)


def parse_model(data: bytes, name: str, network_only: bool = False, step_frames: int | None = None) -> CompiledModel:
    """Return the model that the bytes hold. name: for messages. Raises InputError as load_model()."""
    network = parse_tflite(data, name)
    if network_only:
        program = lower(network)
        if program.variables and step_frames is not None:
            raise InputError(
                f"the network keeps its own state ({name}): got a step of {step_frames} frames, need none",
                "leave out --step-frames: a run takes the network's input, and its state goes on",
            )
        streaming = None if step_frames is None else _stream_alone(program, step_frames)
        return CompiledModel(name, data, network.digest, network.metadata or {}, network, program, None, streaming)
    metadata = network.metadata
    if metadata is None:
        raise InputError(
            f"the model has no metadata of mbx-deploy ({name}): its labels and its front end are unknown",
            "make it with mbx-deploy export, which stores both in the file; or build --network-only compiles it alone",
        )
    hearing = _read_hearing(metadata, name)
    program = lower(network)
    if program.variables:
        raise InputError(
            f"a recogniser's network keeps no state of its own ({name}): got {len(program.variables)} variables",
            "build --network-only compiles it alone; a stream of ours is of a network without variables",
        )
    _check_hearing(hearing, network, program, name)
    streaming = _read_streaming(metadata, program, hearing, step_frames, name)
    return CompiledModel(name, data, network.digest, metadata, network, program, hearing, streaming)


def _stream_alone(program: Program, step_frames: int) -> Streaming:
    """Return how a network alone streams; before its first row it has seen zeros."""
    time = find_time_axis(program, step_frames)
    row = time.row_bytes(program.buffers[program.input])
    return Streaming(step_frames, 0, np.full(row, program.input_zero_point, np.int8), time)


def _read_streaming(
    metadata: dict[str, Any], program: Program, hearing: Hearing, step_frames: int | None, name: str
) -> Streaming | None:
    """Return how a model that hears streams, None for one that does not. step_frames: in the place of what it says."""
    values = metadata.get("streaming")
    if values is None:
        if step_frames is None:
            return None
        raise InputError(
            f"the model does not stream ({name}): it was trained on windows of its own length, padded at their ends",
            "train one with [model] streaming = true, or build it without --step-frames",
        )
    if not isinstance(values, dict) or not all(type(values.get(key)) is int for key in _STREAMING_KEYS):
        raise InputError(f"bad metadata (streaming, {name}): need whole numbers {', '.join(_STREAMING_KEYS)}")
    step = values["step_frames"] if step_frames is None else step_frames
    if not 0 <= values["tail_frames"] <= MAX_TAIL_FRAMES:
        raise InputError(
            f"bad metadata (streaming, tail_frames, {name}): got {values['tail_frames']}, need 0 to {MAX_TAIL_FRAMES}"
        )
    time = find_time_axis(program, step)
    frames = values["receptive_frames"] - 1 + values["pool_frames"]
    if frames != time.window_frames or values["pool_frames"] % step:
        raise InputError(
            f"the metadata do not fit the network (streaming, {name}): got {values['receptive_frames']} and "
            f"{values['pool_frames']} frames in steps of {step}, need a window of {time.window_frames}, "
            "and a step that divides what is pooled"
        )
    config = hearing.config
    silent = frontend.frame_coefficients(np.zeros((1, config.window_length), np.int32), hearing.tables)
    row = frontend.quantize_features(silent, program.input_scale, program.input_zero_point, hearing.tables.unit)
    return Streaming(step, values["tail_frames"], row.ravel(), time)


def _read_hearing(metadata: dict[str, Any], name: str) -> Hearing:
    labels = _labels(metadata, name)
    frontend = metadata.get("frontend")
    if not isinstance(frontend, dict):
        raise InputError(f"the metadata holds no front end ({name})", "export the model again")
    try:
        config = FrontendConfig.from_dict(frontend)
        tables = build_tables(config)
    except InputError as error:
        raise InputError(f"{error.what} [{name}]", error.hint) from None
    if metadata.get("frontend_digest", config.digest()) != config.digest():
        raise InputError(f"the front end's digest does not fit its configuration ({name})", "export the model again")
    decision = read_decision(metadata, labels, config.sample_rate_hz, name)
    return Hearing(labels, config, tables, decision)


def _check_hearing(hearing: Hearing, network: ir.Model, program: Program, name: str) -> None:
    """Raise InputError where labels or front end don't fit a network."""
    config, labels = hearing.config, hearing.labels
    source, target = program.buffers[program.input], program.buffers[program.output]
    features = (config.num_frames, config.num_coefficients)
    # Rows of coefficients, an image of one channel, or all values in a row: the bytes are the same.
    shapes = [(source.height * source.width, source.channels)]
    shapes += [(source.height, source.width)] if source.channels == 1 else []
    flat = source.shape[:2] == (1, 1) and source.channels == config.num_frames * config.num_coefficients
    if features not in shapes and not flat:
        need = " or ".join(f"{frames} of {coefficients}" for frames, coefficients in reversed(shapes))
        raise InputError(
            f"the front end does not fit the network ({name}): got {features[0]} frames of {features[1]}, need {need}",
            "n_mfcc, or n_mels where it is 0, says how many a frame has; clip_samples, window_length, hop_length and "
            "center say how many frames there are",
        )
    if target.size_bytes != len(labels):
        raise InputError(f"the labels do not fit the network ({name}): got {len(labels)}, need {target.size_bytes}")
    feature_multiplier(program.input_scale, hearing.tables.unit)
    if isinstance(network.ops[-1], ir.Softmax):
        raise InputError(
            f"the network ends in SOFTMAX ({name}): need one that ends in logits, whose softmax the scores are",
            "leave its last layer out; or build --network-only compiles it as it is",
        )


def _labels(metadata: dict[str, Any], name: str) -> tuple[str, ...]:
    labels = metadata.get("labels")
    if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_LABELS or not all(map(_is_label, labels)):
        raise InputError(f"bad labels in the metadata ({name}): need 1 to {MAX_LABELS} printable words")
    if len(set(labels)) != len(labels):
        raise InputError(f"bad labels in the metadata ({name}): one stands twice")
    return tuple(labels)


def _is_label(label: object) -> bool:
    return isinstance(label, str) and 0 < len(label) <= MAX_LABEL_LENGTH and label.isprintable()
