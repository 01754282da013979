"""Training windows for the open world: commands in context, other words, running audio, what is no word at all.

A round is a table of draws, (kind, source, place) each: what a window is made of. The window's sound follows from the
draw and a random generator: the same draw with another generator is the same word in other company.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbx_deploy.data.dataset import SAMPLE_RATE_HZ, SILENCE, UNKNOWN, Split, command_words, silence_clips
from mbx_deploy.data.negatives import Negatives, WordSource, own_words
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import show
from mbx_deploy.train.augment import (
    AugmentConfig,
    NoiseSources,
    bend_silence,
    change_speed,
    hear,
    shift,
)
from mbx_deploy.train.pieces import FADE_SAMPLES, faded, laid, loud_part, scaled

COMMAND, WORD, BROKEN, RECORDING, QUIET = range(5)
NEGATIVE_KINDS = (WORD, BROKEN, RECORDING, QUIET)
# Quieter than this, root mean square of int16, a window of a recording is silence: -60 dB of full scale.
QUIET_RMS = 32.0
_HALVES, _REVERSED, _SHIFTED, _JOINED = range(4)
_WAYS = 4
# So much of a command, at most, is inside a window that it begins in or has left: less than tells it from another word.
_MOST_INSIDE = 0.35
_WIDEST_GAP_SAMPLES = SAMPLE_RATE_HZ // 4


@dataclass(frozen=True)
class OpenWorldConfig:
    """What an epoch is made of. Shares are of its draws; what they leave is silence.

    draws: windows an epoch; 0: as many as the data set's commands, divided by their share. word_share: other words, of
    which one comes word_cap times an epoch at most, so that variety wins. broken_share: commands in halves, backwards,
    joined with another word, shifted out of the window. recording_share: windows of the negatives' recordings.
    mined_share: so much of all draws that are no command comes from what the model of the last epochs took for one with
    a score of at least mined_score; at most mined_most of them are remembered. left_out: words that are not trained on,
    to measure with. word_end_s, of a streaming model: how long before a window's end a word may end. context_*: what
    comes before a word, as shares; the rest is silence, and the noise that augmentation adds.
    """

    draws: int = 0
    command_share: float = 0.5
    word_share: float = 0.22
    broken_share: float = 0.05
    recording_share: float = 0.15
    word_cap: int = 60
    mined_share: float = 0.25
    mined_score: float = 0.3
    mined_most: int = 4000
    left_out: tuple[str, ...] = ()
    word_end_s: tuple[float, float] = (0.05, 0.8)
    context_word_share: float = 0.3
    context_recording_share: float = 0.25

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_share", "_score")) and (
                not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1
            ):
                raise InputError(f"bad open world ({field.name}): got {show(value)}, need 0 to 1")
            if isinstance(field.default, int) and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise InputError(f"bad open world ({field.name}): got {show(value)}, need a whole number of 0 or more")
        shares = self.command_share + self.word_share + self.broken_share + self.recording_share
        if self.command_share == 0 or shares > 1.000001:
            raise InputError(f"bad open world (shares): got {shares:g} together, need 1 at most, some of it commands")
        if self.context_word_share + self.context_recording_share > 1:
            raise InputError("bad open world (context_word_share, context_recording_share): need 1 at most together")
        if not isinstance(self.left_out, list | tuple) or not all(isinstance(word, str) for word in self.left_out):
            raise InputError(f"bad open world (left_out): got {self.left_out!r:.60}, need a list of words")
        object.__setattr__(self, "left_out", tuple(self.left_out))
        ends = self.word_end_s
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not 0 <= ends[0] <= ends[1] <= 10:
            raise InputError(f"bad open world (word_end_s): got {show(ends)}, need [low, high] in seconds")
        object.__setattr__(self, "word_end_s", (float(ends[0]), float(ends[1])))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON and TOML values."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OpenWorldConfig":
        """Return the config that to_dict() wrote. Raises InputError for an unknown key or a bad value."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise InputError(f"unknown open-world key: got {show(key)}, need one of {', '.join(sorted(known))}")
        return cls(**values)


@dataclass(frozen=True, eq=False)
class _Clips:
    """Words to draw from, and of each clip its class, word, source and the first and last sample of its loud part."""

    samples: np.ndarray
    classes: np.ndarray
    words: np.ndarray
    sources: np.ndarray
    bounds: np.ndarray


