"""Connections to Postgres that die, at rest or in use."""

import time

import pytest
import sqlalchemy as sa

from bot.runs.database import FRESH_SECONDS, Database, is_away
from tests.scenarios import postgres

pytestmark = pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")


def test_after_a_restart_a_connection_that_rested_is_replaced_without_a_word() -> None:
    """One that dies in use fails its statement, with an error after which work is repeated; the next is another."""
    with postgres.server() as url, Database(url) as database:

        def ask() -> int:
            with database.engine.connect() as connection:
                return int(connection.execute(sa.text("select pg_backend_pid()")).scalar_one())

        first = ask()
        assert ask() == first
        postgres.restart(url)
        time.sleep(FRESH_SECONDS)
        second = ask()
        assert second != first

        with database.engine.connect() as connection:
            connection.execute(sa.text("select 1"))
            with Database(url, beside=True) as other, other.engine.begin() as killer:
                killer.execute(sa.text("select pg_terminate_backend(:pid)"), {"pid": second})
            with pytest.raises(sa.exc.OperationalError) as raised:
                connection.execute(sa.text("select 1"))
            assert is_away(raised.value), "what is tried again"
        assert ask() != second
