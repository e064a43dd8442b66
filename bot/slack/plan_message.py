"""The root message of a run: the plan that an approver decides on, then the run live, then its end. Edited in place."""

from collections import Counter
from datetime import datetime

from bot.domain.authority import Authority
from bot.domain.facts import RecordKind, Style
from bot.domain.plan import Plan, Refusal, Severity, StepKind, TargetPlan
from bot.domain.run import Run, RunState
from bot.slack import guard_message, progress_message, server_message
from bot.slack.blocks import (
    Json,
    Line,
    actions,
    bold,
    bullets,
    button,
    code,
    confirm,
    context,
    emoji,
    first_fitting,
    header,
    joined,
    line,
    name,
    rich,
    room,
    say,
    spoken,
    user,
    when,
    within,
)
from bot.slack.fleet_message import FLEET
from bot.slack.message import Message
from bot.slack.text import clean, count, day, duration, escape, listed, moment, sentence
from bot.slack.witnesses import agreement, seen_lines
from bot.slack.words import (
    comes_from,
    icon_of,
    key_of,
    old_to_new,
    records_by_space,
    restarts_of,
    scheduled,
    title_of,
    titled,
    what_it_is,
)

MOST_DETAILED = 6
"""Targets that are shown with everything; more of them get fewer lines each."""
MOST_BRIEF = 16
"""Targets that are shown with a few lines each; more of them get one."""
MOST_OF_FLEET = 10
"""Targets of a fleet that are named: numbers come first, and the file in the thread has them all."""
WAY_BACK = "a failure is undone; for a day after the run “Roll back” is offered."
"""Where the easy way back ends: after a day the copies with the old keys are removed."""


def plan_posted(run: Run, *, now: datetime, rich: bool = False) -> Message:
    """Return the root message of a run in whatever state it is; `rich` uses Slack's plan blocks while it runs."""
    if run.state is RunState.PROPOSED:
        return server_message.proposed(run) if run.plan.server else _proposed(run, now)
    return progress_message.under_way_or_over(run, now=now, rich=rich)


def plan_only(plan: Plan, now: datetime | None = None) -> Message:
    """Return what `rotate` would do, with nothing to approve."""
    if plan.server:
        return server_message.plan_only(plan)
    head: list[Json | None] = [
        header(f"Plan: {title_of(plan)}"),
        rich(
            line(
                emoji("clipboard"),
                say(" This is what "),
                code("rotate"),
                say(" would do. Nothing was changed, and there is nothing to approve."),
            ),
            *([bullets(_what(plan))] if plan.targets else []),
        ),
    ]
    text = f"Plan for {titled(plan)}; nothing was changed."
    return _detailed(text, plan, head, [_footer(plan, "")])


def refusals(plan: Plan) -> Message:
    """Return why nothing of a request can be done."""
    refused = plan.refused
    title = f"Nothing to approve: {count(len(refused), 'target')} refused"
    blocks: list[Json | None] = [
        header(title),
        rich(line(emoji("no_entry"), say(" Nothing was changed."), *_asked_by(plan))),
        _refused(refused, 9_000),
    ]
    why = "; ".join(f"{escape(r.name)}: {escape(r.reason)}" for r in refused[:3])
    return first_fitting(f"{title}. {why}", [lambda: blocks])


def _asked_by(plan: Plan) -> Line:
    return [say(" Asked for by "), user(plan.request.user, plan.request.user_name), say(".")]


def _proposed(run: Run, now: datetime) -> Message:
    plan, request = run.plan, run.plan.request
    title = title_of(plan)
    status = line(
        emoji(icon_of(run)),
        say(" "),
        bold("Waiting for approval"),
        say(" until "),
        when(run.expires, "{date_short_pretty} {time}"),
        say(". Nothing is touched before that."),
    )
    head: list[Json | None] = [header(title), guard_message.proposed_head(run, status, bullets(_in_short(plan)))]
    text = (
        f"{escape(title)}: {_away(plan)}. Asked for by <@{request.user}>"
        + (f": “{escape(request.reason, 200)}”" if request.reason else "")
        + f". Somebody else can approve it until {moment(run.expires)}."
    )
    return _detailed(text, plan, head, [_decide(run), _footer(plan, run.id)])


