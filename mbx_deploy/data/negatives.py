"""What a recogniser must not take for a command: folders of other words and of long recordings.

A file of at most WORD_SECONDS is another word, named by its folder; a longer one is a recording, from which windows are
cut. Neither is a data set: there are no splits in it, all of it is trained on.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.data.dataset import CLIP_SAMPLES, SAMPLE_RATE_HZ, Split, command_words
from mbx_deploy.data.formats import is_readable
from mbx_deploy.data.protocols import SILENCE, UNKNOWN
from mbx_deploy.errors import InputError

WORD_SECONDS = 3.0
MOST_SECONDS = 4 * 3600  # of one recording: an evening in a room, half a gigabyte in memory
_READERS = 4  # the decoder releases the GIL


@dataclass(frozen=True, eq=False)
class WordSource:
    """Other words of one origin: a data set's own, or those of a folder of negatives.

    samples: int16 (N, CLIP_SAMPLES). words: the word of each clip.
    """

    name: str
    samples: np.ndarray
    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Negatives:
    """recordings: int16 (n,) each, named by their paths relative to their folder. digest: of which files they are, and
    how long.
    """

    sources: tuple[WordSource, ...] = ()
    recordings: tuple[np.ndarray, ...] = field(default=(), repr=False)
    names: tuple[str, ...] = ()
    digest: str = ""

    @property
    def seconds(self) -> float:
        """Return how long the recordings are, all together."""
        return sum(len(samples) for samples in self.recordings) / SAMPLE_RATE_HZ


def load_negatives(folders: Sequence[Path], labels: Sequence[str], left_out: Sequence[str] = ()) -> Negatives:
    """Return what lies in the folders, in the order of their names.

    labels: the model's; a folder named as a command is refused. left_out: words that are not read, so that they can be
    measured with. Raises InputError for a folder without recordings, and for a file that cannot be read.
    """
    sources: list[WordSource] = []
    recordings: list[np.ndarray] = []
    names: list[str] = []
    digest = hashlib.sha256()
    for folder in (Path(folder) for folder in folders):
        if not folder.is_dir():
            raise InputError(f"no such folder of negatives ({folder}): need one with recordings, .wav, .flac or .ogg")
        found = sorted(path for path in folder.rglob("*") if is_readable(path.suffix.lower()) and path.is_file())
        paths = [path for path in found if path.parent.name not in left_out]
        commands = sorted({path.parent.name for path in paths} & set(command_words(labels)))
        if commands:
            raise InputError(
                f"a command among the negatives ({folder}): got the folder {commands[0]!r}, need other words",
                "what lies there would be taught as no command; put it into the data set instead",
            )
        if not paths:
            raise InputError(f"no recordings ({folder}): got no .wav, .flac or .ogg file, need at least one")
        own = [path.relative_to(folder).as_posix() for path in paths]
        with ThreadPoolExecutor(_READERS) as pool:
            sounds = list(pool.map(_read, paths))
        for name, samples in zip(own, sounds, strict=True):
            digest.update(f"{name} {len(samples)}\n".encode())
        short = [len(samples) <= WORD_SECONDS * SAMPLE_RATE_HZ for samples in sounds]
        clips = [fit_clip(samples, CLIP_SAMPLES) for samples, word in zip(sounds, short, strict=True) if word]
        if clips:
            words = tuple(path.parent.name for path, word in zip(paths, short, strict=True) if word)
            sources.append(WordSource(folder.name, np.stack(clips), words))
        for name, samples, word in zip(own, sounds, short, strict=True):
            if not word:
                recordings.append(samples)
                names.append(name)
    return Negatives(tuple(sources), tuple(recordings), tuple(names), digest.hexdigest())


def own_words(split: Split, left_out: Sequence[str] = ()) -> WordSource:
    """Return the other words of a data set's split, as a source beside the negatives'."""
    own = split.indices_of(UNKNOWN)
    spoken = split.spoken or tuple(name.split("/")[0] for name in split.names)
    words = np.array([spoken[number] for number in own], dtype=object)
    kept = np.array([word not in (*left_out, SILENCE) for word in words], bool)
    return WordSource("data", split.samples[own[kept]], tuple(words[kept]))


def _read(path: Path) -> np.ndarray:
    return read_recording(path, SAMPLE_RATE_HZ, MOST_SECONDS).samples
