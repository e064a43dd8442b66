"""The planner: facts, request and policy become a plan. Pure; the same input gives the same digest."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bot.domain import codec, dangers
from bot.domain.certificate import CertificateDetails
from bot.domain.facts import WORST_FIRST, EstateIndex, Health, RecordKind, Style, TargetFacts
from bot.domain.plan import Caution, Order, Plan, Refusal, Request, Severity, Source, StepKind, TargetPlan
from bot.domain.thumbprint import Thumbprint
from bot.domain.waves import budget, in_waves
from bot.domain.windows import Schedule

CANARY_SECONDS = 60
"""What a wave costs beside its restarts: the Health task and its follow-up, about."""
AWAY_LISTENING = 20
"""About how long a listening Tentacle is away: its service stops and starts, the record is corrected."""
AWAY_POLLING = 120
"""A polling Tentacle backs off for up to two minutes (Halibut: RetryPolicy) before it comes back."""
AWAY_DOCUMENTED = 60
"""Stop first, import, start: the program's start-up times are added."""

Timing = Callable[[Sequence[str]], tuple[Schedule | None, Sequence[Caution]]]
"""Tells for environments when a plan may be carried out, and what must be told about that."""

_ACQUIRE = {True: StepKind.MAKE, False: StepKind.IMPORT}


def at_any_time(_environments: Sequence[str]) -> tuple[Schedule | None, Sequence[Caution]]:
    """Return that a plan may be carried out at any time."""
    return None, ()


def steps_for(style: Style, source: Source, order: Order) -> tuple[StepKind, ...]:
    """Return the steps of one target in their order (DESIGN: facts/rotation, "A Tentacle's own certificate")."""
    acquire = StepKind.RESTORE if source.backup else _ACQUIRE[source.is_made_on_host]
    head = (StepKind.IDLE, StepKind.BACKUP)
    if order is Order.DOCUMENTED:
        switch: tuple[StepKind, ...] = (StepKind.STOP, acquire, StepKind.START)
        tail = (StepKind.SERVED, StepKind.RECORD) if style is Style.LISTENING else (StepKind.RECORD,)
        return (*head, *switch, *tail, StepKind.HEALTH)
    if style is Style.LISTENING:
        return (*head, acquire, StepKind.RESTART, StepKind.SERVED, StepKind.RECORD, StepKind.HEALTH)
    return (*head, acquire, StepKind.RECORD, StepKind.RESTART, StepKind.HEALTH)


def decisive(facts: TargetFacts, request: Request, source: Source) -> dict[str, Any]:
    """Return what decides the steps of one target: the digest is made over it, a stale plan is explained by it.

    Left out is what always changes without deciding anything: task counts, times, health.
    """
    instance = facts.instance
    return {
        "endpoint": facts.endpoint,
        "records": {r.id: {"thumbprint": r.thumbprint, "uri": r.uri, "name": r.name} for r in facts.records},
        "other records with this thumbprint": sorted(r.id for r in facts.clones),
        "host": facts.host.address if facts.host else None,
        "instance": instance.name if instance else None,
        "configuration file": instance.config if instance else None,
        "service": instance.service if instance else None,
        "configured": facts.configured,
        "served": sorted(facts.served),
        "trusted servers": sorted(t.text for t in instance.trusted) if instance else [],
        "source": source.text,
        "new thumbprint": source.certificate.thumbprint if source.certificate else None,
        "order": request.order.value,
    } | ({"certificate authority": codec.dump(source.authority)} if source.authority else {})


def digest_of(facts: TargetFacts, request: Request, source: Source) -> str:
    """Return the digest of one target's plan as 64 hex digits."""
    return hashlib.sha256(codec.canonical(decisive(facts, request, source))).hexdigest()


def changes(before: TargetFacts, after: TargetFacts, request: Request, source: Source) -> list[str]:
    """Return what differs between two observations of what decides the steps, one sentence each."""
    old, new = decisive(before, request, source), decisive(after, request, source)
    return [f"{key}: was {_shown(old[key])}, is now {_shown(new[key])}" for key in old if old[key] != new[key]]


def _shown(value: Any) -> str:
    if value is None or value in ([], {}):
        return "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{v['name']} {v['thumbprint']}" for v in value.values())
    return ", ".join(value) if isinstance(value, list) else str(value)


