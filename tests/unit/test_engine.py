"""What the durable engine journals: plain JSON and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.runs.engine import RecordedError, StrictJson
from bot.secrets import Secret

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_is_plain_comes_back_as_it_was(value: object) -> None:
    """A replay sees what the first run saw."""
    journal = StrictJson()
    if isinstance(value, dict) and set(value) == {"__error__"}:
        return
    assert journal.deserialize(journal.serialize(value)) == value


@pytest.mark.parametrize("value", [Secret("x"), {"a": [Secret("x")]}, object(), b"bytes", {1, 2}])
def test_a_secret_or_anything_odd_is_refused(value: object) -> None:
    """It never reaches the database."""
    with pytest.raises(TypeError, match="never journaled"):
        StrictJson().serialize(value)


def test_an_exception_leaves_its_name_and_not_its_text() -> None:
    """Texts of foreign exceptions may hold anything."""
    text = StrictJson().serialize(RuntimeError("password=hunter2"))
    assert "hunter2" not in text
    assert isinstance(StrictJson().deserialize(text), RecordedError)
