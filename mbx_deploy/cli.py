"""The command line: parse, call one function, print. Results go to stdout, progress to stderr.

Nothing heavier than click is imported before a command runs.
"""

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from mbx_deploy import __version__
from mbx_deploy.errors import MbxError

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ENGINE_CHOICES = click.Choice(["sim", "c", "tflm", "float"])
FORWARD_OPTION = click.option(
    "--forward",
    type=click.Choice(["crop", "no-crop"]),
    help="Of a .nemo: NeMo's forward pass up to 2.2, or from 2.3 on. Default: what the file says.",
)
DEFAULT_CLIPS = 200


class _Group(click.Group):
    """Prints a user's error as one line and a hint, and exits with its code; anything else keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MbxError as error:
            if error.hint is None and error.exit_code == MbxError.exit_code:
                error.hint = f"mbx-deploy {ctx.invoked_subcommand} --help tells what it takes"
            click.echo(error.render(), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\nerror: interrupted\n  hint: nothing is half-written; give the same line again", err=True)
            ctx.exit(MbxError.exit_code)


def main() -> None:
    """Run the command line.

    SIGTERM and SIGHUP end it like Ctrl-C: what was begun is cleaned up, nothing is half-written.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    cli(prog_name="mbx-deploy")


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mbx-deploy")
def cli() -> None:
    """Spoken-command recognisers on microcontrollers: train, quantize, generate C, prove that it computes the same."""


@cli.command()
@click.option("--target", required=True, help="A name that `mbx-deploy targets` lists, or a .toml file.")
@click.option("--model", help="A .tflite, a .nemo, or a shipped model's name. Default: the shipped model.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to write. Default: build/TARGET.")
@click.option("--prefix", default="kws", show_default=True, help="Begins every C symbol of the model.")
@click.option("--stride-ms", type=int, help="Time between the windows of continuous audio. Default: about 250.")
@FORWARD_OPTION
@JSON_OPTION
def build(
    target: str,
    model: str | None,
    output: Path | None,
    prefix: str,
    stride_ms: int | None,
    forward: str | None,
    as_json: bool,
) -> None:
    """Generate the C project of a model for a target, and compile it."""
    from mbx_deploy import build as builder
    from mbx_deploy.memory_report import render_report
    from mbx_deploy.pretrained import resolve_model
    from mbx_deploy.target import find_target

    chosen = find_target(target)
    path = resolve_model(model)
    report = builder.build(path, chosen, output or Path("build") / chosen.name, prefix, stride_ms, _say, forward)
    if as_json:
        _print_json(report.to_dict())
        return
    click.echo(render_report(report.memory))
    if report.elf:
        click.echo(f"firmware: {report.elf}")
        if chosen.machine or chosen.toolchain == "host":
            click.echo(f"next:     mbx-deploy run {report.folder} RECORDING.wav")
    else:
        click.echo(f"project:  {report.folder}")
        click.echo(
            f"not compiled: {' and '.join(report.missing_tools)} not installed. mbx-deploy doctor names the line that "
            f"installs it; or elsewhere: cmake -B build && cmake --build build"
        )


@cli.command()
@click.argument("model")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--engine", type=ENGINE_CHOICES, default="sim", show_default=True, help="What computes it.")
@click.option("--trace", is_flag=True, help="Print each stage: shape, first values, CRC-32.")
@FORWARD_OPTION
@JSON_OPTION
def simulate(model: str, clips: tuple[Path, ...], engine: str, trace: bool, forward: str | None, as_json: bool) -> None:
    """Say which word each recording holds.

    MODEL: a .tflite, a .nemo, a shipped model's name, or for --engine float a .pt.
    """
    from mbx_deploy import simulate as simulator
    from mbx_deploy.pretrained import resolve_model

    _print_answers(simulator.simulate(resolve_model(model), clips, engine, trace, _note, forward), as_json)


@cli.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--trace", is_flag=True, help="Print each stage: shape, first values, CRC-32.")
@JSON_OPTION
def run(folder: Path, clips: tuple[Path, ...], trace: bool, as_json: bool) -> None:
    """Run a build's firmware on recordings, in the emulator of its target."""
    from mbx_deploy import simulate as simulator
    from mbx_deploy.build import load_build

    _print_answers(simulator.run_firmware(load_build(folder), clips, trace, _note), as_json)


@cli.command()
@click.argument("model")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .npz file to write.")
@FORWARD_OPTION
def features(model: str, clips: tuple[Path, ...], output: Path, forward: str | None) -> None:
    """Write the int8 features that the network sees: features (clips, frames, coefficients), scale, zero_point."""
    from mbx_deploy import simulate as simulator
    from mbx_deploy.pretrained import resolve_model

    shape = simulator.write_features(resolve_model(model), clips, output, _note, forward)
    click.echo(f"{click.format_filename(output)}: {' x '.join(map(str, shape))} (clips x frames x coefficients)")


