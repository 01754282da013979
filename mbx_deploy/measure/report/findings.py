"""What the report tells: all that can be measured of a build here, and for the rest what it would need."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbx_deploy.codegen.constants import constant_arrays
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.data.audio import fit_clip
from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.recordings import map_utterances
from mbx_deploy.errors import InputError, MbxError
from mbx_deploy.firmware.folder import Build
from mbx_deploy.measure.evaluate import Options, evaluate_model
from mbx_deploy.measure.items import find_clips
from mbx_deploy.measure.report.sounds import Spectrograms, integer_coefficients, spectrograms, synthetic_sounds
from mbx_deploy.measure.room_card import measure_open_world
from mbx_deploy.measure.verify import Comparison, verify
from mbx_deploy.network.float_network import dequantize_network
from mbx_deploy.quantization.sqnr import Report, measure_layers

SQNR_CLIPS = 64
SYNTHETIC = "synthetic sounds"

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """How well one engine does. Fractions are of 1; None where there were no clips.

    noise: (ratio in dB, None for clean clips; share right) a row; of command words where there are any.
    """

    engine: str
    accuracy: float
    accuracy_interval: tuple[float, float] | None
    command_accuracy: float | None
    command_interval: tuple[float, float] | None
    balanced: float
    noise: tuple[tuple[float | None, float], ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    confusion: np.ndarray


@dataclass(frozen=True)
class Accuracy:
    """Scores of the float and the int8 network. source: what they were measured on, or where they stand.

    without_noise: as Score.noise, of the same recipe trained without noise, in float; empty where nobody measured it.
    """

    source: str
    clips: int
    command_clips: int
    speakers: int
    scores: tuple[Score, ...]
    without_noise: tuple[tuple[float | None, float], ...] = ()

    @property
    def best_known(self) -> Score:
        """Return the score of what runs on the device."""
        return self.scores[-1]


@dataclass(frozen=True)
class Layer:
    """One call: its name, output shape, constants in flash; instructions where they were counted, SQNR in dB.

    kernel: the C function, the counted one where it was.
    """

    name: str
    kernel: str
    shape: tuple[int, int, int]
    bytes: int
    instructions: int | None
    own_db: float | None
    total_db: float | None
    clipped: float


@dataclass(frozen=True)
class Findings:
    """All of it. missing: for what could not be told, a section's name -> why, and what it would need.

    profile: profiling.Profile's dict, None where the firmware can't be counted. room: what was heard in long
    recordings, as room_card.measure_open_world() has it, with where it was measured; None where nobody did.
    """

    model: CompiledModel
    target: str
    target_memory: dict[str, int] | None
    memory: dict[str, Any]
    accuracy: Accuracy | None
    profile: dict[str, Any] | None
    sqnr: Report
    sqnr_source: str
    layers: tuple[Layer, ...]
    sound: str
    spectrograms: Spectrograms
    comparison: Comparison
    missing: dict[str, str]
    room: dict[str, Any] | None = None


def gather(
    build: Build,
    data: Path | None,
    clips: int,
    note: Note = lambda line: None,
    progress: Progress = lambda done, of: None,
    streams: Sequence[Path] = (),
) -> Findings:
    """Return what there is to tell of a build.

    data: a data set whose testing clips, at most so many, accuracy, parity, SQNR and spectrograms are measured on;
    without one they are told of the model's file and of synthetic sounds. streams: folders of long recordings; without
    any the model's file tells what is heard in a room.
    Raises InputError for a damaged build, or data that is missing or has none of the model's words.
    """
    recognizer, missing = build.model, {}
    memory = _read_memory(build.folder)
    if data is not None:
        note("measuring accuracy, clean and in noise, by the generated C and in float")
        accuracy: Accuracy | None = _measure_accuracy(build.folder, data, clips, note)
    else:
        accuracy, why = read_card(recognizer)
        if accuracy is None:
            missing["accuracy"] = why
    if accuracy is not None and len(accuracy.best_known.noise) < 2:
        missing["noise"] = "There is no background noise (_background_noise_) in the data."
    room = _room(build, streams, note)
    if room is None:
        missing["room"] = "Nobody measured what it hears in a room."
    heard = find_clips(data, clips) if data is not None else []
    sounds, sound = _sounds(recognizer, heard[:SQNR_CLIPS])
    note("counting instructions")
    try:
        profile = _profile(build)
    except MbxError as error:
        profile, missing["instructions"] = None, _sentence(error).replace(str(build.folder), build.folder.name)
    note("measuring the error of each layer")
    coefficients = integer_coefficients(sounds, recognizer.tables)
    network, unit = recognizer.network, recognizer.tables.unit
    sqnr = measure_layers(network, dequantize_network(network), coefficients, unit)
    note("comparing the engines")
    comparison = verify(build, heard, progress=progress)
    return Findings(
        model=recognizer,
        target=build.target.name,
        target_memory=vars(build.target.memory) if build.target.memory else None,
        memory=memory,
        accuracy=accuracy,
        profile=profile,
        sqnr=sqnr,
        sqnr_source=f"{len(sounds)} {'recordings' if heard else SYNTHETIC}",
        layers=_layers(build, profile, sqnr),
        sound=sound,
        spectrograms=spectrograms(sounds[0], recognizer.tables),
        comparison=_without_folders(comparison, build.folder, data),
        missing=missing,
        room=room,
    )


def _room(build: Build, streams: Sequence[Path], note: Note) -> dict[str, Any] | None:
    """Return what was heard in long recordings: measured now, or as the card of the model's file says."""
    if streams:
        found = measure_open_world(build.folder / "model.tflite", streams=streams, note=note)["room"]
        return {**found, "source": "measured for this page"}
    card = build.model.metadata.get("card")
    found = card.get("open_world", {}).get("room") if isinstance(card, dict) else None
    try:
        if found is None:
            return None
        for row in found["curve"]:
            _share(row["threshold"]), _share(row["false_accepts_per_hour"]), _share(row["miss_rate"])
        hours, rate = float(found["hours"]), float(found["false_accepts_per_hour"])
        kinds = {
            str(kind): {
                "hours": float(row["hours"]),
                "false_accepts_per_hour": _share(row["false_accepts_per_hour"]),
                "interval": _interval(row["interval"] or None),
            }
            for kind, row in found["by_kind"].items()
        }
        return {
            "hours": hours,
            "false_accepts_per_hour": rate,
            "interval": _interval(found["interval"] or None),
            "words": int(found["words"]),
            "miss_rate": _share(found["miss_rate"]),
            "by_kind": kinds,
            "curve": found["curve"],
            "source": "as the model's file says",
        }
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        return None


