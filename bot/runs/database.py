"""Opening the database: SQLite embedded in one bot, or Postgres shared by several."""

import fcntl
import math
import os
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry

from bot.domain.errors import UserError
from bot.runs import migrations, tables
from bot.secrets import Secret

LOCK_WAIT_MILLISECONDS = 30_000
"""How long one writer of SQLite waits for another."""
FRESH_SECONDS = 1.0
"""A connection to Postgres that was used so recently is not asked whether it lives: each answer costs as much as a
statement, some hundredths of a fleet's work (measured)."""
NO_ROOM = ("disk is full", "disk I/O error")
"""What SQLite says when it cannot write; it can again when there is room."""
PROBE = "probe"
"""Key of the row that `Database.write` writes; no delivery of Slack's is called so."""


class Database:
    """One open database. On SQLite it is ours alone: a second bot on the same file is refused."""

    def __init__(
        self, url: str, *, password: Secret | None = None, beside: bool = False, idle: float | None = None
    ) -> None:
        """Open it; `beside` a bot that may be running: nothing is claimed, made or upgraded, and no work taken up.

        `idle` is for how many seconds a transaction may stand still before Postgres ends it: what that of a frozen bot
        holds, others wait for, until they cannot renew their leases either (seen).
        """
        self.url = sa.make_url(url)
        if password:
            self.url = self.url.set(password=password.reveal())
        self._lock: int | None = None
        if self.is_sqlite:
            path = Path(self.url.database or "")
            if not self.url.database or str(path) == ":memory:":
                raise UserError('The database must be a file: write url = "sqlite:////path/octocert.sqlite".')
            if beside and not path.is_file():
                raise UserError(f"There is no database at {path}. Start the bot once, or correct [database] url.")
            self._lock = None if beside else _claim(path)
            self.engine = _sqlite_engine(path)
        else:
            self.engine = _postgres_engine(self.url, idle)
        if beside:
            return
        try:
            migrations.upgrade(self.engine)
        except sa.exc.OperationalError as error:
            self.close()
            reason = str(error.orig).splitlines()[0] if error.orig else "no answer"
            raise UserError(f"The database at {self.url.render_as_string()} cannot be opened: {reason}") from None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is the embedded kind."""
        return self.url.get_backend_name() == "sqlite"

    def write(self, now: datetime) -> str | None:
        """Write something and return None, or a sentence if that cannot be done; for whoever asks after our health."""
        mark = tables.deliveries.update().where(tables.deliveries.c.key == PROBE).values(at=now.isoformat())
        try:
            with self.engine.begin() as connection:
                if connection.execute(mark).rowcount == 0:
                    connection.execute(tables.deliveries.insert().values(key=PROBE, at=now.isoformat()))
        except sa.exc.SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or type(error).__name__
            return f"The database cannot be written: {str(reason).splitlines()[0]}"
        return None

    def close(self) -> None:
        """Close all connections and let others have the file."""
        self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _claim(path: Path) -> int:
    """Take the file lock beside the database: two processes on one file would run each other's work (measured)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"The database folder {path.parent} cannot be used: {error.strerror}.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"Another bot already uses {path}. Stop it first, or give both a Postgres database: "
            "a SQLite file serves one bot only."
        ) from None
    return handle


def _sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine as the durable engine needs it: WAL, immediate transactions, nothing lost at a power cut."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    engine = sa.create_engine(f"sqlite:///{path}", pool_size=20, max_overflow=10, pool_timeout=30)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        pragmas = (f"busy_timeout={LOCK_WAIT_MILLISECONDS}", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL")
        for pragma in pragmas:
            connection.execute("PRAGMA " + pragma)
        if sqlite3.sqlite_version_info < (3, 42):
            # dbos stamps with unixepoch('subsec') on Python 3.12+, which SQLite has only since 3.42
            connection.create_function("unixepoch", -1, _unixepoch)

    @event.listens_for(engine, "handle_error")
    def _wait_for_room(context: sa.engine.ExceptionContext) -> None:
        told = str(context.original_exception)
        if isinstance(context.original_exception, sqlite3.OperationalError) and any(w in told for w in NO_ROOM):
            # dbos tries again what says so, and nothing else; anything else would end a run for good
            locked = sqlite3.OperationalError(f"database is locked: {told}")
            raise sa.exc.OperationalError(context.statement, context.parameters, locked) from None

    return engine


def _unixepoch(*arguments: object) -> float | int:
    return time.time() if arguments and arguments[-1] in {"subsec", "subsecond"} else int(time.time())


def is_away(error: Exception) -> bool:
    """Whether the database cannot be reached, is full or has no time at the moment: what was asked may be asked again.

    False where it answered and refuses: that stays so.
    """
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, _AWAY)


_AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, sa.exc.PendingRollbackError)


def _postgres_engine(url: sa.URL, idle: float | None) -> sa.Engine:
    address = url.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, pool_size=20, max_overflow=10)

    @event.listens_for(engine, "checkin")
    def _used(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used", -math.inf) > FRESH_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.Error:
                raise sa.exc.DisconnectionError from None  # the pool takes another one

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        if idle is not None:  # by a statement: a pooler between may know no options
            connection.execute(f"SET idle_in_transaction_session_timeout = {int(idle * 1000)}")
            connection.commit()

    @event.listens_for(engine, "handle_error")
    def _wait_for_server(context: sa.engine.ExceptionContext) -> None:
        original = context.original_exception
        if isinstance(original, psycopg.OperationalError) and original.sqlstate is None:
            # a lost server has no code; dbos tries again what says so, and "connection is bad" would end a run for good
            lost = psycopg.OperationalError(f"connection failed: {original}")
            raise sa.exc.OperationalError(context.statement, context.parameters, lost) from None

    return engine
