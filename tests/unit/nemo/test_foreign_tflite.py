"""A .tflite that others made gets labels and a front end, and listens."""

from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.compiler.model import load_model
from mbx_deploy.engines.session import ITEM_FEATURES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
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
    path.write_text('recipe = "mine"\n')
    with pytest.raises(InputError, match="got 'mine', need one of nemo"):
        read_frontend(path)


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
