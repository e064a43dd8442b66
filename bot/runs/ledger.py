"""The ledger: what was proposed, decided and done, durable before it is acted upon."""

import secrets as randomness
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from bot import telemetry
from bot.clock import Clock
from bot.domain import codec
from bot.domain.plan import Plan, StepKind, TargetPlan
from bot.domain.run import (
    TERMINAL,
    Decision,
    Freeze,
    Hold,
    Outcome,
    OutcomeKind,
    Run,
    RunState,
    Standing,
    StepProgress,
    StepState,
    TargetProgress,
)
from bot.runs import tables
from bot.runs.plans import Plans
from bot.runs.prepared import Prepared
from bot.runs.step_notes import StepNotes, dump_steps, load_steps

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters and digits that nobody confuses when reading a run's name aloud."""
_MOST_DECIDED = 1000
"""Decisions that are kept in memory."""
_AT_ONCE = 500
"""Names in one query; SQLite takes 32 766 parameters, older ones 999."""


_RUN, _TARGET = tables.progress.c.run_id == sa.bindparam("run"), tables.progress.c.target == sa.bindparam("of_target")
_THE_RUN = tables.runs.c.id == sa.bindparam("run")
_STANDING = Prepared(
    sa.select(tables.runs.c.state, tables.runs.c.stopped_by, tables.runs.c.stopped_why, tables.runs.c.hold).where(
        _THE_RUN
    )
)
_ENDED = Prepared(
    sa.select(tables.progress.c.kind, sa.func.count().label("number"))
    .where(_RUN, tables.progress.c.kind.is_not(None))
    .group_by(tables.progress.c.kind)
)
_DECISION = Prepared(sa.select(tables.runs.c.decision).where(_THE_RUN))
_BEGAN = Prepared(sa.select(tables.progress.c.began).where(_RUN, _TARGET))
_OUTCOME = Prepared(
    tables.progress.update()
    .where(_RUN, _TARGET, tables.progress.c.outcome.is_(None))
    .values(outcome=sa.bindparam("new_outcome"), kind=sa.bindparam("new_kind"))
)
_FREEZE = Prepared(
    sa.select(tables.freezes).where(tables.freezes.c.lifted.is_(None)).order_by(tables.freezes.c.id).limit(1)
)
_KEPT = Prepared(
    sa.select(tables.copies.c.target)
    .where(tables.copies.c.run_id == sa.bindparam("run"), tables.copies.c.due > sa.bindparam("now"))
    .limit(1)
)
_INSERTS: dict[tuple[str, tuple[str, ...], str], Prepared] = {}


def new_run_id() -> str:
    """Return a short unique name for a run: 31^8 of them."""
    return "r-" + "".join(randomness.choice(_ALPHABET) for _ in range(8))


