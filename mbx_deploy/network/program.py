"""The lowered network: calls of the runtime's kernels, integers only.

What the simulator runs and the C is written from.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, assert_never

import numpy as np

from mbx_deploy.network.ir import Variable


@dataclass(frozen=True)
class Buffer:
    """An int8 activation in the arena: (height, width, channels), channels innermost."""

    name: str
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (self.height, self.width, self.channels)

    @property
    def size_bytes(self) -> int:
        """Bytes in the arena."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class Requantization:
    """From an int32 accumulator to int8, one row a channel.

    bias: int32 (channels,). multiplier: int32 Q31 (channels,). shift: int8 (channels,), positive to the left.
    result = clamp(multiply_by_quantized_multiplier(accumulator + bias) + zero_point, low, high).
    """

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    zero_point: int
    low: int
    high: int


class _Traits:
    """What the planner asks of any call; a call of which it is not so says so.

    keeps_bytes: the output is the input's bytes. keeps_sums: a stripe is of the input's rows, from which sums in
    working memory grow; the output is written with the last one.
    """

    keeps_bytes: ClassVar[bool] = False
    keeps_sums: ClassVar[bool] = False

    def rows_before(self, axis: int) -> int:
        """Return how many rows before its own an output sees. axis: 0 where rows run along height, 1: along width."""
        return 0

    def rows_behind(self, axis: int) -> int:
        """Return how many rows behind its own an output sees; negative where it sees not even its own."""
        return 0


@dataclass(frozen=True)
class Pointwise(_Traits):
    """A matrix product at every position: a 1x1 convolution, or a fully connected layer (one position).

    weights: int8 (out, in). The input's zero point is folded into the bias.
    Kernels: mbx_pointwise(), mbx_dense() of one position.
    """

    name: str
    input: int
    output: int
    positions: int
    weights: np.ndarray
    requantization: Requantization


@dataclass(frozen=True)
class Convolution(_Traits):
    """A convolution with padding, stride and dilation. Padding holds the input's zero point.

    weights: int8 (out, kernel_h, kernel_w, in), or (kernel_h, kernel_w, out) if depthwise. pad: rows above, columns
    to the left.
    Kernels: mbx_conv_2d(), mbx_depthwise_conv_2d(), mbx_depthwise_line().
    """

    name: str
    input: int
    output: int
    depthwise: bool
    weights: np.ndarray
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    input_zero_point: int
    requantization: Requantization

    def rows_before(self, axis: int) -> int:
        """Return how many rows before its own an output sees."""
        return self.pad[axis]

    def rows_behind(self, axis: int) -> int:
        """Return how many rows behind its own an output sees."""
        return (self.kernel[axis] - 1) * self.dilation[axis] - self.pad[axis]


@dataclass(frozen=True)
class Addition(_Traits):
    """The sum of two activations, each brought to a common scale first. Kernel: mbx_add().

    multipliers, shifts: of the first input, the second, the sum; shifts are 0 or negative (to the right).
    """

    name: str
    input: int
    other: int
    output: int
    zero_points: tuple[int, int, int]
    multipliers: tuple[int, int, int]
    shifts: tuple[int, int, int]
    low: int
    high: int


@dataclass(frozen=True)
class Average(_Traits):
    """The mean over axes that are neighbours. Kernel: mbx_mean().

    axes: of (height, width, channels).
    """

    keeps_sums: ClassVar[bool] = True

    name: str
    input: int
    output: int
    input_zero_point: int
    output_zero_point: int
    multiplier: int
    shift: int
    axes: tuple[int, ...] = (0, 1)


@dataclass(frozen=True)
class Maximum(_Traits):
    """The largest value over axes that are neighbours. Kernel: mbx_max(). axes: as Average's."""

    name: str
    input: int
    output: int
    axes: tuple[int, ...] = (0, 1)


@dataclass(frozen=True)
class Pooling(_Traits):
    """The mean or the largest value of each window. Kernels: mbx_pool_average(), mbx_pool_max().

    pad: rows above, columns to the left; what lies there is not counted.
    """

    name: str
    input: int
    output: int
    average: bool
    window: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    low: int
    high: int


@dataclass(frozen=True)
class Lookup(_Traits):
    """A function of each value by itself. table: int8 (256,), of -128 first. Kernel: mbx_lookup()."""

    name: str
    input: int
    output: int
    table: np.ndarray


