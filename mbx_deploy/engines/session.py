"""Requests to a generated program and what it answers: recordings in, results and traces out.

Twin: firmware_templates/parts/session/mbx_session.h, which describes the bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mbx_deploy.compiler.model import Recognizer
from mbx_deploy.errors import CheckFailed
from mbx_deploy.network.program import Call, Program

MAGIC = 0x3151424D
ITEM_CLIP, ITEM_STREAM, ITEM_FEATURES = range(3)
TRACE_RESULTS, TRACE_LAYERS, TRACE_STAGES = range(3)
RECORD_RESULT, RECORD_END = 256, 257
STAGE_FEATURES, STAGE_LAYERS = 6, 16
FRONTEND_STAGES = ("windowed", "spectrum", "power", "mel", "log_mel", "coefficients")
BLOCK_SAMPLES = 512
OK = 0


@dataclass(frozen=True)
class Item:
    """One thing to run: kind, its values (int16 samples or int8 features), and the samples handed over at a time."""

    kind: int
    values: np.ndarray
    block: int = BLOCK_SAMPLES


@dataclass(frozen=True)
class Result:
    """What an engine computed from one window.

    logits: int8 (classes,). posteriors_q15: int32 (classes,). stages: name -> values, in the order of the road; the
    front end's
    stages have a row a frame. Empty where no trace was asked for. checksums: of layers whose values are not told, the
    CRC-32 of their bytes.
    """

    logits: np.ndarray
    posteriors_q15: np.ndarray
    stages: dict[str, np.ndarray]
    checksums: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> int:
        """The class with the largest logit, the first of equals."""
        return int(np.argmax(self.logits))


def encode_request(items: Sequence[Item], trace: int) -> bytes:
    """Return the bytes of a request. trace: TRACE_RESULTS, TRACE_LAYERS or TRACE_STAGES."""
    parts = [struct.pack("<3I", MAGIC, trace, len(items))]
    for item in items:
        values = np.ascontiguousarray(item.values, "<i1" if item.kind == ITEM_FEATURES else "<i2").tobytes()
        padding = b"\0" * (-len(values) % 4) if item.kind == ITEM_FEATURES else b""
        parts += [struct.pack("<3I", item.kind, item.block, item.values.size), values, padding]
    return b"".join(parts)


def decode_response(data: bytes, recognizer: Recognizer, count: int) -> list[list[Result]]:
    """Return the results of each item, a list for each, since a stream has several windows.

    Raises CheckFailed for a response that breaks off or holds what no program of ours writes.
    """
    items: list[list[Result]] = []
    results: list[Result] = []
    stages: dict[int, list[bytes]] = {}
    classes = len(recognizer.labels)
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<2I", data, position)
        body = data[position + 8 : position + 8 + size]
        position += 8 + size
        if len(body) != size:
            break
        if kind == RECORD_RESULT and size == 4 + 3 * classes:
            logits = np.frombuffer(body, "<i1", classes, 4)
            posteriors = np.frombuffer(body, "<u2", classes, 4 + classes).astype(np.int32)
            result = Result(logits, posteriors, _stages(stages, recognizer))
            label, score = struct.unpack_from("<2H", body)
            if label != result.label or score != posteriors[label]:
                raise CheckFailed(f"the program contradicts itself: label {label}, logits {logits.tolist()}")
            results.append(result)
            stages = {}
        elif kind == RECORD_END and size == 4:
            status = struct.unpack("<I", body)[0]
            if status != OK:
                raise CheckFailed(f"the program ended item {len(items)} with status {status}: need {OK}")
            items.append(results)
            results, stages = [], {}
        elif kind < RECORD_RESULT:
            stages.setdefault(kind, []).append(body)
        else:
            raise CheckFailed(f"the program wrote a record of unknown kind {kind}, {size} bytes")
    if len(items) != count:
        raise CheckFailed(f"the program's answer breaks off: got {len(items)} items, need {count}")
    return items


def _stages(records: dict[int, list[bytes]], recognizer: Recognizer) -> dict[str, np.ndarray]:
    """Return the traced values under the names and in the layouts that the simulator's observer uses."""
    config, program = recognizer.config, recognizer.program
    stages: dict[str, np.ndarray] = {}
    for kind in sorted(records):
        if kind < STAGE_FEATURES:
            # In a stream a window shares frames with the one before: what was traced is what was computed.
            stages[FRONTEND_STAGES[kind]] = _frontend_stage(FRONTEND_STAGES[kind], records[kind], recognizer)
        elif kind == STAGE_FEATURES:
            values = np.frombuffer(records[kind][-1], "<i1")
            stages["features"] = values.reshape(config.num_frames, config.num_coefficients)
        elif kind - STAGE_LAYERS < len(program.calls):
            call = program.calls[kind - STAGE_LAYERS]
            stages[call.name] = join_stripes(records[kind], program, call)
    return stages


def join_stripes(parts: Sequence[bytes], program: Program, call: Call) -> np.ndarray:
    """Return a layer's output, int8 (height, width, channels), of what was traced: one part, or a cascade's stripes.

    Raises CheckFailed where that is not as much as the layer has.
    """
    buffer, data = program.buffers[call.output], b"".join(parts)
    if len(data) != buffer.size_bytes:
        raise CheckFailed(f"the program told {len(data)} bytes of {call.name}: need {buffer.size_bytes}")
    return np.frombuffer(data, "<i1").reshape(buffer.shape)


def _frontend_stage(name: str, rows: list[bytes], recognizer: Recognizer) -> np.ndarray:
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
        half = recognizer.config.n_fft // 2
        ordered = np.empty((len(rows), half, 2), np.int32)
        ordered[:, bit_reversal(half)] = values.reshape(len(rows), half, 2)
        return ordered.reshape(len(rows), -1)[:, : recognizer.config.window_length]
    return values
