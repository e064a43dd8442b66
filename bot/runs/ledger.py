"""The ledger: what was proposed, decided and done, durable before it is acted upon."""

import json
import secrets as randomness
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bot import telemetry
from bot.clock import Clock
from bot.domain import codec
from bot.domain.plan import Plan, StepKind
from bot.domain.run import Decision, Outcome, Run, RunState, StepProgress, StepState, TargetProgress
from bot.runs import tables

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters and digits that nobody confuses when reading a run's name aloud."""


def new_run_id() -> str:
    """Return a short unique name for a run: 31^8 of them."""
    return "r-" + "".join(randomness.choice(_ALPHABET) for _ in range(8))


class Ledger:
    """Reads and writes runs. Every change of a run's state is a compare-and-set."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def propose(
        self,
        plan: Plan,
        *,
        expires: datetime,
        run_id: str,
        retry_of: str | None = None,
        decision: Decision | None = None,
    ) -> Run:
        """Store a new run; one with a decision (a retry under the same approval) is running at once.

        A run of this id that is there already is returned as it is: a repeated delivery proposes nothing twice.
        """
        with self._engine.begin() as connection:
            written = insert_new(
                connection,
                tables.runs,
                id=run_id,
                state=(RunState.RUNNING if decision else RunState.PROPOSED).value,
                plan=codec.dumps(plan),
                nonce=randomness.token_urlsafe(12),
                created=self._clock.now().isoformat(),
                expires=expires.isoformat(),
                decision=codec.dumps(decision) if decision else None,
                retry_of=retry_of,
                stage="",
            )
            if written:
                telemetry.RUNS.labels(state=(RunState.RUNNING if decision else RunState.PROPOSED).name.lower()).inc()
                for position, target in enumerate(plan.targets):
                    steps = [StepProgress(step=s, state=StepState.PENDING) for s in target.steps]
                    connection.execute(
                        tables.progress.insert().values(
                            run_id=run_id, target=target.name, position=position, steps=_dump_steps(steps)
                        )
                    )
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        """Return a snapshot of a run; KeyError if there is none of this id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(tables.runs).where(tables.runs.c.id == run_id)).first()
            if row is None:
                raise KeyError(run_id)
            return _run(row, connection)

    def find(self, run_id: str) -> Run | None:
        """Return a snapshot of a run, None if there is none of this id."""
        try:
            return self.run(run_id)
        except KeyError:
            return None

    def recent(self, limit: int = 10) -> list[Run]:
        """Return the newest runs, newest first."""
        query = sa.select(tables.runs).order_by(tables.runs.c.created.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [_run(row, connection) for row in connection.execute(query).all()]

    def in_state(self, *states: RunState) -> list[Run]:
        """Return all runs that are in one of these states, oldest first."""
        query = (
            sa.select(tables.runs)
            .where(tables.runs.c.state.in_([s.value for s in states]))
            .order_by(tables.runs.c.created)
        )
        with self._engine.connect() as connection:
            return [_run(row, connection) for row in connection.execute(query).all()]

    def move(
        self,
        run_id: str,
        *,
        of: Sequence[RunState],
        to: RunState,
        decision: Decision | None = None,
        stopped_by: str | None = None,
    ) -> bool:
        """Change a run's state if it is one of `of`; return whether this call did it."""
        values: dict[str, str | None] = {"state": to.value}
        if decision:
            values["decision"] = codec.dumps(decision)
        if stopped_by:
            values["stopped_by"] = stopped_by
        if to.is_over:
            values["ended"] = self._clock.now().isoformat()
        changed = (
            tables.runs.update()
            .where(tables.runs.c.id == run_id, tables.runs.c.state.in_([s.value for s in of]))
            .values(**values)
        )
        with self._engine.begin() as connection:
            is_moved = connection.execute(changed).rowcount == 1
        if is_moved:
            telemetry.RUNS.labels(state=to.name.lower()).inc()
        return is_moved

    def counts(self) -> dict[RunState, int]:
        """Return how many runs are in each state that is not an end."""
        query = sa.select(tables.runs.c.state, sa.func.count()).group_by(tables.runs.c.state)
        with self._engine.connect() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in RunState if not state.is_over}

    def stage(self, run_id: str, text: str) -> None:
        """Note what the run as a whole is doing now."""
        with self._engine.begin() as connection:
            connection.execute(tables.runs.update().where(tables.runs.c.id == run_id).values(stage=text))

    def step(self, run_id: str, target: str, step: StepKind, state: StepState, detail: str = "") -> None:
        """Note where one step of one target stands."""
        where = (tables.progress.c.run_id == run_id, tables.progress.c.target == target)
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(tables.progress.c.steps, tables.progress.c.began).where(*where)).first()
            if row is None:
                return
            steps = [
                StepProgress(step=s.step, state=state, detail=detail) if s.step is step else s
                for s in _load_steps(row.steps)
            ]
            began = row.began or self._clock.now().isoformat()
            connection.execute(tables.progress.update().where(*where).values(steps=_dump_steps(steps), began=began))

    def began(self, run_id: str, target: str) -> datetime:
        """Return when the first step of a target began; now, if none has."""
        query = sa.select(tables.progress.c.began).where(
            tables.progress.c.run_id == run_id, tables.progress.c.target == target
        )
        with self._engine.connect() as connection:
            began = connection.execute(query).scalar()
        return datetime.fromisoformat(began) if began else self._clock.now()

    def outcome(self, run_id: str, outcome: Outcome) -> bool:
        """Store what became of a target; the first outcome stands. Return whether this call stored it."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                tables.progress.update()
                .where(
                    tables.progress.c.run_id == run_id,
                    tables.progress.c.target == outcome.target,
                    tables.progress.c.outcome.is_(None),
                )
                .values(outcome=codec.dumps(outcome))
            )
            is_new = changed.rowcount == 1
        if is_new:
            kind = outcome.kind.name.lower()
            telemetry.TARGETS.labels(outcome=kind).inc()
            telemetry.TARGET_SECONDS.labels(outcome=kind).observe(outcome.seconds)
            if outcome.failed_step:
                telemetry.FAILURES.labels(part="rotation", kind=outcome.failed_step.name.lower()).inc()
        return is_new

    def lock_host(self, host: str, run_id: str) -> str:
        """Take the lock of a host for a run, or find who has it: return the holder's run id."""
        with self._engine.begin() as connection:
            now = self._clock.now().isoformat()
            insert_new(connection, tables.host_locks, host=host.casefold(), run_id=run_id, since=now)
            holder = sa.select(tables.host_locks.c.run_id).where(tables.host_locks.c.host == host.casefold())
            return str(connection.execute(holder).scalar_one())

    def release_hosts(self, run_id: str, hosts: Iterable[str] | None = None) -> None:
        """Give back the locks that a run holds, all of them where no hosts are named."""
        where = [tables.host_locks.c.run_id == run_id]
        if hosts is not None:
            where.append(tables.host_locks.c.host.in_([h.casefold() for h in hosts]))
        with self._engine.begin() as connection:
            connection.execute(tables.host_locks.delete().where(*where))

    def is_new(self, delivery: str) -> bool:
        """Remember a delivery of Slack's; return False if it was seen before."""
        with self._engine.begin() as connection:
            return insert_new(connection, tables.deliveries, key=delivery[:300], at=self._clock.now().isoformat())

    def keep_copy(self, run_id: str, target: str, hours: float) -> None:
        """Note that a copy of a configuration lies on a host, and when it must go."""
        due = (self._clock.now() + timedelta(hours=hours)).isoformat()
        with self._engine.begin() as connection:
            insert_new(connection, tables.copies, run_id=run_id, target=target, due=due)

    def copies(self, *, due: bool) -> list[tuple[str, str]]:
        """Return (run id, target) of the copies that lie on hosts, only those that must go now where `due`."""
        query = sa.select(tables.copies.c.run_id, tables.copies.c.target).order_by(tables.copies.c.due)
        if due:
            query = query.where(tables.copies.c.due <= self._clock.now().isoformat())
        with self._engine.connect() as connection:
            return [(row.run_id, row.target) for row in connection.execute(query)]

    def forget_copy(self, run_id: str, target: str) -> None:
        """Note that a copy is gone."""
        where = (tables.copies.c.run_id == run_id, tables.copies.c.target == target)
        with self._engine.begin() as connection:
            connection.execute(tables.copies.delete().where(*where))

    def postpone_copy(self, run_id: str, target: str, hours: float) -> None:
        """Note that a copy could not be removed yet."""
        where = (tables.copies.c.run_id == run_id, tables.copies.c.target == target)
        due = (self._clock.now() + timedelta(hours=hours)).isoformat()
        with self._engine.begin() as connection:
            connection.execute(tables.copies.update().where(*where).values(due=due))


