"""The network between the .tflite file and the lowered program: tensors, a closed set of ops, and their rules."""

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """A tensor and its quantization: real = scale * (value - zero_point).

    shape: as in the file. dtype: "int8" or "int32". scales: float32, one, or one an output channel; empty where the
    file gives none. zero_point: one for the tensor. data: the constant, or None for an activation. scale_axis: along
    which several scales run.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[np.float32, ...]
    zero_point: int
    data: np.ndarray | None = None
    scale_axis: int = 0

    @property
    def scale(self) -> np.float32:
        """The one scale of a per-tensor quantization."""
        return self.scales[0]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Conv2D:
    """TFLite's CONV_2D. weights: (out, kernel_h, kernel_w, in); indices are into Model.tensors."""

    input: int
    weights: int
    bias: int | None
    output: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: str
    activation: str


@dataclass(frozen=True)
class DepthwiseConv2D:
    """TFLite's DEPTHWISE_CONV_2D. weights: (1, kernel_h, kernel_w, out); out = in * depth_multiplier."""

    input: int
    weights: int
    bias: int | None
    output: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: str
    activation: str
    depth_multiplier: int


@dataclass(frozen=True)
class Add:
    """TFLite's ADD of two activations of one shape."""

    input: int
    other: int
    output: int
    activation: str


@dataclass(frozen=True)
class Mean:
    """TFLite's MEAN. axes: neighbours of a tensor seen as (1, height, width, channels)."""

    input: int
    output: int
    axes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Max:
    """TFLite's REDUCE_MAX; input and output have one scale and zero point. axes: as Mean's."""

    input: int
    output: int
    axes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class FullyConnected:
    """TFLite's FULLY_CONNECTED. weights: (out, in)."""

    input: int
    weights: int
    bias: int | None
    output: int
    activation: str


@dataclass(frozen=True)
class Pool2D:
    """TFLite's AVERAGE_POOL_2D or MAX_POOL_2D, as name says; input and output have one scale and zero point."""

    name: str
    input: int
    output: int
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: str
    activation: str


@dataclass(frozen=True)
class Reshape:
    """The same bytes under another shape: TFLite's RESHAPE, SQUEEZE or EXPAND_DIMS, as name says."""

    name: str
    input: int
    output: int


@dataclass(frozen=True)
class Clamp:
    """TFLite's RELU or RELU6, as name says, where it stands alone."""

    name: str
    input: int
    output: int


@dataclass(frozen=True)
class Curve:
    """TFLite's LOGISTIC, TANH, HARD_SWISH or LEAKY_RELU, as name says. alpha: float32's value, of LEAKY_RELU."""

    name: str
    input: int
    output: int
    alpha: float = 0.0


@dataclass(frozen=True)
class Softmax:
    """TFLite's SOFTMAX over the last axis; its output has scale 1/256 and zero point -128. beta: float32's value."""

    input: int
    output: int
    beta: float


@dataclass(frozen=True)
class Pad:
    """TFLite's PAD or PADV2, as name says. amounts: (before, after) an axis. value: int8, what is added."""

    name: str
    input: int
    output: int
    amounts: tuple[tuple[int, int], ...]
    value: int


@dataclass(frozen=True)
class Slice:
    """TFLite's STRIDED_SLICE or SLICE, or one output of its SPLIT, SPLIT_V or UNPACK, as name says, resolved.

    begin, stride, count: one an axis of the input; what is taken has the output's size, under its shape.
    """

    name: str
    input: int
    output: int
    begin: tuple[int, ...]
    stride: tuple[int, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class Requantize:
    """TFLite's QUANTIZE between int8 tensors: the same values at another scale and zero point."""

    input: int
    output: int


@dataclass(frozen=True)
class Binary:
    """TFLite's MUL, SUB or ADD, as name says, with broadcasting. ADD of two activations of one shape is Add.

    Of input and other, or of input and a constant tensor. swapped: the constant is the first operand.
    """

    name: str
    input: int
    other: int | None
    constant: int | None
    output: int
    activation: str
    swapped: bool = False


@dataclass(frozen=True)
class Concatenate:
    """TFLite's CONCATENATION or PACK, as name says: inputs behind each other along an axis of the output."""

    name: str
    inputs: tuple[int, ...]
    output: int
    axis: int

    @property
    def input(self) -> int:
        """The first of the inputs."""
        return self.inputs[0]


@dataclass(frozen=True)
class Transpose:
    """TFLite's TRANSPOSE. order: axis of the output -> axis of the input."""

    input: int
    output: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class Resize:
    """TFLite's RESIZE_NEAREST_NEIGHBOR. rows, columns: of the output -> of the input."""

    input: int
    output: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]


