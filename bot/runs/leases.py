"""Leases: several bots on one Postgres. Who is dead is seen, its work is taken over, and one bot at a time leads.

Each process beats into one row of a table, on the database's clock. Whoever has work under way and no fresh beat is
dead: another bot takes its work over. A process that could not beat for most of its lease ends itself before that
happens (the self-fence), measured on a clock that goes on while the machine sleeps: a frozen bot that thaws must not go
on. One of them leads: it alone sends messages and does the caretaker's rounds. On SQLite there is one bot, which leads.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import sqlalchemy as sa
import structlog

from bot.runs import tables

log = structlog.get_logger("octocert.leases")

EXIT_FENCED = 70
"""How a bot ends that came too late to renew its lease: others may do its work by now. Start it again."""
FENCE = 0.6
"""The part of a lease after which a bot without a beat ends itself; the rest is the margin before others take over."""
BEATS = 5
"""Beats in the time of one lease."""
FORGET_LEASES = 120
"""Leases after which the row of a bot that is gone for good is removed."""
LEADER = "leader"
_REAP_LOCK = 4_206_903
"""Key of the Postgres advisory lock under which one bot at a time takes work over."""


class Work(Protocol):
    """The work under way, as the durable engine knows it."""

    def owners(self) -> set[str]:
        """Return the ids of the processes that have work under way."""
        ...

    def take_over(self, executors: Iterable[str]) -> int:
        """Have others go on with these processes' work; return how many pieces that are."""
        ...


def since_boot() -> float:
    """Return seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _end() -> None:
    os._exit(EXIT_FENCED)


class Leases:
    """This process's lease, and what it does about those of others. Times are in seconds."""

    def __init__(
        self,
        engine: sa.Engine,
        executor: str,
        work: Work,
        *,
        lease: float,
        seconds: Callable[[], float] = since_boot,
        end: Callable[[], None] = _end,
    ) -> None:
        self.executor = executor
        self._engine = engine
        self._work = work
        self._lease = lease
        self._seconds = seconds
        self._end = end
        self._is_shared = engine.dialect.name == "postgresql"
        self._beaten = seconds()
        self._led: float | None = None
        """When it was last seen that this process leads."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="leases", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether this process sends the messages and does the rounds now."""
        if not self._is_shared:
            return True
        return self._led is not None and self._seconds() - self._led < self._lease * FENCE

    @property
    def is_alive(self) -> bool:
        """Whether the lease is renewed."""
        return not self._is_shared or self._thread.is_alive()

    def start(self) -> None:
        """Take the lease, before any work is: an owner of work without a lease counts as dead."""
        if self._is_shared:
            self.beat()
            self._thread.start()

    def stop(self) -> None:
        """Give lease and lead back, so that others go on with what is left at once."""
        if not self._is_shared or self._stop.is_set():
            return
        self._stop.set()
        self._thread.join(self._lease)
        try:
            with self._engine.begin() as connection:
                for table in (tables.leads, tables.leases):
                    connection.execute(table.delete().where(table.c.executor == self.executor))
        except sa.exc.SQLAlchemyError as error:
            log.warning("the lease was not given back; it ends by itself", error=type(error).__name__)

    def check(self) -> None:
        """End the process if others may have taken its work over meanwhile; asked before each step, too."""
        if self._is_shared and self._seconds() - self._beaten > self._lease * FENCE:
            log.error(
                "the lease could not be renewed in time; ending before others go on with the work", lease=self._lease
            )
            self._end()

    def _go_on(self) -> None:
        while not self._stop.wait(self._lease / BEATS):
            self.check()  # before the beat: a beat that comes too late would hide that others act already
            try:
                self.beat()
                self.reap()
            except Exception as error:  # noqa: BLE001 -- the database is away: tried until the fence closes
                log.warning("the lease was not renewed", error=type(error).__name__)

    def beat(self) -> None:
        """Renew the lease, and lead if nobody does."""
        began = self._seconds()
        with self._engine.begin() as connection:
            self._limit(connection)
            now = connection.execute(_NOW).scalar_one()
            connection.execute(_BEAT, {"executor": self.executor, "now": now})
            leader = connection.execute(_LEAD, {"executor": self.executor, "now": now, "lease": self._lease}).scalar()
        self._beaten = began
        if leader == self.executor:
            if self._led is None:
                log.info("this bot leads: it sends messages and does the rounds", executor=self.executor)
            self._led = began
        else:
            self._led = None

    def reap(self) -> int:
        """Take over the work of the dead, one bot at a time; return how many pieces that are."""
        with self._engine.begin() as connection:
            self._limit(connection)
            if not connection.execute(sa.text("select pg_try_advisory_xact_lock(:key)"), {"key": _REAP_LOCK}).scalar():
                return 0
            owners = self._work.owners() - {self.executor}
            now = connection.execute(_NOW).scalar_one()
            beats = {r.executor: r.beat for r in connection.execute(sa.select(tables.leases))}
            dead = {owner for owner in owners if now - beats.get(owner, 0.0) > self._lease}
            taken = self._work.take_over(sorted(dead)) if dead else 0
            old = now - FORGET_LEASES * self._lease
            connection.execute(tables.leases.delete().where(tables.leases.c.beat < old))
        if taken:
            log.warning("the work of bots that are gone is gone on with", executors=sorted(dead), pieces=taken)
        return taken

    def _limit(self, connection: sa.Connection) -> None:
        """Wait for what others hold no longer than we may be without a beat."""
        connection.execute(sa.text(f"set local statement_timeout = {int(self._lease * FENCE * 1000)}"))


_NOW = sa.text("select extract(epoch from clock_timestamp())::double precision")
_BEAT = sa.text(
    "insert into octocert_leases (executor, beat) values (:executor, :now) "
    "on conflict (executor) do update set beat = excluded.beat"
)
_LEAD = sa.text(
    f"insert into octocert_leads (role, executor, beat) values ('{LEADER}', :executor, :now) "  # noqa: S608  # constant
    "on conflict (role) do update set executor = excluded.executor, beat = excluded.beat "
    "where octocert_leads.executor = excluded.executor or octocert_leads.beat < excluded.beat - :lease "
    "returning executor"
)
