"""Freezing: while something is frozen no step begins anywhere, in no run and on no replica, until somebody lifts it."""

import sqlalchemy as sa
import structlog

from bot.audit import AuditLog, Entry
from bot.clock import Clock
from bot.domain.run import Freeze
from bot.runs import tables
from bot.runs.ledger import freeze_in_force

log = structlog.get_logger("octocert.freezing")

RESTORED = "restored"
"""Key of the freeze by which a database that was restored from a backup starts."""


class Freezing:
    """Reads and writes the one freeze that may be in force."""

    def __init__(self, engine: sa.Engine, audit: AuditLog, clock: Clock) -> None:
        self._engine = engine
        self._audit = audit
        self._clock = clock

    def in_force(self) -> Freeze | None:
        """Return the freeze in force, None if nothing is frozen."""
        with self._engine.connect() as connection:
            return freeze_in_force(connection)

    def holds(self) -> bool:
        """Whether no step may begin now; also where the database cannot be read."""
        try:
            return self.in_force() is not None
        except (sa.exc.SQLAlchemyError, OSError) as error:
            log.warning("whether all is frozen cannot be read, so no step begins", error=type(error).__name__)
            return True

    def freeze(self, who: str, reason: str, key: str) -> Freeze | None:
        """Let no step begin any more; return None, or the freeze that was in force already."""
        before: Freeze | None = None

        def take(connection: sa.Connection) -> Entry | None:
            nonlocal before
            before = freeze_in_force(connection)
            if before:
                return None
            now = self._clock.now().isoformat()
            connection.execute(tables.freezes.insert().values(at=now, by=who, reason=reason))
            return Entry(kind="frozen", who=who, what=reason)

        self._audit.append_if(f"freeze:{key}", take)
        return before

    def lift(self, who: str, key: str) -> Freeze | None:
        """Let steps begin again; return the freeze that was lifted, None if nothing was frozen."""
        lifted: Freeze | None = None

        def take(connection: sa.Connection) -> Entry | None:
            nonlocal lifted
            lifted = freeze_in_force(connection)
            if lifted is None:
                return None
            now = self._clock.now().isoformat()
            open_ones = tables.freezes.c.lifted.is_(None)
            connection.execute(tables.freezes.update().where(open_ones).values(lifted=now, lifted_by=who))
            return Entry(kind="unfrozen", who=who, what=f"frozen since {lifted.at.isoformat()}: {lifted.reason}")

        self._audit.append_if(f"unfreeze:{key}", take)
        return lifted

    def look_for_restore(self) -> str | None:
        """Freeze where the database is older than the head of its own audit log; return why, None where it is not."""
        why = self._audit.older_than_its_head()
        if why is None:
            return None
        reason = (
            f"The database seems to be restored from a backup: {why}. What was done since then stands in the "
            "journals of the hosts: run `octocert reconcile` before you lift this."
        )
        log.error("the database seems to be restored from a backup; it starts frozen", why=why)
        self.freeze("", reason, f"{RESTORED}:{self._clock.now().isoformat()}")
        return reason
