"""The constants of the generated C: what the network's kernels and the front end read, laid out for them."""

from dataclasses import dataclass

import numpy as np

from mbx_deploy.codegen.languages import Verbatim, plain_text
from mbx_deploy.compiler.kernels.kernel import Array, arrays_of
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.frontend.tables import fold_dct
from mbx_deploy.network.program import Call


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
    def text(self) -> Verbatim:
        """The initialiser, some 110 columns wide."""
        words = [_literal(value, self.type) for value in self.values.ravel().tolist()] or ["0"]
        width = max(len(word) for word in words) + 2
        row = max(1, 112 // width)
        rows = (", ".join(words[start : start + row]) for start in range(0, len(words), row))
        return Verbatim("\n".join(f"    {line}," for line in rows))


def _literal(value: int, kind: str) -> str:
    if kind == "int32_t" and value == -(1 << 31):
        return "INT32_MIN"
    return f"{value}u" if kind.startswith("uint") else str(value)


def constant_arrays(model: CompiledModel, plan: MemoryPlan, prefix: str) -> list[CArray]:
    """Return the network's constants in the order of the calls, laid out for the kernels that read them."""
    program = model.c_program
    made: list[CArray] = []
    for number, (call, chosen) in enumerate(zip(program.calls, plan.kernels, strict=True)):
        for field, array in arrays_of(chosen.kernel.struct(program, call)):
            is_first = not made or not made[-1].name.endswith(f"_{number}")
            comment = _heading(call, chosen.name, array) if is_first else array.comment
            made.append(CArray(f"{prefix}_{field}_{number}", array.type, array.values, comment, array.aligned))
    return made


def _heading(call: Call, kernel: str, array: Array) -> str:
    """Return the comment of a call's first array: of which call it is, and for which kernel."""
    shape = f": {' x '.join(map(str, array.shape))}" if array.shape else ""
    comment = f", {array.comment}" if array.comment else ""
    return f"{plain_text(call.name)}{shape}, for {kernel}(){comment}"


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
