"""The C kernels in this process, through ctypes: structs, calls, and guard bytes around every output."""

import ctypes
from typing import Any

import numpy as np

from mbx_deploy.program import Addition, Buffer, Call, Convolution, Pointwise, Program, Requantization
from mbx_deploy.resources import firmware_templates_folder
from mbx_deploy.toolchain import compile_shared_library

GUARD_BYTES = 64
GUARD = 0x5A
U8, U16, I16, I32, U32, I8 = (
    ctypes.c_uint8,
    ctypes.c_uint16,
    ctypes.c_int16,
    ctypes.c_int32,
    ctypes.c_uint32,
    ctypes.c_int8,
)


class CRequantization(ctypes.Structure):
    """mbx_requantization."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("bias", "multiplier", "shift")),
        *((name, I16) for name in ("zero_point", "low", "high")),
    ]


class CPointwise(ctypes.Structure):
    """mbx_pointwise_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "in_channels", "out_channels")),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CConvolution(ctypes.Structure):
    """mbx_conv_call."""

    _fields_ = [
        *((f"{side}_{axis}", U16) for side in ("in", "out") for axis in ("height", "width", "channels")),
        *((f"kernel_{axis}", U16) for axis in ("height", "width")),
        *((f"{what}_{axis}", U8) for what in ("stride", "dilation") for axis in ("height", "width")),
        *((name, U16) for name in ("pad_top", "pad_left")),
        ("input_zero_point", I16),
        ("weights", ctypes.c_void_p),
        ("requantization", CRequantization),
    ]


class CAddition(ctypes.Structure):
    """mbx_add_call."""

    _fields_ = [
        ("count", U32),
        ("zero_point", I16 * 3),
        ("multiplier", I32 * 3),
        ("shift", I8 * 3),
        ("low", I16),
        ("high", I16),
    ]


class CAverage(ctypes.Structure):
    """mbx_mean_call."""

    _fields_ = [
        *((name, U16) for name in ("positions", "channels")),
        *((name, I16) for name in ("input_zero_point", "output_zero_point")),
        ("multiplier", I32),
        ("shift", I8),
    ]


_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Return the C kernels, compiled once."""
    global _library
    if _library is None:
        folder = firmware_templates_folder() / "src"
        names = ("mbx_fixed_point.h", "mbx_kernels.h", "mbx_kernels.c")
        _library = ctypes.CDLL(str(compile_shared_library({name: (folder / name).read_text() for name in names})))
    return _library


def _pack(value: np.ndarray, kind: Any, keep: list[np.ndarray]) -> int:
    """Return the address of the array as the C wants it; keep owns it."""
    array = np.ascontiguousarray(value).astype(kind)
    assert (array.astype(np.int64) == value).all(), "a constant does not fit its type"
    keep.append(array)
    return int(array.ctypes.data)


def _requantization(r: Requantization, keep: list[np.ndarray]) -> CRequantization:
    return CRequantization(
        _pack(r.bias, np.int32, keep),
        _pack(r.multiplier, np.int32, keep),
        _pack(r.shift, np.int8, keep),
        r.zero_point,
        r.low,
        r.high,
    )


def run_c(call: Call, inputs: list[np.ndarray], source: Buffer, target: Buffer) -> np.ndarray:
    """Return what the C kernel writes, int8 of the target's shape; fails where it writes beside its output."""
    keep: list[np.ndarray] = []
    if isinstance(call, Pointwise):
        out_channels, in_channels = call.weights.shape
        weights = _pack(call.weights, np.int8, keep)
        name = "mbx_pointwise"
        c: ctypes.Structure = CPointwise(
            call.positions, in_channels, out_channels, weights, _requantization(call.requantization, keep)
        )
    elif isinstance(call, Convolution):
        name = "mbx_depthwise_conv_2d" if call.depthwise else "mbx_conv_2d"
        c = CConvolution(
            *source.shape,
            *target.shape,
            *call.kernel,
            *call.stride,
            *call.dilation,
            *call.pad,
            call.input_zero_point,
            _pack(call.weights, np.int8, keep),
            _requantization(call.requantization, keep),
        )
    elif isinstance(call, Addition):
        name = "mbx_add"
        c = CAddition(
            target.size_bytes,
            (I16 * 3)(*call.zero_points),
            (I32 * 3)(*call.multipliers),
            (I8 * 3)(*call.shifts),
            call.low,
            call.high,
        )
    else:
        name = "mbx_mean"
        positions = source.height * source.width
        c = CAverage(
            positions, source.channels, call.input_zero_point, call.output_zero_point, call.multiplier, call.shift
        )
    memory = np.full(target.size_bytes + 2 * GUARD_BYTES, GUARD, np.int8)
    arguments = [_pack(values, np.int8, keep) for values in inputs]
    function = getattr(library(), name)
    function.restype = None
    function(ctypes.byref(c), *map(ctypes.c_void_p, arguments), ctypes.c_void_p(memory.ctypes.data + GUARD_BYTES))
    assert (memory[:GUARD_BYTES] == GUARD).all() and (memory[-GUARD_BYTES:] == GUARD).all(), f"{name} leaves its output"
    return memory[GUARD_BYTES:-GUARD_BYTES].reshape(target.shape)


def run_program_c(program: Program, values: np.ndarray) -> np.ndarray:
    """Return the network's output, every call run by its C kernel."""
    buffers = {program.input: values.reshape(program.buffers[program.input].shape)}
    for call in program.calls:
        indices = (call.input, call.other) if isinstance(call, Addition) else (call.input,)
        target = program.buffers[call.output]
        inputs = [buffers[index] for index in indices]
        buffers[call.output] = run_c(call, inputs, program.buffers[call.input], target)
    return buffers[program.output].ravel()
