"""Messages of a rotation of the Server's certificate: the plan, and the replies that go with its phases.

While it runs and when it is over, the root message is that of every run (`progress_message`).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from bot.domain.by_hand import command_of
from bot.domain.facts import Style
from bot.domain.plan import ByHand, Hands, Order, Plan, ServerPlan, Severity
from bot.domain.run import Run
from bot.domain.thumbprint import Thumbprint
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
    line,
    link,
    message,
    name,
    preformatted,
    rich,
    say,
    spoken,
    user,
    when,
    within,
)
from bot.slack.guard_message import proposed_head
from bot.slack.message import Message
from bot.slack.text import clean, count, duration, escape, listed, moment, sentence
from bot.slack.words import SERVER_TITLE as TITLE
from bot.slack.words import key_of, scheduled, title_of

NOT_HTTPS = (
    "This is the certificate by which the Server and its Tentacles know each other, not the one of the portal's HTTPS."
)
NEW_UNKNOWN = "NEW-THUMBPRINT"
"""Stands in commands until the Server has made its certificate."""
_MOST_NAMED = 8
_WHERE = {
    Hands.LISTENING: "run this, best before the switch, in an administrator's shell on",
    Hands.LINUX_LISTENING: "run this, best before the switch, on",
    Hands.POLLING: "run this after the switch, not before, in an administrator's shell on",
    Hands.LINUX_POLLING: "run this after the switch, not before, on",
    Hands.KUBERNETES: "run this after the switch, not before, where kubectl reaches the cluster of",
    Hands.NONE: "nothing is to be run on",
}
"""Two trusts fit into a listening Tentacle's list; what polls can trust one only and is cut off by the other."""


def proposed(run: Run) -> Message:
    """Return the plan on which an approver decides: numbers first, lists on demand."""
    plan = run.plan
    server = _server(plan)
    status = line(
        emoji("hourglass_flowing_sand"),
        say(" "),
        bold("Waiting for approval"),
        say(" until "),
        when(run.expires, "{date_short_pretty} {time}"),
        say(". Nothing is touched before that."),
    )
    head: list[Json | None] = [header(title_of(plan)), proposed_head(run, status, bullets(_in_short(plan, server)))]
    text = (
        f"{title_of(plan)}: {_numbers_text(plan, server)} Asked for by <@{plan.request.user}>"
        + (f": “{escape(plan.request.reason, 200)}”" if plan.request.reason else "")
        + f". Somebody else can approve it until {moment(run.expires)}."
    )
    return _plan(text, plan, head, [_decide(run), _footer(plan, run.id)])


def plan_only(plan: Plan) -> Message:
    """Return what `rotate server` would do, with nothing to approve."""
    server = _server(plan)
    status = line(
        emoji("clipboard"),
        say(" This is what "),
        code("rotate server"),
        say(" would do. Nothing was changed, and there is nothing to approve."),
    )
    head: list[Json | None] = [header(f"Plan: {TITLE}"), rich(status, bullets(_in_short(plan, server)))]
    return _plan(f"Plan: {TITLE}; nothing was changed.", plan, head, [_footer(plan, "")])


def refused(plan: Plan, why: str) -> Message:
    """Return why the switch may not be approved, with the machines that stand in its way and what would help."""
    server = _server(plan)
    status = line(emoji("no_entry"), say(" "), bold("Nothing to approve. "), *spoken(why, 900))
    head: list[Json | None] = [header(f"Not yet: {TITLE}"), rich(status)]
    return _plan(f"{TITLE}: nothing to approve. {escape(why, 600)}", plan, head, [_hands(server), _footer(plan, "")])


def machines(run: Run, new: Thumbprint | None) -> Message:
    """Return the lists behind the numbers: who trusts in which wave, who needs hands, and by which command."""
    plan = run.plan
    server = _server(plan)
    lines: list[Line] = []
    for title, waves in (("Trust", server.trust_waves), ("Follow", server.follow_waves)):
        for number, wave in enumerate(waves, 1):
            lines.append([bold(f"{title}, wave {number}: "), say(listed(list(wave), 40, 40))])
    shown = within(lines, 4_000, 60)
    blocks: list[Json | None] = [
        header("Machines of this plan"),
        rich(bullets(shown)) if shown else None,
        *_commands(server, new or NEW_UNKNOWN, 5_500),
    ]
    return first_fitting(f"Machines of the plan {run.id}.", [lambda: blocks])


