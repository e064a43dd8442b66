"""Moving: a run's state changes together with the audit entry that says so. Both are there, or neither."""

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from bot.audit import AuditLog, Entry
from bot.domain.run import Hold, RunState
from bot.runs.ledger import Ledger


def moved(
    ledger: Ledger,
    audit: AuditLog,
    key: str,
    entry: Entry,
    *,
    of: Sequence[RunState],
    to: RunState,
    hold: Hold | None = None,
    stopped_by: str | None = None,
    stopped_why: str = "",
    also: Callable[[sa.Connection], None] = lambda _: None,
) -> bool:
    """Change the state of the run that an entry is about, if it is one of `of`; return whether this call did it.

    False, and nothing is written, where somebody was faster, or where an entry of this key is there already. `also`
    writes what must be there together with the new state.
    """

    def take(connection: sa.Connection) -> Entry | None:
        done = ledger.move(
            entry.run, of=of, to=to, hold=hold, stopped_by=stopped_by, stopped_why=stopped_why, within=connection
        )
        if not done:
            return None
        also(connection)
        return entry

    return audit.append_if(key, take) is not None
