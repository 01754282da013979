"""A data set in memory: its splits as arrays, with the background noise and the silence that is cut from it.

Whatever mbx_deploy/data reads is taken: a Speech Commands folder, a folder of word folders, or a NeMo manifest. Every
utterance becomes int16 (clip_samples,). A word that is no label is "unknown"; "silence" is cut from the background
noise, whose time line is divided so that no two splits share a sample.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mbx_deploy.data.audio import Recording, fit_clip, read_recording
from mbx_deploy.data.corpus import SPLITS, Corpus, Utterance, check_disjoint, find_noise, speaker_of
from mbx_deploy.data.protocols import (
    SILENCE,
    UNKNOWN,
    Protocol,
    choose_unknown,
    class_of,
    command_words,
    find_protocol,
)
from mbx_deploy.data.reader import read_corpus
from mbx_deploy.data.recordings import SAMPLE_RATE_HZ, map_utterances
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import show
from mbx_deploy.system.terminal import redraw

__all__ = [
    "CLIP_SAMPLES",
    "LABELS",
    "NOISE_PARTS",
    "SAMPLE_RATE_HZ",
    "SILENCE",
    "SPLITS",
    "UNKNOWN",
    "Split",
    "check_labels",
    "command_words",
    "list_split",
    "list_utterances",
    "load_known",
    "load_noise",
    "load_protocol",
    "load_speech_commands",
    "load_split",
    "noise_clip",
    "silence_clips",
    "spread",
]

LABELS = find_protocol("kws10").labels
CLIP_SAMPLES = 16000
ALL = "all"  # for load_known(): every split

# Which part of every noise recording belongs to which split, as fractions of its length.
NOISE_PARTS = {"training": (0.0, 0.7), "validation": (0.7, 0.85), "testing": (0.85, 1.0)}
# Seeds of the fixed silence clips of the splits that are measured, not trained on.
_SILENCE_SEEDS = {"training": 1, "validation": 2, "testing": 3}


@dataclass(frozen=True, eq=False)
class Split:
    """One split in memory.

    samples: int16 (N, clip_samples). classes: int64 (N,), indices into labels. names: the utterances' names, which are
    paths relative to the data set's folder, or "silence/<number>". noise: this split's part of the background noise,
    int16 (n,) each. speakers: who speaks each clip, None where nothing says so; empty where nobody asked. spoken: the
    word of each clip as the data set has it, also of those that are "unknown"; empty where nobody asked.
    """

    labels: tuple[str, ...]
    samples: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    noise: tuple[np.ndarray, ...] = field(repr=False)
    speakers: tuple[str | None, ...] = field(default=(), repr=False)
    spoken: tuple[str, ...] = field(default=(), repr=False)

    @property
    def voices(self) -> list[str]:
        """Return who speaks each clip; a clip of which nothing says so is a voice of its own."""
        known = self.speakers or tuple(speaker_of(name) for name in self.names)
        return [speaker or name for speaker, name in zip(known, self.names, strict=True)]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, which: np.ndarray) -> "Split":
        """Return a part of the split: which is a mask or indices."""
        names = tuple(np.array(self.names, dtype=object)[which])
        speakers = tuple(np.array(self.speakers, dtype=object)[which]) if self.speakers else ()
        spoken = tuple(np.array(self.spoken, dtype=object)[which]) if self.spoken else ()
        samples, classes = self.samples[which], self.classes[which]
        return replace(self, samples=samples, classes=classes, names=names, speakers=speakers, spoken=spoken)

    def indices_of(self, label: str) -> np.ndarray:
        """Return the clips of one label, int64 (n,), ascending; empty for a label that the split
        does not know.
        """
        if label not in self.labels:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.classes == self.labels.index(label))


def check_labels(labels: object) -> None:
    """Raise InputError unless labels is a list of two or more distinct words."""
    if not isinstance(labels, list | tuple) or len(labels) < 2:
        raise InputError(f"bad labels: got {show(labels)}, need a list of two or more")
    if not all(isinstance(label, str) and label for label in labels) or len(set(labels)) != len(labels):
        raise InputError(f"bad labels: got {show(labels)}, need distinct words")


def list_utterances(root: Path, split: str) -> tuple[Utterance, ...]:
    """Return one split of the data set at a path, in its order; background noise is not among it.

    Raises InputError for a data set that read_corpus() refuses, a clip in two splits, and an empty split.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split: got {split!r}, need one of {', '.join(SPLITS)}")
    return _checked_split(read_corpus(Path(root)), split)


