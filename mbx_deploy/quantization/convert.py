"""A PyTorch network -> ONNX -> float and int8 TFLite, and the checker of what came out.

The converter runs in a process of its own: it is then quiet, can end only itself, and names its
tensors by counters that start at zero, so that the same network gives the same bytes. That process
runs this very file.
"""

import io
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.sim.frontend import quantize_features
from mbx_deploy.system.files import cannot_write
from mbx_deploy.system.scratch import scratch_folder

if TYPE_CHECKING:
    import torch

Int8Logits = Callable[[bytes, np.ndarray], np.ndarray]
"""(.tflite, features int8 (N, T, C)) -> logits int8 (N, classes), as TFLite's reference kernels."""

ALLOWED_OPS = (
    "DEPTHWISE_CONV_2D",
    "CONV_2D",
    "ADD",
    "MEAN",
    "REDUCE_MAX",
    "AVERAGE_POOL_2D",
    "FULLY_CONNECTED",
    "STRIDED_SLICE",
)

_EXPORT_MODULES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnx2tf",
    "tensorflow",
    "tf_keras",
    "ai_edge_litert",
)
_OPSET = 17
_CONVERTER_SECONDS = 900
_NAMES = ("model.onnx", "calibration.npy", "float.tflite", "int8.tflite")


@dataclass(frozen=True)
class Conversion:
    """One network in three file formats."""

    onnx: bytes
    float_tflite: bytes
    int8_tflite: bytes


def quantize_module(module: "torch.nn.Module", calibration: np.ndarray) -> bytes:
    """Return the module as an int8 .tflite without metadata.

    module: float32 (N, C, 1, T) -> (N, classes), trained or not.
    calibration: float32 (N, T, C), features as the network sees them; they set every activation's
    scale. The file's input is int8 [1, 1, T, C], its output int8 [1, classes].
    The same module and calibration give the same bytes.

    Raises CheckFailed: the converter left an op, a type or a shape that may not be there.
    ToolMissing: the extra `export` is not installed.
    """
    return convert_module(module, calibration).int8_tflite


def convert_module(module: "torch.nn.Module", calibration: np.ndarray) -> Conversion:
    """Return the module as ONNX, float TFLite and int8 TFLite; see quantize_module()."""
    require_export_extra()
    if calibration.ndim != 3 or calibration.dtype != np.float32 or not len(calibration):
        raise ValueError(f"need float32 (N, T, C), got {calibration.dtype} {calibration.shape}")
    if not np.isfinite(calibration).all():
        raise InputError("the calibration features are not finite: got NaN or infinity, need numbers")
    frames, coefficients = calibration.shape[1:]
    onnx_model = export_onnx(module, frames, coefficients)
    conversion = _run_converter(onnx_model, calibration)
    check_graph(conversion.int8_tflite, frames, coefficients)
    return conversion


def require_export_extra() -> None:
    """Raise ToolMissing unless everything that export imports is installed. Imports nothing."""
    missing = [name for name in _EXPORT_MODULES if find_spec(name) is None]
    if missing:
        raise ToolMissing(
            f"export needs Python packages that are not installed: {', '.join(missing)}",
            "pip install mbx-deploy[export]",
        )


def export_onnx(module: "torch.nn.Module", frames: int, coefficients: int) -> bytes:
    """Return the module as ONNX, both ends float32.

    Input "features" (1, C, 1, T), output "logits" (1, classes).
    """
    import torch

    buffer = io.BytesIO()
    was_training = module.training
    module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this exporter is the old one, and says so
            torch.onnx.export(
                module,
                (torch.zeros(1, coefficients, 1, frames),),
                buffer,  # type: ignore[arg-type, unused-ignore]
                input_names=["features"],
                output_names=["logits"],
                opset_version=_OPSET,
                dynamo=False,
            )
    finally:
        module.train(was_training)
    return _with_initializers(buffer.getvalue())


