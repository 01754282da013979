"""Utterances in a long recording: where somebody speaks, by level, and the clips that are cut there.

The level is that of 10 ms. Where it is LOUD_DB above the recording's own floor, somebody speaks; what lies less than
GAP_S apart is one utterance. One that is too short for a word, or too long, is told and not cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.data.streams import wav_bytes
from mbx_deploy.errors import InputError

STEP_S = 0.01
FLOOR_PERCENTILE = 30
LOUD_DB = 12.0
EDGE_DB = 6.0  # an utterance goes on as far as this above the floor
GAP_S = 0.2
SHORTEST_S, LONGEST_S = 0.12, 1.6
_QUIETEST_DB = -90.0


@dataclass(frozen=True)
class Spoken:
    """One utterance, in seconds. level_db: its loudest 10 ms, of full scale. why_not: "" where it is cut."""

    start_s: float
    end_s: float
    level_db: float
    why_not: str = ""


def levels_db(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the level of each 10 ms of int16 (n,), float64, decibels of full scale, -90 at least."""
    step = round(STEP_S * rate)
    count = max(len(samples) // step, 1)
    padded = np.resize(samples, count * step) if len(samples) < step else samples[: count * step]
    power = np.mean(np.square(padded.reshape(count, step).astype(np.float64) / 32768.0), axis=1)
    found: np.ndarray = np.maximum(10.0 * np.log10(np.maximum(power, 1e-12)), _QUIETEST_DB)
    return found


def find_spoken(
    samples: np.ndarray, rate: int, loud_db: float = LOUD_DB, floor_db: float | None = None
) -> list[Spoken]:
    """Return the utterances of a recording, int16 (n,), in their order. loud_db: above the floor. floor_db: the
    level of the room, without it the recording's own.
    """
    levels = levels_db(samples, rate)
    floor = float(np.percentile(levels, FLOOR_PERCENTILE)) if floor_db is None else floor_db
    found: list[Spoken] = []
    for first, last in _joined(_runs(levels > floor + EDGE_DB), round(GAP_S / STEP_S)):
        peak = float(levels[first:last].max())
        if peak < floor + loud_db:
            continue
        seconds = (last - first) * STEP_S
        why = "too short" if seconds < SHORTEST_S else "too long" if seconds > LONGEST_S else ""
        found.append(Spoken(round(first * STEP_S, 2), round(last * STEP_S, 2), round(peak, 1), why))
    return found


def _runs(loud: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, behind the last) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _joined(runs: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in runs:
        if found and first - found[-1][1] < gap:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def cut_clips(
    samples: np.ndarray, rate: int, spoken: Sequence[Spoken], margin_s: float, word: str, stem: str, speaker: str | None
) -> dict[str, bytes]:
    """Return {path below the folder: a .wav} of the utterances that are cut.

    Each has margin_s around it, and a second in all at least, where the recording goes so far. speaker: the clips are
    called <speaker>_nohash_<n>, as Speech Commands calls its own.
    """
    files = {}
    kept = [one for one in spoken if not one.why_not]
    for number, one in enumerate(kept):
        margin = max(margin_s, (1.0 - (one.end_s - one.start_s)) / 2)
        start = max(round((one.start_s - margin) * rate), 0)
        end = min(round((one.end_s + margin) * rate), len(samples))
        name = f"{speaker}_nohash_{number}" if speaker else f"{stem}_{number:03d}"
        files[f"{word}/{name}.wav"] = wav_bytes(samples[start:end], rate)
    return files


def describe(path: Path, seconds: float, spoken: Sequence[Spoken], names: Sequence[str]) -> dict[str, Any]:
    """Return what was found, as JSON takes it. names: of the clips that were cut, in their order."""
    left = iter(names)
    rows = [{**vars(one), "clip": None if one.why_not else next(left)} for one in spoken]
    return {"recording": path.name, "seconds": round(seconds, 2), "utterances": rows, "clips": len(names)}


def check_word(word: str, option: str = "--word") -> None:
    """Raise InputError for a word that can be no folder's name."""
    if not word or word.startswith((".", "_")) or not word.isprintable() or set("/\\:") & set(word) or len(word) > 64:
        raise InputError(f"bad word ({option}): got {word!r:.80}, need a name that a folder may have")
