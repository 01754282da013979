"""How a data set without lists is divided: by the official hash rule, and what it leaves empty by shares.

The rule puts one speaker in ten into validation and one into testing. Of a few speakers it puts all into one split, of
two dozen recordings at times none into another; then a tenth of them is taken, drawn by the digest of their names. A
larger set that has nothing for testing is so because somebody wanted it, and stays.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mbx_deploy.data.corpus import SPLITS, Utterance

LEAST_CLIPS = 10  # of a word: with fewer, nothing is to be divided
LEAST_SPEAKERS = 5
MANY = 50  # speakers or files: the rule leaves a split empty once in two hundred such sets
SHARE = 0.1


def divide(clips: Sequence[Utterance]) -> tuple[list[Utterance], str, list[str]]:
    """Return the clips with their splits, what divides them ("hash", "speakers", "recordings"), and what is to be told.

    clips: in the splits of the official rule. Where that leaves a split empty, speakers are divided if LEAST_SPEAKERS
    or more are known, else recordings, word by word; where it does so for one word whose speakers are not known, that
    word's recordings. Their order stays.
    """
    counts = _counts(clips)
    large = [word for word, found in counts.items() if sum(found.values()) >= LEAST_CLIPS]
    if not large:
        return list(clips), "hash", []
    if any(not sum(found[split] for found in counts.values()) for split in SPLITS):
        return _divide_all(clips, counts)
    lacking = [word for word in large if not all(counts[word].values()) and _by_names(clips, word)]
    if not lacking:
        return list(clips), "hash", []
    some = ", ".join(map(repr, lacking[:3]))
    note = f"the hash rule leaves a split without {some}: a tenth of its recordings is taken for each"
    return _shared(clips, _by_word(clips, lacking), _recording), "hash", [note]


def _divide_all(
    clips: Sequence[Utterance], counts: dict[str, dict[str, int]]
) -> tuple[list[Utterance], str, list[str]]:
    hashed = {clip.speaker or _file(clip) for clip in clips}
    if len(hashed) >= MANY:
        return list(clips), "hash", []
    speakers = {clip.speaker for clip in clips}
    if None not in speakers and len(speakers) >= LEAST_SPEAKERS:
        note = f"{len(speakers)} speakers are few: one in ten of them is for validation, one for testing"
        return _shared(clips, [list(clips)], lambda clip: clip.speaker or ""), "speakers", [note]
    note = (
        "too few speakers to divide by: a tenth of each word's recordings is for validation, a tenth for testing, "
        "and who is heard there is heard in training, too"
    )
    return _shared(clips, _by_word(clips, counts), _recording), "recordings", [note]


def _by_names(clips: Iterable[Utterance], word: str) -> bool:
    """Return whether a word's clips are few and divided by their files' names, for nothing says who speaks."""
    own = [clip for clip in clips if clip.label == word]
    return all(clip.speaker is None for clip in own) and len({_file(clip) for clip in own}) < MANY


def _file(clip: Utterance) -> str:
    return clip.name.rsplit("/", 1)[-1].partition("@")[0]


def _counts(clips: Iterable[Utterance]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for clip in clips:
        counts.setdefault(clip.label, dict.fromkeys(SPLITS, 0))[clip.split] += 1
    return counts


def _by_word(clips: Sequence[Utterance], words: Iterable[str]) -> list[list[Utterance]]:
    return [[clip for clip in clips if clip.label == word] for word in words]


def _recording(clip: Utterance) -> str:
    return f"{clip.name.rsplit('/', 1)[-1]}@{clip.offset_s:g}"


def _shared(
    clips: Sequence[Utterance], parts: Iterable[Sequence[Utterance]], group: Callable[[Utterance], str]
) -> list[Utterance]:
    """Return the clips, those of each part divided by shares of its groups, drawn by the digests of their names."""
    new: dict[int, str] = {}
    for part in parts:
        names = sorted({group(clip) for clip in part}, key=lambda name: hashlib.sha1(os.fsencode(name)).digest())
        count = max(1, round(SHARE * len(names))) if len(names) >= len(SPLITS) else 0
        chosen = {name: SPLITS[1 + place // count] for place, name in enumerate(names[: 2 * count])}
        new |= {id(clip): chosen.get(group(clip), SPLITS[0]) for clip in part}
    return [replace(clip, split=new[id(clip)]) if id(clip) in new else clip for clip in clips]