class Ledger:
    """Reads and writes runs. Every change of a run's state is a compare-and-set."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._plans = Plans(self._read_plan)
        self._decided: dict[str, Decision] = {}
        self.notes = StepNotes(engine, clock)
        """Where steps stand, as far as it is not written yet."""

    def propose(
        self,
        plan: Plan,
        *,
        expires: datetime,
        run_id: str,
        retry_of: str | None = None,
        decision: Decision | None = None,
        needed: int = 1,
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
                nonce=randomness.token_urlsafe(12),
                created=self._clock.now().isoformat(),
                expires=expires.isoformat(),
                decision=codec.dumps(decision) if decision else None,
                retry_of=retry_of,
                stage="",
                needed=needed,
            )
            if written:
                telemetry.RUNS.labels(state=(RunState.RUNNING if decision else RunState.PROPOSED).name.lower()).inc()
                connection.execute(tables.plans.insert().values(run_id=run_id, plan=codec.dumps(plan)))
                rows = [
                    {"run_id": run_id, "target": name, "position": position, "steps": _pending(steps)}
                    for position, (name, steps) in enumerate(plan.subjects)
                ]
                if rows:
                    connection.execute(tables.progress.insert(), rows)
        return self.run(run_id)

    def plan(self, run_id: str) -> Plan:
        """Return the plan of a run, which never changes; KeyError if there is none of this id."""
        return self._plans.get(run_id).plan

    def target(self, run_id: str, name: str) -> TargetPlan:
        """Return the plan of one target of a run; KeyError if there is none."""
        return self._plans.get(run_id).targets[name]

    def _read_plan(self, run_id: str) -> Plan:
        with self._engine.connect() as connection:
            text = connection.execute(sa.select(tables.plans.c.plan).where(tables.plans.c.run_id == run_id)).scalar()
        if text is None:
            raise KeyError(run_id)
        return codec.loads(Plan, text)

    def standing(self, run_id: str) -> Standing:
        """Return where a run stands, at the price of two short reads however many targets it has; KeyError if none."""
        with self._engine.connect() as connection:
            row = _STANDING.run(connection, run=run_id).first()
            if row is None:
                raise KeyError(run_id)
            counts = {OutcomeKind(r.kind): r.number for r in _ENDED.run(connection, run=run_id)}
        return Standing(
            state=RunState(row.state),
            stopped_by=row.stopped_by,
            stopped_why=row.stopped_why,
            hold=codec.loads(Hold, row.hold) if row.hold else None,
            counts=counts,
        )

    def decision(self, run_id: str) -> Decision | None:
        """Return who decided about a run, None while nobody has; a decision stands, so it is read once."""
        known = self._decided.get(run_id)
        if known is None:
            with self._engine.connect() as connection:
                text = _DECISION.run(connection, run=run_id).scalar()
            if text:
                known = codec.loads(Decision, text)
                if len(self._decided) >= _MOST_DECIDED:
                    self._decided = {}
                self._decided[run_id] = known
        return known

    def progress(self, run_id: str, names: Iterable[str]) -> list[TargetProgress]:
        """Return how far these targets of a run are, in the plan's order."""
        self.notes.flush()
        found: list[TargetProgress] = []
        wanted, columns = list(names), tables.progress.c
        with self._engine.connect() as connection:
            for begin in range(0, len(wanted), _AT_ONCE):
                some = columns.target.in_(wanted[begin : begin + _AT_ONCE])
                query = sa.select(tables.progress).where(columns.run_id == run_id, some).order_by(columns.position)
                found += [_progress(row) for row in connection.execute(query)]
        return found

    def run(self, run_id: str) -> Run:
        """Return a snapshot of a run; KeyError if there is none of this id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(tables.runs).where(tables.runs.c.id == run_id)).first()
        if row is None:
            raise KeyError(run_id)
        return self._run(row)

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
            rows = connection.execute(query).all()
        return [self._run(row) for row in rows]

    def in_state(self, *states: RunState) -> list[Run]:
        """Return all runs that are in one of these states, oldest first."""
        query = (
            sa.select(tables.runs)
            .where(tables.runs.c.state.in_([s.value for s in states]))
            .order_by(tables.runs.c.created)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [self._run(row) for row in rows]

    def ids_in(self, state: RunState) -> list[str]:
        """Return the ids of the runs that are in a state."""
        query = sa.select(tables.runs.c.id).where(tables.runs.c.state == state.value).order_by(tables.runs.c.created)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def stopped_in_terminal(self) -> list[str]:
        """Return the ids of the newest runs that somebody stopped in a terminal, where no message can be sent."""
        runs = tables.runs.c
        query = sa.select(runs.id).where(runs.stopped_by.startswith(TERMINAL)).order_by(runs.created.desc())
        with self._engine.connect() as connection:
            return list(connection.execute(query.limit(20)).scalars())

    def undecided(self) -> list[tuple[str, datetime]]:
        """Return the ids of the proposals that wait for a decision, and when they expire."""
        query = sa.select(tables.runs.c.id, tables.runs.c.expires).where(tables.runs.c.state == RunState.PROPOSED.value)
        with self._engine.connect() as connection:
            return [(row.id, datetime.fromisoformat(row.expires)) for row in connection.execute(query)]

    def roll_backs(self, run_id: str) -> list[tuple[str, RunState]]:
        """Return the ids and states of the runs that were proposed to roll this one back."""
        runs = tables.runs.c
        query = sa.select(runs.id, runs.state).where(runs.id.startswith(f"{run_id}-b", autoescape=True))
        with self._engine.connect() as connection:
            found = [(row.id, RunState(row.state)) for row in connection.execute(query)]
        return [(i, s) for i, s in found if i.removeprefix(f"{run_id}-b").isdigit()]

    def move(
        self,
        run_id: str,
        *,
        of: Sequence[RunState],
        to: RunState,
        decision: Decision | None = None,
        stopped_by: str | None = None,
        stopped_why: str = "",
        hold: Hold | None = None,
        within: sa.Connection | None = None,
    ) -> bool:
        """Change a run's state if it is one of `of`; return whether this call did it.

        A run that was held goes on, unless another `hold` is given. `within` is a transaction of which it is a part.
        """
        values: dict[str, str | None] = {"state": to.value, "hold": codec.dumps(hold) if hold else None}
        if decision:
            values["decision"] = codec.dumps(decision)
        if stopped_by:
            values["stopped_by"] = stopped_by
        if stopped_why:
            values["stopped_why"] = stopped_why[:300]
        if to.is_over:
            values["ended"] = self._clock.now().isoformat()
        changed = (
            tables.runs.update()
            .where(tables.runs.c.id == run_id, tables.runs.c.state.in_([s.value for s in of]))
            .values(**values)
        )
        if within is not None:
            is_moved = within.execute(changed).rowcount == 1
        else:
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

    def hold(self, run_id: str, hold: Hold | None) -> None:
        """Note why a run does not go on at the moment, or that it does."""
        text = codec.dumps(hold) if hold else None
        with self._engine.begin() as connection:
            connection.execute(tables.runs.update().where(tables.runs.c.id == run_id).values(hold=text))

    def stage(self, run_id: str, text: str) -> None:
        """Note what the run as a whole is doing now."""
        with self._engine.begin() as connection:
            connection.execute(tables.runs.update().where(tables.runs.c.id == run_id).values(stage=text))

    def step(self, run_id: str, target: str, step: StepKind, state: StepState, detail: str = "") -> None:
        """Note where one step of one target stands."""
        self.steps(run_id, target, {step: state}, detail)

    def steps(self, run_id: str, target: str, states: Mapping[StepKind, StepState], detail: str = "") -> None:
        """Note where some steps of one target stand; what stands there already is not written again."""
        self.notes.note(run_id, target, states, detail)

    def began(self, run_id: str, target: str, within: sa.Connection) -> datetime:
        """Return when the first step of a target began; now, if none has."""
        began = _BEGAN.run(within, run=run_id, of_target=target).scalar()
        return datetime.fromisoformat(began) if began else self._clock.now()

    def outcome(self, run_id: str, outcome: Outcome, within: sa.Connection) -> bool:
        """Store what became of a target within a transaction; the first outcome stands. Return whether this is it."""
        told = {"new_outcome": codec.dumps(outcome), "new_kind": outcome.kind.value}
        is_new = _OUTCOME.run(within, run=run_id, of_target=outcome.target, **told).rowcount == 1
        self.notes.ended(run_id, outcome.target)
        if is_new:
            kind = outcome.kind.name.lower()
            telemetry.TARGETS.labels(outcome=kind).inc()
            telemetry.TARGET_SECONDS.labels(outcome=kind).observe(outcome.seconds)
            if outcome.failed_step:
                telemetry.FAILURES.labels(part="rotation", kind=outcome.failed_step.name.lower()).inc()
        return is_new

    def _run(self, row: sa.Row[tuple[object, ...]]) -> Run:
        self.notes.flush()
        plan, columns = self.plan(row.id), tables.progress.c
        query = sa.select(tables.progress).where(columns.run_id == row.id).order_by(columns.position)
        with self._engine.connect() as connection:
            targets = tuple(_progress(p) for p in connection.execute(query))
            decided = sa.select(tables.decisions.c.decision).where(tables.decisions.c.nonce == row.nonce)
            decisions = [codec.loads(Decision, d) for d in connection.execute(decided).scalars()]
            frozen = None if RunState(row.state).is_over else freeze_in_force(connection)
            kept = _KEPT.run(connection, run=row.id, now=self._clock.now().isoformat()).first() is not None
        return Run(
            id=row.id,
            plan=plan,
            state=RunState(row.state),
            created=datetime.fromisoformat(row.created),
            expires=datetime.fromisoformat(row.expires),
            nonce=row.nonce,
            targets=targets,
            decision=codec.loads(Decision, row.decision) if row.decision else None,
            ended=datetime.fromisoformat(row.ended) if row.ended else None,
            stopped_by=row.stopped_by,
            stopped_why=row.stopped_why,
            hold=codec.loads(Hold, row.hold) if row.hold else None,
            retry_of=row.retry_of,
            stage=row.stage,
            needed=row.needed,
            decisions=tuple(sorted(decisions, key=lambda d: d.at)),
            frozen=frozen,
            keeps_copies=kept,
        )

    def lock_host(self, host: str, run_id: str) -> str:
        """Take the lock of a host for a run, or find who has it: return the holder's run id."""
        with self._engine.begin() as connection:
            now = self._clock.now().isoformat()
            insert_new(connection, tables.host_locks, host=host.casefold(), run_id=run_id, since=now)
            holder = sa.select(tables.host_locks.c.run_id).where(tables.host_locks.c.host == host.casefold())
            return str(connection.execute(holder).scalar_one())

    def lock_of(self, host: str) -> str | None:
        """Return the id of the run that holds the lock of a host, None if none does."""
        query = sa.select(tables.host_locks.c.run_id).where(tables.host_locks.c.host == host.casefold())
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def locked_hosts(self) -> list[str]:
        """Return the hosts that any run has locked."""
        with self._engine.connect() as connection:
            query = sa.select(tables.host_locks.c.host).order_by(tables.host_locks.c.host)
            return list(connection.execute(query).scalars())

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

    def keep_copy(self, run_id: str, target: str, hours: float) -> bool:
        """Note that a copy of a configuration lies on a host, and when it must go; False if that was noted before."""
        due = (self._clock.now() + timedelta(hours=hours)).isoformat()
        with self._engine.begin() as connection:
            return insert_new(connection, tables.copies, run_id=run_id, target=target, due=due)

    def copies(self, *, due: bool) -> list[tuple[str, str]]:
        """Return (run id, target) of the copies that lie on hosts, only those that must go now where `due`."""
        query = sa.select(tables.copies.c.run_id, tables.copies.c.target).order_by(tables.copies.c.due)
        if due:
            query = query.where(tables.copies.c.due <= self._clock.now().isoformat())
        with self._engine.connect() as connection:
            return [(row.run_id, row.target) for row in connection.execute(query)]

    def copies_of(self, run_id: str) -> int:
        """Return how many copies of a run still lie on hosts."""
        query = sa.select(sa.func.count()).select_from(tables.copies).where(tables.copies.c.run_id == run_id)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def forget_copy(self, run_id: str, target: str) -> None:
        """Note that a copy is gone."""
        where = (tables.copies.c.run_id == run_id, tables.copies.c.target == target)
        with self._engine.begin() as connection:
            connection.execute(tables.copies.delete().where(*where))

    def postpone_copy(self, run_id: str, target: str, hours: float) -> None:
        """Note that a copy could not be removed yet."""
        with self._engine.begin() as connection:
            self._due(connection, run_id, target, hours)

    def release_copy(self, run_id: str, target: str, within: sa.Connection) -> None:
        """Note, within a transaction, that a copy is of no use any more and must go now."""
        self._due(within, run_id, target, 0.0)

    def _due(self, connection: sa.Connection, run_id: str, target: str, hours: float) -> None:
        where = (tables.copies.c.run_id == run_id, tables.copies.c.target == target)
        due = (self._clock.now() + timedelta(hours=hours)).isoformat()
        connection.execute(tables.copies.update().where(*where).values(due=due))


