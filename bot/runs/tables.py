"""Our tables, in the same database as the durable engine's. Times are ISO texts in UTC, documents are JSON texts."""

import sqlalchemy as sa

metadata = sa.MetaData()

runs = sa.Table(
    "octocert_runs",
    metadata,
    sa.Column("id", sa.String(24), primary_key=True),
    sa.Column("state", sa.String(40), nullable=False, index=True),
    sa.Column("nonce", sa.String(40), nullable=False),
    sa.Column("needed", sa.Integer, nullable=False, default=1),
    sa.Column("created", sa.String(40), nullable=False, index=True),
    sa.Column("expires", sa.String(40), nullable=False),
    sa.Column("ended", sa.String(40)),
    sa.Column("decision", sa.Text),
    sa.Column("stopped_by", sa.String(40)),
    sa.Column("retry_of", sa.String(24)),
    sa.Column("stage", sa.String(200), nullable=False, default=""),
    sa.Column("stopped_why", sa.String(300), nullable=False, default=""),
    sa.Column("hold", sa.Text),
)

plans = sa.Table(
    "octocert_plans",
    metadata,
    sa.Column("run_id", sa.String(24), primary_key=True),
    sa.Column("plan", sa.Text, nullable=False),
)
"""Apart from the runs, because a plan never changes and that of a fleet has megabytes: a run's row changes often."""

progress = sa.Table(
    "octocert_progress",
    metadata,
    sa.Column("run_id", sa.String(24), primary_key=True),
    sa.Column("target", sa.String(300), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("steps", sa.Text, nullable=False),
    sa.Column("began", sa.String(40)),
    sa.Column("outcome", sa.Text),
    sa.Column("kind", sa.String(20)),
    sa.Index("octocert_progress_kinds", "run_id", "kind"),
)
"""`kind` is that of the outcome, so that failures are counted without reading anything else."""

host_locks = sa.Table(
    "octocert_host_locks",
    metadata,
    sa.Column("host", sa.String(300), primary_key=True),
    sa.Column("run_id", sa.String(24), nullable=False),
    sa.Column("since", sa.String(40), nullable=False),
)

posts = sa.Table(
    "octocert_posts",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(400), nullable=False, unique=True),
    sa.Column("parent", sa.String(400)),
    sa.Column("channel", sa.String(40), nullable=False),
    sa.Column("thread_ts", sa.String(40)),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("sent", sa.Integer, nullable=False, default=0),
    sa.Column("ts", sa.String(40)),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("rich", sa.Text),
    sa.Column("final", sa.Boolean, nullable=False, default=False),
    sa.Column("refusal", sa.Text),
    sa.Column("file", sa.Text),
    sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()),
)
"""`stale` is set where several bots share the database: any of them marks a message, the one that leads makes it."""
sa.Index("octocert_posts_stale", posts.c.seq, sqlite_where=sa.text("stale"), postgresql_where=sa.text("stale"))
sa.Index(
    "octocert_posts_due",
    posts.c.seq,
    sqlite_where=posts.c.sent < posts.c.version,
    postgresql_where=posts.c.sent < posts.c.version,
)

leases = sa.Table(
    "octocert_leases",
    metadata,
    sa.Column("executor", sa.String(120), primary_key=True),
    sa.Column("beat", sa.Float(53), nullable=False),
)
"""Bots that share this database, by process, and when each was last alive: seconds of the database's clock."""

leads = sa.Table(
    "octocert_leads",
    metadata,
    sa.Column("role", sa.String(40), primary_key=True),
    sa.Column("executor", sa.String(120), nullable=False),
    sa.Column("beat", sa.Float(53), nullable=False),
)
"""Which of them leads."""

deliveries = sa.Table(
    "octocert_deliveries",
    metadata,
    sa.Column("key", sa.String(300), primary_key=True),
    sa.Column("at", sa.String(40), nullable=False),
)

issued = sa.Table(
    "octocert_issued",
    metadata,
    sa.Column("run_id", sa.String(24), primary_key=True),
    sa.Column("target", sa.String(300), primary_key=True),
    sa.Column("thumbprint", sa.String(40), primary_key=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("serial", sa.String(50)),
    sa.Column("discarded", sa.Boolean, nullable=False, server_default=sa.false()),
)
"""Certificates that a CA signed for a run, noted before they go to a host. Their keys are nowhere.

`discarded` is set where one was seen not to be in force and people were told, whether the CA revoked it or not."""

refusals = sa.Table(
    "octocert_refusals",
    metadata,
    sa.Column("account", sa.String(300), primary_key=True),
    sa.Column("host", sa.String(300), primary_key=True),
    sa.Column("opens", sa.Boolean, nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
)
"""Hosts that refused an account's password, which itself is nowhere; for bots that share this database."""

copies = sa.Table(
    "octocert_copies",
    metadata,
    sa.Column("run_id", sa.String(24), primary_key=True),
    sa.Column("target", sa.String(300), primary_key=True),
    sa.Column("due", sa.String(40), nullable=False, index=True),
)
"""Copies of configurations that lie on hosts and must be removed when they are due: they hold the old key."""

notes = sa.Table(
    "octocert_notes",
    metadata,
    sa.Column("run_id", sa.String(24), primary_key=True),
    sa.Column("key", sa.String(80), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""What a run found out on its way and needs again after a crash, such as the thumbprint of a new certificate."""

gates = sa.Table(
    "octocert_gates",
    metadata,
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
"""Approvals that a run needs on its way; each asking has a nonce of its own, which its buttons carry."""

looks = sa.Table(
    "octocert_looks",
    metadata,
    sa.Column("run_id", sa.String(24), primary_key=True),
    sa.Column("due", sa.String(40), nullable=False, index=True),
)
"""Runs whose work is looked at once more when they are due: others may have put old thumbprints back."""
decisions = sa.Table(
    "octocert_decisions",
    metadata,
    sa.Column("nonce", sa.String(40), primary_key=True),
    sa.Column("person", sa.String(80), primary_key=True),
    sa.Column("run_id", sa.String(24), nullable=False, index=True),
    sa.Column("digest", sa.String(200), nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
)
"""Approvals, one for each person and asking: the nonce is that of the plan, or of a gate in the middle of a run."""

freezes = sa.Table(
    "octocert_freezes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("by", sa.String(80), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("lifted", sa.String(40)),
    sa.Column("lifted_by", sa.String(80)),
)
"""Freezes; while one is not lifted, no step begins."""

sweeps = sa.Table(
    "octocert_sweeps",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("began", sa.String(40), nullable=False),
    sa.Column("sweep", sa.Text),
    sa.Column("told", sa.Boolean, nullable=False, server_default=sa.false()),
)
"""What the radar found each time it looked; `sweep` is empty while it looks, `told` where a digest was posted."""

audit = sa.Table(
    "octocert_audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(400), nullable=False, unique=True),
    sa.Column("entry", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
