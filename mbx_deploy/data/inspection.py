"""What a data set holds, and what is wrong with it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.data.audio import Recording, read_recording
from mbx_deploy.data.corpus import SPLITS, Corpus, Utterance, passed_over
from mbx_deploy.data.reader import read_corpus
from mbx_deploy.data.recordings import SAMPLE_RATE_HZ, map_utterances
from mbx_deploy.errors import InputError

# So many samples in a row at full scale are a wave that was cut off, and no chance peak.
CLIPPED_RUN = 3
CLIP_SECONDS = 1.0
_FULL_SCALE = 32768.0
_PERCENTILES = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}


@dataclass(frozen=True)
class Measurement:
    """The sound of one utterance, at 16 kHz.

    rms_dbfs, peak_dbfs: decibels of full scale, so that a full-scale square wave has 0 of both; None for digital
    silence. clipped: CLIPPED_RUN or more samples in a row stand at full scale, or a conversion saturated.
    digest: of the samples. notes: the conversions that were needed. overlong: its line asks for more than the file has.
    error: why it cannot be read, and then nothing else holds.
    """

    seconds: float = 0.0
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    clipped: bool = False
    digest: bytes = b""
    notes: tuple[str, ...] = ()
    overlong: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A data set's numbers and faults. Names are those of utterances.

    labels: {label: {split: utterances}}, also labels without any. splits: {split: {"clips", "seconds", "speakers",
    "without_speaker"}}. length_s, rms_dbfs, peak_dbfs: {"min", "p5", "median", "p95", "max"}, empty without sound.
    repeated: utterances that name the same stretch of the same file again in the same split. duplicates: groups of
    different stretches with the same sound, digital silence not counted. conflicts: the same sound under two labels.
    speaker_leaks: {speaker: splits}, empty where recordings were divided for want of speakers.
    audio_leaks: groups "<split>: <name>" of the same sound in two splits.
    broken: {name: why it cannot be read}, background noise among them. passed_over: what is not used, or not as it
    looks, a line each, see corpus.passed_over().
    """

    source: str
    kind: str
    labels: dict[str, dict[str, int]]
    splits: dict[str, dict[str, Any]]
    length_s: dict[str, float]
    rms_dbfs: dict[str, float]
    peak_dbfs: dict[str, float]
    shorter_than_a_second: int
    longer_than_a_second: int
    silent: list[str]
    clipped: list[str]
    overlong: list[str]
    conversions: dict[str, int]
    repeated: int
    duplicates: list[list[str]]
    conflicts: list[list[str]]
    speaker_leaks: dict[str, list[str]]
    audio_leaks: list[list[str]]
    broken: dict[str, str]
    empty_labels: list[str]
    labels_only_in_testing: list[str]
    ignored: list[str]
    passed_over: list[str]
    noise: dict[str, Any]

    @property
    def sound(self) -> bool:
        """Whether the data can be trained and measured on: nothing is broken, and nothing leaks between splits."""
        return not (self.broken or self.speaker_leaks or self.audio_leaks)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {**vars(self), "sound": self.sound}


