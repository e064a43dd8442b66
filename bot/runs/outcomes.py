"""Outcomes: what became of each target, stored, audited and announced, once however often a step is repeated."""

from collections.abc import Sequence
from typing import TypedDict, Unpack

import sqlalchemy as sa

from bot.audit import Entry, Make
from bot.domain.facts import Health
from bot.domain.plan import StepKind
from bot.domain.run import Outcome, OutcomeKind, StepState
from bot.domain.thumbprint import Thumbprint
from bot.runs.gear import Gear


class About(TypedDict, total=False):
    """What is told of an outcome, beside its kind."""

    what: str
    in_force: str | None
    """The thumbprint that is in use now; None where nobody knows."""
    health: Health | None
    undone: str
    now: str
    advice: str
    failed: StepKind | None


class Outcomes:
    """Writes outcomes of a run's subjects: Tentacles, and nodes of the Server."""

    def __init__(self, gear: Gear) -> None:
        self._gear = gear

    def store(
        self, run_id: str, name: str, kind: OutcomeKind, *, announce: bool = True, **about: Unpack[About]
    ) -> None:
        """Store what became of a subject; the first outcome stands. `announce` also says it in the thread."""
        self.store_all(run_id, [(name, kind, about)], announce=announce)

    def store_all(self, run_id: str, found: Sequence[tuple[str, OutcomeKind, About]], *, announce: bool = True) -> None:
        """Store what became of several subjects, in one transaction."""
        gear = self._gear
        # Outcome and entry are there both or neither, and before the message; a repeated step adds nothing.
        gear.audit.append_each(
            [(f"{run_id}:{name}:outcome", self._stored(run_id, name, kind, about)) for name, kind, about in found]
        )
        for name, kind, about in found:
            failed = about.get("failed")
            if failed and failed is not StepKind.HEALTH:
                gear.ledger.step(run_id, name, failed, StepState.ERROR, about.get("what", ""))
            if announce:
                gear.announcer.outcome(run_id, name, kind)
        if not announce:
            gear.announcer.root(run_id)

    def _stored(self, run_id: str, name: str, kind: OutcomeKind, about: About) -> Make:
        """Return what stores one outcome within a transaction."""
        gear = self._gear
        server = gear.ledger.plan(run_id).server
        node = next((n for n in server.nodes if n.name == name), None) if server else None
        target = None if node else gear.ledger.target(run_id, name)
        old = target.old if target else server.old if server else None
        subject = target or node
        assert subject is not None, f"{name} is no subject of {run_id}"
        assert old is not None
        untouched = kind in {OutcomeKind.SKIPPED, OutcomeKind.UNTOUCHED}
        what, undone, now = about.get("what", ""), about.get("undone", ""), about.get("now", "")

        def stored(connection: sa.Connection) -> Entry | None:
            seconds = 0.0
            if not untouched:
                seconds = (gear.clock.now() - gear.ledger.began(run_id, name, connection)).total_seconds()
            outcome = Outcome(
                target=name,
                kind=kind,
                old=old,
                new=old if untouched else Thumbprint.maybe(about.get("in_force")),
                health=about.get("health"),
                seconds=seconds,
                what=what,
                undone=undone,
                now=now,
                advice=about.get("advice", ""),
                failed_step=about.get("failed"),
            )
            if not gear.ledger.outcome(run_id, outcome, connection):
                return None
            return Entry(
                kind="outcome",
                run=run_id,
                target=name,
                digest=subject.digest,
                old=old,
                new=outcome.new or "",
                what=" ".join(t for t in (kind.value + ".", what, undone, now) if t),
            )

        return stored
