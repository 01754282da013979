"""One take of a word: what a person is told of it while it is heard, and whether it is kept.

A take ends when the word is over, or when nothing was said for a while. The room's own level, measured before, tells
what is sound: an utterance is LOUD_DB above it, as in cutting.find_spoken().
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mbx_deploy.data.cutting import LONGEST_S, Spoken, find_spoken, levels_db
from mbx_deploy.data.inspection import is_clipped
from mbx_deploy.live.sources import Block

LISTEN_S = 4.0  # of nothing said, and a take is over
AFTER_S = 0.4  # of quiet behind a word: it is over
MARGIN_S = 0.25  # around a word
LEAST_S = 1.0  # a clip lasts
LOUD_ROOM_DB = -45.0
LEAST_LEVEL_DB = -42.0  # of a word's loudest 10 ms
_LEAST_FLOOR_DB = -70.0  # a quieter room than any microphone's own noise
_STEADY_DB = 20.0  # a room whose loudest 10 ms are this much above its median: something was heard

Meter = Callable[[float, bool], None]


@dataclass(frozen=True)
class Take:
    """samples: int16 (n,) to keep, None where why says why not. level_db: of its loudest 10 ms, of full scale."""

    samples: np.ndarray | None
    why: str
    level_db: float = -90.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Room:
    """How quiet a room is. level_db: the median of its 10 ms. clips: a second each, int16, in which nothing stands out.
    remarks: what is to be told, a line each.
    """

    level_db: float
    clips: tuple[np.ndarray, ...]
    remarks: tuple[str, ...]


class SoundEnded(Exception):
    """A file or a pipe has no more sound."""


class Ear:
    """Hears a source block by block. meter: shown the level of each, decibels of full scale, and whether it clips."""

    def __init__(self, blocks: Iterator[Block], rate_hz: int, meter: Meter) -> None:
        self._blocks, self.rate_hz, self._meter = blocks, rate_hz, meter

    def block(self) -> np.ndarray:
        """Return the next samples, int16 (n,). Raises SoundEnded."""
        found = next(self._blocks, None)
        if found is None:
            raise SoundEnded
        if len(found.samples):
            clips = int(np.abs(found.samples.astype(np.int32)).max()) >= 32767
            self._meter(float(levels_db(found.samples, self.rate_hz).max()), clips)
        return found.samples

    def room(self, seconds: float) -> Room:
        """Return how quiet it is. Raises SoundEnded."""
        heard = np.zeros(0, np.int16)
        while len(heard) < seconds * self.rate_hz:
            heard = np.concatenate([heard, self.block()])
        heard = heard[: round(seconds * self.rate_hz)]
        levels = levels_db(heard, self.rate_hz)
        level = float(np.median(levels))
        remarks = []
        if not heard.any():
            remarks.append("digital silence: is the microphone muted? (a recording in its place may be so)")
        elif level > LOUD_ROOM_DB:
            remarks.append(
                f"the room is loud: {level:.0f} dBFS, better below {LOUD_ROOM_DB:.0f}; a word has to stand out"
            )
        most = max(level, _LEAST_FLOOR_DB) + _STEADY_DB
        if float(levels.max()) > most:
            remarks.append("something was heard in it: those seconds are not kept as silence")
        count = len(heard) // self.rate_hz
        clips = [heard[n * self.rate_hz : (n + 1) * self.rate_hz] for n in range(count)]
        quiet = [clip for clip in clips if float(levels_db(clip, self.rate_hz).max()) <= most]
        return Room(level, tuple(quiet), tuple(remarks))

    def take(self, room_db: float) -> Take:
        """Return what was said next. Raises SoundEnded where nothing more comes before a word is over."""
        heard = np.zeros(0, np.int16)
        while True:
            try:
                heard = np.concatenate([heard, self.block()])
                ended = False
            except SoundEnded:
                if not len(heard):
                    raise
                ended = True
            found = self._judge(heard, room_db, ended)
            if found is not None:
                return found
            if ended:
                raise SoundEnded

    def _judge(self, heard: np.ndarray, room_db: float, ended: bool) -> Take | None:
        """Return the take, None while it goes on. ended: no more comes."""
        now = len(heard) / self.rate_hz
        floor_db = max(room_db, _LEAST_FLOOR_DB)
        spoken = [one for one in find_spoken(heard, self.rate_hz, floor_db=floor_db) if one.why_not != "too short"]
        if not spoken:
            if now < LISTEN_S:
                return None
            loudest = float(levels_db(heard, self.rate_hz).max())
            return Take(None, f"nothing heard in {LISTEN_S:.0f} s", loudest)
        word = spoken[0]
        if word.end_s - word.start_s > LONGEST_S:
            return Take(None, f"too long: more than {LONGEST_S:g} s", word.level_db)
        if now < word.end_s + AFTER_S and not ended:
            return None
        return self._kept(heard, word)

    def _kept(self, heard: np.ndarray, word: Spoken) -> Take:
        seconds = word.end_s - word.start_s
        margin = max(MARGIN_S, (LEAST_S - seconds) / 2)
        start = max(round((word.start_s - margin) * self.rate_hz), 0)
        clip = heard[start : max(start + round(LEAST_S * self.rate_hz), round((word.end_s + margin) * self.rate_hz))]
        clip = np.concatenate([clip, np.zeros(max(0, round(LEAST_S * self.rate_hz) - len(clip)), np.int16)])
        if is_clipped(clip):
            return Take(None, "clipped: farther from the microphone, or less gain", word.level_db, seconds)
        if word.level_db < LEAST_LEVEL_DB:
            return Take(None, f"too quiet: {word.level_db:.0f} dBFS, nearer or louder", word.level_db, seconds)
        return Take(clip, "", word.level_db, seconds)
