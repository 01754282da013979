"""Fine-tuning keeps the base as it is, and judges each clip by a model that never heard its speaker."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.data.accuracy import speaker_interval
from mbx_deploy.data.dataset import load_split
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.nemo.conversion import load_base
from mbx_deploy.train.checkpoint import CheckpointInfo, load_checkpoint
from mbx_deploy.train.evaluation import clip_inputs, predict
from mbx_deploy.train.finetune import (
    LEAST_OTHER_CLIPS,
    FinetuneConfig,
    _prepare,
    choose_clips,
    divide_speakers,
    finetune,
    speakers_of,
)
from mbx_deploy.train.matchboxnet import MatchboxNet, MatchboxNetConfig, build_matchboxnet

RATE_HZ = 16000
TONES_HZ = {"low": 300.0, "high": 2500.0, "rest": 900.0}
MODEL = MatchboxNetConfig(
    num_classes=4, blocks=1, channels=8, prologue_filters=8, prologue_kernel=3, kernels=(3,), epilogue_filters=8,
    epilogue_kernel=3, epilogue_dilation=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three "words", tones in noise: twelve clips each of six speakers to train on, two to measure."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for word, tone_hz in TONES_HZ.items():
        (root / word).mkdir()
        for clip in range(16):
            wave = 3000 * np.sin(2 * np.pi * tone_hz * rng.uniform(0.95, 1.05) * time_s) + rng.normal(0, 100, RATE_HZ)
            name = f"{word}/speaker{clip // 2}_nohash_{clip % 2}.wav"
            soundfile.write(root / name, wave.astype(np.int16), RATE_HZ, subtype="PCM_16")
            if clip >= 12:
                lists["validation" if clip < 14 else "testing"].append(name)
    for split, names in lists.items():
        (root / f"{split}_list.txt").write_text("\n".join(names))
    return root


@pytest.fixture
def base() -> tuple[torch.nn.Module, CheckpointInfo]:
    torch.manual_seed(0)
    info = CheckpointInfo(MODEL, FrontendConfig(), ("a", "b", "c", "d"), {"seed": 0})
    return build_matchboxnet(MODEL).eval(), info


@pytest.mark.slow
def test_a_new_head_and_a_base_that_stays_as_it_is(
    base: tuple[torch.nn.Module, CheckpointInfo], data_root: Path, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in base[0].state_dict().items()}
    config = FinetuneConfig(("high", "low"), epochs=8, folds=3, learning_rate=0.02, only_words=True)
    told: list[tuple[str, int, int]] = []
    report = finetune(base, data_root, tmp_path / "m.pt", config, progress=lambda *epoch: told.append(epoch))
    names = [*(f"fold {n} of 3" for n in (1, 2, 3)), "all clips"]
    assert told == [(name, epoch + 1, 8) for name in names for epoch in range(8)]
    again = finetune(base, data_root, tmp_path / "n.pt", config)
    assert report == again and (tmp_path / "m.pt").read_bytes() == (tmp_path / "n.pt").read_bytes()
    module, info = load_checkpoint(tmp_path / "m.pt")
    assert info.labels == ("high", "low") and module.decoder.out_features == 2
    assert report.clips == {"high": 12, "low": 12} and report.speakers == 6 and report.testing_clips == 4
    assert 0.0 <= report.interval[0] <= report.accuracy <= report.interval[1] <= 1.0
    assert report.accuracy >= 0.9  # two tones an octave and more apart
    for name, value in base[0].state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of the base has changed"
    assert not torch.equal(module.state_dict()["prologue.norm.weight"], before["prologue.norm.weight"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=5, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_a_speaker_is_in_one_fold(numbers: list[int], folds: int, seed: int) -> None:
    speakers = [f"s{number}" for number in numbers]
    divided = divide_speakers(speakers, folds, seed)
    for speaker in set(speakers):
        assert len({int(fold) for fold, name in zip(divided, speakers, strict=True) if name == speaker}) == 1
    most = max(speakers.count(speaker) for speaker in speakers)
    sizes = np.bincount(divided, minlength=folds)
    assert sizes.max() - sizes.min() <= most


def test_few_clips_come_from_many_speakers(data_root: Path) -> None:
    split = load_split(data_root, "training", ("high", "low"), progress=False)
    config = FinetuneConfig(("high", "low"), clips_per_word=10, folds=3)
    chosen = choose_clips(split, config)
    assert [len(chosen.indices_of(word)) for word in ("high", "low")] == [10, 10]
    assert len(set(speakers_of(chosen, config))) == 6


def test_the_interval_holds_all_that_is_certain() -> None:
    assert speaker_interval(np.ones(20, bool), [f"s{i % 5}" for i in range(20)]) == (1.0, 1.0)
    low, high = speaker_interval(np.arange(20) % 5 > 0, [f"s{i % 5}" for i in range(20)])
    assert low < 0.8 < high  # one speaker of five is always wrong


@pytest.mark.parametrize(
    ("words", "rest", "message"),
    [
        (("high",), {}, "two or more"),
        (("high", "high"), {}, "each once"),
        (("high", "silence"), {}, "'silence' is not a word"),
        (("high", "low"), {"clips_per_word": 3}, "too few clips a word"),
    ],
)
def test_bad_words(words: tuple[str, ...], rest: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FinetuneConfig(words, **rest)


@pytest.mark.slow
def test_too_few_recordings(base: tuple[torch.nn.Module, CheckpointInfo], data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few speakers of 'high': got 6, need 7"):
        finetune(base, data_root, tmp_path / "m.pt", FinetuneConfig(("high", "low"), folds=7))
    with pytest.raises(InputError, match="nothere"):
        finetune(base, data_root, tmp_path / "m.pt", FinetuneConfig(("high", "nothere")))
    with pytest.raises(InputError, match=r"m\.tflite"):
        load_base(tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_nemo_file_is_begun_from_as_it_is(shared_nemo: Path) -> None:
    network, info = load_base(shared_nemo / "matchboxnet_3x1x64_8w_nemo221.nemo")
    assert info.labels == ("down", "go", "left", "no", "right", "stop", "up", "yes")
    shape = (2, info.frontend.num_coefficients, 1, info.frontend.num_frames)
    assert network(torch.zeros(shape)).shape == (2, 8)


@pytest.fixture
def negatives(tmp_path: Path) -> Path:
    """Enough other words that nobody has to speak them, and a recording."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "negatives"
    for word in range(LEAST_OTHER_CLIPS // 4):
        (folder / f"w{word}").mkdir(parents=True)
        for clip in range(4):
            wave = rng.normal(0, 2000, RATE_HZ // 2) * np.hanning(RATE_HZ // 2)
            soundfile.write(folder / f"w{word}" / f"{clip}.wav", wave.astype(np.int16), RATE_HZ)
    soundfile.write(folder / "room.wav", rng.normal(0, 300, 8 * RATE_HZ).astype(np.int16), RATE_HZ)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_it_learns_what_is_no_word(
    base: tuple[torch.nn.Module, CheckpointInfo], data_root: Path, negatives: Path, tmp_path: Path, streaming: bool
) -> None:
    config = FinetuneConfig(
        ("high", "low"),
        epochs=12 if not streaming else 6,
        folds=2,
        batch_size=8,
        learning_rate=0.02,
        streaming=streaming,
        negatives=(negatives,),
    )
    report = finetune(base, data_root, tmp_path / "m.pt", config)
    module, info = load_checkpoint(tmp_path / "m.pt")
    assert info.labels == ("high", "low", "unknown", "silence")
    assert isinstance(module, MatchboxNet)
    assert module.config.streaming is streaming
    assert report.other_words == LEAST_OTHER_CLIPS // 4 + 1  # and the data set's own
    assert report.negative_hours > 0
    assert report.accuracy >= 0.8
    front_end = HostFrontend(info.frontend)
    silence = np.zeros((1, info.frontend.clip_samples), np.int16)
    assert info.labels[int(predict(module, clip_inputs(front_end, silence)).argmax())] in ("unknown", "silence")
    finetune(base, data_root, tmp_path / "n.pt", config)
    assert (tmp_path / "m.pt").read_bytes() == (tmp_path / "n.pt").read_bytes()


def test_a_row_of_the_head_is_kept_where_the_base_knows_the_label(
    base: tuple[torch.nn.Module, CheckpointInfo],
) -> None:
    info = dataclasses.replace(base[1], labels=("low", "b", "silence", "d"))
    module = _prepare(base[0], info, FinetuneConfig(("high", "low")))
    new, old = (network.get_parameter("decoder.weight") for network in (module, base[0]))
    assert torch.equal(new[[1, 3]], old[[0, 2]])
    assert not torch.equal(new[0], old[1])


def test_a_shipped_model_is_begun_from_by_its_name() -> None:
    network, info = load_base(Path("kws10"))
    assert info.labels[:2] == ("down", "go")
    x = torch.zeros(1, 64, 1, 101)
    with torch.no_grad():
        assert network(x).shape == (1, 10)


@pytest.mark.slow
def test_a_quantized_base_is_made_trainable(data_root: Path, negatives: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(("high", "low"), epochs=1, folds=2, negatives=(negatives,))
    finetune(load_base(Path("kws10")), data_root, tmp_path / "m.pt", config)
    module, _ = load_checkpoint(tmp_path / "m.pt")
    assert isinstance(module, MatchboxNet)
    rows = module.prologue.pointwise.weight.flatten(1).norm(dim=1)
    assert 0.8 < float(rows.detach().mean()) < 1.2  # calibrate_norms() made them 1; an epoch changes them little


@pytest.mark.parametrize("rest", [{"streaming": True}, {"negatives": (Path("x"),)}])
def test_only_words_goes_with_nothing_else(rest: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="only_words"):
        FinetuneConfig(("high", "low"), only_words=True, **rest)