def list_split(root: Path, split: str) -> list[str]:
    """Return the names of one split's utterances: "<word>/<file>" in a folder; see list_utterances()."""
    return [utterance.name for utterance in list_utterances(root, split)]


def load_split(
    root: Path,
    split: str,
    labels: Sequence[str] = LABELS,
    clip_samples: int = CLIP_SAMPLES,
    progress: bool = True,
) -> Split:
    """Return a split's clips, in the order of list_split(), followed by its silence.

    A word that is no label is "unknown", or left out where there is no such label. Where "silence" is a label and the
    split has no recordings of that name, validation and testing get as many fixed silence clips as a word has on
    average; training draws its own every epoch (silence_clips()), so it gets none here. progress: a line on stderr now
    and then. Raises InputError for data that is missing or unreadable, for a label without a recording, and for
    training for a label that only the other splits have.
    """
    return _load(root, (split,), labels, clip_samples, progress, None)[split]


def load_protocol(
    root: Path, split: str, protocol: Protocol, clip_samples: int = CLIP_SAMPLES, progress: bool = True
) -> Split:
    """Return a split's clips as a protocol has them: load_split() with its labels, and of the other words in validation
    and testing as many as it says.
    """
    ratio = None if split == "training" else protocol.measured_unknown_ratio
    return _load(root, (split,), protocol.labels, clip_samples, progress, ratio)[split]


def load_speech_commands(
    root: Path,
    labels: Sequence[str] = LABELS,
    splits: Sequence[str] = SPLITS,
    clip_samples: int = CLIP_SAMPLES,
    progress: bool = True,
) -> dict[str, Split]:
    """Return {split: its clips}; see load_split()."""
    return _load(root, splits, labels, clip_samples, progress, None)


def load_known(
    root: Path,
    split: str,
    labels: Sequence[str],
    clip_samples: int = CLIP_SAMPLES,
    progress: bool = True,
    limit: int | None = None,
) -> Split:
    """Return what a finished model can be measured on: a split's clips, or with "all" every clip, and silence.

    As load_split(), but a word of the labels may be without recordings; its class is empty then. With "all", noise and
    silence are cut from all of the background noise. limit: clips at most, as spread() picks them; others are not read.
    Raises InputError for data that is missing or unreadable, or that has recordings of none of the words.
    """
    root, parts = Path(root), SPLITS if split == ALL else (split,)
    if not set(parts) <= set(SPLITS):
        raise InputError(f"unknown split: got {split!r}, need one of {', '.join((*SPLITS, ALL))}")
    corpus = read_corpus(root)
    words = command_words(labels)
    if not set(words) & {utterance.label for utterance in corpus.utterances}:
        raise InputError(
            f"the data has none of the model's words ({root}): got {_some(corpus.labels)}, need {_some(words)}",
            "give the folder whose folders are named after the words, or a model of these words",
        )
    check_disjoint(corpus)
    chosen = [u for part in parts for u in corpus.split(part) if class_of(u.label, labels) is not None]
    if not any(utterance.label in words for utterance in chosen):
        raise InputError(
            f"no clips of the model's words for {split} ({root}): got none, need at least one",
            "--split all takes every clip",
        )
    noise = tuple(recording for part in parts for recording in load_noise(root, part))
    seed = _SILENCE_SEEDS["testing" if split == ALL else split]
    return _load_clips(chosen, labels, clip_samples, f"loading {split}" if progress else None, noise, seed, limit)