def made(run: Run, new: Thumbprint, nonce: str, expires: datetime | None = None) -> Message:
    """Return the thumbprint of the certificate that the Server made, and the buttons of its approval."""
    server = _server(run.plan)
    value = f"{run.id}:{nonce}"
    ask = confirm(
        "Approve this certificate?",
        f"The Tentacles will be made to trust {new}, and the Server will use it. Compare it before you press.",
        "Approve",
    )
    deny = confirm("Deny it?", "The run ends here. The Server keeps its certificate.", "Deny", danger=True)
    head = line(
        emoji("key"),
        say(" The Server made a new certificate and does not use it yet. "),
        bold("Nothing else has happened."),
        say(" It needs an approval of its own before any Tentacle is told of it."),
    )
    change = line(code(server.old), say("\n→ "), code(new))
    buttons = actions(
        button("Approve", "approve", value, style="primary", ask=ask),
        button("Deny", "deny", value, style="danger", ask=deny),
    )
    until = f", until {moment(expires)}" if expires else ""
    note = context(f"It lies in a protected folder on {escape(server.nodes[0].facts.name)}{until}.")
    text = f"The Server made the certificate `{new}`; it needs an approval of its own before anything else happens."
    return message(text, [rich(head, change), buttons, note])


def switched(run: Run, new: Thumbprint, printed: tuple[Thumbprint, Thumbprint] | None = None) -> Message:
    """Return that every node serves the new certificate, and what people must run now elsewhere.

    `printed` are the old and the new thumbprint by the import's own word; what is served was seen in handshakes.
    """
    server = _server(run.plan)
    nodes = listed([n.facts.name for n in server.nodes], 8)
    serve = "serves" if len(server.nodes) == 1 else "serve"
    polling = sum(len(w) for w in server.follow_waves)
    head = line(emoji("white_check_mark"), say(" "), bold("The Server has switched. "), say(f"{nodes} {serve} it now."))
    parts = [head, line(code(server.old), say("\n→ "), code(new))]
    if printed:
        parts.append(line(say("The import said "), code(printed[0]), say(" → "), code(printed[1]), say(".")))
    if polling:
        parts.append(line(say(f"{count(polling, 'polling Tentacle')} follow now.")))
    text = f"The Server has switched: `{server.old}` → `{new}`."
    return first_fitting(text, [lambda: [rich(*parts), *_commands(server, new, 7_000)]])


def away(name: str) -> Message:
    """Return that nobody can work with Octopus while its one node restarts."""
    text = f"Portal and API are away while {clean(name, 100)} restarts. That is expected, and waited for."
    return message(escape(text, 300), [rich(line(emoji("hourglass_flowing_sand"), say(f" {text}")))])


def clean_up(run: Run, names: int, nonce: str) -> Message:
    """Return the question whether the old trust may be removed."""
    server = _server(run.plan)
    value = f"{run.id}:{nonce}"
    not_proven = sum(o.kind.value != "healthy" for o in run.outcomes)
    ask = confirm(
        "Remove the old trust?",
        f"{count(names, 'Tentacle')} forget {server.old.short}… and restart once more. Afterwards the Server cannot "
        "go back to its old certificate without losing them.",
        "Remove",
    )
    deny = confirm("Keep the old trust?", "The run ends here; the Tentacles go on trusting both.", "Keep", danger=True)
    parts = [
        line(
            emoji("broom"),
            say(" "),
            bold("Clean up? "),
            say(
                f"{count(names, 'listening Tentacle')} proved healthy with the new certificate and still trust the old "
            ),
            say("one, too. Whoever has the old key could command them. Removing it restarts each once more."),
        )
    ]
    if not_proven:
        parts.append(
            line(
                emoji("warning"),
                say(f" Not proven healthy: {count(not_proven, 'machine')}. There the old trust is kept in any case."),
            )
        )
    parts.append(
        line(say("This needs an approval of its own and may wait for days. Until then the Server can go back."))
    )
    buttons = actions(
        button("Remove the old trust", "approve", value, style="primary", ask=ask),
        button("Keep it", "deny", value, style="danger", ask=deny),
    )
    text = f"{count(names, 'Tentacle')} still trust the old certificate `{server.old}`, too. May it be removed?"
    return message(text, [rich(*parts), buttons])


