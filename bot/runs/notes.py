"""Notes: what a run found out on its way and needs again, and when its work is looked at once more."""

from datetime import timedelta

import sqlalchemy as sa

from bot.clock import Clock
from bot.runs import tables
from bot.runs.ledger import insert_new


class Notes:
    """Small facts of runs, by key; the first one stands."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def write(self, run_id: str, key: str, value: str) -> str:
        """Keep a value unless the run has one of this key; return the one that stands."""
        with self._engine.begin() as connection:
            insert_new(connection, tables.notes, run_id=run_id, key=key, value=value)
        return self.read(run_id, key) or value

    def read(self, run_id: str, key: str) -> str | None:
        """Return a value, None if there is none."""
        where = (tables.notes.c.run_id == run_id, tables.notes.c.key == key)
        with self._engine.connect() as connection:
            found: str | None = connection.execute(sa.select(tables.notes.c.value).where(*where)).scalar()
            return found

    def look_again(self, run_id: str, hours: float) -> None:
        """Have the work of a run looked at once more in so many hours."""
        due = (self._clock.now() + timedelta(hours=hours)).isoformat()
        with self._engine.begin() as connection:
            insert_new(connection, tables.looks, run_id=run_id, due=due)

    def due(self) -> list[str]:
        """Return the runs whose work is to be looked at now."""
        now = self._clock.now().isoformat()
        with self._engine.connect() as connection:
            return list(connection.execute(sa.select(tables.looks.c.run_id).where(tables.looks.c.due <= now)).scalars())

    def looked(self, run_id: str) -> bool:
        """Note that a run was looked at; return whether this call did it."""
        with self._engine.begin() as connection:
            return connection.execute(tables.looks.delete().where(tables.looks.c.run_id == run_id)).rowcount == 1
