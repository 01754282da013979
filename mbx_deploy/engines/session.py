"""Requests to a generated program and what it answers: recordings or network inputs in, results and traces out.

A network alone takes items of ITEM_FEATURES only, and its result is its output.

Twin: firmware_templates/parts/session/mbx_session.h, which describes the bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.program import Call, Program

MAGIC = 0x3151424D
ITEM_CLIP, ITEM_STREAM, ITEM_FEATURES = range(3)
TRACE_RESULTS, TRACE_LAYERS, TRACE_STAGES = range(3)
RECORD_RESULT, RECORD_END = 256, 257
STAGE_FEATURES, STAGE_LAYERS = 6, 16
FRONTEND_STAGES = ("windowed", "spectrum", "power", "mel", "log_mel", "coefficients")
BLOCK_SAMPLES = 512
OK = 0
HEAD_BYTES = 16  # of a result, before its logits
NO_WORD = 0xFFFF
NO_POSTERIORS = np.zeros(0, np.int32)  # of a network alone


@dataclass(frozen=True)
class Item:
    """One thing to run: kind, its values (int16 samples or int8 features), and the samples handed over at a time."""

    kind: int
    values: np.ndarray
    block: int = BLOCK_SAMPLES


@dataclass(frozen=True)
class Result:
    """What an engine computed from one window.

    logits: int8 (classes,), of a network alone its output. posteriors_q15: int32 (classes,), of a network alone
    (0,). event: int64 (3,), the word that was said (-1 for none), its score in Q15, samples since the start; (0,)
    where it is not told. stages: name -> values, in the order of the road; the front end's have a row a frame.
    Empty where no trace was asked for. checksums: of layers whose values are not told, the CRC-32 of their bytes.
    untold: stages that the engine has not at all: calls that are no op of the model's file.
    """

    logits: np.ndarray
    posteriors_q15: np.ndarray
    stages: dict[str, np.ndarray]
    checksums: dict[str, int] = field(default_factory=dict)
    event: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    untold: frozenset[str] = frozenset()

    @property
    def label(self) -> int:
        """The class with the largest logit, the first of equals."""
        return int(np.argmax(self.logits))


def clips_of(items: Sequence[Item]) -> int:
    """Return how many clips of a second items are as good as, each at least one: what a time limit goes by."""
    return sum(1 if item.kind == ITEM_CLIP else 1 + item.values.size // 16000 for item in items)


def encode_request(items: Sequence[Item], trace: int) -> bytes:
    """Return the bytes of a request. trace: TRACE_RESULTS, TRACE_LAYERS or TRACE_STAGES."""
    parts = [struct.pack("<3I", MAGIC, trace, len(items))]
    for item in items:
        values = np.ascontiguousarray(item.values, "<i1" if item.kind == ITEM_FEATURES else "<i2").tobytes()
        padding = b"\0" * (-len(values) % 4) if item.kind == ITEM_FEATURES else b""
        parts += [struct.pack("<3I", item.kind, item.block, item.values.size), values, padding]
    return b"".join(parts)


def decode_response(data: bytes, model: CompiledModel, count: int) -> list[list[Result]]:
    """Return the results of each item, a list for each, since a stream has several windows.

    Raises CheckFailed for a response that breaks off or holds what no program of ours writes.
    """
    items: list[list[Result]] = []
    results: list[Result] = []
    stages: dict[int, list[bytes]] = {}
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<2I", data, position)
        body = data[position + 8 : position + 8 + size]
        position += 8 + size
        if len(body) != size:
            break
        if kind == RECORD_RESULT and size == _result_bytes(model):
            results.append(_result(body, stages, model))
            stages = {}
        elif kind == RECORD_END and size == 4:
            status = struct.unpack("<I", body)[0]
            if status != OK:
                raise CheckFailed(f"the program ended item {len(items)} with status {status}: need {OK}")
            items.append(results)
            results, stages = [], {}
        elif kind < RECORD_RESULT or kind - STAGE_LAYERS < len(model.c_program.calls):
            stages.setdefault(kind, []).append(body)
        else:
            raise CheckFailed(f"the program wrote a record of unknown kind {kind}, {size} bytes")
    if len(items) != count:
        raise CheckFailed(f"the program's answer breaks off: got {len(items)} items, need {count}")
    return items


def _result_bytes(model: CompiledModel) -> int:
    output = model.program.buffers[model.program.output].size_bytes
    return HEAD_BYTES + 3 * len(model.hearing.labels) if model.hearing else output


def _result(body: bytes, stages: dict[int, list[bytes]], model: CompiledModel) -> Result:
    """Return what a record of a result says. Raises CheckFailed where it contradicts itself."""
    if model.hearing is None:
        return Result(np.frombuffer(body, "<i1"), NO_POSTERIORS, _stages(stages, model))
    return heard_result(body, _stages(stages, model), model)


def heard_result(body: bytes, stages: dict[str, np.ndarray], model: CompiledModel) -> Result:
    """Return what a recogniser tells of a decision, with stages: head (label, score, event), logits, posteriors.

    Raises CheckFailed for another number of bytes, or where it contradicts itself.
    """
    classes = len(model.labels)
    if len(body) != HEAD_BYTES + 3 * classes:
        raise CheckFailed(f"a result has {len(body)} bytes: need {HEAD_BYTES + 3 * classes}")
    logits = np.frombuffer(body, "<i1", classes, HEAD_BYTES)
    posteriors = np.frombuffer(body, "<u2", classes, HEAD_BYTES + classes).astype(np.int32)
    label, score, word, mean, samples = struct.unpack_from("<4HQ", body)
    event = np.array([-1 if word == NO_WORD else word, mean, samples])
    result = Result(logits, posteriors, stages, event=event)
    if label != result.label or score != posteriors[label]:
        raise CheckFailed(f"the program contradicts itself: label {label}, logits {logits.tolist()}")
    return result


def need_items(model: CompiledModel, items: Sequence[Item]) -> None:
    """Raise InputError for an item that a model does not take: a network alone takes its input only, one that streams
    any number of steps.
    """
    size = model.c_program.buffers[model.c_program.input].size_bytes
    for item in items if model.hearing is None else ():
        runs = item.values.size / size
        if item.kind != ITEM_FEATURES or (runs != 1 if model.step is None else runs < 1 or runs % 1):
            many = "" if model.step is None else "any number of times "
            raise InputError(
                f"a network alone takes its input only ({model.name}): got an item of kind {item.kind} with "
                f"{item.values.size} values, need {many}{size} of int8"
            )


def _stages(records: dict[int, list[bytes]], model: CompiledModel) -> dict[str, np.ndarray]:
    """Return the traced values under the names and in the layouts that the simulator's observer uses.

    Raises CheckFailed for stages that the model has not.
    """
    program, stages = model.c_program, {}
    for kind in sorted(records):
        layer = kind - STAGE_LAYERS
        if kind <= STAGE_FEATURES and model.hearing is not None:
            name, values = _heard_stage(kind, records[kind], model.hearing.config)
            stages[name] = values
        elif 0 <= layer < len(program.calls):
            stages[program.calls[layer].name] = join_stripes(records[kind], program, program.calls[layer])
        else:
            raise CheckFailed(f"the program wrote a record of unknown kind {kind}: the model has no such stage")
    return stages


def _heard_stage(kind: int, rows: list[bytes], config: FrontendConfig) -> tuple[str, np.ndarray]:
    """Return name and values of a stage of the front end, the features included."""
    if kind < STAGE_FEATURES:
        # In a stream a window shares frames with the one before: what was traced is what was computed.
        return FRONTEND_STAGES[kind], _frontend_stage(FRONTEND_STAGES[kind], rows, config)
    values = np.frombuffer(rows[-1], "<i1")
    return "features", values.reshape(-1, config.num_coefficients)


def join_stripes(parts: Sequence[bytes], program: Program, call: Call) -> np.ndarray:
    """Return a layer's output, int8 (height, width, channels), of what was traced: one part, or a cascade's stripes.

    Raises CheckFailed where that is not as much as the layer has.
    """
    buffer, data = program.buffers[call.output], b"".join(parts)
    if len(data) != buffer.size_bytes:
        raise CheckFailed(f"the program told {len(data)} bytes of {call.name}: need {buffer.size_bytes}")
    return np.frombuffer(data, "<i1").reshape(buffer.shape)


def _frontend_stage(name: str, rows: list[bytes], config: FrontendConfig) -> np.ndarray:
    from mbx_deploy.sim.frontend import bit_reversal

    data = b"".join(rows)
    if name in ("power", "mel"):
        return np.frombuffer(data, "<u8").reshape(len(rows), -1)
    values = np.frombuffer(data, "<i4").reshape(len(rows), -1)
    if name == "log_mel":  # each in the lower half of an energy's place
        return values[:, 0::2]
    if name == "spectrum":
        return values.reshape(len(rows), -1, 2)
    if name == "windowed":  # in the FFT's order, zeros behind the window
        half = config.n_fft // 2
        ordered = np.empty((len(rows), half, 2), np.int32)
        ordered[:, bit_reversal(half)] = values.reshape(len(rows), half, 2)
        return ordered.reshape(len(rows), -1)[:, : config.window_length]
    return values
