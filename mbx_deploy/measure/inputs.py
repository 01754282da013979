"""A user's inputs of a network alone, from a file of numpy's."""

from pathlib import Path

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import InputError
from mbx_deploy.network.ends import to_int8
from mbx_deploy.system.arrays import read_npy
from mbx_deploy.system.documents import DocumentError

MAX_INPUTS_BYTES = 256 << 20


def read_inputs(path: Path, model: CompiledModel) -> np.ndarray:
    """Return the inputs of an .npy file, int8 (N, *the model's input shape without its batch).

    float values are quantized with the input's scale and zero point, uint8 ones where the model's file has uint8 there.
    Of a network of several inputs the file holds them behind each other, int8 (N, bytes of all).
    Raises InputError for a file that can't be read, or of another type or shape.
    """
    network = model.network
    single = len(network.inputs) == 1
    shape = model.input.shape if single else (1, model.program.buffers[model.program.input].size_bytes)
    dtype = network.inputs[0].dtype
    kinds = ["int8", *(["float32"] if single else []), *(["uint8"] if single and dtype == "uint8" else [])]
    need = f"{' or '.join(kinds)} (N, {', '.join(str(length) for length in shape[1:])})"
    hint = f"save one with numpy.save: {need}"
    try:
        values = read_npy(path, MAX_INPUTS_BYTES)
    except DocumentError as error:
        raise InputError(f"can't read the inputs ({path}): {error}", hint) from None
    kind = "float32" if values.dtype == np.float64 else values.dtype.name
    if kind not in kinds or values.ndim < 1 or not len(values) or values.shape[1:] not in (shape[1:], shape):
        got = f"{values.dtype} {values.shape}"
        raise InputError(f"the inputs do not fit the network ({path}): got {got}, need {need}")
    if kind == "float32" and not np.isfinite(values).all():
        raise InputError(f"the inputs hold no numbers ({path}): got an infinity or NaN, need finite values")
    return to_int8(values, model.input, kind).reshape(-1, *shape[1:])
