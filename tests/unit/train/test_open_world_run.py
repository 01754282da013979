"""A streaming training run with negatives: stopped anywhere, it goes on to the same weights, what it mined included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mbx_deploy.data.dataset import load_split
from mbx_deploy.data.negatives import load_negatives
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.checkpoint import load_checkpoint
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.lightning import _taught_loss
from mbx_deploy.train.loop import train
from mbx_deploy.train.matchboxnet import STREAMING_FIELDS, MatchboxNet, MatchboxNetConfig, build_matchboxnet
from mbx_deploy.train.plan import EpochBatches

RATE_HZ = 16000
TONES_HZ = {"low": 300.0, "high": 2500.0, "other": 900.0}
TINY: dict[str, Any] = {
    "labels": ["low", "high", "unknown", "silence"],
    "model": {
        "streaming": True,
        "pool_frames": 40,
        "step_frames": 10,
        "blocks": 1,
        "channels": 8,
        "prologue_filters": 8,
        "prologue_kernel": 3,
        "kernels": [3],
        "epilogue_filters": 8,
        "epilogue_kernel": 3,
        "epilogue_dilation": 2,
    },
    "open_world": {"draws": 48, "mined_score": 0.2, "left_out": ["secret"], "word_end_s": [0.0, 0.1]},
    "epochs": 4,
    "feature_epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.02,
    "ema_decay": 0.8,
    "threads": 1,
}


def tone(hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return a tone in noise, int16, loud in its middle."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = 3000 * np.sin(2 * np.pi * hz * rng.uniform(0.95, 1.05) * time_s) * np.hanning(len(time_s))
    return (wave + rng.normal(0, 30, len(time_s))).astype(np.int16)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three "words" and a list of what validation hears."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    listed = []
    for word, tone_hz in TONES_HZ.items():
        (root / word).mkdir()
        for clip in range(8):
            name = f"{word}/speaker{clip}_nohash_0.wav"
            soundfile.write(root / name, tone(tone_hz, 1.0, rng), RATE_HZ)
            if clip >= 6:
                listed.append(name)
    (root / "validation_list.txt").write_text("\n".join(listed))
    (root / "testing_list.txt").write_text("")
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "hiss.wav", rng.normal(0, 50, 64000).astype(np.int16), RATE_HZ)
    return root


@pytest.fixture(scope="module")
def negatives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two words, one of them left out, and a recording."""
    root = tmp_path_factory.mktemp("negatives")
    rng = np.random.default_rng(1)
    for word in ("tree", "secret"):
        (root / word).mkdir()
        for clip in range(3):
            soundfile.write(root / word / f"{clip}.wav", tone(500.0, 0.8, rng), RATE_HZ)
    soundfile.write(root / "room.wav", tone(700.0, 6.0, rng), RATE_HZ)
    return root


@pytest.fixture(scope="module")
def whole_run(data_root: Path, negatives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(TrainConfig.from_dict(TINY), data_root, folder, negatives=[negatives])
    return folder


class Crash(Exception):
    """Stands for a power cut."""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(1, 2), (2, 0), (3, 1)])
def test_a_run_that_dies_goes_on_to_the_same_weights(
    data_root: Path, negatives: Path, whole_run: Path, tmp_path: Path, stop: tuple[int, int]
) -> None:
    def die(epoch: int, step: int) -> None:
        if (epoch, step) == stop:
            raise Crash

    config = TrainConfig.from_dict(TINY)
    with pytest.raises(Crash):
        train(config, data_root, tmp_path, on_step=die, negatives=[negatives])
    train(config, data_root, tmp_path, negatives=[negatives])
    one, other = (load_checkpoint(folder / "model.pt") for folder in (tmp_path, whole_run))
    for name, value in one[0].state_dict().items():
        assert torch.equal(value, other[0].state_dict()[name]), name
    assert (tmp_path / "metrics.csv").read_bytes() == (whole_run / "metrics.csv").read_bytes()
    states = [
        torch.load(folder / "state.pt", weights_only=True)["callbacks"]["RunKeeper"] for folder in (tmp_path, whole_run)
    ]
    assert len(states[0]["mined"]["draws"])
    assert torch.equal(states[0]["mined"]["draws"], states[1]["mined"]["draws"])


