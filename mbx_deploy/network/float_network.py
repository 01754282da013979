"""A quantized network's ops in float arithmetic, on many clips at once: what its activations ought to be.

The weights are the dequantized int8 ones, or those of the float .tflite that the converter made beside it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_never

import numpy as np

from mbx_deploy.errors import CheckFailed
from mbx_deploy.network import ir

BATCH_CLIPS = 32  # so that the activations of a batch stay in the cache's reach


@dataclass(frozen=True)
class FloatNetwork:
    """The ops of a model, with real weights.

    weights: op's number -> float64, in the file's layout. biases: op's number -> float64 (channels,), zeros where the
    file has none.
    """

    model: ir.Model
    weights: dict[int, np.ndarray]
    biases: dict[int, np.ndarray]


WeightedOp = ir.Conv2D | ir.DepthwiseConv2D | ir.FullyConnected


def channel_axis(op: WeightedOp) -> int:
    """Return the axis of the weights that counts output channels."""
    return 3 if isinstance(op, ir.DepthwiseConv2D) else 0


def over_channels(op: WeightedOp, values: np.ndarray, rank: int) -> np.ndarray:
    """Return one value a channel, (channels,), in a shape that is broadcast over weights of that rank."""
    return values.reshape([-1 if axis == channel_axis(op) else 1 for axis in range(rank)])


def dequantize_network(model: ir.Model) -> FloatNetwork:
    """Return the network of the int8 weights: without rounding of activations, with that of weights."""
    weights: dict[int, np.ndarray] = {}
    biases: dict[int, np.ndarray] = {}
    for number, op in enumerate(model.ops):
        if not isinstance(op, WeightedOp):
            continue
        tensor = model.tensors[op.weights]
        assert tensor.data is not None
        scales = np.array(tensor.scales, np.float64)
        weights[number] = tensor.data * over_channels(op, scales, tensor.data.ndim)
        biases[number] = np.zeros(tensor.shape[channel_axis(op)])
        if op.bias is not None:
            data = model.tensors[op.bias].data
            assert data is not None
            biases[number] = data.ravel() * (float(model.tensors[op.input].scale) * scales)
    return FloatNetwork(model, weights, biases)


def read_float_network(model: ir.Model, float_tflite: bytes) -> FloatNetwork:
    """Return the network of the weights that the converter wrote before it quantized them.

    float_tflite: of the same network, op for op. Raises CheckFailed where it is not.
    """
    import tflite

    file = tflite.Model.GetRootAs(float_tflite, 0)
    graph = file.Subgraphs(0)
    names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
    found = []
    for number in range(graph.OperatorsLength()):
        code = file.OperatorCodes(graph.Operators(number).OpcodeIndex())
        found.append(names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "?"))
    expected = [ir.op_name(op) for op in model.ops]
    if found != expected:
        raise CheckFailed(f"the float network is not the int8 one (its ops): got {found}, need {expected}")
    weights: dict[int, np.ndarray] = {}
    biases: dict[int, np.ndarray] = {}
    for number, op in enumerate(model.ops):
        if not isinstance(op, WeightedOp):
            continue
        inputs = graph.Operators(number).InputsAsNumpy()
        constants = [_constant(file, graph.Tensors(int(index))) for index in inputs[1:] if index >= 0]
        shape = model.tensors[op.weights].shape
        if constants[0].shape != shape:
            raise CheckFailed(f"the float network is not the int8 one (op {number}): {constants[0].shape}, not {shape}")
        weights[number] = constants[0]
        biases[number] = constants[1] if len(constants) > 1 else np.zeros(shape[channel_axis(op)])
    return FloatNetwork(model, weights, biases)


def _constant(file: Any, tensor: Any) -> np.ndarray:
    raw = np.asarray(file.Buffers(tensor.Buffer()).DataAsNumpy(), np.uint8).tobytes()
    return np.frombuffer(raw, "<f4").astype(np.float64).reshape(tuple(tensor.ShapeAsNumpy()))


def activation_tensors(model: ir.Model) -> tuple[int, ...]:
    """Return the tensors that are int8 at run time: the input, then every op's output, in the order of the ops."""
    return (model.input, *(op.output for op in model.ops))


