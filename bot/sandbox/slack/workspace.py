"""The sandbox's workspace: who and what is in it, and who waits for a change of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from bot.clock import Clock
from bot.sandbox.slack.model import (
    APP_ID,
    BOT_ID,
    BOT_USER_ID,
    TEAM_ID,
    Call,
    Channel,
    Json,
    Message,
    Person,
    SlackFaults,
    UserGroup,
)
from bot.sandbox.slack.scopes import ALL, APP_SCOPES

T = TypeVar("T")

KEPT_CALLS = 5000  # a day of demo; the oldest are forgotten

PEOPLE = (
    Person(id="U0RITA", name="rita", real_name="Rita Requester", title="Release engineer, asks for rotations"),
    Person(id="U0ADA", name="ada", real_name="Ada Approver", title="SRE, may approve", is_admin=True),
    Person(id="U0BEN", name="ben", real_name="Ben Approver", title="SRE, may approve"),
    Person(id="U0OTTO", name="otto", real_name="Otto Outsider", title="Marketing, may do nothing"),
)
BOT = Person(id=BOT_USER_ID, name="octocert", real_name="octocert", title="Rotates certificates", is_bot=True)
CHANNELS = (
    Channel(id="C0DEPLOY", name="deployments", topic="Rotations, approvals and what became of them"),
    Channel(id="C0RADAR", name="radar", topic="What the daily look at the estate found"),
    Channel(id="C0RANDOM", name="random", topic="Anything else"),
    Channel(id="C0BOARD", name="board-room", topic="The bot was never invited here", private=True, bot_is_member=False),
)
GROUPS = (UserGroup(id="S0APPROVERS", handle="approvers", name="Certificate approvers", users=("U0ADA", "U0BEN")),)


class Workspace:
    """All state of the sandbox's Slack; safe to use from any thread.

    `version` rises by one with each change; `listeners` are called (from the changing thread) with the new version.
    """

    def __init__(
        self,
        clock: Clock,
        faults: SlackFaults,
        people: tuple[Person, ...] = PEOPLE,
        channels: tuple[Channel, ...] = CHANNELS,
    ) -> None:
        self.clock = clock
        self.faults = faults
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 0
        self.listeners: list[Callable[[int], None]] = []
        self.members: dict[str, Person] = {person.id: person for person in (*people, BOT)}
        self.channels: dict[str, Channel] = {channel.id: channel for channel in channels}
        self.scopes = ALL  # what the workspace granted to the bot's token, and to the app's
        self.app_scopes = APP_SCOPES
        self.groups: dict[str, UserGroup] = {group.id: group for group in GROUPS}
        self.views: dict[str, Json] = {}  # open modals by id, each with its "user" and its place in the stack
        self.homes: dict[str, Json] = {}  # published Home tabs by user
        self.files: dict[str, Json] = {}
        self.file_data: dict[str, bytes] = {}
        self.scheduled: list[Json] = []
        self.notices: list[
            Json
        ] = []  # what Slack itself tells one person: {id, user, channel, thread_ts, text, version}
        self.traffic: list[Call] = []
        self.violations: list[str] = []
        self._messages: dict[tuple[str, str], Message] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._deleted: list[tuple[int, str, str]] = []
        self._last_ts = 0
        self._serial = 0

    # --- change and waiting -----------------------------------------------------------------------------------

    def touch(self) -> int:
        """Note that something changed, wake those who wait, and return the new version."""
        with self.lock:
            self.version += 1
            version = self.version
            self.changed.notify_all()
        for listener in list(self.listeners):
            listener(version)
        return version

    def wait_for(self, predicate: Callable[[], T], seconds: float) -> T:
        """Return the predicate's first true value; TimeoutError, with what was there instead, after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            with self.lock:
                seen = self.version
            # Outside the lock: a predicate may look at other worlds and must not hold up the server's thread.
            value = predicate()
            if value:
                return value
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError(f"not within {seconds:g} s; the workspace holds:\n{self.transcript()}")
            with self.changed:
                if self.version == seen:
                    self.changed.wait(min(remaining, 0.1))

    def transcript(self, last: int = 12) -> str:
        """Return the last messages as text, for people who read a failed test."""
        with self.lock:
            messages = sorted(self._messages.values(), key=lambda message: message.ts)[-last:]
        lines = []
        for message in messages:
            who = self.members[message.user].real_name if message.user in self.members else message.user
            place = "  ↳ " if message.is_reply else ""
            private = f" (only for {message.visible_to})" if message.visible_to else ""
            buttons = f" [{'] ['.join(message.buttons)}]" if message.buttons else ""
            lines.append(f"{place}{message.ts} {who}{private}: {message.content}{buttons}")
        return "\n".join(lines) or "(no message)"

    # --- identifiers ------------------------------------------------------------------------------------------

    def new_ts(self) -> str:
        """Return a message timestamp that is unique and later than all before, as Slack's are within a channel."""
        with self.lock:
            micros = int((self.clock.now().timestamp() + self.faults.clock_skew) * 1_000_000)
            self._last_ts = max(micros, self._last_ts + 1)
            return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def new_id(self, prefix: str) -> str:
        """Return a fresh identifier such as `V00000007`."""
        with self.lock:
            self._serial += 1
            return f"{prefix}{self._serial:08d}"

    # --- people and channels ----------------------------------------------------------------------------------

    def person(self, who: str) -> Person:
        """Find a person by id, handle, first name or full name; LookupError names those who exist."""
        wanted = who.lstrip("@").lower()
        for person in self.members.values():
            if wanted in {
                person.id.lower(),
                person.name.lower(),
                person.real_name.lower(),
                person.real_name.split()[0].lower(),
            }:
                return person
        raise LookupError(
            f"nobody here is called {who!r}; there are {', '.join(person.name for person in self.members.values())}"
        )

    def channel(self, which: str) -> Channel:
        """Find a channel by id or name (with or without #); LookupError names those that exist."""
        wanted = which.lstrip("#").lower()
        for channel in self.channels.values():
            if wanted in {channel.id.lower(), channel.name.lower()}:
                return channel
        raise LookupError(
            f"no channel {which!r}; there are {', '.join(channel.name for channel in self.channels.values())}"
        )

    def direct_channel(self, user: str) -> Channel:
        """Return the direct conversation between the bot and a person, opened on first use."""
        with self.lock:
            for channel in self.channels.values():
                if channel.partner == user:
                    return channel
            channel = Channel(id="D" + user[1:], name=f"octocert-{self.members[user].name}", partner=user, private=True)
            self.channels[channel.id] = channel
        self.touch()
        return channel

    # --- messages ---------------------------------------------------------------------------------------------

    def put(self, message: Message) -> Message:
        """Store a new message or the new state of one."""
        with self.lock:
            key = (message.channel, message.ts)
            self._messages[key] = message
            self._versions[key] = self.version + 1
            if message.is_reply and message.visible_to is None:
                root = (message.channel, str(message.thread_ts))
                if root in self._versions:
                    self._versions[root] = self.version + 1
        self.touch()
        return message

    def remove(self, message: Message) -> None:
        """Delete a message."""
        with self.lock:
            key = (message.channel, message.ts)
            self._messages.pop(key, None)
            self._versions.pop(key, None)
            self._deleted.append((self.version + 1, *key))
        self.touch()

    def find(self, channel: str, ts: str) -> Message | None:
        """Return the message with this timestamp in this channel, or None."""
        with self.lock:
            return self._messages.get((channel, ts))

    def find_anywhere(self, ts: str) -> Message | None:
        """Return the message with this timestamp in any channel, or None (timestamps are unique in the sandbox)."""
        with self.lock:
            return next((message for message in self._messages.values() if message.ts == ts), None)

    def edit(self, message: Message, **changes: Any) -> Message:
        """Store a message again with some fields changed."""
        return self.put(replace(message, **changes))

    def history(self, channel: str, *, replies: bool = False) -> list[Message]:
        """Return a channel's lasting messages, oldest first; thread replies only when asked for (broadcasts always)."""
        with self.lock:
            found = [
                message
                for message in self._messages.values()
                if message.channel == channel and message.visible_to is None
            ]
        return sorted(
            (message for message in found if replies or message.broadcast or not message.is_reply),
            key=lambda message: message.ts,
        )

    def thread(self, channel: str, ts: str) -> list[Message]:
        """Return a thread: its root first, then the replies, oldest first."""
        return [message for message in self.history(channel, replies=True) if ts in {message.ts, message.thread_ts}]

    def ephemerals(self, user: str) -> list[Message]:
        """Return what only this person can see, oldest first."""
        with self.lock:
            return sorted(
                (message for message in self._messages.values() if message.visible_to == user),
                key=lambda message: message.ts,
            )

    def changes(self, user: str, since: int) -> tuple[int, list[Message], list[tuple[str, str]], list[Json]]:
        """Return a person's news since a version: (version, messages, deleted (channel, ts) pairs, notices)."""
        with self.lock:
            messages = [
                message
                for key, message in self._messages.items()
                if self._versions[key] > since
                and message.visible_to in {None, user}
                and self.may_see(user, message.channel)
            ]
            deleted = [(channel, ts) for version, channel, ts in self._deleted if version > since]
            notices = [notice for notice in self.notices if notice["version"] > since and notice["user"] == user]
            return self.version, sorted(messages, key=lambda message: message.ts), deleted, notices

    def may_see(self, user: str, channel: str) -> bool:
        """Say whether a person sees a conversation: all channels, and only one's own direct messages."""
        found = self.channels.get(channel)
        return found is not None and found.partner in {None, user}

    def notify(
        self, user: str, channel: str, text: str, *, thread_ts: str | None = None, error: str | None = None
    ) -> None:
        """Let Slack itself tell one person something (a failed command, an element that did not work)."""
        with self.lock:
            notice = {
                "id": self.new_id("N"),
                "user": user,
                "channel": channel,
                "thread_ts": thread_ts,
                "text": text,
                "error": error,
                "ts": self.new_ts(),
                "version": self.version + 1,
            }
            self.notices.append(notice)
        self.touch()

    # --- the wire's record ------------------------------------------------------------------------------------

    def record(self, call: Call) -> None:
        """Keep an exchange for tests and the inspector."""
        with self.lock:
            self.traffic.append(call)
            if len(self.traffic) > KEPT_CALLS:
                del self.traffic[: len(self.traffic) - KEPT_CALLS]
        self.touch()

    def wire(self, message: Message, *, metadata: bool = True) -> Json:
        """Return a message as the Web API and the events give it."""
        document: Json = {
            "type": "message",
            "user": message.user,
            "ts": message.ts,
            "text": message.text,
            "team": TEAM_ID,
        }
        if message.is_bot:
            document |= {
                "bot_id": BOT_ID,
                "app_id": APP_ID,
                "bot_profile": {"id": BOT_ID, "app_id": APP_ID, "name": BOT.name, "team_id": TEAM_ID},
            }
        if message.blocks:
            document["blocks"] = list(message.blocks)
        if message.attachments:
            document["attachments"] = list(message.attachments)
        if message.files:
            document["files"] = list(message.files)
        if message.thread_ts:
            document["thread_ts"] = message.thread_ts
        if message.edited_flag:
            document["edited"] = {"user": message.user, "ts": message.ts}
        if message.reactions:
            document["reactions"] = [
                {"name": name, "users": list(users), "count": len(users)} for name, users in message.reactions
            ]
        if metadata and message.metadata:
            document["metadata"] = message.metadata
        if not message.is_reply and message.visible_to is None:
            replies = self.thread(message.channel, message.ts)[1:]
            if replies:
                document |= {
                    "thread_ts": message.ts,
                    "reply_count": len(replies),
                    "reply_users": sorted({reply.user for reply in replies}),
                    "reply_users_count": len({reply.user for reply in replies}),
                    "latest_reply": replies[-1].ts,
                }
        if message.is_reply:
            root = self.find(message.channel, str(message.thread_ts))
            document["parent_user_id"] = root.user if root else message.user
        return document
