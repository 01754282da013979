"""Commands on models and their firmware: build it, run it, prove that it computes the same."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import click

from mbx_deploy.commands.console import (
    BAUD_OPTION,
    DATA_SET,
    DEFAULT_CLIPS,
    FORWARD_OPTION,
    JSON_OPTION,
    MAX_FLASH_OPTION,
    MAX_INSTRUCTIONS_OPTION,
    MAX_RAM_OPTION,
    MODEL_ENGINES,
    PORT_OPTION,
    LateChoice,
    Progress,
    note,
    print_answers,
    print_json,
    say,
    tell_passed_over,
)


def checkout_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options that name the checkouts which --runtime tflm is compiled from."""
    for name in ("cmsis-nn", "ruy", "gemmlowp", "flatbuffers", "tflm"):
        what = "TFLite Micro" if name == "tflm" else name
        variable = f"MBX_{name.upper().replace('-', '_')}_DIR"
        text = f"For --runtime tflm: a checkout of {what}. Default: {variable}."
        command = click.option(f"--{name}-dir", type=click.Path(path_type=Path), help=text)(command)
    return command


def _layout_names() -> Sequence[str]:
    from mbx_deploy.codegen.layouts import NAMES

    return NAMES


@click.command()
@click.option("--target", required=True, help="A name that `mbx-deploy targets` lists, or a .toml file.")
@click.option("--model", help="A .tflite, a .nemo, a shipped model's or NVIDIA's name. Default: the shipped one.")
@click.option("--data", type=click.Path(path_type=Path), help=f"{DATA_SET}, to calibrate a .nemo's int8 on.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to write. Default: build/TARGET.")
@click.option("--prefix", default="kws", show_default=True, help="Begins every C symbol of the model.")
@click.option(
    "--stride-ms",
    type=int,
    help="Between windows of continuous audio. Default: about 250, or what a board keeps up with.",
)
@MAX_FLASH_OPTION
@MAX_RAM_OPTION
@MAX_INSTRUCTIONS_OPTION
@click.option(
    "--layout",
    type=LateChoice(_layout_names),
    default="cmake",
    show_default=True,
    help="As whose project the sources are arranged; only CMake's is compiled here.",
)
@click.option("--network-only", is_flag=True, help="Compile any int8 .tflite, without front end and labels.")
@click.option(
    "--step-frames",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="The network streams: a run takes the N newest frames. Default: as the model says.",
)
@click.option(
    "--runtime",
    type=click.Choice(["c", "tflm"]),
    default="c",
    show_default=True,
    help="What runs the network: generated C, or TFLite Micro.",
)
@checkout_options
@FORWARD_OPTION
@JSON_OPTION
def build(
    target: str,
    model: str | None,
    data: Path | None,
    output: Path | None,
    prefix: str,
    stride_ms: int | None,
    max_flash: int | None,
    max_ram: int | None,
    max_instructions: int | None,
    layout: str,
    network_only: bool,
    step_frames: int | None,
    runtime: str,
    forward: str | None,
    as_json: bool,
    **checkouts: Path | None,
) -> None:
    """Generate the C project of a model for a target, and compile it.

    A build that exceeds a budget exits with 1 and writes nothing.
    """
    from mbx_deploy.codegen.target import find_target
    from mbx_deploy.firmware import build as builder
    from mbx_deploy.firmware.budgets import Budgets
    from mbx_deploy.firmware.memory import render_report
    from mbx_deploy.measure.profile.inference import count_inference, count_listening
    from mbx_deploy.nemo.conversion import artifact_of
    from mbx_deploy.nemo.ngc import resolve_any_model

    chosen = find_target(target)
    path = resolve_any_model(model, say, Progress("fetch"))
    name = chosen.name if layout == "cmake" else f"{chosen.name}-{layout}"
    folder, budgets = output or Path("build") / name, Budgets(max_flash, max_ram, max_instructions)
    sources = None
    if runtime == "tflm":
        from mbx_deploy.firmware.tflm import find_checkouts

        sources = find_checkouts({name.upper(): given for name, given in checkouts.items()})
    elif any(checkouts.values()):
        raise click.UsageError("a checkout of TFLite Micro is given: need --runtime tflm")
    if network_only and stride_ms is not None:
        raise click.UsageError("--network-only has no front end, so no windows: leave --stride-ms out.")
    tell_passed_over(data)
    report = builder.build(
        artifact_of(path, forward, say, data),
        chosen,
        folder,
        prefix,
        stride_ms,
        say,
        budgets,
        layout,
        sources,
        count_inference,
        network_only,
        step_frames,
        count_listening,
    )
    if as_json:
        print_json(report.to_dict())
        return
    click.echo(render_report(report.memory))
    if report.elf:
        click.echo(f"firmware: {report.elf}")
        if report.page is not None:
            click.echo(f"page:     {report.page}")
            click.echo(f"next:     open the page, or mbx-deploy serve {_quoted(report.folder)}")
        elif network_only:
            click.echo(f"next:     mbx-deploy verify {_quoted(report.folder)}")
        elif chosen.machine or chosen.emulated_as or chosen.toolchain == "host":
            click.echo(f"next:     mbx-deploy run {_quoted(report.folder)} RECORDING.wav")
        if chosen.log and not network_only:
            click.echo(f"log:      {chosen.uart_baud:,} baud {chosen.log}")
    elif layout != "cmake":
        click.echo(f"project:  {report.folder}")
        click.echo(f"next:     {report.folder / 'README.md'} tells how {layout} takes it")
    elif runtime == "tflm":
        click.echo(f"project:  {report.folder}")
        click.echo(f"not compiled: {', '.join(report.missing_tools)} not here. README.md of the project tells how to")
    else:
        click.echo(f"project:  {report.folder}")
        click.echo(
            f"not compiled: {' and '.join(report.missing_tools)} not installed. mbx-deploy doctor names the line that "
            f"installs it; or elsewhere: cmake -B build && cmake --build build"
        )


