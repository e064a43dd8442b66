"""Issuing: what a CA signs for a run. It is noted before it goes to a host; its key never is."""

from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa

from bot.audit import AuditLog, Entry
from bot.certificates.authorities import Authorities
from bot.clock import Clock
from bot.domain.authority import Authority
from bot.domain.errors import UserError
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
        configured = look(run_id, target) if earlier else None
        note = self.discard(run_id, target, authority, keep=configured) if configured else ""
        if configured in {one.thumbprint for one in earlier}:
            return configured, None, note
        self._audit.append(
            f"{run_id}:{target.name}:signing:{len(earlier)}",
            Entry(
                kind="began",
                run=run_id,
                target=target.name,
                digest=target.digest,
                old=target.old,
                what=f"the CA {authority.name} is asked to sign a certificate",
            ),
        )
        issued = self._authorities.issue(authority, target.name, self._clock.now())
        new = issued.details.thumbprint
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
        self._note(run_id, target.name, new, issued.serial)
        return new, issued.pfx, note

    def discard(self, run_id: str, target: TargetPlan, authority: Authority, keep: Thumbprint | None = None) -> str:
        """Have the CA revoke what it signed for a target of a run and is not in force; return a sentence for people.

        It was seen that only `keep` is in force there, or none of them. Whatever the CA says, each is told of once.
        """
        unused = [one for one in self._of(run_id, target.name) if not one.discarded and one.thumbprint != keep]
        told = []
        for one in unused:
            self._audit.append(
                f"{run_id}:{target.name}:discarding:{one.thumbprint}",
                Entry(
                    kind="began",
                    run=run_id,
                    target=target.name,
                    digest=target.digest,
                    old=one.thumbprint,
                    what=f"the CA {authority.name} is asked to revoke what it signed and nobody put in force",
                ),
            )
            what = self._revoked(authority, one.serial)
            self._audit.append(
                f"{run_id}:{target.name}:discarded:{one.thumbprint}",
                Entry(
                    kind="discarded",
                    run=run_id,
                    target=target.name,
                    digest=target.digest,
                    new=one.thumbprint,
                    what=f"signed by the CA {authority.name} and never put in force; {what}",
                ),
            )
            with self._engine.begin() as connection:
                columns = tables.issued.c
                which = (columns.run_id == run_id, columns.target == target.name)
                connection.execute(
                    tables.issued.update().where(*which, columns.thumbprint == one.thumbprint).values(discarded=True)
                )
            told.append(f"The certificate {one.thumbprint} was signed and never put in force; {what}")
        return " ".join(told)

    def _revoked(self, authority: Authority, serial: str | None) -> str:
        """Have a certificate revoked; return what became of that, as the end of a sentence."""
        if not serial:
            return "your CA may revoke it."
        try:
            self._authorities.revoke(authority.name, serial)
        except UserError as error:
            return f"it is not revoked, serial number {serial}. {error}"
        return "the CA revoked it."

    def _note(self, run_id: str, target: str, thumbprint: Thumbprint, serial: str) -> None:
        with self._engine.begin() as connection:
            at = self._clock.now().isoformat()
            values = {"run_id": run_id, "target": target, "thumbprint": thumbprint, "serial": serial, "at": at}
            insert_new(connection, tables.issued, **values)

    def _of(self, run_id: str, target: str) -> list["_Signed"]:
        """Return what was signed for a target of a run, oldest first."""
        columns = tables.issued.c
        query = sa.select(tables.issued).where(columns.run_id == run_id, columns.target == target)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(columns.at))
            return [_Signed(Thumbprint(r.thumbprint), r.serial, r.discarded) for r in rows]


class _Signed(NamedTuple):
    """One certificate that was signed for a target."""

    thumbprint: Thumbprint
    serial: str | None
    """None for those that an older version of the bot noted."""
    discarded: bool
