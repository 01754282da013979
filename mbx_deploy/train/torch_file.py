"""What torch.save() wrote, read from a stranger: looked at before torch unpickles it, and again behind that.

torch.load(weights_only=True) executes nothing, but it lets a file of a few bytes ask for gigabytes (bytearray(N)),
share lists until nobody can walk through them, or unpack a zip bomb.
Source: torch/_weights_only_unpickler.py; PEP 3154.
"""

import io
import pickletools
import warnings
import zipfile
from typing import Any

import torch

from mbx_deploy.system.documents import DocumentError, show

MAX_UNPACKED_BYTES = 512 << 20
MAX_PICKLE_BYTES = 8 << 20
MAX_OPERATIONS = 500_000
MAX_SHARED_TUPLES = 40  # fetched again: more could make one whose hash is never done
MAX_DEPTH = 32
MAX_VALUES = 500_000
MAX_INTEGER_BITS = 256
_LEGACY_PICKLES = 5  # before torch 1.6: a magic number, the protocol, the system, the content, the storages' keys
_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_ALLOWED = {
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}Storage" for name in _STORAGES),
    *(f"torch {name}" for name in vars(torch) if isinstance(getattr(torch, name), torch.dtype)),
}
# What torch.save() writes with protocol 2; no bytes, no object states of other classes, no second stack entries.
_OPERATIONS = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}


def read_torch(data: bytes) -> Any:
    """Return the plain values and tensors in a torch file: its zip, or the pickles from before torch 1.6.

    Raises DocumentError: damaged, holding more than tensors and plain values, or more of them than the limits.
    """
    _check_pickles(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign pickle's protocol: it is refused anyway
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # torch.load has no exception of its own: zip, pickle, type and end-of-file errors all occur.
    except Exception as error:
        reason = "it is damaged, or holds more than weights; nothing in it was executed"
        raise DocumentError(reason) from error
    _check_values(content)
    return content


def _check_pickles(data: bytes) -> None:
    if data[:2] == b"PK":
        _check_operations(io.BytesIO(_pickle_in_zip(data)))
        return
    if data[:1] != b"\x80":
        raise DocumentError("it is neither torch's zip nor a pickle")
    stream = io.BytesIO(data)
    for _ in range(_LEGACY_PICKLES):
        if stream.tell() < len(data):
            _check_operations(stream)


def _pickle_in_zip(data: bytes) -> bytes:
    """Return the one pickle of a zip whose entries are stored, each for itself, as torch does."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise DocumentError("its zip is compressed, which torch never does")
            if sum(entry.file_size for entry in entries) > min(MAX_UNPACKED_BYTES, len(data)):
                raise DocumentError(f"it unpacks to more than it holds, or than {MAX_UNPACKED_BYTES} bytes")
            names = [entry.filename for entry in entries]
            pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            if len(set(names)) != len(names) or len(pickles) != 1:
                raise DocumentError("its zip does not hold one data.pkl, and each name once")
            return file.read(pickles[0])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"its zip is damaged: {error}") from None


def _check_operations(stream: io.BytesIO) -> None:
    """Refuse a pickle that names anything but torch's few functions for tensors, or does too much."""
    begin, count, shared = stream.tell(), 0, 0
    tuples: set[int] = set()
    before = ""
    try:
        for operation, argument, position in pickletools.genops(stream):
            count += 1
            if count > MAX_OPERATIONS or (position or 0) - begin > MAX_PICKLE_BYTES:
                raise DocumentError(f"its pickle is too large: need at most {MAX_OPERATIONS} operations")
            name = operation.name
            if name not in _OPERATIONS:
                raise DocumentError(f"its pickle uses {name}, which torch.save() does not")
            if name == "GLOBAL" and argument not in _ALLOWED:
                raise DocumentError(f"its pickle names {show(argument)}, which is no part of a tensor")
            if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
                raise DocumentError(f"a number in it has more than {MAX_INTEGER_BITS} bits")
            if name.endswith("BINPUT") and isinstance(argument, int):
                (tuples.add if before.startswith("TUPLE") else tuples.discard)(argument)
            if name.endswith("BINGET") and argument in tuples:
                shared += 1
                if shared > MAX_SHARED_TUPLES:
                    raise DocumentError(f"it shares more than {MAX_SHARED_TUPLES} tuples")
            before = before if name.endswith("BINPUT") else name
    except (ValueError, UnicodeDecodeError, OverflowError, MemoryError, KeyError) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError("its pickle is damaged") from None


def _check_values(content: object) -> None:
    """Refuse containers that share or nest too much, and tensors that repeat what is stored."""
    left = MAX_VALUES
    waiting: list[tuple[object, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise DocumentError(f"it holds too much: need at most {MAX_VALUES} values in {MAX_DEPTH} levels")
        if isinstance(value, dict):
            waiting.extend((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, list | tuple | set):
            waiting.extend((part, depth + 1) for part in value)
        elif isinstance(value, torch.Tensor) and _repeats(value):
            raise DocumentError("a tensor in it is larger than what is stored of it")


def _repeats(value: torch.Tensor) -> bool:
    plain = value.layout == torch.strided and value.device.type == "cpu"
    return plain and value.numel() * value.element_size() > value.untyped_storage().nbytes()
