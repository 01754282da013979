"""Small .tflite files for tests: any shapes, any quantization, nothing trained, and broken ones too.

network = Network()
x = network.activation((1, 1, 9, 4), 0.1, -3)
x = network.conv_2d(x, weights, [0.01], bias, 0.2, 5, activation="RELU")
data = network.build(x)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.ir import output_size
from mbx_deploy.network.metadata import write_metadata

Pair = tuple[int, int]
TYPES = {np.dtype(np.int8): "INT8", np.dtype(np.int32): "INT32", np.dtype(np.float32): "FLOAT32"}
OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}


@dataclass
class Network:
    """One graph in the making. The methods that add an op return the number of its output tensor."""

    tensors: list[schema.TensorT] = field(default_factory=list)
    buffers: list[schema.BufferT] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[schema.OperatorT] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        kind: str,
        scales: Sequence[float] | np.ndarray = (),
        zero_points: Sequence[int] = (),
        buffer: int = 0,
        axis: int = 0,
    ) -> int:
        """Add a tensor as it is described. kind: a name of TFLite's TensorType."""
        quantization = schema.QuantizationParametersT(
            scale=[float(s) for s in scales], zeroPoint=list(zero_points), quantizedDimension=axis
        )
        name = f"t{len(self.tensors)}"
        self.tensors.append(
            schema.TensorT(
                shape=list(shape),
                type=getattr(schema.TensorType, kind),
                buffer=buffer,
                name=name,
                quantization=quantization if len(scales) else None,
                hasRank=True,
            )
        )
        return len(self.tensors) - 1

    def activation(self, shape: Sequence[int], scale: float, zero_point: int) -> int:
        """Add an int8 activation."""
        return self.tensor(shape, "INT8", [scale], [zero_point])

    def constant(
        self,
        values: np.ndarray,
        scales: Sequence[float] | np.ndarray = (),
        zero_points: Sequence[int] | None = None,
        axis: int = 0,
    ) -> int:
        """Add a constant; zero points are 0 where none are given."""
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.buffers.append(schema.BufferT(data=data))
        points = [0] * len(scales) if zero_points is None else zero_points
        return self.tensor(values.shape, TYPES[values.dtype], scales, points, len(self.buffers) - 1, axis)

    def op(
        self, name: str, inputs: Sequence[int], output: int | list[int], options: str | None = None, **values: Any
    ) -> int:
        """Add an op as it is described. options: the name of its options table, with the fields that values give.

        Returns the first of its outputs.
        """
        if name not in self.codes:
            self.codes.append(name)
        outputs = [output] if isinstance(output, int) else output
        operator = schema.OperatorT(opcodeIndex=self.codes.index(name), inputs=list(inputs), outputs=outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, options + "T")()
            for key, value in values.items():
                assert hasattr(operator.builtinOptions, key), key
                setattr(operator.builtinOptions, key, value)
        self.operators.append(operator)
        return outputs[0]

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(int(length) for length in self.tensors[number].shape)

    def scale(self, number: int) -> float:
        """Return the first scale of a tensor."""
        return float(self.tensors[number].quantization.scale[0])

    def bias(self, source: int, values: np.ndarray | None, scales: Sequence[float] | np.ndarray) -> list[int]:
        """Add an int32 bias with the scales that TFLite asks for. Returns its number in a list, or none of it."""
        if values is None:
            return []
        products = [float(np.float32(self.scale(source)) * np.float32(scale)) for scale in scales]
        return [self.constant(values.astype(np.int32), products)]

    def conv_2d(
        self,
        source: int,
        weights: np.ndarray,
        scales: Sequence[float] | np.ndarray,
        bias: np.ndarray | None,
        scale: float,
        zero_point: int,
        *,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: str = "SAME",
        activation: str = "NONE",
        depthwise: bool = False,
    ) -> int:
        """Add a convolution. weights: int8 (out, height, width, in), or (1, height, width, out) if depthwise."""
        axis = 3 if depthwise else 0
        _, height, width, channels_in = self.shape(source)
        lengths = [
            output_size(size, weights.shape[1 + i], stride[i], dilation[i], padding)
            for i, size in enumerate((height, width))
        ]
        inputs = [source, self.constant(weights, scales, axis=axis), *self.bias(source, bias, scales)]
        output = self.activation((1, *lengths, weights.shape[axis]), scale, zero_point)
        values: dict[str, Any] = {
            "padding": getattr(schema.Padding, padding),
            "strideH": stride[0],
            "strideW": stride[1],
            "dilationHFactor": dilation[0],
            "dilationWFactor": dilation[1],
            "fusedActivationFunction": getattr(schema.ActivationFunctionType, activation),
        }
        if depthwise:
            multiplier = weights.shape[3] // channels_in
            return self.op(
                "DEPTHWISE_CONV_2D", inputs, output, "DepthwiseConv2DOptions", depthMultiplier=multiplier, **values
            )
        return self.op("CONV_2D", inputs, output, "Conv2DOptions", **values)

    def add(self, source: int, other: int, scale: float, zero_point: int, activation: str = "NONE") -> int:
        """Add an ADD of two activations of one shape."""
        output = self.activation(self.shape(source), scale, zero_point)
        fused = getattr(schema.ActivationFunctionType, activation)
        return self.op("ADD", [source, other], output, "AddOptions", fusedActivationFunction=fused)

    def mean(self, source: int, scale: float, zero_point: int, axes: Sequence[int] = (1, 2), keep: bool = False) -> int:
        """Add a MEAN."""
        output = self.activation(self.reduced(source, axes, keep), scale, zero_point)
        axes_index = self.constant(np.array(axes, np.int32))
        return self.op("MEAN", [source, axes_index], output, "ReducerOptions", keepDims=keep)

    def maximum(self, source: int, axes: Sequence[int] = (1, 2), keep: bool = False) -> int:
        """Add a REDUCE_MAX; its scale and zero point are the source's."""
        output = self.twin(source, self.reduced(source, axes, keep))
        axes_index = self.constant(np.array(axes, np.int32))
        return self.op("REDUCE_MAX", [source, axes_index], output, "ReducerOptions", keepDims=keep)

    def reduced(self, source: int, axes: Sequence[int], keep: bool) -> tuple[int, ...]:
        """Return the shape behind a reduction."""
        shape = self.shape(source)
        gone = {axis % len(shape) for axis in axes}
        return tuple(1 if axis in gone else n for axis, n in enumerate(shape) if keep or axis not in gone)

    def twin(self, source: int, shape: Sequence[int]) -> int:
        """Add an activation with the source's scale and zero point."""
        return self.activation(shape, self.scale(source), int(self.tensors[source].quantization.zeroPoint[0]))

    def pool(
        self,
        source: int,
        window: Pair,
        stride: Pair = (1, 1),
        padding: str = "VALID",
        activation: str = "NONE",
        average: bool = True,
    ) -> int:
        """Add an AVERAGE_POOL_2D or a MAX_POOL_2D."""
        _, height, width, channels = self.shape(source)
        lengths = [output_size(size, window[i], stride[i], 1, padding) for i, size in enumerate((height, width))]
        return self.op(
            "AVERAGE_POOL_2D" if average else "MAX_POOL_2D",
            [source],
            self.twin(source, (1, *lengths, channels)),
            "Pool2DOptions",
            padding=getattr(schema.Padding, padding),
            strideH=stride[0],
            strideW=stride[1],
            filterHeight=window[0],
            filterWidth=window[1],
            fusedActivationFunction=getattr(schema.ActivationFunctionType, activation),
        )

    def reshape(self, source: int, shape: Sequence[int]) -> int:
        """Add a RESHAPE."""
        inputs = [source, self.constant(np.array(shape, np.int32))]
        return self.op("RESHAPE", inputs, self.twin(source, shape), "ReshapeOptions", newShape=list(shape))

    def clamp(self, source: int, name: str, scale: float | None = None, zero_point: int = 0) -> int:
        """Add a RELU or RELU6; without a scale, with the source's scale and zero point."""
        shape = self.shape(source)
        output = self.twin(source, shape) if scale is None else self.activation(shape, scale, zero_point)
        return self.op(name, [source], output)

    def curve(self, source: int, name: str, scale: float = 0.1, zero_point: int = 0, alpha: float = 0.1) -> int:
        """Add a LOGISTIC or TANH, or with an output of that scale and zero point a HARD_SWISH or LEAKY_RELU."""
        scale, zero_point = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(name, (scale, zero_point))
        output = self.activation(self.shape(source), scale, zero_point)
        if name == "LEAKY_RELU":
            return self.op(name, [source], output, "LeakyReluOptions", alpha=alpha)
        return self.op(name, [source], output)

    def softmax(self, source: int, beta: float = 1.0) -> int:
        """Add a SOFTMAX."""
        output = self.activation(self.shape(source), 1 / 256, -128)
        return self.op("SOFTMAX", [source], output, "SoftmaxOptions", beta=beta)

    def pad(self, source: int, amounts: Sequence[Pair], value: int | None = None) -> int:
        """Add a PAD, or with a value a PADV2."""
        shape = [length + sum(pair) for length, pair in zip(self.shape(source), amounts, strict=True)]
        output = self.twin(source, shape)
        inputs = [source, self.constant(np.array(amounts, np.int32))]
        if value is None:
            return self.op("PAD", inputs, output, "PadOptions")
        points = [int(point) for point in self.tensors[source].quantization.zeroPoint]
        inputs.append(self.constant(np.array([value], np.int8), [self.scale(source)], points))
        return self.op("PADV2", inputs, output, "PadV2Options")

    def strided_slice(self, source: int, slices: Sequence[slice], masked: bool = False) -> int:
        """Add a STRIDED_SLICE of an axis each. masked: an end that is None by a mask, else by a number."""
        shape = self.shape(source)
        found = [part.indices(length) for part, length in zip(slices, shape, strict=True)]
        output = self.twin(source, [len(range(*limits)) for limits in found])
        begins = [77 if masked and part.start is None else part.start or 0 for part in slices]
        ends = [
            part.stop if part.stop is not None else 1 if masked else n for part, n in zip(slices, shape, strict=True)
        ]
        limits = (begins, ends, [part.step or 1 for part in slices])
        masks = [
            sum(1 << axis for axis, part in enumerate(slices) if masked and getattr(part, name) is None)
            for name in ("start", "stop")
        ]
        inputs = [source, *(self.constant(np.array(values, np.int32)) for values in limits)]
        options = {"beginMask": masks[0], "endMask": masks[1]}
        return self.op("STRIDED_SLICE", inputs, output, "StridedSliceOptions", **options)

    def brought(self, source: int, kind: str, scale: float, zero_point: int) -> int:
        """Add a QUANTIZE, or to FLOAT32 a DEQUANTIZE. kind: a name of TFLite's TensorType."""
        if kind == "FLOAT32":
            return self.op("DEQUANTIZE", [source], self.tensor(self.shape(source), kind))
        return self.op("QUANTIZE", [source], self.tensor(self.shape(source), kind, [scale], [zero_point]))

    def binary(
        self, name: str, source: int, other: int, scale: float, zero_point: int, activation: str = "NONE"
    ) -> int:
        """Add a MUL, SUB or ADD with broadcasting, of activations or constants."""
        output = self.activation(np.broadcast_shapes(self.shape(source), self.shape(other)), scale, zero_point)
        fused = getattr(schema.ActivationFunctionType, activation)
        return self.op(name, [source, other], output, OPTIONS[name], fusedActivationFunction=fused)

    def concatenation(self, sources: Sequence[int], axis: int) -> int:
        """Add a CONCATENATION."""
        shape = list(self.shape(sources[0]))
        shape[axis] = sum(self.shape(source)[axis] for source in sources)
        return self.op(
            "CONCATENATION", sources, self.twin(sources[0], shape), "ConcatenationOptions", axis=axis - len(shape)
        )

    def pack(self, sources: Sequence[int], axis: int) -> int:
        """Add a PACK."""
        shape = list(self.shape(sources[0]))
        shape.insert(axis, len(sources))
        output = self.twin(sources[0], shape)
        return self.op("PACK", sources, output, "PackOptions", axis=axis, valuesCount=len(sources))

    def unpack(self, source: int, axis: int) -> list[int]:
        """Add an UNPACK."""
        shape = list(self.shape(source))
        outputs = [self.twin(source, shape[:axis] + shape[axis + 1 :]) for _ in range(shape[axis])]
        self.op("UNPACK", [source], outputs, "UnpackOptions", axis=axis, num=len(outputs))
        return outputs

    def split(self, source: int, axis: int, sizes: Sequence[int], even: bool) -> list[int]:
        """Add a SPLIT, or where it is not even a SPLIT_V."""
        shape = list(self.shape(source))
        outputs = [self.twin(source, [*shape[:axis], size, *shape[axis + 1 :]]) for size in sizes]
        along = self.constant(np.array(axis - len(shape), np.int32))
        if even:
            self.op("SPLIT", [along, source], outputs, "SplitOptions", numSplits=len(sizes))
        else:
            limits = self.constant(np.array(sizes, np.int32))
            self.op("SPLIT_V", [source, limits, along], outputs, "SplitVOptions", numSplits=len(sizes))
        return outputs

    def part(self, source: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """Add a SLICE; a size of -1 is all that is left."""
        shape = self.shape(source)
        taken = [n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True)]
        limits = [self.constant(np.array(values, np.int32)) for values in (begin, size)]
        return self.op("SLICE", [source, *limits], self.twin(source, taken), "SliceOptions")

    def transpose(self, source: int, order: Sequence[int]) -> int:
        """Add a TRANSPOSE."""
        shape = self.shape(source)
        inputs = [source, self.constant(np.array(order, np.int32))]
        return self.op("TRANSPOSE", inputs, self.twin(source, [shape[i] for i in order]), "TransposeOptions")

    def resize(self, source: int, size: Pair, corners: bool = False, centers: bool = False) -> int:
        """Add a RESIZE_NEAREST_NEIGHBOR."""
        output = self.twin(source, [1, *size, self.shape(source)[3]])
        inputs = [source, self.constant(np.array(size, np.int32))]
        options = {"alignCorners": corners, "halfPixelCenters": centers}
        return self.op("RESIZE_NEAREST_NEIGHBOR", inputs, output, "ResizeNearestNeighborOptions", **options)

    def fully_connected(
        self,
        source: int,
        weights: np.ndarray,
        scales: Sequence[float] | np.ndarray,
        bias: np.ndarray | None,
        scale: float,
        zero_point: int,
        activation: str = "NONE",
    ) -> int:
        """Add a FULLY_CONNECTED. weights: int8 (out, in). An input of several rows keeps its axes."""
        inputs = [source, self.constant(weights, scales), *self.bias(source, bias, scales)]
        rows = int(np.prod(self.shape(source))) // weights.shape[1]
        output = self.activation((1, rows, len(weights)) if rows > 1 else (1, len(weights)), scale, zero_point)
        fused = getattr(schema.ActivationFunctionType, activation)
        return self.op("FULLY_CONNECTED", inputs, output, "FullyConnectedOptions", fusedActivationFunction=fused)

    def model(self, output: int | list[int], source: int | list[int] = 0) -> schema.ModelT:
        """Return the model as objects, for a test to break before it packs it."""
        ends = [[end] if isinstance(end, int) else end for end in (source, output)]
        graph = schema.SubGraphT(
            tensors=self.tensors, inputs=ends[0], outputs=ends[1], operators=self.operators, name="main"
        )
        numbers = [getattr(schema.BuiltinOperator, code) for code in self.codes]
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=min(n, 127), builtinCode=n, version=5) for n in numbers]
        return schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers)

    def build(
        self, output: int | list[int], metadata: dict[str, Any] | None = None, source: int | list[int] = 0
    ) -> bytes:
        """Return the file; its input is tensor 0, or those that are given."""
        data = pack(self.model(output, source))
        return data if metadata is None else write_metadata(data, metadata)


