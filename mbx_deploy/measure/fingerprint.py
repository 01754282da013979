"""What a model computes, as digests: of its constants, and of every stage on a fixed set of clips.

Accuracy hardly moves when one weight or one entry of a table is wrong; a digest always does, and says where it begins.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.session import TRACE_STAGES, Item
from mbx_deploy.errors import InputError

DIGEST_DIGITS = 16  # 64 bits: against accidents, not against an attacker
_AT_ONCE = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fingerprint:
    """Digests of what an engine computes from some items: stage -> digest, in the order of the road."""

    items: int
    stages: dict[str, str]


def fingerprint(engine: Engine, items: Sequence[Item], progress: Progress = lambda done, of: None) -> Fingerprint:
    """Return the digests of every stage of every item, whichever engine it is: values count, not their types."""
    hashes: dict[str, hashlib._Hash] = {}
    for start in range(0, len(items), _AT_ONCE):
        for windows in engine.run(items[start : start + _AT_ONCE], TRACE_STAGES):
            for window in windows:
                stages = {**window.stages, "logits": window.logits, "posteriors": window.posteriors_q15}
                for name, values in stages.items():
                    hashes.setdefault(name, hashlib.sha256()).update(_plain(values))
        progress(min(start + _AT_ONCE, len(items)), len(items))
    return Fingerprint(len(items), {name: _short(value) for name, value in _in_order(hashes)})


def _in_order(hashes: dict[str, "hashlib._Hash"]) -> Iterable[tuple[str, "hashlib._Hash"]]:
    """Yield the ends last: random features have no stages of a front end, so a name may come late."""
    last = ("logits", "posteriors")
    yield from ((name, value) for name, value in hashes.items() if name not in last)
    yield from ((name, hashes[name]) for name in last)


def _plain(values: np.ndarray) -> bytes:
    return repr(values.shape).encode() + np.ascontiguousarray(values).astype("<i8").tobytes()


def _short(value: "hashlib._Hash") -> str:
    return value.hexdigest()[:DIGEST_DIGITS]


def constants(recognizer: CompiledModel) -> dict[str, str]:
    """Return the digest of each table of the front end, "table NAME", and of each layer's constants, "layer NAME".

    A unit of 1 has none: baselines from before there were others hold.
    """
    program, tables = recognizer.program, recognizer.tables
    found = {
        f"table {field.name}": _digest(getattr(tables, field.name))
        for field in fields(tables)
        if field.name != "config" and not (field.name == "unit" and tables.unit == 1.0)
    }
    found["quantization of input and output"] = _digest(
        [program.input_scale, program.input_zero_point, program.output_scale, program.output_zero_point]
    )
    return found | {f"layer {call.name}": _digest(call) for call in program.calls}


def _digest(value: object) -> str:
    found = hashlib.sha256()
    _feed(found, value)
    return _short(found)


def _feed(found: "hashlib._Hash", value: object) -> None:
    if isinstance(value, np.ndarray):
        found.update(_plain(value))
    elif is_dataclass(value):
        for field in fields(value):
            found.update(field.name.encode())
            _feed(found, getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for part in value:
            _feed(found, part)
    else:
        found.update(f"{value!r};".encode())


def clips_digest(names: Sequence[str], samples: np.ndarray) -> str:
    """Return the digest of recordings as they are measured. names: theirs; samples: int16 (N, clip_samples)."""
    found = hashlib.sha256(repr(tuple(names)).encode("utf-8", "surrogateescape"))
    found.update(np.ascontiguousarray(samples, "<i2").tobytes())
    return _short(found)


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the names whose digests are not what they were, in their order now; then those that are gone."""
    return [name for name in now if before.get(name) != now[name]] + [name for name in before if name not in now]


def need_digests(value: object, where: str) -> dict[str, str]:
    """Return a table of digests read from a file. Raises InputError for anything else."""
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise InputError(f"bad digests ({where}): got {value!r:.60}, need names with their digests")
    return dict(value)
