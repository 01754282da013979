"""A .npy file from a stranger, read within limits."""

import io
import struct
import tokenize
from pathlib import Path

import numpy as np

from mbx_deploy.system.documents import DocumentError, one_line, read_document

# What numpy raises for a header that is none: it is read as Python's tokens and literals.
_NO_NPY = (
    *(ValueError, TypeError, KeyError, EOFError, OverflowError, SyntaxError, RecursionError, MemoryError),
    *(struct.error, tokenize.TokenError),
)


def read_npy(path: Path, limit: int) -> np.ndarray:
    """Return the array of an .npy file of at most limit bytes, never of objects. Raises DocumentError."""
    data = read_document(path, limit)
    try:
        if not data.startswith(np.lib.format.MAGIC_PREFIX):  # or numpy unpacks a zip
            raise ValueError("it does not begin as one")
        values: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    except _NO_NPY as error:
        raise DocumentError(f"it is no .npy file: {one_line(error)}") from None
    return values
