"""Commands from data to an int8 model: train, fine-tune, quantize, look at its error."""

from pathlib import Path

import click

from mbx_deploy.commands.console import (
    DATA_SET,
    FORWARD_OPTION,
    JSON_OPTION,
    Progress,
    note,
    print_json,
    say,
    summary_lines,
    tell_passed_over,
)


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="A .toml or .yaml of training keys. Default: ours.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help=f"{DATA_SET}.")
@click.option(
    "--negatives",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of what is no command: other words, a folder a word, and long recordings. Again for each.",
)
@click.option("--words", help="The commands, with commas between them, instead of the configuration's labels.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The run's folder.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the configuration's.")
@click.option("--seed", type=click.IntRange(0), help="Instead of the configuration's.")
@click.option("--resume/--restart", default=True, show_default=True, help="Go on where a run in the folder stopped.")
@click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, gpu, ... as Lightning names them.")
@click.option("--devices", type=click.IntRange(1), help="Processes, one a device. Default: all GPUs, or the CPU.")
@click.option("--num-nodes", default=1, show_default=True, type=click.IntRange(1), help="Machines.")
@click.option("--precision", default="32-true", show_default=True, help="16-mixed, bf16-mixed, 32-true, ...")
@JSON_OPTION
def train(
    config: Path | None,
    data: Path,
    negatives: tuple[Path, ...],
    words: str | None,
    output: Path,
    epochs: int | None,
    seed: int | None,
    resume: bool,
    accelerator: str,
    devices: int | None,
    num_nodes: int,
    precision: str,
    as_json: bool,
) -> None:
    """Train MatchboxNet; writes OUTPUT/model.pt. Ctrl-C stops it, the same line goes on."""
    from mbx_deploy.commands.torch_runs import run_training
    from mbx_deploy.data.protocols import SILENCE, UNKNOWN

    labels = None if words is None else [*(word.strip() for word in words.split(",")), UNKNOWN, SILENCE]
    given = (("epochs", epochs), ("seed", seed), ("labels", labels))
    overrides = {key: value for key, value in given if value is not None}
    tell_passed_over(data)
    engine = {"accelerator": accelerator, "num_nodes": num_nodes, "precision": precision, "devices": devices or "auto"}
    summary = run_training(config, overrides, data, output, resume, engine, negatives)
    if not summary:  # one of several processes: the first one tells
        return
    if as_json:
        print_json(summary)
        return
    for line in summary_lines(summary):
        click.echo(line)


@click.command()
@click.option(
    "--from",
    "base",
    required=True,
    type=click.Path(path_type=Path),
    help="The .pt, .nemo or .tflite to begin from, or a shipped model's name.",
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help=f"{DATA_SET}.")
@click.option("--words", required=True, help="The new words, with commas between them.")
@click.option("--clips", type=click.IntRange(1), help="Recordings of a word at most. Default: all.")
@click.option(
    "--negatives",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of what is no word of the model: other words, long recordings. Again for each.",
)
@click.option("--streaming", is_flag=True, help="Make a streaming model of a windowed one.")
@click.option("--only-words", is_flag=True, help="Learn neither unknown nor silence: every sound will be a word.")
@click.option(
    "--split-by",
    type=click.Choice(["auto", "speaker", "recording"]),
    default="auto",
    show_default=True,
    help="What cross-validation holds out. auto: speakers, where there are enough.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .pt file to write.")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="Of each fold and of the whole. Default: 40.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of all that is drawn.")
