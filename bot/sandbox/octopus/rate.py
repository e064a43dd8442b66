"""The rate limit of Octopus 2026.3: a token bucket per user (docs: rate-limiting)."""

import math
import threading

from bot.clock import Clock


class RateLimit:
    """So many requests per minute and user, as many at once."""

    def __init__(self, clock: Clock, per_minute: int | None) -> None:
        self.per_minute = per_minute
        """None: no limit. May be changed at any time."""
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, user: str) -> int | None:
        """Take one request from a user's bucket; when it is empty, return the seconds for `Retry-After`."""
        limit = self.per_minute
        if limit is None:
            return None
        now = self._clock.monotonic()
        with self._lock:
            tokens, since = self._buckets.get(user, (float(limit), now))
            tokens = min(float(limit), tokens + (now - since) * limit / 60)
            if tokens < 1:
                self._buckets[user] = (tokens, now)
                return math.ceil((1 - tokens) * 60 / limit)
            self._buckets[user] = (tokens - 1, now)
            return None
