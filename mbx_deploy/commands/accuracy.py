"""Commands on accuracy: how well a model does, and whether it still does."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mbx_deploy.commands.console import (
    DATA_SET,
    FORWARD_OPTION,
    MAX_FLASH_OPTION,
    MAX_INSTRUCTIONS_OPTION,
    MAX_RAM_OPTION,
    Progress,
    note,
    tell_passed_over,
)
from mbx_deploy.engines.open import BUILD, MODEL, engine_names

if TYPE_CHECKING:
    _RatiosType = click.ParamType[str | tuple[float, ...]]
else:  # generic from click 8.3 on
    _RatiosType = click.ParamType

MEASURED_ENGINES = click.Choice(engine_names(MODEL, BUILD))
POINTS = click.FloatRange(0.0, 100.0)
SPLIT_CHOICES = click.Choice(["training", "validation", "testing", "all"])


class RatiosType(_RatiosType):
    """Decibels with commas between them, or all, or none."""

    name = "all|none|DB,DB,..."

    def convert(
        self, value: str | tuple[float, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[float, ...]:
        """Return "all", or the ratios in dB; none are ()."""
        if not isinstance(value, str) or value == "all":
            return value
        if value == "none":
            return ()
        try:
            ratios = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not all, none, or numbers with commas between them", param, ctx)
        if not all(-60.0 <= ratio <= 100.0 for ratio in ratios) or len(set(ratios)) != len(ratios):
            self.fail(f"{value!r} is not a list of different ratios from -60 to 100 dB", param, ctx)
        return ratios


@click.command()
@click.argument("model", metavar="MODEL|BUILD")
@click.argument("other", required=False)
@click.option("--data", type=click.Path(path_type=Path), help=f"{DATA_SET}.")
@click.option(
    "--stream",
    "streams",
    type=click.Path(path_type=Path),
    help="Long recordings, with label tracks or without: false accepts an hour, misses, latency.",
)
@click.option("--wrong", type=click.Path(path_type=Path), help="Write what was heard wrong there, to listen to.")
@click.option("--engine", type=MEASURED_ENGINES, help="Default: c; of a .pt: float.")
@click.option("--split", type=SPLIT_CHOICES, default="testing", show_default=True, help="Which of the data's clips.")
@click.option("--clips", type=click.IntRange(1), help="Clips at most, evenly spread. Default: all.")
@click.option(
    "--snr",
    type=RatiosType(),
    default="all",
    show_default=True,
    help="Ratios of speech to background noise in dB, say 10,0. all: 20, 10, 5, 0, -5, -10.",
)
@click.option(
    "--snr-clips",
    type=click.IntRange(1),
    help="Clips at most under each noise. Default: all; with sim, tflm and firmware, which are slow, 500.",
)
@click.option("--target", help="What a MODEL is built for with --engine firmware. Default: cortex-m4.")
@FORWARD_OPTION
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file, too.")
def evaluate(
    model: str,
    other: str | None,
    data: Path | None,
    streams: Path | None,
    wrong: Path | None,
    engine: str | None,
    split: str,
    clips: int | None,
    snr: str | tuple[float, ...],
    snr_clips: int | None,
    target: str | None,
    forward: str | None,
    json_path: Path | None,
) -> None:
    """Measure a model's accuracy on recordings: by class, in noise, with its interval, and the engine's speed.

    With OTHER, a second model, both are measured on the same clips and compared.
    MODEL: a .tflite, a .nemo, a shipped model's name, or for --engine float a .pt. BUILD: a folder that `build` wrote;
    --engine c and firmware run its own C.
    """
    from mbx_deploy.measure import evaluate as evaluator
    from mbx_deploy.measure.comparison import compare_reports, render_comparison
    from mbx_deploy.system.files import check_file, check_folder, write_file

    if (data is None) == (streams is None):
        raise click.UsageError("need either --data, clips of words, or --stream, long recordings.")
    if other is not None and (streams is not None or wrong is not None):
        raise click.UsageError("two models are compared on clips (--data), and --wrong is of one.")
    if wrong is not None:
        check_folder(wrong)
    if json_path:
        check_file(json_path)
    if streams is not None:
        from mbx_deploy.measure import listening

        heard = listening.evaluate_streams(model, streams, engine, forward, wrong, note, Progress("evaluate"))
        click.echo(listening.render(heard))
        if json_path:
            write_file(json_path, json.dumps(heard, indent=2, sort_keys=True) + "\n")
        return
    assert data is not None
    tell_passed_over(data)
    options = evaluator.Options(engine, split, clips, None if isinstance(snr, str) else snr, snr_clips, target, forward)
    report = evaluator.evaluate_model(model, data, options, note, Progress("evaluate"), wrong)
    click.echo(evaluator.render(report))
    if other is not None:
        second = evaluator.evaluate_model(other, data, options, note, Progress("evaluate"))
        compared = compare_reports(report, second)
        click.echo("\n".join(["", evaluator.render(second), "", render_comparison(compared)]))
        report = {"reports": [report, second], "comparison": compared}
    if json_path:
        write_file(json_path, json.dumps(report, indent=2, sort_keys=True) + "\n")


@click.command()
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help=f"{DATA_SET}: its words that are no labels.")
@click.option(
    "--streams",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of long recordings, with labels or without. Again for each.",
)
@click.option(
    "--never-met",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of words, a folder a word, that training never met. Again for each.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .tflite to write, with the card in it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write what was measured to this file, too.")
def card(
    model: str,
    data: Path | None,
    streams: tuple[Path, ...],
    never_met: tuple[Path, ...],
    output: Path | None,
    json_path: Path | None,
) -> None:
    """Measure what a model's card owes: words that training met and never met, false accepts an hour by kind, misses.

    MODEL: a .tflite or a shipped model's name. Events are counted, by the decision that the model carries.
    """
    from mbx_deploy.errors import InputError
    from mbx_deploy.measure.card import render_card, with_open_world
    from mbx_deploy.measure.room_card import measure_open_world
    from mbx_deploy.network.metadata import read_metadata, write_metadata
    from mbx_deploy.system.files import check_file, write_file
    from mbx_deploy.system.resources import resolve_model

    if data is None and not streams and not never_met:
        raise InputError("nothing to measure: got no folder, need --data, --streams or --never-met")
    for path in (output, json_path):
        if path:
            check_file(path)
    artifact = resolve_model(model)
    tell_passed_over(data)
    found = measure_open_world(artifact, data, streams, never_met, note, Progress("card"))
    content = artifact.read_bytes()
    metadata = with_open_world(read_metadata(content) or {}, found)
    click.echo(render_card(artifact.stem, metadata))
    if output:
        write_file(output, write_metadata(content, metadata))
    if json_path:
        write_file(json_path, json.dumps(found, indent=2, sort_keys=True) + "\n")


@click.command()
@click.argument("model")
@click.option("--positives", required=True, type=click.Path(path_type=Path), help="Streams of words with label tracks.")
@click.option("--negatives", required=True, type=click.Path(path_type=Path), help="Long recordings without the words.")
@click.option(
    "--false-accepts-per-hour",
    type=click.FloatRange(0.0, 10_000.0),
    default=1.0,
    show_default=True,
    help="That may be.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .tflite to write, with the rule in it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file, too.")
def tune(
    model: str,
    positives: Path,
    negatives: Path,
    false_accepts_per_hour: float,
    output: Path | None,
    json_path: Path | None,
) -> None:
    """Find when a word counts: smoothing, rows, a threshold a word, for a rate of false accepts.

    Half of the recordings tune, the other half tells what the rule is worth.
    """
    from mbx_deploy.measure import listening, tuning
    from mbx_deploy.system.files import check_file, write_file

    for path in (output, json_path):
        if path:
            check_file(path)
    found = tuning.tune(model, positives, negatives, false_accepts_per_hour, output, note, Progress("tune"))
    labels = listening.open_listener(model, "sim", None, lambda line: None)[1].labels
    click.echo(tuning.render_tuning(found, labels))
    if json_path:
        write_file(json_path, json.dumps(found, indent=2, sort_keys=True) + "\n")


@click.command()
@click.argument("model", metavar="MODEL|BUILD")
@click.option("--baseline", required=True, type=click.Path(path_type=Path), help="The JSON file to compare with.")
@click.option("--data", type=click.Path(path_type=Path), help=f"{DATA_SET}. Default: the baseline's.")
@click.option("--update", is_flag=True, help="Measure, and write the baseline. Its margins and budgets stay.")
@click.option("--allow-changed-bytes", is_flag=True, help="Accuracy and budgets decide: the model was trained anew.")
@click.option("--skip-accuracy", is_flag=True, help="Compare bytes and sizes only.")
@click.option("--margin", type=POINTS, help="Points that accuracy may fall. Default: the baseline's; of a new one 0.5.")
@click.option("--float-margin", type=POINTS, help="Points that int8 may stray from float. Of a new baseline 1.")
@MAX_FLASH_OPTION
@MAX_RAM_OPTION
@MAX_INSTRUCTIONS_OPTION
@click.option("--streams", type=click.Path(path_type=Path), help="Long recordings. Default: the baseline's.")
@click.option("--max-false-accepts", type=click.FloatRange(0.0), help="An hour, in the long recordings.")
@click.option("--max-misses", type=POINTS, help="Of the words in the long recordings, in points.")
@click.option("--target", help="With --update: what the model is built for. Of a new baseline cortex-m4.")
@click.option("--split", type=SPLIT_CHOICES, help="With --update: which of the data's clips. Of a new one testing.")
@click.option("--clips", type=click.IntRange(1), help="With --update: clips at most, evenly spread. Of a new one all.")
@FORWARD_OPTION
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file, too.")
def regress(
    model: str,
    baseline: Path,
    data: Path | None,
    update: bool,
    allow_changed_bytes: bool,
    skip_accuracy: bool,
    margin: float | None,
    float_margin: float | None,
    max_flash: int | None,
    max_ram: int | None,
    max_instructions: int | None,
    streams: Path | None,
    max_false_accepts: float | None,
    max_misses: float | None,
    target: str | None,
    split: str | None,
    clips: int | None,
    forward: str | None,
    json_path: Path | None,
) -> None:
    """Compare a model with its baseline: bytes, accuracy, float, flash, RAM, instructions, and false accepts and misses
    in long recordings; exit 1 where it fell behind.

    MODEL: a .tflite, a .nemo or a shipped model's name. BUILD: a folder that `build` wrote, its own C is run.
    """
    from mbx_deploy.firmware.budgets import Budgets
    from mbx_deploy.measure import regress as regression
    from mbx_deploy.measure.stream_budgets import HeardBudgets
    from mbx_deploy.system.files import check_file, write_file

    if json_path:
        check_file(json_path)
    request = regression.Request(
        model=model,
        baseline=baseline,
        data=data,
        update=update,
        target=target,
        split=split,
        clips=clips,
        accuracy_margin=None if margin is None else margin / 100.0,
        float_margin=None if float_margin is None else float_margin / 100.0,
        budgets=Budgets(max_flash, max_ram, max_instructions),
        streams=streams,
        heard=HeardBudgets(max_false_accepts, None if max_misses is None else max_misses / 100.0),
        allow_changed_bytes=allow_changed_bytes,
        skip_accuracy=skip_accuracy,
        forward=forward,
    )
    tell_passed_over(data)
    outcome = regression.regress(request, note, Progress("regress"))
    click.echo(regression.render(outcome, request))
    if json_path:
        write_file(json_path, json.dumps(outcome.to_dict(), indent=2) + "\n")
    if not outcome.passed:
        sys.exit(1)
