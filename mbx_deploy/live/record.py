"""Leads a person through recording words at a microphone: the room first, then each word so many times.

What is kept is written at once, a file a take: whoever stops goes on later where he stopped, and Ctrl-C loses nothing.

    DIR/left/anna_nohash_000.wav     a word, 16 kHz, 16 bits, mono; without a speaker take_000.wav
    DIR/silence/anna_nohash_000.wav  a second of the room
"""

import contextlib
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from mbx_deploy.data.cutting import check_word
from mbx_deploy.data.protocols import SILENCE
from mbx_deploy.data.streams import wav_bytes
from mbx_deploy.errors import InputError
from mbx_deploy.live.listen import Source
from mbx_deploy.live.sources import Block
from mbx_deploy.live.takes import Ear, Meter, SoundEnded
from mbx_deploy.system.files import cannot_write, write_file

RATE_HZ = 16000
AGAIN, SKIP, QUIT, GO_ON = "r", "s", "q", ""
KEYS = "Enter: go on, r: the last one again, s: skip the word, q: quit"
MOST_BAD = 10  # takes in a row, where nobody is asked

Say = Callable[[str], None]
Ask = Callable[[str], str]


class Microphone(Source, Protocol):
    """A source that can drop what waits."""

    def forget(self) -> None:
        """Drop what was heard and nobody has asked for yet."""


@dataclass(frozen=True)
class RecordOptions:
    """words: to say. takes: of each word by this speaker, those that lie there already among them; with 20, fine-tuning
    has enough when a tenth each is for validation and testing. silence_s: of the room.
    """

    folder: Path
    words: tuple[str, ...]
    takes: int = 20
    speaker: str | None = None
    silence_s: float = 5.0


@dataclass
class Recorded:
    """What was recorded. new: {word: takes of this time}. bad: {why: how often}. complete: each word has its takes."""

    new: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)
    room_db: float | None = None
    silence: int = 0
    complete: bool = False
    ended: bool = False


def check_options(options: RecordOptions) -> None:
    """Raise InputError for words or a speaker that can name no folder or file, and for a folder that is none."""
    words = options.words
    for word in words:
        check_word(word, "--words")
    if len(set(words)) != len(words):
        raise InputError(f"a word twice (--words): got {','.join(words)}, need each once")
    if SILENCE in words:
        raise InputError(
            f"a word too many (--words): got {SILENCE!r}, need words", "the room's silence is always taken"
        )
    if options.speaker is not None:
        check_word(options.speaker, "--speaker")
        if "_nohash_" in options.speaker:
            raise InputError(f"bad name (--speaker): got {options.speaker!r}, need one without '_nohash_'")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(options.folder, error) from None


def record(
    source: Microphone,
    options: RecordOptions,
    say: Say,
    ask: Ask | None = None,
    meter: Meter = lambda level, clips: None,
) -> Recorded:
    """Record until each word has its takes, the sound ends or the person quits.

    ask: shows a question and returns one of the keys; without it nobody is asked, take follows take, a bad one is taken
    again. Raises InputError as check_options(), for a microphone that fails, and where nobody speaks.
    """
    check_options(options)
    session = _Session(source, options, say, ask, meter)
    with contextlib.closing(cast(Generator[Block], source.blocks())) as blocks:
        session.ear = Ear(blocks, RATE_HZ, meter)
        try:
            session.measure_room()
            session.record_words()
        except SoundEnded:
            session.found.ended = True
            say("the sound has ended")
    session.found.complete = all(len(session.files(word)) >= options.takes for word in options.words)
    return session.found


