"""Files of labels, as people and NeMo write them."""

from pathlib import Path

import pytest

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.labels import read_labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "yes\nno\n\n on \n"),
        ("l.txt", "\ufeffyes\nno\non\n"),
        ("l.txt", "- yes\n- no\n- on\n"),
        ("l.yaml", "labels:\n- 'yes'\n- no\n- \"on\"\n"),
        ("l.yml", "[yes, no, on]\n"),
        ("l.txt", "labels:\n- yes\n- no\n- on\n"),
    ],
)
def test_words_are_words(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_labels(path) == ("yes", "no", "on")


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.txt", ""), ("l.txt", "a\na\n"), ("l.yaml", "words: [a]\n"), ("l.yaml", "- {a: b}\n"), ("l.yaml", "- [\n")],
)
def test_what_is_no_list_of_words(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=r"l\.(txt|yaml)"):
        read_labels(path)