def _away(plan: Plan) -> str:
    """Return what stops and for how long, as a phrase."""
    targets = plan.targets
    if not targets:
        return "nothing stops"
    longest = max(t.away_seconds for t in targets)
    if len(targets) == 1:
        return f"the Tentacle {restarts_of(targets[0])} and is away for about {duration(longest)}"
    shortest = min(t.away_seconds for t in targets)
    spread = f"about {duration(longest)}" if shortest == longest else f"{duration(shortest)} to {duration(longest)}"
    waves = f", in {count(len(plan.waves), 'wave')}" if len(plan.waves) > 1 else ""
    return (
        f"{len(targets)} Tentacles {'are stopped' if StepKind.STOP in targets[0].steps else 'restart'}{waves}, "
        f"each away for {spread}"
    )


def _in_short(plan: Plan) -> list[Line]:
    """Return what an approver reads in ten seconds."""
    request = plan.request
    asker: Line = [bold("Asked for by "), user(request.user, request.user_name)]
    if request.reason:
        asker += [say(": “"), say(clean(request.reason, 500)), say("”")]
    return [asker, *_what(plan)]


def _what(plan: Plan) -> list[Line]:
    """Return what stops, when and in which order, from where the certificates come, and when the run stops itself."""
    found: list[Line] = [
        [bold("What stops: "), say(sentence(_away(plan)) + f" All is done in about {duration(plan.seconds)}.")]
    ]
    if plan.schedule:
        found.append([bold("When: "), *scheduled(plan.schedule)])
    found.append([bold("New certificate: "), *_source(plan)])
    if plan.targets:
        found.append([bold("Way back: "), say(WAY_BACK)])
    if len(plan.targets) > 1:
        places = list(dict.fromkeys(e for t in plan.targets for e in t.facts.environments))
        found += [[bold("Environments: "), say(listed(places, 6))]] if places else []
        found.append([bold("Order: "), say(_waves(plan))])
        if plan.max_failures is not None:
            found.append([bold("Stops itself: "), say(_budget(plan))])
    return found


def _waves(plan: Plan) -> str:
    if len(plan.waves) <= 1:
        return "all at once, then Octopus checks their health."
    canary = len(plan.waves[0]) if len(plan.waves[0]) < len(plan.waves[1]) or len(plan.waves[0]) == 1 else 0
    sizes = [len(w) for w in plan.waves[bool(canary) :]]
    if len(sizes) > 3 and len(set(sizes[:-1])) == 1:
        then = f"{len(sizes)} waves of {sizes[0]}" + (f", the last of {sizes[-1]}" if sizes[-1] != sizes[0] else "")
    else:
        then = ", then ".join(str(n) for n in sizes[:8])
        then += f", … ({len(sizes) - 8} more waves)" if len(sizes) > 8 else ""
    first = f"{listed(plan.waves[0], 3, 60)} first and alone, then " if canary else ""
    return f"{first}{then}. Octopus checks each wave before the next begins."


def _budget(plan: Plan) -> str:
    """Return when the run stops itself."""
    most = plan.max_failures or 0
    limit = f"with more than {count(most, 'failure')}" if most else "with the first failure"
    return f"{limit}, or after a wave without any success. What it has not begun then stays as it is."


def _source(plan: Plan) -> Line:
    source, alone = plan.source, len(plan.targets) == 1
    certificate = source.certificate
    if source.authority:
        return _signed(plan, source.authority)
    if source.is_made_on_host:
        where = "on its host" if alone else "on each host"
        return [say(f"made {where}. Its key never travels, so its thumbprint is known only afterwards.")]
    if source.backup:
        return [
            say("the former one, put back from the copy that the run "),
            code(clean(source.backup, 40)),
            say(" left."),
        ]
    found: Line = [code(clean(source.text, 100))]
    if certificate:
        found += [
            say(f", {clean(certificate.subject, 200)}, issued by {clean(certificate.issuer, 200)}, "),
            say(f"valid until {day(certificate.not_after)}, "),
            say(f"{key_of(certificate)}."),
        ]
    return found


def _signed(plan: Plan, authority: Authority) -> Line:
    """Return the terms on which a CA will sign: the certificate itself is there only afterwards."""
    names = authority.names_for(plan.targets[0].name) if len(plan.targets) == 1 else authority.templates
    whose = clean(listed([names.common, *names.alternative], 4, 100), 400)
    return [
        code(clean(plan.source.text, 100)),
        say(f", signed by {clean(authority.issuer, 200)} "),
        code(authority.thumbprint),
        say(f" for {whose}, RSA {authority.key_bits} bits, valid until {day(authority.ends(plan.made))}. "),
        say("Its key is made for this and kept nowhere, so its thumbprint is known only afterwards."),
    ]


