"""The model card: what was measured of a model, with its limits, as it travels in the artifact's metadata.

Source: M. Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.data.accuracy import spread
from mbx_deploy.data.dataset import SILENCE, UNKNOWN
from mbx_deploy.measure.evaluate import Options, evaluate_model
from mbx_deploy.measure.room_card import room_limits, room_table

CARD_FORMAT = "mbx-deploy-card-1"
_DIGITS = 4
_ACCURACIES = ("command_accuracy", "balanced_accuracy", "accuracy")

_GENERAL = (
    "It names one word in a window and knows no others than its labels; it does not follow running speech.",
    "Voices, accents and microphones that the data set lacks were not measured.",
)
# What cards of older files say of words that training had met.
_CLOSED_UNKNOWN = "words that are none of its labels"

Note = Callable[[str], None]


def build_card(
    artifact: Path,
    checkpoint: Path,
    data: Path,
    other_seeds: Sequence[Path] = (),
    without_noise: Path | None = None,
    note: Note = lambda line: None,
) -> dict[str, Any]:
    """Return the card of an artifact, as JSON takes it: plain values, fractions rounded to 1e-4.

    Everything is measured on the testing split. checkpoint: the float model that the artifact was made from.
    other_seeds: checkpoints of the same configuration and other seeds; with the checkpoint they give mean and spread.
    without_noise: a checkpoint trained without noise: what the noise costs on clean clips, and what it gains.
    Raises InputError for data or models that cannot be measured, ToolMissing without a C compiler.
    """

    def measured(model: Path, engine: str) -> dict[str, Any]:
        note(f"measuring {model.name} by the engine {engine}, clean and in noise")
        return evaluate_model(str(model), data, Options(engine=engine), note)

    in_float, in_int8 = measured(checkpoint, "float"), measured(artifact, "c")
    card: dict[str, Any] = {
        "format": CARD_FORMAT,
        "split": "testing",
        "clips": in_int8["clips"],
        "command_clips": in_int8["command_clips"],
        "speakers": in_int8["speakers"],
        "noise_seed": in_int8["noise_seed"],
        "labels": in_int8["labels"],
        "float": _compact(in_float),
        "int8": _compact(in_int8),
        "limits": _limits(in_int8),
    }
    if other_seeds:
        reports = [in_float, *(measured(path, "float") for path in other_seeds)]
        card["seeds"] = {"seeds": [_seed(path) for path in (checkpoint, *other_seeds)], **_spread(reports)}
    if without_noise:
        report = measured(without_noise, "float")
        card["without_noise_training"] = {name: round(report[name], _DIGITS) for name in _ACCURACIES} | {
            "noise": _noise(report)
        }
    return card


def _compact(report: dict[str, Any]) -> dict[str, Any]:
    kept = {name: round(report[name], _DIGITS) for name in _ACCURACIES if report[name] is not None}
    for name in ("command_accuracy_interval", "accuracy_interval"):
        if report[name] is not None:
            kept[name] = [round(end, _DIGITS) for end in report[name]]
    for name in ("recall", "precision"):
        kept[name] = {label: None if v is None else round(v, _DIGITS) for label, v in report[name].items()}
    return {**kept, "confusion": report["confusion"], "noise": _noise(report)}


def _noise(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the noise table; its first row, snr_db None, is of the clean clips."""
    return [
        {
            "snr_db": row["snr_db"],
            **{name: round(row[name], _DIGITS) for name in _ACCURACIES if row[name] is not None},
        }
        for row in report["snr"]
    ]


