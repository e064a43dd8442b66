"""For people without Slack: status, freeze, cancel, a runbook, and the audit log. Nothing can be approved here.

These commands work beside a running bot: they write a row or two and take up no work, so they claim no database.
"""

import csv
import json
import os
import pwd
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.operating.options import configured

if TYPE_CHECKING:
    from bot.audit import AuditLog, Head
    from bot.runs.cancelling import Cancelling
    from bot.runs.freezing import Freezing
    from bot.runs.ledger import Ledger

_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Instead of --config: the folder that `octocert demo --state DIR` left behind.",
)
EXIT_FLAWED = 1
NAME = "octocert.sqlite"
"""The database in a folder that the demo left behind."""


class Desk:
    """What the commands work with."""

    def __init__(self, ledger: "Ledger", audit: "AuditLog", freezing: "Freezing", cancelling: "Cancelling") -> None:
        self.ledger, self.audit, self.freezing, self.cancelling = ledger, audit, freezing, cancelling


@contextmanager
def opened(config: Path, state: Path | None = None) -> Iterator[Desk]:
    """Open the database beside a running bot."""
    from bot.audit import AuditLog  # noqa: PLC0415 -- heavy: not for --help
    from bot.clock import SystemClock  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.auditing import audit_of  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.cancelling import Cancelling  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.database import Database  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.freezing import Freezing  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.gates import Gates  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.ledger import Ledger  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help

    _quiet()
    clock = SystemClock()
    settings = None if state else load(config)
    url = settings.database.url if settings else f"sqlite:///{(state or Path()).absolute() / NAME}"
    password = settings.database.url_password if settings else None
    with Database(url, password=password.read() if password else None, beside=True) as database:
        engine = database.engine
        beside = (state or Path()) / f"{NAME}.audit-head"
        audit = audit_of(settings, engine, clock) if settings else AuditLog(engine, clock, head_file=beside)
        ledger = Ledger(engine, clock)
        gates = Gates(engine, ledger, clock, minutes=0)
        yield Desk(ledger, audit, Freezing(engine, audit, clock), Cancelling(ledger, gates, audit, clock))


def _quiet() -> None:
    from bot import logs  # noqa: PLC0415 -- heavy: not for --help

    logs.configure("WARNING")


def who() -> str:
    """Return how whoever sits at this terminal is named."""
    try:
        return f"terminal:{pwd.getpwuid(os.getuid()).pw_name}"[:40]
    except KeyError:
        return f"terminal:{os.getuid()}"


@click.command(short_help="Show what runs, and whether everything is frozen.")
@configured
@click.argument("run", required=False)
def status(config: Path, run: str | None) -> int:
    """Show the recent runs, or where one RUN stands, read from the database beside a running bot."""
    from bot.domain.errors import UserError  # noqa: PLC0415 -- only here

    with opened(config) as desk:
        freeze = desk.freezing.in_force()
        if freeze:
            click.echo(
                f"FROZEN by {freeze.by or 'the bot itself'} since {freeze.at:%Y-%m-%d %H:%M} UTC: {freeze.reason}"
            )
        found = desk.ledger.find(run) if run else None
        if run and found is None:
            raise UserError(f"There is no run {run[:24]}. `octocert status` lists the recent ones.")
        for one in [found] if found else desk.ledger.recent(10):
            targets = ", ".join(t.name for t in one.plan.targets[:5])
            click.echo(f"{one.id}  {one.state.value:22}  {targets}  {one.stage}".rstrip())
        if found:
            for target in found.targets:
                what = target.outcome.kind.value if target.outcome else "not over"
                click.echo(f"  {target.name}: {what}")
    return 0


@click.command(short_help="Let no step begin anywhere; `unfreeze` in Slack lifts it.")
@configured
@click.argument("reason", nargs=-1, required=True)
def freeze(config: Path, reason: tuple[str, ...]) -> int:
    """Let no step begin anywhere, in any run; the bot may be running. It is lifted by `unfreeze` in Slack.

    What a bot does on a host at this moment ends there.
    """
    with opened(config) as desk:
        before = desk.freezing.freeze(who(), " ".join(reason)[:500], uuid.uuid4().hex)
    click.echo(f"It was frozen already, by {before.by}: {before.reason}" if before else "Frozen. No step begins now.")
    return 0


