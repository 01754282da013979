"""The public names do what they say, late and lazily."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mbx_deploy
from mbx_deploy.codegen.layouts import LAYOUTS
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.open import BUILD, ENGINES, MODEL, Source, engine_names, open_engine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, Item
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.system.tools import find_tool

LEFT = Path(__file__).parents[2] / "examples" / "left.wav"


@pytest.fixture(scope="module")
def alone() -> CompiledModel:
    """The shipped model's network, without what hears."""
    return mbx_deploy.load("kws10", network_only=True)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, mbx_deploy; assert dir(mbx_deploy); print('numpy' in sys.modules, 'jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_public_name_is_there_and_documented() -> None:
    for name in mbx_deploy.__all__:
        assert name == "__version__" or getattr(mbx_deploy, name).__doc__.startswith(("Return", "Write"))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mbx_deploy.nothing


def test_a_loaded_model_hears_or_is_a_network_alone(alone: CompiledModel) -> None:
    hears = mbx_deploy.load("kws10")
    assert hears.hearing is not None and hears.labels == hears.hearing.labels
    assert alone.hearing is None and alone.digest == hears.digest
    with pytest.raises(InputError, match="a network alone"):
        _ = alone.labels


def test_the_plan_is_made_once_and_carried() -> None:
    model = mbx_deploy.load("kws10")
    assert model.plan is model.plan and model.for_kernels("portable") is model
    dsp = model.for_kernels("dsp")
    assert model.for_kernels("dsp") is dsp and dsp.kernel_set == "dsp" and dsp.plan is dsp.plan
    assert {kernel.name for kernel in dsp.plan.kernels} != {kernel.name for kernel in model.plan.kernels}


def test_what_engines_take() -> None:
    assert set(engine_names(MODEL)) == {"sim", "c", "browser", "tflm", "float"}
    assert set(engine_names(MODEL, BUILD)) == {"sim", "c", "browser", "tflm", "float", "firmware"}
    assert len({kind.name for kind in ENGINES}) == len(ENGINES)
    with pytest.raises(InputError, match="no engine of that name: got 'qemu'"):
        open_engine("qemu", Source(mbx_deploy.load("kws10")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sim", "c"])
def test_a_network_alone_takes_its_input_only(name: str, alone: CompiledModel) -> None:
    if name == "c" and not find_tool("gcc"):
        pytest.skip("gcc is not installed")
    engine = open_engine(name, Source(alone))
    item = Item(ITEM_FEATURES, np.zeros(alone.input.size, np.int8))
    (result,) = engine.run([item])[0]
    assert result.logits.size == alone.output.size and result.posteriors_q15.size == 0
    with pytest.raises(InputError, match="a network alone takes its input only"):
        engine.run([Item(ITEM_CLIP, np.zeros(16000, np.int16))])


@pytest.mark.slow
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_network_alone_in_every_layout(layout: str, tmp_path: Path) -> None:
    """The example is called run, the README speaks of no recogniser, and the C gives the simulator's bytes."""
    report = mbx_deploy.build("kws10", "nrf52840-dk", tmp_path / "b", layout=layout, network_only=True)
    assert report.elf is None and report.layout == layout
    texts = {path: path.read_text() for path in (tmp_path / "b").rglob("*") if path.suffix in (".c", ".md", ".ino")}
    assert any("run" in path.name.lower() or "run" in path.parts for path in texts)
    readme = (tmp_path / "b" / "README.md").read_text()
    assert "network without a front end" in readme and "recogniser" not in readme and "{" not in readme
    assert not any("frontend" in path.name or "recognizer" in path.name for path in texts)
    if find_tool("gcc"):
        comparison = mbx_deploy.verify(tmp_path / "b")
        assert comparison.mismatched_bytes == 0 and "c" in comparison.engines


@pytest.mark.slow
@pytest.mark.skipif(find_tool("gcc") is None or find_tool("cmake") is None, reason="gcc or CMake is not installed")
def test_from_a_name_to_a_proof(tmp_path: Path) -> None:
    """Build, read back, verify: the host's program and the C against the simulator."""
    report = mbx_deploy.build("kws10", "host", tmp_path / "b", network_only=True)
    assert report.elf is not None and load_build(tmp_path / "b").model.hearing is None
    inputs = np.zeros((2, *load_build(tmp_path / "b").model.input.shape[1:]), np.int8)
    comparison = mbx_deploy.verify(tmp_path / "b", inputs=inputs)
    assert comparison.items == 26 and comparison.mismatched_bytes == 0
    with pytest.raises(InputError, match="hears nothing"):
        mbx_deploy.verify(tmp_path / "b", LEFT.parent)


def test_a_network_alone_has_no_windows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no windows"):
        mbx_deploy.build("kws10", "host", tmp_path / "b", network_only=True, stride_ms=100)


def test_simulate_says_the_word() -> None:
    (answer,) = mbx_deploy.simulate("kws10", [LEFT])
    assert answer["label"] == "left" and answer["engine"] == "sim" and abs(sum(answer["scores"]) - 1) < 1e-3
