"""The Speech Commands folder: a folder a word, two lists of clips, background noise.

Every clip becomes int16 (clip_samples,); a whole split is held in memory. A word that is no label
is "unknown"; "silence" is cut from the background noise, whose time line is divided so that no two
splits share a sample.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mbx_deploy.audio import fit_clip, read_recording
from mbx_deploy.errors import InputError

UNKNOWN = "unknown"
SILENCE = "silence"
LABELS = ("down", "go", "left", "no", "right", "stop", "up", "yes", UNKNOWN, SILENCE)
SPLITS = ("training", "validation", "testing")
NOISE_FOLDER = "_background_noise_"
SAMPLE_RATE_HZ = 16000
CLIP_SAMPLES = 16000

# Which part of every noise recording belongs to which split, as fractions of its length.
NOISE_PARTS = {"training": (0.0, 0.7), "validation": (0.7, 0.85), "testing": (0.85, 1.0)}
# Seeds of the fixed silence clips of the splits that are measured, not trained on.
_SILENCE_SEEDS = {"training": 1, "validation": 2, "testing": 3}

_SUFFIXES = (".flac", ".wav")
_READERS = 4


@dataclass(frozen=True, eq=False)
class Split:
    """One split in memory.

    samples: int16 (N, clip_samples). classes: int64 (N,), indices into labels. names: the clips'
    paths relative to the data set's folder, or "silence/<number>". noise: this split's part of the
    background noise, int16 (n,) each.
    """

    labels: tuple[str, ...]
    samples: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    noise: tuple[np.ndarray, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def indices_of(self, label: str) -> np.ndarray:
        """Return the clips of one label, int64 (n,), ascending; empty for a label that the split
        does not know.
        """
        if label not in self.labels:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.classes == self.labels.index(label))


def command_words(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that are words: all but "unknown" and "silence"."""
    return tuple(label for label in labels if label not in (UNKNOWN, SILENCE))


def check_labels(labels: object) -> None:
    """Raise InputError unless labels is a list of two or more distinct words."""
    if not isinstance(labels, list | tuple) or len(labels) < 2:
        raise InputError(f"bad labels: got {labels!r:.80}, need a list of two or more")
    if not all(isinstance(label, str) and label for label in labels) or len(set(labels)) != len(labels):
        raise InputError(f"bad labels: got {labels!r:.80}, need distinct words")


def list_split(root: Path, split: str) -> list[str]:
    """Return the split's clips as "<word>/<file>", sorted; background noise is not among them.

    A clip in neither list is for training. A list names clips by their path; the suffix may be .wav
    for a clip that is kept as .flac. Raises InputError for a folder or a list that is missing, or a
    listed clip that is.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split: got {split!r}, need one of {', '.join(SPLITS)}")
    clips = _find_clips(root)
    listed = {name: _read_list(root, name, clips) for name in SPLITS[1:]}
    both = listed["validation"] & listed["testing"]
    if both:
        raise InputError(f"a clip is in two splits ({root}): got {min(both)} in both lists, need it in one")
    if split == "training":
        chosen = set(clips.values()) - listed["validation"] - listed["testing"]
    else:
        chosen = listed[split]
    if not chosen:
        raise InputError(f"no clips for {split} ({root}): got an empty split, need at least one clip")
    return sorted(chosen)


def load_split(
    root: Path,
    split: str,
    labels: Sequence[str] = LABELS,
    clip_samples: int = CLIP_SAMPLES,
    progress: bool = True,
) -> Split:
    """Return a split's clips, in the order of list_split(), followed by its silence.

    A word that is no label is "unknown", or left out where there is no such label. Where "silence"
    is a label, validation and testing get as many fixed silence clips as a word has on average;
    training draws its own every epoch (silence_clips()), so it gets none here. progress: a line on
    stderr now and then. Raises InputError for data that is missing or unreadable, and for a label
    without a folder.
    """
    root = Path(root)
    names = list_split(root, split)
    words = command_words(labels)
    for word in words:
        if not (root / word).is_dir():
            raise InputError(f"a label without recordings ({root}): got {word!r}, need a folder of that name")
    if UNKNOWN not in labels:
        names = [name for name in names if name.split("/")[0] in words]
    index = {label: number for number, label in enumerate(labels)}
    classes = [index.get(name.split("/")[0], index.get(UNKNOWN, -1)) for name in names]
    samples = np.zeros((len(names), clip_samples), dtype=np.int16)
    _read_clips(root, names, samples, f"loading {split}" if progress else None)
    noise = load_noise(root, split)
    if SILENCE in labels and split != "training":
        count = round(sum(name.split("/")[0] in words for name in names) / max(len(words), 1))
        rng = np.random.default_rng(_SILENCE_SEEDS[split])
        samples = np.concatenate([samples, silence_clips(noise, count, rng, clip_samples)])
        names += [f"{SILENCE}/{number:04d}" for number in range(count)]
        classes += [index[SILENCE]] * count
    return Split(tuple(labels), samples, np.array(classes, dtype=np.int64), tuple(names), noise)


def load_speech_commands(
    root: Path,
    labels: Sequence[str] = LABELS,
    splits: Sequence[str] = SPLITS,
    clip_samples: int = CLIP_SAMPLES,
    progress: bool = True,
) -> dict[str, Split]:
    """Return {split: its clips}; see load_split()."""
    return {split: load_split(root, split, labels, clip_samples, progress) for split in splits}


def load_noise(root: Path, split: str) -> tuple[np.ndarray, ...]:
    """Return the split's part of every background noise recording, int16 (n,) each, ordered by file
    name.

    Empty where the data set has no noise. Raises InputError for an unreadable recording.
    """
    first, last = NOISE_PARTS[split]
    parts = []
    for path in sorted((Path(root) / NOISE_FOLDER).glob("*")):
        if path.suffix.lower() in _SUFFIXES:
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


def _find_clips(root: Path) -> dict[str, str]:
    """Return {"word/file without suffix": "word/file"} of every clip under root."""
    if not root.is_dir():
        raise InputError(
            f"no data set ({root}): got no folder, need the Speech Commands folder",
            "name the folder that holds testing_list.txt",
        )
    clips: dict[str, str] = {}
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith(("_", ".")):
            continue
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                clips[f"{folder.name}/{path.stem}"] = f"{folder.name}/{path.name}"
    return clips


def _read_list(root: Path, split: str, clips: dict[str, str]) -> set[str]:
    path = root / f"{split}_list.txt"
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read a list of clips ({path}): got {type(error).__name__}, need a text file",
            "name the folder that holds testing_list.txt",
        ) from error
    chosen = set()
    for line in lines:
        key = line.rsplit(".", 1)[0]
        if key not in clips:
            raise InputError(f"a listed clip is missing ({path}): got no file {line}, need it under {root}")
        chosen.add(clips[key])
    return chosen


def _read_clips(root: Path, names: list[str], out: np.ndarray, what: str | None) -> None:
    """Fill out, int16 (len(names), clip_samples); the decoder releases the GIL, so a few threads
    help.
    """

    def read(number: int) -> None:
        recording = read_recording(root / names[number], SAMPLE_RATE_HZ)
        out[number] = fit_clip(recording.samples, out.shape[1])

    with ThreadPoolExecutor(_READERS) as pool:
        for done, _ in enumerate(pool.map(read, range(len(names))), start=1):
            if what and done % 1000 == 0 and sys.stderr.isatty():
                print(f"\r{what}: {done}/{len(names)} clips", end="", file=sys.stderr, flush=True)
    if what:
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{what}: {len(names)}/{len(names)} clips", file=sys.stderr)