Op = (
    Conv2D
    | DepthwiseConv2D
    | Add
    | Binary
    | Concatenate
    | Requantize
    | Resize
    | Transpose
    | Mean
    | Max
    | FullyConnected
    | Pool2D
    | Reshape
    | Clamp
    | Curve
    | Softmax
    | Pad
    | Slice
)


@dataclass(frozen=True)
class End:
    """An input or output of a network. tensor: its int8 one.

    dtype: what the file has there: int8, or uint8 or float32, which an op of the file or the reader makes int8 of. A
    uint8 value is the int8 one plus 128. place: of the tensor that the file has there, among its own.
    """

    tensor: int
    dtype: str
    place: int


@dataclass(frozen=True)
class Variable:
    """What a network remembers from one run to the next.

    read: the tensor (of a network) or buffer (of a program) that holds it from a run's beginning; nothing writes it.
    assigned: the one whose values the next run finds in read. initial: int8, those of the first run.
    """

    name: str
    read: int
    assigned: int
    initial: np.ndarray


@dataclass(frozen=True)
class Model:
    """A network of int8 inputs and int8 outputs, its ops in the order in which they run.

    metadata: what mbx-deploy stores in the file (labels, front end, training, accuracy), or None. digest: SHA-256 of
    the file. whole: whether every op of the file is one of the ops, and none was resolved or cut. variables: its state.
    """

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    metadata: dict[str, Any] | None
    digest: str
    whole: bool = True
    variables: tuple[Variable, ...] = ()

    @property
    def input(self) -> int:
        """The first input: the only one of a network that hears."""
        return self.inputs[0].tensor

    @property
    def output(self) -> int:
        """The first output: the only one of a network that hears."""
        return self.outputs[0].tensor


def op_inputs(op: Op) -> tuple[int, ...]:
    """Return the indices of the activations that an op reads."""
    match op:
        case Add():
            return (op.input, op.other)
        case Binary():
            return (op.input,) if op.other is None else (op.input, op.other)
        case Concatenate():
            return op.inputs
        case Conv2D() | DepthwiseConv2D() | FullyConnected() | Mean() | Max() | Pool2D():
            return (op.input,)
        case Reshape() | Clamp() | Curve() | Softmax() | Pad() | Slice() | Requantize() | Transpose() | Resize():
            return (op.input,)
        case _:
            assert_never(op)


def op_name(op: Op) -> str:
    """Return TFLite's name of an op."""
    match op:
        case Pool2D() | Reshape() | Clamp() | Curve() | Pad() | Slice() | Binary() | Concatenate():
            return op.name
        case Conv2D():
            return "CONV_2D"
        case DepthwiseConv2D():
            return "DEPTHWISE_CONV_2D"
        case Add():
            return "ADD"
        case Mean():
            return "MEAN"
        case Max():
            return "REDUCE_MAX"
        case FullyConnected():
            return "FULLY_CONNECTED"
        case Softmax():
            return "SOFTMAX"
        case Requantize():
            return "QUANTIZE"
        case Transpose():
            return "TRANSPOSE"
        case Resize():
            return "RESIZE_NEAREST_NEIGHBOR"
        case _:
            assert_never(op)


def as_image(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return a shape as (1, height, width, channels): its axes behind the first are the last ones.

    Of more than four axes all but the first become channels.
    """
    rest = shape[1:]
    if len(rest) > 3:
        return (1, 1, 1, int(np.prod(rest, dtype=np.int64)))
    height, width, channels = (1,) * (3 - len(rest)) + rest
    return (1, height, width, channels)


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """Return the length of a convolution's output along one axis. Source: TFLite, ComputeOutSize."""
    extent = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else -(-(size - extent + 1) // stride)
