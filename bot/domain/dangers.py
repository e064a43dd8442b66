"""What makes a target unsafe to rotate, and what an approver must be told of the others."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, RecordKind, ServiceState, Style, TargetFacts, Trust
from bot.domain.plan import Caution, Order, Refusal, Request, Severity, Source
from bot.domain.thumbprint import Thumbprint, revealed

Say = Callable[[str], None]

SOON_DAYS = 30
"""A new certificate that expires sooner than this is worth a warning."""
_NOBODY = EstateIndex(records=())
_IDENTITY = {Style.LISTENING: "port and thumbprint", Style.POLLING: "subscription id"}


def refusal(facts: TargetFacts, request: Request, source: Source, index: EstateIndex, *, alone: bool) -> Refusal | None:
    """Return why this target must not be touched, None if it may."""
    for check in (_unseen, _clone, _unfit_host, _unfit_service, _unfit_permissions):
        found = check(facts, index)
        if found:
            return Refusal(name=facts.name, reason=found[0], advice=found[1])
    return _unfit_source(facts, source, index, alone=alone) or _unaccepted(facts, request)


def _unseen(facts: TargetFacts, index: EstateIndex) -> tuple[str, str] | None:
    if facts.host is None:
        return (
            f"its host could not be inspected: {facts.host_error or 'no answer'}",
            "Nothing can be rotated that cannot be seen. Mend the connection and ask again.",
        )
    if facts.instance is None:
        return (
            facts.instance_error or f"no Tentacle instance on {facts.host.computer} has its {_IDENTITY[facts.style]}",
            "Correct the record in Octopus, or name the right machine in a [[hosts]] entry of the configuration.",
        )
    if facts.instance.error:
        return f"its configuration could not be read: {facts.instance.error}", "Mend it on the host and ask again."
    if facts.configured is None:
        return "no certificate is configured on its host", "Give it one on the host (Tentacle new-certificate) first."
    wrong = [r for r in facts.records if r.thumbprint is None]
    if wrong:
        return f"the record {wrong[0].name} in {wrong[0].space} stores no thumbprint", "Correct it in Octopus first."
    return None


def unseen(facts: TargetFacts) -> str | None:
    """Return why nothing is known of its host and instance, as a phrase; None where both were seen and proven."""
    found = _unseen(facts, _NOBODY)
    return found[0] if found else None


def unfit(facts: TargetFacts) -> str | None:
    """Return why nothing can be done on its host, as a phrase; None where it can."""
    found = _unfit_host(facts, _NOBODY) or _unfit_service(facts, _NOBODY)
    return found[0] if found else None


def _clone(facts: TargetFacts, index: EstateIndex) -> tuple[str, str] | None:
    if not facts.clones:
        return None
    twins = ", ".join(f"{r.name} ({r.space}, {r.uri})" for r in facts.clones[:5])
    return (
        f"the same thumbprint stands on another endpoint, so it is a cloned certificate: {twins}",
        "Give each machine a certificate of its own first (Tentacle new-certificate on the clone, then its record).",
    )


def _unfit_host(facts: TargetFacts, index: EstateIndex) -> tuple[str, str] | None:
    host = facts.host
    assert host is not None
    if host.exe is None:
        return f"Tentacle.exe was not found on {host.computer}", "Repair the Tentacle's installation."
    if host.language_mode != "FullLanguage":
        return (
            f"PowerShell on {host.computer} runs in {host.language_mode}, in which the scripts cannot work",
            "Allow them in the application control policy; the README names the hash of their bootstrap.",
        )
    if not host.elevated:
        return (
            f"our account has no administrator's rights on {host.computer}",
            "Make it a local administrator; for a local account see LocalAccountTokenFilterPolicy.",
        )
    return None


def _unfit_service(facts: TargetFacts, index: EstateIndex) -> tuple[str, str] | None:
    instance = facts.instance
    assert instance is not None
    if instance.state is ServiceState.MISSING:
        return f"the service “{instance.service}” does not exist", "Install it (Tentacle service --install --start)."
    if instance.state is not ServiceState.RUNNING:
        return (
            f"its service “{instance.service}” is {instance.state.value}, not Running",
            "Start it and see it healthy first: a rotation must end where it began.",
        )
    return None


def _unfit_permissions(facts: TargetFacts, index: EstateIndex) -> tuple[str, str] | None:
    if index.unreadable_spaces:
        return (
            "the key cannot read every space, so a record of this Tentacle may be hidden: "
            + ", ".join(index.unreadable_spaces),
            "Give the bot's team MachineView, WorkerView and EnvironmentView in these spaces.",
        )
    if facts.missing_permissions:
        return (
            "the key may not do all that is needed: " + "; ".join(facts.missing_permissions),
            "All records are corrected or none, so nothing is begun. Extend the bot's team in Octopus.",
        )
    return None


def _unfit_source(facts: TargetFacts, source: Source, index: EstateIndex, *, alone: bool) -> Refusal | None:
    name = facts.name
    if source.pfx and not alone and not source.is_folder:
        return Refusal(
            name=name,
            reason=f"one PFX file ({source.pfx}) cannot serve more than one Tentacle",
            advice=(
                "Ask for one target with this PFX, use new-certificate, or give each target a file of its own: "
                "path = “…/{target}.pfx” in the configuration."
            ),
        )
    if source.authority:
        try:
            source.authority.names_for(name)
        except UserError as error:
            return Refusal(
                name=name,
                reason=str(error),
                advice="Rename it in Octopus, or correct the names in the configuration.",
            )
    new = source.certificate.thumbprint if source.certificate else None
    if new is None:
        return None
    if new == facts.configured and set(facts.recorded) == {new}:
        return Refusal(name=name, reason=f"it has this certificate already ({new})", advice="Nothing is to be done.")
    ours = {r.id for r in facts.records}
    users = [r for r in index.records if r.thumbprint == new and r.id not in ours]
    if users:
        return Refusal(
            name=name,
            reason=f"the new certificate is already in use by {users[0].name} in {users[0].space}",
            advice="Every Tentacle needs a certificate of its own.",
        )
    return None


def foreign_trust(facts: TargetFacts) -> tuple[str, ...]:
    """Return the thumbprints it trusts that are not this Server's: other Servers that have a record of it."""
    if facts.instance is None or facts.server is None:
        return ()
    others = (t.text for t in facts.instance.trusted if t.thumbprint != facts.server and not t.looks_like)
    return tuple(dict.fromkeys(others))


