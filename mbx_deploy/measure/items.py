"""What the engines are run on: recordings, streams made of them, hostile clips, random network inputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.data.audio import Recording, fit_clip
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.dataset import spread
from mbx_deploy.data.reader import read_sounds
from mbx_deploy.data.recordings import map_utterances
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, Item

RANDOM_SEED = 20260101
STREAM_CLIPS = 4
RANDOM_INPUTS = 20
RANDOM_SEQUENCES, SEQUENCE_RUNS = 8, 20  # of a network that keeps state


@dataclass(frozen=True)
class NamedItem:
    """An item, and where it comes from."""

    name: str
    item: Item


def find_clips(data: Path, limit: int | None) -> list[Utterance]:
    """Return recordings of a data set, see reader.read_sounds(): those for testing where something says which they are.

    At most limit of them, evenly spread. The same data give the same ones in the same order. Raises InputError.
    """
    found = read_sounds(data, "testing")
    return [found[int(number)] for number in spread(len(found) if limit is None else limit, len(found))]


def hostile_clips(model: CompiledModel) -> list[NamedItem]:
    """Return the clips that no recording is like, of the model's length or not; some are fed in odd blocks."""
    config = model.config
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


def random_features(model: CompiledModel, count: int) -> list[NamedItem]:
    """Return network inputs that no front end gives: uniform noise, and both ends of int8."""
    config = model.config
    shape = (config.num_frames, config.num_coefficients)
    if model.streaming is not None and not model.streaming.in_windows:
        step = model.streaming.step_frames  # steps enough that a window of nothing else is seen
        shape = ((config.num_frames // step + 2) * step, config.num_coefficients)
    random = np.random.default_rng(RANDOM_SEED)
    values = [random.integers(-128, 128, shape).astype(np.int8) for _ in range(count)]
    values += [np.full(shape, -128, np.int8), np.full(shape, 127, np.int8)]
    return [NamedItem(f"random features {i}", Item(ITEM_FEATURES, value.ravel())) for i, value in enumerate(values)]


def read_clips(clips: Sequence[Utterance], model: CompiledModel) -> list[NamedItem]:
    """Return recordings at the model's rate and of its length, named by path and offset. Raises InputError.

    No recordings are none also of a network alone, which hears nothing.
    """
    if not clips:
        return []

    def item(number: int, recording: Recording, samples: np.ndarray) -> NamedItem:
        at = f"@{clips[number].offset_s:g}" if clips[number].offset_s else ""
        return NamedItem(f"{clips[number].path}{at}", Item(ITEM_CLIP, fit_clip(samples, model.recording_samples)))

    return map_utterances(clips, item, sample_rate_hz=model.config.sample_rate_hz)


def streams(clips: Sequence[np.ndarray], model: CompiledModel) -> Iterator[NamedItem]:
    """Yield continuous audio: recordings one after another, and noise of a length that is no multiple of anything."""
    for number, block in enumerate((160, 37)):
        chosen = clips[number * STREAM_CLIPS : (number + 1) * STREAM_CLIPS]
        if chosen:
            yield NamedItem(f"stream of {len(chosen)} recordings", Item(ITEM_STREAM, np.concatenate(chosen), block))
    random = np.random.default_rng(RANDOM_SEED)
    noise = random.normal(0, 2000, model.config.clip_samples * 2 + 333).astype(np.int16)
    yield NamedItem("stream of noise", Item(ITEM_STREAM, noise, 512))


def network_items(model: CompiledModel, inputs: np.ndarray | None) -> list[NamedItem]:
    """Return uniform noise, constants, a ramp and the user's inputs; the same for the same network."""
    shape: tuple[int, ...] = model.program.buffers[model.program.input].shape
    if model.streaming is not None and not model.streaming.in_windows:
        step, time = model.streaming.step_frames, model.streaming.time
        row = time.row_bytes(model.program.buffers[model.program.input])
        shape = ((time.window_frames // step + 2) * step, row)  # enough that a window of nothing else is seen
    random = np.random.default_rng(RANDOM_SEED)
    if model.keeps_state:
        return _sequences(shape, model.input.zero_point, inputs, random)
    values = {f"random input {i}": random.integers(-128, 128, shape) for i in range(RANDOM_INPUTS)}
    values |= {f"all {value}": np.full(shape, value) for value in (-128, model.input.zero_point, 127)}
    values["a ramp"] = (np.arange(int(np.prod(shape))) % 256 - 128).reshape(shape)
    values |= {f"input {i}": row for i, row in enumerate(inputs if inputs is not None else ())}
    return [NamedItem(name, Item(ITEM_FEATURES, row.astype(np.int8).ravel())) for name, row in values.items()]


def _sequences(
    shape: tuple[int, ...], zero_point: int, inputs: np.ndarray | None, random: np.random.Generator
) -> list[NamedItem]:
    """Return sequences of inputs, each for a network as new: noise, constants, a ramp, what changes as sound does,
    bursts, and the user's inputs as one.
    """
    shape = (SEQUENCE_RUNS, *shape)
    values = {f"random sequence {i}": random.integers(-128, 128, shape) for i in range(RANDOM_SEQUENCES)}
    values |= {f"{SEQUENCE_RUNS} times all {value}": np.full(shape, value) for value in (-128, zero_point, 127)}
    values["a ramp"] = (np.arange(int(np.prod(shape))) % 256 - 128).reshape(shape)
    values["a walk"] = np.clip(np.cumsum(random.normal(0, 25, shape), axis=0), -128, 127)
    values["bursts"] = np.where(np.arange(SEQUENCE_RUNS).reshape(-1, 1, 1, 1) % 7 == 3, values["a walk"], -128)
    values |= {} if inputs is None else {f"the {len(inputs)} inputs, one after another": inputs}
    return [NamedItem(name, Item(ITEM_FEATURES, row.astype(np.int8).ravel())) for name, row in values.items()]


def random_input(model: CompiledModel) -> Item:
    """Return noise as a run takes it: int8, a window's features of a recogniser or a stream's step, else its input."""
    size = model.c_program.buffers[model.c_program.input].size_bytes
    values = np.random.default_rng(1).integers(-128, 128, size)
    return Item(ITEM_FEATURES, values.astype(np.int8))


def synthetic_items(model: CompiledModel) -> list[Item]:
    """Return the items that need no recordings: clips that are hard on arithmetic, and random network inputs."""
    return [named.item for named in (*hostile_clips(model), *random_features(model, 4))]
