"""The planner of the Server's rotation: who must trust the new certificate, who cannot, in which order. Pure.

Trust first, switch second, clean up last (DESIGN: facts/rotation, "The Server's certificate").
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bot.domain import codec, dangers
from bot.domain.by_hand import by_hand_of, other_by_hand, own_entries, version_of
from bot.domain.errors import UserError
from bot.domain.facts import NodeFacts, ServerFacts, ServiceState, Style, TargetFacts, Trust
from bot.domain.plan import (
    ByHand,
    Caution,
    NodePlan,
    Order,
    Plan,
    Request,
    ServerPlan,
    Severity,
    Source,
    StepKind,
    TargetPlan,
)
from bot.domain.planner import Timing, at_any_time, waves_for
from bot.domain.thumbprint import Thumbprint

AWAY_NODE = 60
"""About how long a node of the Server is away when it restarts, in seconds."""
AWAY_TRUST = 20
"""About how long a listening Tentacle is away when it restarts, in seconds."""
AWAY_FOLLOW = 120
"""A polling Tentacle backs off for up to two minutes (Halibut: RetryPolicy) before it comes back."""
WAVE_SECONDS = 30
"""What a wave costs beside the restarts, about."""
OLDEST_SERVER = (3, 2, 9)
"""Since when the Server imports certificates (docs: octopus.server.exe import-certificate)."""
NODE = "node "
"""How the names of nodes begin, among the names of Tentacles."""


def make_server_plan(
    request: Request,
    source: Source,
    facts: ServerFacts,
    now: datetime,
    *,
    former: Thumbprint | None = None,
    timing: Timing = at_any_time,
) -> Plan:
    """Make the plan of the Server's rotation; UserError, naming all of it, where it cannot be done at all.

    `former` is, for a roll back, the thumbprint that the Server had before. `timing` is that of `make_plan`; it is
    asked about the environments of all Tentacles, for each of them restarts.
    """
    problems = _problems(source, facts)
    if problems:
        raise UserError(f"The Server's certificate cannot be rotated now: {'; '.join(problems)}. Nothing was done.")
    old = facts.thumbprint
    new = source.certificate.thumbprint if source.certificate else former
    by_hand: list[ByHand] = [other_by_hand(o) for o in facts.others]
    ours: list[TargetFacts] = []
    for one in facts.tentacles:
        hands = by_hand_of(one, old, new)
        if hands:
            by_hand.append(hands)
        else:
            ours.append(one)
    targets = [_target_plan(t, request, old, new, polled=registrations(ours)) for t in ours]
    running = [n for n in facts.nodes if not n.node.is_offline]
    nodes = tuple(_node_plan(n, request, source, old, new, first=i == 0) for i, n in enumerate(running))
    server = ServerPlan(
        old=old,
        new=new,
        version=facts.version,
        nodes=nodes,
        offline=tuple(n.name for n in facts.nodes if n.node.is_offline),
        by_hand=tuple(sorted(by_hand, key=lambda h: (not h.is_lost, h.hands, h.name))),
        trust_waves=waves_for([t for t in targets if t.facts.style is Style.LISTENING], request),
        follow_waves=waves_for([t for t in targets if t.facts.style is Style.POLLING], request),
        known=tuple(r.id for t in facts.tentacles for r in t.records),
        clones=clones_of(facts.tentacles, old),
        accepted_lost=accepted_lost(request),
    )
    parts = [[n.name, n.digest] for n in nodes] + [[t.name, t.digest] for t in targets]
    whole = [parts, [list(w) for w in server.trust_waves + server.follow_waves]]
    lost = [h.name for h in server.lost]
    schedule, told = timing([e for t in targets for e in t.facts.environments])
    when = [codec.dump(schedule)] if schedule else []
    decisive = [whole, lost, old, new, source.text, request.order.value, *when]
    digest = hashlib.sha256(codec.canonical(decisive)).hexdigest()
    plan = Plan(
        request=request,
        source=source,
        targets=tuple(targets),
        waves=server.trust_waves + server.follow_waves,
        refused=(),
        cautions=(),
        seconds=_seconds(server, request.order),
        digest=digest,
        made=now,
        max_failures=0 if request.stop_on_failure else request.max_failures,
        server=server,
        schedule=schedule,
    )
    return replace(plan, cautions=(*_cautions(plan, facts, now), *told))


def refusal_of_lost(server: ServerPlan) -> str | None:
    """Return why the switch may not be approved because of machines that it would lose; None if it may."""
    lost = len(server.lost)
    if lost <= server.accepted_lost:
        return None
    names = ", ".join(h.name for h in server.lost[:5]) + (f" and {lost - 5} more" if lost > 5 else "")
    return (
        f"The switch would lose {lost} of the Server's machines, because I cannot make them trust the new certificate: "
        f"{names}. Make them reachable and ask again, or accept that somebody runs a command on each: add "
        f"`--accept lost:{lost}`."
    )


def accepted_lost(request: Request) -> int:
    """Return how many machines the requester accepted to lose, by `--accept lost:N`."""
    found = [re.fullmatch(r"lost:(\d{1,5})", a.strip().casefold()) for a in request.accept]
    return max((int(f[1]) for f in found if f), default=0)


def _problems(source: Source, facts: ServerFacts) -> list[str]:
    """Return everything that stands in the way of the whole rotation, as phrases."""
    found: list[str] = []
    if facts.unreadable_spaces:
        found.append(
            "the key cannot read every space, so Tentacles may be hidden: " + ", ".join(facts.unreadable_spaces)
        )
    if version_of(facts.version) < OLDEST_SERVER:
        found.append(f"version {facts.version} of the Server cannot import a certificate")
    running = [n for n in facts.nodes if not n.node.is_offline]
    if not running:
        found.append("no node of the Server runs")
    found += [f"the node {n.name} {why}" for n in running if (why := _unfit_node(n, facts.thumbprint))]
    new = source.certificate.thumbprint if source.certificate else None
    if new == facts.thumbprint:
        found.append(f"the Server has this certificate already ({new})")
    used = next((r for t in facts.tentacles for r in t.records if new and r.thumbprint == new), None)
    if used:
        found.append(f"the new certificate is the one of the Tentacle {used.name} in {used.space}")
    return found


def _unfit_node(node: NodeFacts, expected: Thumbprint) -> str | None:
    """Return why the Server's certificate cannot be replaced on a node, as a phrase."""
    if node.host is None:
        return f"could not be inspected: {node.host_error or 'no answer'}"
    instance = node.instance
    if instance is None:
        return node.instance_error or "has no Octopus Server instance on its host"
    if instance.error:
        return f"could not be read: {instance.error}"
    if node.host.language_mode != "FullLanguage":
        return f"runs PowerShell in {node.host.language_mode}, in which the scripts cannot work"
    if not node.host.elevated:
        return "gives our account no administrator's rights"
    if instance.state is not ServiceState.RUNNING:
        return f"has its service “{instance.service}” {instance.state.value}, not Running"
    if instance.stored is None:
        return (
            "does not tell its certificate to our account "
            f"({instance.stored_error or 'the program said nothing'}); a database with integrated security may refuse "
            "a remote log-on"
        )
    if instance.stored != expected:
        return f"has the certificate {instance.stored}, but the API tells {expected}: is a restart pending?"
    return None


