"""The notifier: brings the outbox into Slack, edits in place, and stays under Slack's limits.

The newest version of a message wins, so a run that changes ten times a second costs one edit a second. Ends are never
held back. Nothing is lost while Slack is away: what is due stays due.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.clock import Clock
from bot.slack.message import Message

log = structlog.get_logger("octocert.notifier")

EDIT_SECONDS = 1.2
"""Between two edits of one message, unless it is the last (docs: bursts of edits are rate-limited)."""
EDITS_PER_MINUTE = 40
"""For all messages together: chat.update is Slack's tier 3, about 50 a minute."""
LOOK_SECONDS = 0.2
"""How often the outbox is looked at; `wake` makes it at once."""
BATCH = 50
"""Messages taken from the outbox at once."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds to wait when Slack does not answer; the last one is repeated."""
WHISPER_TRIES = 3
EVENT = "octocert"
"""The event_type of our messages' metadata, by which they are found again after a crash."""
LOST = {"message_not_found", "thread_not_found"}
"""The message that should be edited is gone: it is posted anew."""
HOPELESS = {
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_too_long",
    "no_text",
    "cant_update_message",
    "edit_window_closed",
    "restricted_action",
    "missing_scope",
    "metadata_too_large",
}
"""Errors that the same message meets again however often it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One message that is not in Slack in its newest version."""

    key: str
    """Unique for ever; also in the message's metadata."""
    channel: str
    thread_ts: str | None
    version: int
    message: Message
    ts: str | None
    """Where it stands in Slack already: then it is edited."""
    final: bool
    rich: Message | None
    """Preferred variant with newer blocks; workspaces that refuse them get `message` from then on."""


class Outbox(Protocol):
    """Where messages wait."""

    def due(self, limit: int) -> list[Post]:
        """Return messages whose newest version is not in Slack yet, oldest first."""
        ...

    def sent(self, key: str, version: int, ts: str) -> None:
        """Note where a version of a message stands."""
        ...

    def refused(self, key: str, version: int, error: str) -> None:
        """Note that Slack will never take this version."""
        ...


