"""What CAs signed for runs."""

import sqlalchemy as sa
from alembic import op

revision = "0006_issued"
down_revision = "0005_server"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "octocert_issued",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("thumbprint", sa.String(40), primary_key=True),
        sa.Column("at", sa.String(40), nullable=False),
    )
