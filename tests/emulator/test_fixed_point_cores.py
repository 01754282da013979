"""The products of a core, as it computes them: DSP instructions, a long multiply, or four products of halves."""

import struct
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.system.emulator import qemu_answer
from mbx_deploy.system.tools import need_tool, run_tool
from tests.made.firmware import COMPILER, INCLUDES, LINKER_FLAGS, write_project
from tests.made.foreign_networks import foreign_network

MIN, MAX = -(1 << 31), (1 << 31) - 1
EDGES = (
    {MIN, MIN + 1, -1, 0, 1, MAX - 1, MAX}
    | {sign * (1 << bit) + step for bit in (7, 14, 15, 16, 17, 30) for sign in (-1, 1) for step in (-1, 0, 1)}
    | {0x7FFF8000, 0x7FFF7FFF, -0x7FFF8000, 0x12348000, -0x12348000}
)


def signed(value: int, bits: int) -> int:
    """Return the number that the low bits of value are, in two's complement."""
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def exact(a: int, b: int) -> tuple[int, ...]:
    """Return what fixed_point.c writes for a pair: two uint64, four int32."""
    first, second, half = a % (1 << 32), b % (1 << 32), 1 << 31
    unsigned = first * second
    wide = (a * b % (1 << 64), unsigned)
    negative = 3 + ((-a * b + half) >> 32)
    narrow = ((a * b + half) >> 32, 3 + ((a * b + half) >> 32), negative, a * signed(b, 16) >> 16)
    return *wide, *(signed(value, 32) for value in narrow)


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33"])
def test_products_at_the_edges(name: str, tmp_path: Path) -> None:
    for tool in (COMPILER, "qemu-system-arm"):
        need_tool(tool, "run firmware")
    target, network = find_target(name), foreign_network(1)
    assert network.hearing is None and target.machine is not None
    files = generate_project(network, target)
    write_project(files, tmp_path)
    (tmp_path / "board/main.c").write_text((Path(__file__).parent / "fixed_point.c").read_text())
    units = [path for path in files if path.startswith("board/") and path.endswith((".c", ".S"))]
    units = [path for path in units if "mbx_session" not in path]
    flags = ("-std=c99", target.optimization, *target.compile_flags, "-ffunction-sections", "-fdata-sections")
    run_tool([COMPILER, *flags, *INCLUDES, *units, *LINKER_FLAGS, "-o", "products.elf"], cwd=tmp_path)
    # A core's negated minimum is no int32: mbx_multiply_high_subtract() is never called with it.
    random = np.random.default_rng(3).integers(MIN + 1, MAX, (500, 2), endpoint=True).tolist()
    pairs = [(a, b) for a in sorted(EDGES - {MIN}) for b in sorted(EDGES)] + [(a, b) for a, b in random]
    request = struct.pack("<I", len(pairs)) + np.array(pairs, "<i4").tobytes()
    emulator = need_tool("qemu-system-arm", "run firmware")
    answer = qemu_answer(emulator, target.machine, tmp_path / "products.elf", request, 1)
    got = list(struct.iter_unpack("<2Q4i", answer))
    differing = [(pair, found, exact(*pair)) for pair, found in zip(pairs, got, strict=True) if found != exact(*pair)]
    assert not differing, differing[:3]
