"""What a generated project needs to run the network on TFLite Micro: ops, kernels, sizes, and pinned sources."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mbx_deploy.codegen.languages import Verbatim
from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.lower import call_name
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.network.stripped import bare_network

RUNTIMES = ("c", "tflm")
TFLM_RUNTIME = ("mbx_tflm.h", "mbx_tflm_engine.h", "mbx_tflm.cc", "mbx_tflm_measure.h", "mbx_tflm_measure.c")

# The commits that this was built and run with: tflite-micro's own choice of flatbuffers and CMSIS-NN.
PINS = (
    ("TFLM_DIR", "tensorflow/tflite-micro", "90b983c2b3f1480642e040bbd2ddb37b998f3424"),
    ("FLATBUFFERS_DIR", "google/flatbuffers", "187240970746d00bbd26b0f5873ed54d2477f9f3"),
    ("GEMMLOWP_DIR", "google/gemmlowp", "16e8662c34917be0065110bfcd9cc27d30f52fdf"),
    ("RUY_DIR", "google/ruy", "2af88863614a8298689cc52b1a47b3fcad7be835"),
    ("CMSIS_NN_DIR", "ARM-software/CMSIS-NN", "4ab83cc3cc98fb85ed6dafb55e8ca02f1628dcae"),
)

MOST_ARENA_BYTES = 1 << 19  # that is tried
MEASURE_ENGINE_BYTES = 4096  # ample, while it is measured
MEASURE_REST_BYTES = 8192  # for the session and libc's data beside them

# TFLite's name of an op: (MicroMutableOpResolver's function, TFLite Micro's kernel file).
_OPS = {
    "ADD": ("AddAdd", "add"),
    "AVERAGE_POOL_2D": ("AddAveragePool2D", "pooling"),
    "CONCATENATION": ("AddConcatenation", "concatenation"),
    "CONV_2D": ("AddConv2D", "conv"),
    "DEPTHWISE_CONV_2D": ("AddDepthwiseConv2D", "depthwise_conv"),
    "EXPAND_DIMS": ("AddExpandDims", "expand_dims"),
    "FULLY_CONNECTED": ("AddFullyConnected", "fully_connected"),
    "HARD_SWISH": ("AddHardSwish", "hard_swish"),
    "LEAKY_RELU": ("AddLeakyRelu", "leaky_relu"),
    "LOGISTIC": ("AddLogistic", "logistic"),
    "MAX_POOL_2D": ("AddMaxPool2D", "pooling"),
    "MEAN": ("AddMean", "reduce"),
    "MUL": ("AddMul", "mul"),
    "PACK": ("AddPack", "pack"),
    "PAD": ("AddPad", "pad"),
    "PADV2": ("AddPadV2", "pad"),
    "QUANTIZE": ("AddQuantize", "quantize"),
    "REDUCE_MAX": ("AddReduceMax", "reduce"),
    "RELU": ("AddRelu", "activations"),
    "RELU6": ("AddRelu6", "activations"),
    "RESHAPE": ("AddReshape", "reshape"),
    "RESIZE_NEAREST_NEIGHBOR": ("AddResizeNearestNeighbor", "resize_nearest_neighbor"),
    "SLICE": ("AddSlice", "slice"),
    "SOFTMAX": ("AddSoftmax", "softmax"),
    "SQUEEZE": ("AddSqueeze", "squeeze"),
    "STRIDED_SLICE": ("AddStridedSlice", "strided_slice"),
    "SUB": ("AddSub", "sub"),
    "TANH": ("AddTanh", "tanh"),
    "TRANSPOSE": ("AddTranspose", "transpose"),
}


@dataclass(frozen=True)
class TflmSizes:
    """Bytes. arena: for TFLite Micro's tensors and what it keeps; engine: the interpreter and its table of ops."""

    arena: int
    engine: int


def used_ops(recognizer: CompiledModel) -> list[str]:
    """Return the names of the ops that a model has, sorted.

    Raises InputError for one that is not mapped here, and where the file's ops are not those of the network that was
    read: an interpreter would have to run what the reader resolves.
    """
    if recognizer.network.variables:
        raise InputError(
            f"the model keeps state in {len(recognizer.network.variables)} variables, which the runtime tflm does not "
            f"({recognizer.name}): need a network without",
            "build without --runtime tflm: the C keeps the state, and verify compares it with TFLite Micro",
        )
    if not recognizer.network.whole:
        raise InputError(
            f"the model has ops that the compiler resolves, and an interpreter would run ({recognizer.name}): "
            "ends of another type than int8, shapes that are computed, or ops of several outputs",
            "build without --runtime tflm, or export the model with fixed shapes and int8 ends",
        )
    if len(recognizer.network.inputs) > 1 or len(recognizer.network.outputs) > 1:
        raise InputError(f"the model has several inputs or outputs, the runtime tflm takes one ({recognizer.name})")
    names = sorted({ir.op_name(op) for op in recognizer.network.ops})
    for name in names:
        if name not in _OPS:
            raise InputError(
                f"the op is not known to the runtime tflm ({recognizer.name}): got {name}, need one of "
                f"{', '.join(sorted(_OPS))}",
                "build without --runtime tflm",
            )
    return names


def measured_arena_bytes(machine: Target) -> int:
    """Return the largest arena that is tried on a machine: what its RAM has room for, up to MOST_ARENA_BYTES."""
    if machine.memory is None:
        return MOST_ARENA_BYTES
    room = machine.memory.ram_bytes - machine.memory.stack_bytes - MEASURE_ENGINE_BYTES - MEASURE_REST_BYTES
    return max(16, min(MOST_ARENA_BYTES, room // 16 * 16))


def tflm_context(recognizer: CompiledModel, sizes: TflmSizes | None, machine: Target) -> dict[str, Any]:
    """Return what the templates take; without sizes, that there is no TFLite Micro. machine: where it is measured."""
    if sizes is None:
        return {"tflm": None}
    names = used_ops(recognizer)
    data = np.frombuffer(bare_network(recognizer.data), np.uint8)
    text = "\n".join(
        "    " + " ".join(f"{value}," for value in data[start : start + 24].tolist())
        for start in range(0, len(data), 24)
    )
    return {
        "arena_bytes": sizes.arena,
        "measured_arena_bytes": measured_arena_bytes(machine),
        "tflm": {
            "resolver": [_OPS[name][0] for name in names],
            "kernels": sorted({_OPS[name][1] for name in names}),
            "layers": _layers(recognizer),
            "engine_bytes": sizes.engine,
            "network": {"count": len(data), "text": Verbatim(text)},
            "pins": PINS,
        },
    }


def _layers(recognizer: CompiledModel) -> list[dict[str, Any]]:
    """Return, for each op of the file, the number of the call that it became, and the tensor that it writes."""
    numbers = {call.name: number for number, call in enumerate(recognizer.program.calls)}
    layers = []
    for index, op in enumerate(recognizer.network.ops):
        name = call_name(index, op)
        tensor = recognizer.network.tensors[op.output]
        layers.append(
            {"name": name, "layer": numbers.get(name, -1), "tensor": op.output, "bytes": int(np.prod(tensor.shape))}
        )
    return layers
