"""Requests to the program of a network without a front end, and what it answers.

Twin: firmware_templates/parts/network_session/mbx_session.h, which describes the bytes.
"""

import struct
from collections.abc import Sequence

import numpy as np

from mbx_deploy.compiler.network_model import Network
from mbx_deploy.engines.session import OK, RECORD_END, RECORD_RESULT, STAGE_LAYERS, Item, Result, join_stripes
from mbx_deploy.errors import CheckFailed

MAGIC = 0x314E424D
NO_POSTERIORS = np.zeros(0, np.int32)


def encode_request(items: Sequence[Item], trace: int) -> bytes:
    """Return the bytes of a request. items: of int8 values, the network's input. trace: TRACE_RESULTS or _LAYERS."""
    parts = [struct.pack("<3I", MAGIC, trace, len(items))]
    for item in items:
        values = np.ascontiguousarray(item.values, "<i1").tobytes()
        parts += [struct.pack("<I", len(values)), values, b"\0" * (-len(values) % 4)]
    return b"".join(parts)


def decode_response(data: bytes, network: Network, count: int) -> list[list[Result]]:
    """Return the one result of each item, without posteriors.

    Raises CheckFailed for a response that breaks off or holds what no program of ours writes.
    """
    program = network.program
    results: list[list[Result]] = []
    layers: dict[int, list[bytes]] = {}
    output: np.ndarray | None = None
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<2I", data, position)
        body = data[position + 8 : position + 8 + size]
        position += 8 + size
        if len(body) != size:
            break
        layer = kind - STAGE_LAYERS
        if kind == RECORD_RESULT and size == network.output.size:
            output = np.frombuffer(body, "<i1")
        elif kind == RECORD_END and size == 4 and output is not None and struct.unpack("<I", body)[0] == OK:
            calls = {number: program.calls[number] for number in sorted(layers)}
            stages = {call.name: join_stripes(layers[number], program, call) for number, call in calls.items()}
            results.append([Result(output, NO_POSTERIORS, stages)])
            layers, output = {}, None
        elif 0 <= layer < len(program.calls):
            layers.setdefault(layer, []).append(body)
        else:
            raise CheckFailed(f"the program wrote a record of unknown kind {kind}, {size} bytes")
    if len(results) != count:
        raise CheckFailed(f"the program's answer breaks off: got {len(results)} items, need {count}")
    return results
