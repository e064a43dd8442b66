"""The Home tab, as a pure function: what waits for its reader, what runs, and how the estate is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.domain.radar import SERVER, Finding, Sweep
from bot.domain.run import Freeze, Run
from bot.slack.blocks import (
    Inline,
    Json,
    Line,
    actions,
    bold,
    bullets,
    button,
    code,
    context,
    emoji,
    header,
    line,
    link,
    plain,
    rich,
    say,
    user,
    when,
    within,
)
from bot.slack.guard_message import frozen_line
from bot.slack.radar_message import counts, worry_of
from bot.slack.text import LONGEST_NAME, clean, count, moment
from bot.slack.words import counts_of, icon_of, title_of

MOST_BLOCKS = 100
"""Blocks of a Home tab."""
MOST_TARGETS = 15
"""Targets that need care and are shown, each with a button."""
MOST_RUNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Something that its reader may approve."""

    run: Run
    what: str
    """`plan`, or the gate in the middle of a run."""
    expires: datetime | None
    link: str = ""
    """The address of the run's message, where its buttons are; empty if nobody knows it."""


def home(
    *,
    now: datetime,
    waiting: Sequence[Waiting],
    runs: Sequence[Run],
    links: Mapping[str, str],
    freeze: Freeze | None,
    sweep: Sweep | None,
    is_radar_on: bool,
) -> Json:
    """Return the tab for one person; `runs` are those that are under way, `links` the addresses of their messages."""
    blocks: list[Json] = []
    if freeze:
        blocks.append(rich(frozen_line(freeze)))
    # block ids that stay, so that a press counts which crosses with the tab's next version
    blocks.append({**actions(button("Rotate…", "open_rotate", "home", style="primary")), "block_id": "rotate"})
    blocks += _waiting(waiting)
    blocks += _runs(runs, links)
    blocks += _estate(sweep, now, is_radar_on=is_radar_on)
    return {"type": "home", "blocks": blocks[:MOST_BLOCKS]}


def _waiting(waiting: Sequence[Waiting]) -> list[Json]:
    if not waiting:
        return [header("Waiting for you"), rich(line(say("Nothing waits for your approval.")))]
    lines: list[Line] = []
    for one in waiting:
        request = one.run.plan.request
        found: Line = [emoji("hourglass_flowing_sand"), say(" "), _title(one.run, one.link)]
        if one.what != "plan":
            found.append(say(f", the {one.what}"))
        found += [say(" "), code(one.run.id), say(", asked for by "), user(request.user, request.user_name)]
        found += [say(" in "), {"type": "channel", "channel_id": request.channel}] if request.channel else []
        found += [say(", until "), when(one.expires, "{date_short_pretty} {time}")] if one.expires else []
        lines.append(found)
    note = context("A click on its name shows the plan where it was posted; its buttons are there.")
    return [header("Waiting for you"), rich(bullets(within(lines, 3_000, MOST_RUNS))), note]


def _title(run: Run, address: str) -> Inline:
    """Return what a run does, as a link to its message where there is one."""
    title = title_of(run.plan)
    found = link(address, title)
    return found | {"style": {"bold": True}} if found["type"] == "link" else bold(title)


def _runs(runs: Sequence[Run], links: Mapping[str, str]) -> list[Json]:
    if not runs:
        return [header("Under way"), rich(line(say("No run is under way.")))]
    lines: list[Line] = []
    for run in runs:
        found: Line = [emoji(icon_of(run)), say(" "), _title(run, links.get(run.id, "")), say(" ")]
        found += [code(run.id), say(" ")]
        stage = clean(run.stage, 100) if run.stage else ""
        found.append(say(", ".join(t for t in (run.state.value, stage, counts_of(run)) if t)))
        lines.append(found)
    return [header("Under way"), rich(bullets(within(lines, 3_000, MOST_RUNS)))]


def _estate(sweep: Sweep | None, now: datetime, *, is_radar_on: bool) -> list[Json]:
    title = header("The estate")
    if sweep is None:
        why: Line = [say("The radar has not looked at the estate yet.")]
        if not is_radar_on:
            why = [say("The radar is off: name a channel in "), code("[radar]"), say(" of the configuration. ")]
            why += [code("inventory"), say(" looks at everything now.")]
        return [title, rich(line(*why))]
    blocks = [title, rich(line(*counts(sweep)))]
    groups: dict[str, list[Finding]] = {}
    numbers: dict[str, int] = {}
    for number, finding in enumerate(sweep.findings):
        groups.setdefault(finding.record, []).append(finding)
        numbers.setdefault(finding.record, number)
    for record, found in list(groups.items())[:MOST_TARGETS]:
        text = f"{clean(found[0].target, LONGEST_NAME)}: {'; '.join(worry_of(f, now) for f in found)}"
        value = f"{sweep.id}:{numbers[record]}"
        block: Json = {"type": "section", "block_id": f"found-{value}", "text": plain(text, 500)}
        if record == SERVER:  # the form is for Tentacles: the Server's plan has other questions
            block["text"] = plain(f"{text}. Plan it by rotate server in a channel.", 500)
        else:
            block["accessory"] = button("Rotate…", "open_rotate", value)
        blocks.append(block)
    more = f"{count(len(groups) - MOST_TARGETS, 'more target')} need care; " if len(groups) > MOST_TARGETS else ""
    blocks.append(context(f"{more}{sweep.targets} targets were looked at {moment(sweep.at)}; `inventory` looks now."))
    return blocks