@click.command(short_help="Take a plan back, or stop a run at its next safe point.")
@configured
@click.argument("run")
def cancel(config: Path, run: str) -> int:
    """Take the plan of RUN back, or have it stop at its next safe point. Nothing can be approved in a terminal.

    Where it waits for an approval between two of its parts, that is denied, and the run ends there.
    """
    from bot.domain.errors import UserError  # noqa: PLC0415 -- only here

    with opened(config) as desk:
        found = desk.ledger.find(run)
        if found is None:
            raise UserError(f"There is no run {run[:24]}. `octocert status` lists the recent ones.")
        click.echo(desk.cancelling.cancel(found, who(), uuid.uuid4().hex))
    return 0


@click.command(short_help="Print what to do by hand about a half-done target.")
@configured
@click.argument("run")
@click.argument("target", required=False)
def runbook(config: Path, run: str, target: str | None) -> int:
    """Print what a person looks at and runs by hand for the targets of RUN, or one TARGET of it."""
    from bot.domain.errors import UserError  # noqa: PLC0415 -- only here
    from bot.domain.runbook import runbook as made  # noqa: PLC0415 -- heavy: not for --help

    with opened(config) as desk:
        found = desk.ledger.find(run)
        if found is None:
            raise UserError(f"There is no run {run[:24]}. `octocert status` lists the recent ones.")
        click.echo(made(found, target))
    return 0


@click.group(short_help="Verify or export the audit log.")
def audit() -> None:
    """Verify or export the audit log. Both only read, and may run beside the bot."""


@audit.command(short_help="Check that no entry was changed, removed or moved.")
@configured
@_state
@click.option("--head", metavar="COUNT:HASH", help="An end of the chain that was seen elsewhere, as in the log stream.")
def verify(config: Path, state: Path | None, head: str | None) -> int:
    """Check the chain of the audit log. Exits 0, or 1 naming the first bad entry.

    Entries cut off at the end leave a chain that is whole: the head in the log stream (count and hash of each entry)
    shows them, and so does the file .audit-head beside an SQLite database, which is compared, too.
    """
    import sqlalchemy as sa  # noqa: PLC0415 -- heavy: not for --help

    from bot.audit import head_of  # noqa: PLC0415 -- heavy: not for --help

    seen = head_of(head) if head else None
    if head and seen is None:
        raise click.BadParameter("a head is COUNT:HASH, with 64 hexadecimal digits.", param_hint="--head")
    try:
        with opened(config, state) as desk:
            flaw = next(desk.audit.flaws(seen), None) or desk.audit.older_than_its_head()
            whole = "" if flaw else _whole(desk.audit.head())
    except (sa.exc.DatabaseError, UnicodeDecodeError) as error:
        flaw = f"The database cannot be read: {str(getattr(error, 'orig', None) or error).splitlines()[0]}."
    if flaw:
        click.echo(f"octocert: {flaw}", err=True)
        return EXIT_FLAWED
    click.echo(whole)
    return 0


def _whole(head: "Head") -> str:
    return f"The audit log is whole: {head.count} entries. Its head is {head}"


@audit.command(short_help="Write all entries to standard output.")
@configured
@_state
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
def export(config: Path, state: Path | None, form: str) -> int:
    """Write all entries to standard output, the oldest first, as JSON lines or CSV."""
    fields = ("seq", "at", "kind", "who", "run", "target", "digest", "old", "new", "what", "extra", "previous", "hash")
    table = csv.DictWriter(sys.stdout, fields, lineterminator="\n") if form == "csv" else None
    if table:
        table.writeheader()
    with opened(config, state) as desk:
        for one in desk.audit.all_entries():
            row = {"seq": one.seq, "at": one.at.isoformat(), **asdict(one.entry), "previous": one.previous}
            row["hash"] = one.hash
            if table:
                row["extra"] = json.dumps(row["extra"]) if row["extra"] else ""
                table.writerow({k: _inert(v) for k, v in row.items()})
            else:
                click.echo(json.dumps(row, ensure_ascii=False))
    return 0


def _inert(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


COMMANDS = (status, freeze, cancel, runbook, audit)
