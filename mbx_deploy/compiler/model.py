"""A model file with all that is derived from it: the network, its program, the front end and the labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.compiler.lower import lower
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.tables import FrontendConfig, FrontendTables, build_tables, feature_multiplier
from mbx_deploy.network import ir
from mbx_deploy.network.program import Program
from mbx_deploy.network.reader import parse_tflite, read_model_file

MAX_LABELS = 1000
MAX_LABEL_LENGTH = 64


@dataclass(frozen=True)
class Recognizer:
    """name: the file's, for messages. data: its bytes. digest: their SHA-256. metadata: as stored in the file.

    network: as read. program: lowered from it. tables: of the front end that config describes.
    """

    name: str
    data: bytes
    digest: str
    metadata: dict[str, Any]
    labels: tuple[str, ...]
    config: FrontendConfig
    tables: FrontendTables
    network: ir.Model
    program: Program


def load_recognizer(path: str | Path) -> Recognizer:
    """Return the recogniser that a .tflite file of mbx-deploy holds.

    Raises InputError for a file that is missing, foreign, corrupt, not int8, without our metadata, or whose labels or
    front end don't fit its network.
    """
    return parse_recognizer(read_model_file(path), str(path))


def parse_recognizer(data: bytes, name: str) -> Recognizer:
    """Return the recogniser that the bytes hold. name: for messages. Raises InputError as load_recognizer()."""
    model = parse_tflite(data, name)
    metadata = model.metadata
    if metadata is None:
        raise InputError(
            f"the model has no metadata of mbx-deploy ({name}): its labels and its front end are unknown",
            "make it with mbx-deploy export, which stores both in the file; or build --network-only compiles it alone",
        )
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
    program = lower(model)
    source, target = program.buffers[program.input], program.buffers[program.output]
    if source.size_bytes != config.num_frames * config.num_coefficients or source.channels != config.num_coefficients:
        raise InputError(
            f"the front end does not fit the network ({name}): got {config.num_frames} frames of "
            f"{config.num_coefficients}, need {source.height * source.width} of {source.channels}"
        )
    if target.size_bytes != len(labels):
        raise InputError(f"the labels do not fit the network ({name}): got {len(labels)}, need {target.size_bytes}")
    feature_multiplier(program.input_scale)
    if isinstance(model.ops[-1], ir.Softmax):
        raise InputError(
            f"the network ends in SOFTMAX ({name}): need one that ends in logits, whose softmax the scores are",
            "leave its last layer out; or build --network-only compiles it as it is",
        )
    return Recognizer(name, data, model.digest, metadata, labels, config, tables, model, program)


def _labels(metadata: dict[str, Any], name: str) -> tuple[str, ...]:
    labels = metadata.get("labels")
    if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_LABELS or not all(map(_is_label, labels)):
        raise InputError(f"bad labels in the metadata ({name}): need 1 to {MAX_LABELS} printable words")
    if len(set(labels)) != len(labels):
        raise InputError(f"bad labels in the metadata ({name}): one stands twice")
    return tuple(labels)


def _is_label(label: object) -> bool:
    return isinstance(label, str) and 0 < len(label) <= MAX_LABEL_LENGTH and label.isprintable()
