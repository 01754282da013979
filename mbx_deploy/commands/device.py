"""Commands for a device on a serial port."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from mbx_deploy.commands.console import BAUD_OPTION, PORT_OPTION, note
from mbx_deploy.system.terminal import redraw


@click.command()
@PORT_OPTION
@BAUD_OPTION
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Listen for so long; default: until Ctrl-C.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Write what the device's microphone hears to this .wav."
)
@click.option("--play", type=click.Path(path_type=Path), help="Send this recording to a device without a microphone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line an event.")
def monitor(
    port: Path | None, baud: int | None, seconds: float | None, record: Path | None, play: Path | None, as_json: bool
) -> None:
    """Show what a device hears, live: words, scores, level, overruns.

    The device runs a firmware of mbx-deploy build. Without --port it is the one serial port on USB that there is.
    """
    from mbx_deploy.data.audio import read_recording
    from mbx_deploy.serial.link import Link, NoAnswer
    from mbx_deploy.serial.monitor import MonitorOptions
    from mbx_deploy.serial.monitor import monitor as listen
    from mbx_deploy.serial.port import BAUDS, Port, find_port
    from mbx_deploy.system.files import check_file

    if record is not None:
        check_file(record)
    path = port or find_port()
    if port is None:
        note(f"listening to {path}")
    bauds = (baud,) if baud else BAUDS
    for number, speed in enumerate(bauds, start=1):
        with Port(path, speed) as line:
            link = Link(line)
            try:
                hello = link.hello()
            except NoAnswer:
                if number < len(bauds):
                    continue
                raise
            samples = read_recording(play, hello.sample_rate_hz).samples if play is not None else None
            listen(link, MonitorOptions(seconds, record, samples), _Screen(as_json))
            return


class _Screen:
    """Prints events: lines of JSON, or lines for people with a level meter below them on a terminal."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.meter = sys.stdout.isatty() and not as_json
        self.scores: dict[str, Any] | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        from mbx_deploy.serial.monitor import render_event, render_meter

        if self.as_json:
            click.echo(json.dumps(event))
            return
        if event["event"] == "scores":
            self.scores = event
        if event["event"] == "level" and self.meter:
            redraw(render_meter(event, self.scores), sys.stdout)
        line = render_event(event)
        if line is not None and self.meter:
            redraw(line, sys.stdout, clear=True, end="\n")
        elif line is not None:
            click.echo(line)
