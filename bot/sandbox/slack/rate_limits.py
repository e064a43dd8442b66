"""Slack's rate limits: per method and app a number of calls a minute, per channel about one message a second.

Source: docs.slack.dev/apis/web-api/rate-limits. How long a "short burst" to a channel may be is not documented; ours is
a choice.
"""

import math
import threading
from collections import deque

from bot.clock import Clock

TIERS = {1: 1, 2: 20, 3: 50, 4: 100}  # calls in a minute
METHOD_TIERS = {
    "apps.connections.open": 1,
    "chat.delete": 3,
    "chat.postEphemeral": 4,
    "chat.scheduleMessage": 3,
    "chat.update": 3,
    "conversations.history": 3,
    "conversations.info": 3,
    "conversations.list": 2,
    "conversations.open": 3,
    "conversations.replies": 3,
    "files.completeUploadExternal": 4,
    "files.getUploadURLExternal": 4,
    "pins.add": 2,
    "reactions.add": 3,
    "reactions.remove": 2,
    "usergroups.list": 2,
    "usergroups.users.list": 2,
    "users.info": 4,
    "users.list": 2,
    "users.lookupByEmail": 3,
    "views.open": 4,
    "views.publish": 4,
    "views.push": 4,
    "views.update": 4,
}
CHANNEL_BURST = 4  # messages to one channel before one a second is all
CONNECTION_BURST = (
    10  # Slack says Tier 1 for apps.connections.open; reconnecting clients are seen to be let through more often
)


class RateLimits:
    """Counts calls and says how long a caller must wait.

    `scale` 2.0 makes every limit twice as strict, 0 switches all off.
    """

    def __init__(self, clock: Clock, scale: float = 1.0) -> None:
        self.scale = scale
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: dict[str, deque[float]] = {}
        self._channels: dict[str, tuple[float, float]] = {}  # tokens left, and when

    def wait(self, method: str, channel: str = "") -> int:
        """Count one call; return 0 when it may go on, else the whole seconds of `Retry-After`."""
        if self.scale <= 0:
            return 0
        with self._lock:
            now = self._clock.monotonic()
            if method == "chat.postMessage":
                return self._channel(channel, now)
            return self._method(method, now)

    def _method(self, method: str, now: float) -> int:
        """Count a call against its method's tier, over a sliding minute."""
        allowed = TIERS[METHOD_TIERS.get(method, 3)]
        if method == "apps.connections.open":
            allowed = CONNECTION_BURST
        most = max(1, int(allowed / self.scale))
        calls = self._calls.setdefault(method, deque())
        while calls and calls[0] <= now - 60:
            calls.popleft()
        if len(calls) >= most:
            return max(1, math.ceil(calls[0] + 60 - now))
        calls.append(now)
        return 0

    def _channel(self, channel: str, now: float) -> int:
        """Count a message against its channel's bucket."""
        rate = 1.0 / self.scale
        tokens, then = self._channels.get(channel, (float(CHANNEL_BURST), now))
        tokens = min(float(CHANNEL_BURST), tokens + (now - then) * rate)
        if tokens < 1:
            self._channels[channel] = (tokens, now)
            return max(1, math.ceil((1 - tokens) / rate))
        self._channels[channel] = (tokens - 1, now)
        return 0
