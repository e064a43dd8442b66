"""The schema of our tables, brought up to date at start, by alembic."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

VERSION_TABLE = "octocert_schema"
"""Where the version of the schema stands."""
_UPGRADE_LOCK = 4_206_901
"""Key of the Postgres advisory lock under which one replica at a time changes the schema."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def revisions() -> tuple[str, ...]:
    """Return all versions of the schema that this program knows, newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to the newest version; safe when several replicas start together."""
    config = _config()
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
