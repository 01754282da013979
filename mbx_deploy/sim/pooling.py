"""Pooling, on int8 arrays (height, width, channels). Twin: firmware_templates/runtime/network/mbx_pooling.c."""

import numpy as np

from mbx_deploy.network.program import Pooling
from mbx_deploy.sim.fixed_point import clamp


def pool_average(source: np.ndarray, call: Pooling, shape: tuple[int, int, int]) -> np.ndarray:
    """Return int8 of the shape (height, width, channels): means of what windows see, the padding not counted.

    Rounded to nearest, ties away from zero. Source: TFLite, reference_integer_ops::AveragePool.
    Twin: mbx_pool_average().
    """
    result = np.empty(shape, np.int8)
    for y, x in np.ndindex(shape[:2]):
        window = _window(source, call, y, x).astype(np.int64)
        total, count = window.sum(axis=(0, 1)), window.shape[0] * window.shape[1]
        rounded = np.sign(total) * ((np.abs(total) + count // 2) // count)
        result[y, x] = clamp(rounded, call.low, call.high)
    return result


def pool_max(source: np.ndarray, call: Pooling, shape: tuple[int, int, int]) -> np.ndarray:
    """Return int8 of the shape (height, width, channels): the largest of what windows see. Twin: mbx_pool_max()."""
    result = np.empty(shape, np.int8)
    for y, x in np.ndindex(shape[:2]):
        result[y, x] = clamp(_window(source, call, y, x).max(axis=(0, 1)), call.low, call.high)
    return result


def _window(source: np.ndarray, call: Pooling, y: int, x: int) -> np.ndarray:
    """Return what the window of an output sees of the input."""
    top, left = (at * step - pad for at, step, pad in zip((y, x), call.stride, call.pad, strict=True))
    rows = slice(max(0, top), top + call.window[0])
    return source[rows, max(0, left) : left + call.window[1]]
