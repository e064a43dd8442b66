"""Who refused which account's password, for bots that share the database."""

import sqlalchemy as sa
from alembic import op

revision = "0009_refusals"
down_revision = "0008_revoked"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "octocert_refusals",
        sa.Column("account", sa.String(300), primary_key=True),
        sa.Column("host", sa.String(300), primary_key=True),
        sa.Column("opens", sa.Boolean, nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
    )
