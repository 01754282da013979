"""Labels yes, yes_0, YES, yes_2 once gave two classes one macro in the generated header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbx_deploy.codegen.names import label_macros


@pytest.mark.parametrize("labels", [("yes", "yes_0", "YES", "yes_2"), ("a", "A", "a_0", "a__0", "a_1", "A__1")])
def test_each_label_has_a_macro_of_its_own(labels: tuple[str, ...]) -> None:
    assert len(set(label_macros(labels))) == len(labels)


@given(st.lists(st.text("aA_0123", min_size=1, max_size=4), min_size=1, max_size=12, unique=True))
def test_whatever_the_labels_are(labels: list[str]) -> None:
    assert len(set(label_macros(tuple(labels)))) == len(labels)


def test_labels_that_share_none_keep_their_names() -> None:
    assert label_macros(("yes", "no", "turn on")) == ["YES", "NO", "TURN_ON"]
