"""The outbox: every message that must reach Slack, durable until it has. The newest version of a message wins.

A message that changes with every step of a fleet is only marked, and made when it is about to be sent. A bot that is
alone has its marks in memory: what they stand for is in the ledger, and `mark_open` marks all again that may be out of
date after a crash. Where several bots share a Postgres, the marks are in it: whoever marks is not who sends.
"""

import json
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from bot.runs import tables
from bot.runs.ledger import insert_new
from bot.slack.message import File, Message
from bot.slack.notifier import Post

posts = tables.posts
_PARENT = posts.alias("parent")
# Asked many times a second, so they are made once: to make such a query costs more than to answer it (measured).
_ALL = (
    sa.select(posts, _PARENT.c.ts.label("parent_ts"), _PARENT.c.thread_ts.label("parent_thread"))
    .join(_PARENT, _PARENT.c.key == posts.c.parent, isouter=True)
    .where(sa.or_(posts.c.parent.is_(None), _PARENT.c.ts.is_not(None)))
    .order_by(posts.c.parent.is_not(None), posts.c.seq)  # a plan does not wait for the replies of a large run
    .limit(sa.bindparam("limit"))
)
_IS_DUE = sa.and_(posts.c.sent < posts.c.version, posts.c.refusal.is_(None))
_DUE, _DUE_OR_STALE = _ALL.where(_IS_DUE), _ALL.where(sa.or_(posts.c.stale, _IS_DUE))
_IS_OPEN = sa.or_(posts.c.ts.is_not(None), posts.c.channel.not_in(sa.bindparam("shut", expanding=True)))
_NAMED = _ALL.where(posts.c.key.in_(sa.bindparam("keys", expanding=True)))
_DUE_NAMED = _NAMED.where(_IS_DUE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A message as it should stand in Slack now."""

    message: Message
    rich: Message | None
    final: bool


class DurableOutbox:
    """Messages by key. One that is posted already is edited in place; the others wait for their parent."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.is_shared = engine.dialect.name == "postgresql"
        """Whether other bots may send what this one puts in."""
        self._make: Callable[[str], Made | None] = lambda _: None
        self._lock = threading.Lock()
        self._marked: dict[str, None] = {}
        self._open: set[str] = set()
        """Keys of messages that are there and not final, as far as they were asked for."""

    def made_by(self, make: Callable[[str], Made | None]) -> None:
        """Have marked messages made by this, which is given their keys."""
        self._make = make

    def mark(self, key: str) -> bool:
        """Note that a message has changed, to be made when it is about to be sent; return False if there is none."""
        if self.is_shared:
            return self._mark_for_all(key)
        if key not in self._open:
            with self._engine.connect() as connection:
                query = sa.select(posts.c.seq).where(posts.c.key == key, posts.c.final.is_(False))
                if connection.execute(query).first() is None:
                    return False
        with self._lock:
            self._open.add(key)
            self._marked[key] = None
        return True

    def _mark_for_all(self, key: str) -> bool:
        which = (posts.c.key == key, posts.c.final.is_(False))
        with self._engine.connect() as connection:
            is_stale = connection.execute(sa.select(posts.c.stale).where(*which)).scalar()
        if is_stale is False:
            with self._engine.begin() as connection:
                connection.execute(posts.update().where(*which, posts.c.stale.is_(False)).values(stale=True))
        return is_stale is not None

    def mark_open(self, suffix: str) -> None:
        """Mark all messages that are not final and whose keys end so: a crash may have lost their marks."""
        query = sa.select(posts.c.key).where(posts.c.final.is_(False), posts.c.key.endswith(suffix, autoescape=True))
        with self._engine.connect() as connection:
            keys = connection.execute(query).scalars().all()
        for key in keys:
            self.mark(key)

    def fresh(self, post: Post) -> Post | None:
        """Return a marked message as it should stand now; None where Slack has it so already."""
        with self._lock:
            self._marked.pop(post.key, None)
        if self.is_shared:
            # before it is made: what changes from now on marks it again
            with self._engine.begin() as connection:
                connection.execute(posts.update().where(posts.c.key == post.key).values(stale=False))
        made = self._make(post.key)
        if made:
            self.put(post.key, post.channel, made.message, rich=made.rich, final=made.final)
        found = self._posts(_DUE_NAMED, keys=[post.key], limit=1)
        return replace(found[0], stale=False) if found else None

    def put(
        self,
        key: str,
        channel: str,
        message: Message,
        *,
        rich: Message | None = None,
        parent: str | None = None,
        thread_ts: str | None = None,
        final: bool = False,
        file: File | None = None,
    ) -> None:
        """Have a message posted, or edited if one of this key exists; an equal one changes nothing.

        What is final stays so: a version that was made a moment before it comes too late.
        """
        values = {"message": _dump(message), "rich": _dump(rich) if rich else None, "final": final}
        if file:
            values["file"] = json.dumps([file.name, file.title, file.text], ensure_ascii=False)
        if final:
            values["stale"] = False
            with self._lock:
                self._marked.pop(key, None)
                self._open.discard(key)
        with self._engine.begin() as connection:
            new = {"key": key, "channel": channel, "parent": parent, "thread_ts": thread_ts, "version": 1, "sent": 0}
            if insert_new(connection, posts, **new, **values):
                return
            differs = sa.or_(posts.c.message != values["message"], posts.c.final != final)
            connection.execute(
                posts.update()
                .where(posts.c.key == key, differs, sa.or_(posts.c.final.is_(False), sa.literal(final)))
                .values(version=posts.c.version + 1, refusal=None, **values)
            )

    def due(self, limit: int, shut: Collection[str] = ()) -> list[Post]:
        """Return messages whose newest version is not in Slack yet; replies last, and only once their parent is there.

        `shut` are channels whose new messages are left out.
        """
        with self._lock:
            marked = list(self._marked)[:limit]
        query = _DUE_OR_STALE if self.is_shared else _DUE
        if shut:
            found = {p.key: p for p in self._posts(query.where(_IS_OPEN), limit=limit, shut=list(shut))}
        else:
            found = {p.key: p for p in self._posts(query, limit=limit)}
        if marked:
            # asked apart from the others, so that each question has an index
            found |= {p.key: replace(p, stale=True) for p in self._posts(_NAMED, keys=marked, limit=limit)}
        return list(found.values())[:limit]

    def _posts(self, query: sa.Select[Any], **values: object) -> list[Post]:
        with self._engine.connect() as connection:
            return [
                Post(
                    key=row.key,
                    channel=row.channel,
                    thread_ts=row.thread_ts or row.parent_thread or row.parent_ts,
                    version=row.version,
                    message=_load(row.message),
                    ts=row.ts,
                    final=row.final,
                    rich=_load(row.rich) if row.rich else None,
                    file=File(*json.loads(row.file)) if row.file else None,
                    stale=row.stale,
                )
                for row in connection.execute(query, values)
            ]

    def sent(self, key: str, version: int, ts: str) -> None:
        """Note that a version of a message is in Slack, and where; its file is there, too, and kept no longer."""
        with self._engine.begin() as connection:
            connection.execute(posts.update().where(posts.c.key == key).values(sent=version, ts=ts, file=None))

    def refused(self, key: str, version: int, error: str) -> None:
        """Note that Slack will never take this version; a newer one is tried again."""
        where = (posts.c.key == key, posts.c.version == version)
        with self._engine.begin() as connection:
            connection.execute(posts.update().where(*where).values(refusal=error[:500]))

    def place(self, key: str) -> tuple[str, str] | None:
        """Return channel and time stamp of a message, None while it is not in Slack."""
        query = sa.select(posts.c.channel, posts.c.ts).where(posts.c.key == key, posts.c.ts.is_not(None))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return (str(row.channel), str(row.ts)) if row else None

    def refusal(self, key: str) -> str | None:
        """Return why Slack will never take a message, None where it did or still may."""
        with self._engine.connect() as connection:
            found: str | None = connection.execute(sa.select(posts.c.refusal).where(posts.c.key == key)).scalar()
            return found

    def ts(self, key: str) -> str | None:
        """Return the timestamp under which a message stands in Slack, None while it does not."""
        with self._engine.connect() as connection:
            found: str | None = connection.execute(sa.select(posts.c.ts).where(posts.c.key == key)).scalar()
            return found


def _dump(message: Message) -> str:
    return json.dumps({"text": message.text, "blocks": list(message.blocks)}, ensure_ascii=False)


def _load(text: str) -> Message:
    data: dict[str, Any] = json.loads(text)
    return Message(text=data["text"], blocks=tuple(data["blocks"]))