def _quoted(path: Path | str) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(click.format_filename(path))


@click.command()
@click.argument("model")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--engine", type=MODEL_ENGINES, default="sim", show_default=True, help="What computes it.")
@click.option("--trace", is_flag=True, help="Print each stage: shape, first values, CRC-32.")
@FORWARD_OPTION
@JSON_OPTION
def simulate(model: str, clips: tuple[Path, ...], engine: str, trace: bool, forward: str | None, as_json: bool) -> None:
    """Say which word each recording holds; of a folder, each recording below it.

    One that can't be read is told, the others are answered, and the exit code is 2.

    MODEL: a .tflite, a .nemo, a shipped model's name, or for --engine float a .pt.
    """
    from mbx_deploy.engines import recognize as simulator
    from mbx_deploy.errors import InputError
    from mbx_deploy.system.resources import resolve_model

    failed: list[InputError] = []

    def tell(error: InputError) -> None:
        failed.append(error)
        click.echo(error.render(), err=True)

    paths = simulator.recordings_of(clips, tell)
    answers = simulator.simulate(resolve_model(model), paths, engine, trace, note, forward, tell)
    if answers:
        print_answers(answers, as_json)
    if failed:
        sys.exit(InputError.exit_code)


@click.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--trace", is_flag=True, help="Print each stage: shape, first values, CRC-32.")
@click.option("--image", is_flag=True, help="Boot the board's own image in an emulator of its chip, and let it listen.")
@JSON_OPTION
def run(folder: Path, clips: tuple[Path, ...], trace: bool, image: bool, as_json: bool) -> None:
    """Run a build's firmware on recordings, in the emulator of its target.

    With --image a board's own image hears them one after the other, as its microphone would, and what it
    sends on its serial port is printed. Where the chip has no emulator here, leave it out.
    """
    from mbx_deploy.engines import recognize as simulator
    from mbx_deploy.firmware.folder import load_hearing_build

    if image:
        if trace:
            raise click.UsageError("--trace is for the recogniser's library: an image tells words alone.")
        _boot(folder, clips, as_json)
        return
    print_answers(simulator.run_firmware(load_hearing_build(folder), clips, trace, note), as_json)


def _boot(folder: Path, clips: tuple[Path, ...], as_json: bool) -> None:
    """Boot the image of a build, let it hear recordings, print what it says."""
    from mbx_deploy.data.audio import read_recording
    from mbx_deploy.emulation.images import SAMPLE_RATE_HZ, before_gain, join_recordings, run_image
    from mbx_deploy.firmware.folder import load_hearing_build

    build = load_hearing_build(folder)
    recordings = [read_recording(clip, SAMPLE_RATE_HZ).samples for clip in clips]
    heard = run_image(build, before_gain(join_recordings(recordings), build.target), say)
    if as_json:
        print_json(heard.to_dict())
    else:
        click.echo(heard.render())
    if heard.faults:
        sys.exit(1)


@click.command()
@click.argument("model")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .npz file to write.")
@FORWARD_OPTION
def features(model: str, clips: tuple[Path, ...], output: Path, forward: str | None) -> None:
    """Write the int8 features that the network sees: features (clips, frames, coefficients), scale, zero_point."""
    from mbx_deploy.engines import recognize as simulator
    from mbx_deploy.system.resources import resolve_model

    shape = simulator.write_features(resolve_model(model), clips, output, note, forward)
    click.echo(f"{click.format_filename(output)}: {' x '.join(map(str, shape))} (clips x frames x coefficients)")


