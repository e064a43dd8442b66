"""What the radar tells: a digest of what deserves care, new things first, each with a button that plans a rotation."""

from collections.abc import Sequence
from datetime import datetime

from bot.domain.radar import URGENT_FIRST, Changes, Finding, Sweep, Worry
from bot.slack.blocks import (
    Json,
    Line,
    bold,
    bullets,
    button,
    code,
    context,
    emoji,
    first_fitting,
    header,
    joined,
    line,
    message,
    name,
    plain,
    rich,
    say,
    spoken,
    within,
)
from bot.slack.message import Message
from bot.slack.text import LONGEST_NAME, clean, count, day, escape, moment

MOST_BUTTONS = 20
"""Targets that have a button; `inventory` shows all."""
_FEW_BUTTONS = 8
_COUNTED = {
    Worry.EXPIRED: "expired",
    Worry.DISAGREES: "whose witnesses disagree",
    Worry.UNREACHABLE: "out of reach",
    Worry.EXPIRING: "expiring soon",
    Worry.SHA1: "signed with SHA-1",
    Worry.WEAK: "with a weak key",
}


def digest(sweep: Sweep, changes: Changes, *, now: datetime, is_first: bool) -> Message:
    """Return the digest of a sweep of which something is new."""
    title = _title(sweep)

    def version(most: int, mended: int) -> list[Json | None]:
        left = most
        blocks: list[Json | None] = [header(title), rich(_head(sweep, is_first=is_first))]
        for label, findings in (("New", changes.new), ("As told before", changes.same)):
            groups = _by_target(findings)
            if not groups:
                continue
            told_elsewhere = {f.record for f in changes.new} if label != "New" else set()
            groups = [g for g in groups if g[0].record not in told_elsewhere]
            blocks += _group(label, groups, sweep, now, left)
            left = max(0, left - len(groups))
        blocks.append(_over("white_check_mark", "Mended", changes.mended, mended))
        blocks.append(_over("wastebasket", "No longer in Octopus", changes.gone, mended))
        blocks.append(_footer(sweep))
        return blocks

    text = title + (f". New: {', '.join(escape(f.target) for f in changes.new[:3])}" if changes.new else "")
    return first_fitting(text, [lambda: version(MOST_BUTTONS, 20), lambda: version(_FEW_BUTTONS, 8)])


def _title(sweep: Sweep) -> str:
    """Return how many deserve care; the Server's certificate concerns all of them and is named."""
    if not sweep.findings:
        return f"Radar: all {count(sweep.targets, 'target')} are well"
    needy = f"{count(sweep.needy, 'target')} of {sweep.targets}" if sweep.needy else ""
    who = " and ".join(p for p in ("the Octopus Server" if sweep.is_server_needy else "", needy) if p)
    is_one = sweep.needy + sweep.is_server_needy == 1
    return f"Radar: {who} {'needs' if is_one else 'need'} care"


def failed(why: str) -> Message:
    """Return that the estate cannot be looked at."""
    lines = [
        line(emoji("warning"), say(" "), bold("The radar could not look at the estate.")),
        line(*spoken(why, 1_500)),
        line(say("It goes on trying. Until then nobody is told what expires: see "), code("octocert doctor"), say(".")),
    ]
    return message("The radar could not look at the estate.", [rich(*lines)])


def worry_of(finding: Finding, now: datetime) -> str:
    """Return a finding as a phrase, clean."""
    if finding.expires:
        days = (finding.expires - now).days
        if finding.worry is Worry.EXPIRED:
            return f"expired on {day(finding.expires)}"
        left = f"in {count(days, 'day')}" if days > 0 else "within a day"
        return f"expires {left}, on {day(finding.expires)}"
    return finding.worry.value + (f": {clean(finding.detail, 150)}" if finding.detail else "")


def counts(sweep: Sweep) -> Line:
    """Return how many targets have which worry, in one line; that there is none, if so."""
    told: list[Line] = [
        [bold(str(sweep.count(worry))), say(f" {_COUNTED[worry]}")] for worry in URGENT_FIRST if sweep.count(worry)
    ]
    return joined(told) if told else [say("Nothing deserves care.")]


def _head(sweep: Sweep, *, is_first: bool) -> Json:
    first: Line = [say("I looked at the whole estate for the first time. ")] if is_first else []
    after: Line = [say(". From now on I tell what changes, and am quiet otherwise.")] if is_first else []
    return line(*first, *counts(sweep), *after)


def _by_target(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return the findings of each target together, in the order of its most urgent one."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.record, []).append(finding)
    return list(groups.values())


def _group(label: str, groups: list[list[Finding]], sweep: Sweep, now: datetime, room: int) -> list[Json]:
    """Return a heading, a line with a button for as many targets as have room, and the names of the others."""
    if not groups:
        return []
    found: list[Json] = [rich(line(bold(f"{label}: {count(len(groups), 'target')}")))]
    numbers = {f.key: i for i, f in enumerate(sweep.findings)}
    for group in groups[:room]:
        every = [f for f in sweep.findings if f.record == group[0].record]
        text = f"{clean(group[0].target, LONGEST_NAME)}: {'; '.join(worry_of(f, now) for f in every)}"
        value = f"{sweep.id}:{numbers[group[0].key]}"
        found.append(
            {
                "type": "section",
                "text": plain(text, 500),
                "accessory": button("Plan rotation", "plan_rotation", value),
            }
        )
    rest = groups[room:]
    if rest:
        lines: list[Line] = [[name(g[0].target), say(f": {worry_of(g[0], now)}")] for g in rest]
        found.append(rich(bullets(within(lines, 1_500, 15))))
    return found


def _over(icon: str, label: str, findings: Sequence[Finding], most: int) -> Json | None:
    if not findings:
        return None
    lines: list[Line] = [[name(f.target), say(f": {f.worry.value}")] for f in findings]
    return rich(line(emoji(icon), say(" "), bold(label)), bullets(within(lines, 1_500, most)))


def _footer(sweep: Sweep) -> Json:
    pieces = [f"looked at {moment(sweep.at)}", "`inventory` shows every target"]
    if sweep.unreadable_spaces:
        pieces.append(f"not all spaces can be read: {escape(', '.join(sweep.unreadable_spaces), 200)}")
    return context(" · ".join(pieces))
