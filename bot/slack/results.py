"""Long results as CSV files, which people open in a spreadsheet: nothing in them is taken for a formula there."""

import csv
import io
from collections.abc import Iterable, Sequence

from bot.domain.plan import Plan
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


def plan_csv(plan: Plan) -> str:
    """Return what will be done to every target of a plan, wave by wave, and what is refused."""
    header = ("wave", "target", "old", "new", "style", "environments", "records", "away seconds", "steps", "notes")
    waves = {name: number for number, wave in enumerate(plan.waves, 1) for name in wave}
    rows = [
        (
            waves.get(t.name, ""),
            t.name,
            t.old,
            t.new or "made on the host",
            t.facts.style.value,
            ", ".join(t.facts.environments),
            ", ".join(f"{r.name} in {r.space}" for r in t.facts.records),
            t.away_seconds,
            " → ".join(s.value for s in t.steps),
            "; ".join(c.text for c in t.cautions),
        )
        for t in sorted(plan.targets, key=lambda t: waves.get(t.name, 0))
    ]
    refused = [("refused", r.name, "", "", "", "", "", "", "", f"{r.reason}. {r.advice}") for r in plan.refused]
    return csv_text(header, [*rows, *refused])


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
