"""Files and graphs that others made and that are no int8 network: the cause, in one line, and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.errors import InputError

RECURRENT_OPS = ("SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "RNN")
CONVERTED_TWICE = "give the .tflite that it was made from"
QUANTIZE_HINT = "quantize it: mbx-deploy import FILE.tflite --data SAMPLES.npy -o INT8.tflite"
ARRAY_HINT = (
    "make a file of it: python3 -c \"import re; open('m.tflite', 'wb').write(bytes(int(x, 16) for x in "
    "re.findall('0x(..)', open('FILE').read())))\""
)
_LFS = b"version https://git-lfs.github.com"
_ARRAYS = (b"unsigned char", b"uint8_t", b"0x54, 0x46, 0x4c, 0x33", b"0x54,0x46,0x4c,0x33")


@dataclass(frozen=True)
class OpTypes:
    """An op of a file. inputs, outputs: types of its tensors, "" for one left out. constant: whether an input is.

    name: a custom op's own behind "CUSTOM:".
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constant: tuple[bool, ...]

    @property
    def activations(self) -> set[str]:
        """The types of what it reads and writes at run time."""
        read = {kind for kind, constant in zip(self.inputs, self.constant, strict=True) if not constant}
        return (read | {*self.outputs}) - {""}

    @property
    def constants(self) -> set[str]:
        """The types of its constants."""
        return {kind for kind, constant in zip(self.inputs, self.constant, strict=True) if constant}


def why_no_tflite(data: bytes, name: str) -> InputError:
    """Return what a file is that does not bear the identifier TFL3. name: its path, for messages."""
    suffix = Path(name).suffix.lower()
    if data.startswith(_LFS):
        what, hint = "a Git LFS pointer, not the model that it stands for", "fetch the file itself: git lfs pull"
    elif suffix == ".onnx" or b"\x12\x07pytorch" in data[:64]:
        what, hint = "an ONNX file", "make a model of it first: mbx-deploy import --model FILE.onnx --labels LABELS.txt"
    elif any(mark in data[: 1 << 16] for mark in _ARRAYS):
        what, hint = "a C array (of xxd)", ARRAY_HINT
    elif data.startswith(b"\x89HDF"):
        what, hint = "a Keras file (HDF5)", "convert it: tf.lite.TFLiteConverter.from_keras_model(), with int8"
    elif data.startswith(b"PK\x03\x04"):
        kind = {".keras": "a Keras file", ".pt": "a checkpoint of PyTorch"}.get(suffix, "a zip archive")
        what, hint = kind, "convert or export it first; unpack an archive"
    elif data.startswith(b"\x1f\x8b"):
        what, hint = "a gzip archive", "unpack it first"
    else:
        what, hint = "it does not bear the identifier TFL3", "export one with mbx-deploy export"
    return InputError(f"not a TFLite model ({name}): {what}", hint)


def check_graph(ops: Sequence[OpTypes], subgraphs: int) -> None:
    """Raise InputError for a graph that is no int8 network as a whole, with the cause.

    ops: those of the main graph, the ones that bring its ends to int8 and back, and those on variables, left out.
    subgraphs: without the one that sets variables.
    """
    if subgraphs != 1:
        raise InputError(f"the model has {subgraphs} subgraphs: need 1", "convert it without conditions and loops")
    for number, op in enumerate(ops):
        if op.name.startswith("CUSTOM:"):
            _refuse_custom(number, op.name.removeprefix("CUSTOM:"))
        if op.name in RECURRENT_OPS:
            raise InputError(
                f"the op is not supported (op {number}): got {op.name}, a recurrent layer with int16 state",
                "take convolutions in its place, or an unrolled one (of FULLY_CONNECTED, MUL, LOGISTIC, TANH)",
            )
    for cause in (_refuse_float, _refuse_other_types):
        cause(ops)


def _refuse_custom(number: int, name: str) -> None:
    compiled: dict[str, Callable[[str], bool]] = {
        "compiled by Vela for an Ethos-U": lambda n: n == "ethos-u",
        "compiled for a Coral Edge TPU": lambda n: n.startswith("edgetpu"),
        "compiled for XMOS": lambda n: n.startswith("XC_"),
    }
    for what, matches in compiled.items():
        if matches(name):
            raise InputError(f"the model is {what} already: op {number} is {name}", CONVERTED_TWICE)
    if name.startswith("Signal"):
        raise InputError(
            f"the model is a front end, or has one in it (op {number}): got {name}, need a network of features",
            "give the network behind it; FrontendConfig describes a front end",
        )
    raise InputError(f"the op is a custom one (op {number}): got {name or 'one of no name'}, need one of TFLite's own")


def _refuse_float(ops: Sequence[OpTypes]) -> None:
    if any("uint8" in op.activations for op in ops) and not any("int8" in op.activations for op in ops):
        return  # TensorFlow 1's quantization, told of below
    floats = [number for number, op in enumerate(ops) if op.activations & {"float32", "float16"}]
    if not floats:
        return
    weights = set().union(*(ops[number].constants for number in floats))
    integers = [op for op in ops if "int8" in op.activations]
    if integers:
        number = floats[0]
        raise InputError(
            f"an op computes in floating point (op {number}, {ops[number].name}): got float32 in a network "
            "that is int8 in part, need int8 from end to end",
            "leave that layer out, or convert with supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]",
        )
    if "int8" in weights:
        raise InputError(
            "the network is quantized in its weights only (dynamic range): got float32 activations, need int8",
            "convert it with a representative data set, or " + QUANTIZE_HINT.replace("it:", "the float one:"),
        )
    what = "float16 weights" if "float16" in weights else "float32"
    raise InputError(f"the network is not quantized: got {what}, need int8", QUANTIZE_HINT)


def _refuse_other_types(ops: Sequence[OpTypes]) -> None:
    for number, op in enumerate(ops):
        where = f"op {number}, {op.name}"
        if "uint8" in op.activations:
            raise InputError(
                f"the network's activations are uint8 ({where}): TensorFlow 1's quantization, need int8",
                "convert the float model again, with int8 inside; uint8 at its ends is fine",
            )
        if "int16" in op.activations:
            raise InputError(
                f"the network's activations are int16 ({where}): need int8",
                "convert it without EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
            )