@cli.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A folder of recordings.")
@click.option("--clips", default=DEFAULT_CLIPS, show_default=True, type=click.IntRange(1), help="Recordings at most.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file, too.")
def verify(folder: Path, data: Path, clips: int, json_path: Path | None) -> None:
    """Run all engines on the same recordings and hostile inputs; exit 1 unless all bytes are equal."""
    from mbx_deploy import verify as verifier
    from mbx_deploy.build import load_build
    from mbx_deploy.output import write_file

    loaded = load_build(folder)
    comparison = verifier.verify_build(loaded, verifier.find_clips(data, clips), _Progress("verify"))
    click.echo(verifier.render_comparison(comparison))
    if json_path:
        write_file(json_path, json.dumps(comparison.to_dict(), indent=2, sort_keys=True) + "\n")
    if comparison.mismatched_bytes:
        sys.exit(1)


@cli.command()
@click.option("--config", type=click.Path(path_type=Path), help="A .toml or .yaml of training keys. Default: ours.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="A folder in the layout of Speech Commands."
)
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
    from mbx_deploy.training import run_training

    overrides = {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    engine = {"accelerator": accelerator, "num_nodes": num_nodes, "precision": precision, "devices": devices or "auto"}
    summary = run_training(config, overrides, data, output, resume, engine)
    if not summary:  # one of several processes: the first one tells
        return
    if as_json:
        _print_json(summary)
        return
    for key, value in summary.items():
        click.echo(f"{key}: {value}")


@cli.command()
@click.option("--from", "base", required=True, type=click.Path(path_type=Path), help="The checkpoint to begin from.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A data set that has the words.")
@click.option("--words", required=True, help="The new words, with commas between them.")
@click.option("--clips", type=click.IntRange(1), help="Recordings of a word at most. Default: all.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .pt file to write.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of all that is drawn.")
@JSON_OPTION
def finetune(base: Path, data: Path, words: str, clips: int | None, output: Path, seed: int, as_json: bool) -> None:
    """Teach a trained checkpoint other words, from a few dozen recordings of each, and say how sure the result is."""
    from mbx_deploy.training import run_finetuning

    chosen = tuple(word.strip() for word in words.split(","))
    report = run_finetuning(base, data, chosen, clips, output, seed, _say)
    if as_json:
        _print_json(report)
        return
    low, high = report["interval"]
    click.echo(
        f"{report['accuracy']:.1%} by cross-validation over {report['speakers']} speakers "
        f"(95 %: {low:.1%} to {high:.1%})"
    )
    if report["testing"] is not None:
        low, high = report["testing_interval"]
        click.echo(
            f"{report['testing']:.1%} of {report['testing_clips']} clips for testing (95 %: {low:.1%} to {high:.1%})"
        )
    click.echo(f"model: {output}")


@cli.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The data set it was trained on.")
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
    no_accuracy: bool,
    as_json: bool,
) -> None:
    """Quantize a trained checkpoint to int8 TFLite, with its labels and front end in the file."""
    from mbx_deploy.export import QatOptions, export_checkpoint

    options = QatOptions(qat_epochs, qat_margin) if qat else None
    accuracy = not no_accuracy
    report = export_checkpoint(checkpoint, data, output, ranges=ranges, qat=options, measure_accuracy=accuracy)
    if as_json:
        _print_json(report.to_dict())
        return
    click.echo(f"{report.output}: {report.size_bytes:,} bytes, ranges by {report.ranges['chosen']}")
    if report.accuracy:
        found = report.accuracy
        click.echo(f"command words: float {found.commands_float:.2%}, int8 {found.commands_int8:.2%} ({found.split})")


@cli.command()
@click.argument("model")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="A folder in the layout of Speech Commands."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The .pt that the model was exported from.")
@click.option("--clips", default=64, show_default=True, type=click.IntRange(1), help="Of the validation list, at most.")
@JSON_OPTION
def sqnr(model: str, data: Path, checkpoint: Path | None, clips: int, as_json: bool) -> None:
    """Print the quantization error of each layer of MODEL in dB, and which layer is the worst.

    "own dB" is what a layer alone adds, "total dB" what has gathered up to there. They are against the checkpoint's
    float weights; without --checkpoint against the dequantized int8 weights.
    """
    from mbx_deploy import sqnr as meter
    from mbx_deploy.pretrained import resolve_model

    report = meter.measure_model(resolve_model(model), data, checkpoint, clips)
    if as_json:
        _print_json(report.to_dict())
        return
    click.echo(meter.render(report))


