"""Commands on data sets."""

import sys
from pathlib import Path

import click

from mbx_deploy.commands.console import JSON_OPTION, Progress, note, print_json


@click.group()
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
    fetch_archive(archive, folder, url, note, Progress)
    click.echo(f"{folder}: {archive.name}, {archive.licence}")
    click.echo(f"next:     mbx-deploy data inspect {folder}")


@data.command()
@click.argument("source", metavar="DIR|MANIFEST", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--labels", help="The words, with commas between them. Default: the shipped model's.")
@click.option("--words", default=400, show_default=True, type=click.IntRange(1, 100_000), help="Spoken words at most.")
@click.option(
    "--snr", default="clean,20,10,5", show_default=True, help="Ratios of speech to background noise in dB, or clean."
)
@click.option("--split", default="testing", show_default=True, help="Which of the data's clips.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the order and the pauses.")
def stream(source: Path, output: Path, labels: str | None, words: int, snr: str, split: str, seed: int) -> None:
    """Make streams of words in noise at known places, with label tracks, for `evaluate --stream` and `tune`."""
    from mbx_deploy.data.dataset import LABELS
    from mbx_deploy.data.streams import make_streams
    from mbx_deploy.system.files import check_folder, write_folder

    try:
        ratios = [None if part.strip() == "clean" else float(part) for part in snr.split(",")]
    except ValueError:
        raise click.UsageError(f"bad ratios: got {snr!r}, need numbers or clean, with commas between them") from None
    check_folder(output)
    files = make_streams(source, labels.split(",") if labels else LABELS, words, ratios, split, seed)
    write_folder(output, files)
    click.echo(f"{output}: {sum(name.endswith('.wav') for name in files)} streams with label tracks")


@data.command()
@click.argument("source", metavar="DIR|MANIFEST", type=click.Path(path_type=Path))
@JSON_OPTION
def inspect(source: Path, as_json: bool) -> None:
    """Say what a data set holds; exit 1 if files are broken, or a speaker or a sound is in two splits."""
    from mbx_deploy.data.inspection import inspect as inspect_data
    from mbx_deploy.data.report import render_inspection

    found = inspect_data(source, Progress("inspect"))
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(render_inspection(found))
    if not found.sound:
        sys.exit(1)
