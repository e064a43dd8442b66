"""Where bots are born: a process that has loaded all of their code, and forks. Most of a bot's start is loading it."""

import faulthandler
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["bot.app", "bot.cli", "bot.operating.web", "handlers"])


class Born:
    """A process that runs a program as if by a command line, and appends what it prints to a file.

    The first word is `octocert`, or the path of a Python script.
    """

    def __init__(self, words: Sequence[str], output: Path) -> None:
        self._process = _context.Process(target=_live, args=(list(words), output, dict(os.environ)))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its id."""
        assert self._process.pid
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Return its exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Wait until it has ended; return what `poll` does. After so many seconds it says where it is, and dies."""
        self._process.join(seconds)
        code = self.poll()
        if code is None:
            self.send_signal(signal.SIGUSR1)
            time.sleep(1)  # it writes where each of its threads is
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(f"the process {self.pid} did not end within {seconds:.0f} s")
        return code


def _live(words: Sequence[str], output: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with output.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.register(signal.SIGUSR1)
    sys.argv = list(words)
    if words[0] == "octocert":
        from bot.cli import main

        main()
    else:
        runpy.run_path(words[0], run_name="__main__")