@JSON_OPTION
def finetune(
    base: Path,
    data: Path,
    words: str,
    clips: int | None,
    negatives: tuple[Path, ...],
    streaming: bool,
    only_words: bool,
    split_by: str,
    output: Path,
    epochs: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Teach a trained checkpoint other words, from a few dozen recordings of each, and say how sure the result is."""
    from mbx_deploy.commands.torch_runs import run_finetuning

    chosen = tuple(word.strip() for word in words.split(","))
    tell_passed_over(data)
    bars: dict[str, Progress] = {}

    def progress(what: str, done: int, of: int) -> None:
        bars.setdefault(what, Progress(what))(done, of)

    report = run_finetuning(
        base,
        data,
        chosen,
        clips,
        output,
        seed,
        say,
        streaming,
        negatives,
        only_words,
        split_by,
        epochs,
        progress,
    )
    if as_json:
        print_json(report)
        return
    low, high = report["interval"]
    click.echo(
        f"{report['accuracy']:.1%} by cross-validation over {report['speakers']} {report['split_by']}s "
        f"(95 %: {low:.1%} to {high:.1%})"
    )
    if report["testing"] is not None:
        low, high = report["testing_interval"]
        click.echo(
            f"{report['testing']:.1%} of {report['testing_clips']} clips for testing (95 %: {low:.1%} to {high:.1%})"
        )
    click.echo(f"model: {output}")


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help=f"{DATA_SET}: what it was trained on.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .tflite file to write.")
@click.option(
    "--ranges",
    type=click.Choice(["auto", "minmax", "percentile", "mse"]),
    default="auto",
    show_default=True,
    help="Rule for the activations' ranges. auto: the best on the validation list.",
)
@click.option("--qat", is_flag=True, help="Fine-tune for int8 where the best ranges lose more than the margin.")
@click.option("--qat-epochs", default=2, show_default=True, type=click.IntRange(1), help="Of fine-tuning.")
@click.option(
    "--qat-margin", default=0.3, show_default=True, help="Points on the validation list; a negative one: always."
)
@click.option("--card", is_flag=True, help="Measure a model card on the testing list; `models` prints it.")
@click.option(
    "--seed-run",
    "seed_runs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Of the card: the .pt of the same configuration and another seed. Again for each.",
)
@click.option(
    "--without-noise", type=click.Path(path_type=Path), help="Of the card: the .pt of a training without noise."
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0.0, 100.0),
    help="Points: of the validation clips, on how many int8 must name float's word. Default: 98, and a bound of the "
    "logits' error.",
)
@click.option("--no-accuracy", is_flag=True, help="Don't measure the accuracy on the testing list.")
@JSON_OPTION
def export(
    checkpoint: Path,
    data: Path,
    output: Path,
    ranges: str,
    qat: bool,
    qat_epochs: int,
    qat_margin: float,
    card: bool,
    seed_runs: tuple[Path, ...],
    without_noise: Path | None,
    min_agreement: float | None,
    no_accuracy: bool,
    as_json: bool,
) -> None:
    """Quantize a trained checkpoint to int8 TFLite, with its labels and front end in the file.

    Where int8 names another word than float on more than 2 % of the validation clips, or its logits stray too far,
    nothing is written and the exit code is 1; --min-agreement says otherwise.
    """
    from mbx_deploy.measure.card import build_card
    from mbx_deploy.quantization.agreement import bounds_of
    from mbx_deploy.quantization.export import CardRequest, QatOptions, export_checkpoint

    tell_passed_over(data)
    options = QatOptions(qat_epochs, qat_margin) if qat else None
    request = CardRequest(build_card, seed_runs, without_noise) if card or seed_runs or without_noise else None
    report = export_checkpoint(
        checkpoint,
        data,
        output,
        ranges=ranges,
        qat=options,
        measure_accuracy=not no_accuracy,
        card=request,
        bounds=bounds_of(None if min_agreement is None else min_agreement / 100.0),
    )
    if as_json:
        print_json(report.to_dict())
        return
    click.echo(f"{report.output}: {report.size_bytes:,} bytes, ranges by {report.ranges['chosen']}")
    if report.accuracy:
        found = report.accuracy
        click.echo(f"command words: float {found.commands_float:.2%}, int8 {found.commands_int8:.2%} ({found.split})")


@click.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help=f"{DATA_SET}.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The .pt that the model was exported from.")
@click.option("--clips", default=64, show_default=True, type=click.IntRange(1), help="Of the validation list, at most.")
@FORWARD_OPTION
@JSON_OPTION
def sqnr(model: str, data: Path, checkpoint: Path | None, clips: int, forward: str | None, as_json: bool) -> None:
    """Print the quantization error of each layer of MODEL in dB, and which layer is the worst.

    MODEL: a .tflite, a .nemo, or a shipped model's name.

    "own dB" is what a layer alone adds, "total dB" what has gathered up to there. They are against the checkpoint's
    float weights; without --checkpoint against the dequantized int8 weights.
    """
    from mbx_deploy.nemo.conversion import artifact_of
    from mbx_deploy.quantization import sqnr as meter
    from mbx_deploy.system.resources import resolve_model

    path = artifact_of(resolve_model(model), forward, note)
    tell_passed_over(data)
    report = meter.measure_model(path, data, checkpoint, clips)
    if as_json:
        print_json(report.to_dict())
        return
    click.echo(meter.render(report))
