"""Stretches of files that are too long to be read whole: hours, of which a manifest's lines name seconds.

A stretch is read by seeking, with a little more at either end, so that resampling knows what lies beside it; memory is
that of the longest stretch, whatever the file's length. What ffmpeg decodes, it decodes from there on.
"""

import math
import os
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import soundfile

from mbx_deploy.data.audio import Recording, to_samples
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.formats import decode, foreign_format, native_format
from mbx_deploy.data.sound_file import (
    MAX_DURATION_S,
    UNKNOWN_FRAMES,
    Sound,
    check_rate,
    damaged,
    open_native,
    open_regular_file,
    open_sound,
    shown_path,
    too_long,
    unreadable,
)
from mbx_deploy.errors import InputError

MARGIN_S = 0.25  # more than soxr's filters and the decoders of Opus and MP3 look back
_BLOCK_FRAMES = 1 << 16


def no_sound(utterance: Utterance, length_s: float | None) -> InputError:
    """Return the user's error for a line that asks for what its file has not. length_s: the file's, None if unknown."""
    wanted = "" if utterance.duration_s is None else f" for {utterance.duration_s:g} s"
    of = "it" if length_s is None else f"its {length_s:g} s"
    return InputError(
        f"no sound where a line says ({utterance.origin or utterance.name}): got {utterance.offset_s:g} s{wanted} "
        f"of {utterance.path}, need a part of {of}"
    )


class LongSound:
    """An open file of any length, of which stretches are read."""

    def __init__(self, path: str | os.PathLike[str], sample_rate_hz: int) -> None:
        """Raises as read_recording(), but for the length."""
        self.path, self._where, self._rate_hz = path, shown_path(path), sample_rate_hz
        self._at = 0
        try:
            self._file = open_regular_file(path, self._where, None)
        except OSError as error:
            raise unreadable(self._where, error) from error
        try:
            head = self._file.read(12) or b""
            self._foreign = foreign_format(head) if native_format(head) is None else None
            self._sound: Sound | None = None if self._foreign else open_sound(self._file, self._where, MAX_DURATION_S)
            if self._sound is not None:
                check_rate(self._sound, self._where)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "LongSound":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sound is not None:
            self._sound.close()
        self._file.close()

    def read(self, utterance: Utterance) -> Recording:
        """Return an utterance's stretch, int16 (n,), n >= 1; one that goes beyond the file's end is cut there.

        Raises InputError for a stretch of more than MAX_DURATION_S, one where the file has no sound, a damaged file.
        """
        if (utterance.duration_s or 0.0) > MAX_DURATION_S:
            raise too_long(utterance.origin or self._where, f"a stretch of {utterance.duration_s:g} s", MAX_DURATION_S)
        try:
            if self._sound is None:
                samples, notes = self._decode(utterance)
            else:
                samples, notes = self._seek(self._sound, utterance)
        except OSError as error:
            raise unreadable(self._where, error) from error
        if len(samples) > MAX_DURATION_S * self._rate_hz:
            raise too_long(utterance.origin or self._where, "a stretch up to the file's end", MAX_DURATION_S)
        if not len(samples):
            raise no_sound(utterance, self._length_s())
        return Recording(os.fspath(self.path), samples, tuple(notes))

    def _length_s(self) -> float | None:
        if self._sound is None or self._sound.frames >= UNKNOWN_FRAMES:
            return None
        return float(self._sound.frames / self._sound.samplerate)

    def _span(self, utterance: Utterance) -> tuple[int, int]:
        """Return where a stretch begins, and how long it is, in samples; a second too long where it has no end."""
        start = round(utterance.offset_s * self._rate_hz)
        seconds = MAX_DURATION_S + 1 if utterance.duration_s is None else utterance.duration_s
        return start, round(seconds * self._rate_hz)

    def _seek(self, sound: Sound, utterance: Utterance) -> tuple[np.ndarray, list[str]]:
        start, count = self._span(utterance)
        if sound.samplerate == self._rate_hz:
            first, margin = start, 0
        else:
            # Both rates have a sample at multiples of grid, so that resampling from there falls on the same ones.
            grid = self._rate_hz // math.gcd(self._rate_hz, sound.samplerate)
            margin = round(MARGIN_S * self._rate_hz)
            first = max(start - margin, 0) // grid * grid
        begin, end = (at * sound.samplerate // self._rate_hz for at in (first, start + count + margin))
        samples, notes = to_samples(
            sound, lambda dtype: self._frames(sound, dtype, begin, end - begin), self._rate_hz, self._where
        )
        return samples[start - first : start - first + count], notes

    def _frames(self, sound: Sound, dtype: str, first: int, count: int) -> Iterator[np.ndarray]:
        """Yield blocks of dtype (n, channels): count frames from the first on, fewer where the file ends."""
        known = sound.frames < UNKNOWN_FRAMES
        if known and first >= sound.frames:
            return
        left = min(count, sound.frames - first) if known else count
        try:
            if known:
                sound.seek(first)
            else:
                sound = self._go_on(sound, first)
            while left:
                block = sound.read(min(left, _BLOCK_FRAMES), dtype=dtype, always_2d=True)
                self._at += len(block)
                if not len(block):
                    break
                left -= len(block)
                yield block
        except soundfile.LibsndfileError as error:
            raise damaged(self._where, error, first) from error
        if left and known:
            raise damaged(self._where, None, first)

    def _go_on(self, sound: Sound, first: int) -> Sound:
        """Return the sound at a frame of a file that does not say how long it is, and can't be sought in."""
        if first < self._at:
            sound.close()
            sound = self._sound = open_sound(self._file, self._where, MAX_DURATION_S)
            self._at = 0
        while self._at < first:
            skipped = len(sound.read(min(first - self._at, _BLOCK_FRAMES), dtype="int16", always_2d=True))
            self._at += skipped
            if not skipped:
                break
        return sound

    def _decode(self, utterance: Utterance) -> tuple[np.ndarray, list[str]]:
        start, count = self._span(utterance)
        begin_s = math.floor(max(utterance.offset_s - MARGIN_S, 0.0) * 100) / 100
        seconds = math.ceil(count / self._rate_hz + 2 * MARGIN_S)
        try:
            made = decode(self._file, self._foreign or "", self._where, seconds, begin_s)
        except InputError:
            if begin_s == 0.0:
                raise
            return np.zeros(0, np.int16), []  # behind the end there is nothing to decode
        with made, open_native(made, self._where, True) as sound:
            sound.decoded_from = self._foreign or ""
            self._at = 0
            samples, notes = to_samples(
                sound, lambda dtype: self._frames(sound, dtype, 0, sound.frames), self._rate_hz, self._where
            )
        skip = start - round(begin_s * self._rate_hz)
        return samples[skip : skip + count], notes