def activations(network: FloatNetwork, features: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the values of each of activation_tensors(), for many clips.

    features: (N, num_frames, num_coefficients) in natural units. Values: float64 (N, height, width, channels), those
    of a fully connected layer (N, channels).
    """
    model = network.model
    last_reader = {index: number for number, op in enumerate(model.ops) for index in ir.op_inputs(op)}
    values = {model.input: as_input(model, features)}
    yield values[model.input]
    for number, op in enumerate(model.ops):
        values[op.output] = run_op(network, number, [values[index] for index in ir.op_inputs(op)])
        yield values[op.output]
        for index in ir.op_inputs(op):
            if last_reader[index] == number:
                values.pop(index, None)


def as_input(model: ir.Model, features: np.ndarray) -> np.ndarray:
    """Return features (N, num_frames, num_coefficients) as the model's input, float64 (N, height, width, channels)."""
    return features.reshape(len(features), *model.tensors[model.input].shape[1:]).astype(np.float64)


def float_logits(network: FloatNetwork, features: np.ndarray) -> np.ndarray:
    """Return float64 (N, classes). features: as activations()."""
    where = activation_tensors(network.model).index(network.model.output)
    return next(islice(activations(network, features), where, None)).reshape(len(features), -1)


def run_op(network: FloatNetwork, number: int, sources: list[np.ndarray]) -> np.ndarray:
    """Return an op's output for its inputs, (N, height, width, channels) each."""
    op, tensors = network.model.ops[number], network.model.tensors
    source = sources[0]
    shape = tensors[op.output].shape
    match op:
        case ir.Mean() | ir.Max():
            image = source.reshape(len(source), *ir.as_image(tensors[op.input].shape)[1:])
            reduced = image.mean(axis=op.axes) if isinstance(op, ir.Mean) else image.max(axis=op.axes)
            shaped: np.ndarray = reduced.reshape(len(source), *shape[1:])
            return shaped
        case ir.Reshape():
            return source.reshape(len(source), *shape[1:])
        case ir.Clamp():
            return _activate(source, op.name)
        case ir.Curve():
            return _CURVES[op.name](source, op.alpha)
        case ir.Softmax():
            scores = np.exp(op.beta * (source - source.max(axis=-1, keepdims=True)))
            posteriors: np.ndarray = scores / scores.sum(axis=-1, keepdims=True)
            return posteriors
        case ir.Pad():
            target = tensors[op.output]
            return np.pad(source, op.amounts, constant_values=float(target.scale) * (op.value - target.zero_point))
        case ir.Slice():
            steps = [slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(op.begin, op.count, op.stride, strict=True)]
            return source[(slice(None), *steps[1:])].reshape(len(source), *shape[1:])
        case ir.Requantize():
            return source
        case ir.Binary():
            return _activate(_combine(network.model, op, sources), op.activation)
        case ir.Concatenate():
            if len(sources) == 1:
                return source.reshape(len(source), *shape[1:])
            parts = [part.reshape(len(part), *_of_part(shape, op, part)) for part in sources]
            return np.concatenate(parts, axis=op.axis)
        case ir.Transpose():
            return np.stack([clip[None].transpose(op.order).reshape(shape[1:]) for clip in source])
        case ir.Resize():
            return source[:, list(op.rows)][:, :, list(op.columns)]
        case ir.Pool2D():
            return _activate(_pool(source, op, shape), op.activation)
        case ir.Add():
            return _activate(sources[0] + sources[1], op.activation)
        case ir.FullyConnected():
            weights = network.weights[number]
            result = source.reshape(-1, weights.shape[1]) @ weights.T + network.biases[number]
            return _activate(result.reshape(len(source), *shape[1:]), op.activation)
        case ir.Conv2D() | ir.DepthwiseConv2D():
            result = _convolve(source, network.weights[number], op, shape) + network.biases[number]
            return _activate(result, op.activation)
        case _:
            assert_never(op)


_CURVES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "HARD_SWISH": lambda x, alpha: x * np.clip(x + 3, 0, 6) / 6,
    "LEAKY_RELU": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "LOGISTIC": lambda x, alpha: 0.5 + 0.5 * np.tanh(0.5 * x),
    "TANH": lambda x, alpha: np.tanh(x),
}


