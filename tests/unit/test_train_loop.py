"""A run that is stopped goes on to the same weights, and a model file is trusted in nothing."""

import csv
import math
import os
import pickle
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.train.checkpoint import (
    CHECKPOINT_FORMAT,
    CheckpointInfo,
    load_checkpoint,
    save_checkpoint,
)
from mbx_deploy.train.config import TrainConfig, load_train_config
from mbx_deploy.train.dataset import Split, load_split
from mbx_deploy.train.evaluation import evaluate, measure, predict
from mbx_deploy.train.loop import (
    TrainingInterrupted,
    train,
)
from mbx_deploy.train.model import MatchboxNet, MatchboxNetConfig, build_matchboxnet
from mbx_deploy.train.optimizers import learning_rate_at

RATE_HZ = 16000
TONES_HZ = {"low": 300.0, "high": 2500.0, "other": 900.0}
TINY_MODEL = {
    "blocks": 1,
    "channels": 8,
    "prologue_filters": 8,
    "prologue_kernel": 3,
    "kernels": [3],
    "epilogue_filters": 8,
    "epilogue_kernel": 3,
    "epilogue_dilation": 1,
}
TINY = {
    "labels": ["low", "high", "unknown", "silence"],
    "model": TINY_MODEL,
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.02,
    "ema_decay": 0.8,
    "threads": 1,
}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three "words", tones in noise: eight clips each to train on, two and two to measure."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for word, tone_hz in TONES_HZ.items():
        (root / word).mkdir()
        for clip in range(12):
            wave = 3000 * np.sin(2 * np.pi * tone_hz * rng.uniform(0.95, 1.05) * time_s)
            wave += rng.normal(0, 100, RATE_HZ)
            name = f"{word}/speaker{clip}_nohash_0.wav"
            soundfile.write(root / name, wave.astype(np.int16), RATE_HZ, subtype="PCM_16")
            if clip >= 8:
                lists["validation" if clip < 10 else "testing"].append(name)
    for split, names in lists.items():
        (root / f"{split}_list.txt").write_text("\n".join(names))
    (root / "_background_noise_").mkdir()
    noise = rng.normal(0, 500, 4 * RATE_HZ).astype(np.int16)
    soundfile.write(root / "_background_noise_" / "hiss.wav", noise, RATE_HZ, subtype="PCM_16")
    return root


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return TrainConfig.from_dict(TINY)


