"""Leases: who lives, who leads, and messages that any bot may mark."""

import sqlalchemy as sa
from alembic import op

revision = "0003_leases"
down_revision = "0002"


def upgrade() -> None:
    """Add the two tables and the mark."""
    op.create_table(
        "octocert_leases",
        sa.Column("executor", sa.String(120), primary_key=True),
        sa.Column("beat", sa.Float(53), nullable=False),
    )
    op.create_table(
        "octocert_leads",
        sa.Column("role", sa.String(40), primary_key=True),
        sa.Column("executor", sa.String(120), nullable=False),
        sa.Column("beat", sa.Float(53), nullable=False),
    )
    op.add_column("octocert_posts", sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()))
    where = sa.text("stale")
    op.create_index("octocert_posts_stale", "octocert_posts", ["seq"], sqlite_where=where, postgresql_where=where)
