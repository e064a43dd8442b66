"""Retention: finished runs are forgotten after a time, by us and by the durable engine. The audit is never touched."""

from datetime import timedelta

import sqlalchemy as sa
import structlog

from bot.clock import Clock
from bot.domain.run import RunState
from bot.runs import tables
from bot.runs.engine import DurableEngine

log = structlog.get_logger("octocert.retention")

EVERY_SECONDS = 3600.0
"""How often it is looked for what is old."""
RUNS_AT_ONCE = 20
"""Runs that one look forgets at most, so that nobody waits long for the database."""
DELIVERY_DAYS = 30
"""How long Slack's deliveries are remembered, to be known again; Slack repeats one for an hour at most."""
OVER = tuple(s.value for s in RunState if s.is_over)


class Retention:
    """Forgets a few old runs at a time. All that it does may be repeated, and be interrupted anywhere."""

    def __init__(self, database: sa.Engine, engine: DurableEngine, clock: Clock, *, days: int) -> None:
        self._database = database
        self._engine = engine
        self._clock = clock
        self._days = days
        self._next = clock.monotonic()

    def look(self) -> int:
        """Forget what is old, if it is time to look again; return how many runs that were."""
        if self._clock.monotonic() < self._next:
            return 0
        old = self._old()
        for run_id in old:
            self._forget(run_id)
        if old:
            log.info("old runs are forgotten; the audit keeps what was done", runs=len(old), older_than_days=self._days)
        self._tidy()
        more = len(old) == RUNS_AT_ONCE
        self._next = self._clock.monotonic() + (0.0 if more else EVERY_SECONDS)
        return len(old)

    def _old(self) -> list[str]:
        """Return runs that ended long ago; not those of which a copy with an old key still lies on a host."""
        runs, before = tables.runs.c, self._clock.now() - timedelta(days=self._days)
        has_copy = sa.exists().where(tables.copies.c.run_id == runs.id)
        query = (
            sa.select(runs.id)
            .where(runs.state.in_(OVER), runs.ended < before.isoformat(), ~has_copy)
            .order_by(runs.ended)
            .limit(RUNS_AT_ONCE)
        )
        with self._database.connect() as connection:
            return list(connection.execute(query).scalars())

    def _forget(self, run_id: str) -> None:
        self._engine.forget(run_id)
        with self._database.begin() as connection:
            posts = tables.posts.c.key.startswith(f"{run_id}:", autoescape=True)
            connection.execute(tables.posts.delete().where(posts))
            for table in tables.metadata.sorted_tables:
                if "run_id" in table.c:
                    connection.execute(table.delete().where(table.c.run_id == run_id))
            connection.execute(tables.runs.delete().where(tables.runs.c.id == run_id))

    def _tidy(self) -> None:
        """Give locks of runs that are over back, and forget deliveries that nobody repeats any more."""
        runs, locks = tables.runs.c, tables.host_locks
        over = sa.select(runs.id).where(runs.state.in_(OVER))
        old = (self._clock.now() - timedelta(days=DELIVERY_DAYS)).isoformat()
        with self._database.begin() as connection:
            left = locks.delete().where(locks.c.run_id.in_(over)).returning(locks.c.host, locks.c.run_id)
            for host, run_id in connection.execute(left):
                log.warning("a run that is over held the lock of a host; it was given back", host=host, run=run_id)
            connection.execute(tables.deliveries.delete().where(tables.deliveries.c.at < old))