def not_yet(why: str) -> Message:
    """Return why the old trust cannot be removed yet."""
    text = f"The old trust was not removed: {escape(why, 800)}. Mend it and press again."
    elements = [emoji("no_entry"), say(" "), bold("Not yet. "), *spoken(sentence(why), 1_200)]
    return message(text, [rich(line(*elements, say(" Nothing was changed. Mend it and press again below.")))])


def cleaned(run: Run, done: Sequence[str], left: Sequence[str]) -> Message:
    """Return whose old trust was removed."""
    server = _server(run.plan)
    icon = "warning" if left else "white_check_mark"
    parts = [
        line(
            emoji(icon), say(f" {count(len(done), 'Tentacle')} no longer trust the old certificate "), code(server.old)
        )
    ]
    if left:
        parts.append(line(say(f"Not done: {listed(list(left), 10)}. They go on trusting both; ask again later.")))
    return message(f"The old trust was removed from {count(len(done), 'Tentacle')}.", [rich(*parts)])


def asks_on(why: str) -> Message:
    """Return that the run pauses, why, and that people decide how it goes on."""
    text = f"The run pauses: {escape(why, 800)}. Press Resume to try again, or Stop."
    elements = [emoji("double_vertical_bar"), say(" "), bold("The run pauses. "), *spoken(sentence(why), 1_200)]
    more = say(" Press Resume on the run's message to try again, or Stop. Nothing happens until then.")
    return message(text, [rich(line(*elements, more))])


def note(what: str) -> Message:
    """Return one sentence about something that went wrong beside the run's main way."""
    return message(escape(what, 1_500), [rich(line(emoji("warning"), say(" "), *spoken(sentence(what), 1_500)))])


def looked_again(run: Run, problems: Sequence[str]) -> Message:
    """Return what was found a day after the switch: whether somebody put old thumbprints back."""
    if not problems:
        text = (
            "A day after the switch all is as it should be: every node and Tentacle still goes by the new certificate."
        )
        return message(text, [rich(line(emoji("white_check_mark"), say(f" {text}")))])
    head = line(
        emoji("warning"),
        say(" "),
        bold("A day after the switch something is as before. "),
        say("A tool that manages configurations or images (DSC, Chef, Terraform) may put old thumbprints back."),
    )
    lines: list[Line] = [spoken(sentence(p), 400) for p in problems]
    text = f"A day after the switch {count(len(problems), 'thing')} went back: {escape(problems[0], 300)}"
    return first_fitting(text, [lambda: [rich(head, bullets(within(lines, 8_000, 60)))]])


# --- pieces ---------------------------------------------------------------------------------------------------------


def _server(plan: Plan) -> ServerPlan:
    assert plan.server is not None, "a message about the Server for a run that does not rotate it"
    return plan.server


def _plan(text: str, plan: Plan, head: list[Json | None], tail: list[Json | None]) -> Message:
    def whole(*, brief: bool) -> list[Json | None]:
        server = _server(plan)
        return [*head, _warnings(plan), _nodes(server), None if brief else _spaces(plan), *tail]

    return first_fitting(text, [lambda: whole(brief=False), lambda: whole(brief=True)])


def _numbers(plan: Plan, server: ServerPlan) -> tuple[int, int, int, int]:
    listening = sum(t.facts.style is Style.LISTENING for t in plan.targets)
    return listening, len(plan.targets) - listening, len(server.lost), len(server.by_hand) - len(server.lost)


def _numbers_text(plan: Plan, server: ServerPlan) -> str:
    listening, polling, lost, _ = _numbers(plan, server)
    hands = f", {lost} need hands" if lost else ""
    return f"{count(len(server.nodes), 'node')}, {listening} listening and {polling} polling Tentacles{hands}."


