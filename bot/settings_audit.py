"""The table [audit] of the configuration."""

from pathlib import Path

from bot.settings_tables import Table
from bot.settings_values import PathHere, Reference


class Audit(Table):
    """How the audit log is protected against being changed."""

    key: Reference | None = None
    """A secret of 32 characters or more with which each entry is chained (HMAC); it must not change afterwards."""
    head_file: PathHere | None = None
    """Where the end of the chain is kept, too; by default beside an SQLite database, and nowhere with PostgreSQL."""


def head_file_of(audit: Audit, database: str) -> Path | None:
    """Return where the end of the chain is kept."""
    if audit.head_file:
        return audit.head_file
    scheme, _, path = database.partition(":///")
    return Path(f"{path}.audit-head") if scheme == "sqlite" else None
