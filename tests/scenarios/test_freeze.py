"""The freeze: no step begins anywhere until it is lifted, whoever asked for it and wherever."""

import shutil
import sqlite3

import sqlalchemy as sa

from bot.runs import tables
from tests.scenarios.town import Town, terminal


def test_while_frozen_an_approved_run_waits_and_goes_on_when_it_is_lifted(town: Town) -> None:
    """The message says so, the host is left alone; Otto may neither freeze nor lift it."""
    town.ask_quietly("otto", "freeze because I can", "not ask for changes")
    town.ask("rita", "freeze the great deployment")
    root = town.ask("rita", "rotate web-01")
    assert "the great deployment" in root.content
    town.press("ada", root, "Approve")
    town.wait(lambda: "Running" in town.slack.message(root.ts).content)
    assert "the great deployment" in town.slack.message(root.ts).content
    assert "frozen" in town.ask_quietly("rita", "status", "Frozen").lower()
    town.ask_quietly("rita", "unfreeze", "not ask for changes")
    assert town.effects("web-01", "make") == 0
    town.ask("ada", "unfreeze")
    town.end(root)
    town.assert_good("web-01")
    assert town.bot
    assert list(town.bot.audit.flaws()) == []
    kinds = [e.entry.kind for e in town.bot.audit.entries(limit=100)]
    assert kinds.index("unfrozen") < kinds.index("frozen"), "newest first"


def test_where_the_database_cannot_be_read_no_step_begins(town: Town) -> None:
    """The table of freezes is away: that is as if all were frozen; it comes back, and the run goes on."""
    assert town.bot
    engine = town.bot.database.engine
    root = town.ask("rita", "rotate web-02")
    with engine.begin() as connection:
        connection.execute(sa.text("alter table octocert_freezes rename to elsewhere"))
    assert town.bot.freezing.holds()
    with engine.begin() as connection:
        connection.execute(sa.text("alter table elsewhere rename to octocert_freezes"))
    assert not town.bot.freezing.holds()
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-02")


def test_a_terminal_freezes_tells_and_cancels_beside_the_running_bot(town: Town) -> None:
    """The bot holds its database; the thread tells what somebody without Slack did."""
    root = town.ask("rita", "rotate shared-01")
    assert "Frozen" in terminal(town, "freeze", "smoke in the server room")
    town.wait(lambda: "smoke in the server room" in town.slack.message(root.ts).content)
    assert "FROZEN" in terminal(town, "status")
    assert town.bot
    run = town.bot.ledger.recent(1)[0].id
    assert "shared-01" in terminal(town, "runbook", run)
    assert "cancelled" in terminal(town, "cancel", run)
    town.says(root, "took this plan back")
    town.wait(lambda: "Approve" not in town.slack.message(root.ts).buttons)
    assert "whole" in terminal(town, "audit", "verify")
    town.ask("ada", "unfreeze")
    assert town.effects("shared-01", "make") == 0


def test_a_database_from_a_backup_starts_frozen(town: Town) -> None:
    """What was done since then is not in it: nothing begins before somebody has looked."""
    database = town.sandbox.state / "octocert.sqlite"
    town.stop_bot()
    kept = database.with_name("kept.sqlite")
    shutil.copy(database, kept)
    town.start_bot()
    town.rotate("worker-01")
    town.stop_bot()
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.copy(kept, database)
    town.start_bot()
    assert "restored from a backup" in town.ask_quietly("rita", "status", "Frozen")
    told = terminal(town, "reconcile", code=3)
    assert "worker-01 (127." in told
    assert "it knows no such run" in told
    assert "nothing is to be mended" in told
    assert "not seen: lost-01" in told
    assert "1 journals were read, 1 tell otherwise" in told
    town.ask("ada", "unfreeze")
    with sqlite3.connect(database) as connection:
        assert connection.execute(f"select count(*) from {tables.freezes.name} where lifted is null").fetchone() == (0,)
    connection.close()
