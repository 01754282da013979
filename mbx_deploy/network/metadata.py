"""The artifact: one .tflite file that carries, beside the int8 network, JSON with everything else
about the model.

The JSON is the buffer of a metadata entry named METADATA_NAME:

    {"format": 1, "labels": [...], "frontend": FrontendConfig.to_dict(), "frontend_digest": hex,
     "training": {...}, "accuracy": {...}, "export": {...}}

Reading needs the light packages `flatbuffers` and `tflite` only. Writing takes the file apart and
packs it anew, with the object API that comes with ai-edge-litert.
"""

import json
import struct
from typing import Any, NoReturn

import flatbuffers  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import tflite

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.system.json_documents import parse_json

METADATA_NAME = "mbx_deploy"
METADATA_FORMAT = 1
FILE_IDENTIFIER = b"TFL3"

ALIGNMENT_BYTES = 16  # Buffer.data is force_align: 16 in TFLite's schema
_MOST_ENTRIES = 100  # of metadata; converters write two
_MOST_PARTS = 100_000  # tensors and their names, buffers, ops
_REQUIRED = {"labels": list, "frontend": dict, "frontend_digest": str}
_OPTIONAL = {"training": dict, "accuracy": dict, "export": dict}

# What the flatbuffers package and numpy raise when offsets lead outside the file.
_CORRUPT = (struct.error, IndexError, TypeError, ValueError, OverflowError)


def read_metadata(data: bytes) -> dict[str, Any] | None:
    """Return the metadata of an artifact, or None if the .tflite has none.

    data: the bytes of a .tflite file.

    Raises InputError: these are not the bytes of a whole .tflite file, or its metadata are of
    another format.
    """
    model = _parse(data)
    try:
        index = _buffer_index(model)
        text = None if index is None else _buffer(model, index)
    except _CORRUPT as error:
        raise _corrupt(error) from None
    return None if text is None else _decode(text)


def write_metadata(data: bytes, metadata: dict[str, Any]) -> bytes:
    """Return a .tflite file of the same network with this metadata in the place of any that it had.

    data: the bytes of a .tflite file.
    metadata: values that JSON knows, "format": METADATA_FORMAT among them.
    Every buffer stands at a multiple of 16 bytes, as the schema asks (TFLite's converter aligns to
    4 only). The same input gives the same bytes, and what was replaced leaves no trace.

    Raises InputError: as read_metadata(), for the file or for the metadata.
    ToolMissing: ai-edge-litert is not installed.
    """
    text = encode_metadata(metadata)
    model = unpack_model(data)
    try:
        _put_metadata(model, text)
        return pack_model(model)
    except _CORRUPT as error:
        raise _corrupt(error) from None


def unpack_model(data: bytes) -> Any:
    """Return a .tflite file as objects, a ModelT of TFLite's schema, to be changed and packed again.

    Raises InputError: as read_metadata(), for the file. ToolMissing: ai-edge-litert is not installed.
    """
    schema = _schema()
    _parse(data)
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytes(data), 0))
    except _CORRUPT as error:
        raise _corrupt(error) from None


def pack_model(model: Any) -> bytes:
    """Return the file of a ModelT, every buffer at a multiple of 16 bytes; the same objects give the same bytes."""
    builder = _AlignedBuilder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise ToolMissing(
            "writing a .tflite needs the package ai-edge-litert", "pip install mbx-deploy[export]"
        ) from None
    return schema


def encode_metadata(metadata: dict[str, Any]) -> bytes:
    """Return the metadata as compact UTF-8 JSON with sorted keys.

    Raises InputError: a value that JSON does not know (NaN among them), a missing key or another
    format.
    """
    _check(metadata)
    try:
        text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the metadata are no JSON: {error}") from None


def _decode(text: bytes) -> dict[str, Any]:
    try:
        metadata = parse_json(text, constant=_refuse_constant)
    except ValueError as error:
        raise InputError(f"the metadata of the .tflite are no JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise InputError(
            f"the metadata of the .tflite are of the wrong kind: got {type(metadata).__name__}, need an object"
        )
    _check(metadata)
    return metadata


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check(metadata: dict[str, Any]) -> None:
    version = metadata.get("format")
    if type(version) is not int or version != METADATA_FORMAT:
        raise InputError(
            f"unknown format of the metadata: got {version!r:.60}, need {METADATA_FORMAT}",
            "another version of mbx-deploy wrote it; install that one, or export the model again",
        )
    for key, kind in (_REQUIRED | _OPTIONAL).items():
        if key in _OPTIONAL and key not in metadata:
            continue
        if not isinstance(metadata.get(key), kind):
            got = type(metadata[key]).__name__ if key in metadata else "nothing"
            raise InputError(f"wrong metadata ({key}): got {got}, need {kind.__name__}")
    if not metadata["labels"] or not all(isinstance(x, str) and x for x in metadata["labels"]):
        raise InputError("wrong metadata (labels): got something else, need a list of names")


