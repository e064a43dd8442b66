"""The one clock: every wait and every timestamp of octocert goes through it, so that tests of long waits take none."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time as octocert sees it."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards, for measuring durations and deadlines."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until an event is set, at most so many seconds; return whether it is."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until an event is set, at most so many seconds; return whether it is."""
        return event.wait(seconds)


class FakeClock:
    """A clock that stands still until it is moved; sleeping moves it at once."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
        self._monotonic = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time to which the clock was last moved."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds by which the clock was moved so far."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Move the clock on by so many seconds, without waiting."""
        self.advance(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event in the machine's seconds, for whoever sets it lives in them; the clock stands still."""
        return event.wait(seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock on by so many seconds."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds
