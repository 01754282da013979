"""Commands on data sets."""

import json
import shlex
import sys
from pathlib import Path

import click

from mbx_deploy.commands.console import JSON_OPTION, Progress, note, print_json, say
from mbx_deploy.system.terminal import redraw


@click.group()
def data() -> None:
    """Fetch a published data set, inspect one, record words, cut a long recording, have other words spoken."""


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
    click.echo(f"next:     mbx-deploy data inspect {shlex.quote(str(folder))}")


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


@data.command()
@click.argument("recording", metavar="LONG.wav", type=click.Path(path_type=Path))
@click.option("--word", required=True, help="That is said in it, again and again.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write, made anew.")
@click.option("--speaker", help="Who says it; for cross-validation and splits. Default: nobody knows.")
@click.option("--margin", default=0.25, show_default=True, type=click.FloatRange(0.0, 5.0), help="Seconds around it.")
@click.option("--level", default=12.0, show_default=True, type=click.FloatRange(3.0, 60.0), help="dB above the floor.")
@JSON_OPTION
def cut(
    recording: Path, word: str, output: Path, speaker: str | None, margin: float, level: float, as_json: bool
) -> None:
    """Find the utterances in a long recording of one word, and write a clip of each, a list and a picture."""
    from mbx_deploy.data import cutting
    from mbx_deploy.data.audio import read_recording
    from mbx_deploy.data.negatives import MOST_SECONDS
    from mbx_deploy.data.recordings import SAMPLE_RATE_HZ
    from mbx_deploy.errors import InputError
    from mbx_deploy.measure.cut_plot import draw_spoken
    from mbx_deploy.system.files import check_folder, write_folder

    cutting.check_word(word)
    if speaker is not None:
        cutting.check_word(speaker)
    check_folder(output)
    samples = read_recording(recording, SAMPLE_RATE_HZ, MOST_SECONDS).samples
    spoken = cutting.find_spoken(samples, SAMPLE_RATE_HZ, level)
    clips = cutting.cut_clips(samples, SAMPLE_RATE_HZ, spoken, margin, word, recording.stem, speaker)
    if not clips:
        raise InputError(
            f"nobody speaks in it ({recording}): got {len(spoken)} sounds, none of a word's length",
            "a smaller --level finds quieter ones",
        )
    found = cutting.describe(recording, len(samples) / SAMPLE_RATE_HZ, spoken, list(clips))
    files: dict[str, str | bytes] = {**clips, "cut.json": json.dumps(found, indent=2) + "\n"}
    try:
        files["cut.png"] = draw_spoken(samples, SAMPLE_RATE_HZ, spoken)
    except ImportError:
        note("no picture: matplotlib is not installed (pip install 'mbx-deploy[report]')")
    write_folder(output, files)
    if as_json:
        print_json(found)
        return
    for row in found["utterances"]:
        what = row["clip"] or f"left out: {row['why_not']}"
        click.echo(f"{row['start_s']:8.2f} to {row['end_s']:8.2f} s  {row['level_db']:6.1f} dB  {what}")
    picture = f", {output / 'cut.png'}" if "cut.png" in files else ""
    click.echo(f"{output}: {len(clips)} clips of {len(spoken)} sounds{picture}")
    click.echo("next:     look at the picture, listen to the clips, delete what is none")


