"""The shipped models, by name, in Python and on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import mbx_deploy
from mbx_deploy.commands.cli import cli
from mbx_deploy.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_a_shipped_model_hears_a_word() -> None:
    model = mbx_deploy.from_pretrained("kws10")
    samples, rate_hz = soundfile.read(EXAMPLES / "yes.wav", dtype="int16")
    assert rate_hz == model.sample_rate_hz
    label, score = model.recognize(samples)
    assert label == "yes" and 0.5 < score <= 1.0
    assert model.recognize(np.zeros(8, np.int16))[0] == "silence"
    assert model.recognize(np.concatenate([np.zeros(9000, np.int16), samples]))[0] == "yes"


def test_what_is_not_shipped() -> None:
    with pytest.raises(InputError, match="no shipped model of that name: got 'kws99'"):
        mbx_deploy.from_pretrained("kws99")
    with pytest.raises(AttributeError, match="nothing"):
        _ = mbx_deploy.nothing


def test_models_are_listed() -> None:
    result = CliRunner().invoke(cli, ["models", "--json"])
    listed = json.loads(result.stdout)
    assert [model["name"] for model in listed] == ["kws10", "kws10s"]
    assert listed[0]["labels"][-2:] == ["unknown", "silence"] and listed[0]["accuracy"]["commands_int8"] > 0.95
    assert CliRunner().invoke(cli, ["models"]).stdout.startswith("kws10: ")