class Notifier:
    """One thread that posts and edits."""

    def __init__(self, client: WebClient, outbox: Outbox, clock: Clock) -> None:
        self._client = client
        self._outbox = outbox
        self._clock = clock
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._working = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)
        self._edited: dict[str, float] = {}
        self._edits: deque[float] = deque()
        self._plain_only = False
        self._resting_until = 0.0
        self._failures = 0
        self._uncertain: set[str] = set()
        """Keys of first posts of which it is not known whether Slack took them."""
        self._started = False

    def start(self) -> None:
        """Begin; what was due when the bot last stopped may be in Slack already, and is looked for first."""
        self._uncertain = {p.key for p in self._outbox.due(10_000) if p.ts is None}
        self._started = True
        self._thread.start()

    def stop(self) -> None:
        """End; what is still due is sent at the next start."""
        self._ended.set()
        self._awake.set()
        if self._started:
            self._thread.join(timeout=30)

    def wake(self) -> None:
        """Look at the outbox now."""
        self._awake.set()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing is due, at most so many seconds; return whether that is so."""
        end = self._clock.monotonic() + seconds
        while self._outbox.due(1):
            if self._clock.monotonic() >= end:
                return False
            self.wake()
            self._clock.sleep(LOOK_SECONDS)
        return True

    def ephemeral(self, channel: str, user: str, message: Message, thread: str | None = None) -> None:
        """Say something that only one person sees; best effort, for Slack keeps no such message anyway."""
        for attempt in range(WHISPER_TRIES):
            try:
                self._client.chat_postEphemeral(
                    channel=channel, user=user, text=message.text, blocks=list(message.blocks), thread_ts=thread
                )
            except SlackApiError as error:
                if _name(error) in HOPELESS or attempt + 1 == WHISPER_TRIES:
                    log.warning("a whisper was not taken", error=_name(error), user=user)
                    return
                self._clock.sleep(_retry_after(error) or PAUSES[attempt])
            except OSError as error:
                log.warning("a whisper was not sent", error=type(error).__name__, user=user)
                self._clock.sleep(PAUSES[attempt])
            else:
                return

    def _work(self) -> None:
        while not self._ended.is_set():
            self._awake.wait(LOOK_SECONDS)
            self._awake.clear()
            try:
                self.deliver()
            except Exception:
                log.exception("the notifier's round failed; it goes on")

    def deliver(self) -> None:
        """Send what may be sent now."""
        with self._working:
            for post in self._outbox.due(BATCH):
                if self._ended.is_set() or self._clock.monotonic() < self._resting_until:
                    return
                if post.ts is None or self._may_edit(post):
                    self._send(post)

    def _may_edit(self, post: Post) -> bool:
        now = self._clock.monotonic()
        while self._edits and self._edits[0] < now - 60:
            self._edits.popleft()
        if post.final:
            return True
        return len(self._edits) < EDITS_PER_MINUTE and now - self._edited.get(post.key, -EDIT_SECONDS) >= EDIT_SECONDS

    def _send(self, post: Post) -> None:
        message = post.message if self._plain_only or post.rich is None else post.rich
        try:
            ts = self._edit(post, message) if post.ts else self._post(post, message)
        except SlackApiError as error:
            self._failed(post, error, rich=message is post.rich)
        except OSError as error:
            # the request may have arrived: before it is posted again it is looked for
            self._uncertain.add(post.key)
            self._rest(None, type(error).__name__)
        else:
            self._failures = 0
            self._uncertain.discard(post.key)
            self._outbox.sent(post.key, post.version, ts)
            if post.final:
                self._edited.pop(post.key, None)

    def _edit(self, post: Post, message: Message) -> str:
        assert post.ts is not None
        now = self._clock.monotonic()
        self._edits.append(now)
        self._edited[post.key] = now
        self._client.chat_update(
            channel=post.channel, ts=post.ts, text=message.text, blocks=list(message.blocks), metadata=_metadata(post)
        )
        return post.ts

    def _post(self, post: Post, message: Message) -> str:
        if post.key in self._uncertain:
            found = self._find(post)
            if found:
                return found
        answer = self._client.chat_postMessage(
            channel=post.channel,
            text=message.text,
            blocks=list(message.blocks),
            thread_ts=post.thread_ts,
            metadata=_metadata(post),
            unfurl_links=False,
            unfurl_media=False,
        )
        return str(answer["ts"])

    def _find(self, post: Post) -> str | None:
        """Look for our own message by its metadata, where it would stand."""
        options: dict[str, Any] = {"channel": post.channel, "include_all_metadata": True, "limit": 200}
        if post.thread_ts:
            answer = self._client.conversations_replies(ts=post.thread_ts, **options)
        else:
            answer = self._client.conversations_history(**options)
        for message in answer.get("messages") or []:
            metadata = message.get("metadata") or {}
            if metadata.get("event_type") == EVENT and metadata.get("event_payload", {}).get("key") == post.key:
                return str(message["ts"])
        return None

    def _failed(self, post: Post, error: SlackApiError, *, rich: bool) -> None:
        name = _name(error)
        if rich and name in {"invalid_blocks", "invalid_blocks_format"}:
            log.info("this workspace does not take the newer blocks; plain ones from now on")
            self._plain_only = True
            self._send(post)
        elif name in LOST and post.ts:
            self._send(Post(**{**{f: getattr(post, f) for f in Post.__dataclass_fields__}, "ts": None}))
        elif name in HOPELESS:
            log.error("Slack refuses a message", key=post.key, error=name)
            self._outbox.refused(post.key, post.version, name)
        else:
            if post.ts is None and name != "ratelimited":
                self._uncertain.add(post.key)
            self._rest(_retry_after(error), name)

    def _rest(self, seconds: float | None, why: str) -> None:
        pause = seconds or PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._resting_until = self._clock.monotonic() + pause
        log.warning("Slack is left alone for a while", seconds=pause, error=why)


def _metadata(post: Post) -> dict[str, Any]:
    return {"event_type": EVENT, "event_payload": {"key": post.key}}


def _name(error: SlackApiError) -> str:
    try:
        return str(error.response.get("error") or f"http_{error.response.status_code}")
    except (AttributeError, ValueError):
        return "unknown"


def _retry_after(error: SlackApiError) -> float | None:
    try:
        return float(error.response.headers.get("Retry-After") or 0) or None
    except (AttributeError, ValueError):
        return None
