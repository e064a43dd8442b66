"""Refusals: the breaker's board for bots that share a database."""

import sqlalchemy as sa
import structlog

from bot.clock import Clock
from bot.runs import tables
from bot.runs.ledger import insert_new
from bot.windows.breaker import OwnBoard

log = structlog.get_logger("octocert.refusals")

refusals = tables.refusals


class SharedBoard:
    """Notes refusals in the database; while that is away, what this process knows itself counts."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._own = OwnBoard()

    def refusals(self, account: str) -> dict[str, bool]:
        """Return the hosts that refused an account, in that order, and whether each refusal opened its breaker."""
        query = sa.select(refusals).where(refusals.c.account == account[:300]).order_by(refusals.c.at)
        try:
            with self._engine.connect() as connection:
                return {row.host: row.opens for row in connection.execute(query)}
        except sa.exc.SQLAlchemyError as error:
            log.warning("refused logins are not read from the database", error=type(error).__name__)
            return self._own.refusals(account)

    def note(self, account: str, host: str, *, opens: bool) -> None:
        """Note that a host refused an account."""
        self._own.note(account, host, opens=opens)
        values: dict[str, str | float | None] = {
            "account": account[:300],
            "host": host[:300],
            "opens": opens,
            "at": self._clock.now().isoformat(),
        }
        try:
            with self._engine.begin() as connection:
                insert_new(connection, refusals, **values)
        except sa.exc.SQLAlchemyError as error:
            log.warning("a refused login is not noted in the database", error=type(error).__name__)

    def clear(self, account: str | None = None) -> None:
        """Forget all refusals of an account, of all accounts where none is named."""
        self._own.clear(account)
        forget = refusals.delete()
        if account is not None:
            forget = forget.where(refusals.c.account == account[:300])
        with self._engine.begin() as connection:
            connection.execute(forget)
