"""Commands that hear now: the laptop's microphone, and the page of a build."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from mbx_deploy.commands.console import FORWARD_OPTION, LateChoice, note
from mbx_deploy.errors import visible
from mbx_deploy.system.terminal import unshielded


def _listener_names() -> tuple[str, ...]:
    from mbx_deploy.live.listener import LISTENERS

    return tuple(LISTENERS)


@click.command()
@click.argument("model", metavar="[MODEL|BUILD]", required=False)
@click.argument("recording", metavar="[RECORDING|-]", required=False)
@click.option("--engine", type=LateChoice(_listener_names), help="Default: c; of a build for the browser: browser.")
@click.option("--device", help="The microphone: its number, or a part of its name. Default: the system's.")
@click.option("--devices", is_flag=True, help="List the microphones.")
@click.option("--gain-db", type=click.FloatRange(-40, 60), default=0.0, show_default=True, help="Of the microphone.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Hear so much audio. Default: until Ctrl-C.")
@click.option("--record", type=click.Path(path_type=Path), help="Write what was heard to this .wav.")
@FORWARD_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line an event.")
def listen(
    model: str | None,
    recording: str | None,
    engine: str | None,
    device: str | None,
    devices: bool,
    gain_db: float,
    seconds: float | None,
    record: Path | None,
    forward: str | None,
    as_json: bool,
) -> None:
    """Hear what a model hears, live: words with time and score, level, a bar a class.

    MODEL: a .tflite, a .nemo, or a shipped model's name; without it the shipped model. BUILD: a folder that `build`
    wrote. Without RECORDING the microphone is heard; - is standard input: a WAV, or bare 16-bit samples.
    """
    from mbx_deploy.live import sources
    from mbx_deploy.live.listen import ListenOptions
    from mbx_deploy.live.listen import listen as hear
    from mbx_deploy.live.listener import open_listener
    from mbx_deploy.system.files import check_file

    if devices:
        for number, name, rate_hz in sources.list_microphones():
            click.echo(f"{number:3}  {name} ({rate_hz:.0f} Hz)")
        return
    if recording is not None and device is not None:
        raise click.UsageError("--device is for a microphone: a recording is given.")
    if record is not None:
        check_file(record)
    found, compiled = open_listener(model, engine, forward, note)
    rate_hz = compiled.config.sample_rate_hz
    source = sources.open_source(recording, device, rate_hz, gain_db)
    for text in source.notes:
        note(text)
    with _screen(as_json, compiled.labels) as screen:
        hear(found, compiled, source, ListenOptions(seconds, record), screen)
    if record is not None:
        note(f"recorded: {click.format_filename(record)}")


def _screen(as_json: bool, labels: tuple[str, ...]) -> "_Lines":
    if as_json or not sys.stdout.isatty():
        return _Lines(as_json)
    try:
        return _LiveScreen(labels)
    except ImportError:
        note("rich is not installed, so words are printed as lines: pip install 'mbx-deploy[listen]'")
        return _Lines(False)


class _Lines:
    """Prints events: lines of JSON, or a line a word."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: dict[str, Any]) -> None:
        from mbx_deploy.live.listen import render_event

        line = json.dumps(event) if self.as_json else render_event(event)
        if line is not None:
            click.echo(line)
            sys.stdout.flush()


class _LiveScreen(_Lines):
    """A picture that changes: level, a bar a class; above it the words, line by line, as they come."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        """Raises ImportError without rich."""
        from rich.console import Console
        from rich.live import Live

        super().__init__(False)
        console = Console(file=unshielded(sys.stdout))  # it moves the cursor; what others wrote passes visible()
        self.scores = dict.fromkeys(labels, 0.0)
        self.level: dict[str, Any] = {"peak_dbfs": None, "rms_dbfs": None, "lost_samples": 0, "time_s": 0.0}
        self.live = Live(self._picture(), console=console, refresh_per_second=12, transient=True)

    def __enter__(self) -> "_LiveScreen":
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        from mbx_deploy.live.listen import render_event

        if event["event"] == "scores":
            self.scores = event["scores"]
        elif event["event"] == "level":
            self.level = event
        line = render_event(event)
        if line is not None:
            self.live.console.print(
                visible(line, "\n"), markup=False, highlight=False, style="bold" * (event["event"] == "detection")
            )
        self.live.update(self._picture())

    def _picture(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for width in (14, 40, 16):
            table.add_column(width=width)
        rms = -96.0 if self.level["rms_dbfs"] is None else self.level["rms_dbfs"]
        lost = f", lost {self.level['lost_samples']}" if self.level["lost_samples"] else ""
        style = "red" if self.level["peak_dbfs"] == 0.0 else "green"
        told = Text(f"{rms:6.1f} dBFS{lost}")
        table.add_row("level", ProgressBar(100, max(0.0, 100 + rms / 0.72), complete_style=style), told)
        best = max(self.scores, key=lambda label: self.scores[label])
        for label, score in self.scores.items():
            style = "bold" if label == best and score else ""
            table.add_row(Text(visible(label), style=style), ProgressBar(1.0, score), Text(f"{score:.2f}", style=style))
        return table


@click.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any.")
@click.option("--phone", is_flag=True, help="Over https, too, for a phone in the same network; shows a QR code.")
@click.option(
    "--phone-port", type=click.IntRange(0, 65535), default=8443, show_default=True, help="For --phone; 0: any."
)
@click.option("--address", help="For --phone: this machine's address. Default: what the system says.")
@click.option("--watch", is_flag=True, help="Load the page anew after a new build.")
def serve(folder: Path, port: int, phone: bool, phone_port: int, address: str | None, watch: bool) -> None:
    """Serve the page of a build for the browser, until Ctrl-C.

    It is on this machine only, where browsers give a page the microphone; --phone opens it to the network, over https
    with a certificate of its own.
    """
    import ipaddress

    from mbx_deploy.live.serve import ServeOptions
    from mbx_deploy.live.serve import serve as run

    if address is not None:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise click.UsageError(f"--address: got {address!r}, need one such as 192.168.1.5.") from None

    def say(line: str) -> None:
        click.echo(line)
        sys.stdout.flush()

    run(folder, ServeOptions(port, phone or address is not None, phone_port, address, watch), say)
