"""A .tflite that others made gets labels and a front end, and listens."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import load_model
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, TRACE_STAGES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import load_build
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.frontend.recipes import recipe_config
from mbx_deploy.measure.verify import verify
from mbx_deploy.nemo.clips import synthetic_calibration
from mbx_deploy.nemo.conversion import ImportRequest, import_model
from mbx_deploy.nemo.foreign_tflite import read_frontend
from mbx_deploy.network.reader import parse_tflite
from tests.made.tflite import Network, random_weights

FRONTEND = """\
recipe = "nemo"
n_mels = 16
n_mfcc = 8
clip_samples = 3200
high_hz = 4000.0
"""
LABELS = "yes\nno\n"


def ds_cnn(config: FrontendConfig) -> bytes:
    """Return a small depthwise separable network on a front end's features, float at its ends, SOFTMAX behind."""
    rng, made = np.random.default_rng(4), Network()
    frames, coefficients = config.num_frames, config.num_coefficients
    source = made.tensor((1, frames, coefficients, 1), "FLOAT32")
    inside = made.brought(source, "INT8", 3.0 if config.log_scale == "decibel" else 0.5847029, 83)
    weights, bias = random_weights(rng, (8, 10, 4, 1)), rng.integers(-900, 900, 8)
    scales = rng.uniform(0.001, 0.003, 8)
    inside = made.conv_2d(inside, weights, scales, bias, 0.2, -128, stride=(2, 2), activation="RELU")
    weights = random_weights(rng, (1, 3, 3, 8))
    inside = made.conv_2d(inside, weights, scales, bias, 0.2, -128, depthwise=True, activation="RELU")
    inside = made.conv_2d(inside, random_weights(rng, (8, 1, 1, 8)), scales, bias, 0.1, -128, activation="RELU")
    _, height, width, _ = made.shape(inside)
    inside = made.pool(inside, (height, width))
    inside = made.reshape(inside, (1, 8))
    logits = made.fully_connected(inside, random_weights(rng, (2, 8)), [0.01], None, 0.1, 1)
    return made.build(made.brought(made.softmax(logits), "FLOAT32", 0, 0), source=source)


def network(ends: str = "FLOAT32", softmax: bool = True, frames: int = 21) -> bytes:
    """Return a network of 21 frames of 8 coefficients and two words, with ends of a type."""
    rng, made = np.random.default_rng(1), Network()
    if ends == "INT8":
        inside = source = made.activation((1, frames, 8, 1), 0.5, 3)
    else:
        source = made.tensor((1, frames, 8, 1), ends)
        inside = made.brought(source, "INT8", 0.5, 3)
    inside = made.reshape(inside, (1, frames * 8))
    logits = made.fully_connected(inside, random_weights(rng, (2, frames * 8)), [0.01], None, 0.3, 1)
    output = made.softmax(logits) if softmax else logits
    return made.build(made.brought(output, ends, 0, 0) if ends != "INT8" else output, source=source)


def imported(folder: Path, data: bytes, labels: Path | None = None) -> Path:
    """Import a file and return the path of what was written."""
    for name, text in (("l.txt", LABELS), ("f.toml", FRONTEND)):
        (folder / name).write_text(text)
    (folder / "m.tflite").write_bytes(data)
    output = folder / "o.tflite"
    words = labels or folder / "l.txt"
    import_model(
        ImportRequest(folder / "m.tflite", output, labels=words, frontend=folder / "f.toml"), lambda text: None
    )
    return output


@pytest.mark.parametrize(("ends", "softmax"), [("FLOAT32", True), ("INT8", True), ("INT8", False), ("FLOAT32", False)])
def test_a_foreign_network_listens(tmp_path: Path, ends: str, softmax: bool) -> None:
    """Ends and SOFTMAX are cut; the logits are those of the network as it was."""
    model = load_model(imported(tmp_path, network(ends, softmax)))
    assert model.labels == ("yes", "no") and model.config.num_frames == 21
    assert [end.dtype for end in (*model.network.inputs, *model.network.outputs)] == ["int8", "int8"]
    plain = load_model(imported(tmp_path, network("INT8", False)))
    item = Item(ITEM_FEATURES, np.random.default_rng(2).integers(-128, 128, 168).astype(np.int8))
    found = [SimEngine(each).run([item])[0][0].logits for each in (model, plain)]
    np.testing.assert_array_equal(found[0], found[1])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="front end does not fit"):
        imported(tmp_path, network(frames=20))
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    with pytest.raises(InputError, match="labels do not fit"):
        imported(tmp_path, network(), labels=tmp_path / "three.txt")
    with pytest.raises(InputError, match="one of them"):
        import_model(
            ImportRequest(tmp_path / "m.tflite", tmp_path / "o.tflite", labels=tmp_path / "l.txt"), lambda text: None
        )


def test_a_front_end_is_a_recipe_and_what_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("[frontend]\nn_mfcc = 10\n")
    assert read_frontend(path) == FrontendConfig(n_mfcc=10)
    path.write_text('recipe = "arm-kws"\nn_mfcc = 13\n')
    assert read_frontend(path) == recipe_config("arm-kws", {"n_mfcc": 13})
    assert read_frontend(Path("mlperf-tiny")) == recipe_config("mlperf-tiny")
    path.write_text('recipe = "mine"\n')
    with pytest.raises(InputError, match="got 'mine', need one of nemo, mlperf-tiny, arm-kws, torchaudio"):
        read_frontend(path)
    with pytest.raises(InputError, match=r"got 'mine', need one of nemo, .*, or a TOML file"):
        read_frontend(Path("mine"))
    path.write_text('recipe = "torchaudio"\nlog_scale = "bel"\n')
    with pytest.raises(InputError, match=r"log_scale.*got 'bel', need natural or decibel.*f.toml"):
        read_frontend(path)


