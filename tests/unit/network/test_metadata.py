"""Metadata in a .tflite: written and read back, and damaged files refused in one line."""

import json
import sys
from typing import Any

import flatbuffers  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
import tflite
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.errors import InputError
from mbx_deploy.network.metadata import (
    METADATA_FORMAT,
    METADATA_NAME,
    encode_metadata,
    read_metadata,
    write_metadata,
)

METADATA: dict[str, Any] = {
    "format": METADATA_FORMAT,
    "labels": ["ja", "nein", "größer"],
    "frontend": {"n_mels": 40, "low_hz": 0.0},
    "frontend_digest": "0" * 64,
    "training": {"epochs": 3},
    "accuracy": {},
}


def tensor(shape: list[int], kind: int, buffer: int, scales: list[float], name: str) -> schema.TensorT:
    quantization = schema.QuantizationParametersT(scale=scales, zeroPoint=[0] * len(scales))
    return schema.TensorT(shape=shape, type=kind, buffer=buffer, quantization=quantization, name=name, hasRank=True)


def pack(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def small_model() -> bytes:
    """Return one FULLY_CONNECTED, int8 [1, 5] -> int8 [1, 3], and metadata of somebody else."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, 15, dtype=np.int8).view(np.uint8)
    bias = np.array([100, -200, 300], "<i4").view(np.uint8)
    graph = schema.SubGraphT(
        tensors=[
            tensor([1, 5], schema.TensorType.INT8, 0, [0.5], "in"),
            tensor([3, 5], schema.TensorType.INT8, 1, [0.01], "weights"),
            tensor([3], schema.TensorType.INT32, 2, [0.005], "bias"),
            tensor([1, 3], schema.TensorType.INT8, 0, [0.7], "out"),
        ],
        inputs=[0],
        outputs=[3],
        operators=[
            schema.OperatorT(
                inputs=[0, 1, 2],
                outputs=[3],
                builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
                builtinOptions=schema.FullyConnectedOptionsT(),
            )
        ],
        name="main",
    )
    code = schema.BuiltinOperator.FULLY_CONNECTED
    return pack(
        schema.ModelT(
            version=3,
            operatorCodes=[schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=4)],
            subgraphs=[graph],
            description="a test",
            buffers=[
                schema.BufferT(),
                schema.BufferT(data=weights),
                schema.BufferT(data=bias),
                schema.BufferT(data=np.frombuffer(b"1.5.0", np.uint8)),
            ],
            metadata=[schema.MetadataT(name="min_runtime_version", buffer=3)],
        )
    )


def with_text(text: bytes) -> bytes:
    """Return a model whose metadata buffer holds any bytes."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(small_model(), 0))
    model.metadata.append(schema.MetadataT(name=METADATA_NAME, buffer=len(model.buffers)))
    model.buffers.append(schema.BufferT(data=np.frombuffer(text, np.uint8)))
    return pack(model)


def plain(value: Any) -> Any:
    """Return a flatbuffer object as plain lists and dicts, to compare."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {k: plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


MODEL = small_model()
ARTIFACT = write_metadata(MODEL, METADATA)


def test_a_model_without_metadata() -> None:
    assert read_metadata(MODEL) is None


def test_what_is_written_is_read() -> None:
    assert read_metadata(ARTIFACT) == METADATA


def test_the_same_input_gives_the_same_bytes() -> None:
    other_order = dict(reversed(METADATA.items()))
    assert write_metadata(MODEL, other_order) == ARTIFACT
    assert write_metadata(small_model(), METADATA) == ARTIFACT
    assert write_metadata(ARTIFACT, METADATA) == ARTIFACT


def test_what_is_replaced_leaves_no_trace() -> None:
    changed = {**METADATA, "training": {"a secret": 1}}
    longer = write_metadata(ARTIFACT, changed)
    assert read_metadata(longer) == changed
    assert write_metadata(longer, METADATA) == ARTIFACT
    assert b"secret" not in ARTIFACT


def test_the_json_is_compact_with_sorted_keys() -> None:
    text = encode_metadata(METADATA)
    assert text in ARTIFACT
    assert text.decode() == json.dumps(METADATA, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_identifier_and_alignment() -> None:
    assert ARTIFACT[4:8] == b"TFL3"
    model = tflite.Model.GetRootAs(ARTIFACT, 0)
    for index in range(model.BuffersLength()):
        table = model.Buffers(index)._tab
        if table.Offset(4):
            assert table.Vector(table.Offset(4)) % 16 == 0


def test_the_network_and_the_metadata_of_others_stay() -> None:
    before, after = (plain(schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))) for data in (MODEL, ARTIFACT))
    assert after["metadata"][:-1] == before["metadata"]
    assert after["buffers"][:-1] == before["buffers"]
    for name in ("metadata", "buffers"):
        del before[name], after[name]
    assert after == before


def test_interpreters_still_run_it() -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    features = np.array([[-128, -3, 0, 5, 127]], np.int8)
    logits = []
    for data in (MODEL, ARTIFACT):
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, features)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(3).tolist())
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    micro = runtime.Interpreter.from_bytes(ARTIFACT)
    micro.set_input(features, 0)
    micro.invoke()
    logits.append(micro.get_output(0).tolist())
    assert logits[0] == logits[1] == logits[2]
    assert len(set(logits[0][0])) == 3


@pytest.mark.parametrize("version", [0, METADATA_FORMAT + 1, True, "1", 1.0, None])
def test_an_unknown_format_is_refused(version: object) -> None:
    with pytest.raises(InputError, match="unknown format of the metadata"):
        write_metadata(MODEL, {**METADATA, "format": version})
    with pytest.raises(InputError, match="unknown format of the metadata"):
        read_metadata(with_text(json.dumps({**METADATA, "format": version}).encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"labels": []},
        {"labels": ["yes", 3]},
        {"labels": "yes"},
        {"frontend": []},
        {"frontend_digest": 5},
        {"training": None},
        {"accuracy": [1]},
    ],
)
def test_wrong_kinds_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        write_metadata(MODEL, {**METADATA, **change})
    with pytest.raises(InputError, match=next(iter(change))):
        read_metadata(with_text(json.dumps({**METADATA, **change}).encode()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, "\ud800"])
def test_what_json_does_not_know_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="no JSON"):
        write_metadata(MODEL, {**METADATA, "training": {"value": value}})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"format":1,"accuracy":{"float":NaN}}',
        b'{"format":' + b"9" * 10_000 + b"}",
        b"[]",
        b"null",
    ],
    ids=["empty", "cut", "not UTF-8", "deep", "NaN", "long number", "list", "null"],
)
def test_damaged_json_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="metadata of the"):
        read_metadata(with_text(text))


def test_deep_json_is_refused_whatever_the_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)
    try:
        with pytest.raises(InputError, match="nested more than"):
            read_metadata(with_text(b'{"a":' * 100_000))
    finally:
        sys.setrecursionlimit(limit)
    assert read_metadata(write_metadata(MODEL, {**METADATA, "training": {"text": '[{"' * 500}})) is not None


@pytest.mark.parametrize("data", [b"", b"TFL3", b"some words in a text file called .tflite"])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a"):
        read_metadata(data)
    with pytest.raises(InputError, match="not a"):
        write_metadata(data, METADATA)


def test_every_cut_file_is_refused() -> None:
    for length in range(len(ARTIFACT)):
        with pytest.raises(InputError):
            read_metadata(ARTIFACT[:length])


def test_a_huge_vector_is_refused_without_taking_memory() -> None:
    model = tflite.Model.GetRootAs(ARTIFACT, 0)
    positions = [model._tab.Vector(model._tab.Offset(slot)) - 4 for slot in (6, 8, 12, 16)]
    table = model.Buffers(1)._tab
    positions.append(table.Vector(table.Offset(4)) - 4)
    for position in positions:
        for length in (0x7FFFFFFF, 0xFFFFFFFF, 1 << 24):
            data = bytearray(ARTIFACT)
            data[position : position + 4] = length.to_bytes(4, "little")
            with pytest.raises(InputError, match="damaged"):
                read_metadata(bytes(data))


def read_or_refuse(data: bytes) -> None:
    try:
        assert read_metadata(data) is None or read_metadata(data)
    except InputError as error:
        assert "\n" not in error.what


@settings(max_examples=500, deadline=1000)
@given(st.lists(st.tuples(st.integers(0, len(ARTIFACT) - 1), st.integers(0, 255)), max_size=8))
def test_mutated_bytes_never_end_in_a_traceback(changes: list[tuple[int, int]]) -> None:
    data = bytearray(ARTIFACT)
    for position, value in changes:
        data[position] = value
    read_or_refuse(bytes(data))


@settings(max_examples=300, deadline=1000)
@given(
    st.integers(0, len(ARTIFACT) // 4 - 1),
    st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF]),
)
def test_edge_offsets_never_end_in_a_traceback(word: int, value: int) -> None:
    data = bytearray(ARTIFACT)
    data[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
    read_or_refuse(bytes(data))


@settings(max_examples=300, deadline=1000)
@given(st.binary(min_size=4, max_size=4), st.binary(max_size=400))
def test_random_bytes_never_end_in_a_traceback(start: bytes, rest: bytes) -> None:
    read_or_refuse(start + b"TFL3" + rest)