def steps_for_tentacle(style: Style, order: Order) -> tuple[StepKind, ...]:
    """Return the steps by which a Tentacle comes to trust the Server's new certificate."""
    change = StepKind.TRUST if style is Style.LISTENING else StepKind.FOLLOW
    if order is Order.DOCUMENTED:
        switch: tuple[StepKind, ...] = (StepKind.STOP, change, StepKind.START)
    else:
        switch = (change, StepKind.RESTART)
    if style is Style.POLLING:
        return (StepKind.IDLE, *switch, StepKind.HEALTH)
    return (StepKind.IDLE, *switch, StepKind.TRUSTING, StepKind.HEALTH, StepKind.UNTRUST)


def steps_for_node(source: Source, order: Order, *, first: bool) -> tuple[StepKind, ...]:
    """Return the steps of one node; the certificate is imported once, on the first one."""
    adopt = StepKind.RESTORE if source.backup else StepKind.ADOPT
    head = (StepKind.EXPORT, StepKind.DRAIN) if first else (StepKind.DRAIN,)
    middle = (adopt,) if first else ()
    if order is Order.DOCUMENTED:
        return (*head, StepKind.STOP, *middle, StepKind.START, StepKind.SERVED, StepKind.UNDRAIN)
    return (*head, *middle, StepKind.RESTART, StepKind.SERVED, StepKind.UNDRAIN)


