"""Alembic's entry: runs the versions on the connection that `upgrade` hands over."""

from alembic import context

from bot.runs.migrations import VERSION_TABLE
from bot.runs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=False,
)
context.run_migrations()
