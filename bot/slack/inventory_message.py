"""The answer to `inventory`: counts first, then what deserves a look; long lists are a file in the thread."""

from collections.abc import Sequence

from bot.domain.inventory import COLUMNS, SOON_DAYS, Counts, Row, counts_of, ordered, worries
from bot.slack.blocks import (
    Json,
    Line,
    bold,
    bullets,
    code,
    emoji,
    first_fitting,
    header,
    line,
    name,
    rich,
    say,
    within,
)
from bot.slack.message import Message
from bot.slack.results import csv_text
from bot.slack.text import clean, count, sentence

MOST_ROWS = 15
"""Up to so many targets stand in the message one by one; of more only those that deserve a look."""


def inventory(rows: Sequence[Row], notes: Sequence[str]) -> Message:
    """Return the estate in a few lines."""
    counts = counts_of(rows)
    title = f"Inventory: {count(counts.targets, 'target')}"
    shown = ordered(rows) if len(rows) <= MOST_ROWS else [r for r in ordered(rows) if worries(r)]
    lines = [_row(r) for r in shown]
    head: list[Json | None] = [header(title), rich(line(*_healthy(counts)), bullets(_numbers(counts)))]
    if notes:
        told: list[Line] = [[say(sentence(n))] for n in notes]
        head.append(rich(line(emoji("warning"), say(" "), bold("Not the whole estate")), bullets(told)))
    label = "Targets" if len(rows) <= MOST_ROWS else f"Worth a look: {len(shown)}"

    def listing(budget: int, most: int) -> list[Json | None]:
        if not lines:
            return head
        return [*head, rich(line(bold(label)), bullets(within(lines, budget, most)))]

    text = f"{title}, {counts.healthy} healthy, {counts.inconsistent} inconsistent, {counts.expiring} expire soon."
    return first_fitting(text, [lambda: listing(9_000, 20), lambda: listing(4_000, 10)])


def inventory_csv(rows: Sequence[Row]) -> str:
    """Return all columns of all targets, those that deserve a look first."""
    return csv_text(COLUMNS, [[getattr(r, c) for c in COLUMNS] for r in ordered(rows)])


def inventory_attached(rows: Sequence[Row]) -> Message:
    """Return the comment of that file."""
    return Message(f"The whole inventory: {count(len(rows), 'target')} with all witnesses, those worth a look first.")


def _healthy(counts: Counts) -> Line:
    good = counts.healthy == counts.targets
    return [
        emoji("white_check_mark" if good else "warning"),
        say(" "),
        bold(f"{counts.healthy} of {counts.targets}"),
        say(" are healthy in Octopus."),
    ]


def _numbers(counts: Counts) -> list[Line]:
    told = [
        (counts.inconsistent, "where the witnesses disagree"),
        (counts.expired, "with a certificate that has expired"),
        (counts.expiring, f"with a certificate that expires within {SOON_DAYS} days"),
        (counts.sha1, "signed with SHA-1"),
        (counts.weak, "with a key that is too short"),
        (counts.shared, "with a certificate that another one has, too (clones)"),
        (counts.unseen, "that could not be seen from every side"),
    ]
    lines: list[Line] = [[bold(str(number)), say(f" {what}")] for number, what in told if number]
    return lines or [[say("Nothing deserves a look.")]]


def _row(row: Row) -> Line:
    found: Line = [name(row.target), say(f"  {row.style}")]
    if row.configured or row.recorded:
        found += [say(" "), code((row.configured or row.recorded)[:8]), say("…")]
    if row.expires:
        found.append(say(f", until {row.expires}, {clean(row.algorithm, 20)}, {clean(row.signature, 20)}"))
    if row.version:
        found.append(say(f", {clean(row.version, 20)}"))
    why = worries(row)
    if why:
        found += [say(": "), bold(clean("; ".join(why), 200))]
    return found