def decisive_of_target(facts: TargetFacts, order: Order, old: Thumbprint, new: Thumbprint | None) -> dict[str, Any]:
    """Return what decides a Tentacle's steps; that it trusts the new certificate already does not."""
    instance = facts.instance
    trusted = [t for t in instance.trusted if t.thumbprint != new] if instance else []
    return {
        "endpoint": facts.endpoint,
        "records": sorted(r.id for r in facts.records),
        "host": facts.host.address if facts.host else None,
        "instance": instance.name if instance else None,
        "configuration file": instance.config if instance else None,
        "service": instance.service if instance else None,
        "trusted servers": sorted(f"{t.text} {t.style} {t.address or ''}" for t in trusted),
        "old thumbprint of the Server": old,
        "new thumbprint of the Server": new,
        "order": order.value,
    }


def digest_of_target(facts: TargetFacts, order: Order, old: Thumbprint, new: Thumbprint | None) -> str:
    """Return the digest of one Tentacle's part as 64 hex digits."""
    return _digest(decisive_of_target(facts, order, old, new))


def decisive_of_node(facts: NodeFacts, source: Source, order: Order) -> dict[str, Any]:
    """Return what decides a node's steps."""
    instance = facts.instance
    return {
        "node": facts.node.id,
        "host": facts.host.address if facts.host else None,
        "instance": instance.name if instance else None,
        "service": instance.service if instance else None,
        "certificate in the database": instance.stored if instance else None,
        "source": source.text,
        "order": order.value,
    }


def digest_of_node(facts: NodeFacts, source: Source, order: Order) -> str:
    """Return the digest of one node's part as 64 hex digits."""
    return _digest(decisive_of_node(facts, source, order))


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(codec.canonical(value)).hexdigest()


def registrations(tentacles: Iterable[TargetFacts]) -> frozenset[str]:
    """Return by which subscriptions these Tentacles poll the Server."""
    return frozenset(
        t.subscription for f in tentacles if f.style is Style.POLLING for t in own_entries(f) if t.subscription
    )


def clones_of(tentacles: Sequence[TargetFacts], old: Thumbprint) -> tuple[str, ...]:
    """Return where Tentacles poll by this certificate, but under no subscription that this Server knows."""
    known = {r.uri.rstrip("/").casefold() for f in tentacles for r in f.records}
    polled = [t for f in tentacles if f.instance for t in f.instance.trusted if t.address]
    ours = {t.address for t in polled if _name_of(t) in known}
    return tuple(sorted({t.address or "" for t in polled if t.thumbprint == old and t.address not in ours}))


def _name_of(trust: Trust) -> str:
    return (trust.subscription or "").rstrip("/").casefold()


def keeps_old_trust(facts: TargetFacts, old: Thumbprint, polled: frozenset[str]) -> bool:
    """Whether a polling entry of a listening Tentacle carries the old thumbprint and none of `polled` moves it on.

    To remove the old trust would cost that registration.
    """
    trusted = facts.instance.trusted if facts.instance else ()
    return any(t.style is Style.POLLING and t.thumbprint == old and t.subscription not in polled for t in trusted)


def _target_plan(
    facts: TargetFacts, request: Request, old: Thumbprint, new: Thumbprint | None, *, polled: frozenset[str]
) -> TargetPlan:
    listening = facts.style is Style.LISTENING
    return TargetPlan(
        name=facts.name,
        facts=facts,
        steps=steps_for_tentacle(facts.style, request.order),
        old=old,
        new=new,
        cautions=_target_cautions(facts, old, polled),
        away_seconds=AWAY_TRUST if listening else AWAY_FOLLOW,
        digest=digest_of_target(facts, request.order, old, new),
    )


