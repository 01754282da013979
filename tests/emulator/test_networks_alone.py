"""Builds of a network alone: any int8 .tflite, on every core, the same bytes as TFLite Micro."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.measure.profile.inference import count_inference
from mbx_deploy.measure.profile.profile import profile_build
from mbx_deploy.measure.verify import verify
from mbx_deploy.sim.recognizer import logits
from tests.made.builds import sign_again
from tests.made.dscnn import INPUT_SHAPE, draw_clips, dscnn_tflite
from tests.made.foreign_networks import foreign_network


def call(*arguments: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def dscnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DS-CNN's file, as TensorFlow's converter writes it: without our metadata."""
    pytest.importorskip("tensorflow", reason="tensorflow is not installed, which makes the DS-CNN")
    path = tmp_path_factory.mktemp("dscnn") / "dscnn.tflite"
    path.write_bytes(dscnn_tflite())
    return path


@pytest.fixture(scope="module")
def dscnn_build(dscnn: Path) -> Path:
    """Its build for the Cortex-M4, by the command line."""
    folder = dscnn.parent / "m4"
    done = call("build", "--model", dscnn, "--target", "cortex-m4", "--network-only", "-o", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_dscnn_on_the_m4(dscnn_build: Path, tmp_path: Path) -> None:
    """Layer for layer: the simulator, C, the firmware in QEMU and TFLite Micro, on the user's inputs, too."""
    loaded = load_build(dscnn_build)
    np.save(tmp_path / "inputs.npy", quantized_clips(loaded.model, 5, 3))
    done = call("verify", dscnn_build, "--inputs", tmp_path / "inputs.npy", "--json", tmp_path / "result.json")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["engines"] == ["sim", "c", "firmware", "tflm"], result["skipped"]
    assert result["items"] == 27 and result["mismatched_bytes"] == 0
    assert len(set(result["digests"].values())) == 1
    assert "27 inputs" in done.output and "recordings" not in done.output


def quantized_clips(network: CompiledModel, seed: int, count: int) -> np.ndarray:
    """Return inputs that differ as recordings do, int8 (count, 49, 10, 1)."""
    real = draw_clips(seed, count) / float(network.input.scale)
    return np.clip(np.rint(real) + network.input.zero_point, -128, 127).astype(np.int8)


def test_dscnn_tells_inputs_apart(dscnn: Path) -> None:
    """One of random weights hardly depends on its input, and would hide what is wrong before its last layer."""
    network = parse_model(dscnn.read_bytes(), "x", network_only=True)
    outputs = np.stack([logits(clip, network.program) for clip in quantized_clips(network, 7, 12)])
    assert len(np.unique(outputs, axis=0)) == 12 and len(np.unique(outputs.argmax(axis=1))) > 1


def test_its_profile(dscnn_build: Path, tmp_path: Path) -> None:
    done = call("profile", dscnn_build, "--json", tmp_path / "profile.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "profile.json").read_text())
    assert found["frontend"] is None and "front end" not in done.output
    report = json.loads((dscnn_build / "memory_report.json").read_text())
    assert [layer["name"] for layer in found["layers"]] == report["calls"]
    assert found["network"]["ram_bytes"] == report["arena"]["bytes"]
    assert sum(layer["instructions"] for layer in found["layers"]) == found["network"]["instructions"]
    assert found["network"]["instructions"] < 4_400_000  # measured: 4.34 million
    assert f"{found['network']['instructions']:,} instructions" in done.output


def test_its_budget_of_instructions(dscnn: Path, dscnn_build: Path, tmp_path: Path) -> None:
    loaded = load_build(dscnn_build)
    most = profile_build(loaded).network.instructions
    arguments = ["build", "--network-only", "--model", dscnn, "--target", "cortex-m4", "-o", tmp_path / "b"]
    refused = call(*arguments, "--max-instructions", most - 1)
    assert refused.exit_code == 1 and f"got {most:,} instructions" in refused.output, refused.output
    assert not (tmp_path / "b").exists()
    assert call(*arguments, "--max-instructions", most).exit_code == 0


def test_what_the_build_says(dscnn_build: Path) -> None:
    manifest = json.loads((dscnn_build / "manifest.json").read_text())
    assert manifest["network_only"] and manifest["input"]["shape"] == [1, *INPUT_SHAPE]
    assert manifest["output"]["scale"] == "0.00390625" and "labels" not in manifest
    memory = json.loads((dscnn_build / "memory_report.json").read_text())
    assert memory["ram"]["arena_bytes"] == 10816 and memory["compiled"]["flash_bytes"] < 40000
    names = {path.name for path in (dscnn_build / "src").iterdir()}
    assert not any("frontend" in name or "recognizer" in name or "fft" in name for name in names)
    assert "mbx_softmax.c" in names and "mbx_elements.c" not in names  # RESHAPE costs nothing
    header = (dscnn_build / "include" / "kws.h").read_text()
    assert "#define KWS_INPUT_BYTES 490\n" in header and "#define KWS_OUTPUT_BYTES 12\n" in header
    assert "1 x 49 x 10 x 1" in (dscnn_build / "README.md").read_text()


@pytest.mark.parametrize("values", ["complex", "shape", "empty", "text", "missing"])
def test_inputs_that_do_not_fit(dscnn_build: Path, tmp_path: Path, values: str) -> None:
    path = tmp_path / "inputs.npy"
    if values == "complex":
        np.save(path, np.zeros((2, *INPUT_SHAPE), np.complex64))
    elif values == "shape":
        np.save(path, np.zeros((2, 49, 11, 1), np.int8))
    elif values == "empty":
        np.save(path, np.zeros((0, *INPUT_SHAPE), np.int8))
    elif values == "text":
        path.write_text("no array")
    done = call("verify", dscnn_build, "--inputs", path)
    assert done.exit_code == 2
    assert "int8 or float32 (N, 49, 10, 1)" in done.output or values == "missing"
    assert str(path) in done.output and "Traceback" not in done.output


def test_commands_that_want_recordings(dscnn: Path, dscnn_build: Path, tmp_path: Path) -> None:
    """Each says what the file or build lacks."""
    left = Path(__file__).parents[2] / "examples" / "left.wav"
    refused = call("run", dscnn_build, left)
    assert refused.exit_code == 2 and "without a front end" in refused.output and "verify" in refused.output
    refused = call("build", "--model", dscnn, "--target", "cortex-m4", "-o", tmp_path / "x")
    assert refused.exit_code == 2 and "--network-only" in refused.output
    refused = call("simulate", dscnn, left)
    assert refused.exit_code == 2 and "--network-only" in refused.output
    assert call("verify", dscnn_build, "--data", tmp_path).exit_code == 2
    refused = call("build", "--network-only", "--target", "nrf52840-dk", "--model", dscnn, "-o", tmp_path / "x")
    assert refused.exit_code == 2 and "cortex-m4" in refused.output
    assert not (tmp_path / "x").exists()


def test_a_shipped_model_alone(tmp_path: Path) -> None:
    """The metadata of ours are no hindrance; the host's program is compared, too."""
    done = call("build", "--network-only", "--target", "host", "-o", tmp_path / "host")
    assert done.exit_code == 0, done.output
    done = call("verify", tmp_path / "host")
    assert done.exit_code == 0 and "equal" in done.output, done.output


@pytest.mark.parametrize(
    ("target", "seed"),
    [("cortex-m0plus", 1), ("cortex-m3", 2), ("cortex-m4", 3), ("cortex-m7", 4), ("cortex-m33", 5), ("cortex-m55", 6)],
)
def test_every_core(target: str, seed: int, tmp_path: Path) -> None:
    """A drawn network of nine layers of odd shapes, in the emulator."""
    network = foreign_network(seed)
    model = tmp_path / "model.tflite"
    model.write_bytes(network.data)
    build(model, find_target(target), tmp_path / "build", network_only=True)
    loaded = load_build(tmp_path / "build")
    comparison = verify(loaded)
    assert comparison.first_mismatch is None and "firmware" in comparison.engines, comparison.to_dict()
    found = profile_build(loaded)
    assert [layer.name for layer in found.layers] == [call.name for call in network.program.calls]
    assert sum(layer.instructions for layer in found.layers) == found.network.instructions
    idle = {layer.name for layer in found.layers if not layer.instructions}
    assert all(layer.kernel.startswith("mbx_") != (layer.name in idle) for layer in found.layers)
    assert all("reshape" in name for name in idle)
    assert found.network.instructions == count_inference(network, loaded.elf, loaded.target)
    assert 0 < found.stack_bytes <= found.firmware["stack_bound_bytes"]


def test_a_changed_byte_is_found(dscnn_build: Path, tmp_path: Path) -> None:
    """One weight of the generated C: verify names the layer."""
    folder = tmp_path / "changed"
    shutil.copytree(dscnn_build, folder)
    source = folder / "generated" / "kws_data.c"
    text = source.read_text()
    place = text.index("{\n    ", text.index("kws_weights_0[")) + 6
    weight = text[place : text.index(",", place)].strip()
    changed = "-100" if int(weight) >= 0 else "100"
    source.write_text(text[:place] + f"{changed}, " + text[text.index(",", place) + 1 :])
    done = call("verify", sign_again(folder))
    assert done.exit_code == 1 and "0_conv_2d" in done.output, done.output
