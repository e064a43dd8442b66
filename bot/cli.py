"""The command line. It joins bot and handlers, and turns every end into a sentence.

What a command needs is imported when the command runs, so that `--help` answers at once.
"""

import signal
import sys
from pathlib import Path

import click

from bot import __version__
from bot.domain.errors import UserError
from bot.operating import bench_command, commands, keeping, terminal
from bot.operating.options import configured

EXIT_OK = 0
EXIT_UNEXPECTED = 1
"""Something that nobody foresaw; the log has the traceback."""
EXIT_REFUSED = 2
"""A mistake that the sentence on standard error explains."""
EXIT_INTERRUPTED = 130
"""Ended by Ctrl-C, as shells count it."""

STORIES = ("tentacle", "failure", "server", "fleet")


def main() -> None:
    """Run the command line and exit: 0 done, 1 unexpected or a story ended badly, 2 refused, 130 interrupted."""
    # Whatever stops services (systemd, containers) gets the same orderly end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        result: object = octocert.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UserError as error:
        return _refused(error)
    except (KeyboardInterrupt, click.Abort):
        click.echo("octocert: stopped.", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- the last place: nothing ends in a bare traceback
        return _unexpected(error)
    return result if isinstance(result, int) else EXIT_OK


def _refused(error: UserError) -> int:
    from bot import logs  # noqa: PLC0415 -- only for a failure

    for sentence in logs.clean(str(error)).splitlines():
        click.echo(f"octocert: {sentence}", err=True)
    return EXIT_REFUSED


def _unexpected(error: Exception) -> int:
    import secrets  # noqa: PLC0415 -- only for a failure

    import structlog  # noqa: PLC0415 -- only for a failure

    from bot import logs  # noqa: PLC0415 -- only for a failure

    reference = secrets.token_hex(2)
    if not structlog.is_configured():
        logs.configure()
    structlog.get_logger("octocert").error("unexpected", reference=reference, exc_info=error)
    click.echo(
        f"octocert: something unexpected happened, reference {reference}. "
        "The log above has the details; please report it with them.",
        err=True,
    )
    return EXIT_UNEXPECTED


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="octocert", message="%(prog)s %(version)s")
def octocert() -> None:
    """Rotate the certificates by which Octopus Server and its Tentacles trust each other, from Slack.

    Someone types /octocert rotate web-01; the bot shows what it will do, waits until a second person approves, and does
    it. See it on this machine, without any account, by: octocert demo
    """


for command in (
    commands.init,
    commands.manifest,
    commands.doctor,
    keeping.backup,
    keeping.unlock,
    bench_command.bench,
    *terminal.COMMANDS,
):
    octocert.add_command(command)


@octocert.command(short_help="Run the bot against Slack, Octopus and your hosts.")
@configured
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Take Slack's signed requests here, behind a proxy, instead of connecting to Slack by Socket Mode.",
)
def run(config: Path, http: str | None) -> int:
    """Run the bot against a Slack workspace, an Octopus Server and Windows hosts, until it is stopped.

    Ctrl-C or SIGTERM stops it; runs in progress go on where they were when it is started again. A second one ends it at
    once, which is safe as well.
    """
    import structlog  # noqa: PLC0415 -- heavy: not for --help

    from bot import logs  # noqa: PLC0415 -- heavy: not for --help
    from bot.operating import memory, processor  # noqa: PLC0415 -- likewise
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings_operating import address_of  # noqa: PLC0415 -- heavy: not for --help

    memory.tighten()
    number = processor.stay()  # before any thread is started
    address = address_of(http) if http else None
    if http and address is None:
        raise click.BadParameter("it must be HOST:PORT, such as 127.0.0.1:8080.", param_hint="--http")
    settings = load(config)
    for secret in settings.read_secrets():
        logs.hide(secret.reveal())
    logs.configure(settings.log.level, settings.log.format)
    structlog.get_logger("octocert").debug("the processor on which the bot stays", processor=number)
    for caution in settings.cautions:
        structlog.get_logger("octocert").warning(caution)
    import handlers  # noqa: PLC0415 -- heavier still: not before the configuration is known to be good
    from bot import app  # noqa: PLC0415 -- likewise

    return app.run(settings, handlers.register, http=address)


