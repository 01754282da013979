"""A model whose MEAN is an AVERAGE_POOL_2D and a RESHAPE, for compilers that have no MEAN.

TFLite's average pool keeps the scale of its input, and its MEAN chooses one of its own. So the dense layer behind it
gets another input scale, and its bias is rounded to it: another network by a hair, and of the same shapes and work.
Whoever is compared runs this one.
"""

from typing import Any

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.network.metadata import pack_model, unpack_model

_AVERAGE_POOL_VERSION, _RESHAPE_VERSION = 2, 1  # those of int8
_VALID_PADDING = 1


def replace_mean(data: bytes) -> bytes:
    """Return the .tflite without its metadata, its MEAN over height and width replaced.

    Raises InputError where the model does not end in a MEAN and a FULLY_CONNECTED, ToolMissing without ai-edge-litert.
    """
    model = unpack_model(data)
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    if kinds[-2:] != [schema.BuiltinOperator.MEAN, schema.BuiltinOperator.FULLY_CONNECTED]:
        raise InputError("the benchmark takes a model that ends in MEAN and FULLY_CONNECTED", "pass another --model")
    mean, dense = graph.operators[-2:]
    source, mean_output = graph.tensors[mean.inputs[0]], graph.tensors[mean.outputs[0]]
    _, height, width, channels = (int(size) for size in source.shape)
    _rescale_bias(model, graph, dense, mean_output.quantization.scale[0], source.quantization.scale[0])
    mean_output.quantization = source.quantization

    pooled = _tensor(schema, b"pooled", (1, 1, 1, channels), source.type, 0)
    pooled.quantization = source.quantization
    shape = _tensor(schema, b"pooled_shape", (2,), schema.TensorType.INT32, len(model.buffers))
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.frombuffer(np.array([1, channels], "<i4").tobytes(), np.uint8)
    graph.tensors += [pooled, shape]
    pooled_index, shape_index = len(graph.tensors) - 2, len(graph.tensors) - 1

    pool = schema.Pool2DOptionsT()
    pool.padding, pool.fusedActivationFunction = _VALID_PADDING, schema.ActivationFunctionType.NONE
    pool.filterHeight, pool.filterWidth, pool.strideH, pool.strideW = height, width, height, width
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = np.array([1, channels], np.int32)
    graph.operators[-2:] = [
        _operator(
            _code(schema, model, schema.BuiltinOperator.AVERAGE_POOL_2D, _AVERAGE_POOL_VERSION),
            (schema.BuiltinOptions.Pool2DOptions, pool),
            [mean.inputs[0]],
            [pooled_index],
            schema,
        ),
        _operator(
            _code(schema, model, schema.BuiltinOperator.RESHAPE, _RESHAPE_VERSION),
            (schema.BuiltinOptions.ReshapeOptions, reshape),
            [pooled_index, shape_index],
            [mean.outputs[0]],
            schema,
        ),
        dense,
    ]
    model.metadata = []
    return pack_model(model)


def _rescale_bias(model: Any, graph: Any, dense: Any, old_scale: float, new_scale: float) -> None:
    """Give the dense layer's bias the scale of its new input, and its values that of the old one's product."""
    weights, bias = (graph.tensors[index] for index in dense.inputs[1:3])
    buffer = model.buffers[bias.buffer]
    values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), "<i4")
    rescaled = np.round(values * (float(old_scale) / float(new_scale))).astype("<i4")
    buffer.data = np.frombuffer(rescaled.tobytes(), np.uint8)
    bias.quantization.scale = np.float32(new_scale) * np.asarray(weights.quantization.scale, np.float32)


def _tensor(schema: Any, name: bytes, shape: tuple[int, ...], kind: int, buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, np.int32), kind, buffer
    tensor.hasRank = True
    return tensor


def _code(schema: Any, model: Any, kind: int, version: int) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, kind, version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _operator(code: int, options: tuple[int, Any], inputs: list[int], outputs: list[int], schema: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.builtinOptionsType, operator.builtinOptions = options
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    return operator
