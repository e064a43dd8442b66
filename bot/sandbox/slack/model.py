"""The values of the sandbox's Slack: people, channels, messages, calls, receipts, faults."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = dict[str, Any]

TEAM_ID = "T0SANDBOX"
TEAM_NAME = "Octocert Demo"
APP_ID = "A0OCTOCERT"
BOT_ID = "B0OCTOCERT"
BOT_USER_ID = "U0OCTOCERT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A member of the workspace, human or bot; `id` is Slack's `U…`, `name` the handle."""

    id: str
    name: str
    real_name: str
    title: str = ""
    is_bot: bool = False
    is_admin: bool = False

    @property
    def email(self) -> str:
        """Return the address by which `users.lookupByEmail` finds this person."""
        return f"{self.name}@example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A conversation; without `bot_is_member` posts are refused, `partner` is the human of direct messages."""

    id: str
    name: str
    topic: str = ""
    private: bool = False
    bot_is_member: bool = True
    partner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserGroup:
    """A user group (`S…`) with its members' ids."""

    id: str
    handle: str
    name: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """Something on a message or a view that a person may press or choose from."""

    block_id: str
    action_id: str
    kind: str
    label: str
    value: str
    raw: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as it stands now; `visible_to` is set for ephemerals, `edits` counts `chat.update`s."""

    ts: str
    channel: str
    user: str
    text: str
    blocks: tuple[Json, ...] = ()
    attachments: tuple[Json, ...] = ()
    thread_ts: str | None = None
    broadcast: bool = False
    metadata: Json | None = None
    files: tuple[Json, ...] = ()
    reactions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pinned: bool = False
    visible_to: str | None = None
    edits: int = 0
    edited_flag: bool = False
    at: datetime

    @property
    def is_bot(self) -> bool:
        """Say whether the bot wrote it."""
        return self.user == BOT_USER_ID

    @property
    def is_reply(self) -> bool:
        """Say whether it stands in a thread and is not its root."""
        return self.thread_ts is not None and self.thread_ts != self.ts

    @property
    def content(self) -> str:
        """Return all that a reader sees, one piece a line: the blocks' texts, or the text when there is no block."""
        pieces = [piece for block in self.blocks for piece in texts(block)]
        return "\n".join(pieces) if pieces else self.text

    @property
    def elements(self) -> list[Element]:
        """Return what a person may press or choose on this message."""
        return list(elements_of(self.blocks))

    @property
    def buttons(self) -> list[str]:
        """Return the labels of the buttons, in order."""
        return [element.label for element in self.elements if element.kind == "button"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One exchange on the wire, for tests and the page's inspector; tokens are never kept.

    `direction` is "bot" for what the bot sends (Web API, response URLs) and "slack" for envelopes sent to it. `method`
    is the Web API's name, "response_url", or the envelope's type. `seconds` is how long the answer took.
    """

    at: datetime
    direction: str
    method: str
    payload: Json
    response: Json
    status: int = 200
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an interaction: acknowledged within the deadline or not, and what the acknowledgement carried.

    `error` is what Slack shows the person: `operation_timeout` (no ack in time) or `dispatch_failed` (no connection).
    """

    acknowledged: bool
    response: Json = field(default_factory=dict)
    error: str | None = None
    trigger_id: str = ""
    response_url: str = ""


@dataclass(slots=True, kw_only=True)
class SlackFaults:
    """What may go wrong with Slack; every field may be set at any time from any thread.

    Counters go down with each call they hit. `only` limits the Web API faults to these methods (empty: all but
    `auth.test` and `apps.connections.open`).
    """

    rate_limited: int = 0  # so many calls answer 429
    retry_after: int = 1  # the seconds that such an answer names
    server_errors: int = 0  # so many calls answer 500
    lost_answers: int = 0  # so many calls are carried out and then cut before the answer
    slow: float = 0.0  # seconds before every Web API answer
    duplicate_envelopes: int = 0  # so many envelopes are delivered twice, retry_attempt 0, as slackapi/bolt-js#2487 saw
    reject_blocks: set[str] = field(default_factory=set)  # block types that this workspace does not take
    only: set[str] = field(default_factory=set)
    clock_skew: float = 0.0  # seconds that Slack's timestamps are ahead of the clock
    disconnector: Callable[[str], None] | None = field(default=None, repr=False)

    def disconnect(self, reason: str = "refresh_requested") -> None:
        """End the Socket Mode connections.

        `reason` is one of Slack's ("warning", "refresh_requested", "link_disabled"), or "drop": the TCP connection is
        cut without a word.
        """
        if self.disconnector is not None:
            self.disconnector(reason)


def texts(node: Any) -> Iterator[str]:
    """Yield the readable texts of a block or any part of one, in reading order.

    Elements of one rich_text section are joined to one line; cells of a table row by " | ".
    """
    if isinstance(node, list | tuple):
        for item in node:
            yield from texts(item)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind in {"rich_text_section", "rich_text_quote", "rich_text_preformatted"}:
        yield "".join(_inline(item) for item in node.get("elements", []))
        return
    if kind == "table":
        for row in node.get("rows", []):
            yield " | ".join(" ".join(texts(cell)) for cell in row)
        return
    for key in (
        "title",
        "text",
        "label",
        "hint",
        "fields",
        "elements",
        "accessory",
        "element",
        "tasks",
        "details",
        "output",
        "child_blocks",
        "sources",
    ):
        value = node.get(key)
        if isinstance(value, str) and value:
            yield value
        elif isinstance(value, dict | list):
            yield from texts(value)


def _inline(item: Json) -> str:
    """Return one inline element of rich text as a reader sees it."""
    match item.get("type"):
        case "user":
            return f"<@{item.get('user_id')}>"
        case "channel":
            return f"<#{item.get('channel_id')}>"
        case "usergroup":
            return f"<!subteam^{item.get('usergroup_id')}>"
        case "emoji":
            return f":{item.get('name')}:"
        case "link":
            return str(item.get("text") or item.get("url") or "")
        case _:
            return str(item.get("text") or item.get("fallback") or "")


def elements_of(blocks: tuple[Json, ...] | list[Json]) -> Iterator[Element]:
    """Yield the interactive elements of blocks, in order."""
    for block in blocks:
        candidates: list[Json] = []
        candidates += block.get("elements", []) if block.get("type") in {"actions", "context_actions"} else []
        candidates += [block[key] for key in ("accessory", "element") if isinstance(block.get(key), dict)]
        for raw in candidates:
            if raw.get("action_id"):
                label = (raw.get("text") or raw.get("placeholder") or {}).get("text", "")
                yield Element(
                    block_id=str(block.get("block_id", "")),
                    action_id=str(raw["action_id"]),
                    kind=str(raw.get("type", "")),
                    label=str(label),
                    value=str(raw.get("value", "")),
                    raw=raw,
                )
        if isinstance(block.get("child_blocks"), list):
            yield from elements_of(block["child_blocks"])


def frozen_json(value: Any) -> Any:
    """Return a deep copy of a JSON value, so that nobody's later change reaches what is stored."""
    return json.loads(json.dumps(value))
