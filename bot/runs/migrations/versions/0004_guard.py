"""Approvals by several people, and the freeze."""

import sqlalchemy as sa
from alembic import op

revision = "0004_guard"
down_revision = "0003_leases"


def upgrade() -> None:
    """Add the tables, and how many approvals a plan needs."""
    with op.batch_alter_table("octocert_runs") as runs:
        runs.add_column(sa.Column("needed", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "octocert_decisions",
        sa.Column("nonce", sa.String(40), primary_key=True),
        sa.Column("person", sa.String(80), primary_key=True),
        sa.Column("run_id", sa.String(24), nullable=False, index=True),
        sa.Column("digest", sa.String(200), nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
    )
    op.create_table(
        "octocert_freezes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("lifted", sa.String(40)),
        sa.Column("lifted_by", sa.String(80)),
    )