def inspect(path: Path, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Return what the data set at a path holds; every file is read. progress(done, of) counts utterances.

    Raises InputError for what is no data set, and for a list or manifest that is broken or names files which are not
    there. Files that are there and cannot be read are part of the answer.
    """
    corpus = read_corpus(Path(path))

    def measure(number: int, recording: Recording, samples: np.ndarray) -> Measurement:
        return _measure(corpus.utterances[number], recording, samples)

    def broken(number: int, error: InputError) -> Measurement:
        return Measurement(error=str(error))

    return summarize(corpus, map_utterances(corpus.utterances, measure, broken, progress))


def summarize(corpus: Corpus, measurements: Sequence[Measurement]) -> Inspection:
    """Return the inspection of a corpus whose utterances were measured, in their order."""
    pairs = list(zip(corpus.utterances, measurements, strict=True))
    good = [(utterance, measured) for utterance, measured in pairs if measured.error is None]
    counts = {split: corpus.counts(split) for split in SPLITS}
    duplicates, conflicts, audio_leaks = _same_sound(good)
    noise, broken_noise = _inspect_noise(corpus)
    seconds = [measured.seconds for _, measured in good]
    return Inspection(
        source=str(corpus.source),
        kind=corpus.kind,
        labels={label: {split: counts[split][label] for split in SPLITS} for label in corpus.labels},
        splits={split: _inspect_split([p for p in pairs if p[0].split == split]) for split in SPLITS},
        length_s=_percentiles(seconds, 3),
        rms_dbfs=_percentiles([m.rms_dbfs for _, m in good if m.rms_dbfs is not None], 1),
        peak_dbfs=_percentiles([m.peak_dbfs for _, m in good if m.peak_dbfs is not None], 1),
        shorter_than_a_second=sum(value < CLIP_SECONDS for value in seconds),
        longer_than_a_second=sum(value > CLIP_SECONDS for value in seconds),
        silent=[utterance.name for utterance, measured in good if measured.peak_dbfs is None],
        clipped=[utterance.name for utterance, measured in good if measured.clipped],
        overlong=[utterance.name for utterance, measured in good if measured.overlong],
        conversions=dict(Counter(note for _, measured in good for note in measured.notes)),
        repeated=len(pairs) - len({(u.path, u.offset_s, u.duration_s, u.split) for u in corpus.utterances}),
        duplicates=duplicates,
        conflicts=conflicts,
        speaker_leaks={} if corpus.kind == "recordings" else _speaker_leaks(corpus.utterances),
        audio_leaks=audio_leaks,
        broken={u.name: m.error for u, m in pairs if m.error is not None} | broken_noise,
        empty_labels=[label for label in corpus.labels if not any(counts[split][label] for split in SPLITS)],
        labels_only_in_testing=[
            label
            for label in corpus.labels
            if counts["testing"][label] and not counts["training"][label] and not counts["validation"][label]
        ],
        ignored=list(corpus.ignored),
        passed_over=passed_over(corpus),
        noise=noise,
    )


def _measure(utterance: Utterance, recording: Recording, samples: np.ndarray) -> Measurement:
    peak = int(np.abs(samples.astype(np.int32)).max())
    squares = int(np.square(samples, dtype=np.int64).sum())  # at most 2^30 each: 2^33 samples would be needed
    asked = utterance.duration_s is not None and round(utterance.duration_s * SAMPLE_RATE_HZ) > samples.size
    return Measurement(
        seconds=samples.size / SAMPLE_RATE_HZ,
        rms_dbfs=10 * float(np.log10(squares / samples.size / _FULL_SCALE**2)) if peak else None,
        peak_dbfs=20 * float(np.log10(peak / _FULL_SCALE)) if peak else None,
        clipped=is_clipped(samples) or any(note.startswith("saturated") for note in recording.notes),
        digest=hashlib.blake2b(samples.tobytes(), digest_size=16).digest(),
        notes=tuple(note for note in recording.notes if not note.startswith("saturated")),
        overlong=asked,
    )


def is_clipped(samples: np.ndarray) -> bool:
    """Return whether CLIPPED_RUN samples in a row stand at one end of the scale. samples: int16 (n,)."""
    for railed in (samples >= 32767, samples <= -32767):
        if np.count_nonzero(railed) >= CLIPPED_RUN:
            ends = np.flatnonzero(np.diff(railed, prepend=False, append=False))
            if (ends[1::2] - ends[::2]).max() >= CLIPPED_RUN:
                return True
    return False


def _percentiles(values: Sequence[float], digits: int) -> dict[str, float]:
    if not values:
        return {}
    found = np.percentile(values, list(_PERCENTILES.values()))
    return {name: round(float(value), digits) + 0.0 for name, value in zip(_PERCENTILES, found, strict=True)}


def _inspect_split(pairs: Sequence[tuple[Utterance, Measurement]]) -> dict[str, Any]:
    speakers = {utterance.speaker for utterance, _ in pairs} - {None}
    return {
        "clips": len(pairs),
        "seconds": round(sum(measured.seconds for _, measured in pairs), 1),
        "speakers": len(speakers),
        "without_speaker": sum(utterance.speaker is None for utterance, _ in pairs),
    }


def _same_sound(
    pairs: Iterable[tuple[Utterance, Measurement]],
) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Return groups of the same sound: of different stretches, under two labels, and in two splits."""
    groups: dict[bytes, list[Utterance]] = {}
    for utterance, measured in pairs:
        if measured.peak_dbfs is not None:
            groups.setdefault(measured.digest, []).append(utterance)
    duplicates, conflicts, leaks = [], [], []
    for group in groups.values():
        if len(group) > 1:
            names = sorted({utterance.name for utterance in group})
            if len({(u.path, u.offset_s, u.duration_s) for u in group}) > 1:
                duplicates.append(names)
            if len({utterance.label for utterance in group}) > 1:
                conflicts.append(sorted({f"{utterance.label}: {utterance.name}" for utterance in group}))
            if len({utterance.split for utterance in group}) > 1:
                leaks.append(sorted({f"{utterance.split}: {utterance.name}" for utterance in group}))
    return sorted(duplicates), sorted(conflicts), sorted(leaks)


def _speaker_leaks(utterances: Iterable[Utterance]) -> dict[str, list[str]]:
    heard: dict[str, set[str]] = {}
    for utterance in utterances:
        if utterance.speaker is not None:
            heard.setdefault(utterance.speaker, set()).add(utterance.split)
    return {
        speaker: [split for split in SPLITS if split in splits]
        for speaker, splits in sorted(heard.items())
        if len(splits) > 1
    }


def _inspect_noise(corpus: Corpus) -> tuple[dict[str, Any], dict[str, str]]:
    seconds, broken = 0.0, {}
    for path in corpus.noise:
        try:
            seconds += read_recording(path, SAMPLE_RATE_HZ).samples.size / SAMPLE_RATE_HZ
        except InputError as error:
            broken[f"{path.parent.name}/{path.name}"] = str(error)
    return {"files": len(corpus.noise), "seconds": round(seconds, 1)}, broken
