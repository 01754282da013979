"""The tasks that results are published for, by name: which classes, and how unknown and silence come about.

"unknown" is a word that is no label, "silence" is what a microphone hears when nobody speaks, cut from the background
noise. Which clips those are follows from fixed seeds:

- training draws both anew every epoch, by the run's seed, in the protocol's ratios;
- validation and testing hold fixed ones: of the other words those with the smallest SHA-1 of "<seed>:<name>", so that
  a clip more or less in the folder changes few of them; of silence those of train/dataset.py.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mbx_deploy.data.corpus import Utterance
from mbx_deploy.errors import InputError

UNKNOWN = "unknown"
SILENCE = "silence"

# Speech Commands' own seed for the clips that it draws. Source: RANDOM_SEED in input_data.py of TensorFlow's example.
UNKNOWN_SEED = 59185

_CORE_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
# fmt: off
_WORDS_V1 = (
    "bed", "bird", "cat", "dog", "down", "eight", "five", "four", "go", "happy", "house", "left", "marvin",
    "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop", "three", "tree", "two", "up",
    "wow", "yes", "zero",
)
# fmt: on
_WORDS_V2 = tuple(sorted((*_WORDS_V1, "backward", "follow", "forward", "learn", "visual")))


@dataclass(frozen=True)
class Protocol:
    """A task on Speech Commands.

    words: the labels that are words. Ratios count clips against the mean count of a word: of unknown and silence in an
    epoch of training, and of unknown in validation and testing (None: every clip of the other words). Silence in
    validation and testing is one mean count. A ratio of 0 in training: there is no such label.
    """

    name: str
    about: str
    words: tuple[str, ...]
    unknown_ratio: float = 0.0
    silence_ratio: float = 0.0
    measured_unknown_ratio: float | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All classes in the order of the network's outputs: words, unknown, silence."""
        extra = ((UNKNOWN, self.unknown_ratio), (SILENCE, self.silence_ratio))
        return (*self.words, *(label for label, ratio in extra if ratio))

    def training_keys(self) -> dict[str, Any]:
        """Return what a training configuration says of it: labels, unknown_ratio and silence_ratio."""
        return {
            "labels": list(self.labels),
            "unknown_ratio": self.unknown_ratio,
            "silence_ratio": self.silence_ratio,
        }


PROTOCOLS = (
    Protocol(
        "12",
        "ten words, unknown and silence, a tenth as many of either as of all ten words together",
        _CORE_WORDS,
        unknown_ratio=1.0,
        silence_ratio=1.0,
        measured_unknown_ratio=1.0,
    ),
    Protocol("30", "all words of version 1", _WORDS_V1),
    Protocol("35", "all words of version 2", _WORDS_V2),
    Protocol(
        "kws10",
        "eight words, unknown and silence; measured on every clip of the other words",
        ("down", "go", "left", "no", "right", "stop", "up", "yes"),
        unknown_ratio=1.5,
        silence_ratio=1.0,
    ),
)


def find_protocol(name: str) -> Protocol:
    """Return the protocol of a name. Raises InputError for another name."""
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    known = ", ".join(protocol.name for protocol in PROTOCOLS)
    raise InputError(f"unknown protocol: got {name!r}, need one of {known}")


def command_words(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that are words: all but "unknown" and "silence"."""
    return tuple(label for label in labels if label not in (UNKNOWN, SILENCE))


def class_of(label: str, labels: Sequence[str]) -> str | None:
    """Return the class of a recording's label: itself, "unknown" for a word that is none, None if it is left out.

    Recorded silence is never an unknown word.
    """
    if label in labels:
        return label
    return UNKNOWN if UNKNOWN in labels and label != SILENCE else None


def choose_unknown(
    utterances: Iterable[Utterance], labels: Sequence[str], ratio: float | None, seed: int = UNKNOWN_SEED
) -> tuple[Utterance, ...]:
    """Return one split's utterances, without those that have no class, and with few enough unknown ones.

    ratio: unknown utterances for each mean count of a word; None keeps all. Their order stays.
    """
    kept = [utterance for utterance in utterances if class_of(utterance.label, labels) is not None]
    if ratio is None:
        return tuple(kept)
    words = command_words(labels)
    unknown = [u for u in kept if class_of(u.label, labels) == UNKNOWN]
    count = round(ratio * sum(u.label in words for u in kept) / max(len(words), 1))
    chosen = set(sorted(unknown, key=lambda u: _rank(u.name, seed))[:count])
    return tuple(u for u in kept if u in chosen or class_of(u.label, labels) != UNKNOWN)


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha1(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