def pack(model: schema.ModelT) -> bytes:
    """Return the bytes of a model."""
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def metadata_for(config: FrontendConfig, labels: Sequence[str]) -> dict[str, Any]:
    """Return what export stores beside a network."""
    return {
        "format": 1,
        "labels": list(labels),
        "frontend": config.to_dict(),
        "frontend_digest": config.digest(),
        "training": {},
        "accuracy": {},
    }


def random_weights(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Return int8 weights in -127..127, both ends among them where there is room."""
    weights = rng.integers(-127, 128, tuple(shape), dtype=np.int8)
    weights.ravel()[:2] = (127, -127)[: weights.size]
    return weights


def small_artifact(
    config: FrontendConfig, labels: Sequence[str] = ("no", "yes", "silence"), seed: int = 0, channels: int = 6
) -> bytes:
    """Return an artifact whose network has each op once and answers differently to different features.

    DEPTHWISE_CONV_2D 1x3, CONV_2D 1x1, ADD, MEAN, FULLY_CONNECTED.
    """
    rng = np.random.default_rng(seed)
    coefficients = config.num_coefficients
    network = Network()
    x = network.activation((1, 1, config.num_frames, coefficients), 0.6, 11)
    scales = rng.uniform(0.004, 0.01, coefficients)
    weights, bias = random_weights(rng, (1, 1, 3, coefficients)), rng.integers(-900, 900, coefficients)
    x = network.conv_2d(x, weights, scales, bias, 0.7, -7, depthwise=True)
    scales = rng.uniform(0.004, 0.01, channels) / np.sqrt(coefficients)
    bias = rng.integers(-900, 900, channels)
    left = network.conv_2d(x, random_weights(rng, (channels, 1, 1, coefficients)), scales, bias, 0.3, -20)
    weights = random_weights(rng, (channels, 1, 1, coefficients))
    right = network.conv_2d(x, weights, scales[::-1], None, 0.25, 3, activation="RELU")
    x = network.add(left, right, 0.2, -10)
    x = network.mean(x, 0.05, -5)
    weights = random_weights(rng, (len(labels), channels))
    x = network.fully_connected(x, weights, [0.01], rng.integers(-90, 90, len(labels)), 0.08, 4)
    return network.build(x, metadata_for(config, labels))
