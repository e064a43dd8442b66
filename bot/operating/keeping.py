"""What an administrator does about the database: backup, and unlock. Heavy modules are imported when a command runs."""

from pathlib import Path

import click

from bot.operating.options import configured


@click.command(short_help="Copy the database to a file, while the bot works.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@configured
def backup(file: Path, config: Path) -> int:
    """Copy the SQLite database to a new FILE, while the bot works. For PostgreSQL it names the command to use.

    To restore: stop the bot, put the copy in the place of the database, remove the files -wal and -shm beside it, and
    start the bot.
    """
    from bot.runs import backup as backups  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help

    size = backups.copy(load(config).database.url, file)
    click.echo(f"{file} holds the whole database ({size / 1024:.0f} KB), as it was a moment ago.")
    return 0


@click.command(short_help="Give back a host's lock that a dead run left.")
@click.argument("host")
@configured
@click.option("--force", is_flag=True, help="Also if its run is not over. Be sure that nothing works on that host.")
def unlock(host: str, config: Path, force: bool) -> int:
    """Give back the lock of HOST (its address, as messages name it) that a run left which will never end.

    The lock of a run that is over is given back by itself within an hour. With SQLite, stop the bot before.
    """
    import getpass  # noqa: PLC0415 -- only here

    from bot.clock import SystemClock  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.auditing import audit_of  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.database import Database  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.ledger import Ledger  # noqa: PLC0415 -- heavy: not for --help
    from bot.runs.unlocking import unlocked  # noqa: PLC0415 -- heavy: not for --help
    from bot.settings import load  # noqa: PLC0415 -- heavy: not for --help

    settings, clock = load(config), SystemClock()
    password = settings.database.url_password
    with Database(settings.database.url, password=password.read() if password else None) as database:
        ledger, audit = Ledger(database.engine, clock), audit_of(settings, database.engine, clock)
        click.echo(unlocked(ledger, audit, clock, host, by=getpass.getuser(), force=force))
    return 0