def _spread(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def of(values: Sequence[float]) -> dict[str, float]:
        return {key: round(value, _DIGITS) for key, value in spread(values).items()}

    return {
        **{name: of([report[name] for report in reports]) for name in _ACCURACIES if reports[0][name] is not None},
        "noise": [
            {"snr_db": rows[0]["snr_db"], "accuracy": of([row["accuracy"] for row in rows])}
            | (
                {}
                if rows[0]["command_accuracy"] is None
                else {"command_accuracy": of([row["command_accuracy"] for row in rows])}
            )
            for rows in zip(*(report["snr"] for report in reports), strict=True)
        ],
    }


def _seed(path: Path) -> int | None:
    from mbx_deploy.train.checkpoint import load_checkpoint

    seed = load_checkpoint(path)[1].provenance.get("training", {}).get("seed")
    return seed if isinstance(seed, int) else None


def _limits(report: dict[str, Any]) -> list[str]:
    """Return what the model can't do, in sentences, with the numbers that say so."""
    labels, confusion = report["labels"], np.array(report["confusion"])
    words = [i for i, label in enumerate(labels) if label not in (UNKNOWN, SILENCE)]
    lines = list(_GENERAL)
    # Of the data's other words training met some of each: what a word does that it never met, room_card.py measures.
    if SILENCE in labels and confusion[labels.index(SILENCE)].sum():
        row = confusion[labels.index(SILENCE)]
        share = row[words].sum() / row.sum()
        lines.append(f"Of {row.sum()} clips without speech, {share:.1%} were taken for a command word.")
    worst = min(report["snr"], key=lambda row: row["accuracy"])
    if worst["snr_db"] is not None:
        found = worst["command_accuracy"] if worst["command_accuracy"] is not None else worst["accuracy"]
        lines.append(
            f"In background noise of {worst['snr_db']:g} dB signal to noise it names {found:.1%} of the words."
        )
    return lines


def render_card(name: str, metadata: dict[str, Any]) -> str:
    """Return the card of a model as text, from its file's metadata; what the file does not say is left out."""
    card = metadata.get("card") or {}
    training = metadata.get("training") or {}
    lines = [name, f"  labels     {', '.join(metadata.get('labels', []))}"]
    if training.get("data_source"):
        lines.append(f"  data       {training['data_source']}")
    for split, found in (training.get("splits") or {}).items():
        lines.append(f"             {split}: {found['clips']} clips of {found['speakers']} speakers")
    if not card:
        return "\n".join([*lines, "  no measurements in the file"])
    if "clips" in card:
        lines += _closed_half(card)
    if "open_world" in card:
        lines += ["", *room_table(card["open_world"])]
    return "\n".join([*lines, "", "  limits", *(f"    {line}" for line in card["limits"])])


def with_open_world(metadata: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return a model's metadata whose card holds what measure_open_world() found, and says so among its limits."""
    card = dict(metadata.get("card") or {"format": CARD_FORMAT, "limits": list(_GENERAL)})
    before = set(room_limits(card.get("open_world") or {}))
    kept = [line for line in card.get("limits", []) if line not in before and _CLOSED_UNKNOWN not in line]
    return {**metadata, "card": {**card, "open_world": found, "limits": [*kept, *room_limits(found)]}}


def _closed_half(card: dict[str, Any]) -> list[str]:
    """Return what was measured among the labels alone, as lines."""
    lines = [f"             testing: {card['clips']} clips of {card['speakers']} speakers, none of them in training"]
    for kind in ("float", "int8"):
        lines.append(f"  {kind:<9}  {_accuracy_line(card[kind])}")
    if "seeds" in card:
        found = card["seeds"].get("command_accuracy") or card["seeds"]["accuracy"]
        seeds = ", ".join("?" if seed is None else str(seed) for seed in card["seeds"]["seeds"])
        lines.append(
            f"  seeds      {seeds} in float: {found['mean']:.1%} on average, standard deviation {found['std']:.2%}, "
            f"{found['least']:.1%} to {found['most']:.1%}"
        )
    return [*lines, "", *_noise_table(card), "", *_confusion_table(card)]


def _accuracy_line(found: dict[str, Any]) -> str:
    parts = []
    if "command_accuracy" in found:
        low, high = found["command_accuracy_interval"]
        parts.append(f"command words {found['command_accuracy']:.1%} (95 %: {low:.1%} to {high:.1%})")
    return ", ".join(
        [*parts, f"all clips {found['accuracy']:.1%}", f"mean of recalls {found['balanced_accuracy']:.1%}"]
    )


def _noise_table(card: dict[str, Any]) -> list[str]:
    columns = [("float", card["float"]["noise"]), ("int8", card["int8"]["noise"])]
    if "without_noise_training" in card:
        columns.append(("float, trained without noise", card["without_noise_training"]["noise"]))
    lines = ["  noise      " + "   ".join(f"{name:>7}" for name, _ in columns)]
    for rows in zip(*(table for _, table in columns), strict=True):
        ratio = "clean" if rows[0]["snr_db"] is None else f"{rows[0]['snr_db']:g} dB"
        shares = (row.get("command_accuracy", row["accuracy"]) for row in rows)
        cells = (f"{share:>{max(7, len(head))}.1%}" for share, (head, _) in zip(shares, columns, strict=True))
        lines.append(f"  {ratio:<9}  " + "   ".join(cells))
    return lines


def _confusion_table(card: dict[str, Any]) -> list[str]:
    labels = card["labels"]
    width = max(map(len, labels))
    lines = ["  int8: a row is what was said, a column what was answered"]
    lines.append(f"  {'':<{width}}" + "".join(f"{label[:7]:>8}" for label in labels))
    for label, row in zip(labels, card["int8"]["confusion"], strict=True):
        lines.append(f"  {label:<{width}}" + "".join(f"{count or '.':>8}" for count in row))
    return lines
