"""Counts instructions of a firmware in QEMU, by segments between marks. Twin of the protocol: count.c beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mbx_deploy.errors import CheckFailed
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import compile_shared_library

_PLUGIN = Path(__file__).with_name("count.c")


@dataclass(frozen=True)
class Block:
    """Code that QEMU translated in one piece: the address of each of its instructions."""

    addresses: tuple[int, ...]


@dataclass
class Segment:
    """What ran between two marks. runs: how often each block; jumps: how often a block's end was left by a jump."""

    mark: int
    runs: dict[int, int] = field(default_factory=dict)
    jumps: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """One run: its segments in the order of time. lowest_write: the lowest address written in the stack."""

    blocks: dict[int, Block]
    segments: tuple[Segment, ...]
    lowest_write: int

    def instructions(self, segments: Sequence[Segment]) -> int:
        """Return how many instructions segments ran."""
        return sum(len(self.blocks[number].addresses) * runs for s in segments for number, runs in s.runs.items())

    def by_address(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Return {address: how often the instruction there ran}."""
        found: dict[int, int] = {}
        for segment in segments:
            for number, runs in segment.runs.items():
                for address in self.blocks[number].addresses:
                    found[address] = found.get(address, 0) + runs
        return found

    def jumps(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Return {address of a block's last instruction: how often it jumped}."""
        found: dict[int, int] = {}
        for segment in segments:
            for number, jumps in segment.jumps.items():
                address = self.blocks[number].addresses[-1]
                found[address] = found.get(address, 0) + jumps
        return found


def compile_plugin() -> Path:
    """Return the path of the plugin, compiled once for this machine. Raises ToolMissing without gcc."""
    return compile_shared_library({_PLUGIN.name: _PLUGIN.read_text(encoding="utf-8")}, ("-O2",))


def count(run: Callable[[str], object], marks: Sequence[int], stack: tuple[int, int] = (0, 0)) -> Counts:
    """Return what a firmware executed.

    run: starts the emulator with this argument of its option -plugin, and waits for its end. marks: addresses, each of
    which begins a segment. stack: its first address and the one behind it. Raises CheckFailed where QEMU is too old, or
    was built without plugins.
    """
    with scratch_folder() as folder:
        result = Path(folder) / "counts"
        # A comma ends an argument of QEMU's; doubled it stands for itself.
        options = [str(path).replace(",", ",,") for path in (compile_plugin(), result)]
        argument = ",".join(
            [f"file={options[0]}", f"out={options[1]}", *(f"mark={mark:x}" for mark in marks)]
            + ([f"stack={stack[0]:x}-{stack[1]:x}"] if stack[1] else [])
        )
        run(argument)
        if not result.is_file():
            raise CheckFailed("QEMU counted nothing: it was built without plugins", "use QEMU 6.2 or newer of Debian's")
        return parse_counts(result.read_text(encoding="ascii"))


def parse_counts(text: str) -> Counts:
    """Return the counts that the plugin wrote. Raises CheckFailed for a text that is cut off."""
    blocks: dict[int, Block] = {}
    segments: list[Segment] = []
    lowest = None
    for line in text.splitlines():
        kind, *values = line.split()
        numbers = [int(value, 16) for value in values]
        if kind == "B":
            address, addresses = numbers[1], []
            for length in numbers[2:]:
                addresses.append(address)
                address += length
            blocks[numbers[0]] = Block(tuple(addresses))
        elif kind == "S":
            segments.append(Segment(numbers[0]))
        elif kind == "C":
            segments[-1].runs[numbers[0]] = numbers[1]
            if numbers[2]:
                segments[-1].jumps[numbers[0]] = numbers[2]
        else:
            lowest = numbers[0]
    if lowest is None:
        raise CheckFailed("QEMU's counts are cut off: the emulator was stopped")
    return Counts(blocks, tuple(segments), lowest)
