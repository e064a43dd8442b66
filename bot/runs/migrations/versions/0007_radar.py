"""What the radar found."""

import sqlalchemy as sa
from alembic import op

revision = "0007_radar"
down_revision = "0006_issued"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "octocert_sweeps",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("began", sa.String(40), nullable=False),
        sa.Column("sweep", sa.Text),
        sa.Column("told", sa.Boolean, nullable=False, server_default=sa.false()),
    )
