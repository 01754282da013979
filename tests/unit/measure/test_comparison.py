"""Two models on the same clips, and clips that were heard wrong as sounds."""

import json
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.measure.comparison import compare_reports, mcnemar, render_comparison


def report(model: str, heard: dict[str, str]) -> dict[str, object]:
    rows = [{"clip": clip, "said": clip[0], "heard": word, "right": clip[0] == word} for clip, word in heard.items()]
    return {"model": model, "heard": rows}


def test_who_is_right_where() -> None:
    first = report("a", {"y1": "y", "y2": "n", "n1": "n", "n2": "y", "z1": "z"})
    second = report("b", {"y1": "y", "y2": "y", "n1": "y", "n2": "z", "q1": "q"})
    found = compare_reports(first, second)
    assert (found["clips"], found["left_out"], found["both_right"]) == (4, 2, 1)
    assert (found["only_first"], found["only_second"], found["accuracy"]) == (1, 1, [0.5, 0.5])
    assert [row["clip"] for row in found["differ"]] == ["y2", "n1", "n2"]
    assert "2 that only one knows" in render_comparison(found) and "no difference" in render_comparison(found)


@pytest.mark.parametrize(("first", "second", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 10, 2 / 1024), (10, 0, 2 / 1024)])
def test_chance(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p)


@pytest.mark.slow
def test_the_command_compares_and_cuts_out_what_was_wrong(small_data: Path, tmp_path: Path) -> None:
    line = ["evaluate", "kws10", "--data", str(small_data), "--snr", "none"]
    wrong = CliRunner().invoke(cli, [*line, "--wrong", str(tmp_path / "wrong"), "--json", str(tmp_path / "a.json")])
    assert wrong.exit_code == 0, wrong.output
    rows = json.loads((tmp_path / "a.json").read_text())["heard"]
    missed = [row for row in rows if not row["right"]]
    sounds = sorted((tmp_path / "wrong").rglob("*.wav"))
    assert len(sounds) == len(missed) > 0
    assert {path.parent.relative_to(tmp_path / "wrong").as_posix() for path in sounds} == {
        f"{row['said']}/{row['heard']}" for row in missed
    }
    assert soundfile.info(sounds[0]).frames == 16000
    both = CliRunner().invoke(cli, [*line[:2], "kws10s", *line[2:], "--json", str(tmp_path / "b.json")])
    assert both.exit_code == 0, both.output
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["comparison"]["models"] == ["kws10", "kws10s"] and found["comparison"]["clips"] == len(rows)
    assert "McNemar" in both.output
