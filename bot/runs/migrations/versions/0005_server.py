"""Rotations of the Server: what they found out, and when they are looked at once more."""

import sqlalchemy as sa
from alembic import op

revision = "0005_server"
down_revision = "0004_guard"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "octocert_notes",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "octocert_gates",
        sa.Column("nonce", sa.String(40), primary_key=True),
        sa.Column("run_id", sa.String(24), nullable=False, index=True),
        sa.Column("gate", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("opened", sa.String(40), nullable=False),
        sa.Column("expires", sa.String(40)),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("decision", sa.Text),
    )
    op.create_table(
        "octocert_looks",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("due", sa.String(40), nullable=False, index=True),
    )
