"""Backup and restore, retention, and locks that a dead run left: what an administrator does about the database."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.domain.run import RunState
from bot.runs.database import Database
from tests.scenarios import postgres
from tests.scenarios.town import Town

PROGRAM = Path(sys.executable).with_name("octocert")


def octocert(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program as an administrator does."""
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)


def count(town: Town, query: str) -> int:
    """Ask the bot's database."""
    assert town.bot
    with town.bot.database.engine.connect() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


def test_a_backup_is_taken_beside_the_bot_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """A plan waited when the copy was made: restored, its button works, and the audit is whole."""
    with Town(tmp_path) as town:
        town.rotate("web-02")
        root = town.ask("rita", "rotate web-01")
        copy = tmp_path / "copy.sqlite"
        done = octocert("backup", copy, "--config", town.sandbox.config)
        assert done.returncode == 0, done.stderr
        assert "holds the whole database" in done.stdout
        assert copy.stat().st_mode & 0o077 == 0
        again = octocert("backup", copy, "--config", town.sandbox.config)
        assert again.returncode == 2
        assert "exists already" in again.stderr
        town.stop_bot()
        database = town.sandbox.state / "octocert.sqlite"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        copy.rename(database)
        town.start_bot()
        assert town.bot
        assert list(town.bot.audit.flaws()) == []
        assert town.bot.ledger.recent(1)[0].state is RunState.PROPOSED
        assert "web-01" in town.slack.message(root.ts).content


@pytest.mark.skipif(postgres.programs() is None, reason="Postgres is not installed (Debian: postgresql)")
def test_postgres_is_dumped_and_restored_by_its_own_programs(tmp_path: Path) -> None:
    """Ours and the durable engine's tables: the command that the bot names copies both."""
    programs = postgres.programs()
    assert programs
    with postgres.server() as url:
        town = Town(tmp_path)
        text = town.sandbox.config.read_text()
        line = next(one for one in text.splitlines() if one.startswith('url = "sqlite'))
        town.sandbox.config.write_text(text.replace(line, f'url = "{url}"'))
        with town:
            town.rotate("web-02")
            told = octocert("backup", tmp_path / "dump", "--config", town.sandbox.config)
            assert told.returncode == 2
            assert "pg_dump --format=custom" in told.stderr
            subprocess.run([programs / "pg_dump", "--format=custom", f"--file={tmp_path / 'dump'}", url], check=True)
            town.stop_bot()
            other = url.replace("/octocert?", "/restored?")
            maintenance = sa.create_engine(
                sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
            )
            with maintenance.connect() as connection:
                connection.execute(sa.text("create database restored"))
            maintenance.dispose()
            subprocess.run(
                [programs / "pg_restore", "--exit-on-error", f"--dbname={other}", tmp_path / "dump"], check=True
            )
            town.sandbox.config.write_text(text.replace(line, f'url = "{other}"'))
            town.start_bot()
            assert town.bot
            assert list(town.bot.audit.flaws()) == []
            assert town.bot.ledger.recent(1)[0].state is RunState.FINISHED
            assert count(town, "select count(*) from dbos.workflow_status") > 0


def test_old_runs_are_forgotten_and_the_audit_is_not(tmp_path: Path) -> None:
    """A run that ended long ago goes with all its parts, the durable engine's too; a younger one stays."""
    with Town(tmp_path, extra="[retention]\nruns_days = 30\n") as town:
        town.rotate("web-01")
        assert town.bot
        old = town.bot.ledger.recent(1)[0].id
        town.clock.shift += timedelta(hours=25)
        town.wait(lambda: count(town, "select count(*) from octocert_copies") == 0, 60)
        town.clock.shift += timedelta(days=40)
        town.rotate("web-02")
        young = town.bot.ledger.recent(1)[0].id
        entries = len(town.bot.audit.entries(limit=1000))
        assert count(town, f"select count(*) from workflow_status where workflow_uuid like '{old}%'") >= 2
        town.stop_bot()
        town.start_bot()
        town.wait(lambda: town.bot and town.bot.ledger.find(old) is None)
        assert town.bot
        assert town.bot.ledger.find(young)
        assert len(town.bot.audit.entries(limit=1000)) >= entries
        assert list(town.bot.audit.flaws()) == []
        assert count(town, f"select count(*) from workflow_status where workflow_uuid like '{old}%'") == 0
        assert count(town, f"select count(*) from workflow_status where workflow_uuid like '{young}%'") >= 2
        for table in ("plans", "progress"):
            assert count(town, f"select count(*) from octocert_{table} where run_id = '{old}'") == 0
        assert count(town, f"select count(*) from octocert_posts where key like '{old}:%'") == 0


def test_a_lock_that_a_dead_run_left_is_given_back_by_a_person(tmp_path: Path) -> None:
    """Only with the word of force where the run is not over; audited; and nobody else's lock."""
    with Town(tmp_path) as town:
        town.ask("rita", "rotate web-01")
        assert town.bot
        run, ledger = town.bot.ledger.recent(1)[0], town.bot.ledger
        ledger.lock_host("10.0.0.7", run.id)
        ledger.lock_host("10.0.0.8", run.id)
        config = town.sandbox.config
        beside = octocert("unlock", "10.0.0.7", "--config", config)
        assert beside.returncode == 2
        assert "Another bot already uses" in beside.stderr
        town.stop_bot()
        assert "Cancel it in Slack first" in octocert("unlock", "10.0.0.7", "--config", config).stderr
        assert "Locked: 10.0.0.7, 10.0.0.8" in octocert("unlock", "10.0.0.9", "--config", config).stderr
        done = octocert("unlock", "10.0.0.7", "--force", "--config", config)
        assert done.returncode == 0, done.stderr
        url = f"sqlite:///{town.sandbox.state / 'octocert.sqlite'}"
        with Database(url) as database, database.engine.connect() as connection:
            left = connection.execute(sa.text("select host from octocert_host_locks")).scalars().all()
            told = connection.execute(sa.text("select entry from octocert_audit order by seq desc")).scalar()
        assert left == ["10.0.0.8"]
        assert "unlocked" in str(told)
        assert "by force" in str(told)
        town.start_bot()
