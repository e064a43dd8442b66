"""Approvals: who may decide what is asked, how many must, and the one decision that tips it.

Everything that may be approved is an asking: a plan, or a gate in the middle of a run. Each has a nonce of its own,
which its buttons carry, so that a button of an older message is recognised. A decision, its audit entry and what it
tips are one transaction, and one such transaction happens at a time, so that two clicks on two replicas never tip
anything twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from bot.audit import AuditLog, Entry
from bot.clock import Clock
from bot.domain import codec
from bot.domain.plan import Plan
from bot.domain.policy import Action, Policy, action_of, environments_of
from bot.domain.run import Decision, Hold, Run, RunState, named
from bot.runs import tables
from bot.runs.asking import Asker
from bot.runs.gates import Gate, Gates
from bot.runs.ledger import Ledger
from bot.runs.timetable import Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One thing that waits for approvals."""

    run_id: str
    nonce: str
    what: str
    """As people say it: `plan`, `certificate`, `clean up`."""
    plan: Plan
    digest: str
    """What the approvals are for, exactly."""
    action: Action
    asked: datetime
    expires: datetime | None
    """None: it may wait for days."""
    needed: int
    """How many approvals the policy wanted when it was asked; it may want more by now, never fewer."""
    is_open: Callable[[sa.Connection], bool]
    """Whether it still waits; asked inside the transaction."""
    tip: Callable[[sa.Connection, Decision], bool]
    """Make it approved or denied, by a compare-and-set inside the transaction."""
    decided: Callable[[], Decision | None]
    """What tipped it; None while nothing has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a click did."""

    refusal: str | None = None
    """A sentence for the clicker where it did not count."""
    tipped: bool = False
    """Whether everything is decided by it."""
    decision: Decision | None = None
    """What was taken, where it counted."""
    number: int = 0
    needed: int = 1