def _node_plan(
    node: NodeFacts, request: Request, source: Source, old: Thumbprint, new: Thumbprint | None, *, first: bool
) -> NodePlan:
    return NodePlan(
        name=NODE + node.name,
        facts=node,
        steps=steps_for_node(source, request.order, first=first),
        digest=digest_of_node(node, source, request.order),
    )


def _target_cautions(facts: TargetFacts, old: Thumbprint, polled: frozenset[str]) -> tuple[Caution, ...]:
    found: list[Caution] = []
    instance = facts.instance
    if instance and old not in {t.thumbprint for t in instance.trusted}:
        odd = next((t.shown for t in instance.trusted if t.looks_like == old), "")
        text = "it does not trust the Server's present certificate" + (f": its list has {odd}" if odd else "")
        found.append(Caution(severity=Severity.WARNING, text=text))
    if facts.style is Style.LISTENING and keeps_old_trust(facts, old, polled):
        text = "it also polls with the old certificate, so its old trust will not be removed by us"
        found.append(Caution(severity=Severity.WARNING, text=text))
    if instance and instance.children:
        text = "programs run under the Tentacle: " + ", ".join(instance.children[:3])
        found.append(Caution(severity=Severity.WARNING, text=text))
    bad = [r for r in facts.records if not r.health.is_good]
    if bad:
        found.append(Caution(severity=Severity.WARNING, text=f"not healthy before the run: {bad[0].health.value}"))
    return tuple(found)


def _cautions(plan: Plan, facts: ServerFacts, now: datetime) -> tuple[Caution, ...]:
    """Return what an approver must know of the rotation as a whole."""
    server, request = plan.server, plan.request
    assert server is not None
    found: list[Caution] = []

    def note(text: str) -> None:
        found.append(Caution(severity=Severity.NOTE, text=text))

    def warn(text: str) -> None:
        found.append(Caution(severity=Severity.WARNING, text=text))

    polling = [t for t in plan.targets if t.facts.style is Style.POLLING]
    if request.order is Order.DOCUMENTED:
        warn(
            "documented order: the Server switches first, and every Tentacle is lost until it was visited after that; "
            f"the last one for about {_minutes(plan.seconds)}"
        )
    elif polling:
        warn(
            f"{len(polling)} polling Tentacles cannot trust two certificates: they are away from the switch until they "
            "have followed, and the nodes take no tasks meanwhile"
        )
    if server.lost:
        warn(f"{len(server.lost)} machines are lost at the switch unless somebody runs a command on each")
    if server.clones:
        warn(
            f"Tentacles poll another Server by this certificate, a restored copy perhaps ({', '.join(server.clones)}); "
            "the old trust is not removed while it serves that"
        )
    if server.offline:
        warn(
            f"nodes that do not run now: {', '.join(server.offline)}; the old trust is not removed before they have "
            "started with the new certificate"
        )
    if len(server.nodes) == 1:
        note("one node: portal and API are away for about a minute while it restarts; that is expected and waited for")
    running = sum(n.node.running_tasks for n in facts.nodes)
    if running:
        note(f"{running} tasks run now; each node is drained and its tasks are waited for, none is cancelled")
    if facts.scheduled:
        names = _some([t.description or t.name for t in facts.scheduled])
        warn(f"scheduled to begin within the hour: {names}; no node begins any while it is drained")
    others = {t.text for one in plan.targets for t in dangers.other_trusts(one.facts, {server.old, server.new})}
    if others:
        note(f"other Servers that some of the Tentacles trust, too: {_some(sorted(others))}; these entries stay")
    note("each listening Tentacle restarts twice: once to trust the new certificate, once to forget the old one")
    certificate = plan.source.certificate
    if certificate and not plan.source.backup and certificate.days_left(now) < dangers.SOON_DAYS:
        warn(f"the new certificate expires in {certificate.days_left(now)} days")
    return tuple(found)


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _seconds(server: ServerPlan, order: Order) -> int:
    trust = len(server.trust_waves) * (AWAY_TRUST + WAVE_SECONDS)
    follow = len(server.follow_waves) * (AWAY_FOLLOW + WAVE_SECONDS)
    return trust + follow + len(server.nodes) * AWAY_NODE + WAVE_SECONDS


def _minutes(seconds: int) -> str:
    return f"{max(1, round(seconds / 60))} min"
