"""The kernels of the network, on int8 arrays (height, width, channels). The readable definition.

Twins: firmware_templates/runtime/network/mbx_kernels.c (the same functions in the same order).

Products are summed in float64 where numpy has a fast routine for that: each is an integer below 2^53 and so exact, in
any order, as proofs.verify_program() proves that the sums stay below 2^31.
"""

from collections.abc import Iterator

import numpy as np

from mbx_deploy.network.program import Addition, Average, Convolution, Maximum, Pointwise, Requantization
from mbx_deploy.sim.fixed_point import clamp, multiply_by_quantized_multiplier

ADD_LEFT_SHIFT = 20


def requantize(accumulator: np.ndarray, requantization: Requantization) -> np.ndarray:
    """Return int8 (..., channels) from int32 values (..., channels) without bias. Twin: mbx_requantize()."""
    r = requantization
    scaled = multiply_by_quantized_multiplier(accumulator + r.bias, r.multiplier, r.shift.astype(np.int64))
    return clamp(scaled + r.zero_point, r.low, r.high).astype(np.int8)


def pointwise(source: np.ndarray, call: Pointwise) -> np.ndarray:
    """Return int8 (positions, out): weights (out, in) times the input at every position. Twin: mbx_pointwise()."""
    inputs = source.reshape(call.positions, -1).astype(np.float64)
    accumulator = inputs @ call.weights.astype(np.float64).T
    return requantize(accumulator.astype(np.int64), call.requantization)


def conv_2d(source: np.ndarray, call: Convolution, shape: tuple[int, int, int]) -> np.ndarray:
    """Return int8 of the shape (height, width, out). source: (height, width, in). Twin: mbx_conv_2d()."""
    accumulator = np.zeros(shape, np.float64)
    for y, x, inputs in _taps(source, call, shape):
        accumulator += inputs @ call.weights[:, y, x, :].astype(np.float64).T
    return requantize(accumulator.astype(np.int64), call.requantization)


def depthwise_conv_2d(source: np.ndarray, call: Convolution, shape: tuple[int, int, int]) -> np.ndarray:
    """Return int8 of the shape (height, width, out); output channel c sees input channel c / depth multiplier.

    Twin: mbx_depthwise_conv_2d().
    """
    multiplier = shape[2] // source.shape[2]
    accumulator = np.zeros(shape, np.float64)
    for y, x, inputs in _taps(source, call, shape):
        accumulator += np.repeat(inputs, multiplier, axis=2) * call.weights[y, x]
    return requantize(accumulator.astype(np.int64), call.requantization)


def _taps(source: np.ndarray, call: Convolution, shape: tuple[int, int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (y, x, inputs) a tap: what it sees at every output, minus the zero point, 0 in the padding."""
    height, width = shape[:2]
    reach = [
        max(0, (length - 1) * stride + (kernel - 1) * dilation + 1 - pad - size)
        for length, stride, kernel, dilation, pad, size in zip(
            shape, call.stride, call.kernel, call.dilation, call.pad, source.shape, strict=False
        )
    ]
    centred = source.astype(np.float64) - call.input_zero_point
    padded = np.pad(centred, ((call.pad[0], reach[0]), (call.pad[1], reach[1]), (0, 0)))
    for y in range(call.kernel[0]):
        for x in range(call.kernel[1]):
            top, left = y * call.dilation[0], x * call.dilation[1]
            rows = slice(top, top + (height - 1) * call.stride[0] + 1, call.stride[0])
            columns = slice(left, left + (width - 1) * call.stride[1] + 1, call.stride[1])
            yield y, x, padded[rows, columns]


def add(source: np.ndarray, other: np.ndarray, call: Addition) -> np.ndarray:
    """Return int8 of the inputs' shape. Source: TFLite, reference_integer_ops::AddFunc. Twin: mbx_add()."""
    parts = [
        multiply_by_quantized_multiplier(
            (values.astype(np.int64) - call.zero_points[i]) << ADD_LEFT_SHIFT, call.multipliers[i], call.shifts[i]
        )
        for i, values in enumerate((source, other))
    ]
    total = multiply_by_quantized_multiplier(parts[0] + parts[1], call.multipliers[2], call.shifts[2])
    return clamp(total + call.zero_points[2], call.low, call.high).astype(np.int8)


def mean(source: np.ndarray, call: Average) -> np.ndarray:
    """Return int8, the mean over the call's axes, which stay with length 1.

    Source: TFLite, QuantizedMeanOrSum. Twin: mbx_mean().
    """
    values = source.astype(np.int64)
    accumulator = (values - call.input_zero_point).sum(axis=call.axes, keepdims=True)
    scaled = multiply_by_quantized_multiplier(accumulator, call.multiplier, call.shift)
    return clamp(scaled + call.output_zero_point, -128, 127).astype(np.int8)


def maximum(source: np.ndarray, call: Maximum) -> np.ndarray:
    """Return int8, the largest value over the call's axes, which stay with length 1. Twin: mbx_max()."""
    largest: np.ndarray = source.max(axis=call.axes, keepdims=True)
    return largest


def posteriors(logits: np.ndarray, exponentials_q15: np.ndarray) -> np.ndarray:
    """Return the softmax of int8 logits, int32 values in Q15 (classes,); they sum to 1 within a rounding a class.

    exponentials_q15: uint16 (256,), exp(-d * scale) for a logit that lies d below the largest.
    Twin: mbx_posteriors().
    """
    distance = logits.astype(np.int64).max() - logits.astype(np.int64)
    weights = exponentials_q15.astype(np.int64)[distance]
    total = weights.sum()
    scores_q15: np.ndarray = ((weights << 15) + (total >> 1)) // total
    return scores_q15
