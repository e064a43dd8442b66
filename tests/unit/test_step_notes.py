"""Step notes: what work depends on is written at once, the rest together; none is lost while the database is away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.clock import FakeClock
from bot.domain.plan import StepKind
from bot.domain.run import StepState
from bot.runs import tables
from bot.runs.database import Database
from bot.runs.ledger import Ledger
from bot.runs.step_notes import load_steps
from tests.making import NOW, facts, plan

SOON = 10.0


class Book:
    """A ledger with a run over two targets."""

    def __init__(self, database: Database) -> None:
        self.engine = database.engine
        self.ledger = Ledger(database.engine, FakeClock())
        self.ledger.propose(plan(facts("web-01", 1), facts("web-02", 2)), expires=NOW, run_id="r-1")
        self.written: list[str] = []
        self.heard = threading.Event()
        self.ledger.notes.told_to(self._hear)

    def _hear(self, run_id: str) -> None:
        self.written.append(run_id)
        self.heard.set()

    def note(self, target: str, step: StepKind, state: StepState) -> None:
        """Note where a step stands."""
        self.ledger.step("r-1", target, step, state)

    def stored(self, target: str, step: StepKind) -> StepState:
        """Return what the database says, past everything that waits."""
        with self.engine.connect() as connection:
            query = sa.select(tables.progress.c.steps).where(tables.progress.c.target == target)
            text = connection.execute(query).scalar_one()
        return next(s.state for s in load_steps(text) if s.step is step)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """Return a run whose steps are noted."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as database:
        yield Book(database)


def test_that_a_target_was_begun_is_written_at_once(book: Book) -> None:
    """After a crash it must be known of each target whether it was begun."""
    book.note("web-01", StepKind.IDLE, StepState.IN_PROGRESS)
    assert book.stored("web-01", StepKind.IDLE) is StepState.IN_PROGRESS
    assert book.stored("web-02", StepKind.IDLE) is StepState.PENDING


def test_later_notes_wait_for_each_other_and_are_written_by_themselves(book: Book) -> None:
    """Whoever reads through the ledger sees them all the same."""
    for name in ("web-01", "web-02"):
        book.note(name, StepKind.IDLE, StepState.IN_PROGRESS)
    book.written.clear()
    book.heard.clear()
    for name in ("web-01", "web-02"):
        book.note(name, StepKind.IDLE, StepState.COMPLETE)
        book.note(name, StepKind.BACKUP, StepState.IN_PROGRESS)
    assert book.heard.wait(SOON)
    assert book.written == ["r-1"], "once for all of them"
    assert book.stored("web-02", StepKind.BACKUP) is StepState.IN_PROGRESS
    book.note("web-01", StepKind.BACKUP, StepState.COMPLETE)
    (first, _) = book.ledger.run("r-1").targets
    assert next(s.state for s in first.steps if s.step is StepKind.BACKUP) is StepState.COMPLETE


def test_what_failed_is_written_at_once(book: Book) -> None:
    """With everything that was noted before."""
    book.note("web-01", StepKind.IDLE, StepState.IN_PROGRESS)
    book.note("web-01", StepKind.IDLE, StepState.COMPLETE)
    book.note("web-01", StepKind.BACKUP, StepState.ERROR)
    assert book.stored("web-01", StepKind.IDLE) is StepState.COMPLETE
    assert book.stored("web-01", StepKind.BACKUP) is StepState.ERROR


def test_what_cannot_be_written_is_kept(book: Book) -> None:
    """The table is away for a moment; afterwards the newest state of each step stands there."""
    book.note("web-01", StepKind.IDLE, StepState.IN_PROGRESS)
    with book.engine.begin() as connection:
        connection.execute(sa.text("alter table octocert_progress rename to elsewhere"))
    book.note("web-01", StepKind.IDLE, StepState.COMPLETE)
    with pytest.raises(sa.exc.OperationalError):
        book.note("web-01", StepKind.BACKUP, StepState.ERROR)
    book.note("web-01", StepKind.BACKUP, StepState.COMPLETE)
    with book.engine.begin() as connection:
        connection.execute(sa.text("alter table elsewhere rename to octocert_progress"))
    book.ledger.notes.close()
    assert book.stored("web-01", StepKind.IDLE) is StepState.COMPLETE
    assert book.stored("web-01", StepKind.BACKUP) is StepState.COMPLETE


def test_what_the_database_refuses_keeps_nobody_from_reading(book: Book) -> None:
    """Where steps stand is for people's eyes: it is not shown, and the run goes on."""
    book.note("web-01", StepKind.IDLE, StepState.IN_PROGRESS)
    trigger = "create trigger no before update on octocert_progress begin select raise(abort, 'no'); end"
    with book.engine.begin() as connection:
        connection.execute(sa.text(trigger))
    book.note("web-01", StepKind.IDLE, StepState.COMPLETE)
    (first, _) = book.ledger.run("r-1").targets
    assert first.steps[0].state is StepState.IN_PROGRESS
    with pytest.raises(sa.exc.IntegrityError):
        book.note("web-01", StepKind.BACKUP, StepState.ERROR)
