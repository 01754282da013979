"""The front end's short cuts on a core, which no observer sees: every coefficient is the simulator's."""

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.recipes import recipe_config
from mbx_deploy.frontend.tables import build_tables
from mbx_deploy.sim import frontend as sim
from mbx_deploy.system.emulator import qemu_answer
from mbx_deploy.system.tools import find_tool, need_tool, run_tool
from tests.emulator.test_kernels_m4 import CONFIGS
from tests.made.firmware import COMPILER, INCLUDES, LINKER_FLAGS, write_project
from tests.made.tflite import small_artifact
from tests.parity.test_frontend_c import SIGNALS, signal

CORES = ("cortex-m0plus", "cortex-m4", "cortex-m55")
ORDINARY = FrontendConfig(clip_samples=1600)
WINDOWS = {
    "ordinary": ORDINARY,
    "twice a quarter": dataclasses.replace(ORDINARY, window_length=256),
    "a pair more": dataclasses.replace(ORDINARY, window_length=258),
    "three quarters": dataclasses.replace(ORDINARY, window_length=384),
    "whole": dataclasses.replace(ORDINARY, window_length=512, n_mels=40, n_mfcc=0),
    "emphasized": dataclasses.replace(ORDINARY, preemphasis=0.97, n_mels=40, n_mfcc=13),
    "magnitudes": recipe_config("arm-kws", {"clip_samples": 1600}),
}

pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]


# Each front end on one core, some on all.
ON_EACH = ("ordinary", "a pair more", "emphasized", "magnitudes")
CASES = [
    *((name, core) for core in CORES for name in ON_EACH),
    *((name, CORES[number % len(CORES)]) for number, name in enumerate([*WINDOWS, *CONFIGS]) if name not in ON_EACH),
]


@pytest.mark.parametrize(("name", "core"), CASES)
def test_unobserved_frames(name: str, core: str, tmp_path: Path) -> None:
    config = (WINDOWS | CONFIGS)[name]
    target, tables = find_target(core), build_tables(config)
    assert target.machine is not None
    files = generate_project(parse_model(small_artifact(config), name), target, stride_frames=1)
    write_project(files, tmp_path)
    (tmp_path / "board/main.c").write_text((Path(__file__).parent / "frames.c").read_text())
    units = [path for path in files if path.startswith("board/") and path.endswith((".c", ".S"))]
    units = [path for path in units if "mbx_session" not in path]
    units += [path for path in files if "frontend" in path and path.endswith(".c")]
    units += [path for path in files if path.startswith("src/") and path.endswith(".S")]
    flags = ("-std=c99", target.optimization, *target.compile_flags, "-ffunction-sections", "-fdata-sections")
    run_tool([COMPILER, *flags, *INCLUDES, *units, *LINKER_FLAGS, "-o", "frames.elf"], cwd=tmp_path)
    length = config.window_length
    frames = np.stack([signal(kind, length, config, seed) for kind in SIGNALS for seed in range(3)])
    request = struct.pack("<I", len(frames)) + frames.astype("<i2").tobytes()
    answer = qemu_answer(need_tool("qemu-system-arm", "run"), target.machine, tmp_path / "frames.elf", request, 1)
    got = np.frombuffer(answer, "<i4").reshape(len(frames), -1)
    if tables.preemphasis_q30:  # silence comes before each frame
        emphasized = [sim.preemphasize(np.concatenate([[0], frame]).astype(np.int16), tables)[1:] for frame in frames]
        frames = np.stack(emphasized)
    np.testing.assert_array_equal(got, sim.frame_coefficients(frames, tables))