@data.command()
@click.option("--words", required=True, help="To say, with commas between them.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder; takes are added to it."
)
@click.option("--speaker", help="Who speaks; for cross-validation and splits. Default: nobody knows.")
@click.option("--takes", default=20, show_default=True, type=click.IntRange(1, 1000), help="Of each word.")
@click.option(
    "--silence", default=5, show_default=True, type=click.IntRange(1, 600), help="Seconds of the room, first."
)
@click.option("--device", help="The microphone: its number, or a part of its name. Default: the system's.")
@click.option("--gain-db", type=click.FloatRange(-40, 60), default=0.0, show_default=True, help="Of the microphone.")
@click.option("--input", "given", metavar="FILE|-", help="Hear this recording, or standard input, instead.")
@click.option("--auto", is_flag=True, help="Ask for no key: take follows take, a bad one is taken again.")
@JSON_OPTION
def record(
    words: str,
    output: Path,
    speaker: str | None,
    takes: int,
    silence: int,
    device: str | None,
    gain_db: float,
    given: str | None,
    auto: bool,
    as_json: bool,
) -> None:
    """Lead through recording words at the microphone: the room's silence first, then each word so many times.

    Each take is looked at: clipped, too quiet, too long and nothing heard are told, and taken again. Enter goes on, r
    takes the last one again, s skips the word, q quits; the same line goes on where it was stopped. The folder is a
    data set as it is.
    """
    from mbx_deploy.live import record as recorder
    from mbx_deploy.live import sources

    if given is not None and device is not None:
        raise click.UsageError("--device is for a microphone: --input is given.")
    options = recorder.RecordOptions(output, recorder.parse_words(words), takes, speaker, float(silence))
    recorder.check_options(options)
    source = sources.open_source(given, device, recorder.RATE_HZ, gain_db)
    for text in source.notes:
        note(text)
    ask = None if auto or given == sources.STANDARD_INPUT else _ask_key
    found = recorder.record(source, options, _over_the_meter, ask, _meter)
    told = recorder.describe(found, options, source.name)
    if as_json:
        print_json(told)
        return
    for word, row in told["words"].items():
        click.echo(f"{word:<16} {row['clips']:>4} clips, {row['new']} of them new")
    click.echo(f"{output}: {'each word has its takes' if found.complete else 'the same line goes on from here'}")
    if found.complete:
        click.echo(f"next:     mbx-deploy data inspect {shlex.quote(str(output))}")


def _ask_key(question: str) -> str:
    """Return the key that is pressed, before Enter; of a terminal that is gone the one that quits."""
    from mbx_deploy.live.record import KEYS, QUIT

    while True:
        _clear_meter()
        click.echo(f"{question}  ({KEYS}) ", nl=False, err=True)
        line = sys.stdin.readline()
        key = line.strip().lower()
        if not line:
            return QUIT
        if key in ("", "r", "s", "q"):
            return key


def _over_the_meter(line: str) -> None:
    _clear_meter()
    say(line)


def _clear_meter() -> None:
    if sys.stderr.isatty():
        redraw("", sys.stderr, clear=True)


def _meter(level_db: float, clips: bool) -> None:
    if sys.stderr.isatty():
        bar = "#" * max(0, round((level_db + 70.0) / 2))
        redraw(f"{level_db:6.1f} dBFS  {bar}{'  CLIPS' if clips else ''}", sys.stderr, clear=True)


@data.command()
@click.option(
    "--words", metavar="FILE|LIST", help="A file with a word a line, or words and commas. Default: 2,100 common ones."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--commands", help="The words of your model, with commas between them. Default: the shipped model's.")
@click.option("--clips", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each word.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of voices, pitch and speed.")
@JSON_OPTION
def synthesize(words: str | None, output: Path, commands: str | None, clips: int, seed: int, as_json: bool) -> None:
    """Have espeak-ng speak other words into OUTPUT, for `train --negatives`: a folder a word.

    All its English voices, with all their variants. Commands, and words that sound like one, are refused.
    """
    from mbx_deploy.data.dataset import LABELS, command_words
    from mbx_deploy.data.synthesis import WORD_LIST, read_words
    from mbx_deploy.data.synthesis import synthesize as speak

    own = read_words(commands) if commands else command_words(LABELS)
    found = speak(read_words(words or str(WORD_LIST)), output, own, clips=clips, seed=seed, progress=Progress("speak"))
    if as_json:
        print_json(found.to_dict())
        return
    click.echo(f"{output}: {found.words:,} words, {found.clips:,} clips, {found.voices} voices")
    if found.refused:
        some = ", ".join(f"{word} ({command})" for word, command in list(found.refused.items())[:8])
        click.echo(f"refused, like a command: {len(found.refused)}: {some}{', ...' if len(found.refused) > 8 else ''}")
