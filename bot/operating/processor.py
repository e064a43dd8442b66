"""The processor on which the process works."""

import ctypes
import os
from contextlib import suppress


def stay() -> int | None:
    """Keep this thread, and those that it will start, on the processor on which it runs; return its number.

    One thread of an interpreter works at a time, and each change to another processor finds that one's caches cold: a
    sixth of the bot's work in a fleet's run (docs/benchmarks.md). The system has just chosen this one, among those that
    the process may use; it moves others away from here. None where the system cannot do that.
    """
    with suppress(OSError, AttributeError, ValueError):
        number = int(ctypes.CDLL(None).sched_getcpu())  # see sched_getcpu(3)
        os.sched_setaffinity(0, {number})
        return number
    return None
