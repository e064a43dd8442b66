"""A Postgres of one's own for a test, from Debian's packages, on a socket in a folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Return the folder of Postgres's programs, None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    return Path(beside).resolve().parent if beside else None


def restart(url: str) -> None:
    """Restart the server of `server` without a goodbye to anybody, as a crash of it would."""
    home, folder = Path(url.partition("host=")[2]), programs()
    assert folder is not None
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    command = [folder / "pg_ctl", "-D", home / "data", "-w", "-m", "immediate", "-l", home / "log", "restart"]
    subprocess.run([*as_postgres, *command], check=True, stdout=subprocess.DEVNULL, cwd=home, timeout=60)


@contextmanager
def server(*, durable: bool = False) -> Iterator[str]:
    """Start a server, yield the URL of an empty database, and remove all of it again.

    `durable`, it waits for its disk at each commit, as a real one does; tests need not.
    """
    folder = programs()
    assert folder is not None
    # Postgres refuses root, and its socket's path must be short
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_postgres:
        shutil.chown(home, "postgres")

    def run(*command: str | Path) -> None:
        subprocess.run([*as_postgres, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=home, timeout=60)

    try:
        run(folder / "initdb", "-D", home / "data", "-A", "trust", "-U", "octocert", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={home} -c fsync={'on' if durable else 'off'}"
        run(folder / "pg_ctl", "-D", home / "data", "-w", "-l", home / "log", "-o", options, "start")
        try:
            run(folder / "createdb", "-h", home, "-U", "octocert", "octocert")
            yield f"postgresql://octocert@/octocert?host={home}"
        finally:
            run(folder / "pg_ctl", "-D", home / "data", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