@dataclass(frozen=True)
class Softmax(_Traits):
    """Softmax along the channels. exponentials_q31: softmax_table.softmax_exponentials(). Kernel: mbx_softmax()."""

    name: str
    input: int
    output: int
    exponentials_q31: np.ndarray


@dataclass(frozen=True)
class Padding(_Traits):
    """Values around the input. amounts: (before, after) of height, width and channels. Kernel: mbx_pad()."""

    name: str
    input: int
    output: int
    amounts: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    value: int


@dataclass(frozen=True)
class Slice(_Traits):
    """Every so many of the input's values along each axis. Kernel: mbx_slice().

    begin, stride, count: of height, width and channels of the input; the output has as many values, in their order.
    """

    name: str
    input: int
    output: int
    begin: tuple[int, int, int]
    stride: tuple[int, int, int]
    count: tuple[int, int, int]


@dataclass(frozen=True)
class Transposition(_Traits):
    """The input's values in another order. Kernel: mbx_slice(), with an output elsewhere.

    count: lengths of three loops, the last one innermost. step: by how many bytes of the input each goes on.
    """

    name: str
    input: int
    output: int
    count: tuple[int, int, int]
    step: tuple[int, int, int]


@dataclass(frozen=True)
class Join(_Traits):
    """Pieces of two activations by turns: pieces times first bytes of input, second bytes of other. Kernel: mbx_join().

    So concatenated are arrays whose axes before the one in question have that many positions.
    """

    name: str
    input: int
    other: int
    output: int
    pieces: int
    first: int
    second: int


@dataclass(frozen=True)
class Resizing(_Traits):
    """Rows and columns of the input, some of them several times. Kernel: mbx_resize().

    rows, columns: of the output -> of the input.
    """

    name: str
    input: int
    output: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Combination(_Traits):
    """Two operands value by value, with broadcasting. The second one is an activation or a constant.

    other: None for a constant. constant: int8, the values of the second operand, (0,) for an activation. sign: of the
    sum of the operands, each brought to a common scale first: (1, 1), (1, -1), (-1, 1); None for their product.
    count: lengths of the output's three loops. steps: of each operand, by how many bytes a loop goes on; 0 where it is
    broadcast. zero_points: of the first operand, the second, the output. multipliers, shifts: of the same, of a product
    the output's alone. Kernels: mbx_combine(), mbx_combine_constant().
    """

    name: str
    input: int
    other: int | None
    output: int
    constant: np.ndarray
    sign: tuple[int, int] | None
    count: tuple[int, int, int]
    steps: tuple[tuple[int, int, int], tuple[int, int, int]]
    zero_points: tuple[int, int, int]
    multipliers: tuple[int, int, int]
    shifts: tuple[int, int, int]
    low: int
    high: int

    def goes_along(self, buffer: int) -> bool:
        """Whether an operand is read value by value, as the output is written: then it may lie in its place."""
        full = (self.count[1] * self.count[2], self.count[2], 1)
        operands = [self.input, *([] if self.other is None else [self.other])]
        return all(
            all(step == whole or count == 1 for step, whole, count in zip(self.steps[i], full, self.count, strict=True))
            for i, operand in enumerate(operands)
            if operand == buffer
        )


@dataclass(frozen=True)
class Reshape(_Traits):
    """The same bytes under another shape, in place where the input is not needed any more. Kernel: mbx_reshape()."""

    keeps_bytes: ClassVar[bool] = True

    name: str
    input: int
    output: int


@dataclass(frozen=True)
class StreamReduction(_Traits):
    """A mean or a maximum over what the last steps of a stream added: input is the newest block, sums all of them.

    reduction: the call over all of the window's rows. blocks: steps that it goes over. Kernels: mbx_stream_mean(),
    mbx_stream_max().
    """

    name: str
    input: int
    output: int
    sums: int
    reduction: Average | Maximum
    blocks: int


@dataclass(frozen=True)
class KeepRows(_Traits):
    """What the next step is to find in a state, output: size bytes of input, from first on.

    Of a stream input is the state, too: its newest bytes move to its start. Kernel: mbx_keep_rows().
    """

    name: str
    input: int
    output: int
    first: int
    size: int


Call = (
    Pointwise
    | Convolution
    | Addition
    | Average
    | Maximum
    | Pooling
    | Lookup
    | Softmax
    | Padding
    | Reshape
    | Slice
    | Transposition
    | Join
    | Resizing
    | Combination
    | StreamReduction
    | KeepRows
)