def spread(count: int, of: int) -> np.ndarray:
    """Return the numbers of at most count of so many clips, evenly spread, so that classes keep their shares."""
    return np.arange(of) if count >= of else np.arange(count) * of // count


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else "no words"


def load_noise(root: Path, split: str) -> tuple[np.ndarray, ...]:
    """Return the split's part of every background noise recording, int16 (n,) each, ordered by file name.

    The recordings lie in _background_noise_, in the folder or beside the manifest. Empty where the data set has no
    noise. Raises InputError for an unreadable recording.
    """
    root = Path(root)
    first, last = NOISE_PARTS[split]
    parts = []
    for path in find_noise(root if root.is_dir() else root.parent):
        samples = read_recording(path, SAMPLE_RATE_HZ).samples
        parts.append(samples[int(first * len(samples)) : int(last * len(samples))].copy())
    return tuple(part for part in parts if len(part))


def noise_clip(noise: Sequence[np.ndarray], rng: np.random.Generator, clip_samples: int = CLIP_SAMPLES) -> np.ndarray:
    """Return a clip cut at random from a recording drawn at random, int16 (clip_samples,); a short
    one is repeated.
    """
    recording = noise[int(rng.integers(len(noise)))]
    if len(recording) < clip_samples:
        recording = np.resize(recording, clip_samples)
    start = int(rng.integers(len(recording) - clip_samples + 1))
    return recording[start : start + clip_samples]


def silence_clips(
    noise: Sequence[np.ndarray],
    count: int,
    rng: np.random.Generator,
    clip_samples: int = CLIP_SAMPLES,
) -> np.ndarray:
    """Return what a microphone hears when nobody speaks, int16 (count, clip_samples).

    One clip in twenty is digital silence, one in ten white noise of -90 to -40 dB of full scale,
    the rest is background noise at a gain of -40 to +3 dB. Without background noise it is white
    noise instead.
    """
    clips = np.zeros((count, clip_samples), dtype=np.int16)
    for number in range(count):
        kind = rng.random()
        if kind < 0.05:
            continue
        if kind < 0.15 or not noise:
            level = 32768.0 * 10.0 ** (rng.uniform(-90.0, -40.0) / 20.0)
            wave = rng.standard_normal(clip_samples, dtype=np.float32) * np.float32(level)
        else:
            gain = 10.0 ** (rng.uniform(-40.0, 3.0) / 20.0)
            wave = noise_clip(noise, rng, clip_samples).astype(np.float32) * np.float32(gain)
        clips[number] = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    return clips


def _load(
    root: Path,
    splits: Sequence[str],
    labels: Sequence[str],
    clip_samples: int,
    progress: bool,
    unknown_ratio: float | None,
) -> dict[str, Split]:
    """Return {split: its clips}. unknown_ratio: see choose_unknown()."""
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"unknown split: got {split!r}, need one of {', '.join(SPLITS)}")
    root = Path(root)
    corpus = read_corpus(root)
    _check_words(corpus, command_words(labels), "training" in splits)
    chosen = {split: choose_unknown(_checked_split(corpus, split), labels, unknown_ratio) for split in splits}
    return {
        split: _load_clips(
            chosen[split],
            labels,
            clip_samples,
            f"loading {split}" if progress else None,
            load_noise(root, split),
            None if split == "training" else _SILENCE_SEEDS[split],
        )
        for split in splits
    }


