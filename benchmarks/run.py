"""Measures mbx-deploy against its peers: the same network, program, linker script, flags and emulator.

    python benchmarks/run.py [--model MODEL] [--target cortex-m4] [--json F] [--markdown F]

Peers: bakenn from PyPI, installed into an environment of its own below --work, in each of its ways; and TFLite Micro on
this machine, whose bytes every firmware must give. MODEL is a .tflite or a .nemo that ends in MEAN and FULLY_CONNECTED;
without it, NeMo's checkpoint beside this checkout, if it is there, else the shipped model. Needs what tests need.
Exits with 1 where a firmware gives other bytes than TFLite Micro.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from contestants import Contestant, link, make_bakenn_environment, write_bakenn, write_empty, write_ours
from pooled_model import replace_mean

from mbx_deploy.codegen.target import Target, find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.firmware import FirmwareEngine
from mbx_deploy.engines.session import ITEM_FEATURES, Item, Result
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import CheckFailed, MbxError
from mbx_deploy.firmware.stack import elf_sizes
from mbx_deploy.measure.profile.counting import Counts, count
from mbx_deploy.measure.profile.inference import NETWORK, network_end
from mbx_deploy.measure.profile.listing import Listing, estimate_cycles_m4, read_listing
from mbx_deploy.nemo.conversion import artifact_of
from mbx_deploy.system.resources import resolve_model
from mbx_deploy.system.tools import need_tool, run_tool

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT.parent / "shared" / "nemo" / "matchboxnet_3x1x64_8w_nemo221.nemo"
OPTIMIZATIONS = ("-O2", "-O3")
TARGETS = ("cortex-m4", "cortex-m0plus")
INPUTS = 4
EMPTY_ARENA_BYTES = 8  # of firmware/empty


@dataclass(frozen=True)
class Row:
    """One firmware. instructions, cycles_estimate: of the first input; cycles on a Cortex-M4 only.

    flash_bytes, ram_bytes: what the ELF has more than one without a network; RAM with input and output, without stack.
    stack_bytes: the most that the whole firmware used.
    """

    target: str
    contestant: str
    optimization: str
    equal_bytes: bool
    instructions: int
    cycles_estimate: int | None
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int


def draw_inputs(network: CompiledModel) -> list[Item]:
    """Return the inputs that everybody gets: int8, uniform."""
    random = np.random.default_rng(0)
    return [Item(ITEM_FEATURES, random.integers(-128, 128, network.input.size).astype(np.int8)) for _ in range(INPUTS)]


def sizes(elf: Path, target: Target) -> dict[str, int]:
    """Return the bytes of an ELF's flash and RAM."""
    tool = need_tool(f"{target.toolchain}-size", "measure the firmware")
    return elf_sizes(run_tool([tool, "-A", str(elf)], what="measuring the firmware").stdout)


def run_counted(elf: Path, network: CompiledModel, target: Target, listing: Listing) -> tuple[Counts, list[np.ndarray]]:
    """Return what a firmware executed, from the network's entry to its return, and its outputs."""
    entry, top = listing.address_of(NETWORK), listing.address_of("mbx_stack_top")
    stack, end = listing.address_of("mbx_stack_bytes"), network_end(listing, alone=True)
    if entry is None or top is None or stack is None:
        raise CheckFailed(f"{elf.name} can't be counted: its ELF does not name where the network begins")
    answers: list[list[list[Result]]] = []

    def run(plugin: str) -> None:
        answers.append(FirmwareEngine(network, elf, target, plugin).run(draw_inputs(network)))

    counts = count(run, [entry, end], (top - stack, top))
    return counts, [result[0].logits for result in answers[0]]


