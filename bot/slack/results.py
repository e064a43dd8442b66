"""Long results as CSV files, which people open in a spreadsheet: nothing in them is taken for a formula there."""

import csv
import io
from collections.abc import Iterable, Sequence

from bot.domain.run import Run

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would calculate."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; a cell that a spreadsheet would calculate gets an apostrophe before it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    text = " ".join(str("" if value is None else value).split())
    return f"'{text}" if text.startswith(_FORMULA) else text


def results_csv(run: Run) -> str:
    """Return what became of every target of a run, failures first."""
    header = ("target", "outcome", "old", "new", "health", "seconds", "failed at", "what", "undone", "now", "advice")
    refused = [
        (r.name, "refused", "", "", "", "", "", r.reason, "", "It was not touched.", r.advice) for r in run.plan.refused
    ]
    outcomes = sorted(run.outcomes, key=lambda o: (not o.kind.is_failure, o.kind.changed))
    rows = [
        (
            o.target,
            o.kind.value,
            o.old,
            o.new,
            o.health.value if o.health else "",
            f"{o.seconds:.0f}",
            o.failed_step.value if o.failed_step else "",
            o.what,
            o.undone,
            o.now,
            o.advice,
        )
        for o in outcomes
    ]
    return csv_text(header, [*rows, *refused])
