"""The radar's sweeps in the database: what was found when, and what of it was told."""

import re
import threading

import sqlalchemy as sa

from bot.clock import Clock
from bot.domain import codec
from bot.domain.radar import Finding, Sweep
from bot.runs import tables
from bot.runs.ledger import insert_new

KEPT = 60
"""Sweeps that are kept, so that the buttons of old digests still work for about two months."""


class Sweeps:
    """Reads and writes sweeps; shared by all threads."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._known: Sweep | None = None
        self._lock = threading.Lock()

    def begin(self, sweep_id: str) -> bool:
        """Note that this sweep begins; return False if it was ended already. One that a crash cut off begins again."""
        with self._engine.begin() as connection:
            insert_new(connection, tables.sweeps, id=sweep_id, began=self._clock.now().isoformat(), told=False)
            query = sa.select(tables.sweeps.c.sweep).where(tables.sweeps.c.id == sweep_id)
            return connection.execute(query).scalar() is None

    def end(self, sweep: Sweep, *, told: bool) -> bool:
        """Store what was found; the first one stands. Return whether this call stored it."""
        columns = tables.sweeps.c
        with self._engine.begin() as connection:
            is_first = (
                connection.execute(
                    tables.sweeps.update()
                    .where(columns.id == sweep.id, columns.sweep.is_(None))
                    .values(sweep=codec.dumps(sweep), told=told)
                ).rowcount
                == 1
            )
            old = sa.select(columns.id).order_by(columns.id.desc()).offset(KEPT)
            ids = [i for i in connection.execute(old).scalars() if i != self._newest_told(connection)]
            if ids:
                connection.execute(tables.sweeps.delete().where(columns.id.in_(ids)))
        return is_first

    def latest(self) -> Sweep | None:
        """Return the newest sweep, None while there is none."""
        columns = tables.sweeps.c
        query = sa.select(columns.id).where(columns.sweep.is_not(None)).order_by(columns.id.desc()).limit(1)
        with self._engine.connect() as connection:
            newest = connection.execute(query).scalar()
        with self._lock:
            if newest is None or (self._known and self._known.id == newest):
                return self._known if newest else None
        found = self.find(newest)
        with self._lock:
            self._known = found
        return found

    def told(self) -> Sweep | None:
        """Return the newest sweep of which a digest was posted."""
        with self._engine.connect() as connection:
            newest = self._newest_told(connection)
        return self.find(newest) if newest else None

    def find(self, sweep_id: str) -> Sweep | None:
        """Return a sweep by its id, None if there is none, or it is not ended."""
        query = sa.select(tables.sweeps.c.sweep).where(tables.sweeps.c.id == sweep_id)
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar()
        return codec.loads(Sweep, text) if text else None

    def findings(self, sweep_id: str, number: str) -> tuple[Finding, ...]:
        """Return what was found about the target of a digest's button, nothing where that is not known any more."""
        sweep = self.find(sweep_id)
        if sweep is None or not re.fullmatch(r"[0-9]{1,6}", number) or int(number) >= len(sweep.findings):
            return ()
        record = sweep.findings[int(number)].record
        return tuple(f for f in sweep.findings if f.record == record)

    def _newest_told(self, connection: sa.Connection) -> str | None:
        columns = tables.sweeps.c
        query = sa.select(columns.id).where(columns.told.is_(True)).order_by(columns.id.desc()).limit(1)
        return connection.execute(query).scalar()