def _with_initializers(onnx_model: bytes) -> bytes:
    """Return an ONNX file whose constants are initializers, no nodes; one without such nodes as it is.

    Of a slice whose bounds are Constant nodes, as torch writes them, onnx2tf 1.28 cuts another axis.
    """
    import onnx

    model = onnx.load_from_string(onnx_model)
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    if not constants:
        return onnx_model
    for node in constants:
        value = onnx.TensorProto()
        value.CopyFrom(next(attribute.t for attribute in node.attribute if attribute.name == "value"))
        value.name = node.output[0]
        model.graph.initializer.append(value)
        model.graph.node.remove(node)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _run_converter(onnx_model: bytes, calibration: np.ndarray) -> Conversion:
    """Return what the converter makes of an ONNX file, in a process and a folder of its own."""
    package_root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # other sums on other CPUs
    }
    try:
        with scratch_folder() as folder:
            paths = [Path(folder) / name for name in _NAMES]
            paths[0].write_bytes(onnx_model)
            np.save(paths[1], calibration[:, None])
            command = [sys.executable, "-P", "-m", "mbx_deploy.quantization.convert", *map(str, paths)]
            result = subprocess.run(
                command,
                cwd=folder,
                env={**environment, "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_CONVERTER_SECONDS,
                check=False,
            )
            if result.returncode != 0 or not paths[3].is_file():
                log = result.stdout.decode(errors="replace")
                raise RuntimeError(f"the converter ended with code {result.returncode}:\n{log[-4000:]}")
            return Conversion(onnx_model, paths[2].read_bytes(), paths[3].read_bytes())
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from None


def _convert(onnx_path: str, calibration_path: str, float_path: str, int8_path: str) -> None:
    """Write a float and an int8 .tflite of an ONNX file.

    calibration_path: .npy, float32 NHWC (N, 1, T, C).
    """
    import onnx2tf.onnx2tf
    import tensorflow as tf

    # Where an input has 3 channels it fetches a picture from the net, which nothing here may need.
    onnx2tf.onnx2tf.download_test_image_data = lambda: np.zeros((20, 128, 128, 3), np.float32)
    model = onnx2tf.convert(
        input_onnx_file_path=onnx_path,
        output_folder_path=str(Path(onnx_path).parent / "onnx2tf"),
        # onnxsim is run from PATH, or left out in silence: the result must not depend on that.
        not_use_onnxsim=True,
        disable_model_save=True,
        verbosity="error",
    )
    calibration = np.load(calibration_path)
    signature = [tf.TensorSpec((1, *calibration.shape[1:]), tf.float32, "features")]
    function = tf.function(lambda features: model(features), input_signature=signature)
    concrete = function.get_concrete_function()

    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    Path(float_path).write_bytes(converter.convert())

    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([clip[None]] for clip in calibration)
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    Path(int8_path).write_bytes(converter.convert())


@dataclass(frozen=True)
class Quantization:
    """Input or output of an int8 network: real value = scale * (int8 - zero_point)."""

    scale: float
    zero_point: int


def io_quantization(data: bytes) -> tuple[Quantization, Quantization]:
    """Return the scale and zero point of an int8 .tflite's input and output."""
    graph = _graph(data)
    ends = (graph.Tensors(graph.Inputs(0)), graph.Tensors(graph.Outputs(0)))
    first, last = (Quantization(float(t.Quantization().Scale(0)), int(t.Quantization().ZeroPoint(0))) for t in ends)
    return first, last


def check_graph(data: bytes, frames: int, coefficients: int) -> tuple[str, ...]:
    """Return the ops of an int8 .tflite in their order; the compiler can take every one.

    Only ALLOWED_OPS; CONV_2D has one group and filters of height 1; activations int8 with one scale; weights int8
    with a scale for each output channel and zero points of 0; biases int32; input [1, 1, frames,
    coefficients], output [1, classes].

    Raises CheckFailed, naming the op: anything else.
    """
    import tflite

    names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
    model = tflite.Model.GetRootAs(data, 0)
    graph = _graph(data)
    ops = []
    for number in range(graph.OperatorsLength()):
        op = graph.Operators(number)
        name = names.get(model.OperatorCodes(op.OpcodeIndex()).BuiltinCode(), "an unknown one")
        if name not in ALLOWED_OPS:
            raise CheckFailed(
                f"the converted network holds an op that the compiler does not take (op {number}): "
                f"got {name}, need one of {', '.join(ALLOWED_OPS)}",
                "build the network of Conv2d with kernels (1, k), ReLU, +, mean or amax and Linear alone",
            )
        _check_op(f"op {number}, {name}", name, graph, op)
        ops.append(name)
    ends = (graph.Tensors(graph.Inputs(0)), graph.Tensors(graph.Outputs(0)))
    _need(
        _shape(ends[0]) == (1, 1, frames, coefficients),
        "the input's shape",
        _shape(ends[0]),
        "NHWC",
    )
    _need(len(_shape(ends[1])) == 2, "the output's shape", _shape(ends[1]), "(1, classes)")
    return tuple(ops)


def _check_op(where: str, name: str, graph: Any, op: Any) -> None:
    import tflite

    inputs = [graph.Tensors(i) for i in op.InputsAsNumpy()]
    has_weights = name in ("DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED")
    activations = [graph.Tensors(op.Outputs(0)), inputs[0], *(inputs[1:] if name == "ADD" else [])]
    for tensor in activations:
        _need(tensor.Type() == tflite.TensorType.INT8, f"{where}: activation", tensor.Type(), "int8")
        _need(tensor.Quantization().ScaleLength() == 1, f"{where}: scales", "several", "one a tensor")
    if not has_weights:
        return
    weights = inputs[1]
    shape = _shape(weights)
    channels = shape[3] if name == "DEPTHWISE_CONV_2D" else shape[0]
    scales, zero_points = (
        weights.Quantization().ScaleLength(),
        weights.Quantization().ZeroPointAsNumpy(),
    )
    _need(weights.Type() == tflite.TensorType.INT8, f"{where}: weights", weights.Type(), "int8")
    _need(scales == channels, f"{where}: weight scales", scales, f"{channels}, one a channel")
    _need(not np.any(zero_points), f"{where}: zero points of weights", zero_points, "0")
    if len(inputs) > 2:
        _need(inputs[2].Type() == tflite.TensorType.INT32, f"{where}: bias", inputs[2].Type(), "int32")
    if name == "CONV_2D":
        _need(shape[1] == 1, f"{where}: filter", shape[1:3], "a height of 1")
        groups = _shape(inputs[0])[3] // shape[3]
        _need(groups == 1, f"{where}: groups", groups, "1")


def _need(condition: bool, what: str, got: object, need: str) -> None:
    if not condition:
        raise CheckFailed(f"the converted network is not as it must be ({what}): got {got}, need {need}")


def _graph(data: bytes) -> Any:
    import tflite

    return tflite.Model.GetRootAs(data, 0).Subgraphs(0)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()


def reference_logits(data: bytes, features: np.ndarray) -> np.ndarray:
    """Return the int8 logits of TFLite's reference kernels, int8 (N, classes); an Int8Logits.

    data: an int8 .tflite. features: int8 (N, T, C).
    TFLite's default kernels round otherwise, in some quarter of the logits.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF
    return _interpret(Interpreter(model_content=data, experimental_op_resolver_type=resolver), features)


def natural_units(coefficients_q16: np.ndarray) -> np.ndarray:
    """Return float32 features as the network was trained on. coefficients_q16: int32, the front end's."""
    return coefficients_q16.astype(np.float32) * np.float32(1.0 / 65536.0)


def real_logits(data: bytes, coefficients_q16: np.ndarray, int8_logits: Int8Logits = reference_logits) -> np.ndarray:
    """Return an int8 network's logits as real numbers, float32 (N, classes). coefficients_q16: int32 (N, T, C)."""
    first, last = io_quantization(data)
    logits = int8_logits(data, quantize_features(coefficients_q16, first.scale, first.zero_point))
    return (logits.astype(np.float32) - np.float32(last.zero_point)) * np.float32(last.scale)


def float_logits(data: bytes, features: np.ndarray) -> np.ndarray:
    """Return the logits of a float .tflite, float32 (N, classes), for float32 (N, T, C)."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return _interpret(Interpreter(model_content=data, experimental_op_resolver_type=resolver), features)


def onnx_logits(data: bytes, features: np.ndarray) -> np.ndarray:
    """Return the logits of an ONNX file, float32 (N, classes), for float32 (N, T, C)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    clips = np.ascontiguousarray(features.transpose(0, 2, 1)[:, :, None])
    return np.concatenate([session.run(None, {"features": clips[n : n + 1]})[0] for n in range(len(clips))])


def _interpret(interpreter: Any, features: np.ndarray) -> np.ndarray:
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    logits = np.zeros((len(features), taken["shape"][-1]), taken["dtype"])
    for number, clip in enumerate(features):
        interpreter.set_tensor(given["index"], clip[None, None])
        interpreter.invoke()
        logits[number] = interpreter.get_tensor(taken["index"])
    return logits


if __name__ == "__main__":
    _convert(*sys.argv[1:])
