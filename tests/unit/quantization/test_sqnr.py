"""The error of each layer against float: a bad one is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.float_network import activation_tensors, dequantize_network
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization import sqnr
from mbx_deploy.quantization.ranges import RULES, Range, observe
from mbx_deploy.quantization.requantize import set_ranges
from tests.made.tflite import small_artifact

CONFIG = FrontendConfig(clip_samples=4000)
FILE = small_artifact(CONFIG)
NETWORK = dequantize_network(parse_tflite(FILE, "small"))
FEATURES = np.random.default_rng(1).normal(0.0, 20.0, (40, CONFIG.num_frames, CONFIG.num_coefficients))
COEFFICIENTS_Q16 = np.rint(FEATURES * 65536).astype(np.int32)
RANGES = [RULES["minmax"](histogram) for histogram in observe(NETWORK, FEATURES)]


def report_with(ranges: list[Range]) -> sqnr.Report:
    return sqnr.measure_layers(parse_tflite(set_ranges(FILE, NETWORK, ranges), "x"), NETWORK, COEFFICIENTS_Q16)


@pytest.mark.parametrize("layer", range(len(RANGES)))
def test_the_layer_with_too_small_a_range_is_named_the_worst(layer: int) -> None:
    narrow = [Range(each.low / 8, each.high / 8) if n == layer else each for n, each in enumerate(RANGES)]
    good, bad = report_with(RANGES), report_with(narrow)
    assert bad.worst == bad.layers[layer]
    assert good.layers[layer].clipped == 0.0
    assert bad.layers[layer].clipped > 0.1
    for before, after in zip(good.layers[:layer], bad.layers[:layer], strict=True):
        assert before == after
    # What comes behind it computes as well as ever, on spoilt inputs.
    for before, after in zip(good.layers[layer + 1 :], bad.layers[layer + 1 :], strict=True):
        assert after.own_db == pytest.approx(before.own_db, abs=0.1)
    if layer < len(RANGES) - 1:
        assert (bad.layers[-1].total_db or 0.0) < (good.layers[-1].total_db or 0.0) - 3.0


def test_the_numbers_are_those_of_the_definition() -> None:
    report = report_with(RANGES)
    assert len(report.layers) == len(activation_tensors(NETWORK.model))
    scale = (RANGES[0].high - RANGES[0].low) / 255
    expected = 10 * np.log10(np.mean(FEATURES**2) / (scale**2 / 12))
    assert report.layers[0].total_db == pytest.approx(expected, abs=0.2)
    assert report.layers[0].own_db == pytest.approx(report.layers[0].total_db, abs=0.01)


def test_the_table_names_every_layer_and_the_worst() -> None:
    report = report_with(RANGES)
    lines = sqnr.render(report).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [layer.name for layer in report.layers]
    assert lines[-1].startswith(f"worst: {report.worst.name}, ")
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["worst"] == report.worst.name


def test_silence_has_no_signal_and_no_numbers() -> None:
    layers = sqnr.measure_layers(NETWORK.model, NETWORK, np.zeros_like(COEFFICIENTS_Q16[:2])).layers
    assert layers[0].own_db is None


@pytest.mark.slow
def test_the_command_prints_the_table(speech_commands: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(small_artifact(FrontendConfig()))
    arguments = ["sqnr", str(model), "--data", str(speech_commands), "--clips", "6"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "worst: " in result.output
    as_json = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert as_json["clips"] == 6