def _detailed(text: str, plan: Plan, head: list[Json | None], tail: list[Json | None]) -> Message:
    """Return the message with as much about each target as fits."""
    alone = len(plan.targets) == 1

    def one_by_one(*, full: bool) -> list[Json | None]:
        targets = [_target(t, full=full, alone=alone) for t in plan.targets]
        return [*head, _warnings(plan), *targets, _steps(plan), _refused(plan.refused, 4_000), *tail]

    def lines(*, whole: bool, cut_off: bool = True) -> list[Json | None]:
        around = [*head, _warnings(plan, 1_800), _together(plan), _steps(plan), _refused(plan.refused, 1_500), *tail]
        if len(plan.targets) > FLEET:
            every = [_one_line(t, whole=False) for t in plan.targets[:MOST_OF_FLEET]]
            every.append([say(f"… ({len(plan.targets) - MOST_OF_FLEET} more)", italic=True)])
            shown = within(every, room(around))
        else:
            every = [_one_line(t, whole=whole) for t in plan.targets]
            shown = within(every, room(around), 250) if cut_off else every
        title = line(bold(f"{count(len(plan.targets), 'target')}:"))
        listing = rich(title, *[line(*one) for one in shown]) if shown else None
        return [*around[: len(head) + 2], listing, *around[len(head) + 2 :]]

    versions = [lambda: lines(whole=True, cut_off=False), lambda: lines(whole=False)]
    if len(plan.targets) <= MOST_BRIEF:
        versions.insert(0, lambda: one_by_one(full=False))
    if len(plan.targets) <= MOST_DETAILED:
        versions.insert(0, lambda: one_by_one(full=True))
    return first_fitting(text, versions)


def _steps(plan: Plan) -> Json | None:
    """Return the steps, once for all targets that have the same."""
    same: dict[tuple[StepKind, ...], list[str]] = {}
    for target in plan.targets:
        same.setdefault(target.steps, []).append(target.name)
    lines: list[Line] = []
    for steps, names in same.items():
        whose = f" for {listed(names, 3)}" if len(same) > 1 else ""
        lines.append([bold(f"Steps{whose}: "), say(sentence(" → ".join(s.value for s in steps)))])
    return rich(*[line(*one) for one in lines]) if lines else None


def _together(plan: Plan) -> Json:
    """Return of many targets together what one by one would not fit: records, witnesses, workers, notes."""
    records = Counter(r.space for t in plan.targets for r in t.facts.records)
    spaces = listed([f"{number} in {clean(space, 60)}" for space, number in records.most_common()], 6)
    lines: list[Line] = [[bold("Records: "), say(f"{records.total()} are corrected, {spaces}.")]]
    lines.append([bold("Witnesses: "), *_all_witnesses(plan)])
    polling = sum(t.facts.style is Style.POLLING for t in plan.targets)
    if polling:
        lines.append(
            [bold("Polling: "), say(f"{polling} of {len(plan.targets)}; their witness is a fresh health check.")]
        )
    pools = {p.name: p for t in plan.targets for p in t.facts.pools}
    taken = Counter(p for t in plan.targets for p in working_in(t))
    lines += [
        [bold("Workers: "), say(f"{taken[p.name]} of the {p.healthy} healthy ones in the pool {clean(p.name, 60)}.")]
        for p in list(pools.values())[:8]
    ]
    notes = _grouped(plan, Severity.NOTE)
    return rich(bullets(lines + within([[bold("Note: "), *one] for one in notes], 1_200, 12)))


def _all_witnesses(plan: Plan) -> Line:
    odd = [t.name for t in plan.targets if not t.facts.consistent]
    if not odd:
        return [emoji("white_check_mark"), say(f" they agree for all {len(plan.targets)} targets.")]
    return [emoji("warning"), say(f" they do not agree, or too few were seen, for {listed(odd, 8)}.")]


def _grouped(plan: Plan, severity: Severity) -> list[Line]:
    """Return the cautions of all targets, each once, with the names of those that it is about."""
    same: dict[str, list[str]] = {}
    for target in plan.targets:
        for caution in target.cautions:
            if caution.severity is severity:
                same.setdefault(caution.text, []).append(target.name)
    return [[bold(f"{listed(names, 4)}: "), *spoken(sentence(text), 600)] for text, names in same.items()]


