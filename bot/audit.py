"""The audit log: who asked, who decided, what was done, old → new thumbprint. Append-only, chained by hash.

With a key the chain is made of HMACs: who can write the database, but does not know the key, can cut entries off the
end at most, and a head that was seen elsewhere (the log stream, the file beside the database) shows that.
"""

import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from bot.clock import Clock
from bot.domain.errors import UserError
from bot.runs import tables
from bot.runs.prepared import Prepared
from bot.secrets import Secret

log = structlog.get_logger("octocert.audit")

BEGINNING = "0" * 64
"""What the first entry names as the hash of the one before it."""
COMMAND = "command"
"""Kind of the entries that only say what somebody typed or pressed."""
_APPEND_LOCK = 4_206_902
"""Key of the Postgres advisory lock under which one entry at a time is appended."""
_PAGE = 500
"""Entries that are read at once."""

_LAST = sa.select(tables.audit.c.seq, tables.audit.c.hash).order_by(tables.audit.c.seq.desc()).limit(1)
_LAST_AND_KNOWN = Prepared(
    _LAST.add_columns(sa.exists().where(tables.audit.alias("known").c.key == sa.bindparam("key")).label("is_known"))
)
_INSERT = Prepared(tables.audit.insert(), ("seq", "key", "entry", "hash"))

Make = Callable[[sa.Connection], "Entry | None"]
"""Does something within the transaction, and returns the entry that says so; None where nothing is to be done."""
ReadKey = Callable[[], Secret]
"""Reads the key of the chain where it is used; it is never kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that was asked, decided or done."""

    kind: str
    """`command`, `asked`, `refused`, `approved`, `denied`, `cancelled`, `expired`, `began`, `recorded`, `outcome`, …"""
    who: str = ""
    """Slack user id; empty where the bot acted by itself."""
    run: str = ""
    target: str = ""
    digest: str = ""
    old: str = ""
    new: str = ""
    what: str = ""
    """A sentence."""
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One entry as it stands in the log."""

    seq: int
    at: datetime
    key: str
    previous: str
    hash: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain at some time: how many entries, and the hash of the last one."""

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"


def head_of(text: str) -> Head | None:
    """Return what `COUNT:HASH` means, None where the text is no head."""
    count, _, digest = text.strip().partition(":")
    if not count.isdecimal() or len(count) > 15 or len(digest) != 64:
        return None
    return Head(int(count), digest.lower())