class _Session:
    ear: Ear

    def __init__(self, source: Microphone, options: RecordOptions, say: Say, ask: Ask | None, meter: Meter) -> None:
        self.source, self.options, self.say, self.ask = source, options, say, ask
        self.found = Recorded(new=dict.fromkeys(options.words, 0))
        stem = f"{options.speaker}_nohash_" if options.speaker else "take_"
        self._stem, self._name = stem, re.compile(rf"{re.escape(stem)}(\d+)\.wav")

    def files(self, word: str) -> list[int]:
        """Return the numbers of the takes of a word that lie there."""
        folder = self.options.folder / word
        names = [path.name for path in folder.glob("*.wav")] if folder.is_dir() else []
        return sorted(int(match[1]) for name in names if (match := self._name.fullmatch(name)))

    def keep(self, word: str, samples: np.ndarray) -> Path:
        """Write a take under the next number."""
        number = max(self.files(word), default=-1) + 1
        path = self.options.folder / word / f"{self._stem}{number:03d}.wav"
        write_file(path, wav_bytes(samples, RATE_HZ))
        return path

    def key(self, question: str) -> str:
        """Return what the person wants; GO_ON where nobody is asked."""
        if self.ask is None:
            self.say(question)
            return GO_ON
        answer = self.ask(question)
        self.source.forget()
        return answer

    def measure_room(self) -> None:
        """Measure how quiet it is, and keep some of it."""
        if self.key(f"first the room: {self.options.silence_s:g} s of silence") == QUIT:
            self.options = RecordOptions(self.options.folder, (), 0, self.options.speaker)
            return
        room = self.ear.room(self.options.silence_s)
        self.found.room_db, self.found.silence = round(room.level_db, 1), len(room.clips)
        for clip in room.clips:
            self.keep(SILENCE, clip)
        self.say(f"the room: {room.level_db:.0f} dBFS, {len(room.clips)} s kept as {SILENCE}")
        for remark in room.remarks:
            self.say(f"note: {remark}")

    def record_words(self) -> None:
        """Record each word until it has its takes."""
        words, takes = self.options.words, self.options.takes
        last: tuple[int, Path] | None = None
        place = bad = 0
        while place < len(words) or (last is not None and self.ask is not None):
            if place < len(words) and len(self.files(words[place])) >= takes:
                place += 1
                continue
            done = place == len(words)
            what = "all done" if done else f"{words[place]}, {len(self.files(words[place])) + 1} of {takes}"
            key = self.key(what)
            if key == QUIT or (done and key != AGAIN):
                return
            if key == SKIP:
                place += 1
                continue
            if key == AGAIN and last is not None:
                place = last[0]
                last[1].unlink(missing_ok=True)
                self.found.new[words[place]] -= 1
                last = None
                self.say(f"{words[place]}, again")
            kept = self._take(words[place])
            last, bad = (last, bad + 1) if kept is None else ((place, kept), 0)
            if self.ask is None and bad >= MOST_BAD:
                raise InputError(
                    f"no word was understood ({self.source.name}): got {bad} takes in a row that can't be kept",
                    "say the word that is shown, near the microphone; what was kept is there",
                )

    def _take(self, word: str) -> Path | None:
        assert self.found.room_db is not None
        take = self.ear.take(self.found.room_db)
        if take.samples is None:
            why = take.why.partition(":")[0]
            self.found.bad[why] = self.found.bad.get(why, 0) + 1
            self.say(f"  {take.why}; again")
            return None
        path = self.keep(word, take.samples)
        self.found.new[word] += 1
        self.say(f"  good: {take.level_db:.0f} dBFS, {take.seconds:.2f} s")
        return path


def describe(found: Recorded, options: RecordOptions, source: str) -> dict[str, Any]:
    """Return what was recorded, as JSON takes it."""
    takes = {word: _count(options.folder / word) for word in options.words}
    return {
        "folder": str(options.folder),
        "source": source,
        "speaker": options.speaker,
        "room_dbfs": found.room_db,
        "silence": found.silence,
        "words": {word: {"new": found.new[word], "clips": takes[word]} for word in options.words},
        "not_kept": dict(sorted(found.bad.items())),
        "complete": found.complete,
    }


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.wav"))) if folder.is_dir() else 0


def parse_words(text: str) -> tuple[str, ...]:
    """Return the words of a list with commas."""
    return tuple(word.strip() for word in text.split(",")) if text.strip() else ()
