"""A .tflite without what mbx-deploy stores in it: what a firmware carries that interprets the file itself.

A flatbuffer is written from its end to its beginning, and pack_model() writes buffers in their order, ours last: all of
the network lies behind our metadata, the few tables that lead to it before them. Those are written anew, in front of
the network's bytes, which stay as they are.
"""

import struct
from dataclasses import replace
from typing import Any

import flatbuffers  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import tflite

from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.network.metadata import ALIGNMENT_BYTES, FILE_IDENTIFIER, METADATA_NAME
from mbx_deploy.network.reader import parse_tflite

_DATA = 4  # the place of a Buffer's data in its vtable


def bare_network(data: bytes) -> bytes:
    """Return a .tflite of the same network without our metadata and without signatures, which a firmware never reads.

    data: a .tflite file that parse_tflite() takes. Buffers and tensors keep their numbers, other metadata stay. A file
    that something else than pack_model() wrote may be arranged otherwise: it is returned as it is.
    """
    try:
        whole = parse_tflite(data, "whole")
        made = _cut(data)
        same = made is not None and _same_network(parse_tflite(made, "bare"), whole)
    except (InputError, struct.error, IndexError, TypeError, ValueError, OverflowError):
        return data
    return made if made is not None and same and len(made) < len(data) else data


def _cut(data: bytes) -> bytes | None:
    model = tflite.Model.GetRootAs(data, 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    ours = [entry.Buffer() for entry in entries if entry.Name() == METADATA_NAME.encode()]
    if len(ours) != 1 or not 0 < ours[0] < model.BuffersLength() or len(data) % ALIGNMENT_BYTES:
        return None
    table = model.Buffers(ours[0])._tab
    field = table.Offset(_DATA)
    if not field:
        return None
    end = table.Vector(field) + table.VectorLen(field)
    start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    buffers = [model.Buffers(i)._tab.Pos for i in range(model.BuffersLength())]
    buffers[ours[0]] = buffers[0]  # the empty one, which the schema has at the beginning
    subgraphs = [model.Subgraphs(i)._tab.Pos for i in range(model.SubgraphsLength())]
    codes = [model.OperatorCodes(i)._tab.Pos for i in range(model.OperatorCodesLength())]
    if min(buffers + subgraphs + codes) < start or model.Buffers(0)._tab.Offset(_DATA):
        return None

    builder = flatbuffers.Builder(len(data) + 65536)
    builder.Bytes[len(builder.Bytes) - (len(data) - start) :] = data[start:]
    builder.head = len(builder.Bytes) - (len(data) - start)
    builder.minalign = ALIGNMENT_BYTES
    described = builder.CreateString(model.Description() or b"")
    kept = []
    for entry in entries:
        if entry.Buffer() != ours[0]:
            name = builder.CreateString(entry.Name() or b"")
            tflite.MetadataStart(builder)
            tflite.MetadataAddName(builder, name)
            tflite.MetadataAddBuffer(builder, entry.Buffer())
            kept.append(tflite.MetadataEnd(builder))
    metadata = _offsets(builder, kept)
    vectors = [_offsets(builder, [len(data) - place for place in places]) for places in (buffers, subgraphs, codes)]
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, model.Version())
    tflite.ModelAddOperatorCodes(builder, vectors[2])
    tflite.ModelAddSubgraphs(builder, vectors[1])
    tflite.ModelAddDescription(builder, described)
    tflite.ModelAddBuffers(builder, vectors[0])
    tflite.ModelAddMetadata(builder, metadata)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def _offsets(builder: Any, places: list[int]) -> int:
    """Write a vector of tables that are there already. places: counted from the file's end."""
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _same_network(left: ir.Model, right: ir.Model) -> bool:
    """Return whether two networks are one: ops, inputs and outputs, tensors, constants."""
    bare = [
        (
            *(model.ops, model.inputs, model.outputs, [replace(tensor, data=None) for tensor in model.tensors]),
            [(variable.name, variable.read, variable.assigned) for variable in model.variables],
        )
        for model in (left, right)
    ]
    constants = [
        [*(tensor.data for tensor in model.tensors), *(variable.initial for variable in model.variables)]
        for model in (left, right)
    ]
    return bare[0] == bare[1] and all(
        a is b is None or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(*constants, strict=True)
    )