class Approvals:
    """Takes decisions of several people."""

    def __init__(
        self,
        engine: sa.Engine,
        ledger: Ledger,
        audit: AuditLog,
        timetable: Timetable,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._engine = engine
        self._timetable = timetable
        self._ledger = ledger
        self._audit = audit
        self._clock = clock
        self._policy = policy

    def of_plan(self, run: Run) -> Asking:
        """Return the asking for the approval of a run's plan."""
        where = tables.runs.c.id == run.id

        def is_open(connection: sa.Connection) -> bool:
            state = connection.execute(sa.select(tables.runs.c.state).where(where)).scalar()
            return bool(state == RunState.PROPOSED.value)

        def tip(connection: sa.Connection, decision: Decision) -> bool:
            to, hold = (RunState.RUNNING if decision.approved else RunState.DENIED), None
            opening = self._timetable.opening(run.plan.schedule)
            if decision.approved and not opening.is_open:
                to = RunState.WAITING
                hold = Hold(why="its time has not come", since=decision.at, until=opening.until)
            return self._ledger.move(
                run.id, of=(RunState.PROPOSED,), to=to, decision=decision, hold=hold, within=connection
            )

        return Asking(
            run_id=run.id,
            nonce=run.nonce,
            what="plan",
            plan=run.plan,
            digest=run.plan.digest,
            action=action_of(run.plan),
            asked=run.created,
            expires=run.expires,
            needed=run.needed,
            is_open=is_open,
            tip=tip,
            decided=lambda: self._ledger.decision(run.id),
        )

    def of_gate(self, run: Run, gates: Gates, gate: Gate) -> Asking:
        """Return the asking for the approval at a gate of a run."""

        def decided() -> Decision | None:
            found = gates.find(run.id, gate.nonce)
            return found.decision if found else None

        return Asking(
            run_id=run.id,
            nonce=gate.nonce,
            what=gate.gate,
            plan=run.plan,
            digest=gate.digest,
            action=Action(gate.action),
            asked=gate.opened,
            expires=gate.expires,
            needed=1,
            is_open=lambda connection: gates.is_open(connection, gate),
            tip=lambda connection, decision: gates.tip(connection, gate, decision),
            decided=decided,
        )

    def waits_for(self, asking: Asking, user: str) -> bool:
        """Whether this person may still decide it, and has not."""
        now = self._clock.now()
        if asking.expires and asking.expires <= now:
            return False
        is_done = self._policy.person(user) in self.decisions(asking.nonce)
        return not is_done and self._refuses(asking, user, now) is None

    def needed(self, asking: Asking) -> int:
        """Return how many approvals it takes."""
        return max(asking.needed, self._policy.approvals_for(asking.action, environments_of(asking.plan)))

    def decide(self, asking: Asking, asker: Asker, *, approved: bool, reason: str = "") -> Verdict:
        """Take an approval or a denial; one denial is enough to deny."""
        now = self._clock.now()
        request = asking.plan.request
        refusal = self._refuses(asking, asker.user, now)
        is_own = self._policy.person(asker.user) == self._policy.person(request.user)
        if refusal and not (is_own and not approved):
            self._note(asking, asker, "refused", refusal)
            return Verdict(refusal=refusal)
        if asking.expires and asking.expires <= now:
            return self._not_counted(asking, asker, f"This {asking.what} has expired; nothing was done.")
        decision = Decision(user=asker.user, user_name=asker.user_name, approved=approved, at=now, reason=reason)
        # asked before the transaction, since it may ask Slack: approvals of people who may no longer give them
        before = self.decisions(asking.nonce)
        former = {p for p, d in before.items() if d.approved and self._refuses(asking, d.user, now)}
        person, needed = self._policy.person(asker.user), self.needed(asking)
        verdict = Verdict()

        def take(connection: sa.Connection) -> Entry | None:
            nonlocal verdict
            if not asking.is_open(connection):
                verdict = Verdict(refusal=self._too_late(asking))
                return None
            given = _read(connection, asking.nonce)
            if not approved:
                self._write(connection, asking, person, decision)
                verdict = Verdict(tipped=asking.tip(connection, decision), needed=needed)
                return self._entry(asking, asker, "denied", reason)
            counted = {p for p, d in given.items() if d.approved and p not in former} | {person}
            if person in given and len(counted) < needed:
                verdict = Verdict(refusal=_again(given[person], len(counted), needed, asking.what))
                return None
            if person not in given:
                self._write(connection, asking, person, decision)
            tipped = len(counted) >= needed and asking.tip(connection, decision)
            verdict = Verdict(tipped=tipped, decision=decision, number=len(counted), needed=needed)
            number = f"approval {len(counted)} of {needed} of the {asking.what}" if needed > 1 else ""
            return self._entry(asking, asker, "approved", "; ".join(t for t in (number, reason) if t))

        entry = self._audit.append_if(self._key(asking, asker, "approved" if approved else "denied"), take)
        if entry is None and verdict.refusal is None:
            return Verdict(refusal="This click was taken before; nothing was done twice.")
        if verdict.refusal:
            return self._not_counted(asking, asker, verdict.refusal)
        return verdict

    def decisions(self, nonce: str) -> Mapping[str, Decision]:
        """Return what was decided about an asking so far, by person."""
        with self._engine.connect() as connection:
            return _read(connection, nonce)

    def _refuses(self, asking: Asking, user: str, now: datetime) -> str | None:
        return self._policy.refuses_approval(
            user,
            asking.plan.request,
            asking.action,
            environments_of(asking.plan),
            escalated=self._policy.escalated(asking.asked, now),
        )

    def _write(self, connection: sa.Connection, asking: Asking, person: str, decision: Decision) -> None:
        key = (tables.decisions.c.nonce == asking.nonce, tables.decisions.c.person == person)
        connection.execute(tables.decisions.delete().where(*key))  # who denies takes an approval back
        connection.execute(
            tables.decisions.insert().values(
                nonce=asking.nonce,
                person=person,
                run_id=asking.run_id,
                digest=asking.digest,
                decision=codec.dumps(decision),
            )
        )

    def _too_late(self, asking: Asking) -> str:
        found = next((d for d in self.decisions(asking.nonce).values() if not d.approved), None)
        decision = found or asking.decided()
        if decision and decision.user:
            verb = "approved" if decision.approved else "denied"
            return f"{named(decision.user)} has already {verb} this {asking.what}. Your click changed nothing."
        if decision:
            return f"Nobody decided about this {asking.what} in time. Your click changed nothing."
        state = self._ledger.standing(asking.run_id).state.value
        return f"This {asking.what} is {state}. Your click changed nothing."

    def _not_counted(self, asking: Asking, asker: Asker, sentence: str) -> Verdict:
        self._note(asking, asker, "not counted", sentence)
        return Verdict(refusal=sentence)

    def _note(self, asking: Asking, asker: Asker, kind: str, what: str) -> None:
        self._audit.append(self._key(asking, asker, kind), self._entry(asking, asker, kind, what))

    def _key(self, asking: Asking, asker: Asker, kind: str) -> str:
        return f"{asking.run_id}:{asking.nonce}:{kind}:{asker.key}"

    def _entry(self, asking: Asking, asker: Asker, kind: str, what: str) -> Entry:
        person = self._policy.person(asker.user)
        return Entry(
            kind=kind,
            who=asker.user,
            run=asking.run_id,
            digest=asking.digest,
            target=", ".join(t.name for t in asking.plan.targets),
            what=what,
            extra={"person": person} if person != asker.user else {},
        )


def _read(connection: sa.Connection, nonce: str) -> dict[str, Decision]:
    query = sa.select(tables.decisions).where(tables.decisions.c.nonce == nonce)
    return {row.person: codec.loads(Decision, row.decision) for row in connection.execute(query)}


def _again(before: Decision, number: int, needed: int, what: str) -> str:
    verb = "approved" if before.approved else "denied"
    return (
        f"You have already {verb} this {what}: {number} of {needed} approvals are there, and each must be another "
        "person's. Your click changed nothing."
    )