def _in_short(plan: Plan, server: ServerPlan) -> list[Line]:
    request, found = plan.request, []
    listening, polling, lost, nothing = _numbers(plan, server)
    asker: Line = [bold("Asked for by "), user(request.user, request.user_name)]
    if request.reason:
        asker += [say(": “"), say(clean(request.reason, 500)), say("”")]
    found.append(asker)
    found.append([bold("Certificate: "), code(server.old), say("\n→ "), *_new(plan, server)])
    found.append([say(NOT_HTTPS)])
    numbers: Line = [
        bold("Tentacles: "),
        say(f"{listening} listening are made to trust both, {polling} polling follow after the switch; "),
        say(f"{lost} cannot be done by me and need hands" if lost else "none needs hands"),
        say(f"; {count(nothing, 'other machine')} need nothing." if nothing else "."),
    ]
    found.append(numbers)
    found += [[bold("When: "), *scheduled(plan.schedule)]] if plan.schedule else []
    found += [[bold("Outage: "), say(text)] for text in _outages(plan, server)]
    found.append([bold("Order: "), say(_order(plan, server))])
    found.append(
        [
            bold("Way back: "),
            say(
                "the present certificate is exported and opened again before anything happens. If the new one does not "
                "come up, the old one is put back; listening Tentacles still trust it until the clean-up."
            ),
        ]
    )
    return found


def _new(plan: Plan, server: ServerPlan) -> Line:
    certificate = plan.source.certificate
    if server.new is None:
        return [say("made by the Server itself; its thumbprint is posted for a second approval before anything else.")]
    found: Line = [code(server.new)]
    if plan.source.backup:
        return [
            *found,
            say(", put back from the copy that the run "),
            code(clean(plan.source.backup, 40)),
            say(" left"),
        ]
    if certificate:
        found.append(
            say(
                f"\n{clean(certificate.subject, 200)}, issued by {clean(certificate.issuer, 200)}, valid until "
                f"{certificate.not_after:%Y-%m-%d}, {key_of(certificate)}."
            )
        )
    return found


def _outages(plan: Plan, server: ServerPlan) -> list[str]:
    listening, polling, lost, _ = _numbers(plan, server)
    found = []
    documented = plan.request.order is Order.DOCUMENTED
    if listening and documented:
        found.append("listening Tentacles are lost from the switch until each was visited.")
    elif listening:
        away = max(t.away_seconds for t in plan.targets if t.facts.style is Style.LISTENING)
        found.append(f"each listening Tentacle is away twice for about {duration(away)}, never without a trust.")
    if polling:
        seconds = sum(t.away_seconds for t in plan.targets if t.facts.style is Style.POLLING)
        waves = max(1, len(server.follow_waves))
        away = waves * max(t.away_seconds for t in plan.targets if t.facts.style is Style.POLLING)
        found.append(
            f"polling Tentacles are away from the switch until they have followed, about "
            f"{duration(min(seconds, away))}."
        )
    api = (
        "portal and API are away for about a minute" if len(server.nodes) == 1 else "one node after the other restarts"
    )
    found.append(f"{api}; all is done in about {duration(plan.seconds)}.")
    if lost:
        found.append(f"{count(lost, 'machine')} are lost until somebody runs a command on each.")
    return found


def _order(plan: Plan, server: ServerPlan) -> str:
    nodes = count(len(server.nodes), "node")
    waves = count(len(server.trust_waves), "wave")
    if plan.request.order is Order.DOCUMENTED:
        return (
            f"switch ({nodes}: stop, import, start) → trust ({waves}) → prove → clean up, with an approval of its own."
        )
    trust = f"trust ({waves}, {clean(server.trust_waves[0][0], 60)} first) → " if server.trust_waves else ""
    follow = f"follow ({count(len(server.follow_waves), 'wave')}) → " if server.follow_waves else ""
    return (
        f"{trust}switch ({nodes}, drained, one after the other) → {follow}prove (health of everything) → clean up, "
        "with an approval of its own."
    )


