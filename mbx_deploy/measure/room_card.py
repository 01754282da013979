"""The card's open half: words that are none of the labels, by whether training met them, and what is heard in rooms.

Both count events by the decision that the model carries, as its firmware tells them: by the engine c.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.compiler.decision import decision_to_dict
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.dataset import ALL, load_known
from mbx_deploy.data.negatives import WordSource, load_negatives, own_words
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.open import Source, open_engine
from mbx_deploy.engines.session import ITEM_STREAM, Item
from mbx_deploy.errors import InputError
from mbx_deploy.measure.evaluate import cores
from mbx_deploy.measure.listening import Heard, listen, read_streams, report

OPEN_SPLIT = "testing"
_DIGITS = 4
# Behind a word: long enough for the last decision that may still be about it.
_TAIL_S = 1.5
_MOST_WORDS = 20

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


def measure_open_world(
    artifact: Path,
    data: Path | None = None,
    streams: Sequence[Path] = (),
    never_met: Sequence[Path] = (),
    note: Note = lambda line: None,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Return {"other_words": ..., "room": ...}, each where there is what it needs, fractions rounded to 1e-4.

    artifact: a .tflite of ours. data: a data set: its other words. streams: folders of long recordings; their kinds
    are told apart. never_met: folders of words, a folder a word, that no training met. Raises InputError for a network
    alone, and for folders without recordings.
    """
    model = load_model(artifact)
    if model.hearing is None:
        raise InputError(f"the model hears nothing ({artifact}): got a network alone, need one with labels")
    engine = open_engine("c", Source(model))
    found: dict[str, Any] = {"decision": decision_to_dict(model.hearing.decision, model.config.sample_rate_hz)}
    if data is not None or never_met:
        note("measuring words that are none of the labels")
        found["other_words"] = _other_words(engine, model, data, never_met)
    if streams:
        note("listening to the long recordings")
        found["room"] = _room(engine, model, streams, progress)
    return found


def left_out_words(model: CompiledModel) -> tuple[str, ...]:
    """Return the words that the model's file says its training left out; none where it does not say."""
    training = model.metadata.get("training")
    config = training.get("training") if isinstance(training, dict) else None
    world = config.get("open_world") if isinstance(config, dict) else None
    words = world.get("left_out") if isinstance(world, dict) else None
    return tuple(word for word in words if isinstance(word, str)) if isinstance(words, list) else ()


def _other_words(engine: Engine, model: CompiledModel, data: Path | None, never_met: Sequence[Path]) -> dict[str, Any]:
    """Return {"seen": row, "never_seen": row} of words by whether training met them: of those that it did, clips of
    the testing split, of those that it left out every clip.
    """
    left_out = left_out_words(model)
    seen: list[WordSource] = []
    unseen: list[WordSource] = []
    if data is not None:
        seen.append(own_words(load_known(data, OPEN_SPLIT, model.labels, progress=False), left_out))
        if left_out:
            whole = own_words(load_known(data, ALL, model.labels, progress=False))
            unseen.append(_only(whole, left_out))
    unseen += load_negatives(never_met, model.labels).sources
    return {name: _row(engine, model, sources) for name, sources in (("seen", seen), ("never_seen", unseen))}


def _only(source: WordSource, words: Sequence[str]) -> WordSource:
    kept = np.array([word in words for word in source.words], bool)
    return WordSource(
        source.name, source.samples[kept], tuple(w for w, keep in zip(source.words, kept, strict=True) if keep)
    )


def _row(engine: Engine, model: CompiledModel, sources: Sequence[WordSource]) -> dict[str, Any]:
    """Return how many clips there are, of how many words, and in how many an event was told; by word the worst."""
    rate = model.config.sample_rate_hz
    tail = np.zeros(round(_TAIL_S * rate), np.int16)
    by_word: dict[str, list[int]] = {}
    for source in sources:
        items = [Item(ITEM_STREAM, np.concatenate([clip, tail])) for clip in source.samples]
        for word, results in zip(source.words, engine.run(items), strict=True):
            counts = by_word.setdefault(word, [0, 0])
            counts[0] += 1
            counts[1] += any(result.event[0] >= 0 for result in results)
    clips, taken = (sum(counts[n] for counts in by_word.values()) for n in (0, 1))
    return {
        "words": len(by_word),
        "clips": clips,
        "taken": taken,
        "share": round(taken / clips, _DIGITS) if clips else None,
        "by_word": {word: {"clips": of, "taken": count} for word, (of, count) in _worst(by_word)},
    }


