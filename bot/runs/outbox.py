"""The outbox: every message that must reach Slack, durable until it has. The newest version of a message wins."""

import json
from typing import Any

import sqlalchemy as sa

from bot.runs import tables
from bot.runs.ledger import insert_new
from bot.slack.message import Message
from bot.slack.notifier import Post

posts = tables.posts


class DurableOutbox:
    """Messages by key. One that is posted already is edited in place; the others wait for their parent."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

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
    ) -> None:
        """Have a message posted, or edited if one of this key exists; an equal one changes nothing."""
        values = {"message": _dump(message), "rich": _dump(rich) if rich else None, "final": final}
        with self._engine.begin() as connection:
            new = {"key": key, "channel": channel, "parent": parent, "thread_ts": thread_ts, "version": 1, "sent": 0}
            if insert_new(connection, posts, **new, **values):
                return
            differs = sa.or_(posts.c.message != values["message"], posts.c.final != final)
            connection.execute(
                posts.update()
                .where(posts.c.key == key, differs)
                .values(version=posts.c.version + 1, refusal=None, **values)
            )

    def due(self, limit: int) -> list[Post]:
        """Return messages whose newest version is not in Slack yet, oldest first; replies only once their parent is."""
        parent = posts.alias("parent")
        query = (
            sa.select(posts, parent.c.ts.label("parent_ts"), parent.c.thread_ts.label("parent_thread"))
            .join(parent, parent.c.key == posts.c.parent, isouter=True)
            .where(posts.c.sent < posts.c.version, posts.c.refusal.is_(None))
            .where(sa.or_(posts.c.parent.is_(None), parent.c.ts.is_not(None)))
            .order_by(posts.c.seq)
            .limit(limit)
        )
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
                )
                for row in connection.execute(query)
            ]

    def sent(self, key: str, version: int, ts: str) -> None:
        """Note that a version of a message is in Slack, and where."""
        with self._engine.begin() as connection:
            connection.execute(posts.update().where(posts.c.key == key).values(sent=version, ts=ts))

    def refused(self, key: str, version: int, error: str) -> None:
        """Note that Slack will never take this version; a newer one is tried again."""
        where = (posts.c.key == key, posts.c.version == version)
        with self._engine.begin() as connection:
            connection.execute(posts.update().where(*where).values(refusal=error[:500]))

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
