"""What moves values or maps each by itself, on int8 arrays (height, width, channels), and softmax.

Twins: firmware_templates/runtime/network/mbx_elements.c and mbx_softmax.c.
"""

import numpy as np

from mbx_deploy.network.program import Lookup, Padding, Slice, Softmax
from mbx_deploy.sim.fixed_point import INT32_MAX, clamp, divide_by_power_of_two, doubling_high_multiply

ACCUMULATOR_INTEGER_BITS = 12
ONE_Q29 = 1 << 29
FORTY_EIGHT_SEVENTEENTHS_Q29 = 1515870810
MINUS_THIRTY_TWO_SEVENTEENTHS_Q29 = -1010580540


def lookup(source: np.ndarray, call: Lookup) -> np.ndarray:
    """Return each value's entry in the table, int8 of the input's shape. Twin: mbx_lookup()."""
    return call.table[source.astype(np.int64) + 128]


def pad(source: np.ndarray, call: Padding) -> np.ndarray:
    """Return the input with values around it, int8. Twin: mbx_pad()."""
    return np.pad(source, call.amounts, constant_values=call.value)


def cut(source: np.ndarray, call: Slice, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the values that a slice takes, int8 of the shape. Twin: mbx_slice()."""
    steps = zip(call.begin, call.stride, shape, strict=True)
    return source[tuple(slice(begin, begin + (count - 1) * step + 1, step) for begin, step, count in steps)]


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
