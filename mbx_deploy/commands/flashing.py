"""The command that writes a build to its board."""

import sys
from pathlib import Path

import click

from mbx_deploy.commands.console import JSON_OPTION, print_json, say


@click.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option(
    "--probe", metavar="ID", help="Which board, where several are connected: a probe, a port, a drive's folder."
)
@click.option(
    "--tool",
    type=click.Choice(["pyocd", "openocd", "bossac", "picotool", "uf2"]),
    help="What writes. Default: the board's own way.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--yes", is_flag=True, help="Don't ask, on a terminal, before writing.")
@JSON_OPTION
def flash(folder: Path, probe: str | None, tool: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Write a build to its board, read it back, and start it.

    A board with another chip than the build's is refused. What was on the board before is lost.
    """
    from mbx_deploy.flashing.flash import carry_out, make_plan

    plan = make_plan(folder, probe, tool)
    say(plan.render())
    if dry_run:
        done = plan.to_dict(None)
    else:
        if not yes and sys.stdin.isatty() and sys.stderr.isatty():
            click.confirm("write it?", default=True, abort=True, err=True)
        done = carry_out(plan, say)
    if as_json:
        print_json(done)
    elif dry_run:
        click.echo("nothing was written (--dry-run)")
    else:
        click.echo(f"written: {done['bytes']:,} bytes to {plan.firmware.target.name}; {done['verified']}")
    if plan.firmware.target.log and not as_json:
        click.echo(f"log: {plan.firmware.target.uart_baud:,} baud {plan.firmware.target.log}")