def _load_clips(
    utterances: Sequence[Utterance],
    labels: Sequence[str],
    clip_samples: int,
    what: str | None,
    noise: tuple[np.ndarray, ...],
    silence_seed: int | None,
    limit: int | None = None,
) -> Split:
    """Return a split of utterances that have a class. silence_seed: of the silence clips; without it there are none.
    limit: clips at most, silence among them.
    """
    index = {label: number for number, label in enumerate(labels)}
    found = [class_of(utterance.label, labels) for utterance in utterances]
    silence = 0
    if SILENCE in labels and SILENCE not in found and silence_seed is not None:
        words = command_words(labels)
        silence = round(sum(utterance.label in words for utterance in utterances) / max(len(words), 1))
    total = len(utterances) + silence
    kept = spread(total if limit is None else limit, total)
    spoken = [int(number) for number in kept if number < len(utterances)]
    samples = _read_clips([utterances[number] for number in spoken], clip_samples, what)
    names = [utterances[number].name for number in spoken]
    voices = [utterances[number].speaker for number in spoken]
    said = [utterances[number].label for number in spoken]
    classes = [index[label] for label in (found[number] for number in spoken) if label is not None]
    if silence:
        quiet = silence_clips(noise, silence, np.random.default_rng(silence_seed), clip_samples)
        chosen = kept[len(spoken) :] - len(utterances)
        samples = np.concatenate([samples, quiet[chosen]])
        names += [f"{SILENCE}/{number:04d}" for number in chosen]
        voices += [None] * len(chosen)
        said += [SILENCE] * len(chosen)
        classes += [index[SILENCE]] * len(chosen)
    numbers = np.array(classes, dtype=np.int64)
    return Split(tuple(labels), samples, numbers, tuple(names), noise, tuple(voices), tuple(said))


def _checked_split(corpus: Corpus, split: str) -> tuple[Utterance, ...]:
    check_disjoint(corpus)
    utterances = corpus.split(split)
    if not utterances:
        hints = {
            "lists": f"name some clips in {split}_list.txt",
            **dict.fromkeys(
                ("hash", "speakers", "recordings"),
                "record more speakers, or divide the clips by lists or manifests of your own",
            ),
            "listed": f"put a list of {split} beside it, called alike: train_, validation_, test_list.txt",
            "manifests": f"put a manifest of {split} beside it, called alike: train_, validation_, test_manifest.json",
        }
        raise InputError(
            f"no clips for {split} ({corpus.source}): got an empty split, need at least one clip", hints[corpus.kind]
        )
    return utterances


def _check_words(corpus: Corpus, words: Sequence[str], training: bool) -> None:
    """Raise InputError for a word without a recording, or without one to train on where training is wanted."""
    where = corpus.source
    has = {split: corpus.counts(split) for split in SPLITS}
    for word in words:
        if word not in corpus.labels:
            need = "clips" if corpus.kind == "manifests" or where.is_file() else "a folder"
            raise InputError(f"a label without recordings ({where}): got {word!r}, need {need} of that name")
        others = [split for split in SPLITS if has[split][word]]
        if not others:
            raise InputError(f"an empty class ({where}): got no recordings of {word!r}, need some")
        if training and not has["training"][word]:
            raise InputError(
                f"no training clips of {word!r} ({where}): got some for {' and '.join(others)} only, need at least one",
                "leave it out of the labels, or record more speakers",
            )


def _read_clips(utterances: Sequence[Utterance], clip_samples: int, what: str | None) -> np.ndarray:
    """Return int16 (len(utterances), clip_samples), saying so on stderr if what is given."""
    clips = np.zeros((len(utterances), clip_samples), dtype=np.int16)

    def fill(number: int, recording: Recording, samples: np.ndarray) -> None:
        clips[number] = fit_clip(samples, clip_samples)

    def say(done: int, of: int) -> None:
        if what and done % 1000 == 0 and sys.stderr.isatty():
            redraw(f"{what}: {done}/{of} clips", sys.stderr)

    map_utterances(utterances, fill, progress=say)
    if what:
        line = f"{what}: {len(utterances)}/{len(utterances)} clips"
        if sys.stderr.isatty():
            redraw(line, sys.stderr, end="\n")
        else:
            print(line, file=sys.stderr)
    return clips
