"""The mean of a stream on a core: four channels at a time with the DSP extension, and those that can't go so."""

import struct
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.sim.fixed_point import clamp, multiply_by_quantized_multiplier
from mbx_deploy.system.emulator import qemu_answer
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.tools import find_tool, need_tool, run_tool
from tests.made.firmware import COMPILER, INCLUDES, LINKER_FLAGS, write_project
from tests.made.foreign_networks import foreign_network

pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]
STEPS = 14
SHAPES = (
    (10, 10, 64),
    (10, 10, 7),
    (1, 1, 4),
    (51, 5, 9),
    (75, 4, 8),
    (3, 1, 6),
)  # 51 * 5 is the last that goes by fours


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_means(core: str, tmp_path: Path) -> None:
    target = find_target(core)
    assert target.machine is not None
    files = generate_project(foreign_network(1), target)
    files |= {f"src/{name}": runtime_file(name).read_text() for name in ("mbx_stream.c", "mbx_stream.h")}
    write_project(files, tmp_path)
    (tmp_path / "board/main.c").write_text((Path(__file__).parent / "stream_mean.c").read_text())
    units = [path for path in files if path.startswith("board/") and path.endswith((".c", ".S"))]
    units = [path for path in units if "mbx_session" not in path] + ["src/mbx_stream.c", "src/mbx_kernels.c"]
    flags = ("-std=c99", target.optimization, *target.compile_flags, "-ffunction-sections", "-fdata-sections")
    run_tool([COMPILER, *flags, *INCLUDES, *units, *LINKER_FLAGS, "-o", "means.elf"], cwd=tmp_path)
    rng = np.random.default_rng(5)
    for positions, blocks, channels in SHAPES:
        shape = (STEPS, positions, channels)
        inputs = np.where(rng.random(shape) < 0.5, rng.integers(-128, 128, shape), rng.choice((-128, 127), shape))
        inputs[5:11] = -128  # the largest sum
        request = struct.pack("<4I", positions, blocks, channels, STEPS) + inputs.astype(np.int8).tobytes()
        answer = qemu_answer(need_tool("qemu-system-arm", "run"), target.machine, tmp_path / "means.elf", request, 1)
        got = np.frombuffer(answer, np.int8).reshape(STEPS, channels)
        newest = np.concatenate([np.zeros((blocks - 1, channels), np.int64), inputs.sum(axis=1)])
        sums = np.stack([newest[step : step + blocks].sum(axis=0) for step in range(STEPS)])
        scaled = multiply_by_quantized_multiplier(sums + 128 * positions * blocks, np.array(1431655765), np.array(-6))
        np.testing.assert_array_equal(got, clamp(scaled - 128, -128, 127), f"{positions} x {blocks} x {channels}")
