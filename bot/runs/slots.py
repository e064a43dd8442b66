"""Slots: how many targets one process works on at the same time, whichever runs they belong to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """Places for work on single targets. Who starts a piece of work reserves its place; who does it gives it back.

    A piece of work that comes by another way (resumed after a crash) has no place yet and waits for one.
    """

    def __init__(self, width: int) -> None:
        self._free = threading.Semaphore(width)
        self._lock = threading.Lock()
        self._reserved: set[str] = set()

    def reserve(self, work: str, within: float) -> bool:
        """Keep a place for a piece of work; False if none becomes free within so many seconds."""
        if not self._free.acquire(timeout=within):
            return False
        with self._lock:
            self._reserved.add(work)
        return True

    def cancel(self, work: str) -> None:
        """Give back the place of work that did not begin."""
        if self._take(work):
            self._free.release()

    @contextmanager
    def place(self, work: str, within: float) -> Iterator[bool]:
        """Use the place that was kept for a piece of work, or the next free one; False if none came within seconds."""
        has_place = self._take(work) or self._free.acquire(timeout=within)
        try:
            yield has_place
        finally:
            if has_place:
                self._free.release()

    def _take(self, work: str) -> bool:
        with self._lock:
            if work not in self._reserved:
                return False
            self._reserved.remove(work)
            return True
