"""Runs the engines side by side on the same items and names the first stage, index and values that differ."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.codegen.project import build_digest
from mbx_deploy.compiler.model import Recognizer
from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.engines.c import Engine, FirmwareEngine, HostEngine, ProgramEngine, SimEngine, TflmEngine
from mbx_deploy.engines.device import DeviceEngine
from mbx_deploy.engines.recognize import emulation_note
from mbx_deploy.engines.session import (
    FRONTEND_STAGES,
    ITEM_CLIP,
    ITEM_FEATURES,
    ITEM_STREAM,
    TRACE_LAYERS,
    TRACE_STAGES,
    Item,
    Result,
)
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.build import Build
from mbx_deploy.serial.link import Link

ITEMS_AT_ONCE = 10
SOUND_SUFFIXES = (".wav", ".flac", ".ogg")
RANDOM_SEED = 20260101
STREAM_CLIPS = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NamedItem:
    """An item, and where it comes from."""

    name: str
    item: Item


@dataclass
class Comparison:
    """What differed from the reference engine, the simulator.

    clips: recordings. items: they, streams made of them, hostile clips and random features. skipped: engines that could
    not run, and why. emulation: what the firmware's run says of a board. digests: SHA-256 of all results, by engine.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON takes it."""
        return dict(vars(self))


