"""A Postgres URL in the configuration is all it takes to change the database."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.domain.errors import UserError
from bot.runs import database_look
from bot.runs.database import Database, is_away
from tests.scenarios import postgres
from tests.scenarios.town import Town


@pytest.mark.skipif(postgres.programs() is None, reason="Postgres is not installed (Debian: postgresql)")
def test_the_same_story_on_postgres(tmp_path: Path) -> None:
    """Rita asks, Ada approves; the ledger, the journal and the audit log are in Postgres."""
    with postgres.server() as url:
        town = Town(tmp_path)
        text = town.sandbox.config.read_text()
        line = next(one for one in text.splitlines() if one.startswith('url = "sqlite'))
        town.sandbox.config.write_text(text.replace(line, f'url = "{url}"'))
        assert database_look.look(url, None).endswith("empty; the bot makes its tables at its first start.")
        with town:
            assert database_look.look(url, None).endswith("its tables are there.")
            root = town.rotate("web-01")
            town.assert_good("web-01")
            assert "healthy" in town.says(root, "healthy")
            assert town.bot
            assert list(town.bot.audit.flaws()) == []
            assert len(town.bot.audit.entries()) >= 5
        with pytest.raises(UserError, match=r"cannot be opened: .*Check \[database\] url"):
            database_look.look(url.replace("@/octocert", "@/nowhere"), None)
        assert not list(town.sandbox.state.glob("octocert.sqlite*"))


@pytest.mark.skipif(postgres.programs() is None, reason="Postgres is not installed (Debian: postgresql)")
def test_what_a_frozen_bot_holds_is_given_back_while_it_is_frozen() -> None:
    """Its open transaction locks a row that others need; nobody waits until it thaws, and it finds itself cut off."""
    change = sa.text("update octocert_leads set beat = beat + 1")
    with postgres.server() as url, Database(url, idle=0.3) as frozen, Database(url) as other:
        with other.engine.begin() as connection:
            connection.execute(sa.text("insert into octocert_leads (role, executor, beat) values ('leader', 'a', 0)"))
        held = frozen.engine.connect()
        held.execute(change)
        with other.engine.begin() as connection:
            connection.execute(sa.text("set local statement_timeout = 10000"))
            assert connection.execute(change).rowcount == 1
            assert connection.execute(sa.text("select beat from octocert_leads")).scalar_one() == 1
        with pytest.raises(sa.exc.DBAPIError) as raised:
            held.execute(change)
        assert is_away(raised.value)
        held.close()
