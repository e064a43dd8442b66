"""Fleets: plans in a table of their own, kinds of outcomes, why a run is held or stopped itself, files in threads."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Move the plans and add the columns."""
    op.create_table(
        "octocert_plans",
        sa.Column("run_id", sa.String(24), primary_key=True),
        sa.Column("plan", sa.Text, nullable=False),
    )
    op.execute("insert into octocert_plans (run_id, plan) select id, plan from octocert_runs")
    with op.batch_alter_table("octocert_runs") as runs:
        runs.drop_column("plan")
        runs.add_column(sa.Column("stopped_why", sa.String(300), nullable=False, server_default=""))
        runs.add_column(sa.Column("hold", sa.Text))
    with op.batch_alter_table("octocert_progress") as progress:
        progress.add_column(sa.Column("kind", sa.String(20)))
        progress.create_index("octocert_progress_kinds", ["run_id", "kind"])
    op.add_column("octocert_posts", sa.Column("file", sa.Text))
    due = sa.text("sent < version")
    op.create_index("octocert_posts_due", "octocert_posts", ["seq"], sqlite_where=due, postgresql_where=due)
    _name_the_kinds()


def _name_the_kinds() -> None:
    progress = sa.table("octocert_progress", *(sa.column(c) for c in ("run_id", "target", "outcome", "kind")))
    connection = op.get_bind()
    rows = connection.execute(sa.select(progress).where(progress.c.outcome.is_not(None))).all()
    for row in rows:
        where = (progress.c.run_id == row.run_id, progress.c.target == row.target)
        connection.execute(progress.update().where(*where).values(kind=json.loads(row.outcome)["kind"]))
