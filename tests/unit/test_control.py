"""Control at the safe points: waits while a run is held, ends with it, and stops a run whose budget is spent."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient

from bot.audit import AuditLog
from bot.clock import FakeClock
from bot.domain.run import Decision, Hold, Outcome, OutcomeKind, RunState
from bot.runs.announcer import Announcer
from bot.runs.control import Control, Go
from bot.runs.database import Database
from bot.runs.engine import Leaving
from bot.runs.ledger import Ledger
from bot.runs.outbox import DurableOutbox
from bot.runs.timetable import Timetable
from bot.settings_windows import zone_of
from bot.slack.notifier import Notifier
from tests.making import NOW, facts, plan


class Desk:
    """A ledger with one approved run, and what controls it; Slack is never asked for anything."""

    def __init__(self, database: Database, targets: int = 3, **options: Any) -> None:
        self.clock = FakeClock()
        self.engine = database.engine
        self.ledger = Ledger(database.engine, self.clock)
        self.outbox = DurableOutbox(database.engine)
        self.audit = AuditLog(database.engine, self.clock)
        notifier = Notifier(WebClient(token="xoxb-nobody"), self.outbox, self.clock)
        announcer = Announcer(self.ledger, self.outbox, notifier, self.clock)
        self.control = Control(self.ledger, announcer, self.audit, Timetable({}, zone_of, self.clock), self.clock)
        made = plan(*[facts(f"t{n}", n + 1) for n in range(targets)], **options)
        decision = Decision(user="U0ADA", user_name="ada", approved=True, at=NOW)
        self.run_id = self.ledger.propose(made, expires=NOW + timedelta(minutes=30), run_id="r-1", decision=decision).id

    def ends(self, name: str, kind: OutcomeKind) -> None:
        """Have a target end in some way."""
        old = self.ledger.target(self.run_id, name).old
        outcome = Outcome(target=name, kind=kind, old=old, new=old, health=None, seconds=1.0)
        with self.engine.begin() as connection:
            assert self.ledger.outcome(self.run_id, outcome, connection)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a fresh embedded database."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as opened:
        yield opened


def test_a_run_within_its_budget_goes_on(database: Database) -> None:
    """One failure of three is what the default allows."""
    desk = Desk(database)
    desk.ends("t0", OutcomeKind.UNDONE)
    assert desk.control.may_go_on("r-1")
    assert desk.control.may_begin("r-1") is Go.NOW


def test_a_run_whose_budget_is_spent_stops_itself_once(database: Database) -> None:
    """Audited before it takes effect, said in the thread, however often it is asked."""
    desk = Desk(database, stop_on_failure=True)
    desk.ends("t0", OutcomeKind.UNHEALTHY)
    for _ in range(3):
        assert not desk.control.may_go_on("r-1")
    run = desk.ledger.run("r-1")
    assert run.state is RunState.STOPPING
    assert "the first failure" in run.stopped_why
    assert [e.entry.kind for e in desk.audit.entries()] == ["stopped itself"]


def test_skipped_targets_cost_no_budget(database: Database) -> None:
    """Nothing was tried on them."""
    desk = Desk(database, stop_on_failure=True)
    desk.ends("t0", OutcomeKind.SKIPPED)
    assert desk.control.may_go_on("r-1")


def test_a_paused_run_waits_until_it_is_resumed(database: Database) -> None:
    """The wait goes by the clock: the third look finds the run resumed."""
    desk = Desk(database)
    desk.ledger.move("r-1", of=(RunState.RUNNING,), to=RunState.PAUSED, hold=Hold(why="paused", since=NOW, by="U0ADA"))
    assert desk.control.may_begin("r-1") is Go.LATER
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(desk.control.may_go_on("r-1")))
    waiting.start()
    assert waiting.is_alive()
    desk.ledger.move("r-1", of=(RunState.PAUSED,), to=RunState.RUNNING)
    waiting.join(10)
    assert answers == [True]
    assert desk.ledger.run("r-1").hold is None


def test_a_paused_run_may_be_stopped(database: Database) -> None:
    """Then nothing more is begun."""
    desk = Desk(database)
    desk.ledger.move("r-1", of=(RunState.RUNNING,), to=RunState.PAUSED)
    desk.ledger.move("r-1", of=(RunState.PAUSED,), to=RunState.STOPPING, stopped_by="U0ADA")
    assert not desk.control.may_go_on("r-1")


def test_a_wait_ends_with_the_bot_and_is_no_result(database: Database) -> None:
    """No exception that a workflow would take for the end of its step."""
    desk = Desk(database)
    desk.ledger.move("r-1", of=(RunState.RUNNING,), to=RunState.PAUSED)
    desk.control.leave()
    with pytest.raises(Leaving):
        desk.control.may_go_on("r-1")
    assert not issubclass(Leaving, Exception)
    assert desk.ledger.run("r-1").state is RunState.PAUSED


def test_a_root_message_is_made_when_it_is_sent(database: Database) -> None:
    """Marks cost nothing; the message that is due is that of the last state, and an end is never held back."""
    desk = Desk(database)
    announcer = Announcer(
        desk.ledger, desk.outbox, Notifier(WebClient(token="xoxb-nobody"), desk.outbox, desk.clock), desk.clock
    )
    announcer.root("r-1")
    (post,) = desk.outbox.due(5)
    desk.outbox.sent(post.key, post.version, "1.0")
    assert desk.outbox.due(5) == []
    for number in (1, 2, 3):
        desk.ledger.stage("r-1", f"wave {number} of 3")
        announcer.root("r-1")
    (post,) = desk.outbox.due(5)
    assert post.stale
    fresh = desk.outbox.fresh(post)
    assert fresh is not None
    assert "wave 3 of 3" in str(fresh.message.blocks)
    assert fresh.version == 2, "three changes, one version"
    desk.ledger.move("r-1", of=(RunState.RUNNING,), to=RunState.FINISHED)
    announcer.finished("r-1")
    ends = {p.key: p for p in desk.outbox.due(5)}
    assert ends["r-1:root"].final
    assert not ends["r-1:root"].stale


def test_marks_that_a_crash_lost_are_made_up_for(database: Database) -> None:
    """A new process marks all root messages that are not final."""
    desk = Desk(database)
    first = Announcer(
        desk.ledger, desk.outbox, Notifier(WebClient(token="xoxb-nobody"), desk.outbox, desk.clock), desk.clock
    )
    first.root("r-1")
    (post,) = desk.outbox.due(5)
    desk.outbox.sent(post.key, post.version, "1.0")
    desk.ledger.stage("r-1", "wave 2 of 3")
    reborn = DurableOutbox(database.engine)
    Announcer(desk.ledger, reborn, Notifier(WebClient(token="xoxb-nobody"), reborn, desk.clock), desk.clock).start()
    (post,) = reborn.due(5)
    fresh = reborn.fresh(post)
    assert fresh is not None
    assert "wave 2 of 3" in str(fresh.message.blocks)
