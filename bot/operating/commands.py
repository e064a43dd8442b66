"""The commands of an administrator: init, manifest, doctor. Heavy modules are imported when a command runs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot.operating.options import CONFIG, configured

if TYPE_CHECKING:
    from bot.operating.examination import Check, Examination

SAMPLE = 3
EXIT_OK, EXIT_FOUND = 0, 1
"""All is in order; the doctor found something."""


@click.command(short_help="Write a configuration, with a sentence for every setting.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=CONFIG,
    show_default=True,
    metavar="FILE",
    help="Where to write it.",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
@click.option("--defaults", is_flag=True, help="Ask nothing: what no option says gets a default or a placeholder.")
@click.option("--octopus-url", metavar="URL", help="The address of the Octopus Server.")
@click.option(
    "--transport",
    type=click.Choice(["ntlm", "kerberos", "certificate", "basic"]),
    help="How the bot logs in to Windows hosts.",
)
@click.option("--username", metavar="NAME", help="The account for Windows hosts.")
@click.option("--ca-file", metavar="FILE", help="The CA (PEM) that issued the hosts' WinRM certificates.")
@click.option("--approver", "approvers", multiple=True, metavar="ID", help="A Slack user who may approve. Repeatable.")
@click.option("--database", metavar="URL", help="SQLite file or PostgreSQL address.")
@click.option("--http", is_flag=True, help="Slack posts signed requests (octocert run --http), not Socket Mode.")
@click.option("--secrets", metavar="DIR", help="The secrets are files in this folder, not environment variables.")
def init(
    out: Path,
    force: bool,
    defaults: bool,
    octopus_url: str | None,
    transport: str | None,
    username: str | None,
    ca_file: str | None,
    approvers: tuple[str, ...],
    database: str | None,
    http: bool,
    secrets: str | None,
) -> int:
    """Write a configuration with a sentence for every setting, and say what comes next.

    Asks for what only you can know, unless an option says it.
    """
    from bot.operating import configuration, questions  # noqa: PLC0415 -- heavy: not for --help

    given = {
        "octopus_url": octopus_url,
        "transport": transport,
        "username": username,
        "ca_file": ca_file,
        "approvers": approvers or None,
        "database": database,
        "secrets": secrets,
    }
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    known["socket_mode"] = not http
    answers = questions.checked(known) if defaults else questions.ask(known)
    configuration.write(out, configuration.text(answers), force=force)
    click.echo(questions.next_steps(out, answers))
    return EXIT_OK


@click.command(short_help="Print the manifest of the Slack app, as JSON.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the slash command from this configuration.  [default: octocert.toml, if it is there]",
)
@click.option("--http-url", metavar="URL", help="Slack posts signed requests here (octocert run --http).")
def manifest(config: Path | None, http_url: str | None) -> int:
    """Print the manifest from which a Slack app is made, as one JSON document.

    It asks for exactly the scopes that the bot uses. Paste it at api.slack.com/apps under “Create New App → From a
    manifest”, or give it to the Slack CLI.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 -- only here

    from bot.operating import manifest as making  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings_tables import Slack  # noqa: PLC0415 -- heavy: not for --help
    from bot.slack.paths import EVENTS_PATH  # noqa: PLC0415 -- heavy: not for --help

    if http_url is not None:
        parts = urlsplit(http_url)
        if parts.scheme != "https" or not parts.hostname:
            raise click.BadParameter("Slack posts to https addresses only.", param_hint="--http-url")
        if parts.path in {"", "/"}:
            http_url = http_url.rstrip("/") + EVENTS_PATH
    path = config or (CONFIG if CONFIG.exists() else None)
    command = load(path).slack.command if path else str(Slack.model_fields["command"].default)
    click.echo(json.dumps(making.manifest(command, request_url=http_url), indent=2))
    return EXIT_OK


@click.command(short_help="Check everything that the bot needs, and say how to mend it.")
@configured
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: ok, and all checks.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Visit the host of this target. Repeatable.")
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=SAMPLE,
    show_default=True,
    metavar="N",
    help="Without --host: how many hosts are visited, one for each way to log in first.",
)
def doctor(config: Path, as_json: bool, hosts: tuple[str, ...], sample: int) -> int:
    """Check in order everything that the bot needs, and say for each failure how to mend it.

    Changes nothing, and may be used beside a running bot. Exits 0 if all is in order, 1 if not.
    """
    from bot import logs  # noqa: PLC0415 -- heavy: not for --help
    from bot.clock import SystemClock  # noqa: PLC0415 -- heavy: not for --help
    from bot.operating import doctor as doctors  # noqa: PLC0415 -- heavy: not for --help

    logs.configure("ERROR")
    with _progress() as on_begin:
        found = doctors.examine(config, clock=SystemClock(), hosts=hosts, sample=sample, on_begin=on_begin)
    if as_json:
        click.echo(json.dumps(found.document(), ensure_ascii=False, indent=2))
    else:
        _tell(found)
    return EXIT_OK if found.ok else EXIT_FOUND


@contextmanager
def _progress() -> Iterator[Any]:
    """Show on a terminal what is being looked at; standard output belongs to the result."""
    from rich.console import Console  # noqa: PLC0415 -- heavy: not for --help
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 -- likewise

    console = Console(file=sys.stderr)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking", total=None)
        yield lambda name: bar.update(task, description=name, advance=1)


def _tell(found: "Examination") -> None:
    for check in found.checks:
        mark, colour = _mark(check)
        click.echo(f"{click.style(mark, fg=colour)} {check.name}: {check.detail}")
        if check.advice and not check.skipped:
            click.echo(f"    → {check.advice}")
    failed, skipped = (sum(not c.ok and c.skipped is s for c in found.checks) for s in (False, True))
    if found.ok:
        click.echo(f"\nAll {len(found.checks)} checks are in order. Next: octocert run")
    else:
        rest = f", {skipped} could not be made because of that" if skipped else ""
        click.echo(f"\n{failed} of {len(found.checks)} checks failed{rest}. Mend the first one, then ask again.")


def _mark(check: "Check") -> tuple[str, str]:
    if check.ok:
        return ("!", "yellow") if check.advice else ("✓", "green")
    return ("-", "bright_black") if check.skipped else ("✗", "red")
