"""The inventory: what is known of each target as one row, and what deserves a look as counts. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from bot.domain.facts import WORST_FIRST, Health, TargetFacts

SOON_DAYS = 30
"""A certificate that expires sooner than this deserves a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One target; the names of the fields are the columns of the file, in their order."""

    target: str
    kind: str
    style: str
    health: str
    consistent: str
    """`yes`, `no`, or `unknown` where too few witnesses were seen."""
    differs: str
    """What the witnesses say where they do not agree: `configured A, served B, recorded C`."""
    configured: str
    served: str
    recorded: str
    expires: str
    """A date; empty where the certificate was not seen."""
    days_left: int | None
    issued: str
    algorithm: str
    signature: str
    shared_with: str
    """Targets on other endpoints with the same thumbprint: cloned certificates."""
    version: str
    spaces: str
    environments: str
    roles: str
    pools: str
    tenants: str
    disabled: str
    host: str
    not_seen: str
    """Why its host or its certificate was not seen, as a sentence."""
    is_sha1: bool
    is_weak: bool


COLUMNS = tuple(f.name for f in fields(Row) if not f.name.startswith("is_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many targets there are of each sort that people ask for."""

    targets: int
    healthy: int
    inconsistent: int
    expired: int
    expiring: int
    """Within SOON_DAYS, without those that have expired."""
    sha1: int
    weak: int
    shared: int
    unseen: int
    """Of which neither host nor certificate told all."""


def row_of(facts: TargetFacts, now: datetime) -> Row:
    """Return what is known of one target."""
    records, certificate = facts.records, facts.certificate
    consistent = {True: "yes", False: "no", None: "unknown"}[facts.consistent]
    noted = ", ".join(dict.fromkeys(r.signature_algorithm for r in records if r.signature_algorithm))
    configured, served = str(facts.configured or ""), ", ".join(facts.served)
    recorded = ", ".join(facts.recorded)
    missing = facts.host_error or facts.instance_error or ""
    if not missing and certificate is None:
        missing = next((s.error for s in facts.handshakes if s.error), "") or "nothing listens on it"
    return Row(
        target=facts.name,
        kind=" and ".join(dict.fromkeys(r.kind.value for r in records)),
        style=facts.style.value,
        health=min((r.health for r in records), key=WORST_FIRST.index, default=Health.UNKNOWN).value,
        consistent=consistent,
        differs=f"configured {configured or 'not seen'}, served {served or 'not seen'}, recorded {recorded}"
        if facts.consistent is False
        else "",
        configured=configured,
        served=served,
        recorded=recorded,
        expires=certificate.not_after.date().isoformat() if certificate else "",
        days_left=certificate.days_left(now) if certificate else None,
        issued=certificate.not_before.date().isoformat() if certificate else "",
        algorithm=f"{certificate.key_algorithm} {certificate.key_bits}" if certificate else "",
        signature=certificate.signature_hash if certificate else noted,
        shared_with=", ".join(r.name for r in facts.clones),
        version=next((r.version for r in records if r.version), "")
        or (facts.host.tentacle_version if facts.host else "")
        or "",
        spaces=_joined(r.space for r in records),
        environments=_joined(facts.environments),
        roles=_joined(x for r in records for x in r.roles),
        pools=_joined(x for r in records for x in r.pools),
        tenants=_joined(x for r in records for x in r.tenants),
        disabled="yes" if any(r.is_disabled for r in records) else "",
        host=facts.host.address if facts.host else "",
        not_seen=missing,
        is_sha1=certificate.is_sha1 if certificate else noted.casefold().startswith(("sha1", "md5")),
        is_weak=bool(certificate and certificate.is_weak),
    )


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def counts_of(rows: Sequence[Row]) -> Counts:
    """Return what deserves a look, as numbers."""
    return Counts(
        targets=len(rows),
        healthy=sum(Health(r.health).is_good for r in rows),
        inconsistent=sum(r.consistent == "no" for r in rows),
        expired=sum(r.days_left is not None and r.days_left < 0 for r in rows),
        expiring=sum(r.days_left is not None and 0 <= r.days_left < SOON_DAYS for r in rows),
        sha1=sum(r.is_sha1 for r in rows),
        weak=sum(r.is_weak for r in rows),
        shared=sum(bool(r.shared_with) for r in rows),
        unseen=sum(not r.host or (not r.expires and r.style == "listening") for r in rows),
    )


def worries(row: Row) -> list[str]:
    """Return why a row deserves a look, as short phrases; nothing for one that does not."""
    found = []
    if row.consistent == "no":
        found.append("witnesses disagree")
    if row.days_left is not None and row.days_left < 0:
        found.append(f"expired on {row.expires}")
    elif row.days_left is not None and row.days_left < SOON_DAYS:
        found.append(f"expires in {row.days_left} days")
    if row.is_sha1:
        found.append("signed with SHA-1")
    if row.is_weak:
        found.append(f"weak key ({row.algorithm})")
    if row.shared_with:
        found.append(f"same certificate as {row.shared_with}")
    if not row.host:
        found.append("host not seen")
    if not Health(row.health).is_good:
        found.append(row.health.lower())
    return found


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with most worries first, then by what expires first, then by name."""
    return sorted(rows, key=lambda r: (-len(worries(r)), r.days_left if r.days_left is not None else 99_999, r.target))
