"""The audit log: entries once, in a chain that shows every change."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from bot.audit import AuditLog, Entry
from bot.clock import FakeClock
from bot.runs.database import Database
from bot.runs.tables import audit as table


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a fresh embedded database."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as opened:
        yield opened


@pytest.fixture
def log(database: Database) -> AuditLog:
    """Return a log with three entries."""
    made = AuditLog(database.engine, FakeClock())
    for key in ("asked", "approved", "outcome"):
        made.append(f"r-1:{key}", Entry(kind=key, run="r-1", target="web-01", who="U0ADA"))
    return made


def test_an_untouched_chain_is_whole(log: AuditLog) -> None:
    """Three entries, no flaw, newest first."""
    assert list(log.flaws()) == []
    assert [e.entry.kind for e in log.entries()] == ["outcome", "approved", "asked"]


def test_a_repeated_step_adds_nothing(log: AuditLog) -> None:
    """Entries are unique by their key."""
    log.append("r-1:outcome", Entry(kind="outcome", run="r-1"))
    assert len(log.entries()) == 3


def test_several_entries_of_one_transaction_are_there_all_or_none(log: AuditLog) -> None:
    """Those that are there already, and those for which nothing was to be done, are left out."""

    def entry(kind: str) -> Entry:
        return Entry(kind=kind, run="r-1")

    made = log.append_each(
        [("r-1:a", lambda _: entry("a")), ("r-1:outcome", lambda _: entry("again")), ("r-1:b", lambda _: None)]
    )
    assert [one and one.kind for one in made] == ["a", None, None]
    with pytest.raises(ZeroDivisionError):
        log.append_each([("r-1:c", lambda _: entry("c")), ("r-1:d", lambda _: entry(str(1 / 0)))])
    assert [e.entry.kind for e in log.entries()] == ["a", "outcome", "approved", "asked"]
    assert list(log.flaws()) == []


def test_entries_from_many_threads_make_one_chain(log: AuditLog) -> None:
    """Appending is one at a time."""
    threads = [
        threading.Thread(target=log.append, args=(f"r-2:{n}", Entry(kind="outcome", run="r-2"))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.entries(limit=100)) == 23
    assert list(log.flaws()) == []


def test_a_changed_byte_is_found(log: AuditLog, database: Database) -> None:
    """Whoever edits an entry is found out, and which one it was."""
    with database.engine.begin() as connection:
        connection.execute(
            table.update().where(table.c.seq == 2).values(entry=sa.func.replace(table.c.entry, "ADA", "BEN"))
        )
    assert "Entry 2 was changed" in next(log.flaws())


def test_a_removed_entry_is_found(log: AuditLog, database: Database) -> None:
    """So is a gap."""
    with database.engine.begin() as connection:
        connection.execute(table.delete().where(table.c.seq == 2))
    assert "Entry 2 is missing" in next(log.flaws())


def test_two_swapped_entries_are_found(log: AuditLog, database: Database) -> None:
    """So is another order."""
    with database.engine.begin() as connection:
        rows = connection.execute(sa.select(table).where(table.c.seq.in_([2, 3])).order_by(table.c.seq)).all()
        connection.execute(table.delete().where(table.c.seq.in_([2, 3])))
        for row, seq in zip(rows, (3, 2), strict=True):
            connection.execute(table.insert().values(seq=seq, key=row.key, entry=row.entry, hash=row.hash))
    assert list(log.flaws())


def test_the_head_beside_the_database_is_whole_whoever_writes_at_once(database: Database, tmp_path: Path) -> None:
    """Many targets of a fleet end in the same moment: what stands in the file is always the end of the chain."""
    file = tmp_path / "head"
    with capture_logs() as logs:
        log = AuditLog(database.engine, FakeClock(), head_file=file)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda n: log.append(f"entry {n}", Entry(kind="began")), range(300)))
        assert file.read_text() == f"{log.head()}\n"
        assert log.head().count == 300
    assert [e for e in logs if e["log_level"] == "warning"] == []


def test_a_longer_head_of_another_database_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    """Who begins anew beside an old file finds the new head in it, whole."""
    file = tmp_path / "head"
    file.write_text(f"{10**9}:{'f' * 64}\n")
    log = AuditLog(database.engine, FakeClock(), head_file=file)
    log.append("first", Entry(kind="began"))
    assert file.read_text() == f"{log.head()}\n"


def test_a_head_file_that_had_no_room_says_nothing_of_the_database(database: Database, tmp_path: Path) -> None:
    """It was made on a full disk, and is as good as none; what holds something else is not."""
    file = tmp_path / "head"
    log = AuditLog(database.engine, FakeClock(), head_file=file)
    file.write_text("")
    assert log.older_than_its_head() is None
    file.write_text("something else")
    assert "holds no head" in str(log.older_than_its_head())
