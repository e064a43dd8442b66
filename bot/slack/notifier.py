"""The notifier: brings the outbox into Slack, edits in place, and stays under Slack's limits.

The newest version of a message wins, so a run that changes ten times a second costs one edit a second; its end waits
for nothing but Slack. A channel that takes no more new messages for now holds up no edit and no other channel, and its
replies hold up no plan. Nothing is lost while Slack is away: what is due stays due. A message that Slack does not take
holds up no other; where its blocks are the cause, its text is sent alone.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Any, Protocol

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot import telemetry
from bot.clock import Clock
from bot.rounds import Rounds
from bot.slack.blocks import MOST_BLOCKS
from bot.slack.message import File, Message
from bot.slack.pace import POST_SECONDS, Pace
from bot.slack.text import LONGEST_TEXT, cut

log = structlog.get_logger("octocert.notifier")

REST_SECONDS = 0.15
"""Between two looks at the outbox at least, however often it is woken."""
LOOK_SECONDS = 0.5
"""How often the outbox is looked at; `wake` makes it at once."""
BATCH = 50
"""Messages taken from the outbox at once."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds to wait when Slack does not answer; the last one is repeated."""
WHISPER_TRIES = 3
POST_TRIES = 3
"""How often a message is tried that meets an error which nobody foresaw; then the others go on without it."""
FIND_PAGES = 5
"""Pages of 200 messages in which a message of ours is looked for, newest first."""
EVENT = "octocert"
"""The event_type of our messages' metadata, by which they are found again after a crash."""
LOST = {"message_not_found", "thread_not_found"}
"""The message that should be edited is gone: it is posted anew."""
UNEDITABLE = {"cant_update_message", "edit_window_closed"}
"""The workspace forbids the edit: the last version of a message is posted anew, the others are left out."""
NOT_THERE = {"channel_not_found", "not_in_channel", "user_not_in_channel", "is_archived"}
"""The bot, or the person, is not where the message should stand."""
UNWANTED = {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"}
"""Slack refuses the form of a message: its text may still be taken alone."""
LIMITED = {"ratelimited", "rate_limited"}
"""Slack wants what was asked more slowly: edits, or new messages in one channel. Everything else goes on."""
AWAY = {
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
    "accesslimited",
    "not_authed",
    "invalid_auth",
    "account_inactive",
    "token_expired",
    "token_revoked",
}
"""Errors that have nothing to do with the message: all messages wait until it is over, or an admin mended it."""
HOPELESS = NOT_THERE | UNEDITABLE | {"no_text", "restricted_action", "missing_scope", "metadata_too_large"}
"""Errors that the same message meets again however often it is sent; others are tried a few times."""


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
    file: File | None = None
    """Attached with the message as its comment; such a message is never edited."""
    stale: bool = False
    """Whether it must be made anew before it is sent."""


class Outbox(Protocol):
    """Where messages wait."""

    def due(self, limit: int, shut: Collection[str] = ()) -> list[Post]:
        """Return messages whose newest version is not in Slack yet: replies last, and oldest first.

        `shut` are channels whose new messages are left out.
        """
        ...

    def fresh(self, post: Post) -> Post | None:
        """Return a stale message as it should stand now; None where Slack has it so already."""
        ...

    def sent(self, key: str, version: int, ts: str) -> None:
        """Note where a version of a message stands."""
        ...

    def refused(self, key: str, version: int, error: str) -> None:
        """Note that Slack will never take this version."""
        ...


class Notifier:
    """One thread that posts and edits. Of several bots only the one that leads does, by `leads`."""

    def __init__(
        self, client: WebClient, outbox: Outbox, clock: Clock, *, leads: Callable[[], bool] = lambda: True
    ) -> None:
        self._client = client
        self._leads = leads
        self._led = True
        self._outbox = outbox
        self._clock = clock
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._working = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)
        self._pace = Pace(clock)
        self._plain_only = False
        self._resting_until = 0.0
        self._failures = 0
        self._uncertain: set[str] = set()
        """Keys of first posts of which it is not known whether Slack took them."""
        self._unwritten: dict[str, tuple[int, str]] = {}
        """Version and time stamp of messages that Slack has, as long as the outbox could not take note of it."""
        self._tried: Counter[tuple[str, int]] = Counter()
        """How often a version met an error that nobody foresaw."""
        self._held: dict[str, float] = {}
        """Until when such a message rests, by its key, while the others go on."""
        self._started = False

    def start(self) -> None:
        """Begin to send."""
        self._led = False
        self._started = True
        self._thread.start()

    def stop(self) -> None:
        """End; what is still due is sent at the next start."""
        self._ended.set()
        self._awake.set()
        if self._started:
            self._thread.join(timeout=30)

    @property
    def is_alive(self) -> bool:
        """Whether its thread works."""
        return self._thread.is_alive()

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
        """Say something that only one person sees; best effort, for Slack keeps no such message anyway.

        Where the bot is not in the channel it is said in the direct messages with that person.
        """
        for attempt in range(WHISPER_TRIES):
            pause: float | None = PAUSES[attempt]
            try:
                self._client.chat_postEphemeral(
                    channel=channel, user=user, text=message.text, blocks=list(message.blocks), thread_ts=thread
                )
            except SlackApiError as error:
                name = _name(error)
                if name in NOT_THERE:
                    self._tell_directly(channel, user, message, name)
                    return
                if name in LOST:
                    thread, pause = None, None
                elif name in UNWANTED and message.blocks:
                    message, pause = _bare(message, name), None
                elif not _is_away(error):
                    log.warning("a whisper was not taken", error=name, user=user)
                    return
                else:
                    pause = _retry_after(error) or pause
            except (OSError, HTTPException, SlackClientError) as error:
                log.warning("a whisper was not sent", error=type(error).__name__, user=user)
            else:
                return
            if pause and attempt + 1 < WHISPER_TRIES:
                self._clock.sleep(pause)
        log.warning("a whisper was given up", user=user)

    def _tell_directly(self, channel: str, user: str, message: Message, why: str) -> None:
        """Say in direct messages what could not be whispered in a channel, and how to mend that.

        UNVERIFIED on a real workspace: Slack's page of chat.postMessage says that a person's id opens the direct
        messages and needs chat:write alone.
        """
        where = "I cannot write where you asked, so I say this here. Ask me in a channel that I am in."
        if channel.startswith(("C", "G")):
            where = f"I am not in <#{channel}>, so I say this here. Invite me there with `/invite`, then ask again."
        if why == "is_archived":
            where = f"<#{channel}> is archived, so I say this here. Ask me in another channel."
        note = {"type": "context", "elements": [{"type": "mrkdwn", "text": where, "verbatim": True}]}
        blocks = [note, *message.blocks] if message.blocks and len(message.blocks) < MOST_BLOCKS else []
        try:
            self._client.chat_postMessage(
                channel=user, text=cut(f"{where} {message.text}", LONGEST_TEXT), blocks=blocks
            )
        except (OSError, HTTPException, SlackClientError) as error:
            told = _name(error) if isinstance(error, SlackApiError) else type(error).__name__
            log.warning("a person could not be told anything", error=told, user=user, channel=channel)

    def _work(self) -> None:
        rounds = Rounds(log, "the notifier's round failed; it goes on")
        while not self._ended.is_set():
            self._clock.wait(self._awake, min(LOOK_SECONDS, self._pace.pause()))
            self._awake.clear()
            with rounds.one():
                self.deliver()
            # a run under way wakes it hundreds of times a second
            self._clock.wait(self._ended, REST_SECONDS)

    def deliver(self) -> None:
        """Send what may be sent now."""
        with self._working:
            if not self._leads():
                self._led = False
                self._unwritten.clear()  # whoever leads now looks for them
                return
            self._write_down()
            if not self._led:
                # what was due when this bot last stopped, or another one that led, may be in Slack already
                self._uncertain |= {p.key for p in self._outbox.due(10_000) if p.ts is None}
                self._led = True
            for post in self._outbox.due(BATCH, self._pace.shut()):
                if self._ended.is_set() or not self._leads() or self._clock.monotonic() < self._resting_until:
                    return
                if self._clock.monotonic() < self._held.get(post.key, 0.0):
                    continue
                if self._pace.may(post.channel, post.key, is_new=post.ts is None, final=post.final):
                    now = self._outbox.fresh(post) if post.stale else post
                    if now:
                        self._send(now)

    def _send(self, post: Post) -> None:
        message = post.message if self._plain_only or post.rich is None else post.rich
        try:
            ts = self._edit(post, message) if post.ts else self._post(post, message)
        except SlackApiError as error:
            self._failed(post, error, message)
        except (OSError, HTTPException, SlackClientError) as error:
            # the request may have arrived: before it is posted again it is looked for
            self._uncertain.add(post.key)
            self._rest(None, type(error).__name__)
        except Exception as error:  # whatever is wrong with this message, the others must go on
            log.exception("a message could not be sent", key=post.key)
            self._uncertain.add(post.key)
            self._try_again(post, type(error).__name__)
        else:
            self._failures = 0
            self._uncertain.discard(post.key)
            self._held.pop(post.key, None)
            self._tried.pop((post.key, post.version), None)
            if post.ts is None:
                self._pace.posted(post.channel)
            self._unwritten[post.key] = (post.version, ts)
            self._write_down()

    def _write_down(self) -> None:
        """Have the outbox know what Slack has. Where it cannot, nothing more is sent: it would be sent again."""
        for key, (version, ts) in list(self._unwritten.items()):
            self._outbox.sent(key, version, ts)
            del self._unwritten[key]

    def _edit(self, post: Post, message: Message) -> str:
        assert post.ts is not None
        self._pace.edited(post.key, final=post.final)
        self._client.chat_update(
            channel=post.channel, ts=post.ts, text=message.text, blocks=list(message.blocks), metadata=_metadata(post)
        )
        return post.ts

    def _post(self, post: Post, message: Message) -> str:
        if post.key in self._uncertain:
            found = self._find(post)
            if found and post.file:
                return found
            if found:  # perhaps in an older version than this one
                return self._edit(replace(post, ts=found), message)
        if post.file:
            return self._attach(post, post.file, message)
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

    def _attach(self, post: Post, file: File, message: Message) -> str:
        """Upload a file into the thread, by the library's three calls; return the file's id, as Slack tells no ts."""
        answer = self._client.files_upload_v2(
            channel=post.channel,
            thread_ts=post.thread_ts,
            filename=file.name,
            title=file.title,
            content=file.text,
            initial_comment=message.text,
        )
        files = answer.get("files") or [{}]
        return str(files[0].get("id") or "file")

    def _find(self, post: Post) -> str | None:
        """Look for our own message by its metadata, where it would stand; None if it cannot be looked for."""
        options: dict[str, Any] = {"channel": post.channel, "include_all_metadata": True, "limit": 200}
        for _ in range(FIND_PAGES):
            try:
                if post.thread_ts:
                    answer = self._client.conversations_replies(ts=post.thread_ts, **options)
                else:
                    answer = self._client.conversations_history(**options)
            except SlackApiError as error:
                if _is_away(error):
                    raise
                log.warning("a message may stand in Slack twice: it cannot be looked for", error=_name(error))
                return None
            for message in answer.get("messages") or []:
                metadata = message.get("metadata") or {}
                if post.file and any(f.get("name") == post.file.name for f in message.get("files") or []):
                    return str(message["ts"])
                if metadata.get("event_type") == EVENT and metadata.get("event_payload", {}).get("key") == post.key:
                    return str(message["ts"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None
            options["cursor"] = cursor
        return None

    def _failed(self, post: Post, error: SlackApiError, message: Message) -> None:
        name = _name(error)
        if _is_limited(error):
            self._slow_down(post, _retry_after(error) or POST_SECONDS)
        elif _is_away(error):
            if post.ts is None:
                self._uncertain.add(post.key)
            self._rest(_retry_after(error), name)
        elif post.file and name not in LOST:
            log.warning("a file was not attached; its message is sent alone", key=post.key, error=name)
            self._send(replace(post, file=None, message=_without_file(post.message, name), rich=None))
        elif name in UNWANTED and message is post.rich:
            if name != "msg_blocks_too_long":
                log.info("this workspace does not take the newer blocks; plain ones from now on")
                self._plain_only = True
            self._send(replace(post, rich=None))
        elif name in UNWANTED and message.blocks:
            log.error("Slack refuses the blocks of a message; its text is sent alone", key=post.key, error=name)
            self._send(replace(post, message=_bare(message, name), rich=None))
        elif post.ts and (name in LOST or (name in UNEDITABLE and post.final)):
            self._send(replace(post, ts=None))
        elif name == "thread_not_found" and post.thread_ts:
            self._send(replace(post, thread_ts=None))  # its thread was deleted: it is said in the channel
        elif name in HOPELESS | UNWANTED:
            self._refuse(post, name)
        else:
            self._try_again(post, name)

    def _try_again(self, post: Post, name: str) -> None:
        """Hold back one message after an error that nobody foresaw, while the others go on; give it up in the end."""
        tried = (post.key, post.version)
        self._tried[tried] += 1
        if self._tried[tried] >= POST_TRIES:
            self._refuse(post, name)
            return
        telemetry.RETRIES.labels(part="slack").inc()
        self._held[post.key] = self._clock.monotonic() + PAUSES[self._tried[tried] - 1]
        log.warning("Slack does not take a message; it is tried again", key=post.key, error=name)

    def _refuse(self, post: Post, name: str) -> None:
        log.error("Slack refuses a message", key=post.key, channel=post.channel, error=name)
        self._held.pop(post.key, None)
        self._tried.pop((post.key, post.version), None)
        self._outbox.refused(post.key, post.version, name)

    def _slow_down(self, post: Post, seconds: float) -> None:
        telemetry.RETRIES.labels(part="slack").inc()
        if post.ts:
            self._pace.no_edits(seconds)
            log.warning("Slack takes no edit for a while", seconds=seconds)
        else:
            self._pace.no_posts(post.channel, seconds)
            log.warning("Slack takes messages in a channel more slowly", seconds=seconds, channel=post.channel)

    def _rest(self, seconds: float | None, why: str) -> None:
        pause = seconds or PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        telemetry.RETRIES.labels(part="slack").inc()
        self._resting_until = self._clock.monotonic() + pause
        log.warning("Slack is left alone for a while", seconds=pause, error=why)


def _metadata(post: Post) -> dict[str, Any]:
    return {"event_type": EVENT, "event_payload": {"key": post.key}}


def _bare(message: Message, why: str) -> Message:
    """Return a message's text alone, for a Slack that takes no more of it."""
    note = f"\n_Slack took only this text ({why}); details and buttons are missing. Please tell my admin._"
    return Message(cut(message.text, LONGEST_TEXT - len(note)) + note)


def _without_file(message: Message, why: str) -> Message:
    note = f"\n_The file could not be attached ({why}): the app needs the scope `files:write`. Please tell my admin._"
    return Message(cut(message.text, LONGEST_TEXT - len(note)) + note)


def _is_limited(error: SlackApiError) -> bool:
    """Whether the message came too soon."""
    return error.response.status_code == 429 or _name(error) in LIMITED


def _is_away(error: SlackApiError) -> bool:
    """Whether an error is Slack's or of something between, and not of the message."""
    name = _name(error)
    # slack_sdk's own words for a page of HTML, as proxies send it (web/internal_utils.py)
    is_page = name.startswith("Received a response in")
    return _is_limited(error) or error.response.status_code >= 500 or name in AWAY or is_page


def _name(error: SlackApiError) -> str:
    try:
        return str(error.response.get("error") or f"http_{error.response.status_code}")[:200]
    except (AttributeError, ValueError):
        return "unknown"


def _retry_after(error: SlackApiError) -> float | None:
    try:
        return float(error.response.headers.get("Retry-After") or 0) or None
    except (AttributeError, ValueError):
        return None
