"""The command line: parse, call one function, print. Results go to stdout, progress to stderr.

Nothing heavier than click is imported before a command runs.
"""

import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from mbx_deploy.commands import accuracy, catalogue, data, device, firmware, flashing, live, training
from mbx_deploy.errors import Interrupted, MbxError
from mbx_deploy.system.scratch import sweep
from mbx_deploy.system.terminal import show_controls, visible_streams
from mbx_deploy.system.version import __version__

_INTERRUPTED = "\nerror: interrupted\n  hint: nothing is half-written; give the same line again"


class _Group(click.Group):
    """Prints a user's error as one line and a hint, and exits with its code; anything else keeps its traceback."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        with visible_streams():
            return super().main(*arguments, **options)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **options)
        except KeyboardInterrupt:
            click.echo(_INTERRUPTED, err=True)
            sys.exit(Interrupted.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        sweep()
        try:
            return super().invoke(ctx)
        except MbxError as error:
            if error.hint is None and error.exit_code == MbxError.exit_code:
                error.hint = f"mbx-deploy {ctx.invoked_subcommand} --help tells what it takes"
            click.echo(error.render(), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(_INTERRUPTED, err=True)
            ctx.exit(Interrupted.exit_code)


def main() -> None:
    """Run the command line.

    SIGTERM and SIGHUP end it like Ctrl-C: what was begun is cleaned up, nothing is half-written.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    show_controls()  # of a traceback, too
    cli(prog_name="mbx-deploy")


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


# color: click leaves escapes as they are, and the streams show them.
_SETTINGS = {"help_option_names": ["-h", "--help"], "color": True}


@click.group(cls=_Group, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="mbx-deploy")
def cli() -> None:
    """Spoken-command recognisers on microcontrollers: train, quantize, generate C, prove that it computes the same."""


for _command in (
    firmware.build,
    firmware.simulate,
    firmware.run,
    firmware.features,
    firmware.verify,
    firmware.profile,
    firmware.report,
    live.listen,
    live.serve,
    device.monitor,
    flashing.flash,
    training.train,
    training.finetune,
    training.export,
    training.sqnr,
    accuracy.evaluate,
    accuracy.regress,
    accuracy.tune,
    accuracy.card,
    data.data,
    catalogue.import_command,
    catalogue.models,
    catalogue.targets,
    catalogue.doctor,
):
    cli.add_command(_command)


if __name__ == "__main__":
    main()
