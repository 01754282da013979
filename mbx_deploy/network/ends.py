"""A network's ends: where a file takes or gives uint8 or float32, and the int8 tensors in their place.

TensorFlow's converter leaves float32 ends by default: QUANTIZE behind the input, DEQUANTIZE before the output. With
uint8 ends the same two are QUANTIZE between uint8 and int8. What only brings one to the other is cut: the compiled
network takes and gives int8, of the scale and zero point that stand in its header.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.network.op_reader import OpInFile

UINT8_OFFSET = 128  # a uint8 value less an int8 one of the same real value
END_TYPES = ("int8", "uint8", "float32")


@dataclass(frozen=True)
class Ends:
    """inputs, outputs: as ir.Model's. inside: the ops that stay. tensors: uint8 ones at the ends as int8."""

    inputs: tuple[ir.End, ...]
    outputs: tuple[ir.End, ...]
    inside: tuple[OpInFile, ...]
    tensors: tuple[ir.Tensor, ...]


def find_ends(
    ops: Sequence[OpInFile], tensors: tuple[ir.Tensor, ...], inputs: Sequence[int], outputs: Sequence[int]
) -> Ends:
    """Return the ends of a graph. inputs, outputs: numbers of its tensors.

    Raises InputError where a float32 input feeds several ops.
    """
    seen = list(tensors)
    for place in {*inputs, *outputs}:
        if tensors[place].dtype == "uint8" and _is_brought(place, ops, tensors):
            seen[place] = _as_int8(tensors[place])
    cut: set[int] = set()
    found = []
    for place in inputs:
        number = None if tensors[place].dtype == "int8" else _bringing(place, ops, seen, 0)
        if number is None:
            found.append(ir.End(place, tensors[place].dtype, place))
            continue
        if sum(place in op.inputs for op in ops) > 1 or place in outputs:
            raise InputError(f"the input {tensors[place].name!r} feeds several ops: need one QUANTIZE behind it")
        cut.add(number)
        found.append(ir.End(ops[number].outputs[0], tensors[place].dtype, place))
    given = []
    for place in outputs:
        number = None if tensors[place].dtype == "int8" else _bringing(place, ops, seen, 1)
        if number is None or number in cut or any(place in op.inputs for op in ops):
            given.append(ir.End(place, tensors[place].dtype, place))
            continue
        cut.add(number)
        given.append(ir.End(ops[number].inputs[0], tensors[place].dtype, place))
    inside = tuple(op for number, op in enumerate(ops) if number not in cut)
    return Ends(tuple(found), tuple(given), inside, tuple(seen))


def _is_brought(place: int, ops: Sequence[OpInFile], tensors: tuple[ir.Tensor, ...]) -> bool:
    """Whether a uint8 tensor meets ops only that make int8 of it, or make it of int8."""
    beside = [op for op in ops if place in (*op.inputs, *op.outputs)]
    others = {tensors[index].dtype for op in beside for index in (*op.inputs, *op.outputs) if index != place}
    return all(op.name == "QUANTIZE" for op in beside) and others == {"int8"}


def _as_int8(tensor: ir.Tensor) -> ir.Tensor:
    return replace(tensor, dtype="int8", zero_point=tensor.zero_point - UINT8_OFFSET)


def _bringing(place: int, ops: Sequence[OpInFile], tensors: Sequence[ir.Tensor], side: int) -> int | None:
    """Return the number of the op that only brings an end to int8, or an int8 tensor to it. side: 0 input, 1 output."""
    for number, op in enumerate(ops):
        near, far = (op.inputs, op.outputs) if side == 0 else (op.outputs, op.inputs)
        if place not in near or len(near) != 1 or len(far) != 1 or far[0] < 0:
            continue
        end, inner = tensors[place], tensors[far[0]]
        if inner.dtype != "int8" or inner.data is not None:
            continue
        if end.dtype == "float32" and op.name == ("QUANTIZE" if side == 0 else "DEQUANTIZE"):
            return number
        one = (end.dtype, end.scales, end.zero_point) == ("int8", inner.scales, inner.zero_point)
        if one and op.name == "QUANTIZE" and end.shape == inner.shape:
            return number
    return None


def to_int8(values: np.ndarray, tensor: ir.Tensor, dtype: str) -> np.ndarray:
    """Return values of an end as its int8 tensor has them. values: of dtype, one of END_TYPES.

    float32 is rounded to nearest, ties away from zero, and limited. Source: TFLite Micro, AffineQuantize.
    """
    if dtype == "float32":
        scaled = np.asarray(values, np.float32) / tensor.scale
        rounded = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))
        limited: np.ndarray = np.clip(np.nan_to_num(rounded) + tensor.zero_point, -128, 127).astype(np.int8)
        return limited
    if dtype == "uint8":
        return (values.astype(np.int16) - UINT8_OFFSET).astype(np.int8)
    return values.astype(np.int8)


def from_int8(values: np.ndarray, tensor: ir.Tensor, dtype: str) -> np.ndarray:
    """Return int8 values as an end of dtype has them. Source: TFLite Micro, Dequantize."""
    if dtype == "float32":
        real: np.ndarray = (values.astype(np.int32) - tensor.zero_point).astype(np.float32) * tensor.scale
        return real
    if dtype == "uint8":
        return (values.astype(np.int16) + UINT8_OFFSET).astype(np.uint8)
    return values
