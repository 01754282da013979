"""Builds of networks that keep state, by the command line: verified in QEMU and by TFLite Micro, over sequences."""

import json
import re
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.engines.firmware import build_engine
from mbx_deploy.engines.session import TRACE_LAYERS
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.measure.items import network_items
from tests.made.builds import sign_again
from tests.made.stateful import stateful_network

SEED = 4


def call(*arguments: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def m4_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build for the Cortex-M4."""
    folder = tmp_path_factory.mktemp("stateful")
    (folder / "m.tflite").write_bytes(stateful_network(SEED).data)
    arguments = ("--model", folder / "m.tflite", "--network-only", "--target", "cortex-m4", "-o", folder / "m4")
    done = call("build", *arguments)
    assert done.exit_code == 0, done.output
    return folder / "m4"


def test_sequences_on_the_m4(m4_build: Path, tmp_path: Path) -> None:
    """The user's inputs are a sequence of their own."""
    model = load_build(m4_build).model
    inputs = np.random.default_rng(2).integers(-128, 128, (31, *model.input.shape[1:])).astype(np.int8)
    np.save(tmp_path / "inputs.npy", inputs)
    done = call("verify", m4_build, "--inputs", tmp_path / "inputs.npy", "--json", tmp_path / "result.json")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["engines"] == ["sim", "c", "firmware", "tflm"], result["skipped"]
    assert result["items"] == 15 and result["mismatched_bytes"] == 0 and len(set(result["digests"].values())) == 1
    assert "15 sequences of inputs, the state kept in each" in done.output


def test_what_the_build_says(m4_build: Path) -> None:
    model = load_build(m4_build).model
    manifest = json.loads((m4_build / "manifest.json").read_text())
    assert manifest["variables"] == len(model.program.variables) > 1
    header = (m4_build / "include" / "kws.h").read_text()
    assert "mbx_status kws_reset(kws_t *self);" in header and "zeros for ever" not in header
    assert "behind `kws_reset(&network)`" in (m4_build / "README.md").read_text()
    report = (m4_build / "memory_report.txt").read_text()
    assert all(f"state v{number + 1}\n" in report for number in range(manifest["variables"]))


def test_a_state_that_is_not_set_is_found(m4_build: Path, tmp_path: Path) -> None:
    """One move of the generated C moves nothing: the first run is right, the next one is not."""
    folder = tmp_path / "changed"
    shutil.copytree(m4_build, folder)
    source = folder / "generated" / "kws.c"
    text, count = re.subn(
        r"(mbx_keep_call call_\d+ = \{\s+\.first = \d+,\s+\.bytes = )\d+", r"\g<1>0", source.read_text()
    )
    assert count > 1
    source.write_text(text)
    done = call("verify", sign_again(folder), "--json", tmp_path / "result.json")
    assert done.exit_code == 1 and "DIFFERENT" in done.output, done.output
    first = json.loads((tmp_path / "result.json").read_text())["first_mismatch"]
    assert first["engine"] == "c" and first["window"] >= 1


def test_its_profile(m4_build: Path, tmp_path: Path) -> None:
    done = call("profile", m4_build, "--json", tmp_path / "profile.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "profile.json").read_text())
    assert [layer["name"] for layer in found["layers"]] == [c.name for c in load_build(m4_build).model.c_program.calls]
    assert sum(layer["instructions"] for layer in found["layers"]) == found["network"]["instructions"]


def test_tflite_micro_in_the_firmware_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(stateful_network(SEED).data)
    arguments = ("--model", tmp_path / "m.tflite", "--network-only", "--target", "host", "--runtime", "tflm")
    done = call("build", *arguments, "-o", tmp_path / "b")
    assert done.exit_code == 2 and "which the runtime tflm does not" in done.output, done.output


def test_an_import_is_refused(tmp_path: Path) -> None:
    """A recogniser of ours hears by our front end, whose windows or streams know no state of the network's own."""
    model = stateful_network(SEED)
    (tmp_path / "m.tflite").write_bytes(model.data)
    (tmp_path / "words.txt").write_text("a\nb\nc\n")
    (tmp_path / "f.toml").write_text("n_mfcc = 0\n")
    arguments = ("--labels", tmp_path / "words.txt", "--frontend", tmp_path / "f.toml", "-o", tmp_path / "o.tflite")
    done = call("import", tmp_path / "m.tflite", *arguments)
    assert done.exit_code == 2 and "keeps no state of its own" in done.output, done.output
    assert not (tmp_path / "o.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("target", "seed"), [("cortex-m0plus", 100), ("cortex-m55", 101)])
def test_other_cores(target: str, seed: int, tmp_path: Path) -> None:
    """Where words that are not aligned are a fault, and where vectors are stored."""
    (tmp_path / "m.tflite").write_bytes(stateful_network(seed, 8).data)
    build(tmp_path / "m.tflite", find_target(target), tmp_path / "build", network_only=True)
    made = load_build(tmp_path / "build")
    items = [named.item for named in network_items(made.model, None)[::5]]
    expected, got = (engine.run(items, TRACE_LAYERS) for engine in (SimEngine(made.model), build_engine(made)))
    for want, have in zip(chain(*expected), chain(*got), strict=True):
        assert want.stages.keys() == have.stages.keys() and want.stages
        for name, values in want.stages.items():
            np.testing.assert_array_equal(values, have.stages[name], name)
        np.testing.assert_array_equal(want.logits, have.logits)
