"""What the durable engine journals: plain JSON and nothing else."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos._utils import retriable_postgres_exception  # what it tries again is held to its promise here
from hypothesis import given
from hypothesis import strategies as st

from bot.runs.database import Database, is_away
from bot.runs.recorded import RecordedError, StrictJson
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


def test_a_database_that_is_away_is_tried_again_by_the_durable_engine_too(tmp_path: Path) -> None:
    """It knows some words of the driver's only; with others it would give the workflow up, and nobody would go on."""
    with Database(f"postgresql://octocert@/octocert?host={tmp_path}", beside=True) as database:
        with pytest.raises(sa.exc.OperationalError) as raised:
            database.engine.connect()
        assert retriable_postgres_exception(raised.value)
        assert is_away(raised.value)


def test_a_database_that_refuses_is_not_away() -> None:
    """To try the same again would end nowhere."""
    assert not is_away(sa.exc.IntegrityError("insert", {}, Exception("no")))
