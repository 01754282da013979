"""OmegaConf's references in a YAML."""

from typing import Any

import pytest

from mbx_deploy.nemo.interpolation import resolve_references
from mbx_deploy.system.documents import DocumentError


def test_references_stand_for_what_is_there() -> None:
    content = {
        "sizes": {"frames": 128, "blocks": [3, 5]},
        "a": "${sizes.frames}",
        "b": ["${sizes.blocks}", "${sizes.blocks[1]}", "${a}"],
        "c": "x${sizes.frames}y",
        "d": "${ sizes }",
    }
    found = resolve_references(content)
    assert found["a"] == 128 and found["b"] == [[3, 5], 5, 128] and found["c"] == "x128y"
    assert found["d"] == {"frames": 128, "blocks": [3, 5]}


def test_a_model_of_its_own_is_the_key_model() -> None:
    assert resolve_references({"labels": ["yes"], "x": "${model.labels}"})["x"] == ["yes"]
    both = {"labels": ["no"], "model": {"labels": ["yes"]}, "x": "${model.labels}"}
    assert resolve_references(both)["x"] == ["yes"]


@pytest.mark.parametrize("text", ["${gone.away}", "${x}", "${oc.env:HOME}", "${}", "${a", "n${list}", "${.a}"])
def test_what_leads_nowhere_stays(text: str) -> None:
    content: dict[str, Any] = {"x": text, "list": [1], "y": "${x}"}
    assert resolve_references(content)["x"] == text


def test_a_circle_ends() -> None:
    found = resolve_references({"a": "${b}", "b": "${a}"})
    assert set(found) == {"a", "b"} and all("${" in text for text in found.values())
    content: dict[str, Any] = {"a": {"b": "${a}"}}
    assert "${a}" in repr(resolve_references(content))


def test_references_that_grow_without_end_are_refused() -> None:
    content: dict[str, Any] = {"l0": ["x"] * 30}
    content |= {f"l{n}": [f"${{l{n - 1}}}"] * 30 for n in range(1, 6)}
    with pytest.raises(DocumentError, match="too much"):
        resolve_references(content)
