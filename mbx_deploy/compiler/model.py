"""A model file with all that is derived from it: the network, its program and plan, and where it hears, with what.

One compiled model goes through the whole of mbx-deploy, be it a recogniser of words or a network alone.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mbx_deploy.compiler.kernels.kernel import PORTABLE
from mbx_deploy.compiler.lower import lower
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.tables import FrontendTables, build_tables, feature_multiplier
from mbx_deploy.network import ir
from mbx_deploy.network.program import Program
from mbx_deploy.network.reader import parse_tflite, read_model_file

MAX_LABELS = 1000
MAX_LABEL_LENGTH = 64


@dataclass(frozen=True)
class Hearing:
    """What makes a network a recogniser. labels: of its outputs, in their order. tables: of the front end of config."""

    labels: tuple[str, ...]
    config: FrontendConfig
    tables: FrontendTables


@dataclass(frozen=True)
class CompiledModel:
    """A network, lowered, with the plan of its memory for a set of kernels.

    name: the file's, for messages. data: its bytes. digest: their SHA-256. metadata: as stored in the file, {} where
    there is none. network: as read. program: lowered from it. hearing: None for a network alone.
    kernel_set: of compiler.kernels, for which the plan is made.
    """

    name: str
    data: bytes
    digest: str
    metadata: dict[str, Any]
    network: ir.Model
    program: Program
    hearing: Hearing | None = None
    kernel_set: str = PORTABLE
    _siblings: dict[str, "CompiledModel"] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def plan(self) -> MemoryPlan:
        """What lies where in the arena, computed at the first use. Raises InputError for what no plan is made of."""
        return plan_memory(self.program, self.kernel_set)

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

    def _need_hearing(self) -> Hearing:
        if self.hearing is None:
            raise InputError(
                f"the model is a network alone ({self.name}): got neither labels nor a front end, need both",
                "give a model that mbx-deploy export made, which stores both in the file",
            )
        return self.hearing


def load_model(path: str | Path, network_only: bool = False) -> CompiledModel:
    """Return the model of a .tflite file. network_only: of its network alone, whatever else the file holds.

    Raises InputError for a file that is missing, foreign, corrupt or not int8; unless network_only, also for one
    without our metadata, or whose labels or front end don't fit its network.
    """
    return parse_model(read_model_file(path), str(path), network_only)


def parse_model(data: bytes, name: str, network_only: bool = False) -> CompiledModel:
    """Return the model that the bytes hold. name: for messages. Raises InputError as load_model()."""
    network = parse_tflite(data, name)
    if network_only:
        return CompiledModel(name, data, network.digest, network.metadata or {}, network, lower(network))
    metadata = network.metadata
    if metadata is None:
        raise InputError(
            f"the model has no metadata of mbx-deploy ({name}): its labels and its front end are unknown",
            "make it with mbx-deploy export, which stores both in the file; or build --network-only compiles it alone",
        )
    hearing = _read_hearing(metadata, name)
    program = lower(network)
    _check_hearing(hearing, network, program, name)
    return CompiledModel(name, data, network.digest, metadata, network, program, hearing)


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
    return Hearing(labels, config, tables)


def _check_hearing(hearing: Hearing, network: ir.Model, program: Program, name: str) -> None:
    """Raise InputError where labels or front end don't fit a network."""
    config, labels = hearing.config, hearing.labels
    source, target = program.buffers[program.input], program.buffers[program.output]
    if source.size_bytes != config.num_frames * config.num_coefficients or source.channels != config.num_coefficients:
        raise InputError(
            f"the front end does not fit the network ({name}): got {config.num_frames} frames of "
            f"{config.num_coefficients}, need {source.height * source.width} of {source.channels}"
        )
    if target.size_bytes != len(labels):
        raise InputError(f"the labels do not fit the network ({name}): got {len(labels)}, need {target.size_bytes}")
    feature_multiplier(program.input_scale)
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