def make_plan(
    request: Request,
    source: Source,
    facts: Sequence[TargetFacts],
    index: EstateIndex,
    refused: Sequence[Refusal],
    now: datetime,
    former: Mapping[str, Thumbprint] | None = None,
    *,
    own: Mapping[str, CertificateDetails] | None = None,
    notes: Sequence[str] = (),
    timing: Timing = at_any_time,
) -> Plan:
    """Make the plan of a request: refuse what is not safe, caution about the rest, order it in waves.

    `former` gives, for a roll back, the thumbprint that each target had before; `own`, for a folder of PFX files, what
    the file of each target holds (those without one are in `refused`); `notes` are for the plan as a whole;
    `timing` is asked about the environments of the targets.
    """
    refusals = list(refused)
    accepted: list[TargetFacts] = []
    sources = {f.name: replace(source, certificate=own[f.name]) if own else source for f in facts}
    users = Counter(s.certificate.thumbprint for s in sources.values() if s.certificate)
    for one in facts:
        mine = sources[one.name]
        refusal = dangers.refusal(one, request, mine, index, alone=len(facts) == 1)
        if refusal is None and mine.is_folder and mine.certificate and users[mine.certificate.thumbprint] > 1:
            refusal = Refusal(
                name=one.name,
                reason=f"the certificate {mine.certificate.thumbprint} of its PFX file is also that of another target",
                advice="Every Tentacle needs a certificate of its own: correct the files.",
            )
        if refusal:
            refusals.append(refusal)
        else:
            accepted.append(one)
    targets = tuple(
        _target_plan(one, request, sources[one.name], now, (former or {}).get(one.name)) for one in accepted
    )
    waves = waves_for(targets, request)
    failures = budget(len(targets), request.max_failures, stop_on_failure=request.stop_on_failure)
    away = {t.name: t.away_seconds for t in targets}
    seconds = sum(max(away[n] for n in wave) + CANARY_SECONDS for wave in waves)
    schedule, told = timing([e for t in targets for e in t.facts.environments])
    whole = codec.canonical(
        [[t.name, t.digest] for t in targets]
        + [list(w) for w in waves]
        + [failures]
        + ([codec.dump(schedule)] if schedule else [])
    )
    return Plan(
        request=request,
        source=source,
        targets=targets,
        waves=waves,
        refused=tuple(refusals),
        cautions=(
            *dangers.plan_cautions(accepted, source, now),
            *(Caution(severity=Severity.NOTE, text=n) for n in notes),
            *told,
        ),
        seconds=seconds,
        digest=hashlib.sha256(whole).hexdigest(),
        made=now,
        max_failures=failures,
        schedule=schedule,
    )


def _target_plan(
    facts: TargetFacts, request: Request, source: Source, now: datetime, former: Thumbprint | None
) -> TargetPlan:
    old = facts.configured
    assert old is not None, "a target without a configured thumbprint was refused"
    away = AWAY_LISTENING if facts.style is Style.LISTENING else AWAY_POLLING
    return TargetPlan(
        name=facts.name,
        facts=facts,
        steps=steps_for(facts.style, source, request.order),
        old=old,
        new=source.certificate.thumbprint if source.certificate else former,
        cautions=dangers.cautions(facts, request, source, now),
        away_seconds=away if request.order is Order.DEFAULT else max(away, AWAY_DOCUMENTED),
        digest=digest_of(facts, request, source),
        certificate=source.certificate if source.is_folder else None,
    )


def waves_for(targets: Sequence[TargetPlan], request: Request) -> tuple[tuple[str, ...], ...]:
    """Return the waves of these targets as the request wants them; a pool never loses all its workers to one wave."""
    by_name = {t.name: t for t in targets}
    return in_waves(
        list(by_name),
        canary=request.canary,
        batch=request.batch,
        together=lambda wave: _pools_survive([by_name[n] for n in wave]),
    )


def _pools_survive(wave: Sequence[TargetPlan]) -> bool:
    healthy = {p.name: p.healthy for t in wave for p in t.facts.pools}
    for t in wave:
        for record in t.facts.records:
            if record.kind is RecordKind.WORKER and record.health.is_good:
                for pool in record.pools:
                    healthy[pool] = healthy.get(pool, 0) - 1
    return all(count > 0 for count in healthy.values())


def narrowed(plan: Plan, names: Iterable[str]) -> Plan:
    """Return the plan for some of its targets only, each with its own digest unchanged: what *Retry* carries out."""
    kept = set(names)
    targets = tuple(t for t in plan.targets if t.name in kept)
    asked = plan.request
    return replace(
        plan,
        targets=targets,
        waves=waves_for(targets, asked),
        refused=(),
        max_failures=budget(len(targets), asked.max_failures, stop_on_failure=asked.stop_on_failure),
    )


def baseline(facts: TargetFacts) -> Health:
    """Return the worst health among a target's records before anything was done."""
    return min((r.health for r in facts.records), key=WORST_FIRST.index, default=Health.UNKNOWN)
