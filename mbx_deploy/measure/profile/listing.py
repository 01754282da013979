"""An ELF as a listing: symbols with their sizes, instructions with their names, and what those cost."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.system.tools import need_tool, run_tool

KINDS = ("load", "store", "multiply", "divide", "branch", "vector", "other")
# A taken branch refills the pipeline: 1 to 3 cycles, by the target's alignment and width. Source: ARM DDI 0439B, 3.3.1.
REFILL_CYCLES = 2
# Of the shorter pipeline of a Cortex-M0+. Source: ARM DDI 0484C, table 3-1: a taken branch has 2 cycles.
M0PLUS_REFILL_CYCLES = 1
_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al"
_BRANCH = re.compile(rf"^(b({_CONDITIONS})?|bl|bx|blx|cbz|cbnz|tbb|tbh|le|letp|wls|dls|wlstp|dlstp|bxns|blxns)$")
_LOAD = re.compile(r"^(ldr|ldm|pop|ldrd|ldrex|ldrb|ldrh|ldrsb|ldrsh)")
_STORE = re.compile(r"^(str|stm|push)")
_MULTIPLY = re.compile(r"^(mul|mla|mls|sml|smu|smm|uml|umu|uma)")
_DIVIDE = re.compile(r"^(sdiv|udiv)")
_LONG_LISTS = re.compile(r"^(ldm|stm|push|pop|vldm|vstm|vpush|vpop)")


@dataclass(frozen=True)
class Symbol:
    """A function or an object. kind: as nm prints it."""

    name: str
    address: int
    size: int
    kind: str

    @property
    def is_code(self) -> bool:
        """Return whether it lies in .text as a function."""
        return self.kind in "tTwW"


@dataclass(frozen=True)
class Instruction:
    """One line of the disassembly. name: without its width and condition."""

    address: int
    name: str
    operands: str

    @property
    def kind(self) -> str:
        """Return what it is, one of KINDS."""
        if _BRANCH.match(self.name) or (self.name in ("pop", "ldmia", "ldm") and "pc" in self.operands):
            return "branch" if _BRANCH.match(self.name) else "load"
        for kind, pattern in (("load", _LOAD), ("store", _STORE), ("multiply", _MULTIPLY), ("divide", _DIVIDE)):
            if pattern.match(self.name):
                return kind
        if self.name.startswith("v"):
            return {"vld": "load", "vst": "store", "vpo": "load", "vpu": "store"}.get(self.name[:3], "vector")
        return "other"


@dataclass(frozen=True)
class Listing:
    """symbols: by address. code: {address: instruction}."""

    symbols: tuple[Symbol, ...]
    code: Mapping[int, Instruction]

    def address_of(self, name: str) -> int | None:
        """Return where a symbol lies, the first of that name; None without one."""
        return next((symbol.address for symbol in self.symbols if symbol.name == name), None)

    def function_at(self, address: int) -> Symbol | None:
        """Return the function that an address lies in."""
        for symbol in self.symbols:
            if symbol.is_code and symbol.address <= address < symbol.address + max(symbol.size, 1):
                return symbol
        return None

    def inside(self, name: str) -> list[Instruction]:
        """Return a function's instructions in order; empty where there is none of that name."""
        symbol = next((s for s in self.symbols if s.name == name and s.is_code), None)
        if symbol is None:
            return []
        span = range(symbol.address, symbol.address + symbol.size)
        return [self.code[address] for address in sorted(self.code) if address in span]

    def behind(self, address: int) -> int:
        """Return the address of the instruction after this one."""
        wide = address + 2 not in self.code
        return address + (4 if wide else 2)


def read_listing(elf: Path, toolchain: str) -> Listing:
    """Return the listing of an ELF. toolchain: what its tools' names begin with. Raises ToolMissing without them."""
    nm, objdump = (need_tool(f"{toolchain}-{tool}", "profile a build") for tool in ("nm", "objdump"))
    table = run_tool([nm, "-S", "-n", str(elf)], what="reading the symbols").stdout
    listed = run_tool([objdump, "-d", "--no-show-raw-insn", str(elf)], what="reading the instructions").stdout
    return Listing(tuple(parse_symbols(table)), {one.address: one for one in parse_instructions(listed)})