@cli.group()
def data() -> None:
    """Fetch a published data set, or inspect one."""


@data.command()
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--url", help="Another server with the same archive. Default: the official one.")
def fetch(name: str, folder: Path, url: str | None) -> None:
    """Download speech_commands_v1 or speech_commands_v2 into DIR. The same line goes on where it stopped."""
    from mbx_deploy.data.archives import find_archive
    from mbx_deploy.data.fetch import fetch as fetch_archive

    archive = find_archive(name)
    fetch_archive(archive, folder, url, _note, _Progress)
    click.echo(f"{folder}: {archive.name}, {archive.licence}")
    click.echo(f"next:     mbx-deploy data inspect {folder}")


@data.command()
@click.argument("source", metavar="DIR|MANIFEST", type=click.Path(path_type=Path))
@JSON_OPTION
def inspect(source: Path, as_json: bool) -> None:
    """Say what a data set holds; exit 1 if files are broken, or a speaker or a sound is in two splits."""
    from mbx_deploy.data.inspection import inspect as inspect_data
    from mbx_deploy.data.report import render_inspection

    found = inspect_data(source, _Progress("inspect"))
    if as_json:
        _print_json(found.to_dict())
    else:
        click.echo(render_inspection(found))
    if not found.sound:
        sys.exit(1)


@cli.command("import")
@click.argument("nemo", required=False, type=click.Path(path_type=Path), metavar="[MODEL.nemo]")
@click.option("--model", type=click.Path(path_type=Path), help="A .nemo, or a classifier that NeMo exported to .onnx.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .pt or .tflite to write.")
@FORWARD_OPTION
@click.option("--data", type=click.Path(path_type=Path), help="Recordings to calibrate int8 on. Default: synthetic.")
@click.option("--clip-ms", type=click.IntRange(30, 60000), help="The clips' length. Default: a second, or NeMo's crop.")
@click.option("--labels", type=click.Path(path_type=Path), help="Of an .onnx: a file of the words, one a line.")
@click.option("--frontend", type=click.Path(path_type=Path), help="Of an .onnx: NeMo's YAML. Default: its stock MFCC.")
@JSON_OPTION
def import_command(
    nemo: Path | None,
    model: Path | None,
    output: Path,
    forward: str | None,
    data: Path | None,
    clip_ms: int | None,
    labels: Path | None,
    frontend: Path | None,
    as_json: bool,
) -> None:
    """Make a model of ours from a NeMo checkpoint, or from an ONNX file that NeMo exported."""
    from mbx_deploy.nemo.conversion import ImportRequest, import_model

    request = ImportRequest(nemo or model, output, forward, data, clip_ms, labels, frontend)
    report = import_model(request, _note)
    if as_json:
        _print_json(report)
        return
    click.echo(f"{report['output']}: {len(report['labels'])} classes, {', '.join(report['labels'])}")


@cli.command()
@JSON_OPTION
def models(as_json: bool) -> None:
    """List the shipped models."""
    from mbx_deploy.pretrained import list_models, render_models

    found = list_models()
    if as_json:
        _print_json(found)
    else:
        click.echo(render_models(found))


@cli.command()
@JSON_OPTION
def targets(as_json: bool) -> None:
    """List the targets that `build` knows."""
    from mbx_deploy.target import list_targets, render_targets, target_to_dict

    found = list_targets()
    if as_json:
        _print_json([target_to_dict(target) for target in found])
    else:
        click.echo(render_targets(found))


@cli.command()
@JSON_OPTION
def doctor(as_json: bool) -> None:
    """Say what is installed, what is missing, and the line that installs it."""
    from mbx_deploy import doctor as diagnosis

    findings = diagnosis.diagnose()
    click.echo(diagnosis.to_json(findings) if as_json else diagnosis.render(findings))
    if any(finding.required and not finding.found for finding in findings):
        sys.exit(1)


def _print_answers(answers: list[dict[str, Any]], as_json: bool) -> None:
    from mbx_deploy.simulate import render_answer

    if as_json:
        _print_json(answers)
        return
    for answer in answers:
        click.echo(render_answer(answer))


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def _say(line: str) -> None:
    click.echo(line, err=True)


def _note(line: str) -> None:
    click.echo(f"note: {line}", err=True)


class _Progress:
    """A counter on stderr: one changing line on a terminal, a line every tenth elsewhere."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.tenths = 0

    def __call__(self, done: int, of: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{self.what}: {done}/{of}", err=True, nl=done == of)
        elif done * 10 // of > self.tenths:
            self.tenths = done * 10 // of
            click.echo(f"{self.what}: {done}/{of}", err=True)


if __name__ == "__main__":
    main()
