"""Short answers: help, status, history, and what went wrong."""

from collections.abc import Sequence
from datetime import datetime

from bot.audit import Recorded
from bot.domain import commands
from bot.domain.run import Freeze, Run, RunState
from bot.slack.blocks import (
    ANYBODY,
    Json,
    Line,
    bold,
    bullets,
    code,
    emoji,
    header,
    line,
    message,
    preformatted,
    rich,
    say,
    spoken,
    user,
    when,
    within,
)
from bot.slack.guard_message import frozen_line
from bot.slack.message import Message
from bot.slack.plan_message import plan_posted
from bot.slack.text import clean, cut, escape, listed
from bot.slack.words import counts_of, icon_of


def help_text(topic: str | None, *, may_change: bool) -> Message:
    """Return what the asker may use, or how one command works; UserError for an unknown one."""
    if topic is not None:
        return _help_on(commands.spec(topic), may_change=may_change)
    visible = [c for c in commands.COMMANDS if may_change or not c.changes]
    lines: list[Line] = [[code(f"{c.name} {c.arguments}".strip()), say(f"  {c.summary}")] for c in visible]
    intro = line(
        say(
            "I rotate the certificates by which Octopus Server and its Tentacles trust each other. "
            "Nothing stops before somebody else has approved it."
        )
    )
    outro = line(say("More on one command: "), code("help rotate" if may_change else "help show-thumbprint"))
    text = "I know these commands: " + ", ".join(c.name for c in visible)
    return message(text, [header("What I can do"), rich(intro), rich(bullets(lines)), rich(outro)])


def _help_on(row: commands.CommandSpec, *, may_change: bool) -> Message:
    blocks: list[Json | None] = [
        header(row.name),
        rich(line(say(row.help))),
        rich(line(bold("Usage")), preformatted(row.usage)),
    ]
    if "TARGET…" in row.arguments:
        blocks.append(rich(line(bold("Targets  "), say(commands.SELECTORS))))
    if row.options:
        lines: list[Line] = [[code(f"--{o.name} {o.placeholder}".rstrip()), say(f"  {o.help}")] for o in row.options]
        blocks.append(rich(line(bold("Options")), bullets(lines)))
    if row.examples:
        blocks.append(rich(line(bold("Examples")), bullets([[code(e)] for e in row.examples])))
    if row.changes and not may_change:
        blocks.append(rich(line(emoji("no_entry"), say(" You may not use it here: it can lead to a change."))))
    return message(f"{row.name}: {row.summary}. Usage: `{row.usage}`", blocks)


def status(runs: Sequence[Run], *, now: datetime, frozen: Freeze | None = None) -> Message:
    """Return running and recent runs, newest first, and whether everything is frozen."""
    cold = rich(frozen_line(frozen)) if frozen else None
    if not runs:
        return message(
            "No run yet.", [cold, rich(line(say("There is no run yet. "), code("rotate"), say(" proposes one.")))]
        )
    lines = within([_run_line(r) for r in runs], 10_000, 40)
    active = sum(not r.state.is_over for r in runs)
    text = f"{active} of the {len(runs)} newest runs are not over." if active else "No run is under way."
    text = f"Everything is frozen. {text}" if frozen else text
    return message(text, [header("Runs"), cold, rich(bullets(lines))])


def _run_line(run: Run) -> Line:
    names = listed([t.name for t in run.plan.targets], 3)
    found: Line = [emoji(icon_of(run)), say(" "), code(run.id), say(f" {names}: "), bold(run.state.value)]
    counts = counts_of(run)
    if run.stage and not run.state.is_over:
        found.append(say(f", {clean(run.stage, 100)}"))
    if counts:
        found.append(say(f", {counts}"))
    if run.state is RunState.PROPOSED:
        found += [say(" until "), when(run.expires)]
    found += [
        say("; asked for by "),
        user(run.plan.request.user, run.plan.request.user_name),
        say(" "),
        when(run.created, "{date_short_pretty} {time}"),
    ]
    return found


def status_one(run: Run, *, now: datetime) -> Message:
    """Return where one run stands, without its buttons: they are on its own message."""
    whole = plan_posted(run, now=now)
    return Message(whole.text, tuple(b for b in whole.blocks if b["type"] != "actions"))


def history(entries: Sequence[Recorded]) -> Message:
    """Return who did what when, newest first."""
    if not entries:
        return message(
            "Nothing stands in the audit log yet.", [rich(line(say("Nothing of that stands in the audit log yet.")))]
        )
    lines = within([_entry(e) for e in entries], 10_500, 60)
    return message(f"The {len(entries)} newest entries of the audit log.", [header("History"), rich(bullets(lines))])


def _entry(recorded: Recorded) -> Line:
    entry = recorded.entry
    found: Line = [when(recorded.at, "{date_short_pretty} {time}"), say(" "), bold(clean(entry.kind, 40))]
    if entry.who:
        found += [say(" by "), user(entry.who)]
    if entry.target:
        found.append(say(f" {clean(entry.target, 120)}"))
    if entry.run:
        found += [say(" "), code(clean(entry.run, 40))]
    if entry.old and entry.new and entry.old != entry.new:
        found += [say(" "), code(clean(entry.old, 64)), say(" → "), code(clean(entry.new, 64))]
    if entry.what:
        found += [say(": "), *spoken(entry.what, 300, ANYBODY)]
    return found


def problem(text: str) -> Message:
    """Return a sentence that tells what is wrong and what to do; it may quote things from outside."""
    return message(_plain_mrkdwn(text), [rich(line(emoji("warning"), say(" "), *spoken(text, 6_000, ANYBODY)))])


def _plain_mrkdwn(text: str) -> str:
    pieces = []
    for element in spoken(text, 3_000, ANYBODY):
        match element["type"]:
            case "user":
                pieces.append(f"<@{element['user_id']}>")
            case "channel":
                pieces.append(f"<#{element['channel_id']}>")
            case _:
                style = element.get("style", {})
                shown = element["text"]
                edge = (" " if shown[:1].isspace() else "", " " if shown[-1:].isspace() else "")
                body = escape(shown, 3_000) if shown.strip() else ""
                pieces.append(f"`{body}`" if style.get("code") else edge[0] + body + edge[1])
    return cut("".join(pieces), 3_500)


def unexpected(reference: str) -> Message:
    """Return that something went wrong that nobody foresaw, with the reference under which it stands in the log."""
    text = (
        f"Something went wrong that I did not foresee. It stands in my log under `{clean(reference, 40)}`. "
        "See with `status` and `show-thumbprint` where things are, then try again, or show the reference to my admin."
    )
    return problem(text)


def working(text: str) -> Message:
    """Return that something is under way."""
    return message(
        _plain_mrkdwn(text), [rich(line(emoji("hourglass_flowing_sand"), say(" "), *spoken(text, 2_000, ANYBODY)))]
    )
