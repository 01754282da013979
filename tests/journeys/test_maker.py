"""A maker's folder, one person's words as phones and browsers record them, becomes firmware by the tool alone."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.tools import find_tool
from mbx_deploy.train.checkpoint import CheckpointInfo, save_checkpoint
from mbx_deploy.train.matchboxnet import MatchboxNetConfig, build_matchboxnet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_tool("ffmpeg") is None, reason="no ffmpeg"),
]
WORDS = {"open": 300.0, "close": 900.0, "lamp": 1700.0, "music": 3000.0}
FORMS = ("m4a", "webm", "mp3", "opus", "wav")
CLIPS = 16


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{arguments}\n{result.output}"
    return result


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Four words of 16 recordings in five forms, nobody's name on them: tones that glide, 48 kHz."""
    rng = np.random.default_rng(1)
    time_s = np.arange(48_000) / 48_000
    for word, hz in WORDS.items():
        (tmp_path / "mine" / word).mkdir(parents=True)
        for number in range(CLIPS):
            glide = np.cumsum(1.0 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 3) * time_s)) / 48_000
            wave = rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * glide)
            wave *= (time_s > 0.2) & (time_s < 0.7)
            wave += rng.normal(0, 0.002, len(wave))
            form = FORMS[number % len(FORMS)]
            path = tmp_path / "mine" / word / f"Recording {number}.{form}"
            if form in ("m4a", "webm"):
                plain = tmp_path / "plain.wav"
                soundfile.write(plain, wave, 48_000)
                subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", plain, path], check=True)
            elif form == "opus":
                soundfile.write(path, wave, 48_000, format="OGG", subtype="OPUS")
            else:
                soundfile.write(path, wave, 48_000)
    return tmp_path / "mine"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small network to begin from."""
    torch.manual_seed(0)
    config = MatchboxNetConfig(
        num_classes=2, blocks=1, channels=16, prologue_filters=16, prologue_kernel=3, kernels=(3,),
        epilogue_filters=16, epilogue_kernel=3, epilogue_dilation=1,
    )  # fmt: skip
    path = tmp_path / "base.pt"
    info = CheckpointInfo(config, FrontendConfig(), ("yes", "no"), {"seed": 0})
    save_checkpoint(path, build_matchboxnet(config).eval(), info)
    return path


def test_recordings_of_one_person_become_firmware(recordings: Path, base: Path, tmp_path: Path) -> None:
    inspected = json.loads(call("data", "inspect", recordings, "--json").stdout)
    counts = [inspected["labels"][word] for word in WORDS]
    assert all(sum(count.values()) == CLIPS and min(count.values()) > 0 for count in counts)
    assert inspected["conversions"]["decoded from WebM by ffmpeg"] == len(WORDS) * 3

    line = ("finetune", "--from", base, "--data", recordings, "--words", ",".join(WORDS))
    tuned = call(*line, "--only-words", "--epochs", 3, "-o", tmp_path / "m.pt")
    assert "by cross-validation over" in tuned.stdout and "may know its speaker" in tuned.stderr
    assert "fold 5 of 5: 3/3" in tuned.stderr

    options = ("--ranges", "minmax", "--min-agreement", 50, "--no-accuracy")
    call("export", tmp_path / "m.pt", "--data", recordings, "-o", tmp_path / "m.tflite", *options)
    call("build", "--model", tmp_path / "m.tflite", "--target", "host", "-o", tmp_path / "build")
    some = [next((recordings / word).glob(f"*.{form}")) for word, form in zip(WORDS, FORMS, strict=False)]
    answers = json.loads(call("simulate", tmp_path / "m.tflite", *some, "--json").stdout)
    assert [Path(answer["file"]).parent.name for answer in answers] == list(WORDS)
