"""Ops that move values, or combine two arrays value by value -> calls."""

from dataclasses import replace
from itertools import accumulate

import numpy as np

from mbx_deploy.compiler.multipliers import activation_range, quantize_multiplier
from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.network.program import Buffer, Call, Combination, Join, Lookup, Program, Slice, Transposition
from mbx_deploy.sim.elements import ADD_LEFT_SHIFT, combine
from mbx_deploy.sim.fixed_point import clamp, multiply_by_quantized_multiplier

LARGEST_TABLE_RATIO = 2.0**22  # of scales: 256 values times it are an int32

Triple = tuple[int, int, int]
Where = tuple[str, int, int]


def of_image(values: tuple[int, ...], missing: int) -> Triple:
    """Return values of a tensor's axes as those of (height, width, channels)."""
    height, width, channels = (missing,) * (4 - len(values)) + values[1:]
    return height, width, channels


def lower_slice(op: ir.Slice, where: Where) -> Slice:
    """Return the call of a slice."""
    return Slice(*where, of_image(op.begin, 0), of_image(op.stride, 1), of_image(op.count, 1))


def lower_transpose(model: ir.Model, op: ir.Transpose, where: Where) -> Transposition:
    """Return the call of a transposition; axes of length 1 need no loop."""
    shape = model.tensors[op.input].shape
    steps = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    loops = [(shape[axis], steps[axis]) for axis in op.order if shape[axis] > 1]
    counts, strides = zip(*([(1, 0)] * (3 - len(loops)) + loops), strict=True)
    return Transposition(*where, counts, strides)


def requantization_table(source: ir.Tensor, target: ir.Tensor) -> np.ndarray:
    """Return what QUANTIZE makes of -128..127, int8 (256,). Source: TFLite, reference_ops::Requantize."""
    ratio = float(source.scale) / float(target.scale)
    if ratio >= LARGEST_TABLE_RATIO:
        raise InputError(f"the scales of an op are too far apart (QUANTIZE): its output is {ratio:.3g} times finer")
    values = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    scaled = multiply_by_quantized_multiplier(values, *quantize_multiplier(ratio))
    return clamp(scaled + target.zero_point, -128, 127).astype(np.int8)


def lower_binary(model: ir.Model, op: ir.Binary, name: str, numbers: dict[int, int]) -> Combination | Lookup:
    """Return the call of two operands: a table where one of them is a single constant."""
    where = (name, numbers[op.input], None if op.other is None else numbers[op.other], numbers[op.output])
    index = op.constant if op.other is None else op.other
    assert index is not None
    tensors = [model.tensors[i] for i in (op.input, index, op.output)]
    sources = tensors[1::-1] if op.swapped else tensors[:2]
    if op.name == "MUL":
        factors, sign = _product_factors(sources, tensors[2], name), None
    else:
        factors = (_sum_factors if op.name == "ADD" else _difference_factors)(sources, tensors[2], name)
        sign = (1, 1) if op.name == "ADD" else (1, -1)
    if op.swapped:
        factors[:2] = factors[1::-1]
        sign = None if sign is None else (sign[1], sign[0])
    multipliers, shifts = zip(*factors, strict=True)
    data = tensors[1].data
    call = Combination(
        *where,
        constant=np.zeros(0, np.int8) if data is None else data.ravel().astype(np.int8),
        sign=sign,
        count=of_image(ir.as_image(tensors[2].shape), 1),
        steps=(_steps(tensors[0], tensors[2]), _steps(tensors[1], tensors[2])),
        zero_points=(tensors[0].zero_point, tensors[1].zero_point, tensors[2].zero_point),
        multipliers=multipliers,
        shifts=shifts,
        low=activation_range(op.activation, tensors[2].scale, tensors[2].zero_point)[0],
        high=activation_range(op.activation, tensors[2].scale, tensors[2].zero_point)[1],
    )
    if op.constant is None or tensors[1].size > 1 or tensors[0].size != tensors[2].size:
        return call
    values = np.arange(-128, 128).astype(np.int8)
    table = combine(values, None, replace(call, count=(1, 1, 256), steps=((0, 0, 1), (0, 0, 0)))).ravel()
    return Lookup(name, call.input, call.output, table)


def _steps(operand: ir.Tensor, target: ir.Tensor) -> Triple:
    """Return by how many bytes of an operand each loop over the output goes on."""
    lengths = ir.as_image((1,) * (len(target.shape) - len(operand.shape)) + operand.shape)[1:]
    _, width, channels = lengths
    whole = (width * channels, channels, 1)
    return of_image((0, *(step if length > 1 else 0 for step, length in zip(whole, lengths, strict=True))), 0)


