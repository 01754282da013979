"""A model file gives back its model, and is trusted in nothing."""

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbx_deploy.errors import InputError
from mbx_deploy.train.checkpoint import CHECKPOINT_FORMAT, CheckpointInfo, load_checkpoint, save_checkpoint
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.evaluation import predict
from mbx_deploy.train.matchboxnet import MatchboxNet, build_matchboxnet, prepare_for_answers
from tests.made.tiny_training import TINY


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A model file of the tiny network, untrained."""
    config = TrainConfig.from_dict(TINY)
    torch.manual_seed(0)
    info = CheckpointInfo(config.model, config.frontend, config.labels, {"epoch": 3})
    save_checkpoint(tmp_path / "model.pt", build_matchboxnet(config.model), info)
    return tmp_path / "model.pt"


def test_a_model_file_gives_back_the_model(checkpoint: Path) -> None:
    config = TrainConfig.from_dict(TINY)
    torch.manual_seed(0)
    module = build_matchboxnet(config.model)
    loaded, info = load_checkpoint(checkpoint)
    assert isinstance(loaded, MatchboxNet)
    assert not loaded.training
    x = torch.randn(3, 64, 1, 101)
    np.testing.assert_array_equal(predict(loaded, x), predict(module, x))
    assert module.training
    expected = (config.model, config.frontend, config.labels, {"epoch": 3})
    assert (info.model_config, info.frontend, info.labels, info.provenance) == expected
    content = torch.load(checkpoint, weights_only=True)
    assert list(content) == [
        "format",
        "model",
        "model_config",
        "frontend",
        "labels",
        "provenance",
    ]
    assert content["format"] == CHECKPOINT_FORMAT


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_model_file_is_never_executed(checkpoint: Path, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    content = {**torch.load(checkpoint, weights_only=True), "provenance": Hostile(trace)}
    torch.save(content, checkpoint)
    with pytest.raises(InputError, match=r"model\.pt"):
        load_checkpoint(checkpoint)
    checkpoint.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match=r"model\.pt"):
        load_checkpoint(checkpoint)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"a text", b"PK\x03\x04", b"\x80\x02.", bytes(1000)])
def test_what_is_no_model_file_is_refused(checkpoint: Path, content: bytes) -> None:
    checkpoint.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt"):
        load_checkpoint(checkpoint)


def test_a_cut_model_file_is_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for count in (1, 100, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:count])
        with pytest.raises(InputError, match=r"model\.pt"):
            load_checkpoint(checkpoint)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pt", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            load_checkpoint(path)


HUGE = {"prologue_filters": 65536, "channels": 65536}


def change_weight(content: dict[str, Any], value: Any) -> dict[str, Any]:
    return {**content, "model": {**content["model"], "decoder.weight": value}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: [c], "list"),
        (lambda c: c["model"], "format"),
        (lambda c: {**c, "format": "mbx-deploy-99"}, "mbx-deploy-99"),
        (lambda c: {k: v for k, v in c.items() if k != "labels"}, "labels"),
        (lambda c: {**c, "labels": ["a", "b"]}, "labels"),
        (lambda c: {**c, "labels": [1, 2, 3, 4]}, "labels"),
        (lambda c: {**c, "frontend": {"n_mels": 40, "n_mfcc": 10}}, "front end"),
        (lambda c: {**c, "frontend": {"mels": 40}}, "mels"),
        (lambda c: {**c, "model_config": {**c["model_config"], "channels": 16}}, "fit"),
        (lambda c: {**c, "model_config": {**c["model_config"], **HUGE}}, "parameters"),
        (lambda c: {**c, "provenance": {"x": torch.zeros(1)}}, "JSON"),
        (lambda c: {**c, "model": {}}, "missing"),
        (lambda c: {**c, "model": {**c["model"], "extra": torch.zeros(1)}}, "extra"),
        (lambda c: change_weight(c, torch.zeros(8, 4)), r"decoder\.weight"),
        (lambda c: change_weight(c, [0.0]), r"decoder\.weight"),
        (lambda c: change_weight(c, torch.zeros(4, 8, dtype=torch.int32)), "foreign type|no part of a tensor"),
        (lambda c: change_weight(c, torch.zeros(4, 8).to_sparse()), "foreign type|no part of a tensor"),
        (lambda c: change_weight(c, torch.full((4, 8), math.nan)), "not finite"),
    ],
)
def test_parts_that_do_not_fit_are_named(checkpoint: Path, change: Any, named: str) -> None:
    torch.save(change(torch.load(checkpoint, weights_only=True)), checkpoint)
    with pytest.raises(InputError, match=named):
        load_checkpoint(checkpoint)


def test_half_precision_is_read(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["model"] = {k: v.half() if v.is_floating_point() else v for k, v in content["model"].items()}
    torch.save(content, checkpoint)
    module, _ = load_checkpoint(checkpoint)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.slow
def test_the_fast_copy_answers_alike() -> None:
    torch.manual_seed(0)
    config = TrainConfig().model
    module = build_matchboxnet(config)
    inputs = torch.randn(4, config.input_coefficients, 1, config.input_frames) * 10
    module.train()(inputs)
    plain = predict(module.eval(), inputs)
    np.testing.assert_allclose(predict(prepare_for_answers(module), inputs), plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(predict(module, inputs), plain)