def freeze_in_force(connection: sa.Connection) -> Freeze | None:
    """Return the freeze that nobody has lifted yet, None if nothing is frozen."""
    row = _FREEZE.run(connection).first()
    return Freeze(by=row.by, reason=row.reason, at=datetime.fromisoformat(row.at)) if row else None


def insert_new(connection: sa.Connection, table: sa.Table, **values: str | float | None) -> bool:
    """Insert a row unless one with its key is there already; return whether this call did it."""
    values = {
        c.name: c.default.arg for c in table.columns if isinstance(c.default, ScalarElementColumnDefault)
    } | values
    columns = tuple(values)
    known = _INSERTS.get((table.name, columns, connection.dialect.name))
    if known is None:
        # asked by RETURNING: the row count of such a statement is not told on Postgres
        kind = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        new = kind(table).on_conflict_do_nothing().returning(next(iter(table.primary_key.columns)))
        known = _INSERTS[table.name, columns, connection.dialect.name] = Prepared(new, columns)
    return known.run(connection, **values).first() is not None


@lru_cache(maxsize=256)
def _pending(steps: tuple[StepKind, ...]) -> str:
    return dump_steps([StepProgress(step=s, state=StepState.PENDING) for s in steps])


# What has become of a target does not change: read once, used often.


@lru_cache(maxsize=20_000)
def _load_outcome(text: str) -> Outcome:
    return codec.loads(Outcome, text)


def _progress(row: sa.Row[tuple[object, ...]]) -> TargetProgress:
    return TargetProgress(
        name=row.target,
        steps=load_steps(row.steps),
        outcome=_load_outcome(row.outcome) if row.outcome else None,
    )