@pytest.fixture(scope="module")
def whole_run(config: TrainConfig, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(config, data_root, folder)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    """All weights, the optimizer's state and the measures are equal to the bit."""
    for name in ("state.pt", "best.pt", "model.pt"):
        pair = [torch.load(f / name, weights_only=True) for f in (folder, other)]
        assert_equal_values(*pair)
    assert (folder / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()


def assert_equal_values(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal_values(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal_values(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


class Crash(Exception):
    """Stands for a power cut, as far as this process can tell."""


@pytest.mark.parametrize("stops", [[(0, 1)], [(1, 0)], [(1, 3), (2, 0), (2, 2)]])
def test_a_run_that_dies_goes_on_to_the_same_weights(
    config: TrainConfig,
    data_root: Path,
    whole_run: Path,
    tmp_path: Path,
    stops: list[tuple[int, int]],
) -> None:
    for stop in stops:

        def die(epoch: int, step: int, at: tuple[int, int] = stop) -> None:
            if (epoch, step) == at:
                raise Crash

        with pytest.raises(Crash):
            train(config, data_root, tmp_path, on_step=die)
        assert not (tmp_path / "model.pt").exists()
    train(config, data_root, tmp_path)
    assert_same_run(tmp_path, whole_run)


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(
    config: TrainConfig, data_root: Path, whole_run: Path, tmp_path: Path
) -> None:
    code = f"""
import os, signal
from pathlib import Path
from mbx_deploy.train.loop import TrainConfig, train
def die(epoch, step):
    if (epoch, step) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
config = TrainConfig.from_dict({TINY!r})
train(config, Path({str(data_root)!r}), Path({str(tmp_path)!r}), on_step=die)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    train(config, data_root, tmp_path)
    assert_same_run(tmp_path, whole_run)


def test_ctrl_c_is_one_line_and_can_be_gone_on_from(
    config: TrainConfig, data_root: Path, whole_run: Path, tmp_path: Path
) -> None:
    def press(epoch: int, step: int) -> None:
        if (epoch, step) == (1, 1):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted) as caught:
        train(config, data_root, tmp_path, on_step=press)
    assert caught.value.exit_code == 130
    assert str(tmp_path) in caught.value.what
    assert "\n" not in caught.value.what
    train(config, data_root, tmp_path)
    assert_same_run(tmp_path, whole_run)


def test_a_finished_run_is_not_trained_again(config: TrainConfig, data_root: Path, whole_run: Path) -> None:
    steps: list[int] = []
    before = (whole_run / "state.pt").read_bytes()
    summary = train(config, data_root, whole_run, on_step=lambda epoch, step: steps.append(step))
    assert steps == []
    assert (whole_run / "state.pt").read_bytes() == before
    assert summary.model_path == whole_run / "model.pt"
    assert summary.epochs == 3
    assert 1 <= summary.best_epoch <= 3


def test_a_folder_of_another_run_is_refused(
    config: TrainConfig, data_root: Path, whole_run: Path, tmp_path: Path
) -> None:
    other = TrainConfig.from_dict({**TINY, "seed": 2})
    with pytest.raises(InputError, match="'seed' differs"):
        train(other, data_root, whole_run)
    names = (data_root / "validation_list.txt").read_text().split()
    for path in data_root.iterdir():
        if path.name != "validation_list.txt":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "validation_list.txt").write_text("\n".join(names[1:]))
    with pytest.raises(InputError, match="other clips"):
        train(config, tmp_path, whole_run)


def test_without_resuming_a_run_begins_anew(
    config: TrainConfig, data_root: Path, whole_run: Path, tmp_path: Path
) -> None:
    other = TrainConfig.from_dict({**TINY, "seed": 2, "epochs": 1})
    train(other, data_root, tmp_path)
    train(config, data_root, tmp_path, resume=False)
    assert_same_run(tmp_path, whole_run)


@pytest.mark.parametrize("name", ["state.pt", "best.pt"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"epoch 7", None])
def test_a_damaged_run_is_named(
    config: TrainConfig,
    data_root: Path,
    whole_run: Path,
    tmp_path: Path,
    name: str,
    content: bytes | None,
) -> None:
    for file in ("state.pt", "best.pt"):
        (tmp_path / file).write_bytes((whole_run / file).read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=name):
        train(config, data_root, tmp_path)


def test_a_run_folder_that_cannot_be(config: TrainConfig, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="run folder"):
        train(config, data_root, tmp_path / "file")


def test_a_label_without_training_clips_is_named(data_root: Path, tmp_path: Path) -> None:
    for path in data_root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "empty").mkdir()
    config = TrainConfig.from_dict({**TINY, "labels": ["low", "empty"]})
    with pytest.raises(InputError, match="'empty'"):
        train(config, tmp_path, tmp_path / "run")


def test_divergence_is_said(data_root: Path, tmp_path: Path) -> None:
    rates = {"learning_rate": 1000.0, "weight_decay": 1000.0, "warmup_fraction": 0.0}
    config = TrainConfig.from_dict({**TINY, **rates, "epochs": 10})
    with pytest.raises(CheckFailed, match="diverged"):
        train(config, data_root, tmp_path)


def test_it_learns_and_says_how_far(
    config: TrainConfig, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig.from_dict({**TINY, "epochs": 12})
    summary = train(config, data_root, tmp_path)
    assert summary.validation.command_accuracy == 1.0
    module, info = load_checkpoint(summary.model_path)
    tested = evaluate(module, info, data_root, "testing")
    assert tested.command_clips == 4
    assert tested.command_accuracy >= 0.75
    assert set(tested.recall) == set(config.labels)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 12/12" in captured.err
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    best = rows[summary.best_epoch - 1]
    assert float(best["command_accuracy"]) == 1.0
    # The model file says what it was trained on, and measured on validation.
    assert info.provenance["epoch"] == summary.best_epoch
    assert info.provenance["training"] == config.to_dict()
    again = evaluate(module, config, data_root, "validation")
    assert again == summary.validation


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(learning_rate=0.01, warmup_fraction=0.1)
    rates = [learning_rate_at(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9] == pytest.approx(0.01)
    assert rates[55] == pytest.approx(0.005)
    assert all(a <= b for a, b in pairwise(rates[:10]))
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert 0 < rates[-1] < 1e-5


def test_measure_by_hand() -> None:
    labels = ("go", "stop", "unknown", "silence")
    classes = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    chosen = [0, 0, 0, 2, 1, 0, 2, 1]
    split = Split(labels, np.zeros((8, 1), np.int16), classes, ("x",) * 8, ())
    found = measure(np.eye(4, dtype=np.float32)[chosen], split)
    assert found.command_clips == 6
    assert found.command_accuracy == pytest.approx(4 / 6)
    assert found.recall == {"go": 0.75, "stop": 0.5, "unknown": 0.5}
    assert found.balanced_accuracy == pytest.approx(1.75 / 3)
    assert found.clips == 8
    assert found.score == pytest.approx((4 / 6 + 1.75 / 3) / 2)


def test_config_goes_through_dict_and_toml(tmp_path: Path) -> None:
    config = TrainConfig.from_dict(TINY)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert TrainConfig.from_dict({}) == TrainConfig()
    assert TrainConfig().model.num_classes == 10
    path = tmp_path / "train.toml"
    path.write_text("""
epochs = 7
labels = ["go", "stop"]
[model]
channels = 32
[frontend]
n_mfcc = 10
n_mels = 40
[augment]
gain_db = [-6.0, 0.0]
""")
    config = load_train_config(path)
    assert (config.epochs, config.model.channels, config.model.num_classes) == (7, 32, 2)
    assert config.model.input_coefficients == 10
    assert config.augment.gain_db == (-6.0, 0.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epoch": 3}, "'epoch'"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"warmup_fraction": 2}, "warmup_fraction"),
        ({"labels": ["go", "go"]}, "labels"),
        ({"labels": "go"}, "labels"),
        ({"model": 3}, "model"),
        ({"model": {"num_classes": 3}}, "num_classes"),
        ({"model": {"layers": 3}}, "layers"),
        ({"frontend": {"n_mel": 3}}, "n_mel"),
        ({"frontend": {"sample_rate_hz": 8000, "high_hz": 4000.0}}, "sample_rate_hz"),
        ({"augment": {"noise": 3}}, "noise"),
    ],
)
def test_a_bad_config_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        TrainConfig.from_dict(change)


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff", None])
def test_no_toml(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "train.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.toml"):
        load_train_config(path)


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
        (lambda c: change_weight(c, torch.zeros(4, 8, dtype=torch.int32)), "foreign type"),
        (lambda c: change_weight(c, torch.zeros(4, 8).to_sparse()), "foreign type"),
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


def test_the_model_of_a_run_is_the_best_epochs(whole_run: Path, data_root: Path) -> None:
    rows = list(csv.DictReader((whole_run / "metrics.csv").open()))
    scores = [float(r["command_accuracy"]) + float(r["balanced_accuracy"]) for r in rows]
    _, info = load_checkpoint(whole_run / "model.pt")
    assert info.provenance["epoch"] == 1 + scores.index(max(scores))
    validation = load_split(data_root, "validation", info.labels, progress=False)
    assert info.provenance["validation"]["clips"] == len(validation)
    assert isinstance(info.model_config, MatchboxNetConfig)