class AuditLog:
    """Appends entries under one lock; each carries the hash of the one before it."""

    def __init__(
        self, engine: sa.Engine, clock: Clock, *, key: ReadKey | None = None, head_file: Path | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._key = key
        self._head_file = head_file
        self._lock = threading.Lock()

    def append(self, key: str, entry: Entry) -> None:
        """Append an entry once: a second one with the same key (a repeated step) changes nothing."""
        self.append_if(key, lambda _connection: entry)

    def append_if(self, key: str, make: Make) -> Entry | None:
        """Append what `make` returns, together with what it does in the same transaction; return it.

        Entry and effect are there both or neither. One such transaction happens at a time, in all processes. None, and
        nothing is done, where an entry of this key is there already, or where `make` returns None, before it changes
        anything.
        """
        return self.append_each([(key, make)])[0]

    def append_each(self, makes: Sequence[tuple[str, Make]]) -> list[Entry | None]:
        """Append several entries, each as by `append_if`, in one transaction: all that is done there, or nothing."""
        found: list[tuple[Entry, Head] | None] = []
        if not makes:
            return []
        with self._lock:
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _APPEND_LOCK})
                else:
                    # by itself it would take its lock at the first write, after our read: a terminal writes, too
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                found += [self._append(connection, key[:400], make) for key, make in makes]
            if heads := [head for _, head in filter(None, found)]:
                self._note(heads[-1])  # under the same lock: it must neither be torn nor go back
        for entry, head in filter(None, found):
            log.info("audit", head=head.hash, count=head.count, **{k: v for k, v in _members(entry).items() if v})
        return [one[0] if one else None for one in found]

    def _append(self, connection: sa.Connection, key: str, make: Make) -> tuple[Entry, Head] | None:
        last = _LAST_AND_KNOWN.run(connection, key=key).first()
        if last and last.is_known:
            return None
        entry = make(connection)
        if entry is None:
            return None
        previous = Head(last.seq, last.hash) if last else Head(0, BEGINNING)
        body = {
            "seq": previous.count + 1,
            "at": self._clock.now().isoformat(),
            "key": key,
            "previous": previous.hash,
            **({"keyed": True} if self._key else {}),
            **_members(entry),
        }
        text = json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        head = Head(previous.count + 1, self._hash(text.encode(), keyed=self._key is not None))
        _INSERT.run(connection, seq=head.count, key=key, entry=text, hash=head.hash)
        return entry, head

    def _hash(self, text: bytes, *, keyed: bool) -> str:
        if not keyed:
            return hashlib.sha256(text).hexdigest()
        assert self._key is not None
        return hmac.new(self._key().reveal().encode(), text, hashlib.sha256).hexdigest()

    def _head(self, connection: sa.Connection) -> Head:
        last = connection.execute(_LAST).first()
        return Head(last.seq, last.hash) if last else Head(0, BEGINNING)

    def head(self) -> Head:
        """Return the end of the chain now."""
        with self._engine.connect() as connection:
            return self._head(connection)

    def _note(self, head: Head) -> None:
        """Keep the head beside the database; after the entry, so that it is never ahead of a whole database."""
        if self._head_file is None:
            return
        line = f"{head}\n".encode("ascii")
        try:
            # over what stands there, by one write: a file of its own and a rename cost as much as the entry (measured)
            handle = os.open(self._head_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(handle, line, 0)
                if os.fstat(handle).st_size > len(line):
                    os.ftruncate(handle, len(line))
            finally:
                os.close(handle)
        except OSError as error:
            log.warning("the head of the audit log cannot be kept beside the database", error=error.strerror)

    def older_than_its_head(self) -> str | None:
        """Return why the database seems to be restored from a backup, None where it goes with the head beside it."""
        if self._head_file is None or not self._head_file.exists():
            return None
        text = self._head_file.read_text(encoding="ascii", errors="replace")
        if not text:
            return None  # made on a disk that was full
        kept = head_of(text)
        if kept is None:
            return f"the file {self._head_file.name} holds no head of an audit log"
        query = sa.select(tables.audit.c.hash).where(tables.audit.c.seq == kept.count)
        with self._engine.connect() as connection:
            found = connection.execute(query).scalar()
            if found == kept.hash:
                return None
            head = self._head(connection)
        if head.count < kept.count:
            return f"its audit log has {head.count} entries, and had {kept.count} before"
        return f"entry {kept.count} of its audit log is another one than before"

    def entries(self, *, target: str | None = None, limit: int = 20) -> list[Recorded]:
        """Return the newest entries first, of one target where it is named; what was merely typed is left out."""
        found: list[Recorded] = []
        before: int | None = None
        while len(found) < limit:
            query = sa.select(tables.audit).order_by(tables.audit.c.seq.desc()).limit(_PAGE)
            if before is not None:
                query = query.where(tables.audit.c.seq < before)
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
            if not rows:
                break
            before = rows[-1].seq
            for row in rows:
                recorded = _recorded(row.entry, row.hash)
                about = target is None or recorded.entry.target.casefold() == target.casefold()
                if about and recorded.entry.kind != COMMAND:
                    found.append(recorded)
        return found[:limit]

    def all_entries(self) -> Iterator[Recorded]:
        """Yield every entry, the oldest first, as it stands there; UserError at one that cannot be read."""
        for seq, _key, text, digest in self._rows():
            try:
                yield _recorded(text.decode(), digest.decode())
            except (ValueError, TypeError, KeyError):
                raise UserError(f"Entry {seq} of the audit log cannot be read. See `octocert audit verify`.") from None

    def _rows(self) -> Iterator[tuple[int, bytes, bytes, bytes]]:
        """Yield the rows as bytes: a changed byte need not be text any more."""
        columns, after = tables.audit.c, 0
        while True:
            with self._engine.connect() as connection:
                raw = [_bytes_of(c, connection.dialect.name) for c in (columns.key, columns.entry, columns.hash)]
                query = sa.select(columns.seq, *raw).where(columns.seq > after).order_by(columns.seq).limit(_PAGE)
                rows = connection.execute(query).all()
            if not rows:
                return
            for row in rows:
                yield int(row[0]), bytes(row[1] or b""), bytes(row[2] or b""), bytes(row[3] or b"")
            after = int(rows[-1][0])

    def flaws(self, head: Head | None = None) -> Iterator[str]:
        """Yield a sentence for each entry that does not fit the chain; `head` is one that was seen elsewhere."""
        previous, expected, keyed = BEGINNING, 1, False
        at_head = BEGINNING if head and head.count == 0 else None
        for seq, key, text, digest in self._rows():
            if seq != expected:
                yield f"Entry {expected} is missing: the next one there is {seq}."
            body = _body(text)
            keyed = keyed or bool(body and body.get("keyed"))
            if not self._fits(text, digest, keyed=keyed):
                yield f"Entry {seq} was changed: its hash does not fit its text."
            elif body is None or body.get("seq") != seq or str(body.get("key", "")).encode() != key:
                yield f"Entry {seq} was changed or moved: its text is that of another one."
            elif body.get("previous") != previous:
                yield f"Entry {seq} does not follow the one before it: an entry was removed, changed or moved."
            previous, expected = digest.decode("ascii", "replace"), seq + 1
            if head and seq == head.count:
                at_head = previous
        if head and at_head is None:
            yield f"Entry {expected} is missing: the chain ends there, and had {head.count} entries when it was seen."
        elif head and at_head != head.hash:
            yield f"Entry {head.count} is another one than when its hash was seen elsewhere."
        elif self._key is not None and not keyed and expected > 1:
            yield f"Entry {expected - 1} is not keyed, though the configuration names a key for the audit log."

    def _fits(self, text: bytes, digest: bytes, *, keyed: bool) -> bool:
        if keyed and self._key is None:
            raise UserError(
                "The audit log is keyed. Name the configuration by --config, so that the key can be read from "
                "where [audit] key says."
            )
        return hmac.compare_digest(self._hash(text, keyed=keyed).encode(), digest)


def _members(entry: Entry) -> dict[str, Any]:
    return {one.name: getattr(entry, one.name) for one in fields(Entry)}


def _bytes_of(column: sa.ColumnElement[str], dialect: str) -> sa.ColumnElement[bytes]:
    if dialect == "postgresql":
        return sa.func.convert_to(column, "UTF8", type_=sa.LargeBinary)
    return sa.cast(column, sa.LargeBinary)


def _body(text: bytes) -> dict[str, object] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _recorded(text: str, digest: str) -> Recorded:
    body = json.loads(text)
    head = {k: body.pop(k) for k in ("seq", "at", "key", "previous")}
    body.pop("keyed", None)
    return Recorded(
        seq=head["seq"],
        at=datetime.fromisoformat(head["at"]),
        key=head["key"],
        previous=head["previous"],
        hash=digest,
        entry=Entry(**body),
    )
