"""The constants of the generated C: what the network's kernels and the front end read, laid out for them."""

import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mbx_deploy.compiler.kernels.kernel import (
    Kernel,
    as_product,
    fold_zero_point,
    pack_depthwise_dsp,
    pack_depthwise_helium,
    pack_depthwise_thumb,
    pack_pointwise_dsp,
    pack_pointwise_helium,
    pack_pointwise_thumb,
)
from mbx_deploy.compiler.kernels.portable import WeightlessCall, call_fields
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.frontend.tables import fold_dct
from mbx_deploy.network.program import Addition, Convolution, Pointwise, Program


@dataclass(frozen=True)
class CArray:
    """A constant array of the generated C. aligned: to words, which its kernel loads."""

    name: str
    type: str
    values: np.ndarray
    comment: str
    aligned: bool = False

    @property
    def count(self) -> int:
        """Number of elements; C has no empty arrays."""
        return max(1, self.values.size)

    @property
    def size_bytes(self) -> int:
        """Bytes in flash."""
        return int(self.values.size * self.values.dtype.itemsize)

    @property
    def text(self) -> str:
        """The initialiser, some 110 columns wide."""
        words = [_literal(value, self.type) for value in self.values.ravel().tolist()] or ["0"]
        width = max(len(word) for word in words) + 2
        row = max(1, 112 // width)
        return "\n".join("    " + ", ".join(words[start : start + row]) + "," for start in range(0, len(words), row))


def _literal(value: int, kind: str) -> str:
    if kind == "int32_t" and value == -(1 << 31):
        return "INT32_MIN"
    return f"{value}u" if kind.startswith("uint") else str(value)


class Compiled(Protocol):
    """What has a lowered program: a recogniser, or a network alone."""

    @property
    def program(self) -> Program:
        """The lowered network."""


def constant_arrays(recognizer: Compiled, plan: MemoryPlan, prefix: str) -> list[CArray]:
    """Return the network's constants in the order of the calls, laid out for the kernels that read them."""
    arrays: list[CArray] = []
    for number, (call, kernel) in enumerate(zip(recognizer.program.calls, plan.kernels, strict=True)):
        name = f"{prefix}_{{}}_{number}"
        if isinstance(call, Pointwise | Convolution):
            arrays += _call_arrays(recognizer.program, call, kernel, name)
        elif not isinstance(call, Addition):
            arrays += _tables(recognizer.program, call, kernel, name)
    return arrays


def _tables(program: Program, call: WeightlessCall, kernel: Kernel, name: str) -> list[CArray]:
    comment = f"{plain_text(call.name)}, for {kernel.name}()"
    return [
        CArray(name.format(key), f"{value.dtype.name}_t", value, comment)
        for key, value in call_fields(program, call).fields.items()
        if isinstance(value, np.ndarray)
    ]


def _call_arrays(program: Program, call: Pointwise | Convolution, kernel: Kernel, name: str) -> list[CArray]:
    comment = (
        f"{plain_text(call.name)}: {' x '.join(str(length) for length in call.weights.shape)}, for {kernel.name}()"
    )
    if kernel.name in ("mbx_pointwise_dsp", "mbx_conv_2d_dsp"):
        product = call if isinstance(call, Pointwise) else as_product(program, call)
        packed, channels, shifts = pack_pointwise_dsp(product)
        return [
            CArray(name.format("weights"), "int16_t", packed, comment, aligned=True),
            CArray(
                name.format("channels"),
                "int32_t",
                channels,
                "2 b0, 512 b1 + 2 b0, m0, m1 a pair of channels",
                aligned=True,
            ),
            CArray(name.format("shifts"), "uint8_t", shifts, "s - 1 a channel"),
        ]
    if kernel.name == "mbx_depthwise_line_dsp":
        assert isinstance(call, Convolution)
        taps, constants, shifts = pack_depthwise_dsp(call)
        return [
            CArray(name.format("weights"), "int8_t", taps, comment),
            CArray(name.format("constants"), "int32_t", constants, "2 b, m a channel"),
            CArray(name.format("shifts"), "uint8_t", shifts, "s - 1 a channel"),
        ]
    if kernel.name in ("mbx_pointwise_thumb", "mbx_depthwise_line_thumb"):
        pointwise = isinstance(call, Pointwise)
        thumb = pack_pointwise_thumb(call) if isinstance(call, Pointwise) else pack_depthwise_thumb(call)
        weights, constants, shifts = thumb
        kind = "uint8_t" if pointwise else "int8_t"
        return [
            CArray(name.format("weights"), kind, weights, comment + (", 128 added" if pointwise else "")),
            CArray(name.format("channels" if pointwise else "constants"), "int32_t", constants, "b, m a channel"),
            CArray(name.format("shifts"), "uint8_t", shifts, "s a channel"),
        ]
    if kernel.name in ("mbx_pointwise_helium", "mbx_depthwise_line_helium"):
        pointwise = isinstance(call, Pointwise)
        vectors = pack_pointwise_helium(call) if isinstance(call, Pointwise) else pack_depthwise_helium(call)
        return [
            CArray(name.format("weights"), "int8_t", vectors[0], comment, aligned=True),
            CArray(name.format("channels" if pointwise else "constants"), "int32_t", vectors[1], "b, m, -s a channel"),
        ]
    r = fold_zero_point(call) if isinstance(call, Convolution) and kernel.name == "mbx_conv_2d" else call.requantization
    weights = call.weights
    if kernel.name == "mbx_depthwise_line":
        weights = np.ascontiguousarray(call.weights.reshape(-1, call.weights.shape[-1]).T)
    return [
        CArray(name.format("weights"), "int8_t", weights, comment),
        CArray(name.format("bias"), "int32_t", r.bias.astype(np.int32), "one a channel"),
        CArray(name.format("multiplier"), "int32_t", r.multiplier, "Q31, one a channel"),
        CArray(name.format("shift"), "int8_t", r.shift, "one a channel, positive to the left"),
    ]


def frontend_arrays(recognizer: CompiledModel) -> list[CArray]:
    """Return the front end's tables."""
    tables = recognizer.tables
    kind = recognizer.config.window.removeprefix("hann_")
    arrays = [
        CArray("window_q29", "int32_t", tables.window_q29, f"{kind} Hann window, Q29"),
        CArray("twiddle_q31", "int32_t", tables.twiddle_q31, "cos and sin of 2 pi k / n_fft, Q31"),
        CArray("mel_first", "uint16_t", tables.mel_first, "first bin of each mel filter"),
        CArray("mel_count", "uint16_t", tables.mel_count, "bins of each mel filter"),
        CArray("mel_weights_q32", "uint32_t", tables.mel_weights_q32, "the filters' weights one after another, Q32"),
        CArray("log_q24", "int32_t", tables.log_q24, "ln(1 + i / 256), Q24"),
    ]
    if recognizer.config.n_mfcc:
        folds, weights = fold_dct(tables)
        comment = f"rows of the orthonormal DCT-II, Q31: the left half, of even rows folded up to {folds} more times"
        arrays.append(CArray("dct_q31", "int32_t", weights, comment))
    return arrays


def plain_text(text: str) -> str:
    """Return text that can stand in a C comment."""
    return re.sub(r"[^A-Za-z0-9_ .,'-]", "_", text)
