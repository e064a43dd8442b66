"""The commands for people without Slack, and the audit log as a terminal sees it."""

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bot.audit import AuditLog, Entry
from bot.cli import octocert
from bot.clock import FakeClock
from bot.operating.terminal import NAME
from bot.runs.database import Database
from bot.secrets import Secret


def told(*words: str) -> Result:
    """Run a command of the command line."""
    return CliRunner().invoke(octocert, [str(w) for w in words], standalone_mode=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a folder with a database of four entries."""
    with Database(f"sqlite:///{tmp_path}/{NAME}") as database:
        log = AuditLog(database.engine, FakeClock(), head_file=tmp_path / f"{NAME}.audit-head")
        for number, kind in enumerate(("asked", "approved", "began", "outcome"), 1):
            log.append(f"r-1:{kind}", Entry(kind=kind, run="r-1", who="U0ADA", what=f"=entry {number} “ü”"))
    return tmp_path


def change(state: Path, statement: str, *values: object) -> None:
    """Change the database as somebody would who has the file."""
    with sqlite3.connect(state / NAME) as connection:
        connection.execute(statement, values)
    connection.close()


def test_a_whole_log_exits_0_and_tells_its_head(state: Path) -> None:
    """The head can be compared with the log stream's."""
    result = told("audit", "verify", "--state", state)
    assert result.return_value == 0
    head = result.output.split("Its head is ")[1].strip()
    assert head.startswith("4:")
    assert told("audit", "verify", "--state", state, "--head", head).return_value == 0


def test_any_changed_byte_of_any_entry_is_found_and_named(state: Path) -> None:
    """Each byte of each column of each entry, one after the other."""
    with sqlite3.connect(state / NAME) as connection:
        rows = connection.execute("select seq, key, entry, hash from octocert_audit").fetchall()
    connection.close()
    with Database(f"sqlite:///{state}/{NAME}") as database:
        log = AuditLog(database.engine, FakeClock())
        assert list(log.flaws()) == []
        for seq, *texts in rows:
            for column, text in zip(("key", "entry", "hash"), texts, strict=True):
                whole = text.encode()
                for place in range(0, len(whole), 1 if column != "entry" else 7):
                    other = bytearray(whole)
                    other[place] ^= 0x81 if place % 2 else 0x01
                    written = f"update octocert_audit set {column} = cast(? as text) where seq = ?"
                    change(state, written, bytes(other), seq)
                    assert f"Entry {seq} " in next(log.flaws(), ""), (seq, column, place)
                    change(state, f"update octocert_audit set {column} = ? where seq = ?", text, seq)
        assert list(log.flaws()) == []


@pytest.mark.parametrize("column", ["key", "entry", "hash"])
def test_a_byte_that_is_no_text_any_more_exits_1_and_the_entry_is_named(state: Path, column: str) -> None:
    """In the last entry, too, at which nobody looks but for the head."""
    change(state, f"update octocert_audit set {column} = cast(x'ff' || substr({column}, 2) as text) where seq = 4")
    result = told("audit", "verify", "--state", state)
    assert result.return_value == 1
    assert "Entry 4 " in result.output


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_a_removed_entry_exits_1_and_is_named(state: Path, seq: int) -> None:
    """So does one that is cut off at the end, below."""
    change(state, "delete from octocert_audit where seq = ?", seq)
    result = told("audit", "verify", "--state", state)
    assert result.return_value == 1
    assert f"Entry {seq} is missing" in result.output


def test_entries_cut_off_at_the_end_are_found_by_the_head(state: Path) -> None:
    """By the file beside the database, and by a head from the log stream where that file is gone, too."""
    head = (state / f"{NAME}.audit-head").read_text().strip()
    change(state, "delete from octocert_audit where seq = 4")
    assert "had 4 before" in told("audit", "verify", "--state", state).output
    (state / f"{NAME}.audit-head").unlink()
    assert told("audit", "verify", "--state", state).return_value == 0
    assert told("audit", "verify", "--state", state, "--head", head).return_value == 1


@pytest.mark.parametrize("pair", [(1, 2), (2, 3), (3, 4), (1, 4)])
def test_swapped_entries_exit_1(state: Path, pair: tuple[int, int]) -> None:
    """The first of the two is named."""
    one, other = pair
    change(state, "update octocert_audit set seq = 99 where seq = ?", one)
    change(state, "update octocert_audit set seq = ? where seq = ?", one, other)
    change(state, "update octocert_audit set seq = ? where seq = 99", other)
    result = told("audit", "verify", "--state", state)
    assert result.return_value == 1
    assert f"Entry {one} " in result.output


def test_a_keyed_log_cannot_be_made_anew_without_the_key(tmp_path: Path) -> None:
    """Whoever rewrites all of it without the key is found out at once."""
    with Database(f"sqlite:///{tmp_path}/{NAME}") as database:
        keyed = AuditLog(database.engine, FakeClock(), key=lambda: Secret("k" * 32))
        keyed.append("a", Entry(kind="asked"))
        keyed.append("b", Entry(kind="approved"))
        assert list(keyed.flaws()) == []
        stranger = AuditLog(database.engine, FakeClock(), key=lambda: Secret("x" * 32))
        assert "Entry 1 was changed" in next(stranger.flaws())
        change(tmp_path, "delete from octocert_audit")
        AuditLog(database.engine, FakeClock()).append("a", Entry(kind="asked"))
        assert "not keyed" in next(keyed.flaws())


def test_the_export_holds_every_entry_in_both_forms(state: Path) -> None:
    """JSON lines as they are; in CSV nothing that a spreadsheet would take for a formula."""
    lines = [json.loads(line) for line in told("audit", "export", "--state", state).output.splitlines()]
    assert [line["kind"] for line in lines] == ["asked", "approved", "began", "outcome"]
    assert lines[0]["what"] == "=entry 1 “ü”"
    table = told("audit", "export", "--state", state, "--format", "csv").output.splitlines()
    assert len(table) == 5
    assert "'=entry 1" in table[1]


def test_where_there_is_no_database_nothing_is_made(tmp_path: Path) -> None:
    """A wrong folder is an error, and stays empty."""
    result = told("audit", "verify", "--state", tmp_path)
    assert "There is no database" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
