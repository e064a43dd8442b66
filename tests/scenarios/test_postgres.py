"""A Postgres URL in the configuration is all it takes to change the database."""

from pathlib import Path

import pytest

from bot.domain.errors import UserError
from bot.runs import database_look
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
