"""The inventory in the terminal: the same rows as in Slack, as a table, as CSV or as JSON. Read-only, without Slack."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bot.clock import SystemClock
from bot.domain.inventory import COLUMNS, SOON_DAYS, Row, counts_of, ordered, row_of, worries
from bot.runs.inspector import Inspector
from bot.runs.selecting import Selecting
from bot.slack.results import csv_text
from bot.slack.text import clean

EXIT_WORRIES = 3
"""Something deserves a look: witnesses that disagree, a certificate that has expired, a host that was not seen."""


def run(inspector: Inspector, words: Sequence[str], form: str) -> int:
    """Look at the targets of these words and print them as `table`, `csv` or `json`; return the exit code."""
    clock, console = SystemClock(), Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Asking Octopus", total=None)
        selected = Selecting(inspector, clock).select(words, lambda: progress.advance(task))
        facts = selected.facts
        if facts is None:
            progress.update(task, description="Looking at the targets", total=len(selected.groups), completed=0)
            facts = tuple(
                inspector.look(selected.groups, selected.index, deeply=False, on_seen=lambda: progress.advance(task))
            )
        rows = ordered([row_of(f, clock.now()) for f in facts])
    for note in selected.notes:
        console.print(Text(f"octocert: {clean(note, 500)}.", style="yellow"))
    if form == "csv":
        sys.stdout.write(csv_text(COLUMNS, [[getattr(r, c) for c in COLUMNS] for r in rows]))
    elif form == "json":
        print(json.dumps({"counts": asdict(counts_of(rows)), "targets": [asdict(r) for r in rows]}))  # noqa: T201
    else:
        _print(rows)
    counts = counts_of(rows)
    return EXIT_WORRIES if counts.inconsistent or counts.expired or counts.unseen else 0


def _print(rows: Sequence[Row]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("target", "style", "thumbprint", "expires", "key", "signed", "version", "health", "worth a look"):
        table.add_column(title, no_wrap=title in {"target", "expires"}, overflow="ellipsis")
    for row in rows:
        why = worries(row)
        cells = (
            clean(row.target, 60),
            row.style,
            (row.configured or row.recorded)[:8],
            row.expires,
            row.algorithm,
            row.signature,
            clean(row.version, 20) if row.version else "",
            row.health,
            clean("; ".join(why), 200) if why else "",
        )
        table.add_row(*(Text(c) for c in cells), style="yellow" if why else None)
    console.print(table)
    counts = counts_of(rows)
    console.print(
        f"{counts.targets} targets, {counts.healthy} healthy, {counts.inconsistent} inconsistent, "
        f"{counts.expired} expired, {counts.expiring} expire within {SOON_DAYS} days, {counts.sha1} SHA-1, "
        f"{counts.weak} weak, {counts.shared} cloned, {counts.unseen} not seen from every side"
    )
