"""Runs the engines side by side on the same items and names the first stage, index and values that differ."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbx_deploy.codegen.target import emulation_note
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.open import build_engines
from mbx_deploy.engines.session import FRONTEND_STAGES, ITEM_CLIP, TRACE_LAYERS, TRACE_STAGES, Result
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import Build
from mbx_deploy.measure.items import NamedItem, hostile_clips, network_items, random_features, read_clips, streams
from mbx_deploy.serial.link import Link

ITEMS_AT_ONCE = 10

Progress = Callable[[int, int], None]


@dataclass
class Comparison:
    """What differed from the reference engine, the simulator.

    clips: recordings. items: they, streams made of them, hostile clips and random features. skipped: engines that could
    not run, and why. emulation: what the firmware's run says of a board. digests: SHA-256 of all results, by engine.
    sequences: each item is a sequence of runs, of a network that keeps state.
    """

    clips: int
    items: int = 0
    streams: int = 0
    engines: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    compared_bytes: int = 0
    mismatched_bytes: int = 0
    first_mismatch: dict[str, Any] | None = None
    digests: dict[str, str] = field(default_factory=dict)
    emulation: str | None = None
    sequences: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON takes it."""
        return dict(vars(self))


def verify(
    build: Build,
    clips: Sequence[Utterance] = (),
    inputs: np.ndarray | None = None,
    progress: Progress = lambda done, of: None,
    link: Link | None = None,
) -> Comparison:
    """Return how the engines compare on a build.

    Of a recogniser over clips, streams made of them, the hostile set and random features; a recording is brought to the
    model's rate and length first. Of a network alone over random inputs and those of items.read_inputs(). Every byte of
    the features, of each layer and of the results counts; a difference is traced to its first stage. link: of a device
    that runs the build; it is compared with the simulator then, its layers by CRC-32. Raises InputError for recordings
    of a network alone, inputs of a recogniser, or a device that runs something else, or is lost.
    """
    model = build.model
    if model.hearing is None and (clips or link is not None):
        raise InputError(f"a network alone hears nothing ({build.folder}): got recordings or a port, need inputs")
    if model.hearing is not None and inputs is not None:
        raise InputError(f"a recogniser takes recordings ({build.folder}): got inputs of its network")
    engines, skipped = build_engines(build, link)
    recordings = read_clips(clips, model)
    if model.hearing is not None:
        made = list(streams([named.item.values for named in recordings], model))
        items = [*hostile_clips(model), *random_features(model, 6), *made, *recordings]
    else:
        made, items = [], network_items(model, inputs)
    comparison = Comparison(len(recordings), len(items), len(made), [engine.name for engine in engines], skipped)
    comparison.sequences = model.keeps_state
    comparison.emulation = emulation_note(build.target) if build.target.emulated_as and link is None else None
    try:
        compare_engines(engines, items, comparison, progress)
    finally:
        if link is not None:
            with suppress(InputError):  # it may be gone, and why is told already
                link.leave()
    return comparison


def compare_engines(
    engines: Sequence[Engine],
    items: Sequence[NamedItem],
    comparison: Comparison,
    progress: Progress = lambda done, of: None,
) -> None:
    """Run every engine on every item and write into comparison what differs from the first engine."""
    hashes = {engine.name: hashlib.sha256() for engine in engines}
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for start in range(0, len(items), ITEMS_AT_ONCE):
            chunk = items[start : start + ITEMS_AT_ONCE]
            runs = [pool.submit(engine.run, [named.item for named in chunk], TRACE_LAYERS) for engine in engines]
            results = [run.result() for run in runs]
            for engine, answers in zip(engines, results, strict=True):
                for number, named in enumerate(chunk):
                    _compare_item(engines[0], engine, named, results[0][number], answers[number], comparison)
                    for result in answers[number]:
                        hashes[engine.name].update(result.logits.tobytes())
                        hashes[engine.name].update(result.posteriors_q15.astype("<u2").tobytes())
            progress(min(start + ITEMS_AT_ONCE, len(items)), len(items))
    comparison.digests = {name: value.hexdigest() for name, value in hashes.items()}


