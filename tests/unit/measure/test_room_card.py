"""A card's open half: other words by whether training met them, false accepts and misses of long recordings."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.measure.card import render_card, with_open_world
from mbx_deploy.measure.room_card import room_limits
from mbx_deploy.network.metadata import read_metadata

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OLD = "Of 581 words that are none of its labels, 3.1% were taken for a command word."
FOUND = {
    "other_words": {
        "seen": {"words": 2, "clips": 40, "taken": 1, "share": 0.025, "by_word": {"cat": {"clips": 40, "taken": 1}}},
        "never_seen": {"words": 0, "clips": 0, "taken": 0, "share": None, "by_word": {}},
    },
}


def test_the_old_line_goes_and_what_was_measured_comes_once() -> None:
    metadata = {"labels": ["yes"], "card": {"format": "mbx-deploy-card-1", "limits": ["Kept.", OLD]}}
    once = with_open_world(metadata, FOUND)
    assert once["card"]["limits"] == ["Kept.", *room_limits(FOUND)]
    assert with_open_world(once, FOUND) == once
    text = render_card("m", once)
    assert "other words, met" in text and "2.5%" in text and "never met" not in text


def test_a_card_is_measured_and_written(small_data: Path, tmp_path: Path) -> None:
    """The word is told where a track says it is spoken, and is a false accept where none does."""
    for kind, track in (("words", "0.0\t1.0\tyes\n"), ("room", None)):
        folder = tmp_path / "long" / kind
        folder.mkdir(parents=True)
        samples, _ = soundfile.read(EXAMPLES / "yes.wav", dtype="int16")
        soundfile.write(folder / "a.wav", np.concatenate([samples, np.zeros(32000, np.int16)]), 16000)
        if track:
            (folder / "a.txt").write_text(track)
    other = tmp_path / "other" / "shout"
    other.mkdir(parents=True)
    soundfile.write(other / "a.wav", samples, 16000)  # sounds as "yes" does
    line = ["card", "kws10", "--data", str(small_data), "--streams", str(tmp_path / "long")]
    line += ["--never-met", str(tmp_path / "other"), "-o", str(tmp_path / "m.tflite"), "--json", str(tmp_path / "c")]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "c").read_text())
    assert found["room"]["by_kind"].keys() == {"room"} and found["room"]["misses_by_kind"].keys() == {"words"}
    assert found["room"]["false_accepts"] == 1 and found["room"]["miss_rate"] == 0
    assert found["other_words"]["never_seen"]["by_word"] == {"shout": {"clips": 1, "taken": 1}}
    metadata = read_metadata((tmp_path / "m.tflite").read_bytes())
    assert metadata is not None and metadata["card"]["open_world"] == found
    assert not any(" 3.1%" in line for line in metadata["card"]["limits"])


def test_nothing_to_measure_is_one_line() -> None:
    result = CliRunner().invoke(cli, ["card", "kws10"])
    assert result.exit_code == 2 and "need --data, --streams or --never-met" in result.stderr
