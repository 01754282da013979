"""An Inspection as text for a terminal."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mbx_deploy.data.corpus import SPLITS
from mbx_deploy.data.inspection import Inspection

SHOWN = 10  # names in a list; --json has them all
_DIVIDED_BY = {
    "lists": "its lists",
    "manifests": "its manifests",
    "listed": "its lists",
    "speakers": "speakers",
    "recordings": "recordings",
    "hash": "the official hash rule",
}


def render_inspection(found: Inspection) -> str:
    """Return the tables, then what is noteworthy, then what is wrong."""
    return "\n".join([*_tables(found), "", *_levels(found), "", *_remarks(found), *_faults(found)])


def _tables(found: Inspection) -> list[str]:
    width = max([len(label) for label in found.labels] + [len("without speaker")])
    rows: list[tuple[str, ...]] = [("label", *SPLITS)]
    rows += [(label, *(str(counts[split]) for split in SPLITS)) for label, counts in found.labels.items()]
    for title, key in (("clips", "clips"), ("speakers", "speakers"), ("without speaker", "without_speaker")):
        rows.append((title, *(str(found.splits[split][key]) for split in SPLITS)))
    rows.append(("minutes", *(f"{found.splits[split]['seconds'] / 60:.1f}" for split in SPLITS)))
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows]
    rule = "-" * len(lines[0])
    return [
        f"{found.source}: divided by {_DIVIDED_BY[found.kind]}",
        "",
        *lines[:1],
        rule,
        *lines[1:-4],
        rule,
        *lines[-4:],
    ]


def _levels(found: Inspection) -> list[str]:
    if not found.length_s:
        return ["no clip can be read"]
    lines = ["at 16 kHz mono      min       5 %    median      95 %       max"]
    for title, values, digits in (
        ("length, s", found.length_s, 3),
        ("RMS, dBFS", found.rms_dbfs, 1),
        ("peak, dBFS", found.peak_dbfs, 1),
    ):
        if values:
            lines.append(f"{title:<13}" + "".join(f"{value:10.{digits}f}" for value in values.values()))
    return lines


def _remarks(found: Inspection) -> list[str]:
    lines = [
        f"{found.shorter_than_a_second} shorter than a second, {found.longer_than_a_second} longer",
        f"background noise: {found.noise['files']} files, {found.noise['seconds']:g} s",
    ]
    lines += [f"{count} {note}" for note, count in sorted(found.conversions.items())]
    if found.repeated:
        lines.append(f"{found.repeated} named again in the same split")
    if found.ignored:
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in found.ignored).most_common()
        lines.append(f"{len(found.ignored)} other files ignored: " + ", ".join(f"{n} {kind}" for kind, n in kinds))
    lines += [f"NOTE: {line}" for line in found.passed_over]
    lines += _listed("digital silence", found.silent)
    lines += _listed("clipped", found.clipped)
    lines += _listed("end before their line says", found.overlong)
    lines += _listed("sounds that are there more than once", [" = ".join(group) for group in found.duplicates])
    lines += _listed("sounds under two labels", [" = ".join(group) for group in found.conflicts])
    lines += _listed("labels without a recording", found.empty_labels)
    lines += _listed("labels in the testing split only", found.labels_only_in_testing)
    return lines


def _faults(found: Inspection) -> list[str]:
    leaks = [f"{speaker}: {', '.join(splits)}" for speaker, splits in found.speaker_leaks.items()]
    return [
        *_listed("WRONG, speakers in two splits", leaks),
        *_listed("WRONG, sounds in two splits", [" = ".join(group) for group in found.audio_leaks]),
        *_listed("WRONG, files that cannot be read", [f"{name}: {why}" for name, why in found.broken.items()]),
        "sound: nothing is broken, nothing leaks between the splits" if found.sound else "not sound: see WRONG above",
    ]


def _listed(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    rest = [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return [f"{title}: {len(names)}", *(f"  {name}" for name in names[:SHOWN]), *rest]