def _product_factors(sources: list[ir.Tensor], target: ir.Tensor, name: str) -> list[tuple[int, int]]:
    """Source: TFLite Micro, CalculateOpDataMul."""
    ratio = float(sources[0].scale) * float(sources[1].scale) / float(target.scale)
    if ratio >= LARGEST_TABLE_RATIO:
        raise InputError(f"the scales of a MUL are too far apart ({name}): its output is {ratio:.3g} times finer")
    return [(0, 0), (0, 0), quantize_multiplier(ratio)]


def _sum_factors(sources: list[ir.Tensor], target: ir.Tensor, name: str) -> list[tuple[int, int]]:
    """Source: TFLite Micro, CalculateOpDataAdd: in double."""
    twice = 2.0 * float(max(sources[0].scale, sources[1].scale))
    ratios = [
        *(float(source.scale) / twice for source in sources),
        twice / ((1 << ADD_LEFT_SHIFT) * float(target.scale)),
    ]
    return _checked_factors(ratios, f"an ADD differ too much ({name})")


def _difference_factors(sources: list[ir.Tensor], target: ir.Tensor, name: str) -> list[tuple[int, int]]:
    """Source: TFLite Micro, CalculateOpDataSub: in float."""
    twice = np.float32(2) * max(sources[0].scale, sources[1].scale)
    ratios = [float(source.scale / twice) for source in sources]
    ratios.append(float(twice / (np.float32(1 << ADD_LEFT_SHIFT) * target.scale)))
    return _checked_factors(ratios, f"a SUB differ too much ({name})")


def _checked_factors(ratios: list[float], fault: str) -> list[tuple[int, int]]:
    if ratios[2] >= 1.0:
        raise InputError(f"the scales of {fault}: TFLite refuses them too")
    return [quantize_multiplier(ratio) for ratio in ratios]


def add_factors(sources: list[ir.Tensor], target: ir.Tensor, name: str) -> list[tuple[int, int]]:
    """Return (multiplier, shift) of the two operands of an ADD and of their sum."""
    return _sum_factors(sources, target, name)


def lower_concatenation(
    model: ir.Model, op: ir.Concatenate, name: str, numbers: dict[int, int], buffers: list[Buffer]
) -> list[Call]:
    """Return the calls of a concatenation: one for each input but the first. buffers: grows by what lies between."""
    target = model.tensors[op.output]
    pieces = int(np.prod(target.shape[: op.axis], dtype=np.int64))
    sizes = [model.tensors[index].size // pieces for index in op.inputs]
    return join_all(name, [numbers[i] for i in op.inputs], numbers[op.output], pieces, sizes, buffers)


def join_all(
    name: str, sources: list[int], output: int, pieces: int, sizes: list[int], buffers: list[Buffer]
) -> list[Call]:
    """Return calls that write pieces of several buffers by turns, sizes bytes of each. buffers: grows."""
    totals = list(accumulate(sizes))
    if len(sources) == 1:
        return [Slice(name, sources[0], output, (0, 0, 0), (1, 1, 1), buffers[sources[0]].shape)]
    calls: list[Call] = []
    joined = sources[0]
    for number in range(1, len(sources)):
        last = number == len(sources) - 1
        if not last:
            buffers.append(Buffer(f"{name} of {number + 1}", 1, pieces, totals[number]))
        made = output if last else len(buffers) - 1
        part = name if last else f"{name}_{number}"
        calls.append(Join(part, joined, sources[number], made, pieces, totals[number - 1], sizes[number]))
        joined = made
    return calls


def join_ends(program: Program, inputs: list[int], outputs: list[int]) -> Program:
    """Return a program of one input and one output that hold several, one behind the other, in their order."""
    buffers, calls = list(program.buffers), list(program.calls)
    source, target = program.input, program.output
    if len(inputs) > 1:
        sizes = [buffers[index].size_bytes for index in inputs]
        source = len(buffers)
        buffers.append(Buffer("inputs", 1, 1, sum(sizes)))
        starts = [0, *accumulate(sizes)]
        calls[:0] = [
            Slice(f"input_{number}", source, index, (0, 0, start), (1, 1, 1), (1, 1, size))
            for number, (index, start, size) in enumerate(zip(inputs, starts, sizes, strict=False))
        ]
    if len(outputs) > 1:
        sizes = [buffers[index].size_bytes for index in outputs]
        target = len(buffers)
        buffers.append(Buffer("outputs", 1, 1, sum(sizes)))
        calls += join_all("outputs", outputs, target, 1, sizes, buffers)
    return replace(program, buffers=tuple(buffers), calls=tuple(calls), input=source, output=target)