def test_a_name_is_checked_against_the_input(tmp_path: Path) -> None:
    """Both numbers stand in the message, and what they come from in the hint."""
    (tmp_path / "m.tflite").write_bytes(network(frames=49))
    (tmp_path / "l.txt").write_text(LABELS)
    request = ImportRequest(
        tmp_path / "m.tflite", tmp_path / "o.tflite", labels=tmp_path / "l.txt", frontend=Path("arm-kws")
    )
    with pytest.raises(InputError, match="got 49 frames of 10, need 49 of 8") as caught:
        import_model(request, lambda text: None)
    assert caught.value.hint is not None and "n_mfcc" in caught.value.hint
    assert not (tmp_path / "o.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlperf-tiny", "torchaudio"])
def test_a_network_of_a_recipe_is_equal_in_all_engines(tmp_path: Path, name: str) -> None:
    """A DS-CNN that hears by a recipe, built for this machine: simulator, C and TFLite Micro give the same bytes."""
    (tmp_path / "m.tflite").write_bytes(ds_cnn(recipe_config(name)))
    (tmp_path / "l.txt").write_text(LABELS)
    request = ImportRequest(
        tmp_path / "m.tflite", tmp_path / "o.tflite", labels=tmp_path / "l.txt", frontend=Path(name)
    )
    report = import_model(request, lambda text: None)
    assert FrontendConfig.from_dict(report["frontend"]) == recipe_config(name)
    build(tmp_path / "o.tflite", find_target("host"), tmp_path / "build")
    compared = verify(load_build(tmp_path / "build"))
    assert compared.first_mismatch is None and "c" in compared.engines and compared.compared_bytes > 100_000
    model = load_model(tmp_path / "o.tflite")
    clip = synthetic_calibration(16000, 16000, 6).clips[5]
    features = SimEngine(model).run([Item(ITEM_CLIP, clip)], TRACE_STAGES)[0][0].stages["features"]
    front_end = HostFrontend(model.config)
    real = front_end.coefficients(clip[None])[0] * (front_end.tables.unit / 65536)  # what the network was trained on
    wanted = np.clip(np.rint(real / model.input.scale) + model.input.zero_point, -128, 127)
    assert np.abs(features.astype(np.float64).reshape(wanted.shape) - wanted).max() <= 1
    assert len(np.unique(features)) > 20


@pytest.mark.slow
def test_recordings_calibrate_in_the_recipes_unit(tmp_path: Path) -> None:
    """A float network is quantized on the features that it was trained on, decibels, of which silence has -1131."""
    pytest.importorskip("tensorflow", reason="quantizing needs the extra export")
    config = recipe_config("torchaudio", {"clip_samples": 1600})
    (tmp_path / "clips" / "yes").mkdir(parents=True)
    for number in range(3):
        soundfile.write(tmp_path / "clips" / "yes" / f"{number}.wav", np.zeros(1600, np.int16), 16000)
    made = Network()
    source = made.tensor((1, config.num_frames, 40, 1), "FLOAT32")
    weights = made.constant(np.ones((2, config.num_frames * 40), np.float32))
    output = made.tensor((1, 2), "FLOAT32")
    made.op("FULLY_CONNECTED", [source, weights], output, "FullyConnectedOptions")
    (tmp_path / "m.tflite").write_bytes(made.build(output))
    for name, text in (("l.txt", LABELS), ("f.toml", 'recipe = "torchaudio"\nclip_samples = 1600\n')):
        (tmp_path / name).write_text(text)
    request = ImportRequest(
        tmp_path / "m.tflite",
        tmp_path / "o.tflite",
        data=tmp_path / "clips",
        labels=tmp_path / "l.txt",
        frontend=tmp_path / "f.toml",
    )
    import_model(request, lambda text: None)
    entry = load_model(tmp_path / "o.tflite").input
    assert (-128 - entry.zero_point) * entry.scale == pytest.approx(-100 * 128**0.5, rel=0.02)


@pytest.mark.slow
def test_a_float_network_is_quantized(tmp_path: Path) -> None:
    """TensorFlow quantizes it; without labels the result is a network alone."""
    pytest.importorskip("tensorflow", reason="quantizing needs the extra export")
    rng, made = np.random.default_rng(1), Network()
    source = made.tensor((1, 6), "FLOAT32")
    weights = made.constant(rng.normal(size=(3, 6)).astype(np.float32))
    bias = made.constant(rng.normal(size=3).astype(np.float32))
    output = made.tensor((1, 3), "FLOAT32")
    made.op("FULLY_CONNECTED", [source, weights, bias], output, "FullyConnectedOptions")
    (tmp_path / "m.tflite").write_bytes(made.build(output))
    np.save(tmp_path / "x.npy", rng.normal(size=(50, 6)).astype(np.float32))
    request = ImportRequest(tmp_path / "m.tflite", tmp_path / "o.tflite", data=tmp_path / "x.npy")
    import_model(request, lambda text: None)
    quantized = parse_tflite((tmp_path / "o.tflite").read_bytes(), "o")
    assert [end.dtype for end in (*quantized.inputs, *quantized.outputs)] == ["int8", "int8"]
    np.save(tmp_path / "x.npy", np.zeros((5, 7), np.float32))
    with pytest.raises(InputError, match="need float32"):
        import_model(request, lambda text: None)
