"""Every target with an emulator: its firmware boots, and gives the simulator's bytes."""

from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.target import Target, list_targets
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, TRACE_LAYERS, TRACE_STAGES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.system.emulator import emulator_of
from mbx_deploy.system.tools import find_tool
from tests.made.firmware import FirmwareBuilder
from tests.made.random_networks import random_recognizer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TARGETS = [target for target in list_targets() if target.machine]


def test_there_are_targets() -> None:
    assert {"cortex-m4", "riscv32imc"} < {target.name for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_target_gives_the_simulators_bytes(target: Target, shipped: CompiledModel, tmp_path: Path) -> None:
    """Three clips with the shipped model, a drawn network with odd shapes."""
    for tool in (f"{target.toolchain}-gcc", emulator_of(str(target.machine))):
        if find_tool(tool) is None:
            pytest.skip(f"{tool} is not installed")
    builder = FirmwareBuilder(target, tmp_path)
    length = shipped.config.clip_samples
    clips = [fit_clip(read_recording(EXAMPLES / name).samples, length) for name in ("stop.wav", "words.wav")]
    clips.append(np.random.default_rng(1).integers(-32768, 32768, length).astype(np.int16))
    drawn = random_recognizer(4)
    count = drawn.config.num_frames * drawn.config.num_coefficients
    features = np.random.default_rng(2).integers(-128, 128, count, dtype=np.int8)
    for recognizer, items, trace in (
        (shipped, [Item(ITEM_CLIP, clip) for clip in clips], TRACE_STAGES),
        (drawn, [Item(ITEM_FEATURES, features)], TRACE_LAYERS),
    ):
        expected = SimEngine(recognizer).run(items, trace)
        for got, want in zip(builder.engine(recognizer).run(items, trace), expected, strict=True):
            assert list(got[0].stages) == list(want[0].stages)
            for stage, values in want[0].stages.items():
                np.testing.assert_array_equal(got[0].stages[stage], values, stage)
            np.testing.assert_array_equal(got[0].logits, want[0].logits)
            np.testing.assert_array_equal(got[0].posteriors_q15, want[0].posteriors_q15)