def _parse(data: bytes) -> tflite.Model:
    """Return the root table, after a walk over the whole file.

    The walk is what finds a file that was cut short: metadata stand near its beginning.
    """
    if len(data) < 8 or data[4:8] != FILE_IDENTIFIER:
        raise InputError(f"not a .tflite file (bytes 4 to 8): got {data[4:8]!r}, need {FILE_IDENTIFIER!r}")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        if not model.SubgraphsLength() or not model.BuffersLength():
            raise ValueError("no subgraph or no buffer")
        _walk(model)
    except _CORRUPT as error:
        raise _corrupt(error) from None
    return model


class _Bounds:
    """Counts what a walk meets. In a flatbuffer many may point to the same: then a small file is read for hours."""

    def __init__(self, file_bytes: int) -> None:
        self.parts = _MOST_PARTS
        self.bytes = 4 * file_bytes + 10_000  # some may be shared

    def take(self, *lengths: int, size: int = 4) -> None:
        """Count a part that has lists of these lengths. Raises ValueError for too much."""
        self.parts -= 1
        self.bytes -= size * sum(lengths)
        if self.parts < 0 or self.bytes < 0:
            raise ValueError("its parts together are larger than the file")


def _walk(model: tflite.Model) -> None:
    """Touch every vector of the file, copying none: what leads outside raises one of _CORRUPT."""
    bounds = _Bounds(len(model._tab.Bytes))
    for index in range(model.BuffersLength()):
        bounds.take()
        _buffer_span(model, index)
    for index in range(model.OperatorCodesLength()):
        bounds.take()
        model.OperatorCodes(index).BuiltinCode()
    for number in range(model.SubgraphsLength()):
        bounds.take()
        graph = model.Subgraphs(number)
        for index in range(graph.TensorsLength()):
            _walk_tensor(graph.Tensors(index), bounds)
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            bounds.take(operator.InputsLength(), operator.OutputsLength())
            operator.InputsAsNumpy()
            operator.OutputsAsNumpy()


def _walk_tensor(tensor: tflite.Tensor, bounds: _Bounds) -> None:
    bounds.take(tensor.ShapeLength())
    tensor.ShapeAsNumpy()
    bounds.take(len(tensor.Name() or b""), size=1)
    quantization = tensor.Quantization()
    if quantization is not None:
        bounds.take(quantization.ScaleLength(), quantization.ZeroPointLength(), size=8)


def _corrupt(error: Exception) -> InputError:
    return InputError(
        f"the .tflite file is damaged: {error}",
        "copy or download it again, or export the model again",
    )


def _buffer_index(model: tflite.Model) -> int | None:
    count = model.MetadataLength()
    if count > _MOST_ENTRIES:
        raise ValueError(f"{count} entries of metadata")
    for i in range(count):
        entry = model.Metadata(i)
        if entry.Name() == METADATA_NAME.encode():
            return int(entry.Buffer())
    return None


def _buffer(model: tflite.Model, index: int) -> bytes:
    start, length = _buffer_span(model, index)
    return bytes(model._tab.Bytes[start : start + length])


def _buffer_span(model: tflite.Model, index: int) -> tuple[int, int]:
    """Return where the data of one buffer start in the file, and how many bytes they are.

    Copies nothing: in a hostile file many buffers may share the same megabytes.
    """
    if not 0 <= index < model.BuffersLength():
        raise ValueError(f"buffer {index} of {model.BuffersLength()}")
    buffer = model.Buffers(index)
    file_bytes = len(model._tab.Bytes)
    if buffer.Offset() > 1:  # written behind the flatbuffer, as files of more than 2 GB are
        raise ValueError(f"buffer {index} is outside the flatbuffer")
    field = buffer._tab.Offset(4)
    if field == 0:
        return 0, 0
    start, length = buffer._tab.Vector(field), buffer._tab.VectorLen(field)
    if start + length > file_bytes:
        raise ValueError(f"buffer {index} ends at byte {start + length} of {file_bytes}")
    return start, length


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc, unused-ignore]  # not annotated
    """A builder that heeds the schema's `force_align: 16`, which the generated code leaves out."""

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        if x.dtype == np.uint8:
            self.Prep(ALIGNMENT_BYTES, x.size)
        return int(super().CreateNumpyVector(x))


def _put_metadata(model: Any, text: bytes) -> None:
    """Set the entry METADATA_NAME of a schema.ModelT; its buffer is used again if there was one."""
    schema = _schema()
    data = np.frombuffer(text, np.uint8)
    model.metadata = model.metadata or []
    for entry in model.metadata:
        if entry.name == METADATA_NAME.encode():
            model.buffers[entry.buffer].data = data
            return
    model.buffers.append(schema.BufferT(data=data))
    model.metadata.append(schema.MetadataT(name=METADATA_NAME, buffer=len(model.buffers) - 1))
