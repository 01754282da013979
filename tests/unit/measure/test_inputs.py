"""A user's inputs of a network alone: int8, or what its file has at its ends."""

from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.measure.inputs import read_inputs
from tests.made.tflite import Network


def model_with(kind: str) -> CompiledModel:
    """Return a network whose input the file has as a type: scale 0.5, zero point 3."""
    network = Network()
    points = {"INT8": [3], "UINT8": [131], "FLOAT32": []}[kind]
    source = network.tensor((1, 2, 3), kind, [0.5] if points else [], points)
    inside = source if kind == "INT8" else network.brought(source, "INT8", 0.5, 3)
    return parse_model(network.build(network.clamp(inside, "RELU"), source=source), "test", network_only=True)


def saved(folder: Path, values: np.ndarray) -> Path:
    """Return the path of a file that holds values."""
    np.save(folder / "x.npy", values)
    return folder / "x.npy"


def test_floats_are_quantized_as_tflite_micro_does(tmp_path: Path) -> None:
    """Ties away from zero, ends limited, in float32; double is taken, too."""
    values = np.array([[[0.25, -0.25, 0.24], [1e9, -1e9, 0.0]]])
    for given in (values, values.astype(np.float32)):
        got = read_inputs(saved(tmp_path, given), model_with("FLOAT32"))
        np.testing.assert_array_equal(got, np.array([[[4, 2, 3], [127, -128, 3]]], np.int8))
        np.testing.assert_array_equal(got, read_inputs(saved(tmp_path, given), model_with("INT8")))


def test_uint8_is_the_int8_value_plus_128(tmp_path: Path) -> None:
    values = np.array([[[0, 128, 255], [1, 2, 3]]], np.uint8)
    got = read_inputs(saved(tmp_path, values), model_with("UINT8"))
    np.testing.assert_array_equal(got, np.array([[[-128, 0, 127], [-127, -126, -125]]], np.int8))
    with pytest.raises(InputError, match="got uint8"):
        read_inputs(saved(tmp_path, values), model_with("INT8"))


def test_infinities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NaN"):
        read_inputs(saved(tmp_path, np.full((1, 2, 3), np.nan)), model_with("FLOAT32"))


def test_several_inputs_lie_behind_each_other(tmp_path: Path) -> None:
    network = Network()
    ends = [network.activation((1, 2, 3), 0.5, 3), network.activation((1, 2, 3), 0.1, 0)]
    model = parse_model(network.build(network.add(ends[0], ends[1], 0.5, 0), source=ends), "test", network_only=True)
    values = np.arange(24, dtype=np.int8).reshape(2, 12)
    np.testing.assert_array_equal(read_inputs(saved(tmp_path, values), model), values)
    with pytest.raises(InputError, match=r"need int8 \(N, 12\)"):
        read_inputs(saved(tmp_path, values[:, :6]), model)
