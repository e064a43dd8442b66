"""Processes of the benchmark: how much memory one took with all that it started, and how much of the processor."""

import os
import threading
from pathlib import Path

LOOK_SECONDS = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor's time that a process took so far, with the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


class Memory:
    """Looks at a process and its descendants until it is closed; what processes share is counted once."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak_kb = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory", daemon=True)
        self._thread.start()

    @property
    def now_kb(self) -> int:
        """What is in use now."""
        return sum(_proportional(pid) for pid in _tree(self._pid))

    def close(self) -> int:
        """Look no more; return the peak in KB."""
        self._ended.set()
        self._thread.join()
        return self.peak_kb

    def _work(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.peak_kb = max(self.peak_kb, self.now_kb)


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0  # it has ended
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _tree(pid: int) -> list[int]:
    found, todo = list[int](), [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text(encoding="utf-8").split()]
        except OSError:
            continue  # it has ended
    return found
