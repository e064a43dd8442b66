"""Issuing: what a CA signs for a run. It is noted before it goes to a host; its key never is."""

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from bot.audit import AuditLog, Entry
from bot.certificates.authorities import Authorities
from bot.clock import Clock
from bot.domain.authority import Authority
from bot.domain.plan import TargetPlan
from bot.domain.thumbprint import Thumbprint
from bot.runs import tables
from bot.runs.ledger import insert_new

Look = Callable[[str, TargetPlan], Thumbprint | None]
"""Tells what is configured on a target's host, once no other visit of the run is at work there."""


class Issuing:
    """Has certificates signed for the targets of runs."""

    def __init__(self, authorities: Authorities, engine: sa.Engine, audit: AuditLog, clock: Clock) -> None:
        self._authorities = authorities
        self._engine = engine
        self._audit = audit
        self._clock = clock

    def terms(self, name: str) -> Authority:
        """Return a CA and the terms on which it signs now; UserError if it is not known, or cannot sign."""
        return self._authorities.terms(name, self._clock.now())

    def certify(
        self, run_id: str, target: TargetPlan, authority: Authority, look: Look
    ) -> tuple[Thumbprint, bytes | None, str]:
        """Have a certificate signed; return it with its PFX, or what an interrupted visit has put there, without one.

        A key is never stored, so a visit that is begun again cannot go on with it. It is looked first what became of
        the certificates that this run had signed before: one that is in force stays, and nothing is imported on top of
        it. The third value is what people must be told, as a sentence.
        """
        earlier = self._of(run_id, target.name)
        if earlier:
            configured = look(run_id, target)
            if configured in earlier:
                return configured, None, _note_of([t for t in earlier if t != configured])
        issued = self._authorities.issue(authority, target.name, self._clock.now())
        new, note = issued.details.thumbprint, _note_of(earlier)
        self._audit.append(
            f"{run_id}:{target.name}:issued:{new}",
            Entry(
                kind="issued",
                run=run_id,
                target=target.name,
                digest=target.digest,
                old=target.old,
                new=new,
                what=f"{issued.details.subject}, signed by the CA {authority.name}, serial number {issued.serial}, "
                f"until {issued.details.not_after:%Y-%m-%d}. {note}".strip(),
            ),
        )
        self._note(run_id, target.name, new)
        return new, issued.pfx, note

    def _note(self, run_id: str, target: str, thumbprint: Thumbprint) -> None:
        with self._engine.begin() as connection:
            at = self._clock.now().isoformat()
            insert_new(connection, tables.issued, run_id=run_id, target=target, thumbprint=thumbprint, at=at)

    def _of(self, run_id: str, target: str) -> list[Thumbprint]:
        """Return what was signed for a target of a run, oldest first."""
        columns = tables.issued.c
        query = sa.select(columns.thumbprint).where(columns.run_id == run_id, columns.target == target)
        with self._engine.connect() as connection:
            return [Thumbprint(t) for t in connection.execute(query.order_by(columns.at)).scalars()]


def _note_of(unused: Sequence[Thumbprint]) -> str:
    """Return what is told of certificates that were signed and never put in force; nothing for none."""
    if not unused:
        return ""
    which = ", ".join(unused)
    return f"An interruption cost a certificate: {which} was signed and never put in force; your CA may revoke it."
