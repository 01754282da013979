"""`verify --port` of a model that streams: the device took one decision for all of a clip, and told stale features."""

import numpy as np
import pytest

from mbx_deploy.compiler.model import load_model
from mbx_deploy.engines.device import DeviceEngine
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, TRACE_LAYERS, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.measure.items import NamedItem
from mbx_deploy.measure.verify import Comparison, compare_engines
from mbx_deploy.serial.link import Link
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool
from tests.made.serial_lines import PipedDevice, device_program
from tests.parity.c.test_sanitizers import SANITIZERS


@pytest.mark.slow
@pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
def test_a_device_tells_every_decision_of_a_stream() -> None:
    model = load_model(shipped_model_path("kws10s"))
    assert model.streaming is not None
    rng = np.random.default_rng(3)
    loud = rng.normal(0, 6000, 24_000).clip(-32768, 32767).astype(np.int16)
    rows = rng.integers(-128, 128, 3 * model.streaming.step_frames * model.config.num_coefficients).astype(np.int8)
    items = [
        Item(ITEM_CLIP, loud[:9_001], 160),  # longer than a window's stride, and of no whole number of steps
        Item(ITEM_CLIP, loud, 37),  # longer than the model's second
        Item(ITEM_STREAM, loud[:7_777], 100),
        Item(ITEM_FEATURES, rows),
    ]
    device = PipedDevice(device_program(model, SANITIZERS))
    try:
        engines: list[Engine] = [SimEngine(model), DeviceEngine(model, Link(device))]
        expected = engines[0].run(items, TRACE_LAYERS)
        assert [len(results) for results in expected] == [16, 25, 4, 3]
        comparison = Comparison(0, len(items), 0, ["sim", "device"], {})
        compare_engines(engines, [NamedItem(str(n), item) for n, item in enumerate(items)], comparison)
        assert comparison.first_mismatch is None and comparison.mismatched_bytes == 0
        assert comparison.compared_bytes > 1000
        heard = engines[1].run(items)
        events = [[result.event.tolist() for result in results] for results in heard]
        assert events == [[result.event.tolist() for result in results] for results in expected]
    finally:
        code, told = device.close()
    assert (code, told) == (0, "")
