"""The sound of utterances: int16 at the model's rate, read by a few threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from mbx_deploy.data.audio import Recording, read_recording
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.sound_file import TooLong
from mbx_deploy.data.stretches import LongSound, no_sound
from mbx_deploy.errors import InputError

SAMPLE_RATE_HZ = 16000
_READERS = 4  # the decoder releases the GIL

Result = TypeVar("Result")


def cut_utterance(recording: Recording, utterance: Utterance, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Return an utterance's part of its file, int16 (n,), n >= 1; a view.

    A duration that goes beyond the file's end is cut there: manifests round. Raises InputError, naming the manifest's
    line and the file, for an offset at or beyond its end, or a stretch shorter than a sample.
    """
    start = round(utterance.offset_s * sample_rate_hz)
    end = recording.samples.size
    if utterance.duration_s is not None:
        end = min(end, start + round(utterance.duration_s * sample_rate_hz))
    if start >= end:
        raise no_sound(utterance, recording.samples.size / sample_rate_hz)
    return recording.samples[start:end]


def read_utterance(utterance: Utterance, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Return the sound of one utterance, int16 (n,). Raises InputError for a file that cannot be read, or holds NaN."""
    return map_utterances([utterance], lambda number, recording, samples: samples, sample_rate_hz=sample_rate_hz)[0]


def map_utterances(
    utterances: Sequence[Utterance],
    work: Callable[[int, Recording, np.ndarray], Result],
    broken: Callable[[int, InputError], Result] | None = None,
    progress: Callable[[int, int], None] | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> list[Result]:
    """Return work(number, recording, samples) of every utterance, in their order; each file is read once, and of one
    that is too long for that the stretches that are named.

    work runs in several threads at a time, on different utterances. broken gives the result of an utterance that cannot
    be read; without it the first one's InputError is raised. progress(done, of) is called in this thread.
    """
    numbers: dict[Path, list[int]] = {}
    for number, utterance in enumerate(utterances):
        numbers.setdefault(utterance.path, []).append(number)

    def one(number: int, recording: Recording) -> Result:
        try:
            return work(number, recording, cut_utterance(recording, utterances[number], sample_rate_hz))
        except InputError as error:
            if broken is None:
                raise
            return broken(number, error)

    def stretch(number: int, sound: LongSound, whole: TooLong) -> Result:
        utterance = utterances[number]
        try:
            if utterance.duration_s is None and not utterance.offset_s:
                raise whole
            recording = sound.read(utterance)
            return work(number, recording, recording.samples)
        except InputError as error:
            if broken is None:
                raise
            return broken(number, error)

    def file(own: list[int]) -> list[Result]:
        path = utterances[own[0]].path
        try:
            recording = read_recording(path, sample_rate_hz)
        except TooLong as error:
            with LongSound(path, sample_rate_hz) as sound:
                return [stretch(number, sound, error) for number in own]
        return [one(number, recording) for number in own]

    def guarded(own: list[int]) -> list[Result]:
        try:
            return file(own)
        except InputError as error:
            if broken is None:
                raise
            return [broken(number, error) for number in own]

    results: dict[int, Result] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for own, found in zip(numbers.values(), pool.map(guarded, numbers.values()), strict=True):
            results.update(zip(own, found, strict=True))
            if progress:
                progress(len(results), len(utterances))
    return [results[number] for number in range(len(utterances))]