def _read_memory(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "memory_report.json").read_text(encoding="utf-8"))
        for key in ("arena", "calls", "ram", "flash", "compiled"):
            found[key]
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", "build it again") from None


def _sounds(recognizer: CompiledModel, heard: Sequence[Utterance]) -> tuple[np.ndarray, str]:
    """Return clips, int16 (n, clip_samples), and the name of the first."""
    config = recognizer.config
    if not heard:
        return synthetic_sounds(config), "a synthetic sweep"
    read = map_utterances(
        heard, lambda _, __, samples: fit_clip(samples, config.clip_samples), sample_rate_hz=config.sample_rate_hz
    )
    return np.stack(read), _written(heard[0].name)


def _inside(path: Path, folder: Path) -> str:
    """Return a path below a folder as text that can be written: names may hold bytes that are no UTF-8."""
    return _written(str(path.relative_to(folder) if path.is_relative_to(folder) else path.name))


def _written(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _without_folders(comparison: Comparison, folder: Path, data: Path | None) -> Comparison:
    """Return the comparison, what it names told without folders above: the page is the same wherever it is made."""
    comparison.skipped = {name: why.replace(str(folder), folder.name) for name, why in comparison.skipped.items()}
    if comparison.first_mismatch and data is not None:
        comparison.first_mismatch["clip"] = _inside(Path(comparison.first_mismatch["clip"]), data)
    return comparison


def _profile(build: Build) -> dict[str, Any]:
    from mbx_deploy.measure.profile.profile import profile_build

    return profile_build(build).to_dict()


def _sentence(error: MbxError) -> str:
    text = error.what[:1].upper() + error.what[1:]
    return f"{text}." if not error.hint else f"{text}. {error.hint[:1].upper()}{error.hint[1:]}."


def _layers(build: Build, profile: dict[str, Any] | None, sqnr: Report) -> tuple[Layer, ...]:
    recognizer, program = build.model, build.model.program
    plan = build.model.plan
    planned = [0] * len(program.calls)
    for array in constant_arrays(recognizer, plan, "kws"):
        planned[int(array.name.rsplit("_", 1)[1])] += array.size_bytes
    counted = {layer["name"]: layer for layer in profile["layers"]} if profile else {}
    errors = {layer.name: layer for layer in sqnr.layers}
    layers = []
    for call, kernel, constants in zip(program.calls, plan.kernels, planned, strict=True):
        found, error = counted.get(call.name), errors.get(call.name)
        layers.append(
            Layer(
                name=call.name,
                kernel=found["kernel"] if found else kernel.name,
                shape=program.buffers[call.output].shape,
                bytes=found["bytes"] if found else constants,
                instructions=found["instructions"] if found else None,
                own_db=error.own_db if error else None,
                total_db=error.total_db if error else None,
                clipped=error.clipped if error else 0.0,
            )
        )
    return tuple(layers)


def _measure_accuracy(folder: Path, data: Path, clips: int, note: Note) -> Accuracy:
    reports = []
    for engine in ("float", "c"):
        options = Options(engine=engine, clips=clips, noisy=clips)
        reports.append(evaluate_model(str(folder), data, options, note if engine == "c" else lambda line: None))
    labels = tuple(reports[0]["labels"])
    scores = tuple(
        _score(name, report, report["snr"], labels) for name, report in zip(("float", "int8"), reports, strict=True)
    )
    first = reports[1]
    source = f"measured for this page on testing clips of {_inside(data, data.parent)}"
    return Accuracy(source, first["clips"], first["command_clips"], first["speakers"], scores)


def read_card(recognizer: CompiledModel) -> tuple[Accuracy | None, str]:
    """Return what the card in a model's file says, or None and why not: the file is others' data."""
    card = recognizer.metadata.get("card")
    if not card or (isinstance(card, dict) and "open_world" in card and "int8" not in card):
        return None, "The model's file holds no confusion matrix and no noise table."
    try:
        if tuple(card["labels"]) != recognizer.labels:
            raise ValueError("the card is of other labels")
        scores = [_score(kind, card[kind], card[kind]["noise"], recognizer.labels) for kind in ("float", "int8")]
        source = f"as the model's file says, on the {card['split']} clips of its data"
        clips, command_clips, speakers = (int(card[key]) for key in ("clips", "command_clips", "speakers"))
        without = _noise_rows((card.get("without_noise_training") or {"noise": []})["noise"])
        without = without if [ratio for ratio, _ in without] == [ratio for ratio, _ in scores[0].noise] else ()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        return None, "The card in the model's file can't be read."
    return Accuracy(source, clips, command_clips, speakers, tuple(scores), without), ""


def _score(engine: str, found: dict[str, Any], noise: list[dict[str, Any]], labels: Sequence[str]) -> Score:
    confusion = np.array(found["confusion"], dtype=np.int64)
    if confusion.shape != (len(labels), len(labels)):
        raise ValueError("a confusion matrix of another size")
    return Score(
        engine=engine,
        accuracy=float(found["accuracy"]),
        accuracy_interval=_interval(found.get("accuracy_interval")),
        command_accuracy=_share(found.get("command_accuracy")),
        command_interval=_interval(found.get("command_accuracy_interval")),
        balanced=float(found["balanced_accuracy"]),
        noise=_noise_rows(noise),
        precision=tuple(_share(found["precision"][label]) for label in labels),
        recall=tuple(_share(found["recall"][label]) for label in labels),
        confusion=confusion,
    )


def _noise_rows(rows: Sequence[dict[str, Any]]) -> tuple[tuple[float | None, float], ...]:
    return tuple((_share(row["snr_db"]), _row_share(row)) for row in rows)


def _row_share(row: dict[str, Any]) -> float:
    words = row.get("command_accuracy")
    return float(row["accuracy"] if words is None else words)


def _share(value: Any) -> float | None:
    return None if value is None else float(value)


def _interval(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))