def _compare_item(
    reference: Engine,
    engine: Engine,
    named: NamedItem,
    expected: list[Result],
    got: list[Result],
    comparison: Comparison,
) -> None:
    if engine is reference:
        return
    if len(expected) != len(got):
        comparison.mismatched_bytes += 1
        comparison.first_mismatch = comparison.first_mismatch or {
            "engine": engine.name,
            "clip": named.name,
            "stage": "windows",
            "index": 0,
            "expected": len(expected),
            "got": len(got),
        }
        return
    for window, (want, have) in enumerate(zip(expected, got, strict=True)):
        for stage, left, right in _pairs(want, have):
            bad = np.flatnonzero(left.ravel() != right.ravel()) if left.shape == right.shape else np.arange(left.size)
            comparison.compared_bytes += left.nbytes
            comparison.mismatched_bytes += int(bad.size) * left.itemsize
            if bad.size and comparison.first_mismatch is None:
                comparison.first_mismatch = _locate(reference, engine, named, window, (stage, left, right))


def _pairs(want: Result, have: Result) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (stage, expected, got) in the order of the road; of some stages those that both engines told.

    Untold may be those of the front end, and calls that are no op of the model's file.
    """
    for stage, left in want.stages.items():
        if stage in have.checksums:
            yield stage, _checksum(zlib.crc32(left.tobytes())), _checksum(have.checksums[stage])
        elif stage in have.stages or stage not in (*FRONTEND_STAGES, *have.untold):
            yield stage, left, have.stages.get(stage, np.zeros(0, left.dtype))  # untold is different
    yield "logits", want.logits, have.logits
    yield "posteriors", want.posteriors_q15.astype(np.uint16), have.posteriors_q15.astype(np.uint16)
    if have.event.size:
        yield "event", want.event, have.event


def _checksum(value: int) -> np.ndarray:
    return np.array([value], np.uint32)


def _locate(
    reference: Engine, engine: Engine, named: NamedItem, window: int, found: tuple[str, np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Return the first stage that differs, index and values: both engines run the item again, telling every stage."""
    stage, left, right = found
    if stage == "features" and named.item.kind == ITEM_CLIP:
        want = reference.run([named.item], TRACE_STAGES)[0][window]
        have = engine.run([named.item], TRACE_STAGES)[0][window]
        for earlier, first, second in _pairs(want, have):
            if first.shape != second.shape or not np.array_equal(first, second):
                stage, left, right = earlier, first, second
                break
    index = int(np.flatnonzero(left.ravel() != right.ravel())[0]) if left.shape == right.shape else 0
    return {
        "engine": engine.name,
        "clip": named.name,
        "window": window,
        "stage": stage,
        "shape": list(left.shape),
        "index": [int(i) for i in np.unravel_index(index, left.shape)],
        "expected": int(left.ravel()[index]),
        "got": int(right.ravel()[index]) if right.size > index else None,
    }


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as text."""
    engines = ", ".join(comparison.engines)
    others = comparison.items - comparison.clips - comparison.streams
    what = f"{comparison.clips} recordings, {comparison.streams} streams, {others} hostile inputs"
    if not comparison.clips + comparison.streams:
        what = f"{others} sequences of inputs, the state kept in each" if comparison.sequences else f"{others} inputs"
    lines = [f"{what}; engines: {engines}"]
    lines += [f"note: {comparison.emulation}"] if comparison.emulation else []
    lines += [f"left out: {name}, because {why}" for name, why in comparison.skipped.items()]
    width = max(len(name) for name in comparison.engines)
    lines += [f"  {name:<{width}}  results {comparison.digests[name][:16]}" for name in comparison.engines]
    if comparison.first_mismatch is None:
        compared = "features, layers and results" if comparison.streams else "layers and outputs"
        lines.append(f"equal: {comparison.compared_bytes:,} bytes of {compared} compared, 0 differ")
        return "\n".join(lines)
    first = comparison.first_mismatch
    lines.append(f"DIFFERENT: {comparison.mismatched_bytes:,} of {comparison.compared_bytes:,} bytes")
    where = f"stage {first['stage']}, index {first['index']}: sim {first['expected']}, {first['engine']} {first['got']}"
    lines.append(f"first: {first['clip']}, {where}")
    return "\n".join(lines)