class Windows:
    """Draws rounds, and makes each draw's window."""

    def __init__(
        self,
        config: OpenWorldConfig,
        augment: AugmentConfig,
        training: Split,
        negatives: Negatives,
        noise: NoiseSources,
        window_samples: int,
        streaming: bool,
    ) -> None:
        """training: clips of a second. window_samples: of a window's sound."""
        self.config, self.augment = config, augment
        self.labels = training.labels
        self.negatives, self.noise = negatives, noise
        self.background = training.noise
        self.window_samples, self.streaming = window_samples, streaming
        self.unknown = self.labels.index(UNKNOWN) if UNKNOWN in self.labels else -1
        self.silence = self.labels.index(SILENCE) if SILENCE in self.labels else self.unknown
        self.command_classes = np.array([self.labels.index(word) for word in command_words(self.labels)])
        commands = np.concatenate([training.indices_of(word) for word in command_words(self.labels)])
        self.commands = _clips(training.samples[commands], training.classes[commands])
        self.recorded = training.samples[training.indices_of(SILENCE)]
        sources = [own_words(training, config.left_out), *negatives.sources]
        self.words = _join([source for source in sources if len(source.words)], self.unknown)

    def draw_round(self, number: int, seed: int, mined: np.ndarray) -> np.ndarray:
        """Return a round's draws, int64 (n, 3), shuffled. mined: draws that come again, int64 (m, 3)."""
        config = self.config
        rng = np.random.default_rng([seed, number, 5])
        total = config.draws or round(len(self.commands.classes) / config.command_share)
        counts = {
            COMMAND: round(config.command_share * total),
            WORD: round(config.word_share * total) if len(self.words.classes) and self.unknown >= 0 else 0,
            BROKEN: round(config.broken_share * total) if self.unknown >= 0 else 0,
            RECORDING: round(config.recording_share * total) if self.negatives.recordings and self.unknown >= 0 else 0,
        }
        counts[QUIET] = total - sum(counts.values()) if self.silence >= 0 else 0
        parts = [
            _table(COMMAND, self._draw_commands(counts[COMMAND], rng), 0),
            _table(WORD, self._draw_words(counts[WORD], rng), 0),
            self._draw_broken(counts[BROKEN], rng),
            self._draw_recordings(counts[RECORDING], rng),
            _table(QUIET, np.arange(counts[QUIET]), 0),
        ]
        draws = np.concatenate(parts)
        if len(mined):
            again = np.flatnonzero(draws[:, 0] != COMMAND)
            again = rng.permutation(again)[: round(config.mined_share * len(again))][: 2 * len(mined)]
            draws[again] = mined[rng.integers(len(mined), size=len(again))]
        return rng.permutation(draws)

    def classes(self, draws: np.ndarray) -> np.ndarray:
        """Return the class of each draw, int64 (n,); of a quiet window of a recording see make()."""
        kinds = draws[:, 0]
        classes = np.where(kinds == QUIET, self.silence, self.unknown)
        own = kinds == COMMAND
        classes[own] = self.commands.classes[draws[own, 1]]
        return classes

    def make(self, draw: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Return a draw's window, int16 (window_samples,), and its class."""
        kind, source, place = (int(value) for value in draw)
        label = int(self.classes(draw[None])[0])
        if kind == QUIET:
            if len(self.recorded) and source % 2:  # silence that the user recorded, and as much again that is made
                clip = np.resize(self.recorded[source // 2 % len(self.recorded)], self.window_samples)
            else:
                clip = silence_clips(self.background, 1, rng, self.window_samples)[0]
            return hear(bend_silence(clip, self.augment, rng).astype(np.float32), self.noise, self.augment, rng), label
        if kind == RECORDING:
            wave = self._cut(source, place, rng)
            if float(np.sqrt(np.mean(np.square(wave)))) < QUIET_RMS and self.silence >= 0:
                label = self.silence
            return hear(wave, self.noise, self.augment, rng), label
        if kind == BROKEN and place % _WAYS == _SHIFTED:
            wave = self._shift_out(source, place // _WAYS % 2 == 1, rng)
            return hear(wave, self.noise, self.augment, rng), label
        if kind == BROKEN:
            clip, bounds = self._break(source, place)
        else:
            clips = self.commands if kind == COMMAND else self.words
            clip, bounds = clips.samples[source].astype(np.float32), clips.bounds[source]
        return hear(self._place(clip, bounds, kind == COMMAND, rng), self.noise, self.augment, rng), label

    def _draw_commands(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return clips, each command as often as another, each clip once before any comes twice."""
        drawn: list[np.ndarray] = []
        labels = np.unique(self.commands.classes)
        for turn, label in enumerate(labels):
            own = np.flatnonzero(self.commands.classes == label)
            wanted = (count * (turn + 1)) // len(labels) - (count * turn) // len(labels)
            drawn.append(_repeat(own, wanted, rng))
        return np.concatenate(drawn) if drawn else np.zeros(0, np.int64)

    def _draw_words(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return clips of other words: a word as often as it has clips, word_cap times at most; a source as often as
        the square root of what it may give, so that neither thousands of synthetic words nor three recorded ones win.
        """
        if not count:
            return np.zeros(0, np.int64)
        weights = np.zeros(len(self.words.classes))
        for source in np.unique(self.words.sources):
            own = np.flatnonzero(self.words.sources == source)
            _, inverse, counts = np.unique(self.words.words[own], return_inverse=True, return_counts=True)
            capped = np.minimum(counts, max(self.config.word_cap, 1)).astype(np.float64)
            share = capped[inverse] / counts[inverse]
            weights[own] = share / np.sqrt(capped.sum())
        # Without replacement as far as the clips go: the largest of -log(u) / w, A. Efraimidis, P. Spirakis, 2006.
        keys = rng.exponential(size=len(weights)) / weights
        order = np.argsort(keys, kind="stable")
        return np.resize(order, count) if count > len(order) else order[:count]

    def _draw_broken(self, count: int, rng: np.random.Generator) -> np.ndarray:
        commands = len(self.commands.classes)
        if not count or not commands:
            return np.zeros((0, 3), np.int64)
        ways = rng.integers(_WAYS if len(self.words.classes) else _JOINED, size=count)
        others = rng.integers(max(len(self.words.classes), 1), size=count)
        sides = rng.integers(2, size=count)
        return np.stack(
            [np.full(count, BROKEN), rng.integers(commands, size=count), (others * 2 + sides) * _WAYS + ways], 1
        )

    def _draw_recordings(self, count: int, rng: np.random.Generator) -> np.ndarray:
        if not count:
            return np.zeros((0, 3), np.int64)
        lengths = np.array([len(samples) for samples in self.negatives.recordings], np.float64)
        chosen = rng.choice(len(lengths), size=count, p=lengths / lengths.sum())
        starts = np.floor(rng.random(count) * np.maximum(lengths[chosen] - self.window_samples, 1.0))
        return np.stack([np.full(count, RECORDING), chosen, starts.astype(np.int64)], 1)

    def _cut(self, recording: int, start: int, rng: np.random.Generator) -> np.ndarray:
        """Return a window of a recording, played faster or slower at times, float32 (window_samples,)."""
        samples, size = self.negatives.recordings[recording], self.window_samples
        speed = 1.0
        if rng.random() < self.augment.speed_probability:
            speed += rng.uniform(-1.0, 1.0) * self.augment.speed_percent / 100.0
        piece = samples[start : start + int(np.ceil(size * speed)) + 1].astype(np.float32)
        if len(piece) < size * speed:
            piece = np.resize(piece, int(np.ceil(size * speed)) + 1)
        if speed == 1.0:
            return piece[:size]
        resampled: np.ndarray = np.interp(np.arange(size) * speed, np.arange(len(piece)), piece).astype(np.float32)
        return resampled

    def _break(self, command: int, how: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what is left of a command: its first or second half, itself backwards, or half of it joined with half
        of another word; float32 (n,), and the bounds of its loud part.
        """
        kind, side, other = how % _WAYS, how // _WAYS % 2, how // (2 * _WAYS)
        clip = self.commands.samples[command].astype(np.float32)
        first, last = self.commands.bounds[command]
        if kind == _REVERSED:
            return clip[::-1].copy(), np.array([len(clip) - last, len(clip) - first])
        middle = first + int((last - first) * (0.42 if side else 0.58))
        out = np.zeros_like(clip)
        if kind == _HALVES or not len(self.words.classes):
            piece = clip[first:middle] if side else clip[middle:last]
        else:
            more = self.words.samples[other].astype(np.float32)
            begin, end = self.words.bounds[other]
            half = begin + (end - begin) // 2
            pair = (clip[first:middle], more[half:end]) if side else (more[begin:half], clip[middle:last])
            piece = np.concatenate([faded(part) for part in pair])
        piece = faded(piece)[: len(out)]
        at = (len(out) - len(piece)) // 2
        out[at : at + len(piece)] = piece
        return out, np.array([at, at + len(piece)])

    def _shift_out(self, command: int, begins: bool, rng: np.random.Generator) -> np.ndarray:
        """Return a window at whose end a command begins, or whose sound has left it but for its end, float32
        (window_samples,). A streaming window always is the first: what is past is its context, not its word.
        """
        first, last = (int(bound) for bound in self.commands.bounds[command])
        clip, size = self.commands.samples[command].astype(np.float32), self.window_samples
        inside = int(rng.uniform(0.0, _MOST_INSIDE) * (last - first))
        start = size - inside - first if begins or self.streaming else inside - last
        if self.streaming:
            return self._in_context(clip, (first, last), start, False, rng)
        return laid(clip, start, size)

    def _place(self, clip: np.ndarray, bounds: np.ndarray, command: bool, rng: np.random.Generator) -> np.ndarray:
        """Return a word in its window, float32 (window_samples,): shifted as augmentation says, or of a streaming model
        in context, its end where word_end_s says.
        """
        first, last = int(bounds[0]), int(bounds[1])
        augment = self.augment
        if rng.random() < augment.speed_probability:
            speed = 1.0 + rng.uniform(-1.0, 1.0) * augment.speed_percent / 100.0
            clip = change_speed(clip, speed)
            middle = (len(clip) - 1) / 2.0
            first, last = (int(np.clip(middle + (at - middle) / speed, 0, len(clip))) for at in (first, last))
        if not self.streaming:
            reach = round(augment.shift_ms * SAMPLE_RATE_HZ / 1000.0)
            earliest, latest = -reach, reach
            if rng.random() < augment.slack_shift_probability:
                earliest, latest = -first, len(clip) - last
            return shift(clip, int(rng.integers(earliest, latest + 1)))
        size = self.window_samples
        low, high = (round(end * SAMPLE_RATE_HZ) for end in self.config.word_end_s)
        start = size - int(rng.integers(low, high + 1)) - last
        return self._in_context(clip, (first, last), start, command, rng)

    def _in_context(
        self, clip: np.ndarray, bounds: tuple[int, int], start: int, command: bool, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a window with a clip from `start` on and something before it, float32 (window_samples,)."""
        first, last = bounds
        wave = laid(clip, start, self.window_samples)
        spoken = float(np.sqrt(np.mean(np.square(clip[first:last])))) if last > first else 0.0
        self._add_context(wave, start + first, max(start, 0), spoken, command, rng)
        return wave

    def _add_context(
        self, wave: np.ndarray, spoken_at: int, clip_at: int, level: float, command: bool, rng: np.random.Generator
    ) -> None:
        """Put what comes before a word into its window, in place. spoken_at: where the word begins to be loud; clip_at:
        where its recording begins. level: the word's root mean square.
        """
        kind = rng.random()
        config = self.config
        if kind < config.context_word_share:
            # Only before a command: another command before another word would have ended too late to be none.
            clips = self.commands if command and rng.random() < 0.5 else self.words
            if not len(clips.classes):
                return
            number = int(rng.integers(len(clips.classes)))
            last = int(clips.bounds[number][1])
            end = max(min(spoken_at, clip_at + FADE_SAMPLES) - int(rng.integers(_WIDEST_GAP_SAMPLES)), 0)
            piece = clips.samples[number, :last][-end:] if end else np.zeros(0)
            piece = scaled(piece.astype(np.float32), level, rng.uniform(-10.0, 6.0))
            wave[end - len(piece) : end] += piece
        elif kind < config.context_word_share + config.context_recording_share and self.negatives.recordings:
            recording = int(rng.integers(len(self.negatives.recordings)))
            most = max(len(self.negatives.recordings[recording]) - len(wave), 1)
            piece = self._cut(recording, int(rng.integers(most)), rng)
            if rng.random() < 0.3:  # it goes on behind the word
                wave += scaled(piece, level, rng.uniform(-25.0, -8.0))
                return
            end = int(np.clip(spoken_at - int(rng.integers(_WIDEST_GAP_SAMPLES)), 0, len(wave)))
            piece = piece[:end].copy()
            if len(piece) > FADE_SAMPLES:
                piece[-FADE_SAMPLES:] *= np.linspace(1.0, 0.0, FADE_SAMPLES, dtype=np.float32)
            wave[:end] += scaled(piece, level, rng.uniform(-15.0, 3.0))


def _clips(samples: np.ndarray, classes: np.ndarray) -> _Clips:
    bounds = np.array([loud_part(clip.astype(np.float32)) for clip in samples], np.int64).reshape(-1, 2)
    empty = np.array([""] * len(samples), dtype=object)
    return _Clips(samples, classes, empty, np.zeros(len(samples), np.int64), bounds)


def _join(sources: list[WordSource], label: int) -> _Clips:
    if not sources:
        return _clips(np.zeros((0, 1), np.int16), np.zeros(0, np.int64))
    samples = np.concatenate([source.samples for source in sources])
    clips = _clips(samples, np.full(len(samples), label))
    words = np.concatenate([np.array(source.words, dtype=object) for source in sources])
    origin = np.concatenate([np.full(len(source.words), number) for number, source in enumerate(sources)])
    return dataclasses.replace(clips, words=words.astype(str), sources=origin)


def _table(kind: int, sources: np.ndarray, place: int) -> np.ndarray:
    return np.stack([np.full(len(sources), kind), sources, np.full(len(sources), place)], 1).astype(np.int64)


def _repeat(own: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    turns = -(-count // len(own)) if len(own) else 0
    return np.concatenate([rng.permutation(own) for _ in range(turns)])[:count] if turns else own[:0]
