"""What moves values or maps each by itself, on int8 arrays (height, width, channels), and softmax.

Twins: firmware_templates/runtime/network/mbx_elements.c and mbx_softmax.c.
"""

import numpy as np

from mbx_deploy.network.program import Combination, Join, Lookup, Padding, Resizing, Slice, Softmax, Transposition
from mbx_deploy.sim.fixed_point import (
    INT32_MAX,
    clamp,
    divide_by_power_of_two,
    doubling_high_multiply,
    multiply_by_quantized_multiplier,
)

ACCUMULATOR_INTEGER_BITS = 12
ADD_LEFT_SHIFT = 20
ONE_Q29 = 1 << 29
FORTY_EIGHT_SEVENTEENTHS_Q29 = 1515870810
MINUS_THIRTY_TWO_SEVENTEENTHS_Q29 = -1010580540


def lookup(source: np.ndarray, call: Lookup) -> np.ndarray:
    """Return each value's entry in the table, int8 of the input's shape. Twin: mbx_lookup()."""
    return call.table[source.astype(np.int64) + 128]


def pad(source: np.ndarray, call: Padding) -> np.ndarray:
    """Return the input with values around it, int8. Twin: mbx_pad()."""
    return np.pad(source, call.amounts, constant_values=call.value)


def cut(source: np.ndarray, call: Slice) -> np.ndarray:
    """Return the values that a slice takes, int8 of the shape count. Twin: mbx_slice()."""
    steps = zip(call.begin, call.stride, call.count, strict=True)
    return source[tuple(slice(begin, begin + (count - 1) * step + 1, step) for begin, step, count in steps)]


def transpose(source: np.ndarray, call: Transposition) -> np.ndarray:
    """Return the input's values in another order, int8 of the shape count. Twin: mbx_slice()."""
    return _strided(source.ravel(), call.count, call.step)


def join(source: np.ndarray, other: np.ndarray, call: Join) -> np.ndarray:
    """Return pieces of two arrays by turns, int8 (pieces, first + second). Twin: mbx_join()."""
    return np.concatenate([source.reshape(call.pieces, call.first), other.reshape(call.pieces, call.second)], axis=1)


def resize(source: np.ndarray, call: Resizing) -> np.ndarray:
    """Return the rows and columns that are asked for, int8 (rows, columns, channels). Twin: mbx_resize()."""
    return source[list(call.rows)][:, list(call.columns)]


def combine(source: np.ndarray, other: np.ndarray | None, call: Combination) -> np.ndarray:
    """Return the sum or product of two operands, int8 of the shape count. other: None where it is the call's constant.

    Source: TFLite, reference_integer_ops::MulElementwise and AddFunc, reference_ops::SubElementwise.
    Twin: mbx_combine() and mbx_combine_constant().
    """
    second = call.constant if other is None else other.ravel()
    operands = [_strided(values, call.count, call.steps[i]) for i, values in enumerate((source.ravel(), second))]
    centred = [values.astype(np.int64) - call.zero_points[i] for i, values in enumerate(operands)]
    if call.sign is None:
        total = centred[0] * centred[1]
    else:
        parts = [
            sign * multiply_by_quantized_multiplier(values << ADD_LEFT_SHIFT, call.multipliers[i], call.shifts[i])
            for i, (values, sign) in enumerate(zip(centred, call.sign, strict=True))
        ]
        total = parts[0] + parts[1]
    scaled = multiply_by_quantized_multiplier(total, call.multipliers[2], call.shifts[2])
    return clamp(scaled + call.zero_points[2], call.low, call.high).astype(np.int8)


def _strided(values: np.ndarray, count: tuple[int, int, int], step: tuple[int, int, int]) -> np.ndarray:
    """Return what three loops read of values, one after another: an array of the shape count."""
    return np.lib.stride_tricks.as_strided(np.ascontiguousarray(values), count, step, writeable=False)


def softmax(source: np.ndarray, call: Softmax) -> np.ndarray:
    """Return int8 of the input's shape, 256 * probability - 128 along the last axis.

    Source: TFLite, reference_ops::Softmax. Twin: mbx_softmax().
    """
    table = np.zeros(256, np.int64)
    table[: len(call.exponentials_q31)] = call.exponentials_q31
    exponentials = table[source.max(axis=-1, keepdims=True).astype(np.int64) - source]
    total_q19 = divide_by_power_of_two(exponentials, ACCUMULATOR_INTEGER_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frompyfunc(int.bit_length, 1, 1)(total_q19).astype(np.int64)
    scale_q31 = reciprocal((total_q19 << headroom) - (1 << 31))
    shift = ACCUMULATOR_INTEGER_BITS - headroom + 31 - 8
    scaled = divide_by_power_of_two(doubling_high_multiply(scale_q31, exponentials), shift)
    return clamp(scaled - 128, -128, 127).astype(np.int8)


def reciprocal(value_q31: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + value), int64 in Q31. value_q31: int64, 0 to 2^31 - 1.

    Source: gemmlowp, one_over_one_plus_x_for_x_in_0_1. Twin: mbx_reciprocal().
    """
    inverse: np.ndarray = np.minimum(newton_reciprocal(value_q31) << 1, INT32_MAX)
    return inverse


def newton_reciprocal(value_q31: np.ndarray) -> np.ndarray:
    """Return 2 / (1 + value), int64 in Q29, by three steps of Newton and Raphson. value_q31: int64, 0 to 2^31 - 1."""
    half = (value_q31 + INT32_MAX + 1) // 2
    x = FORTY_EIGHT_SEVENTEENTHS_Q29 + doubling_high_multiply(half, np.array(MINUS_THIRTY_TWO_SEVENTEENTHS_Q29))
    for _ in range(3):
        missing = ONE_Q29 - doubling_high_multiply(half, x)
        x = x + (doubling_high_multiply(x, missing) << 2)
    return x
