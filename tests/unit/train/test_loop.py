"""A run that is stopped goes on to the same weights, on one process or several, and says clearly what it cannot use."""

import csv
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from mbx_deploy.commands.torch_runs import run_training
from mbx_deploy.data.dataset import load_split
from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.train.checkpoint import (
    load_checkpoint,
    save_checkpoint,
)
from mbx_deploy.train.config import TrainConfig, load_train_config
from mbx_deploy.train.evaluation import evaluate
from mbx_deploy.train.lightning import EngineOptions
from mbx_deploy.train.loop import TrainingInterrupted, train
from mbx_deploy.train.matchboxnet import MatchboxNetConfig
from tests.made.tiny_training import TINY

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "configs"
RATE_HZ = 16000
TONES_HZ = {"low": 300.0, "high": 2500.0, "other": 900.0}


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_pupil_that_dies_goes_on_to_the_same_weights(whole_run: Path, data_root: Path, tmp_path: Path) -> None:
    taught = TrainConfig.from_dict({**TINY, "teacher": str(whole_run / "model.pt"), "feature_epochs": 3})
    train(taught, data_root, tmp_path / "whole")

    def die(epoch: int, step: int) -> None:
        if (epoch, step) == (2, 1):
            raise Crash

    with pytest.raises(Crash):
        train(taught, data_root, tmp_path / "stopped", on_step=die)
    train(taught, data_root, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    _, info = load_checkpoint(tmp_path / "whole" / "model.pt")
    assert info.provenance["training"]["teacher"] == "model.pt"
    assert info.provenance["teacher"]["training"]["seed"] == 1
    untaught = torch.load(whole_run / "model.pt", weights_only=True)["model"]
    assert not torch.equal(info_weights(tmp_path / "whole")["decoder.weight"], untaught["decoder.weight"])
    # A teacher by the same name that is another one is not the run's.
    other = tmp_path / "other.pt"
    module, of = load_checkpoint(whole_run / "model.pt")
    with torch.no_grad():
        module.decoder.bias.add_(1.0)
    save_checkpoint(other, module, of)
    with pytest.raises(InputError, match="another teacher"):
        train(dataclasses.replace(taught, teacher=str(other)), data_root, tmp_path / "stopped")


def info_weights(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(folder / "model.pt", weights_only=True)["model"]
    return weights


def test_a_teacher_of_other_labels_is_refused(whole_run: Path, data_root: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_dict({**TINY, "labels": ["low", "high"], "teacher": str(whole_run / "model.pt")})
    with pytest.raises(InputError, match=r"teacher does not fit.*model\.pt"):
        train(config, data_root, tmp_path)
    with pytest.raises(InputError, match=r"nothing\.pt"):
        train(dataclasses.replace(config, teacher=str(tmp_path / "nothing.pt")), data_root, tmp_path)


def test_a_run_can_end_before_its_schedule(data_root: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_dict({**TINY, "epochs": 50, "stop_after": 2})
    assert train(config, data_root, tmp_path).epochs == 2
    assert len(list(csv.DictReader((tmp_path / "metrics.csv").open()))) == 2


def run_command(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    line = [sys.executable, "-m", "mbx_deploy", "train", "--config", str(config), "--accelerator", "cpu", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_the_command_says_a_line_an_epoch_and_nothing_of_its_engine(
    whole_run: Path, data_root: Path, tmp_path: Path
) -> None:
    done = run_command(["--data", str(data_root), "-o", str(tmp_path / "run"), "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 3
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "loading training",
        "loading validation",
        *(f"epoch {number}/3" for number in (1, 2, 3)),
    ]
    assert_same_run(tmp_path / "run", whole_run)
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name != "tensorboard") == [
        "best.pt",
        "metrics.csv",
        "model.pt",
        "state.pt",
    ]


def test_without_the_engine_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("mbx_deploy.train.loop", "mbx_deploy.train.lightning"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    with pytest.raises(ToolMissing, match="pytorch_lightning") as caught:
        run_training(None, {}, tmp_path, tmp_path, resume=True)
    assert caught.value.hint == "install it: pip install 'mbx-deploy[train]'"


@pytest.mark.slow
def test_what_only_uses_a_model_does_not_load_the_engine() -> None:
    code = (
        "import sys, mbx_deploy.quantization.export, mbx_deploy.engines.float, mbx_deploy.train.evaluation;"
        "sys.exit('pytorch_lightning' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=200, check=True)


@pytest.mark.slow
def test_two_processes_share_the_clips_and_repeat_themselves(data_root: Path, tmp_path: Path) -> None:
    def run(name: str, *more: str) -> Path:
        folder = tmp_path / name
        done = run_command(["--data", str(data_root), "-o", str(folder), "--devices", "2", "--json", *more], tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["epochs"] == int(more[1] if more else 3)
        assert done.stderr.count("epoch 1/") == 1
        return folder

    first = run("first")
    assert_same_run(first, run("second"))
    rows = list(csv.DictReader((first / "metrics.csv").open()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


@pytest.mark.slow
def test_processes_that_cannot_share_a_batch_are_told_so(data_root: Path, tmp_path: Path) -> None:
    done = run_command(["--data", str(data_root), "-o", str(tmp_path / "run"), "--devices", "3"], tmp_path)
    assert done.returncode == 2
    assert "batch_size" in done.stderr
    assert "Traceback" not in done.stderr


def test_devices_that_are_not_there_are_one_line(config: TrainConfig, data_root: Path, tmp_path: Path) -> None:
    for options in (EngineOptions(accelerator="warp"), EngineOptions(accelerator="cpu", precision="7-mixed")):
        with pytest.raises(InputError, match="devices"):
            train(config, data_root, tmp_path, options=options)


@pytest.mark.slow
def test_nemos_recipe_trains(data_root: Path, tmp_path: Path) -> None:
    recipe = load_train_config(EXAMPLES / "nemo_3x1x64.toml").to_dict()
    own = {name: TINY[name] for name in ("labels", "model", "batch_size")}
    config = TrainConfig.from_dict({**recipe, **own, "epochs": 12})
    summary = train(config, data_root, tmp_path)
    assert summary.validation.command_accuracy >= 0.75


def test_mixed_precision_trains(config: TrainConfig, data_root: Path, tmp_path: Path) -> None:
    summary = train(config, data_root, tmp_path, options=EngineOptions(accelerator="cpu", precision="bf16-mixed"))
    assert summary.epochs == 3


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_a_missing_list_is_named(config: TrainConfig, data_root: Path, tmp_path: Path, name: str) -> None:
    for path in data_root.iterdir():
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(InputError, match=name):
        train(config, tmp_path, tmp_path / "run")


def test_a_label_that_is_tested_only_is_named(data_root: Path, tmp_path: Path) -> None:
    for path in data_root.iterdir():
        if path.suffix != ".txt":
            (tmp_path / path.name).symlink_to(path)
    highs = "\n".join(f"high/{path.name}" for path in sorted((data_root / "high").iterdir()))
    (tmp_path / "testing_list.txt").write_text(highs)
    (tmp_path / "validation_list.txt").write_text((data_root / "low").name + "/speaker8_nohash_0.wav")
    with pytest.raises(InputError, match="no training clips of 'high'"):
        train(TrainConfig.from_dict(TINY), tmp_path, tmp_path / "run")


def test_a_clip_that_is_not_a_number_is_named(config: TrainConfig, data_root: Path, tmp_path: Path) -> None:
    for path in data_root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "low").unlink()
    shutil.copytree(data_root / "low", tmp_path / "low")
    wave = np.zeros(RATE_HZ, np.float32)
    wave[7] = np.nan
    soundfile.write(tmp_path / "low" / "speaker1_nohash_0.wav", wave, RATE_HZ, subtype="FLOAT")
    with pytest.raises(InputError, match=r"low/speaker1_nohash_0\.wav"):
        train(config, tmp_path, tmp_path / "run")


def test_what_is_told_of_the_data_may_change(
    config: TrainConfig, data_root: Path, whole_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole_run, tmp_path / "run")
    told = dataclasses.replace(config, data_source="Tones, CC0", threads=2)
    train(told, data_root, tmp_path / "run")
    _, info = load_checkpoint(tmp_path / "run" / "model.pt")
    assert info.provenance["data_source"] == "Tones, CC0"
    assert info.provenance["epoch"] == load_checkpoint(whole_run / "model.pt")[1].provenance["epoch"]


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
    assert info.provenance["splits"]["training"] == {"clips": 24, "speakers": 8}
    assert info.provenance["versions"]["torch"] == str(torch.__version__)
    again = evaluate(module, config, data_root, "validation")
    assert again == summary.validation


def test_config_goes_through_dict_and_toml(tmp_path: Path) -> None:
    config = TrainConfig.from_dict(TINY)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert TrainConfig.from_dict({}) == TrainConfig()
    assert TrainConfig().model.num_classes == 10
    (tmp_path / "train.yml").write_text(yaml.safe_dump({**TINY, "teacher": "teachers/t.pt"}))
    read = load_train_config(tmp_path / "train.yml")
    assert read == dataclasses.replace(config, teacher=str(tmp_path / "teachers" / "t.pt"))
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
        ({"frontend": {"log_scale": "decibel"}}, "unit of their own"),
        ({"augment": {"noise": 3}}, "noise"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"schedule": []}, "schedule"),
        ({"betas": [0.9]}, "betas"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"least_learning_rate": 1.0}, "least_learning_rate"),
        ({"warmup_fraction": 0.6, "hold_fraction": 0.5}, "hold_fraction"),
        ({"teacher": 3}, "teacher"),
        ({"teacher_temperature": 0.0}, "teacher_temperature"),
        ({"feature_epochs": 0}, "feature_epochs"),
    ],
)
def test_a_bad_config_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        TrainConfig.from_dict(change)


@pytest.mark.parametrize("name", ["train.toml", "train.yaml"])
@pytest.mark.parametrize(
    "content", [b"epochs = [", b"\xff", b"- a\n- b: [", b"!!python/object/apply:os.getcwd []", None]
)
def test_no_configuration(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        load_train_config(path)
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("name", ["kws10.toml", "kws10_teacher.toml", "nemo_3x1x64.toml"])
def test_our_configurations_are_read(name: str) -> None:
    config = load_train_config(EXAMPLES / name)
    assert config.model.num_classes == 10
    assert config.optimizer == ("novograd" if name.startswith("nemo") else "adamw")


def test_the_model_of_a_run_is_the_best_epochs(whole_run: Path, data_root: Path) -> None:
    rows = list(csv.DictReader((whole_run / "metrics.csv").open()))
    scores = [float(r["command_accuracy"]) + float(r["balanced_accuracy"]) for r in rows]
    _, info = load_checkpoint(whole_run / "model.pt")
    assert info.provenance["epoch"] == 1 + scores.index(max(scores))
    validation = load_split(data_root, "validation", info.labels, progress=False)
    assert info.provenance["validation"]["clips"] == len(validation)
    assert isinstance(info.model_config, MatchboxNetConfig)


@pytest.mark.slow
def test_the_model_is_chosen_among_the_last_epochs(data_root: Path, tmp_path: Path) -> None:
    epochs = {}

    def die(epoch: int, step: int) -> None:
        if epoch == 4:
            raise Crash

    for name, fraction in (("all", 1.0), ("half", 0.5), ("last", 0.0)):
        config = TrainConfig.from_dict({**TINY, "labels": ["low", "high"], "epochs": 6, "choose_fraction": fraction})
        # Stopped among the epochs that are chosen from, it goes on with the choice as it was.
        with pytest.raises(Crash):
            train(config, data_root, tmp_path / name, on_step=die)
        epochs[name] = train(config, data_root, tmp_path / name).best_epoch
    rows = list(csv.DictReader((tmp_path / "half" / "metrics.csv").open()))
    scores = [float(r["command_accuracy"]) + float(r["balanced_accuracy"]) for r in rows]
    assert epochs == {"all": 1 + scores.index(max(scores)), "half": 4 + scores[3:].index(max(scores[3:])), "last": 6}
    assert epochs["all"] < epochs["half"]  # else this shows nothing
