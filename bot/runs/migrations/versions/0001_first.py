"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the first release."""
    op.create_table(
        "octocert_runs",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("state", sa.String(40), nullable=False, index=True),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("nonce", sa.String(40), nullable=False),
        sa.Column("created", sa.String(40), nullable=False, index=True),
        sa.Column("expires", sa.String(40), nullable=False),
        sa.Column("ended", sa.String(40)),
        sa.Column("decision", sa.Text),
        sa.Column("stopped_by", sa.String(40)),
        sa.Column("retry_of", sa.String(24)),
        sa.Column("stage", sa.String(200), nullable=False),
    )
    op.create_table(
        "octocert_progress",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("began", sa.String(40)),
        sa.Column("outcome", sa.Text),
    )
    op.create_table(
        "octocert_host_locks",
        sa.Column("host", sa.String(300), primary_key=True),
        sa.Column("run_id", sa.String(24), nullable=False),
        sa.Column("since", sa.String(40), nullable=False),
    )
    op.create_table(
        "octocert_posts",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(400), nullable=False, unique=True),
        sa.Column("parent", sa.String(400)),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("thread_ts", sa.String(40)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("ts", sa.String(40)),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("rich", sa.Text),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.Column("refusal", sa.Text),
    )
    op.create_table(
        "octocert_deliveries",
        sa.Column("key", sa.String(300), primary_key=True),
        sa.Column("at", sa.String(40), nullable=False),
    )
    op.create_table(
        "octocert_copies",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("due", sa.String(40), nullable=False, index=True),
    )
    op.create_table(
        "octocert_audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(400), nullable=False, unique=True),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
