"""The comparison with peers: the model that everybody runs, our own row, and that other bytes are seen."""

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import InputError
from mbx_deploy.system.resources import shipped_model_path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TARGET = find_target("cortex-m4")


@pytest.fixture(scope="module")
def run() -> Any:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("run")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def pooled(run: Any) -> Any:
    return parse_model(run.replace_mean(shipped_model_path().read_bytes()), "pooled", network_only=True)


def test_the_pooled_model_computes_what_the_original_does(run: Any, pooled: Any) -> None:
    original = parse_model(shipped_model_path().read_bytes(), "original", network_only=True)
    items = run.draw_inputs(original)
    engines = (SimEngine(pooled), TflmEngine(pooled), SimEngine(original))
    mine, tflm, before = (engine.run(items) for engine in engines)
    for one, two, three in zip(mine, tflm, before, strict=True):
        assert np.array_equal(one[0].logits, two[0].logits)
        assert np.abs(one[0].logits.astype(int) - three[0].logits).max() <= 3  # the mean has a coarser scale
    ops = [type(op).__name__ for op in pooled.network.ops]
    assert "Mean" not in ops and "Pool2D" in ops


def test_a_model_without_a_mean_is_refused(run: Any, pooled: Any) -> None:
    with pytest.raises(InputError, match="ends in MEAN"):
        run.replace_mean(pooled.data)


def test_our_row_and_that_other_bytes_are_seen(run: Any, pooled: Any, tmp_path: Path) -> None:
    empty = run.write_empty(pooled, TARGET, tmp_path / "empty")
    run.link(empty, TARGET, "-O3", tmp_path / "empty.elf", tmp_path / "empty" / "linker.ld")
    base = run.sizes(tmp_path / "empty.elf", TARGET)
    ours = run.write_ours("ours", pooled, TARGET, tmp_path / "ours")
    row = run.measure(ours, pooled, TARGET, "-O3", tmp_path, base)
    assert row.equal_bytes
    assert 7_700_000 < row.instructions < 8_100_000
    assert 75_000 < row.flash_bytes < 94_000 and 14_000 < row.ram_bytes < 15_000 and 0 < row.stack_bytes < 1024
    data = tmp_path / "ours" / "generated" / "kws.c"
    text, places = re.subn(r"(\.scaled_multiplier = )\d+", r"\g<1>1073741824", data.read_text(), count=1)
    assert places == 1
    data.write_text(text)
    assert not run.measure(ours, pooled, TARGET, "-O3", tmp_path, base).equal_bytes


def test_the_table(run: Any) -> None:
    row = run.Row("cortex-m0plus", "ours", "-O2", False, 1_234_567, None, 1000, 2000, 300)
    assert run.render([row]).splitlines()[2] == "| cortex-m0plus | ours | -O2 | 1.23 M |  | 1,000 | 2,000 | 300 | NO |"
