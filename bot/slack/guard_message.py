"""Messages of approvals by several people, of reminders, of the freeze, and the policy as people read it."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from bot.domain.policy import Policy, is_group
from bot.domain.run import Decision, Freeze, Run
from bot.slack.blocks import (
    Inline,
    Json,
    Line,
    bold,
    bullets,
    code,
    emoji,
    header,
    line,
    message,
    rich,
    say,
    user,
    when,
)
from bot.slack.message import Message
from bot.slack.text import clean, count, escape, utc


def who(identity: str) -> Inline:
    """Return a mention of a user or a user group by its id."""
    if is_group(identity) and identity.isalnum():
        return {"type": "usergroup", "usergroup_id": identity}
    return user(identity)


def listed_people(decisions: Sequence[Decision]) -> Line:
    """Return some deciders: `Ada and Ben`."""
    found: Line = []
    for place, decision in enumerate(decisions):
        if place:
            found.append(say(" and " if place == len(decisions) - 1 else ", "))
        found.append(user(decision.user, decision.user_name))
    return found


def so_far(run: Run) -> Json | None:
    """Return how many approvals a plan has and needs, None where one is enough."""
    given = tuple(d for d in run.decisions if d.approved)
    if run.needed < 2:
        return None
    if not given:
        text = f" It needs {run.needed} approvals, each by another person who did not ask for it."
        return line(emoji("busts_in_silhouette"), say(text))
    by = [say(f" of {run.needed} approvals, by "), *listed_people(given), say(".")]
    return line(emoji("busts_in_silhouette"), say(f" {len(given)}"), *by)


def proposed_head(run: Run, status: Json, *parts: Json) -> Json:
    """Return the top of a proposal: its status, approvals so far where it needs several, and a freeze."""
    more = [so_far(run), frozen_line(run.frozen) if run.frozen else None]
    return rich(status, *(m for m in more if m), *parts)


def counted(decision: Decision, number: int, needed: int) -> Message:
    """Return that one more approval is there, and how many are still needed."""
    left = count(needed - number, "more person", "more people")
    text = f"<@{decision.user}> approved: {number} of {needed}. {left} must approve before anything begins."
    elements: Line = [emoji("ballot_box_with_check"), say(" "), user(decision.user, decision.user_name)]
    elements.append(say(f" approved: {number} of {needed}. {left} must approve before anything begins."))
    return message(text, [rich(line(*elements))])


def reminder(
    what: str, approvers: Iterable[str], *, given: int, needed: int, expires: datetime | None, escalated: bool
) -> Message:
    """Return that something still waits for approvals, to those who may give one; `what` as people say it: `plan`."""
    names: Line = []
    for identity in sorted(approvers):
        names += [say(", ") if names else say(" "), who(identity)]
    missing = f"{max(1, needed - given)} of {needed} approvals" if needed > 1 else "an approval"
    told = (
        f" Nobody has decided yet, so you may approve this {what}, too:"
        if escalated
        else f" This {what} still waits for {missing}:"
    )
    head: Line = [emoji("bell"), say(told), *(names or [say(" nobody is left who may give one")])]
    if expires is None:
        tail: Line = [say(". It may wait for days.")]
        text = f"The {what} still waits for an approval."
    else:
        tail = [say(". It expires "), when(expires, "{date_short_pretty} {time}"), say(".")]
        text = f"The {what} still waits for an approval; it expires {utc(expires)}."
    return message(text, [rich(line(*head, *tail))])


def frozen_line(freeze: Freeze) -> Json:
    """Return that nothing begins at the moment, by whom, why and since when."""
    found: Line = [emoji("snowflake"), say(" "), bold("Frozen"), say(" by "), _freezer(freeze.by)]
    found += [say(" since "), when(freeze.at, "{date_short_pretty} {time}"), say(f": “{clean(freeze.reason, 300)}”.")]
    found += [say(" No step begins until somebody says "), code("unfreeze"), say(".")]
    return line(*found)


def frozen(freeze: Freeze) -> Message:
    """Return that everything is frozen now."""
    more = line(say("What runs on a host at this moment ends there; every run waits before its next step."))
    text = f"Frozen: {escape(freeze.reason)}. No step begins anywhere until somebody says `unfreeze`."
    return message(text, [rich(frozen_line(freeze), more)])


def unfrozen(freeze: Freeze, by: str) -> Message:
    """Return that steps begin again."""
    elements: Line = [emoji("sunny"), say(" "), user(by), say(" lifted the freeze: “"), say(clean(freeze.reason, 300))]
    return message("The freeze is lifted; runs go on.", [rich(line(*elements, say("”. Runs go on.")))])


def _freezer(by: str) -> Inline:
    return user(by) if by else say("the bot itself")


# ---- The policy --------------------------------------------------------------------------------------------------


def policy(policy: Policy) -> Message:
    """Return the policy as people read it: who may ask, who must approve, what is different where."""
    lines: list[Line] = [
        [bold("May ask: "), *_all(policy.requesters, "everybody"), *_where(policy)],
        [bold("May approve: "), *_all(policy.approvers, "nobody"), say(f"; {_number(policy.approvals)}.")],
        [bold("Never: "), say("who asked for it, whichever of their Slack accounts they use.")],
        [bold("Time: "), say(f"a plan waits {policy.approval_minutes} min for its approval.")],
    ]
    if policy.reason_required:
        lines.append([bold("Reason: "), say("every request needs "), code("--reason"), say(".")])
    if policy.remind_minutes:
        lines.append([bold("Reminder: "), say(f"after {policy.remind_minutes} min.")])
    if policy.escalate_minutes:
        late = [say(f" may approve, too, after {policy.escalate_minutes} min.")]
        lines.append([bold("Escalation: "), *_all(policy.escalate_to, "nobody"), *late])
    rules: list[Line] = []
    for number, rule in enumerate(policy.rules, 1):
        about = ", ".join(sorted(a.value for a in rule.actions)) or "everything"
        places = f" in {', '.join(clean(e, 60) for e in rule.environments)}" if rule.environments else ""
        found: Line = [bold(f"Rule {number}, {about}{places}: ")]
        if rule.requesters:
            found += [*_all(rule.requesters, ""), say(" may ask. ")]
        if rule.approvers:
            found += [*_all(rule.approvers, ""), say(" may approve. ")]
        if rule.approvals:
            found.append(say(f"{_number(rule.approvals).capitalize()}. "))
        if rule.reason_required is not None:
            found.append(say("A reason is needed." if rule.reason_required else "No reason is needed."))
        rules.append(found)
    people = {name: [u for u, n in policy.people.items() if n == name] for name in sorted(set(policy.people.values()))}
    if people:
        shown = "; ".join(f"{clean(n, 60)} has {count(len(u), 'Slack account')}" for n, u in people.items())
        lines.append([bold("People: "), say(f"{shown}.")])
    blocks = [header("Policy"), rich(bullets(lines)), rich(bullets(rules)) if rules else None]
    return message("Who may ask and who may approve.", blocks)


def _all(who_may: Iterable[str], nobody: str) -> Line:
    found: Line = []
    for identity in sorted(who_may):
        found += [say(", "), who(identity)] if found else [who(identity)]
    return found or [say(nobody)]


def _where(policy: Policy) -> Line:
    if not policy.channels:
        return [say(", in every channel where I am.")]
    found: Line = [say(", in ")]
    for place, channel in enumerate(sorted(policy.channels)):
        found += [say(", ")] if place else []
        found.append({"type": "channel", "channel_id": channel})
    return [*found, say(".")]


def _number(approvals: int) -> str:
    return "one approval is enough" if approvals == 1 else f"{approvals} different people must approve"
