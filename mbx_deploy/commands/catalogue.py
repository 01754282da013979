"""Commands on what there is: models, targets, tools; and models that come from elsewhere."""

import sys
from pathlib import Path

import click

from mbx_deploy.commands.console import DATA_SET, FORWARD_OPTION, JSON_OPTION, note, print_json, tell_passed_over


@click.command("import")
@click.argument("nemo", required=False, type=click.Path(path_type=Path), metavar="[MODEL]")
@click.option("--model", type=click.Path(path_type=Path), help="A .nemo, an .onnx that NeMo exported, or any .tflite.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .pt or .tflite to write.")
@FORWARD_OPTION
@click.option(
    "--data", type=click.Path(path_type=Path), help=f"{DATA_SET}, to calibrate int8 on; of a .tflite also .npy."
)
@click.option("--clip-ms", type=click.IntRange(30, 60000), help="The clips' length. Default: a second, or NeMo's crop.")
@click.option("--labels", type=click.Path(path_type=Path), help="Of an .onnx or .tflite: the words, one a line.")
@click.option(
    "--frontend", type=click.Path(path_type=Path), help="Of an .onnx: NeMo's YAML. Of a .tflite: a TOML, or a name."
)
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
    """Make a model of ours from a NeMo checkpoint, an ONNX file that NeMo exported, or a .tflite.

    A .tflite gets labels and a front end, so that it listens; a float one is quantized with --data.
    """
    from mbx_deploy.nemo.conversion import ImportRequest, import_model

    request = ImportRequest(nemo or model, output, forward, data, clip_ms, labels, frontend)
    tell_passed_over(data)
    report = import_model(request, note)
    if as_json:
        print_json(report)
        return
    words = f"{len(report['labels'])} classes, {', '.join(report['labels'])}" if report["labels"] else "int8"
    click.echo(f"{report['output']}: {words}")


@click.command()
@click.argument("name", required=False)
@JSON_OPTION
def models(name: str | None, as_json: bool) -> None:
    """List the shipped models, or print the model card of NAME: a shipped one, or a .tflite."""
    from mbx_deploy.measure.catalogue import describe_model, list_models, model_card, render_models

    if name is not None:
        if as_json:
            print_json(describe_model(name))
        else:
            click.echo(model_card(name))
        return
    found = list_models()
    if as_json:
        print_json(found)
    else:
        click.echo(render_models(found))


@click.command()
@JSON_OPTION
def targets(as_json: bool) -> None:
    """List the targets that `build` knows."""
    from mbx_deploy.codegen.target import list_targets, render_targets, target_to_dict

    found = list_targets()
    if as_json:
        print_json([target_to_dict(target) for target in found])
    else:
        click.echo(render_targets(found))


@click.command()
@JSON_OPTION
def doctor(as_json: bool) -> None:
    """Say what is installed, what is missing, and the line that installs it."""
    from mbx_deploy.system import doctor as diagnosis

    findings = diagnosis.diagnose()
    click.echo(diagnosis.to_json(findings) if as_json else diagnosis.render(findings))
    if any(finding.required and not finding.found for finding in findings):
        sys.exit(1)