def _warnings(plan: Plan) -> Json | None:
    found: list[Line] = [spoken(sentence(c.text), 700) for c in plan.cautions if c.severity is Severity.WARNING]
    same: dict[str, list[str]] = {}
    for target in plan.targets:
        for caution in target.cautions:
            if caution.severity is Severity.WARNING:
                same.setdefault(caution.text, []).append(target.name)
    found += [[bold(f"{listed(names, 4)}: "), *spoken(sentence(text), 400)] for text, names in same.items()]
    notes: list[Line] = [
        [bold("Note: "), *spoken(sentence(c.text), 500)] for c in plan.cautions if c.severity is Severity.NOTE
    ]
    if not found and not notes:
        return None
    title = line(emoji("warning"), say(" "), bold("Look at this first"))
    return rich(title, bullets(within(found, 2_500, 20) + within(notes, 1_500, 12)))


def _nodes(server: ServerPlan) -> Json:
    lines: list[Line] = []
    for node in server.nodes[:12]:
        served = node.facts.served
        seen = f"serves {', '.join(t.short for t in served)}…" if served else "its certificate could not be seen"
        running = node.facts.node.running_tasks
        host = clean(node.facts.host.computer, 60) if node.facts.host else "?"
        lines.append([name(node.facts.name), say(f" on {host}: {seen}, {count(running, 'task')} running")])
    lines += [[name(o), say(": does not run")] for o in server.offline[:12]]
    return rich(line(bold(f"Nodes (version {clean(server.version, 40)})")), bullets(lines))


def _spaces(plan: Plan) -> Json | None:
    spaces = Counter(r.space for t in plan.targets for r in t.facts.records)
    if not spaces:
        return None
    shown = listed([f"{number} in {clean(space, 60)}" for space, number in spaces.most_common()], 8)
    return rich(line(bold("Records: "), say(f"{shown}; none is changed.")))


def _hands(server: ServerPlan) -> Json | None:
    if not server.lost:
        return None
    lines: list[Line] = [_hand(h) for h in server.lost[:_MOST_NAMED]]
    if len(server.lost) > _MOST_NAMED:
        lines.append([say(f"… ({len(server.lost) - _MOST_NAMED} more)")])
    return rich(line(emoji("raised_hand"), say(" "), bold(f"Need hands: {len(server.lost)}")), bullets(lines))


def _hand(hand: ByHand) -> Line:
    shown = link(hand.url, clean(hand.name, 60))
    return [shown, say(f" in {clean(hand.space, 40)}, {hand.hands.value}: "), *spoken(sentence(hand.reason), 300)]


def _commands(server: ServerPlan, new: str, budget: int) -> list[Json | None]:
    """Return the exact commands that people must run, by kind of machine."""
    found: list[Json | None] = []
    left = budget
    for kind in Hands:
        hands = [h for h in server.lost if h.hands is kind]
        if not hands:
            continue
        same: dict[str, list[str]] = {}
        for hand in hands:
            same.setdefault(command_of(hand, server.old, new), []).append(hand.name)
        for command, names in same.items():
            left -= len(command) + 300
            if left < 0:
                return [*found, context("There are more machines than can be shown here.")]
            title = line(bold(f"{kind.value}: "), say(f"{_WHERE[kind]} {listed(names, 8, 60)}"))
            found.append(rich(title, preformatted(command)))
    return found


def _decide(run: Run) -> Json:
    value = f"{run.id}:{run.nonce}"
    plan = run.plan
    server = _server(plan)
    approve = confirm(
        "Approve this plan?",
        f"{_numbers_text(plan, server)} You are recorded as the approver of plan {plan.digest[:8].upper()}.",
        "Approve",
    )
    deny = confirm("Deny this plan?", "Nothing is changed. It can be asked for again.", "Deny", danger=True)
    return actions(
        button("Approve", "approve", value, style="primary", ask=approve),
        button("Deny", "deny", value, style="danger", ask=deny),
        button("Show machines", "machines", value),
    )


def _footer(plan: Plan, run_id: str) -> Json:
    pieces = [f"Run `{run_id}`"] if run_id else []
    pieces += [f"plan `{plan.digest[:8].upper()}`", f"looked at {moment(plan.made, '{time_secs}')}"]
    if run_id:
        pieces.append("looked at again before anything is touched")
    return context(" · ".join(pieces))
