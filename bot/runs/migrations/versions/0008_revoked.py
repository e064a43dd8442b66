"""What became of certificates that were signed and never put in force."""

import sqlalchemy as sa
from alembic import op

revision = "0008_revoked"
down_revision = "0007_radar"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("octocert_issued", sa.Column("serial", sa.String(50)))
    op.add_column("octocert_issued", sa.Column("discarded", sa.Boolean, nullable=False, server_default=sa.false()))