def other_trusts(facts: TargetFacts, ours: Collection[Thumbprint | None]) -> tuple[Trust, ...]:
    """Return the entries of its list that are none of `ours`."""
    return tuple(t for t in (facts.instance.trusted if facts.instance else ()) if t.thumbprint not in ours)


def last_worker_of(facts: TargetFacts) -> tuple[str, ...]:
    """Return the worker pools that would be left without a healthy worker while it is away."""
    mine = {p for r in facts.records if r.kind is RecordKind.WORKER and r.health.is_good for p in r.pools}
    return tuple(p.name for p in facts.pools if p.name in mine and p.healthy <= 1)


def _unaccepted(facts: TargetFacts, request: Request) -> Refusal | None:
    accepted = {a.casefold() for a in request.accept}
    for text in foreign_trust(facts):
        if f"other-server:{text[:8]}".casefold() not in accepted:
            return Refusal(
                name=facts.name,
                reason=f"it also trusts another Octopus Server ({text}), whose record of it would break",
                advice=f"If that is meant, add `--accept other-server:{text[:8]}` and correct its record there.",
            )
    for pool in last_worker_of(facts):
        if f"last-worker:{pool}".casefold() not in accepted:
            return Refusal(
                name=facts.name,
                reason=f"it is the last healthy worker of the pool {pool}",
                advice=f'If the pool may be empty for a minute, add `--accept "last-worker:{pool}"`.',
            )
    return None


