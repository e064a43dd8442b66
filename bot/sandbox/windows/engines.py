"""PowerShell processes that serve visits one after another: a new one for each takes two seconds of a processor.

A visit that was killed or hung up on takes its process along. Our scripts make no global variables that a later visit
could find.
"""

import atexit
import base64
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from types import ModuleType

from bot.sandbox import windows

MOST_IDLE = 2
"""Processes that wait for a visit; each takes some 160 MB (measured)."""
MOST_VISITS = 50
"""Visits that one process serves, so that what is left of them does not add up."""
EOT = b"\x04"
"""Comes before the exit code of a visit; no line of JSON in ASCII holds it."""


Process = subprocess.Popen[bytes]


def file_of(package: ModuleType, name: str) -> str:
    """Return the path of a file in a package."""
    return str(resources.files(package).joinpath(name))


def start(powershell: Path, arguments: list[str], environment: Mapping[str, str], folder: Path) -> Process:
    """Start a PowerShell in a process group of its own, with pipes whose ends are read without waiting."""
    process = subprocess.Popen(
        [powershell, "-NoProfile", "-NonInteractive", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=folder,
        start_new_session=True,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TZ": "UTC",  # the local time of every host of the sandbox
            "POWERSHELL_TELEMETRY_OPTOUT": "1",
            "DOTNET_TieredPGO": "0",
            **environment,
        },
    )
    for pipe in (process.stdout, process.stderr):
        os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]  # both are pipes
    return process


class Engine:
    """One process that serves visits."""

    def __init__(self, powershell: Path) -> None:
        self.powershell = powershell
        self.visits = 0
        self.process = start(powershell, ["-File", file_of(windows, "engine.ps1")], {}, Path("/"))

    def begin(self, environment: Mapping[str, str], folder: Path, bootstrap: str) -> None:
        """Begin a visit: from now on standard input is its own."""
        self.visits += 1
        visit = {
            "environment": dict(environment),
            "folder": str(folder),
            "stand_ins": file_of(windows, "stand_ins.ps1"),
            "bootstrap": bootstrap,
        }
        assert self.process.stdin is not None
        with suppress(OSError):  # it died while it was idle, and the visit will see it end
            self.process.stdin.write(base64.b64encode(json.dumps(visit).encode()) + b"\n")

    def end(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]  # all are pipes


class Engines:
    """The processes that wait for a visit."""

    def __init__(self) -> None:
        self._idle: list[Engine] = []
        self._lock = threading.Lock()

    def take(self, powershell: Path) -> Engine:
        """Return one that waits, or a new one."""
        with self._lock:
            for engine in self._idle:
                if engine.powershell == powershell and engine.process.poll() is None:
                    self._idle.remove(engine)
                    return engine
        return Engine(powershell)

    def give_back(self, engine: Engine) -> None:
        """Let one whose visit ended by itself wait for the next."""
        with self._lock:
            is_welcome = len(self._idle) < MOST_IDLE and engine.visits < MOST_VISITS
            if is_welcome:
                self._idle.append(engine)
        if not is_welcome:
            engine.end()

    def close(self) -> None:
        """End all that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for engine in idle:
            engine.end()


ENGINES = Engines()
"""Those of this process."""
atexit.register(ENGINES.close)