@click.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help=f"{DATA_SET}; a folder of any recordings, too.")
@click.option("--clips", default=DEFAULT_CLIPS, show_default=True, type=click.IntRange(1), help="Recordings at most.")
@click.option(
    "--inputs", type=click.Path(path_type=Path), help="An .npy, int8 or float32 (N, ...), for a --network-only build."
)
@PORT_OPTION
@BAUD_OPTION
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file, too.")
def verify(
    folder: Path,
    data: Path | None,
    clips: int,
    inputs: Path | None,
    port: Path | None,
    baud: int | None,
    json_path: Path | None,
) -> None:
    """Run all engines on the same recordings and hostile inputs; exit 1 unless all bytes are equal.

    With --port the device there, which runs the build, is compared with the simulator. A build of a network alone is
    run on random inputs, and on those of --inputs.
    """
    from mbx_deploy.firmware.folder import load_build
    from mbx_deploy.measure import verify as verifier
    from mbx_deploy.measure.inputs import read_inputs
    from mbx_deploy.measure.items import find_clips
    from mbx_deploy.serial.link import Link
    from mbx_deploy.serial.port import DEFAULT_BAUD, Port
    from mbx_deploy.system.files import write_file

    if data is None and not (folder / "manifest.json").is_file():
        raise click.UsageError("Missing option '--data'.")
    loaded = load_build(folder)
    if loaded.model.hearing is None:
        if data is not None:
            raise click.UsageError("a build of a network alone takes no recordings: --inputs instead of --data.")
        if port is not None:
            raise click.UsageError("a build of a network alone listens to no port.")
    elif data is None or inputs is not None:
        raise click.UsageError("Missing option '--data'." if data is None else "--inputs is for a network alone.")
    tell_passed_over(data)
    recordings = find_clips(data, clips) if data is not None else []
    values = read_inputs(inputs, loaded.model) if inputs is not None else None
    if port is None:
        comparison = verifier.verify(loaded, recordings, values, Progress("verify"))
    else:
        with Port(port, baud or loaded.target.uart_baud or DEFAULT_BAUD) as line:
            comparison = verifier.verify(loaded, recordings, values, Progress("verify"), Link(line))
    click.echo(verifier.render_comparison(comparison))
    if json_path:
        write_file(json_path, json.dumps(comparison.to_dict(), indent=2, sort_keys=True) + "\n")
    if comparison.mismatched_bytes:
        sys.exit(1)


@click.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the profile to this file, too.")
def profile(folder: Path, json_path: Path | None) -> None:
    """Count a build's instructions in the emulator: by layer, by stage of the front end, by kind; flash, RAM, stack."""
    from mbx_deploy.firmware.folder import load_build
    from mbx_deploy.measure.profile.profile import profile_build, render
    from mbx_deploy.system.files import write_file

    found = profile_build(load_build(folder))
    if json_path:
        write_file(json_path, json.dumps(found.to_dict(), indent=2, sort_keys=True) + "\n")
    click.echo(render(found))


@click.command()
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .html file to write.")
@click.option("--data", type=click.Path(path_type=Path), help=f"{DATA_SET}: accuracy, noise, parity.")
@click.option("--clips", default=DEFAULT_CLIPS, show_default=True, type=click.IntRange(1), help="Recordings at most.")
@click.option(
    "--streams", multiple=True, type=click.Path(path_type=Path), help="A folder of long recordings. Again for each."
)
def report(folder: Path, output: Path, data: Path | None, clips: int, streams: tuple[Path, ...]) -> None:
    """Write one HTML page about a build: model card, accuracy, noise, rooms, memory, layers, error, front end, parity.

    Exits with 1 where the engines' bytes differ; the page is written then, too, and says where.
    """
    from mbx_deploy.codegen.target import WASM
    from mbx_deploy.firmware.folder import load_hearing_build
    from mbx_deploy.measure.report.findings import gather
    from mbx_deploy.measure.report.page import render_page
    from mbx_deploy.measure.report.plots import require_matplotlib
    from mbx_deploy.system.files import check_file, write_file

    require_matplotlib()
    loaded = load_hearing_build(folder)
    check_file(output)
    tell_passed_over(data)
    findings = gather(loaded, data, clips, say, Progress("compare"), streams)
    hear = quote(os.path.relpath(loaded.page, output.parent)) if loaded.target.toolchain == WASM else None
    write_file(output, render_page(findings, hear))
    click.echo(f"report: {click.format_filename(output)}")
    for why in findings.missing.values():
        note(why)
    if findings.comparison.mismatched_bytes:
        sys.exit(1)
