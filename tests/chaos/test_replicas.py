"""Several bots on one Postgres: a dead one's runs are finished, a frozen one ends itself, all is said once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.audit import AuditLog
from bot.clock import SystemClock
from bot.domain.run import RunState, StepState
from bot.runs.leases import EXIT_FENCED
from bot.runs.ledger import Ledger
from bot.sandbox.slack.model import Message
from tests.chaos.process import BotProcess
from tests.scenarios import postgres
from tests.scenarios.town import Town

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(postgres.programs() is None, reason="Postgres is not installed (Debian: postgresql)"),
]
LEASE = 4.0
"""Seconds; short, so that takeover is seen soon."""
FLEET = ("web-01", "web-02", "shared-01", "edge-01", "worker-01")


class Trio:
    """Three bots, their town, and eyes for their database."""

    def __init__(self, root: Path, url: str, *, extra: str = "", clock: Path | None = None) -> None:
        self.town = Town(root, pace=0.3, extra=extra)
        config = self.town.sandbox.config
        text = config.read_text()
        line = next(one for one in text.splitlines() if one.startswith('url = "sqlite'))
        config.write_text(text.replace(line, f'url = "{url}"') + f"\n[replicas]\nlease = {LEASE}\n")
        self.engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
        self.ledger = Ledger(self.engine, SystemClock())
        self.audit = AuditLog(self.engine, SystemClock())
        self.bots = [BotProcess(config, root / f"bot-{n}.log", clock=clock) for n in range(3)]

    def start(self, count: int = 3) -> None:
        """Start some bots together."""
        for bot in self.bots[:count]:
            bot.start()
        self.town.slack.wait_connected(60, count=count)

    def close(self) -> None:
        """End everything."""
        for bot in self.bots:
            bot.kill()
        self.engine.dispose()
        self.town.sandbox.close()

    def scalar(self, query: str) -> object:
        """Ask the database."""
        with self.engine.connect() as connection:
            return connection.execute(sa.text(query)).scalar()

    def owner(self) -> BotProcess:
        """Return a bot that has work under way: the one that carries the run itself."""
        query = "select executor_id from dbos.workflow_status where status = 'PENDING' and name = 'carry_out'"
        executor = self.town.wait(lambda: self.scalar(query))
        return next(b for b in self.bots if f'"executor": "{executor}"' in b.log.read_text())

    def begun(self, run_id: str) -> bool:
        """Whether a target of the run is at work."""
        run = self.ledger.run(run_id)
        return any(s.state is not StepState.PENDING for t in run.targets for s in t.steps)

    def assert_told_once(self, root: Message) -> None:
        """Assert that the thread says each end once, the audit is whole, and nobody holds a lock."""
        replies = [m.content for m in self.town.slack.thread(root.ts)[1:]]
        assert len(replies) == len(set(replies)), replies
        assert sum("The run is over" in r for r in replies) == 1, replies
        assert len([m for m in self.town.slack.messages() if m.is_bot]) == 1
        assert list(self.audit.flaws()) == []
        assert self.scalar("select count(*) from octocert_host_locks") == 0


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    """Return three bots that run already."""
    with postgres.server() as url:
        built = Trio(tmp_path, url)
        try:
            built.start()
            yield built
        finally:
            built.close()


def ask(trio: Trio) -> tuple[str, Message]:
    """Have Rita ask for the fleet; return the run's id and its message."""
    root = trio.town.ask("rita", f"rotate {' '.join(FLEET)}")
    assert "Approve" in root.buttons, root.content
    return trio.ledger.recent()[0].id, root


def finish(trio: Trio, root: Message) -> None:
    """Wait for the end, and see that all is well."""
    town = trio.town
    town.says(root, "The run is over", 150)
    for name in FLEET:
        town.assert_good(name)
        assert town.effects(name, "make") == 1
    trio.assert_told_once(root)


def test_the_runs_of_a_killed_bot_are_finished_by_another(trio: Trio) -> None:
    """Kill -9 in mid-run: its work, and the lead where it had it, pass on when its lease has ended."""
    run_id, root = ask(trio)
    trio.town.press("ada", root, "Approve")
    trio.town.wait(lambda: trio.begun(run_id), 60)
    trio.owner().kill()
    finish(trio, root)


def test_a_frozen_bot_ends_itself_when_it_thaws(trio: Trio) -> None:
    """Others have its work by then: it leaves with exit code 70, and no certificate was made twice."""
    run_id, root = ask(trio)
    trio.town.press("ada", root, "Approve")
    trio.town.wait(lambda: trio.begun(run_id), 60)
    frozen = trio.owner()
    frozen.freeze()
    until = time.monotonic() + LEASE * 2
    trio.town.wait(lambda: time.monotonic() > until, 60)
    frozen.thaw()
    assert frozen.wait(30) == EXIT_FENCED
    finish(trio, root)


def test_two_clicks_on_two_bots_count_once(trio: Trio) -> None:
    """Ada and Ben approve in the same moment, and whatever bot hears it: one decision, one run."""
    run_id, root = ask(trio)
    with ThreadPoolExecutor(6) as people:
        clicks = [people.submit(trio.town.slack.click, who, root.ts, "Approve") for who in ("ada", "ben") * 3]
    assert sum(c.result().acknowledged for c in clicks) >= 1
    finish(trio, root)
    approvals = [e for e in trio.audit.entries(limit=100) if e.entry.kind == "approved"]
    assert len(approvals) == 1
    assert approvals[0].entry.run == run_id


def test_a_bot_that_is_asked_to_stop_hands_its_work_over_at_once(trio: Trio) -> None:
    """As in a rolling upgrade: the lead and what was left pass on without waiting for the lease."""
    run_id, root = ask(trio)
    trio.town.press("ada", root, "Approve")
    trio.town.wait(lambda: trio.begun(run_id), 60)
    assert trio.owner().stop() == 0
    finish(trio, root)
    assert trio.ledger.run(run_id).state is RunState.FINISHED


def test_the_radar_tells_once_whoever_leads(tmp_path: Path) -> None:
    """Two bots with one schedule post one digest a day; a bot that is left goes on where a dead one was."""
    clock = tmp_path / "seconds"
    clock.write_text("0")
    with postgres.server() as url:
        pair = Trio(tmp_path, url, extra='\n[radar]\nchannel = "C0DEPLOY"\n', clock=clock)
        town = pair.town

        def digests() -> list[str]:
            return [m.content for m in town.slack.messages() if m.is_bot and "Radar:" in m.content]

        def is_swept(number: int) -> bool:
            return pair.scalar("select count(*) from octocert_sweeps where told") == number

        try:
            pair.start(2)
            town.wait(lambda: is_swept(1), 90)
            leader = f'"executor": "{pair.scalar("select executor from octocert_leads")}"'
            for bot in pair.bots[:2]:
                if leader in bot.log.read_text():
                    bot.kill()
            assert sum(bot.is_running for bot in pair.bots) == 1
            town.tentacle("web-01").host.faults.unreachable = True
            clock.write_text("86400")
            town.wait(lambda: is_swept(2) and len(digests()) > 1, 90)
            first, second = digests()
            assert "for the first time" in first
            assert "New: 1 target" in second
        finally:
            pair.close()
