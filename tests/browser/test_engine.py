"""The browser as an engine: WebAssembly in wasmtime and in node gives the simulator's bytes; what the commands do."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.data.audio import read_recording
from mbx_deploy.engines.browser import BrowserEngine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_STREAM, TRACE_LAYERS, TRACE_STAGES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.firmware import compile as compiler
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.firmware.tflm import Checkouts
from mbx_deploy.firmware.wasm import wasm_sizes
from mbx_deploy.measure import verify as verifier
from mbx_deploy.measure.items import hostile_clips, random_features
from mbx_deploy.system import webassembly
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool
from tests.browser.conftest import EXAMPLES, WORDS
from tests.made.builds import sign_again

RUNTIMES = [webassembly.WASMTIME, webassembly.NODE]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["kws10", "kws10s"])
def test_it_gives_the_simulators_bytes(name: str, browser_builds: dict[str, Build]) -> None:
    """Hostile clips, a recording, features and continuous audio in odd blocks; every layer of each."""
    made = browser_builds[name]
    model, samples = made.model, read_recording(WORDS).samples
    chosen = [*hostile_clips(model)[5:7], *hostile_clips(model)[11:13], *random_features(model, 1)[:1]]
    items = [named.item for named in chosen]
    items += [Item(ITEM_CLIP, samples[16000:32000]), Item(ITEM_STREAM, samples[:40000], 511)]
    expected = SimEngine(model, made.stride_frames).run(items, TRACE_LAYERS)
    for runtime in RUNTIMES:
        got = BrowserEngine(model, made.elf, runtime).run(items, TRACE_LAYERS)
        for wanted, found in zip(expected, got, strict=True):
            assert len(wanted) == len(found) > 0
            for want, have in zip(wanted, found, strict=True):
                for stage, values in want.stages.items():
                    np.testing.assert_array_equal(have.stages[stage], values, f"{runtime}: {stage}")
                np.testing.assert_array_equal(have.posteriors_q15, want.posteriors_q15)
                np.testing.assert_array_equal(have.event, want.event)


def test_the_front_ends_stages_are_the_simulators(browser_builds: dict[str, Build]) -> None:
    made = browser_builds["kws10"]
    items = [Item(ITEM_CLIP, read_recording(EXAMPLES / "yes.wav").samples)]
    (want,), (have,) = (
        e.run(items, TRACE_STAGES)[0] for e in (SimEngine(made.model), BrowserEngine(made.model, made.elf))
    )
    assert list(want.stages)[:3] == ["windowed", "spectrum", "power"]
    for stage, values in want.stages.items():
        np.testing.assert_array_equal(have.stages[stage], values, stage)


def test_run_says_what_the_page_hears(browser_builds: dict[str, Build]) -> None:
    result = call("run", browser_builds["kws10"].folder, EXAMPLES / "yes.wav", "--json")
    (answer,) = json.loads(result.stdout)
    assert (answer["label"], answer["engine"]) == ("yes", "browser")


def test_verify_compares_it(
    browser_builds: dict[str, Build], small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "hostile_clips", lambda model: hostile_clips(model)[5:7])
    monkeypatch.setattr(verifier, "random_features", lambda model, count: random_features(model, 1)[:1])
    written = tmp_path / "verify.json"
    result = call("verify", browser_builds["kws10"].folder, "--data", small_data, "--clips", 2, "--json", written)
    found = json.loads(written.read_text())
    assert result.exit_code == 0, result.output
    assert {"sim", "c", "browser"} <= set(found["engines"]) and "firmware" not in found["engines"]
    assert found["mismatched_bytes"] == 0 and found["digests"]["browser"] == found["digests"]["sim"]


def test_evaluate_and_regress_take_it(browser_builds: dict[str, Build], small_data: Path, tmp_path: Path) -> None:
    folder, baseline = browser_builds["kws10"].folder, tmp_path / "baseline.json"
    options = ("--data", small_data, "--snr", "none", "--clips", 6)
    reports = [
        json.loads((tmp_path / f"{engine}.json").read_text())
        for engine in ("browser", "c")
        if call("evaluate", folder, *options, "--engine", engine, "--json", tmp_path / f"{engine}.json").exit_code == 0
    ]
    assert [report["engine"] for report in reports] == ["browser", "c"]
    assert reports[0]["accuracy"] == reports[1]["accuracy"]
    made = call("regress", folder, "--baseline", baseline, "--skip-accuracy", "--update")
    assert made.exit_code == 0, made.output
    again = call("regress", folder, "--baseline", baseline, "--skip-accuracy")
    assert again.exit_code == 0, again.output
    assert "not run" not in made.output + again.output  # its module was


def test_a_model_is_compiled_for_it() -> None:
    result = call("simulate", "kws10", EXAMPLES / "yes.wav", "--engine", "browser", "--json")
    assert json.loads(result.stdout)[0]["label"] == "yes"


def test_builds_of_others_are_refused(m4_build: Build, small_data: Path) -> None:
    result = call("evaluate", m4_build.folder, "--data", small_data, "--engine", "browser")
    assert result.exit_code == 2 and "takes a model, or a build for the browser" in result.stderr
    with pytest.raises(InputError, match="holds no page"):
        _ = m4_build.page


def test_its_project_compiles_by_itself(browser_builds: dict[str, Build], tmp_path: Path) -> None:
    """As its README says, with CMake alone: the same bytes."""
    made = browser_builds["kws10s"]
    project = tmp_path / "project"
    shutil.copytree(made.folder, project)
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    assert (project / "build" / "firmware.wasm").read_bytes() == made.elf.read_bytes()


def test_sizes_are_those_of_the_module(browser_builds: dict[str, Build]) -> None:
    data = browser_builds["kws10"].elf.read_bytes()
    sizes = wasm_sizes(data)
    assert sizes["flash_bytes"] == len(data)
    assert 10_000 < sizes["code_bytes"] < len(data) - 80_000  # the weights are no code
    assert sizes["ram_bytes"] % 65536 == 0
    for broken in (
        b"",
        b"\0asm",
        data[: len(data) // 2],
        data[:8] + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ):
        with pytest.raises(ValueError, match=r"module|breaks off"):
            wasm_sizes(broken)


def test_a_module_of_somebody_else(browser_builds: dict[str, Build], tmp_path: Path) -> None:
    items = [Item(ITEM_CLIP, np.zeros(16000, np.int16))]
    good = browser_builds["kws10"].elf.read_bytes()
    for number, data in enumerate((b"no module", b"\0asm\1\0\0\0", good[:5000])):
        module = tmp_path / f"{number}.wasm"
        module.write_bytes(data)
        for runtime in RUNTIMES:
            with pytest.raises(CheckFailed, match=f"module failed in {runtime}"):
                BrowserEngine(browser_builds["kws10"].model, module, runtime).run(items)


def test_a_module_that_was_changed_is_not_run(browser_builds: dict[str, Build], tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(browser_builds["kws10"].folder, folder)
    data = bytearray((folder / "firmware.wasm").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "firmware.wasm").write_bytes(data)
    result = call("run", folder, EXAMPLES / "yes.wav")
    assert result.exit_code == 2 and "the build was changed" in result.stderr


def test_a_fault_in_the_module_is_found(
    browser_builds: dict[str, Build], small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte of the weights: verify names the layer."""
    monkeypatch.setattr(verifier, "hostile_clips", lambda model: hostile_clips(model)[5:6])
    monkeypatch.setattr(verifier, "random_features", lambda model, count: [])
    folder = tmp_path / "build"
    shutil.copytree(browser_builds["kws10"].folder, folder)
    data = bytearray((folder / "firmware.wasm").read_bytes())
    data[len(data) - 30_000] ^= 0x55
    (folder / "firmware.wasm").write_bytes(data)
    result = call("verify", sign_again(folder), "--data", small_data, "--clips", 1)
    assert result.exit_code == 1 and "stage 16_conv_2d" in result.output and ", browser -" in result.output


def test_without_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clang the project is written all the same; without wasmtime and node the engine says what to install."""
    monkeypatch.setattr(compiler, "find_tool", lambda name: None if name in ("clang", "wasm-ld") else find_tool(name))
    result = call("build", "--target", "browser", "-o", tmp_path / "b")
    assert result.exit_code == 0 and "not compiled: clang and wasm-ld not installed" in result.output
    assert not (tmp_path / "b" / "index.html").exists()
    with pytest.raises(InputError, match="holds no firmware"):
        _ = load_build(tmp_path / "b").page
    monkeypatch.setattr(webassembly, "find_tool", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "wasmtime", None)
    with pytest.raises(ToolMissing, match="neither wasmtime nor node"):
        webassembly.find_runtime()


def test_what_can_not_be_a_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't listen: browser is a page"):
        build(shipped_model_path(), find_target("browser"), tmp_path / "b", network_only=True)
    with pytest.raises(InputError, match="no TFLite Micro in the browser"):
        build(shipped_model_path(), find_target("browser"), tmp_path / "b", checkouts=Checkouts({}, ()))
    assert not (tmp_path / "b").exists()