def test_the_provenance_says_what_was_trained_on(whole_run: Path) -> None:
    network, info = load_checkpoint(whole_run / "model.pt")
    assert isinstance(network, MatchboxNet)
    assert network.config.streaming
    assert info.frontend.num_frames == network.config.input_frames
    found = info.provenance["negatives"]
    assert list(found["words"].values()) == [[3, 1]]
    assert found["recordings"] == 1
    assert info.provenance["training"]["open_world"]["left_out"] == ["secret"]


def test_a_run_does_not_go_on_with_other_negatives(data_root: Path, negatives: Path, whole_run: Path) -> None:
    with pytest.raises(InputError, match="other clips"):
        train(TrainConfig.from_dict(TINY), data_root, whole_run)


def test_a_streaming_teacher_teaches(data_root: Path, whole_run: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_dict({**TINY, "epochs": 1, "teacher": str(whole_run / "model.pt")})
    train(config, data_root, tmp_path)
    assert "teacher_digest" in load_checkpoint(tmp_path / "model.pt")[1].provenance


@pytest.mark.slow
def test_a_windowed_teacher_teaches_a_streaming_network(data_root: Path, negatives: Path, tmp_path: Path) -> None:
    model = {key: value for key, value in TINY["model"].items() if key not in STREAMING_FIELDS}
    teacher = {**TINY, "model": model, "epochs": 1, "open_world": {"draws": 16}}
    train(TrainConfig.from_dict(teacher), data_root, tmp_path / "teacher")
    taught = {**TINY, "epochs": 2, "teacher": str(tmp_path / "teacher" / "model.pt")}
    train(TrainConfig.from_dict(taught), data_root, tmp_path / "a", negatives=[negatives])
    train(
        TrainConfig.from_dict({**taught, "teacher": "", "epochs": 2}), data_root, tmp_path / "b", negatives=[negatives]
    )
    one, other = (load_checkpoint(tmp_path / name / "model.pt") for name in "ab")
    assert one[1].provenance["teacher_digest"]
    assert not torch.equal(one[0].state_dict()["decoder.weight"], other[0].state_dict()["decoder.weight"])


def test_what_a_windowed_teacher_says_goes_with_its_clips(data_root: Path, negatives: Path) -> None:
    config = TrainConfig.from_dict(TINY)
    training = load_split(data_root, "training", config.labels, config.spoken_samples)
    source = EpochBatches(config, training, HostFrontend(config.frontend), load_negatives([negatives], config.labels))
    windowed = FrontendConfig()
    torch.manual_seed(0)
    teacher = build_matchboxnet(
        MatchboxNetConfig(**{**TINY["model"], "streaming": False, "num_classes": 4, "input_frames": 101})
    ).eval()
    source.teach(teacher, HostFrontend(windowed))
    batches = list(source.batches(0))
    for _, classes, wanted in batches:
        heard = torch.isfinite(wanted[:, 0])
        assert torch.equal(heard, classes < 2)
        assert torch.allclose(wanted[heard].exp().sum(dim=1), torch.ones(int(heard.sum())), atol=1e-5)
    inputs, classes, wanted = batches[-1]
    loss = _taught_loss(config, torch.zeros(len(classes), 4), classes, wanted)
    plain = torch.nn.functional.cross_entropy(torch.zeros(len(classes), 4), classes)
    assert torch.isfinite(loss)
    assert loss != plain
    nobody = torch.full_like(wanted, float("nan"))
    smoothed = torch.nn.functional.cross_entropy(inputs[:, :4, 0, 0], classes, label_smoothing=config.label_smoothing)
    assert torch.allclose(_taught_loss(config, inputs[:, :4, 0, 0], classes, nobody), smoothed)


def test_negatives_teach_a_windowed_model_too(data_root: Path, negatives: Path, tmp_path: Path) -> None:
    model = {
        key: value for key, value in TINY["model"].items() if key not in ("streaming", "pool_frames", "step_frames")
    }
    values = {**TINY, "model": model, "epochs": 1}
    del values["open_world"]
    train(TrainConfig.from_dict(values), data_root, tmp_path, negatives=[negatives])
    network, info = load_checkpoint(tmp_path / "model.pt")
    assert isinstance(network, MatchboxNet)
    assert not network.config.streaming
    assert info.provenance["negatives"]["recordings"] == 1
