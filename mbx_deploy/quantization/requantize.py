"""An int8 .tflite with other ranges of its activations; the weights stay."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from mbx_deploy.compiler.lower import lower
from mbx_deploy.network import ir
from mbx_deploy.network.float_network import FloatNetwork, WeightedOp, activation_tensors, over_channels
from mbx_deploy.network.metadata import pack_model, unpack_model
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization.ranges import Range

# How large a bias may be in steps of its scale. passes.lower() proves the whole accumulator.
LARGEST_BIAS = 1 << 29


def set_ranges(int8_tflite: bytes, network: FloatNetwork, ranges: Sequence[Range]) -> bytes:
    """Return the file with these ranges of its activations, and the biases that follow from them.

    network: the file's own, with the float weights. ranges: in the order of float_network.activation_tensors().
    Scales of weights and the weights stay as they are, but for a channel whose bias would not fit into 30 bits: its
    scale grows until it does.
    The same input gives the same bytes.

    Raises InputError: an accumulator may overflow, or the file would break another rule of the compiler.
    """
    model = unpack_model(int8_tflite)
    tensors = model.subgraphs[0].tensors
    for index, chosen in zip(activation_tensors(network.model), ranges, strict=True):
        quantization = chosen.quantization()
        stored = tensors[index].quantization
        stored.scale = np.array([quantization.scale], np.float32)
        stored.zeroPoint = np.array([quantization.zero_point], np.int64)
    taken: set[int] = set()
    for number, op in enumerate(network.model.ops):
        if isinstance(op, ir.Max | ir.Slice | ir.Transpose | ir.Resize):  # picks values, and can't scale them
            tensors[op.output].quantization.scale = tensors[op.input].quantization.scale
            tensors[op.output].quantization.zeroPoint = tensors[op.input].quantization.zeroPoint
        if isinstance(op, WeightedOp):
            _set_bias(model, network, number, op, taken)
    data = pack_model(model)
    lower(parse_tflite(data, "the requantized network"))
    return data


def _set_bias(model: Any, network: FloatNetwork, number: int, op: WeightedOp, taken: set[int]) -> None:
    """Quantize an op's bias anew. taken: the bias tensors of the ops before; grows."""
    graph = model.subgraphs[0]
    weights = graph.tensors[op.weights]
    source_scale = graph.tensors[op.input].quantization.scale[0]
    real = network.biases[number]
    least = (np.abs(real) / (float(source_scale) * LARGEST_BIAS)).astype(np.float32)
    scales = np.asarray(weights.quantization.scale, np.float32)
    if (scales < least).any():
        scales = np.maximum(scales, least)
        weights.quantization.scale = scales
        steps = np.rint(network.weights[number] / over_channels(op, scales.astype(np.float64), len(weights.shape)))
        _set_data(model, weights, np.clip(steps, -127, 127).astype(np.int8))
    if op.bias is None:
        return
    # float32, as TFLite multiplies them: its kernels refuse a bias whose scale is another.
    bias_scales = (np.float32(source_scale) * scales).astype(np.float32)
    steps = np.rint(real / bias_scales.astype(np.float64)).astype(np.int32)
    bias = _own_tensor(model, graph.operators[number], op.bias, taken)
    bias.quantization.scale = bias_scales
    bias.quantization.zeroPoint = np.zeros(len(bias_scales), np.int64)
    _set_data(model, bias, steps)


def _own_tensor(model: Any, operator: Any, index: int, taken: set[int]) -> Any:
    """Return an op's bias tensor; where an earlier op has it, a copy that becomes this op's alone."""
    tensors = model.subgraphs[0].tensors
    if index in taken:
        tensors.append(copy.deepcopy(tensors[index]))
        index = len(tensors) - 1
        operator.inputs = [operator.inputs[0], operator.inputs[1], index]
    taken.add(index)
    return tensors[index]


def _set_data(model: Any, tensor: Any, data: np.ndarray) -> None:
    """Give a tensor these constants: in its buffer, or in a new one where others share it and differ."""
    raw = np.frombuffer(data.tobytes(), np.uint8)
    if np.array_equal(model.buffers[tensor.buffer].data, raw):
        return
    users = sum(other.buffer == tensor.buffer for other in model.subgraphs[0].tensors)
    if users > 1:
        model.buffers.append(type(model.buffers[0])())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = raw