def measure(
    contestant: Contestant, network: CompiledModel, target: Target, optimization: str, work: Path, empty: dict[str, int]
) -> Row:
    """Return the row of a contestant at one level of optimization."""
    elf = work / f"{contestant.name.replace(' ', '_').replace(',', '')}{optimization}.elf"
    link(contestant, target, optimization, elf, work / "empty" / "linker.ld")
    listing = read_listing(elf, target.toolchain)
    counts, outputs = run_counted(elf, network, target, listing)
    expected = [result[0].logits for result in TflmEngine(network).run(draw_inputs(network))]
    entry, top = listing.address_of(NETWORK), listing.address_of("mbx_stack_top")
    first = [next(segment for segment in counts.segments if segment.mark == entry)]
    cycles = None
    if target.cpu == "cortex-m4":
        cycles = estimate_cycles_m4(listing, counts.by_address(first), counts.jumps(first))
    found = sizes(elf, target)
    return Row(
        target=target.name,
        contestant=contestant.name,
        optimization=optimization,
        equal_bytes=all(np.array_equal(a, b) for a, b in zip(outputs, expected, strict=True)),
        instructions=counts.instructions(first),
        cycles_estimate=cycles,
        flash_bytes=found["flash_bytes"] - empty["flash_bytes"],
        ram_bytes=found["ram_bytes"] - empty["ram_bytes"] + EMPTY_ARENA_BYTES,
        stack_bytes=int(top or 0) - counts.lowest_write,
    )


def measure_target(model: bytes, name: str, target: Target, work: Path, python: Path | None) -> list[Row]:
    """Return every row of a target. model: with its MEAN. python: bakenn's; None leaves bakenn out."""
    original, pooled = (
        parse_model(data, label, network_only=True)
        for data, label in ((model, name), (replace_mean(model), f"{name}, pooled"))
    )
    work.mkdir(parents=True, exist_ok=True)
    empty = write_empty(pooled, target, work / "empty")
    entries = [(original, write_ours("mbx-deploy, with MEAN", original, target, work / "mean"))]
    entries.append((pooled, write_ours("mbx-deploy", pooled, target, work / "pooled")))
    if python is not None:
        others = write_bakenn(python, pooled, target, work / "bakenn")
        entries += [(pooled, found) for found in others]
        if not others:
            print(f"{target.name}: left out bakenn, which has no profile of that core", file=sys.stderr)
    rows = []
    for optimization in OPTIMIZATIONS:
        link(empty, target, optimization, work / "empty.elf", work / "empty" / "linker.ld")
        base = sizes(work / "empty.elf", target)
        for network, contestant in entries:
            print(f"{target.name}: {contestant.name} {optimization}", file=sys.stderr)
            rows.append(measure(contestant, network, target, optimization, work, base))
    return rows


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    columns = ("core", "network compiled by", "gcc", "instructions", "M4 cycles, estimate", "flash", "RAM", "stack")
    lines = [f"| {' | '.join(columns)} | bytes of TFLite Micro |", "|" + "---|" * (len(columns) + 1)]
    for row in rows:
        cycles = "" if row.cycles_estimate is None else f"{row.cycles_estimate / 1e6:.2f} M"
        lines.append(
            f"| {row.target} | {row.contestant} | {row.optimization} | {row.instructions / 1e6:.2f} M | {cycles} "
            f"| {row.flash_bytes:,} | {row.ram_bytes:,} | {row.stack_bytes:,} | {'yes' if row.equal_bytes else 'NO'} |"
        )
    return "\n".join(lines) + "\n"


def choose_model(model: str | None) -> Path:
    """Return the path of the model to measure on."""
    return CHECKPOINT if model is None and CHECKPOINT.is_file() else resolve_model(model)


def main() -> int:
    """Measure, print, write. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--target", action="append", help="may be given again")
    parser.add_argument("--without-bakenn", action="store_true", help="where there is no network")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    try:
        path = choose_model(args.model)
        model = artifact_of(path).read_bytes()
        python = None if args.without_bakenn else make_bakenn_environment(args.work.absolute() / "bakenn-environment")
        rows = []
        for name in args.target or TARGETS:
            rows += measure_target(model, path.name, find_target(name), args.work.absolute() / name, python)
        compiler = run_tool(["arm-none-eabi-gcc", "-dumpfullversion"], what="asking for gcc's version").stdout.strip()
    except MbxError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    table = render(rows)
    print(table, end="")
    if args.markdown:
        args.markdown.write_text(table)
    if args.json:
        result = {"model": path.name, "gcc": compiler, "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row.equal_bytes for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
