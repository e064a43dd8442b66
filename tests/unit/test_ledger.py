"""The ledger: compare-and-set, locks, deliveries; what is written is there after a restart."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from bot.audit import AuditLog, Entry
from bot.clock import FakeClock
from bot.domain import codec
from bot.domain.errors import UserError
from bot.domain.plan import StepKind
from bot.domain.run import Decision, Outcome, OutcomeKind, RunState, StepState
from bot.runs import migrations, tables
from bot.runs.database import Database
from bot.runs.ledger import Ledger, new_run_id
from bot.runs.moving import moved
from tests.making import NOW, facts, plan, polling
from tests.runs import DECIDED


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a fresh embedded database."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as opened:
        yield opened


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """Return a ledger on it, with a clock that stands still."""
    return Ledger(database.engine, FakeClock())


def proposed(ledger: Ledger) -> str:
    """Propose a run over two targets and return its id."""
    clock = FakeClock()
    return ledger.propose(plan(facts(), polling()), expires=clock.now() + timedelta(minutes=30), run_id=new_run_id()).id


def ada(ledger: Ledger, *, approved: bool = True) -> Decision:
    """Return Ada's decision."""
    return Decision(user="U0ADA", user_name="ada", approved=approved, at=FakeClock().now())


def test_of_two_clicks_at_once_one_counts(ledger: Ledger) -> None:
    """Approve and Deny pressed by two people in the same instant: exactly one of them decided."""
    run_id = proposed(ledger)
    won: list[RunState] = []
    barrier = threading.Barrier(8)

    def click(to: RunState) -> None:
        barrier.wait()
        if ledger.move(run_id, of=(RunState.PROPOSED,), to=to, decision=ada(ledger, approved=to is RunState.RUNNING)):
            won.append(to)

    threads = [threading.Thread(target=click, args=(s,)) for s in [RunState.RUNNING, RunState.DENIED] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [ledger.run(run_id).state]


def test_a_proposal_delivered_twice_is_one_run(ledger: Ledger) -> None:
    """The same run id writes nothing twice."""
    first = ledger.propose(plan(), expires=FakeClock().now(), run_id="r-same")
    second = ledger.propose(plan(), expires=FakeClock().now(), run_id="r-same")
    assert first.nonce == second.nonce
    assert len(ledger.recent()) == 1


def test_progress_and_outcome_are_there_after_a_restart(ledger: Ledger, database: Database) -> None:
    """Another ledger on the same database sees them."""
    run_id = proposed(ledger)
    ledger.step(run_id, "web-01", StepKind.MAKE, StepState.COMPLETE, "made")
    old = ledger.run(run_id).plan.targets[0].old
    outcome = Outcome(target="web-01", kind=OutcomeKind.HEALTHY, old=old, new=old, health=None, seconds=1.0)
    with database.engine.begin() as connection:
        assert ledger.outcome(run_id, outcome, connection)
        assert not ledger.outcome(run_id, outcome, connection), "the first outcome stands"
    run = Ledger(database.engine, FakeClock()).run(run_id)
    assert run.outcomes == (outcome,)
    assert next(s for s in run.targets[0].steps if s.step is StepKind.MAKE).state is StepState.COMPLETE


def test_a_host_is_in_one_run_at_a_time(ledger: Ledger) -> None:
    """The second run finds the first one's name; after its release the host is free."""
    assert ledger.lock_host("WEB-01.example", "r-1") == "r-1"
    assert ledger.lock_host("web-01.example", "r-2") == "r-1"
    assert ledger.lock_host("web-01.example", "r-1") == "r-1", "a repeated step finds its own lock"
    ledger.release_hosts("r-2")
    assert ledger.lock_host("web-01.example", "r-2") == "r-1", "nobody releases another's lock"
    ledger.release_hosts("r-1", ["Web-01.example"])
    assert ledger.lock_host("web-01.example", "r-2") == "r-2"


def test_a_delivery_is_new_once(ledger: Ledger) -> None:
    """Slack may deliver twice."""
    assert ledger.is_new("trigger-1")
    assert not ledger.is_new("trigger-1")


def test_a_second_bot_on_the_same_file_is_refused(database: Database) -> None:
    """It would run the first one's work a second time."""
    with pytest.raises(UserError, match="Another bot already uses"):
        Database(str(database.url))


def test_the_database_file_is_ours_alone(database: Database) -> None:
    """Nobody else on the machine may read it."""
    assert database.url.database
    assert Path(database.url.database).stat().st_mode & 0o077 == 0


def test_old_copies_come_due(database: Database) -> None:
    """A copy with an old key is due after its hours, and not before."""
    clock = FakeClock()
    ledger = Ledger(database.engine, clock)
    ledger.keep_copy("r-1", "web-01", 24)
    assert ledger.copies(due=True) == []
    clock.advance(25 * 3600)
    assert ledger.copies(due=True) == [("r-1", "web-01")]
    ledger.forget_copy("r-1", "web-01")
    assert ledger.copies(due=False) == []


def test_a_copy_goes_with_the_end_of_its_run_or_not_at_all(database: Database) -> None:
    """What sweeps would put one off that is due while its run still goes: both change together, and only once."""
    clock = FakeClock()
    ledger, audit = Ledger(database.engine, clock), AuditLog(database.engine, clock)
    ledger.propose(plan(), expires=NOW + timedelta(minutes=30), run_id="r-1", decision=DECIDED)
    ledger.keep_copy("r-1", "web-01", 24)
    assert ledger.run("r-1").keeps_copies

    def end(of: RunState) -> bool:
        entry = Entry(kind="finished", run="r-1")
        return moved(
            ledger,
            audit,
            "r-1:finished",
            entry,
            of=(of,),
            to=RunState.FINISHED,
            also=lambda connection: ledger.release_copy("r-1", "web-01", connection),
        )

    assert not end(RunState.STOPPING)
    assert ledger.copies(due=True) == []
    assert end(RunState.RUNNING)
    assert ledger.copies(due=True) == [("r-1", "web-01")]
    assert not ledger.run("r-1").keeps_copies, "it is about to go"
    ledger.postpone_copy("r-1", "web-01", 1.0)
    assert not end(RunState.FINISHED)
    assert ledger.copies(due=True) == [], "the entry is there already, so nothing is done again"


def test_a_database_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its runs keep their plans, which have a table of their own now, and what became of their targets."""
    path = tmp_path / "octocert.sqlite"
    engine = sa.create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    made = plan(facts())
    old = made.targets[0].old
    outcome = Outcome(target="web-01", kind=OutcomeKind.UNDONE, old=old, new=old, health=None, seconds=1.0)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text(
                "insert into octocert_runs (id, state, plan, nonce, created, expires, stage)"
                " values ('r-old', 'finished', :plan, 'n', :at, :at, '')"
            ),
            {"plan": codec.dumps(made), "at": NOW.isoformat()},
        )
        connection.execute(
            sa.text(
                "insert into octocert_progress (run_id, target, position, steps, outcome)"
                " values ('r-old', 'web-01', 0, '[]', :outcome)"
            ),
            {"outcome": codec.dumps(outcome)},
        )
    engine.dispose()
    with Database(f"sqlite:///{path}") as database:
        ledger = Ledger(database.engine, FakeClock())
        assert ledger.run("r-old").plan == made
        assert ledger.run("r-old").outcomes == (outcome,)
        assert ledger.standing("r-old").failures == 1
        differences = compare_metadata(MigrationContext.configure(database.engine.connect()), tables.metadata)
        assert [d for d in differences if "octocert" in str(d) and "remove_table" not in str(d)] == []


def test_of_a_fleet_only_what_is_asked_for_is_read(ledger: Ledger) -> None:
    """The plan is read once; how far one target is costs one row."""
    made = plan(*[facts(f"t{n}", n) for n in range(1, 40)])
    run_id = ledger.propose(made, expires=FakeClock().now(), run_id="r-fleet").id
    assert ledger.plan(run_id) is ledger.run(run_id).plan
    assert ledger.target(run_id, "t7") is ledger.plan(run_id).targets[6]
    assert [t.name for t in ledger.progress(run_id, ["t9", "t3"])] == ["t3", "t9"]
    with pytest.raises(KeyError):
        ledger.plan("r-none")
