"""The pace at which Slack takes messages: what it refused to take so fast is held back, and nothing else is.

Sources: docs.slack.dev/apis/web-api/rate-limits. `chat.update` has a limit for all messages together, about fifty a
minute; `chat.postMessage` has one for each channel, about one a second, where short bursts are tolerated. How long a
burst may be is not documented, so it is learned.
"""

from collections import deque
from math import inf

from bot.clock import Clock

EDIT_SECONDS = 1.2
"""Between two edits of one message, unless it is the last (docs: bursts of edits are rate-limited)."""
EDITS_PER_MINUTE = 40
"""For all messages together: chat.update is Slack's tier 3, about 50 a minute."""
POST_SECONDS = 1.1
"""Between two new messages in a channel in which Slack refused one as too soon."""
SLOW_SECONDS = 60.0
"""How long a channel must be quiet before a burst is tried there again."""
MINUTE = 60.0


class Pace:
    """When what may be sent; one thread uses it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._edits: deque[float] = deque()
        self._edited: dict[str, float] = {}
        self._no_edits_until = 0.0
        self._shut: dict[str, float] = {}
        """Until when nothing new is posted in a channel."""
        self._slow: dict[str, float] = {}
        """Until when new messages keep their distance in a channel."""

    def may(self, channel: str, key: str, *, is_new: bool, final: bool) -> bool:
        """Whether a message may be posted or edited now; its last edit waits only where Slack has refused edits."""
        now = self._clock.monotonic()
        if is_new:
            return now >= self._shut.get(channel, 0.0)
        while self._edits and self._edits[0] < now - MINUTE:
            self._edits.popleft()
        if now < self._no_edits_until:
            return False
        if final:
            return True
        return len(self._edits) < EDITS_PER_MINUTE and now - self._edited.get(key, -EDIT_SECONDS) >= EDIT_SECONDS

    def edited(self, key: str, *, final: bool) -> None:
        """Note that a message is edited now."""
        now = self._clock.monotonic()
        self._edits.append(now)
        if final:
            self._edited.pop(key, None)
        else:
            self._edited[key] = now

    def posted(self, channel: str) -> None:
        """Note that something new stands in a channel."""
        now = self._clock.monotonic()
        if now < self._slow.get(channel, 0.0):
            self._shut[channel] = now + POST_SECONDS
            self._slow[channel] = now + SLOW_SECONDS

    def no_edits(self, seconds: float) -> None:
        """Edit nothing for so many seconds: Slack refused an edit as too many."""
        self._no_edits_until = self._clock.monotonic() + seconds

    def no_posts(self, channel: str, seconds: float) -> None:
        """Post nothing new in a channel for so many seconds, and slowly from then on: Slack refused it as too soon."""
        now = self._clock.monotonic()
        self._shut[channel] = now + seconds
        self._slow[channel] = now + seconds + SLOW_SECONDS

    def shut(self) -> frozenset[str]:
        """Return the channels in which nothing new may be posted now."""
        now = self._clock.monotonic()
        self._shut = {channel: until for channel, until in self._shut.items() if now < until}
        self._slow = {channel: until for channel, until in self._slow.items() if now < until}
        return frozenset(self._shut)

    def pause(self) -> float:
        """Return in how many seconds the next channel is open again; infinity where none is shut."""
        return max(0.0, min(self._shut.values(), default=inf) - self._clock.monotonic())
