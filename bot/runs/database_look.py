"""A look at the database that disturbs no bot: nothing is locked, made, upgraded or written."""

import os
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from bot.domain.errors import UserError
from bot.runs import migrations
from bot.secrets import Secret

CONNECT_SECONDS = 10
_REVISION = f"select version_num from {migrations.VERSION_TABLE}"  # noqa: S608 - a constant of ours


def look(url: str, password: Secret | None) -> str:
    """Return in a sentence what is there; UserError if a bot could not work with it."""
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        return _sqlite(Path(address.database or ""))
    return _postgres(address.set(password=password.reveal()) if password else address)


def _sqlite(path: Path) -> str:
    if not path.exists():
        folder = next(p for p in path.parents if p.exists())
        if not _may_write(folder):
            raise UserError(
                f"The database {path} is not there and cannot be made: {folder} cannot be written. Let the bot's "
                f"account own the folder: install --directory --mode=0700 --owner=ACCOUNT {path.parent}"
            )
        return f"{path} is not there yet; the bot makes it at its first start."
    for file in (path, path.parent):
        if not _may_write(file):
            raise UserError(f"{file} cannot be written. Let the bot's account own it: chown ACCOUNT {file}")
    if path.stat().st_mode & 0o077:
        raise UserError(f"The database {path} can be read by others on this machine. Run: chmod 600 {path}")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=CONNECT_SECONDS)
        try:
            tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
            is_ours = migrations.VERSION_TABLE in tables
            revision = connection.execute(_REVISION).fetchone() if is_ours else None
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(
            f"{path} cannot be read as an SQLite database ({error}). Restore it from a backup, or name another file "
            "as [database] url."
        ) from None
    return f"{path}: {_judged(revision[0] if revision else None)}"


def _postgres(url: sa.URL) -> str:
    shown = url.render_as_string()
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": CONNECT_SECONDS, "options": "-c default_transaction_read_only=on"},
        poolclass=sa.NullPool,
    )
    try:
        with engine.connect() as connection:
            version = connection.execute(sa.text("show server_version")).scalar_one()
            may_create = connection.execute(
                sa.text("select has_schema_privilege(current_schema(), 'CREATE') and current_schema() is not null")
            ).scalar_one()
            there = connection.execute(
                sa.text("select to_regclass(:name)"), {"name": migrations.VERSION_TABLE}
            ).scalar()
            revision = connection.execute(sa.text(_REVISION)).scalar() if there else None
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"The database at {shown} cannot be opened: {reason}. Check [database] url and url_password, and that "
            "the server takes connections from here."
        ) from None
    finally:
        engine.dispose()
    if not may_create:
        raise UserError(
            f"The account may not create tables in the database at {shown}. As its owner: "
            f"GRANT CREATE ON SCHEMA public TO {url.username};"
        )
    return f"PostgreSQL {version}: {_judged(revision)}"


def _judged(revision: str | None) -> str:
    """Return what a schema's revision means for this program."""
    if revision is None:
        return "empty; the bot makes its tables at its first start."
    known = migrations.revisions()
    if revision not in known:
        raise UserError(
            f"The database was last used by a newer octocert (schema {revision}). Install that version or a newer "
            "one: going back needs a backup from before."
        )
    return "its tables are there." if revision == known[0] else "its tables are brought up to date at the next start."


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)
