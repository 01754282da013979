"""A .tflite that others made -> one of ours: ends cut to int8 features and logits, labels and front end attached."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.compiler.model import parse_model
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.recipes import RECIPES, recipe_config
from mbx_deploy.network import ir
from mbx_deploy.network.metadata import METADATA_FORMAT, pack_model, unpack_model, write_metadata
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.system.arrays import read_npy
from mbx_deploy.system.documents import DocumentError, parse_toml, read_document

MAX_SAMPLES_BYTES = 1 << 30


@dataclass(frozen=True)
class Attached:
    """data: the file with its metadata. labels, frontend: as stored. notes: what was cut, and why."""

    data: bytes
    labels: tuple[str, ...]
    frontend: FrontendConfig
    notes: tuple[str, ...]


def attach(data: bytes, name: str, labels: tuple[str, ...], frontend: FrontendConfig) -> Attached:
    """Return an int8 .tflite with labels and a front end, checked against its shapes.

    Ends of float32 and uint8 are cut, and so is a SOFTMAX at its end, which the runtime computes itself. Raises
    InputError for a network that is none of words: several ends, labels or a front end that do not fit.
    """
    network = parse_tflite(data, name)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        got = f"{len(network.inputs)} inputs and {len(network.outputs)} outputs"
        raise InputError(f"a recogniser has one input and one output ({name}): got {got}")
    bare, notes = cut_ends(data, network)
    metadata = {
        "format": METADATA_FORMAT,
        "labels": list(labels),
        "frontend": frontend.to_dict(),
        "frontend_digest": frontend.digest(),
        "training": {"source": "TFLite", "file": Path(name).name, "sha256": hashlib.sha256(data).hexdigest()},
        "accuracy": {},
    }
    made = write_metadata(bare, metadata)
    parse_model(made, name)
    return Attached(made, labels, frontend, notes)


def cut_ends(data: bytes, network: ir.Model) -> tuple[bytes, tuple[str, ...]]:
    """Return the file without what brings its ends to int8, and without a SOFTMAX at its end; and what was cut."""
    model = unpack_model(data)
    notes: list[str] = []
    graph = model.subgraphs[0]
    source, target = network.input, network.output
    last = network.ops[-1]
    if isinstance(last, ir.Softmax) and last.output == target and len(network.ops) > 1:
        target = last.input
        notes.append("the SOFTMAX at its end is cut: scores are the softmax of its logits")
    kinds = {end.dtype for end in (*network.inputs, *network.outputs)} - {"int8"}
    if kinds:
        notes.append(f"its {' and '.join(sorted(kinds))} ends are cut: it takes and gives int8")
    if (source, target) == (graph.inputs[0], graph.outputs[0]):
        return data, ()
    keep = _between(graph.operators, source, target)
    graph.operators = [op for number, op in enumerate(graph.operators) if number in keep]
    graph.inputs, graph.outputs = np.array([source], np.int32), np.array([target], np.int32)
    model.signatureDefs = None
    return pack_model(model), tuple(notes)


def _between(operators: list[Any], source: int, target: int) -> set[int]:
    """Return the numbers of the ops that the target needs, up to the source."""
    writers = {int(output): number for number, op in enumerate(operators) for output in op.outputs}
    keep: set[int] = set()
    wanted = [target]
    while wanted:
        tensor = wanted.pop()
        number = writers.get(tensor)
        if tensor == source or number is None or number in keep:
            continue
        keep.add(number)
        wanted += [int(index) for index in operators[number].inputs if index >= 0]
    return keep


def read_frontend(path: Path) -> FrontendConfig:
    """Return the front end of a recipe's name, or that a TOML describes: the keys of FrontendConfig, by themselves or
    below [frontend].

    recipe = "arm-kws" gives the values of a recipe, nemo's without it, which further keys change. Raises InputError.
    """
    if str(path) in RECIPES:
        return recipe_config(str(path))
    if not path.suffix and not path.exists():
        names = ", ".join(RECIPES)
        raise InputError(f"no front end of that name: got {str(path)!r:.80}, need one of {names}, or a TOML file")
    try:
        values = parse_toml(read_document(path))
    except DocumentError as error:
        raise InputError(f"can't read the front end ({path}): {error}") from None
    if isinstance(values.get("frontend"), dict):
        values = values["frontend"]
    recipe = values.pop("recipe", "nemo")
    try:
        return recipe_config(str(recipe), values)
    except InputError as error:
        raise InputError(f"{error.what} [{path}]", error.hint) from None


def read_samples(path: Path) -> np.ndarray:
    """Return the samples of an .npy file, float32. Raises InputError for what is none."""
    try:
        values = read_npy(path, MAX_SAMPLES_BYTES)
    except DocumentError as error:
        raise InputError(f"can't read the samples ({path}): {error}", "save them with numpy.save") from None
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise InputError(f"the samples are no numbers ({path}): need float32 (N, ...), all finite")
    return values.astype(np.float32)


def quantize_float(data: bytes, name: str, samples: np.ndarray) -> bytes:
    """Return a float .tflite as int8, a scale a channel, its ranges those of the samples.

    samples: float32 (N, *the input's shape without its batch). Raises InputError for samples that do not fit or a file
    that TensorFlow does not quantize, ToolMissing without TensorFlow.
    """
    try:
        import tensorflow as tf
        from tensorflow.lite.python.optimize import calibrator
    except ImportError:
        raise ToolMissing("quantizing a .tflite needs TensorFlow", "pip install mbx-deploy[export]") from None
    shape = _float_input_shape(data, name)
    if not len(samples) or not _fits(samples.shape[1:], shape):
        need = f"float32 (N, {', '.join(map(str, shape[1:]))})"
        raise InputError(
            f"the samples do not fit the network ({name}): got {samples.dtype} {samples.shape}, need {need}"
        )
    clips = np.ascontiguousarray(samples, np.float32).reshape(-1, *shape)
    try:
        made: bytes = calibrator.Calibrator(data).calibrate_and_quantize(
            lambda: ([clip] for clip in clips), tf.int8, tf.int8, False
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"TensorFlow can't quantize the network ({name}): {reason:.200}") from None
    parse_tflite(made, name)
    return made


def _fits(sample: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a sample has the input's shape, axes of length 1 left out."""
    return [n for n in sample if n != 1] == [n for n in shape if n != 1]


def _float_input_shape(data: bytes, name: str) -> tuple[int, ...]:
    from tflite.Model import Model
    from tflite.TensorType import TensorType

    try:
        graph = Model.GetRootAs(data, 0).Subgraphs(0)
        tensor = graph.Tensors(graph.Inputs(0))
        if graph.InputsLength() != 1 or tensor.Type() != TensorType.FLOAT32:
            raise InputError(f"the network is not one to quantize ({name}): need one float32 input")
        return tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the model is damaged ({name}): {error}") from None