@dataclass(frozen=True)
class Program:
    """Buffers and the calls that fill them, in the order in which they run.

    input_scale, input_zero_point and output_scale are the network's; the scales serve to compute the tables of the
    front end's last stage and of the scores, and are used nowhere behind that. variables: its state, of buffers.
    """

    buffers: tuple[Buffer, ...]
    calls: tuple[Call, ...]
    input: int
    output: int
    input_scale: float
    input_zero_point: int
    output_scale: float
    output_zero_point: int
    variables: tuple[Variable, ...] = ()

    @property
    def given(self) -> tuple[int, ...]:
        """The buffers that no call writes: the input, and what is remembered."""
        return (self.input, *(variable.read for variable in self.variables))


def call_inputs(call: Call) -> tuple[int, ...]:
    """Return the buffers that a call reads."""
    match call:
        case Addition() | Join():
            return (call.input, call.other)
        case Combination():
            return (call.input,) if call.other is None else (call.input, call.other)
        case (
            Pointwise()
            | Convolution()
            | Average()
            | Maximum()
            | Pooling()
            | Lookup()
            | Softmax()
            | Padding()
            | Slice()
            | Transposition()
            | Resizing()
            | Reshape()
            | StreamReduction()
            | KeepRows()
        ):
            return (call.input,)
        case _:
            assert_never(call)


def may_overwrite(program: Program, call: Call, buffer: int) -> bool:
    """Whether every kernel of a call may write its output where one of its inputs lies, from lead_in_place() on.

    ADD and its like go element by element. A pointwise call of several positions reads one before it writes it. A
    depthwise line is worked on a channel at a time, from a copy. What a slice takes lies no further to the front than
    it came from.
    """
    match call:
        case Addition() | Lookup() | Softmax() | Slice() | Reshape() | KeepRows():
            return True
        case Pointwise():
            return call.positions > 1
        case Convolution():
            return is_depthwise_line(program, call)
        case Combination():
            return call.goes_along(buffer)
        case Average() | Maximum() | Pooling() | Padding() | Transposition() | Join() | Resizing() | StreamReduction():
            return False
        case _:
            assert_never(call)


def lead_in_place(program: Program, call: Call, buffer: int) -> int:
    """Return how many bytes before its input an output must begin that lies in its place.

    A pointwise call whose output has more channels than its input must not run ahead of what it reads: both end at the
    same place.
    """
    grown = program.buffers[call.output].size_bytes - program.buffers[buffer].size_bytes
    return max(0, grown) if isinstance(call, Pointwise) else 0


def is_depthwise_line(program: Program, call: Convolution) -> bool:
    """Whether a call is a depthwise convolution along one axis, of stride 1, with an output for each input."""
    source, target = program.buffers[call.input], program.buffers[call.output]
    flat = source.height == call.kernel[0] == 1 and call.stride == (1, 1)
    return call.depthwise and flat and source.channels == target.channels and target.width <= source.width


def reduction_layout(source: Buffer, axes: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (rows, positions, channels) of the input of a reduction, which goes over the positions.

    axes: neighbours. A reduction over height takes a column's channels for channels: the layout is the same.
    """
    shape = source.shape
    first, end = axes[0], axes[-1] + 1
    before, over, behind = shape[:first], shape[first:end], shape[end:]
    return (math.prod(before), math.prod(over), math.prod(behind))


def redirected(call: Call, buffers: dict[int, int], output: int) -> Call:
    """Return a call that reads and writes other buffers. buffers: old -> new, of its inputs."""
    if isinstance(call, Addition | Join) or (isinstance(call, Combination) and call.other is not None):
        assert call.other is not None
        return replace(call, input=buffers[call.input], other=buffers[call.other], output=output)
    return replace(call, input=buffers[call.input], output=output)


def multiply_accumulates(program: Program) -> int:
    """Return the multiply-accumulates of one inference; taps that fall on padding are counted."""
    total = 0
    for call in program.calls:
        match call:
            case Pointwise():
                total += call.positions * call.weights.size
            case Convolution():
                target = program.buffers[call.output]
                total += target.height * target.width * call.weights.size
            case Addition() | Average() | Maximum() | Pooling() | Lookup() | Softmax() | Padding():
                pass
            case Slice() | Transposition() | Join() | Resizing() | Combination() | Reshape():
                pass
            case StreamReduction() | KeepRows():
                pass
            case _:
                assert_never(call)
    return total