def insert_new(connection: sa.Connection, table: sa.Table, **values: object) -> bool:
    """Insert a row unless one with its key is there already; return whether this call did it."""
    key = next(iter(table.primary_key.columns))
    # asked by RETURNING: the row count of such a statement is not told on Postgres
    if connection.dialect.name == "postgresql":
        statement = postgresql.insert(table).values(**values).on_conflict_do_nothing().returning(key)
    else:
        statement = sqlite.insert(table).values(**values).on_conflict_do_nothing().returning(key)
    return connection.execute(statement).first() is not None


def _dump_steps(steps: Sequence[StepProgress]) -> str:
    return json.dumps([codec.dump(s) for s in steps])


def _load_steps(text: str) -> list[StepProgress]:
    return [codec.load(StepProgress, s) for s in json.loads(text)]


def _run(row: sa.Row[tuple[object, ...]], connection: sa.Connection) -> Run:
    query = sa.select(tables.progress).where(tables.progress.c.run_id == row.id).order_by(tables.progress.c.position)
    targets = tuple(
        TargetProgress(
            name=p.target,
            steps=tuple(_load_steps(p.steps)),
            outcome=codec.loads(Outcome, p.outcome) if p.outcome else None,
        )
        for p in connection.execute(query)
    )
    return Run(
        id=row.id,
        plan=codec.loads(Plan, row.plan),
        state=RunState(row.state),
        created=datetime.fromisoformat(row.created),
        expires=datetime.fromisoformat(row.expires),
        nonce=row.nonce,
        targets=targets,
        decision=codec.loads(Decision, row.decision) if row.decision else None,
        ended=datetime.fromisoformat(row.ended) if row.ended else None,
        stopped_by=row.stopped_by,
        retry_of=row.retry_of,
        stage=row.stage,
    )
