"""Small YAML files that took minutes and gigabytes: merge keys, aliases, nesting, digits."""

import time
from pathlib import Path

import pytest

from mbx_deploy.errors import InputError
from mbx_deploy.nemo.section import Section
from mbx_deploy.system.documents import DocumentError, show
from mbx_deploy.system.yaml_documents import parse_yaml
from mbx_deploy.train.config import load_train_config


def bomb(first: str, item: str) -> str:
    levels = [f"a0: &a0 {first}"]
    levels += [f"a{n}: &a{n} {item.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, 10)]
    return "\n".join(levels)


HOSTILE = {
    "merge bomb": bomb("{k: 1}", "{{<<: [{}]}}"),
    "alias bomb": bomb("[x]", "[{}]"),
    "alias of itself": "a: &a [*a]",
    "nested lists": "[" * 5_000,
    "nested blocks": "\n".join(" " * n + f"k{n}:" for n in range(500)),
    "many values": "[" + "1," * 60_000 + "]",
    "hex digits": "a: 0x" + "f" * 5_000,
    "base 60": "a: 1" + ":59" * 3_000,
    "float of many digits": "a: 1." + "1" * 5_000,
    "key twice": "a: 1\na: 2",
    "large": "#" * (1 << 20),
    "an object": "!!python/object/apply:os.system [x]",
    "bad date": "a: 2001-99-99",
    "bad number": "a: !!int x",
}


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_is_refused_at_once(name: str, as_text: bool) -> None:
    begin = time.process_time()
    if as_text and name in ("hex digits", "base 60", "float of many digits", "an object", "bad date", "bad number"):
        parse_yaml(HOSTILE[name].encode(), as_text)  # text it is
    else:
        with pytest.raises(DocumentError) as error:
            parse_yaml(HOSTILE[name].encode(), as_text)
        assert len(str(error.value)) < 200 and "\n" not in str(error.value)
    assert time.process_time() - begin < 5


def test_aliases_and_merges_of_usual_size_stay() -> None:
    text = b"a: &a {x: 1, y: 0x10}\nb: {<<: *a, y: 1.5}\nc: [*a, *a]\n"
    a = {"x": 1, "y": 16}
    assert parse_yaml(text) == {"a": a, "b": {"x": 1, "y": 1.5}, "c": [a, a]}


def test_params_that_are_no_mapping() -> None:
    section = Section({"preprocessor": {"cls": "nemo.X", "params": [1, 2]}}, Path("m.nemo"), "")
    with pytest.raises(InputError, match=r"preprocessor.params.*need a mapping"):
        section.component("preprocessor")


def test_shown_values_are_short() -> None:
    nested: list[object] = [1]
    for _ in range(60):
        nested = [nested, nested]
    for value in (1 << 60_000, nested, [1 << 60_000], ["x" * 10_000], "x" * 10_000, {"a": nested}, (nested,)):
        assert len(show(value)) <= 70


@pytest.mark.parametrize("line", ["seed = 99999999999999999999999", "threads = 1000000000", "epochs = 10000000000"])
def test_counts_have_an_end(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.toml").write_text(line)
    with pytest.raises(InputError, match=line.split()[0]):
        load_train_config(tmp_path / "c.toml")
