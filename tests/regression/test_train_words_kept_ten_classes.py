"""`train --words` replaced the labels, but not the number of classes that the configuration's ten had: it never ran."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.train.checkpoint import load_checkpoint

TINY = """
labels = ["yes", "no", "up", "down", "unknown", "silence"]
batch_size = 8
[model]
num_classes = 6
blocks = 1
channels = 8
prologue_filters = 8
prologue_kernel = 3
kernels = [3]
epilogue_filters = 8
epilogue_kernel = 3
epilogue_dilation = 1
"""


@pytest.mark.slow
def test_the_words_decide_how_many_classes_there_are(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    for number, word in enumerate(("open", "close", "tree")):
        (tmp_path / "data" / word).mkdir(parents=True)
        for clip in range(12):
            wave = 3000 * np.sin(np.arange(16000) / (3 + number + clip / 50))
            soundfile.write(tmp_path / "data" / word / f"{clip}.wav", wave.astype(np.int16), 16000)
    line = ["train", "--config", str(tmp_path / "tiny.toml"), "--data", str(tmp_path / "data"), "--words", "open,close"]
    result = CliRunner().invoke(cli, [*line, "--epochs", "1", "--accelerator", "cpu", "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "run" / "model.pt")[1].labels == ("open", "close", "unknown", "silence")
    assert "{" not in result.stdout and "command accuracy:" in result.stdout  # lines for people, no dict
