"""Cancelling in a terminal: a plan is taken back, a run stops, a gate is denied. Nothing is approved here.

The bot that leads sees it within seconds and says it in the thread; where no bot runs, the next one does at its start.
"""

import sqlalchemy as sa

from bot.audit import AuditLog, Entry
from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.run import Decision, Run, RunState
from bot.runs.control import GOING
from bot.runs.gates import Gate, Gates
from bot.runs.ledger import Ledger
from bot.runs.moving import moved

UNBEGUN = (RunState.PROPOSED, RunState.WAITING)


class Cancelling:
    """Takes back what nobody has begun, and stops the rest at its next safe point; entry and effect are one."""

    def __init__(self, ledger: Ledger, gates: Gates, audit: AuditLog, clock: Clock) -> None:
        self._ledger = ledger
        self._gates = gates
        self._audit = audit
        self._clock = clock

    def cancel(self, run: Run, who: str, key: str) -> str:
        """End a run as far as that goes; return a sentence, UserError where there is nothing to end."""
        gate = self._gates.waiting(run.id)
        if gate:
            return self._deny(run, gate, who, key)
        to = RunState.CANCELLED if run.state in UNBEGUN else RunState.STOPPING
        what = "nothing was touched" if to is RunState.CANCELLED else "the run stops at its next safe point"
        of = UNBEGUN if to is RunState.CANCELLED else GOING
        entry = self._entry("cancelled", run, who, run.plan.digest, what)
        if not moved(self._ledger, self._audit, f"{run.id}:cancelled:{key}", entry, of=of, to=to, stopped_by=who):
            raise self._too_late(run)
        return f"{run.id} is {to.value}."

    def _deny(self, run: Run, gate: Gate, who: str, key: str) -> str:
        """Deny what a run waits for between two of its parts: it ends there, as if Deny had been pressed in Slack."""
        denial = Decision(user=who, user_name="", approved=False, at=self._clock.now(), reason="stopped")

        def take(connection: sa.Connection) -> Entry | None:
            what = f"the {gate.gate}, for which the run waited"
            entry = self._entry("denied", run, who, gate.digest, what)
            return entry if self._gates.tip(connection, gate, denial) else None

        if self._audit.append_if(f"{run.id}:{gate.nonce}:denied:{key}", take) is None:
            raise self._too_late(run)
        return f"{run.id} waited for the approval of its {gate.gate}. That is denied, so the run ends there."

    def _too_late(self, run: Run) -> UserError:
        state = self._ledger.standing(run.id).state.value
        return UserError(f"The run {run.id} is {state}; there is nothing to stop.")

    def _entry(self, kind: str, run: Run, who: str, digest: str, what: str) -> Entry:
        return Entry(kind=kind, who=who, run=run.id, digest=digest, what=what)
