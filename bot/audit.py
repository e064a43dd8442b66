"""The audit log: who asked, who decided, what was done, old → new thumbprint. Append-only, chained by hash."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime

import sqlalchemy as sa
import structlog

from bot.clock import Clock
from bot.runs import tables

log = structlog.get_logger("octocert.audit")

BEGINNING = "0" * 64
"""What the first entry names as the hash of the one before it."""
_APPEND_LOCK = 4_206_902
"""Key of the Postgres advisory lock under which one entry at a time is appended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that was asked, decided or done."""

    kind: str
    """`asked`, `refused`, `approved`, `denied`, `cancelled`, `expired`, `began`, `changed`, `outcome`, …"""
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


class AuditLog:
    """Appends entries under one lock; each carries the hash of the one before it."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        # SQLite's transaction takes its lock at the first write, after our read; one bot has such a file to itself
        self._lock = threading.Lock()

    def append(self, key: str, entry: Entry) -> None:
        """Append an entry once: a second one with the same key (a repeated step) changes nothing."""
        with self._lock, self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _APPEND_LOCK})
            known = connection.execute(sa.select(tables.audit.c.seq).where(tables.audit.c.key == key)).first()
            if known:
                return
            last = connection.execute(
                sa.select(tables.audit.c.seq, tables.audit.c.hash).order_by(tables.audit.c.seq.desc()).limit(1)
            ).first()
            seq, previous = (last.seq + 1, last.hash) if last else (1, BEGINNING)
            body = {"seq": seq, "at": self._clock.now().isoformat(), "key": key, "previous": previous, **asdict(entry)}
            text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
            digest = hashlib.sha256(text.encode()).hexdigest()
            connection.execute(tables.audit.insert().values(seq=seq, key=key, entry=text, hash=digest))
        log.info("audit", head=digest, count=seq, **{k: v for k, v in asdict(entry).items() if v})

    def entries(self, *, target: str | None = None, limit: int = 20) -> list[Recorded]:
        """Return the newest entries first, of one target where it is named."""
        found: list[Recorded] = []
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(tables.audit).order_by(tables.audit.c.seq.desc()))
            for row in rows:
                recorded = _recorded(row.entry, row.hash)
                if target is None or recorded.entry.target.casefold() == target.casefold():
                    found.append(recorded)
                if len(found) >= limit:
                    break
        return found

    def flaws(self) -> Iterator[str]:
        """Yield a sentence for each entry that does not fit the chain."""
        previous, expected = BEGINNING, 1
        with self._engine.connect() as connection:
            for row in connection.execute(sa.select(tables.audit).order_by(tables.audit.c.seq)):
                if row.seq != expected:
                    yield f"Entry {expected} is missing: the next one there is {row.seq}."
                if hashlib.sha256(row.entry.encode()).hexdigest() != row.hash:
                    yield f"Entry {row.seq} was changed: its hash does not fit its text."
                elif json.loads(row.entry)["previous"] != previous:
                    yield f"Entry {row.seq} does not follow the one before it: an entry was removed, changed or moved."
                previous, expected = row.hash, row.seq + 1


def _recorded(text: str, digest: str) -> Recorded:
    body = json.loads(text)
    head = {k: body.pop(k) for k in ("seq", "at", "key", "previous")}
    return Recorded(
        seq=head["seq"],
        at=datetime.fromisoformat(head["at"]),
        key=head["key"],
        previous=head["previous"],
        hash=digest,
        entry=Entry(**body),
    )