def _combine(model: ir.Model, op: ir.Binary, sources: list[np.ndarray]) -> np.ndarray:
    operands = list(sources)
    if op.constant is not None:
        tensor = model.tensors[op.constant]
        assert tensor.data is not None
        operands.append((tensor.data.astype(np.float64) - tensor.zero_point) * float(tensor.scale))
    left, right = reversed(operands) if op.swapped else operands
    combined: np.ndarray = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply}[op.name](left, right)
    return combined


def _of_part(shape: tuple[int, ...], op: ir.Concatenate, part: np.ndarray) -> tuple[int, ...]:
    """Return the shape of an input of a concatenation without its batch, with the axis that PACK adds."""
    others = int(np.prod(shape[1:], dtype=np.int64)) // shape[op.axis]
    length = part.size // len(part) // others
    return (*shape[1 : op.axis], length, *shape[op.axis + 1 :])


def _pool(source: np.ndarray, op: ir.Pool2D, shape: tuple[int, ...]) -> np.ndarray:
    starts = []
    for axis in range(2):
        reach = (shape[1 + axis] - 1) * op.stride[axis] + op.window[axis] - source.shape[1 + axis]
        before = max(0, reach) // 2 if op.padding == "SAME" else 0
        starts.append([at * op.stride[axis] - before for at in range(shape[1 + axis])])
    result = np.empty((len(source), *shape[1:]))
    for y, top in enumerate(starts[0]):
        for x, left in enumerate(starts[1]):
            rows, columns = slice(max(0, top), top + op.window[0]), slice(max(0, left), left + op.window[1])
            seen = source[:, rows, columns]
            result[:, y, x] = seen.mean(axis=(1, 2)) if op.name == "AVERAGE_POOL_2D" else seen.max(axis=(1, 2))
    return result


def _convolve(
    source: np.ndarray, weights: np.ndarray, op: ir.Conv2D | ir.DepthwiseConv2D, shape: tuple[int, ...]
) -> np.ndarray:
    padding = []
    for axis in (1, 2):
        extent = (weights.shape[axis] - 1) * op.dilation[axis - 1] + 1
        reach = max(0, (shape[axis] - 1) * op.stride[axis - 1] + extent - source.shape[axis])
        padding.append((reach // 2, reach - reach // 2) if op.padding == "SAME" else (0, 0))
    padded = np.pad(source, ((0, 0), *padding, (0, 0)))
    total = np.zeros((len(source), *shape[1:]))
    for y in range(weights.shape[1]):
        for x in range(weights.shape[2]):
            starts = (y * op.dilation[0], x * op.dilation[1])
            window = tuple(
                slice(start, start + (shape[axis] - 1) * op.stride[axis - 1] + 1, op.stride[axis - 1])
                for axis, start in enumerate(starts, start=1)
            )
            inputs = padded[(slice(None), *window)]
            if isinstance(op, ir.Conv2D):
                # One large product: numpy has no fast routine for a stack of small ones.
                total += (inputs.reshape(-1, inputs.shape[3]) @ weights[:, y, x].T).reshape(total.shape)
            elif op.depth_multiplier == 1:
                total += inputs * weights[0, y, x]
            else:
                total += np.repeat(inputs, op.depth_multiplier, axis=3) * weights[0, y, x]
    return total


def _activate(values: np.ndarray, activation: str) -> np.ndarray:
    if activation == "NONE":
        return values
    low, high = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}.get(activation, (0.0, None))
    bounded: np.ndarray = np.clip(values, low, high)
    return bounded
