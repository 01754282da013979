"""train, finetune and data synthesize on the command line: what they take, and what they refuse in one line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.system.tools import find_tool

needs_espeak = pytest.mark.skipif(find_tool("espeak-ng") is None, reason="espeak-ng is not installed")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@needs_espeak
def test_words_are_spoken_into_a_folder_a_word(tmp_path: Path) -> None:
    done = call("data", "synthesize", "--words", "table,write", "-o", tmp_path / "w", "--clips", 2, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["words"], found["clips"], found["refused"]) == (1, 2, {"write": "right"})
    assert len(list((tmp_path / "w" / "table").glob("*.flac"))) == 2
    # The words of another model are others' like.
    done = call("data", "synthesize", "--words", "table,write", "--commands", "cable", "-o", tmp_path / "v", "--json")
    assert json.loads(done.stdout)["refused"] == {"table": "cable"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data", "synthesize", "--words", "no/such/list.txt", "-o", "x"), "no such list of words"),
        (("data", "synthesize", "--words", "x9", "-o", "x"), "not a word"),
        (
            (
                "finetune",
                "--from",
                "kws10",
                "--data",
                ".",
                "--words",
                "a,b",
                "--only-words",
                "--streaming",
                "-o",
                "m.pt",
            ),
            "only_words",
        ),
        (("finetune", "--from", "nothing", "--data", ".", "--words", "a,b", "-o", "m.pt"), "no shipped model"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[str, ...], message: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_negatives_must_be_there(small_data: Path, tmp_path: Path) -> None:
    done = call("train", "--data", small_data, "--negatives", tmp_path / "nowhere", "-o", tmp_path / "run")
    assert done.exit_code == 2
    assert not (tmp_path / "run").exists()