def _worst(by_word: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    """Return the words that are taken for a command most often, _MOST_WORDS at most: a card travels with its model."""
    taken = [(word, counts) for word, counts in by_word.items() if counts[1]]
    return sorted(taken, key=lambda pair: (-pair[1][1] / pair[1][0], pair[0]))[:_MOST_WORDS]


def _room(engine: Engine, model: CompiledModel, folders: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """Return what is heard: false accepts in the recordings without words, where there are such, misses in those with
    words.
    """
    recordings = [one for folder in folders for one in read_streams(folder, model.labels)]
    heard = listen(engine, model, recordings, cores(), progress)
    spoken = [one for one in heard if one.recording.words]
    quiet = [one for one in heard if not one.recording.words] or heard
    false, missed = _told(model, quiet), _told(model, spoken)
    kinds = sorted({one.recording.kind for one in spoken})
    curve = zip(false["curve"], missed["curve"], strict=True)
    return {
        "hours": round(false["hours"], 3),
        "false_accepts": false["false_accepts"],
        "false_accepts_per_hour": _rounded(false["false_accepts_per_hour"]),
        "interval": _ends(false["false_accepts_per_hour_interval"]),
        "by_kind": {
            kind: {
                "hours": round(row["hours"], 3),
                "false_accepts_per_hour": _rounded(row["false_accepts_per_hour"]),
                "interval": _ends(row["interval"]),
            }
            for kind, row in false["by_kind"].items()
        },
        "words": missed["words"],
        "miss_rate": _rounded(missed["miss_rate"]),
        "misses_by_kind": {
            kind: {"words": row["words"], "miss_rate": _rounded(row["miss_rate"])}
            for kind in kinds
            for row in (_told(model, [one for one in spoken if one.recording.kind == kind], curve=False),)
        },
        "latency_s": missed["latency_s"] and {key: round(value, 3) for key, value in missed["latency_s"].items()},
        "curve": [
            {
                "threshold": row["threshold"],
                "false_accepts_per_hour": _rounded(row["false_accepts_per_hour"]),
                "miss_rate": _rounded(words["miss_rate"]),
            }
            for row, words in curve
        ],
    }


def _told(model: CompiledModel, heard: Sequence[Heard], curve: bool = True) -> dict[str, Any]:
    assert model.hearing is not None
    return report(heard, model.hearing.decision, model.labels, model.config.sample_rate_hz, curve)


def _ends(interval: Sequence[float] | None) -> list[float]:
    return [round(end, 2) for end in interval or ()]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def room_limits(found: dict[str, Any]) -> list[str]:
    """Return what was measured, in sentences."""
    lines = []
    for key, what in (("seen", "words that training met as other words"), ("never_seen", "words that it never met")):
        row = found.get("other_words", {}).get(key)
        if row and row["clips"]:
            lines.append(f"Of {row['clips']} clips of {row['words']} {what}, {row['share']:.1%} gave an event.")
    room = found.get("room")
    if room:
        low, high = room["interval"] or (0.0, 0.0)
        misses = f", while {room['miss_rate']:.1%} of {room['words']} words were missed" if room["words"] else ""
        lines.append(
            f"In {room['hours']:.1f} hours of sound it heard {room['false_accepts_per_hour']:.1f} commands an hour "
            f"that nobody spoke (95 %: {low:.1f} to {high:.1f}){misses}."
        )
    return lines


def room_table(found: dict[str, Any]) -> list[str]:
    """Return the open half as lines of text."""
    lines = []
    for key, title in (("seen", "met"), ("never_seen", "never met")):
        row = found.get("other_words", {}).get(key)
        if row and row["clips"]:
            worst = sorted(row["by_word"].items(), key=lambda pair: -pair[1]["taken"] / pair[1]["clips"])[:5]
            named = ", ".join(f"{word} {n['taken']}/{n['clips']}" for word, n in worst if n["taken"])
            lines.append(f"  other words, {title:<9}  {row['share']:>6.1%} of {row['clips']} clips  {named}".rstrip())
    room = found.get("room")
    if not room:
        return lines
    lines.append(f"  false an hour           {room['false_accepts_per_hour']:>6.1f} in {room['hours']:.2f} h")
    for kind, row in room["by_kind"].items():
        low, high = row["interval"] or (0.0, 0.0)
        rate = row["false_accepts_per_hour"] or 0.0
        lines.append(f"    {kind or 'other':<20}  {rate:>6.1f} in {row['hours']:.2f} h ({low:.1f} to {high:.1f})")
    for kind, row in room["misses_by_kind"].items():
        lines.append(f"  missed, {kind or 'words':<14}  {row['miss_rate'] or 0.0:>6.1%} of {row['words']} words")
    return lines