@octocert.command(short_help="Show the estate as a table; changes nothing, needs no Slack.")
@click.argument("selectors", nargs=-1, metavar="[SELECTOR]...")
@configured
@click.option("--csv", "form", flag_value="csv", help="Print all columns as CSV.")
@click.option("--json", "form", flag_value="json", help="Print one line of JSON: counts and targets.")
def inventory(selectors: tuple[str, ...], config: Path, form: str | None) -> int:
    """Show the estate as a table: witnesses, expiry, algorithm, version, health.

    SELECTORs are those of the bot: names, globs, env:NAME, role:NAME, expiring:30d, not:… and so on; without any, all
    targets. It only reads, and needs no Slack. Exits 0 if all is well, 3 if witnesses disagree, a certificate has
    expired or a target was not seen, 2 if it could not look.
    """
    from bot import logs  # noqa: PLC0415 -- heavy: not for --help
    from bot.app import looking  # noqa: PLC0415 -- heavy: not for --help
    from bot.operating import inventory as command  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help

    logs.configure("WARNING")
    with looking(load(config)) as inspector:
        return command.run(inspector, selectors, form or "table")


@octocert.command(short_help="After a restore: compare the database with the hosts' journals.")
@configured
def reconcile(config: Path) -> int:
    """Read the journal of every host and show what was done that the database does not know, or knows otherwise.

    For a database that was restored from a backup, before its freeze is lifted; the bot may be running. It only reads.
    Exits 0 if all agree, 3 if a host tells otherwise or could not be asked. A journal goes with the copy of the old
    key, a day after its run: what was done longer ago is not seen here, but stands in the log stream.
    """
    from bot import logs  # noqa: PLC0415 -- heavy: not for --help
    from bot.app import looking_everywhere  # noqa: PLC0415 -- heavy: not for --help
    from bot.operating import reconciling  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help

    logs.configure("WARNING")
    with looking_everywhere(load(config)) as (inspector, servers):
        return reconciling.run(config, inspector, servers)


@octocert.command(short_help="See it all on this machine, without any account.")
@click.option(
    "--play",
    "story",
    type=click.Choice(STORIES),
    is_flag=False,
    flag_value=STORIES[0],
    metavar="[STORY]",
    help="Without a browser: play a story and print its thread. tentacle (the default) rotates a certificate; in "
    "failure the import fails; server rotates the Server's own; fleet goes in waves, with failures and a retry. "
    "Exits 0 only if the world ended as the story promises.",
)
@click.option("--json", "as_json", is_flag=True, help="With --play: end with one line of JSON that tells the outcome.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="N",
    help="The port of the page on 127.0.0.1. Default: any free one.",
)
@click.option(
    "--bind",
    metavar="ADDRESS",
    help="Serve the page to others, too: 0.0.0.0 in a container. Whoever reaches it may play everybody.",
)
@click.option(
    "--hosts",
    type=click.IntRange(1, 2_000),
    metavar="N",
    help="About how many Tentacles the estate has. Default: 12, for the story of a fleet 40.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, metavar="N", help="The same number makes the same estate."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep database and hosts in this new folder. Default: a temporary one that goes when the demo ends.",
)
def demo(
    story: str | None, as_json: bool, port: int, bind: str | None, hosts: int | None, seed: int, state: Path | None
) -> int:
    """See it all on this machine, without any account.

    Starts the real bot beside a Slack, an Octopus Server and Windows hosts that behave like the real ones, and prints
    the address of a page: there you type /octocert rotate, switch to another person, and approve.
    """
    if as_json and story is None:
        raise click.UsageError("--json belongs to --play.")
    import handlers  # noqa: PLC0415 -- heavy: not for --help
    from bot import logs  # noqa: PLC0415 -- heavy: not for --help
    from bot.sandbox import demo as sandbox  # noqa: PLC0415 -- heavy: not for --help

    # Standard output belongs to the story; of the log only what went wrong is worth a line beside it.
    logs.configure("WARNING")
    if story is not None:
        return sandbox.play(story, as_json, hosts, seed, state, handlers.register)
    return sandbox.serve(port, hosts, seed, state, handlers.register, bind=bind)
