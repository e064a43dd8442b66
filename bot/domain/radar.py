"""The radar: what a sweep of the estate found that deserves care, and what of it was not told before. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.domain.certificate import CertificateDetails
from bot.domain.facts import Health, NodeFacts, TargetFacts
from bot.domain.thumbprint import Thumbprint


class Worry(StrEnum):
    """Why a target deserves care."""

    EXPIRED = "expired"
    EXPIRING = "expires soon"
    SHA1 = "signed with SHA-1"
    WEAK = "weak key"
    DISAGREES = "witnesses disagree"
    UNREACHABLE = "out of reach"


SERVER_NAME = "Octopus Server"
SERVER = "server"
"""What stands for a record's id where a finding is about the Octopus Server."""
URGENT_FIRST = (Worry.EXPIRED, Worry.DISAGREES, Worry.UNREACHABLE, Worry.EXPIRING, Worry.SHA1, Worry.WEAK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a certificate counts as expiring."""

    days: tuple[int, ...]
    """Fewer days than the largest of these are left; crossing a smaller one is worth telling again."""
    share: float
    """And less than this share of its lifetime, so that those which are made for a month are not told of for ever."""

    def crossed(self, certificate: CertificateDetails, now: datetime) -> int | None:
        """Return the smallest number of days below which a certificate has come; None while it has time."""
        left = certificate.days_left(now)
        lifetime = (certificate.not_after - certificate.not_before).total_seconds()
        if lifetime <= 0 or (certificate.not_after - now).total_seconds() / lifetime >= self.share:
            return None
        return min((d for d in self.days if left < d), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about one target that deserves care."""

    target: str
    """Its name in Octopus at the time."""
    record: str
    """Id of its first record, which stays when it is renamed."""
    worry: Worry
    level: int = 0
    """For what expires soon, the threshold in days that it has come below."""
    expires: datetime | None = None
    detail: str = ""
    """What was seen, as a phrase."""

    @property
    def key(self) -> tuple[str, Worry]:
        """What makes it the same finding in two sweeps."""
        return self.record, self.worry


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What one look at the whole estate found."""

    id: str
    """`s-` and the time at which it was due."""
    at: datetime
    targets: int
    records: tuple[str, ...]
    """Ids of the first records of all targets: what is no longer among them has left Octopus."""
    findings: tuple[Finding, ...]
    """Urgent ones first."""
    unreadable_spaces: tuple[str, ...] = ()

    @property
    def needy(self) -> int:
        """How many targets deserve care, without the Octopus Server."""
        return len({f.record for f in self.findings} - {SERVER})

    @property
    def is_server_needy(self) -> bool:
        """Whether the Octopus Server's own certificate deserves care."""
        return any(f.record == SERVER for f in self.findings)

    def count(self, *worries: Worry) -> int:
        """Return how many targets have one of these."""
        return len({f.record for f in self.findings if f.worry in worries})


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How a sweep differs from the one that was told last."""

    new: tuple[Finding, ...]
    """Found now and not before, or come below another threshold."""
    same: tuple[Finding, ...]
    mended: tuple[Finding, ...]
    """Found before and no longer, as they were told then."""
    gone: tuple[Finding, ...]
    """Of targets that are no longer in Octopus."""

    @property
    def any(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.new or self.mended or self.gone)


def findings_of(facts: TargetFacts, thresholds: Thresholds, now: datetime) -> list[Finding]:
    """Return what deserves care about one target."""
    record, certificate = facts.records[0].id, facts.certificate
    found: list[Finding] = []

    def note(worry: Worry, detail: str = "", level: int = 0) -> None:
        expires = certificate.not_after if certificate and worry in {Worry.EXPIRED, Worry.EXPIRING} else None
        found.append(
            Finding(target=facts.name, record=record, worry=worry, level=level, expires=expires, detail=detail)
        )

    for worry, level, detail in _of_certificate(certificate, thresholds, now) if certificate else ():
        note(worry, detail, level)
    told = [r.signature_algorithm or "" for r in facts.records]
    if certificate.is_sha1 if certificate else any(t.casefold().startswith(("sha1", "md5")) for t in told):
        note(Worry.SHA1)
    if facts.consistent is False or facts.instance_error:
        note(Worry.DISAGREES, facts.instance_error or _sides(facts))
    unreachable = _unreachable(facts)
    if unreachable:
        note(Worry.UNREACHABLE, unreachable)
    return found


def _of_certificate(
    certificate: CertificateDetails, thresholds: Thresholds, now: datetime
) -> list[tuple[Worry, int, str]]:
    """Return what a certificate's dates and key are worth, SHA-1 aside: of that Octopus knows, too."""
    found = []
    level = thresholds.crossed(certificate, now)
    if certificate.not_after <= now:
        found.append((Worry.EXPIRED, 0, ""))
    elif level is not None:
        found.append((Worry.EXPIRING, level, ""))
    if certificate.is_weak:
        found.append((Worry.WEAK, 0, f"{certificate.key_algorithm} {certificate.key_bits}"))
    return found


def findings_of_server(
    thumbprint: Thumbprint, nodes: Sequence[NodeFacts], thresholds: Thresholds, now: datetime
) -> list[Finding]:
    """Return what deserves care about the Octopus Server's own certificate; `thumbprint` is what its API tells.

    A node of which nobody sees anything is out of reach; one that Octopus itself says does not run is not: whoever
    stopped it knows.
    """
    seen = [(n, s) for n in nodes for s in n.handshakes]
    certificate = next((s.certificate for _, s in seen if s.certificate), None)
    found: list[Finding] = []

    def note(worry: Worry, detail: str = "", level: int = 0) -> None:
        expires = certificate.not_after if certificate and worry in {Worry.EXPIRED, Worry.EXPIRING} else None
        found.append(
            Finding(target=SERVER_NAME, record=SERVER, worry=worry, level=level, expires=expires, detail=detail)
        )

    for worry, level, detail in _of_certificate(certificate, thresholds, now) if certificate else ():
        note(worry, detail, level)
    if certificate and certificate.is_sha1:
        note(Worry.SHA1)
    others = {f"{n.name} serves {t[:8]}" for n in nodes for t in n.served if t != thumbprint}
    others |= {
        f"{n.name} has {n.instance.stored[:8]} in its database"
        for n in nodes
        if n.instance and n.instance.stored and n.instance.stored != thumbprint
    }
    if others:
        note(Worry.DISAGREES, f"Octopus tells {thumbprint[:8]}, {', '.join(sorted(others))}")
    dark = [n.name for n in nodes if not n.served and not n.node.is_offline]
    if dark:
        note(Worry.UNREACHABLE, f"nobody sees what {' and '.join(dark)} {'serves' if len(dark) == 1 else 'serve'}")
    return found


def _sides(facts: TargetFacts) -> str:
    sides = (("configured", (facts.configured,)), ("served", facts.served), ("recorded", facts.recorded))
    return ", ".join(f"{side} {' and '.join(t[:8] for t in seen if t) or 'not seen'}" for side, seen in sides)


def _unreachable(facts: TargetFacts) -> str:
    """Return why a target is out of reach, as a phrase; empty where it is not."""
    if facts.host_error:
        return facts.host_error
    away = [r for r in facts.records if r.health is Health.UNAVAILABLE and not r.is_disabled]
    return f"Octopus does not reach {away[0].name} in {away[0].space}" if away else ""


def sweep_of(
    sweep_id: str,
    facts: Iterable[TargetFacts],
    thresholds: Thresholds,
    now: datetime,
    before: Sweep | None,
    unreadable_spaces: Sequence[str] = (),
    server: Sequence[Finding] | None = None,
) -> Sweep:
    """Return what was found. What was found `before` stays where nobody could see now whether it is mended.

    `server` is what was found about the Octopus Server, None where it could not be looked at.
    """
    every = list(facts)
    found = [f for one in every for f in findings_of(one, thresholds, now)] + list(server or ())
    keys, there = {f.key for f in found}, {one.records[0].id for one in every}
    seen = {one.records[0].id for one in every if one.certificate}
    blind = {f.record for f in found if f.worry is Worry.UNREACHABLE} - seen
    for earlier in before.findings if before else ():
        is_hidden = bool(unreadable_spaces) and earlier.record not in there and earlier.record != SERVER
        is_hidden |= earlier.record == SERVER and server is None
        is_unseen = earlier.record in blind and earlier.worry is not Worry.UNREACHABLE
        if (is_hidden or is_unseen) and earlier.key not in keys:
            found.append(earlier)
    return Sweep(
        id=sweep_id,
        at=now,
        targets=len(every),
        records=(*(one.records[0].id for one in every), *((SERVER,) if server is not None else ())),
        findings=tuple(sorted(found, key=_urgency)),
        unreadable_spaces=tuple(unreadable_spaces),
    )


def _urgency(finding: Finding) -> tuple[int, float, str]:
    expires = finding.expires.timestamp() if finding.expires else float("inf")
    return URGENT_FIRST.index(finding.worry), expires, finding.target


def compare(before: Sweep | None, now: Sweep) -> Changes:
    """Return what is new, the same, mended or gone since the sweep that was told last."""
    earlier = {f.key: f for f in before.findings} if before else {}
    current = {f.key for f in now.findings}
    new: list[Finding] = []
    same: list[Finding] = []
    for finding in now.findings:
        was = earlier.get(finding.key)
        is_worse = was is not None and finding.worry is Worry.EXPIRING and finding.level < was.level
        (new if was is None or is_worse else same).append(finding)
    over = [f for key, f in earlier.items() if key not in current]
    there = set(now.records)
    return Changes(
        new=tuple(new),
        same=tuple(same),
        mended=tuple(f for f in over if f.record in there and not _has_expired(f, current)),
        gone=tuple(f for f in over if f.record not in there and f.record != SERVER),
    )


def _has_expired(finding: Finding, current: set[tuple[str, Worry]]) -> bool:
    """Whether what would soon expire did: that is no mend."""
    return finding.worry is Worry.EXPIRING and (finding.record, Worry.EXPIRED) in current