def parse_symbols(table: str) -> list[Symbol]:
    """Return the symbols that `nm -S -n` prints; absolute ones have no size."""
    found = []
    for line in table.splitlines():
        parts = line.split()
        if len(parts) == 4:
            found.append(Symbol(parts[3], int(parts[0], 16), int(parts[1], 16), parts[2]))
        elif len(parts) == 3:
            found.append(Symbol(parts[2], int(parts[0], 16), 0, parts[1]))
    return found


def parse_instructions(listed: str) -> list[Instruction]:
    """Return the instructions that `objdump -d --no-show-raw-insn` prints."""
    found = []
    for line in listed.splitlines():
        match = re.match(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$", line)
        if match and not match[2].startswith("."):
            name = match[2].removesuffix(".w").removesuffix(".n")
            found.append(Instruction(int(match[1], 16), name, match[3].partition("@")[0].strip()))
    return found


def mix(listing: Listing, counts: Mapping[int, int]) -> dict[str, int]:
    """Return how many instructions of each kind ran, by counts: {address: how often}."""
    found = dict.fromkeys(KINDS, 0)
    for address, runs in counts.items():
        instruction = listing.code.get(address)
        found[instruction.kind if instruction else "other"] += runs
    return found


def estimate_cycles_m4(listing: Listing, counts: Mapping[int, int], jumps: Mapping[int, int]) -> int:
    """Return an estimate of the cycles on a Cortex-M4 whose memory has no wait states.

    Source: ARM DDI 0439B, table 3-1 and 3.3.3: one cycle an instruction; a load or store 2, of several in a row only
    the first; of a list 1 and one a register; a division 2 to 12, 7 here; a jump 1 and REFILL_CYCLES.
    """
    cycles = 0
    for address, runs in counts.items():
        instruction = listing.code.get(address)
        cycles += runs * (_cycles(listing, instruction) if instruction else 1)
    return cycles + REFILL_CYCLES * sum(jumps.values())


def estimate_cycles_m0plus(listing: Listing, counts: Mapping[int, int], jumps: Mapping[int, int]) -> int:
    """Return an estimate of the cycles on a Cortex-M0+ with the one-cycle multiplier and no wait states.

    Source: ARM DDI 0484C, table 3-1: one cycle an instruction; a load or store 2; of a list 1 and one a register; a
    call 3, a jump 1 and M0PLUS_REFILL_CYCLES.
    """
    cycles = 0
    for address, runs in counts.items():
        found = listing.code.get(address)
        if found is None:
            cycles += runs
        elif found.kind in ("load", "store"):
            cycles += runs * (1 + _registers(found.operands) if _LONG_LISTS.match(found.name) else 2)
        else:
            cycles += runs * (2 if found.name == "bl" else 1)
    return cycles + M0PLUS_REFILL_CYCLES * sum(jumps.values())


def _cycles(listing: Listing, instruction: Instruction) -> int:
    if instruction.kind == "divide":
        return 7
    if instruction.kind not in ("load", "store"):
        return 1
    if _LONG_LISTS.match(instruction.name):
        return 1 + _registers(instruction.operands)
    if instruction.name in ("ldrd", "strd"):
        return 3
    before = listing.code.get(instruction.address - 2) or listing.code.get(instruction.address - 4)
    follows = before is not None and before.kind in ("load", "store") and not _LONG_LISTS.match(before.name)
    return 1 if follows else 2


def _registers(operands: str) -> int:
    """Return how many registers a list names: {r4, r5, r8-r11}."""
    inside = operands[operands.find("{") + 1 : operands.find("}")]
    count = 0
    for part in filter(None, (one.strip() for one in inside.split(","))):
        first, dash, last = part.partition("-")
        number = re.compile(r"\d+")
        ends = [number.search(one) for one in (first, last)]
        count += int(ends[1][0]) - int(ends[0][0]) + 1 if dash and ends[0] and ends[1] else 1
    return count
