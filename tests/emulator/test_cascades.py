"""Cascades on every core: networks in stripes give, layer by layer, the simulator's bytes."""

from pathlib import Path

import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler import model as compiled
from mbx_deploy.compiler.cascade import Shift, make_cascade
from mbx_deploy.compiler.memory_plan import MemoryPlan, plan_cascades, whole_kernels
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.compiler.plan_checker import check_plan
from mbx_deploy.engines.session import TRACE_LAYERS
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.measure.profile.inference import count_inference
from mbx_deploy.measure.profile.profile import profile_build
from mbx_deploy.measure.verify import verify
from mbx_deploy.network.program import Average, Program
from mbx_deploy.system.tools import find_tool
from tests.emulator.test_kernels_m4 import check_same, inputs
from tests.made.firmware import FirmwareBuilder
from tests.made.foreign_networks import image_network
from tests.made.random_networks import random_recognizer

pytestmark = pytest.mark.skipif(
    not all(map(find_tool, ("arm-none-eabi-gcc", "qemu-system-arm"))),
    reason="arm-none-eabi-gcc or qemu-system-arm is not installed",
)
TARGETS = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55")
SEEDS = range(24)
IMAGE_SEEDS = (1, 4)
NETWORKS = 3
STRIPE = 8


def plan_in_stripes(program: Program, kernel_set: str) -> MemoryPlan:
    """Return a plan of the longest cascades that there are, worth their price or not."""
    cascades = []
    first = 0
    while first < len(program.calls):
        made = (make_cascade(program, first, last, STRIPE) for last in range(len(program.calls) - 1, first, -1))
        cascade = next((cascade for cascade in made if cascade), None)
        cascades += [cascade] if cascade else []
        first = cascade.last + 1 if cascade else first + 1
    plan = plan_cascades(program, whole_kernels(program, kernel_set), tuple(cascades))
    check_plan(program, plan)
    return plan


def networks_in_stripes(kernel_set: str) -> list[CompiledModel]:
    """Return drawn networks whose cascades carry positions along, or end in a mean."""
    found: dict[str, list[CompiledModel]] = {"both": [], "shift": [], "mean": []}
    for recognizer in map(random_recognizer, SEEDS):
        plan = recognizer.for_kernels(kernel_set).plan
        shifts = any(isinstance(step, Shift) for cascade in plan.cascades for step in cascade.steps)
        means = any(isinstance(recognizer.program.calls[cascade.last], Average) for cascade in plan.cascades)
        if shifts or means:
            found["both" if shifts and means else "shift" if shifts else "mean"].append(recognizer)
    assert all(found.values()), {kind: len(those) for kind, those in found.items()}
    return [recognizer for those in found.values() for recognizer in those[:NETWORKS]]


@pytest.mark.parametrize("name", TARGETS)
def test_networks_in_stripes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "plan_memory", plan_in_stripes)
    target = find_target(name)
    builder = FirmwareBuilder(target, tmp_path)
    for recognizer in networks_in_stripes(target.kernels):
        items = inputs(recognizer, 3)[:5]
        check_same(builder.engine(recognizer), recognizer, items, TRACE_LAYERS)


@pytest.mark.parametrize("name", TARGETS)
def test_images_in_stripes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of rows: the same bytes, what they cost counted by layer, and within the static bound of the stack."""
    monkeypatch.setattr(compiled, "plan_memory", plan_in_stripes)
    for seed in IMAGE_SEEDS:
        network = image_network(seed)
        model = tmp_path / f"{seed}.tflite"
        model.write_bytes(network.data)
        build(model, find_target(name), tmp_path / f"{seed}", network_only=True)
        loaded = load_build(tmp_path / f"{seed}")
        plan = loaded.model.plan
        assert any(isinstance(step, Shift) for cascade in plan.cascades for step in cascade.steps)
        comparison = verify(loaded)
        assert comparison.first_mismatch is None and "firmware" in comparison.engines, comparison.to_dict()
        found = profile_build(loaded)
        assert sum(layer.instructions for layer in found.layers) == found.network.instructions
        assert found.network.instructions == count_inference(loaded.model, loaded.elf, loaded.target)
        assert 0 < found.stack_bytes <= found.firmware["stack_bound_bytes"]
