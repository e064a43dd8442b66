"""An error that nobody expected ends in a state that people see and can act on; no run hangs, no host stays locked.

The database refuses single rows here, as one with a broken constraint would: an answer, not an outage.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot import logs
from bot.domain.facts import ServiceState
from bot.sandbox.slack.model import Message
from tests.scenarios.serving import ServerTown
from tests.scenarios.town import Town, elsewhere

REFUSED = "a row like this is refused"


@pytest.fixture(autouse=True)
def log(logs_as_before: None) -> io.StringIO:
    """Return the log as the bot writes it."""
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    return stream


@contextmanager
def refused(town: Town, table: str, condition: str) -> Iterator[None]:
    """Have the database refuse rows of a table while this is open."""
    assert town.bot
    engine = town.bot.database.engine
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"create trigger refusing before insert on {table} when {condition} "
            f"begin select raise(abort, '{REFUSED}'); end"
        )
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("drop trigger refusing")


def audited(kind: str) -> str:
    """Return the condition that holds for audit entries of a kind."""
    return f'new.entry like \'%"kind":"{kind}"%\' or new.entry like \'%"kind": "{kind}"%\''


def assert_unlocked(town: Town) -> None:
    """Assert that no run holds a host."""
    assert town.bot
    assert town.bot.ledger.locked_hosts() == []


def approved(town: Town, targets: str) -> Message:
    """Have Rita ask and Ada approve."""
    root = town.ask("rita", f"rotate {targets}")
    town.press("ada", root, "Approve")
    return root


def held(town: Town, root: Message) -> Message:
    """Wait until a run is held and can be resumed; return its message."""
    town.says(root, "The run pauses")
    return town.wait(lambda: (m := town.slack.message(root.ts)) and "Resume" in m.buttons and m)


def test_in_the_middle_of_a_target_it_is_undone_by_what_is_seen_and_the_others_go_on(
    town: Town, log: io.StringIO
) -> None:
    """The certificate was replaced on the host when the error came: it is put back, and the thread says all of it."""
    web, edge = town.tentacle("web-01"), town.tentacle("edge-01")
    old = web.configured
    with refused(town, "octocert_audit", f"new.key like '%:web-01:configured' and ({audited('configured')})"):
        root = approved(town, "web-01 edge-01 --canary 0")
        town.says(root, "The run is over")
    thread = town.thread(root)
    assert "an error that nobody expected (IntegrityError)" in thread
    assert f"the old certificate {old} is in force" in thread
    assert REFUSED not in thread
    assert web.configured == web.served == old
    assert web.service.state is ServiceState.RUNNING
    assert town.sandbox.consistent("web-01")
    town.assert_good("edge-01")
    assert edge.configured != old
    assert_unlocked(town)
    assert "Retry failed" in town.end(root).buttons
    told = [line for line in log.getvalue().splitlines() if "a step met an error that nobody expected" in line]
    assert len(told) == 1, "one error is one entry in the log, with where it came from"
    assert '"step": "visit"' in told[0]
    assert "Traceback" in told[0]


def test_where_all_witnesses_agree_on_the_new_certificate_it_stays(town: Town) -> None:
    """The error came after everything was done: undoing it would only be another outage."""
    web = town.tentacle("web-01")
    old = web.configured
    with refused(town, "octocert_audit", audited("recorded")):
        root = approved(town, "web-01")
        town.wait(lambda: town.bot and town.bot.ledger.recent(1)[0].outcomes)
    town.says(root, "The run is over")
    assert "not proven" in town.thread(root).casefold()
    assert f"It is configured with {web.configured}, serves it and is recorded with it" in town.thread(root)
    assert web.configured != old
    town.assert_good("web-01")
    assert_unlocked(town)


def test_in_the_run_as_a_whole_it_is_held_and_resume_does_the_step_again(town: Town) -> None:
    """The thread says which step and which error; nothing is lost meanwhile."""
    with refused(town, "octocert_audit", audited("finished")):
        root = approved(town, "web-01")
        thread = town.says(root, "The run pauses")
        assert "step “finish” met an error that nobody expected (IntegrityError)" in thread
        town.wait(lambda: "Resume" in (town.slack.message(root.ts) or root).buttons)
    town.press("ada", root, "Resume")
    town.says(root, "The run is over")
    town.assert_good("web-01")
    assert_unlocked(town)


def test_where_not_even_the_end_can_be_carried_out_the_run_still_ends(town: Town) -> None:
    """People stop it, and its end meets the error again, and again: it says that it broke off, and frees the hosts."""
    with refused(town, "octocert_audit", f"{audited('finished')} or {audited('stopped itself')}"):
        root = approved(town, "web-01")
        town.press("ada", held(town, root), "Stop")
        thread = town.says(root, "The run broke off")
        assert "look with show-thumbprint" in thread
        town.end(root)
    town.assert_good("web-01")
    assert_unlocked(town)
    assert town.bot
    assert list(town.bot.audit.flaws()) == []


def test_in_the_switch_of_the_server_stop_puts_the_old_certificate_back(tmp_path: Path) -> None:
    """The node serves the new one already when the error comes: people decide, and nobody is lost by that."""
    with ServerTown(tmp_path) as town, refused(town, "octocert_audit", audited("served")):
        root = town.ask_server()
        town.press("ada", root, "Approve")
        paused = held(town, root)
        assert "the step “switch” met" in town.thread(root).casefold()
        town.press("ada", paused, "Stop")
        town.says(root, "The run is over", 90)
        assert "old certificate was put back" in town.thread(root)
        town.assert_as_before()
        assert_unlocked(town)


def test_after_the_switch_of_the_server_stop_leaves_what_is_proven(tmp_path: Path) -> None:
    """The error came when the clean-up was to be asked for: the thread says what is in force, and the run is over."""
    with ServerTown(tmp_path) as town, refused(town, "octocert_audit", audited("proven")):
        new = town.pfx()
        root = town.ask_server()
        town.press("ada", root, "Approve")
        town.press("ada", held(town, root), "Stop")
        town.says(root, "The run is over", 90)
        town.assert_switched(new)
        assert_unlocked(town)


def test_a_run_that_begins_while_it_is_looked_for_is_not_broken(town: Town) -> None:
    """Approved and not yet begun is no wreck, at whatever moment its work begins."""
    assert town.bot
    bot, begun, lookers = town.bot, [], []

    def look() -> set[str]:
        lookers.append(threading.get_ident())
        return bot.engine.broken_parts("r-meanwhile")

    def begin(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "workflow_status" in statement and threading.get_ident() in lookers and not begun:
            begun.append(statement)
            elsewhere(lambda: bot.engine.start("r-meanwhile"))

    sa.event.listen(bot.database.engine, "after_cursor_execute", begin)
    try:
        assert elsewhere(look) == set()
    finally:
        sa.event.remove(bot.database.engine, "after_cursor_execute", begin)
    assert begun


def test_a_run_under_way_keeps_its_owner_however_often_it_is_started(town: Town) -> None:
    """Whoever begins to lead starts all runs that are under way: the work stays that of the bot which does it."""
    worker = town.tentacle("worker-01")
    process = worker.service.process
    assert process
    assert town.bot
    bot, engine = town.bot, town.bot.database.engine

    def owner(new: str = "") -> str:
        with engine.begin() as connection:
            if new:
                change = "update workflow_status set executor_id = ? where name = 'carry_out'"
                connection.exec_driver_sql(change, (new,))
            query = "select executor_id from workflow_status where name = 'carry_out' and status = 'PENDING'"
            return str(connection.exec_driver_sql(query).scalar())

    worker.host.begin_child(process.pid, "Calamari.exe")
    root = town.ask("rita", "rotate worker-01")
    town.press("ada", root, "Approve")
    town.wait(lambda: "waiting for the program" in town.slack.message(root.ts).content)
    mine, run_id = owner(), bot.ledger.recent()[0].id
    assert owner("another bot") == "another bot"
    elsewhere(lambda: bot.engine.start(run_id))
    assert owner() == "another bot"
    owner(mine)
    worker.host.end_child(process.pid, "Calamari.exe")
    town.end(root)
    town.assert_good("worker-01")
