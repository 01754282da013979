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
