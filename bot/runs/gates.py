"""Gates: approvals that a run needs on its way, stored before they are asked for. Each change is a compare-and-set."""

import secrets as randomness
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from bot.clock import Clock
from bot.domain import codec
from bot.domain.run import Decision, RunState
from bot.runs import tables
from bot.runs.ledger import Ledger

OPEN, APPROVED, DENIED = "open", "approved", "denied"
GOING_ON = (RunState.RUNNING, RunState.PAUSED, RunState.STOPPING)
"""States of runs that may not have begun yet what was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One asking for an approval in the middle of a run."""

    nonce: str
    """Carried by its buttons, so that those of an older asking are recognised."""
    run_id: str
    gate: str
    """What is approved: `certificate` or `clean up`."""
    digest: str
    action: str
    opened: datetime
    expires: datetime | None
    """None: it may wait for days."""
    state: str
    decision: Decision | None = None

    @property
    def part(self) -> str:
        """The part of the run that its decision begins."""
        return self.gate if self.state == APPROVED else f"{DENIED} {self.gate}"


class Gates:
    """Opens gates and takes their decisions."""

    def __init__(self, engine: sa.Engine, ledger: Ledger, clock: Clock, *, minutes: int) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._minutes = minutes

    def open(self, run_id: str, gate: str, *, digest: str, action: str, expires: bool) -> Gate:
        """Ask for an approval, once however often this is called, and have the run wait for it.

        With `expires` it is denied by itself after the time that the configuration gives to approvals.
        """
        found = self.waiting(run_id)
        if found is None:
            now = self._clock.now()
            end = (now + timedelta(minutes=self._minutes)).isoformat() if expires else None
            with self._engine.begin() as connection:
                connection.execute(
                    tables.gates.insert().values(
                        nonce=randomness.token_urlsafe(12),
                        run_id=run_id,
                        gate=gate,
                        digest=digest,
                        action=action,
                        opened=now.isoformat(),
                        expires=end,
                        state=OPEN,
                    )
                )
            found = self.waiting(run_id)
            assert found is not None
        self._ledger.move(run_id, of=(RunState.RUNNING,), to=RunState.ASKING)
        return found

    def waiting(self, run_id: str) -> Gate | None:
        """Return the gate at which a run waits, None if it waits at none."""
        return next((g for g in self.of(run_id) if g.state == OPEN), None)

    def number(self) -> int:
        """Return how many gates wait for somebody, in all runs."""
        query = sa.select(sa.func.count()).select_from(tables.gates).where(tables.gates.c.state == OPEN)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def of(self, run_id: str) -> list[Gate]:
        """Return all gates of a run, oldest first."""
        query = sa.select(tables.gates).where(tables.gates.c.run_id == run_id).order_by(tables.gates.c.opened)
        return self._read(query)

    def find(self, run_id: str, nonce: str) -> Gate | None:
        """Return the gate of a run by the nonce that its buttons carry."""
        return next((g for g in self.of(run_id) if g.nonce == nonce), None)

    def undecided(self) -> list[Gate]:
        """Return all gates at which somebody is waited for."""
        return self._read(sa.select(tables.gates).where(tables.gates.c.state == OPEN).order_by(tables.gates.c.opened))

    def decided(self) -> list[Gate]:
        """Return the gates of runs under way about which somebody decided, here or anywhere else."""
        runs = tables.runs.c
        going = sa.select(runs.id).where(runs.state.in_([s.value for s in GOING_ON]))
        gates = tables.gates.c
        return self._read(sa.select(tables.gates).where(gates.state != OPEN, gates.run_id.in_(going)))

    def expired(self) -> list[Gate]:
        """Return the open gates whose time is up."""
        now = self._clock.now().isoformat()
        return self._read(sa.select(tables.gates).where(tables.gates.c.state == OPEN, tables.gates.c.expires <= now))

    def is_open(self, connection: sa.Connection, gate: Gate) -> bool:
        """Whether a gate still waits, asked inside a transaction."""
        query = sa.select(tables.gates.c.state).where(tables.gates.c.nonce == gate.nonce)
        return bool(connection.execute(query).scalar() == OPEN)

    def tip(self, connection: sa.Connection, gate: Gate, decision: Decision) -> bool:
        """Make a gate approved or denied inside a transaction, and have its run go on; False if somebody was faster."""
        state = APPROVED if decision.approved else DENIED
        changed = (
            tables.gates.update()
            .where(tables.gates.c.nonce == gate.nonce, tables.gates.c.state == OPEN)
            .values(state=state, decision=codec.dumps(decision))
        )
        if connection.execute(changed).rowcount != 1:
            return False
        self._ledger.move(gate.run_id, of=(RunState.ASKING,), to=RunState.RUNNING, within=connection)
        return True

    def expire(self, connection: sa.Connection, gate: Gate) -> bool:
        """Deny a gate at which nobody decided in time, inside a transaction; False if somebody did after all."""
        late = Decision(user="", user_name="", approved=False, at=self._clock.now(), reason="nobody decided in time")
        return self.tip(connection, gate, late)

    def _read(self, query: sa.Select[tuple[object, ...]]) -> list[Gate]:
        with self._engine.connect() as connection:
            return [
                Gate(
                    nonce=row.nonce,
                    run_id=row.run_id,
                    gate=row.gate,
                    digest=row.digest,
                    action=row.action,
                    opened=datetime.fromisoformat(row.opened),
                    expires=datetime.fromisoformat(row.expires) if row.expires else None,
                    state=row.state,
                    decision=codec.loads(Decision, row.decision) if row.decision else None,
                )
                for row in connection.execute(query)
            ]