def cautions(facts: TargetFacts, request: Request, source: Source, now: datetime) -> tuple[Caution, ...]:
    """Return what an approver must be told of a target that may be rotated."""
    found: list[Caution] = []

    def note(text: str) -> None:
        found.append(Caution(severity=Severity.NOTE, text=text))

    def warn(text: str) -> None:
        found.append(Caution(severity=Severity.WARNING, text=text))

    _work_in_progress(facts, note, warn)
    if len(facts.records) > 1:
        note(
            f"{len(facts.records)} records will be changed: "
            + ", ".join(f"{r.name} in {r.space}" for r in facts.records)
        )
    if facts.configured and any(t != facts.configured for t in facts.served):
        warn("the served certificate is not the configured one: a restart is pending, which this run would bring")
    certificate = facts.certificate
    if certificate and certificate.is_sha1:
        note("the present certificate is signed with SHA-1, which Octopus refuses since 2025.3")
    if facts.style is Style.POLLING:
        note(
            "polling: there is no handshake to look at, a fresh health check is its witness; "
            "it may take two minutes to return"
        )
    elif not facts.served:
        warn("the served certificate could not be seen from anywhere; only the health check will be a witness")
    else:
        blind = [s for s in facts.handshakes if s.thumbprint is None]
        for sighting in blind:
            note(f"no witness from {sighting.place}: {sighting.error or 'nothing was seen'}")
    if facts.host and facts.host.watchdog:
        note("Octopus's watchdog runs on the host and starts stopped Tentacles")
    if request.order is Order.DOCUMENTED:
        warn(
            "documented order: the service is stopped before the import, so it is away longer, "
            "and a failed import costs an outage"
        )
    for text in foreign_trust(facts):
        warn(
            f"acknowledged: the other Server that it trusts ({text}) will refuse it until its record there is corrected"
        )
    for entry in facts.instance.trusted if facts.instance else ():
        if entry.looks_like:
            warn(f"its list has the entry {entry.shown}, which is no thumbprint to Octopus and lets nobody in")
    for record in facts.records:
        if record.stored and record.thumbprint:
            warn(
                f"{record.name} in {record.space} stores {revealed(record.stored)}, which to Octopus is not "
                f"{record.thumbprint}; this run puts it right"
            )
    for pool in last_worker_of(facts):
        warn(f"acknowledged: the pool {pool} has no healthy worker while this one is away")
    disabled = [r for r in facts.records if r.is_disabled]
    if disabled:
        note("disabled in Octopus: " + ", ".join(r.name for r in disabled))
    bad = [r for r in facts.records if not r.health.is_good]
    if bad:
        warn("not healthy before the run: " + ", ".join(f"{r.name} in {r.space} is {r.health.value}" for r in bad))
    if source.is_folder and source.certificate and source.certificate.days_left(now) < SOON_DAYS:
        warn(f"its new certificate expires in {source.certificate.days_left(now)} days")
    if source.backup:
        warn(f"this puts back the certificate that was in force before the run {source.backup}")
    return tuple(found)


def _work_in_progress(facts: TargetFacts, note: Say, warn: Say) -> None:
    certain = [t for t in facts.tasks if t.certain and t.start is None]
    scheduled = [t for t in facts.tasks if t.start is not None]
    unsure = [t for t in facts.tasks if not t.certain]
    if certain:
        warn("work is in progress and will be waited for: " + "; ".join(t.description or t.name for t in certain[:3]))
    if scheduled:
        warn("scheduled soon: " + "; ".join(t.description or t.name for t in scheduled[:3]))
    if unsure:
        note(
            f"{len(unsure)} tasks run that may or may not use this worker; "
            "its child processes are looked at before the restart"
        )
    if facts.instance and facts.instance.children:
        warn("programs run under the Tentacle: " + ", ".join(facts.instance.children[:3]))


def plan_cautions(facts: Sequence[TargetFacts], source: Source, now: datetime) -> tuple[Caution, ...]:
    """Return what an approver must be told of the plan as a whole."""
    certificate, authority = source.certificate, source.authority
    if facts and authority and authority.is_cut_short(now):
        text = f"the CA itself ends on {authority.until:%Y-%m-%d}, so the new certificates do, too"
        return (Caution(severity=Severity.WARNING, text=text),)
    if certificate is None or source.backup or not facts:
        return ()
    left = certificate.days_left(now)
    if left < SOON_DAYS:
        return (Caution(severity=Severity.WARNING, text=f"the new certificate expires in {left} days"),)
    return ()