def _warnings(plan: Plan, budget: int = 3_000) -> Json | None:
    """Return what an approver must look at first; notes stand with their targets."""
    found: list[Line] = [spoken(sentence(c.text)) for c in plan.cautions]
    found += _grouped(plan, Severity.WARNING)
    if not found:
        return None
    title = line(emoji("warning"), say(" "), bold("Look at this first"))
    return rich(title, bullets(within(found, budget, 30)))


def _target(target: TargetPlan, *, full: bool, alone: bool) -> Json:
    facts = target.facts
    lines: list[Line] = [joined(records_by_space(facts), "; ")] if facts.records else []
    lines = [[bold("Records "), *lines[0]]] if lines else []
    if not alone:
        lines.append([bold("Away "), say(f"about {duration(target.away_seconds)}: its service {restarts_of(target)}.")])
    lines += [[bold("Workers "), say(text)] for text in _workers_left(target)]
    seen = agreement(facts)
    lines.append([bold("Witnesses "), *seen])
    if full:
        lines += seen_lines(facts, only_trouble=True)
        notes = [c.text for c in target.cautions if c.severity is Severity.NOTE]
        lines += [[bold("Note "), *spoken(sentence(text), 500)] for text in notes]
    else:
        notes = [c.text for c in target.cautions if c.severity is Severity.NOTE]
        if notes:
            lines.append([bold("Notes "), *spoken("; ".join(notes), 250)])
    title = line(name(target.name), say(f"  {what_it_is(facts)}"))
    change = line(
        code(target.old), say("\n→ "), code(target.new) if target.new else say(comes_from(target), italic=True)
    )
    return rich(title, change, bullets(lines))


def _one_line(target: TargetPlan, *, whole: bool) -> Line:
    away = say(f" · away {duration(target.away_seconds)}")
    if whole:
        return [name(target.name), say(" "), *old_to_new(target), away]
    new = code(target.new.short) if target.new else say(comes_from(target))
    short = clean(target.name, 40)
    return [bold(short), say(" "), code(target.old.short), say("… → "), new, away]


def _workers_left(target: TargetPlan) -> list[str]:
    """Return for each pool how many healthy workers are left while this target is away."""
    mine = working_in(target)
    return [
        f"{max(0, p.healthy - (p.name in mine))} of {p.workers} in the pool {clean(p.name, 60)} stay healthy meanwhile."
        for p in target.facts.pools[:5]
    ]


def working_in(target: TargetPlan) -> set[str]:
    """Return the pools in which a target is a healthy worker."""
    return {p for r in target.facts.records if r.kind is RecordKind.WORKER and r.health.is_good for p in r.pools}


def _refused(refused: tuple[Refusal, ...], budget: int) -> Json | None:
    if not refused:
        return None
    lines: list[Line] = [
        [
            name(r.name),
            say(": "),
            *spoken(sentence(r.reason), 700),
            say(" "),
            *(spoken(r.advice, 400) if r.advice else []),
        ]
        for r in refused
    ]
    title = line(emoji("no_entry"), say(" "), bold(f"Not touched: {count(len(refused), 'target')}"))
    return rich(title, bullets(within(lines, budget, 60)))


def _decide(run: Run) -> Json:
    value = f"{run.id}:{run.nonce}"
    plan = run.plan
    names = listed([t.name for t in plan.targets], 3, 40)
    approve = confirm(
        "Approve this plan?",
        f"{names}: {_away(plan)}. You are recorded as the approver of plan {plan.digest[:8].upper()}.",
        "Approve",
    )
    deny = confirm("Deny this plan?", f"Nothing is changed on {names}. It can be asked for again.", "Deny", danger=True)
    return actions(
        button("Approve", "approve", value, style="primary", ask=approve),
        button("Deny", "deny", value, style="danger", ask=deny),
    )


def _footer(plan: Plan, run_id: str) -> Json:
    pieces = [f"Run `{run_id}`"] if run_id else []
    pieces += [f"plan `{plan.digest[:8].upper()}`", f"looked at {moment(plan.made, '{time_secs}')}"]
    if run_id:
        pieces.append("looked at again before anything is touched")
    return context(" · ".join(pieces))
