"""Backups: a whole copy of an SQLite database, taken while the bot works. Postgres has its own program for it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from bot.domain.errors import UserError

PAGES_AT_ONCE = 1000
"""Pages of 4 KB that are copied before others may write again."""


def copy(url: str, target: Path) -> int:
    """Copy the database to a new file that only its owner can read; return its size in bytes. UserError if it fails."""
    place = sa.make_url(url)
    if place.get_backend_name() != "sqlite":
        name = place.set(password=None).render_as_string()
        raise UserError(
            f"The database is a PostgreSQL. Copy it by: pg_dump --format=custom --file={target} {name} "
            "and restore it by pg_restore into an empty database, while no bot runs."
        )
    source = Path(place.database or "")
    if not source.exists():
        raise UserError(f"There is no database at {source} yet.")
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise UserError(f"{target} exists already. Name a new file: a backup never overwrites one.") from None
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from None
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as origin,
            closing(sqlite3.connect(target)) as copied,
        ):
            origin.backup(copied, pages=PAGES_AT_ONCE)
            (verdict,) = copied.execute("pragma integrity_check").fetchone()
    except sqlite3.Error as error:
        target.unlink()
        raise UserError(f"The copy to {target} failed: {error}. Is the disk full?") from None
    if verdict != "ok":
        raise UserError(f"The copy at {target} is damaged, and so may be {source}: {verdict[:200]}")
    return target.stat().st_size