def find_clips(folder: Path, limit: int | None) -> list[Path]:
    """Return sound files of a data folder: those of its testing_list.txt, or else all below it.

    At most limit of them, evenly spread.
    The same folder gives the same files in the same order. Raises InputError where there are none.
    """
    try:
        if not folder.is_dir():
            raise InputError(f"the data folder does not exist: {folder}", "give a folder of recordings with --data")
        listed = folder / "testing_list.txt"
        if listed.is_file():
            names = [line.strip() for line in listed.read_text().splitlines() if line.strip()]
            paths = [path for name in names if (path := _existing(folder / name)) is not None]
        else:
            paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    except (OSError, UnicodeDecodeError) as error:
        hint = "check it, and its testing_list.txt"
        raise InputError(f"can't read the data folder ({folder}): {error}", hint) from None
    if not paths:
        raise InputError(f"the data folder holds no recordings: {folder}", f"need {', '.join(SOUND_SUFFIXES)} files")
    if limit is not None and limit < len(paths):
        paths = [paths[i * len(paths) // limit] for i in range(limit)]
    return paths


def _existing(path: Path) -> Path | None:
    """Return the file that a list names; lists say .wav also where the files are FLAC."""
    return next((p for p in (path, *(path.with_suffix(s) for s in SOUND_SUFFIXES)) if p.is_file()), None)


def hostile_clips(recognizer: Recognizer) -> list[NamedItem]:
    """Return the clips that no recording is like, of the model's length or not; some are fed in odd blocks."""
    config = recognizer.config
    n, rate = config.clip_samples, config.sample_rate_hz
    time = np.arange(n)
    random = np.random.default_rng(RANDOM_SEED)
    impulse = np.zeros(n, np.int16)
    impulse[n // 2] = 32767
    edge = np.zeros(n, np.int16)
    edge[[0, -1]] = -32768
    clips = {
        "silence": np.zeros(n),
        "full-scale square wave": np.where(time * 1000 // rate % 2 == 0, 32767, -32768),
        "square wave at half the sample rate": np.where(time % 2 == 0, 32767, -32768),
        "all -32768": np.full(n, -32768),
        "all 32767": np.full(n, 32767),
        "white noise": random.integers(-32768, 32768, n),
        "faint noise": random.integers(-1, 2, n),
        "impulse": impulse,
        "impulses at both ends": edge,
        "sine": np.rint(32767 * np.sin(2 * np.pi * 440 * time / rate)),
        "no samples": np.zeros(0),
        "1 sample": np.full(1, 32767),
        "8 samples": np.full(8, -32768),
        "one sample short": random.integers(-3000, 3000, n - 1),
    }
    long = fit_clip(random.integers(-9000, 9000, n * 3 // 2).astype(np.int16), n)
    clips["1.5 clips, the loudest window"] = long
    blocks = (512, 160, 1, 7, 511)
    return [
        NamedItem(f"hostile: {name}", Item(ITEM_CLIP, values.astype(np.int16), blocks[i % len(blocks)]))
        for i, (name, values) in enumerate(clips.items())
    ]


def random_features(recognizer: Recognizer, count: int) -> list[NamedItem]:
    """Return network inputs that no front end gives: uniform noise, and both ends of int8."""
    config = recognizer.config
    shape = (config.num_frames, config.num_coefficients)
    random = np.random.default_rng(RANDOM_SEED)
    values = [random.integers(-128, 128, shape).astype(np.int8) for _ in range(count)]
    values += [np.full(shape, -128, np.int8), np.full(shape, 127, np.int8)]
    return [NamedItem(f"random features {i}", Item(ITEM_FEATURES, value.ravel())) for i, value in enumerate(values)]


def build_engines(build: Build, link: Link | None = None) -> tuple[list[Engine], dict[str, str]]:
    """Return the engines that this machine can run on a build, the simulator first, and why others are left out.

    With a link: the simulator and the device at its other end.
    """
    recognizer = build.recognizer
    simulator = SimEngine(recognizer, build.stride_frames)
    if link is not None:
        digest = build_digest(recognizer, build.target, build.prefix, build.stride_frames)
        return [simulator, DeviceEngine(recognizer, link, digest)], {}

    def firmware() -> Engine:
        if build.target.toolchain == "host":
            return ProgramEngine(recognizer, build.elf)
        return FirmwareEngine(recognizer, build.elf, build.target)

    def tflm() -> Engine:
        engine = TflmEngine(recognizer, build.stride_frames)
        engine.run([random_features(recognizer, 1)[0].item])  # imports the interpreter
        return engine

    makers = {"c": lambda: HostEngine(recognizer, build.sources), "firmware": firmware, "tflm": tflm}
    return open_engines(simulator, makers)


def open_engines(simulator: Engine, makers: Mapping[str, Callable[[], Engine]]) -> tuple[list[Engine], dict[str, str]]:
    """Return the simulator and those of the other engines that this machine can make, and why others are left out.

    makers: by name; "firmware" may be missing in a build, which is no error. Raises ToolMissing where none is left.
    """
    engines = [simulator]
    skipped: dict[str, str] = {}
    for name, make in makers.items():
        try:
            engines.append(make())
        except ToolMissing as error:
            skipped[name] = error.what
        except InputError as error:
            if name != "firmware":
                raise
            skipped[name] = error.what
    if len(engines) == 1:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ToolMissing(f"nothing to compare the simulator with: {why}", "mbx-deploy doctor names what to install")
    return engines, skipped


def verify_build(
    build: Build, clips: Sequence[Path], progress: Progress = lambda done, of: None, link: Link | None = None
) -> Comparison:
    """Return how the engines compare over clips, streams made of them, the hostile set and random features.

    A recording is brought to the model's rate and length first. Every byte of the features, of each layer and of the
    results counts; a difference is traced to its first stage. link: of a device that runs the build; it is compared
    with the simulator then, its layers by CRC-32. Raises InputError for a device that runs something else, or is lost.
    """
    engines, skipped = build_engines(build, link)
    recordings = [NamedItem(str(path), Item(ITEM_CLIP, _read_clip(path, build.recognizer))) for path in clips]
    streams = list(_streams([named.item.values for named in recordings], build.recognizer))
    items = [*hostile_clips(build.recognizer), *random_features(build.recognizer, 6), *streams, *recordings]
    comparison = Comparison(len(recordings), len(items), len(streams), [engine.name for engine in engines], skipped)
    comparison.emulation = emulation_note(build.target) if build.target.emulated_as and link is None else None
    try:
        compare_engines(engines, items, comparison, progress)
    finally:
        if link is not None:
            with suppress(InputError):  # it may be gone, and why is told already
                link.leave()
    return comparison


def _read_clip(path: Path, recognizer: Recognizer) -> np.ndarray:
    config = recognizer.config
    return fit_clip(read_recording(path, config.sample_rate_hz).samples, config.clip_samples)


def _streams(clips: Sequence[np.ndarray], recognizer: Recognizer) -> Iterator[NamedItem]:
    """Yield continuous audio: recordings one after another, and noise of a length that is no multiple of anything."""
    for number, block in enumerate((160, 37)):
        chosen = clips[number * STREAM_CLIPS : (number + 1) * STREAM_CLIPS]
        if chosen:
            yield NamedItem(f"stream of {len(chosen)} recordings", Item(ITEM_STREAM, np.concatenate(chosen), block))
    random = np.random.default_rng(RANDOM_SEED)
    noise = random.normal(0, 2000, recognizer.config.clip_samples * 2 + 333).astype(np.int16)
    yield NamedItem("stream of noise", Item(ITEM_STREAM, noise, 512))


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
    """Yield (stage, expected, got) in the order of the road; of the front end's stages those that both engines told."""
    for stage, left in want.stages.items():
        if stage in have.checksums:
            yield stage, _checksum(zlib.crc32(left.tobytes())), _checksum(have.checksums[stage])
        elif stage in have.stages or stage not in FRONTEND_STAGES:
            yield stage, left, have.stages.get(stage, np.zeros(0, left.dtype))  # untold is different
    yield "logits", want.logits, have.logits
    yield "posteriors", want.posteriors_q15.astype(np.uint16), have.posteriors_q15.astype(np.uint16)


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
        what = f"{others} inputs"
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
