"""Reads the records of all spaces: who stores which thumbprint, where, and how healthy Octopus finds it."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from bot.domain.facts import EstateIndex, OtherMachine, Pool, Record, RecordKind, Sighting, Style
from bot.domain.thumbprint import Thumbprint
from bot.octopus.documents import (
    Document,
    Names,
    Space,
    endpoint_of,
    folder_of,
    has_certificate,
    path_of,
    to_health,
    to_other,
    to_record,
)
from bot.octopus.errors import OctopusError, OctopusErrorKind, RecordVanished
from bot.octopus.permissions import Permissions
from bot.octopus.wire import Wire

SPACES_AT_ONCE = 4
"""Spaces that are read at the same time: Octopus's rate limit is the pace, not the wire."""
NAMES_SECONDS = 60.0
"""How long names of environments and pools are remembered: they only dress what is shown, and each look-up counts."""
IDS_AT_ONCE = 100
"""Ids that one address names: some proxies take no more than 2,000 characters."""
_TENTACLE_PORT = 10933


@dataclass(frozen=True, slots=True, kw_only=True)
class _SpaceReading:
    records: tuple[Record, ...] = ()
    others: tuple[OtherMachine, ...] = ()
    unreadable: str | None = None


class Records:
    """The deployment targets and workers of one Octopus Server."""

    def __init__(self, wire: Wire, permissions: Permissions) -> None:
        self._wire = wire
        self._permissions = permissions
        self._known: dict[tuple[str, RecordKind, bool], tuple[float, Names]] = {}
        """Names by space, kind and whether they were asked with those of tenants; until when they are remembered."""
        self._reading = threading.Lock()
        """Held while names are read, so that of many who need them one asks."""

    def spaces(self) -> tuple[Space, ...]:
        """Return all spaces that the key may enter. Octopus does not tell of others."""
        return tuple(
            Space(id=d["Id"], name=d.get("Name") or d["Id"], queue_stopped=d.get("TaskQueueStopped") is True)
            for d in self._wire.get_list("/api/spaces/all")
            if isinstance(d.get("Id"), str)
        )

    def index(self) -> EstateIndex:
        """Return all records of all spaces, naming the spaces that the key sees in part or not at all.

        A key that is limited to some environments is given shorter lists without a word, hence its permissions are
        asked as well. A space of which the key's account is no member appears nowhere.
        """
        spaces = self.spaces()
        with ThreadPoolExecutor(max_workers=SPACES_AT_ONCE, thread_name_prefix="spaces") as pool:
            readings = list(pool.map(self._read_space, spaces))
        partly = self._permissions.spaces_seen_in_part(spaces)
        unreadable = [reading.unreadable for reading in readings if reading.unreadable]
        return EstateIndex(
            records=tuple(record for reading in readings for record in reading.records),
            unreadable_spaces=(*unreadable, *partly),
            other_machines=tuple(dict.fromkeys(o.name for reading in readings for o in reading.others)),
            others=tuple(o for reading in readings for o in reading.others),
            at=self._wire.clock.now(),
        )

    def carrying(self, thumbprint: Thumbprint) -> tuple[Record, ...]:
        """Return the records of all spaces that store this thumbprint, in the spaces that the key may read."""
        found = []
        for space in self.spaces():
            for kind in RecordKind:
                try:
                    documents = self._wire.get_list(folder_of(space.id, kind) + "/all", {"thumbprint": str(thumbprint)})
                except OctopusError as error:
                    if error.kind is not OctopusErrorKind.FORBIDDEN:
                        raise
                    continue
                records = self._to_records(documents, kind, space)
                found += [record for record in records if record.thumbprint == thumbprint]
        return tuple(found)

    def record(self, record: Record) -> Record:
        """Return the record as it is stored now; RecordVanished if it is gone."""
        document = self.document(record)
        space = Space(id=record.space_id, name=record.space)
        if not has_certificate(document):
            raise self._wire.unexpected(path_of(record), f"{record.name} is no listening or polling Tentacle any more")
        names = self._names(space, record.kind, tenants=bool(document.get("TenantIds")))
        return to_record(document, kind=record.kind, space=space, names=names, url=self._wire.url)

    def stored(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Return those of these records that are still there, as they are stored now, read as lists of their ids.

        Also where Octopus should answer with all of them: that the list of workers knows the filter is UNVERIFIED.
        """
        by_folder: dict[tuple[Space, RecordKind], list[str]] = {}
        for record in records:
            space = Space(id=record.space_id, name=record.space)
            by_folder.setdefault((space, record.kind), []).append(record.id)
        found: list[Record] = []
        for (space, kind), ids in by_folder.items():
            for begin in range(0, len(ids), IDS_AT_ONCE):
                some = ids[begin : begin + IDS_AT_ONCE]
                documents = self._wire.get_list(folder_of(space.id, kind) + "/all", {"ids": ",".join(some)})
                mine = [d for d in documents if d.get("Id") in some and has_certificate(d)]
                found += self._to_records(mine, kind, space)
        return tuple(found)

    def document(self, record: Record) -> Document:
        """Return the whole stored document of a record; RecordVanished if it is gone."""
        try:
            return self._wire.get_document(path_of(record))
        except OctopusError as error:
            if error.kind is OctopusErrorKind.NOT_FOUND:
                raise vanished(record) from None
            raise

    def pools(self, space_id: str) -> tuple[Pool, ...]:
        """Return the worker pools of a space with their sizes; without those whose workers a cloud provides."""
        workers = self._wire.get_list(folder_of(space_id, RecordKind.WORKER) + "/all")
        found = []
        for pool in self._wire.get_list(f"/api/{space_id}/workerpools/all"):
            if pool.get("WorkerPoolType") == "DynamicWorkerPool":
                continue
            mine = [w for w in workers if pool.get("Id") in (w.get("WorkerPoolIds") or ())]
            healthy = [w for w in mine if to_health(w.get("HealthStatus")).is_good and not w.get("IsDisabled")]
            found.append(Pool(name=pool.get("Name") or "?", workers=len(mine), healthy=len(healthy)))
        return tuple(found)

    def discover(self, record: Record) -> Sighting:
        """Return what the Octopus Server itself sees served at a listening Tentacle, through its proxy if it has one.

        Never raises for what Octopus answers: why nothing was seen stands in the sighting.
        """
        parts = urlsplit(record.uri)
        host, port = parts.hostname or "", parts.port or _TENTACLE_PORT
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if record.style is Style.POLLING or not host:
            return Sighting(
                place="octopus", address=record.uri, thumbprint=None, error="A polling Tentacle listens nowhere."
            )
        asked: dict[str, str | int | bool | None] = {
            "host": host,
            "port": port,
            "type": "TentaclePassive",
            "proxyId": record.proxy_id,
        }
        try:
            path = folder_of(record.space_id, record.kind) + "/discover"
            answer = self._wire.get(path, asked, repeat=False)
        except OctopusError as error:
            return Sighting(place="octopus", address=shown, thumbprint=None, error=str(error))
        seen = Thumbprint.maybe(endpoint_of(answer).get("Thumbprint")) if isinstance(answer, dict) else None
        missing = None if seen else f"Octopus saw no certificate at {shown}."
        return Sighting(place="octopus", address=shown, thumbprint=seen, error=missing)

    def _read_space(self, space: Space) -> _SpaceReading:
        records: list[Record] = []
        others: list[OtherMachine] = []
        refused: list[str] = []
        for kind in RecordKind:
            try:
                documents = self._wire.get_list(folder_of(space.id, kind) + "/all")
            except OctopusError as error:
                if error.kind is not OctopusErrorKind.FORBIDDEN:
                    raise
                refused.append(error.permission or f"the right to see its {kind.value}s")
                continue
            records += self._to_records(documents, kind, space)
            others += [
                to_other(d, kind=kind, space=space, url=self._wire.url)
                for d in documents
                if not has_certificate(d) and isinstance(d.get("Name"), str)
            ]
        unreadable = f"{space.name} (missing: {', '.join(refused)})" if refused else None
        return _SpaceReading(records=tuple(records), others=tuple(others), unreadable=unreadable)

    def _to_records(self, documents: list[Document], kind: RecordKind, space: Space) -> Iterator[Record]:
        tentacles = [d for d in documents if has_certificate(d)]
        tenants = any(d.get("TenantIds") for d in tentacles)
        names = self._names(space, kind, tenants=tenants) if tentacles else Names()
        for document in tentacles:
            yield to_record(document, kind=kind, space=space, names=names, url=self._wire.url)

    def _names(self, space: Space, kind: RecordKind, *, tenants: bool) -> Names:
        """Return the names in a space; those of tenants only where a machine belongs to one, for a space has many."""
        key = space.id, kind, tenants and kind is not RecordKind.WORKER
        with self._reading:
            until, names = self._known.get(key, (0.0, Names()))
            if until <= self._wire.clock.monotonic():
                names = self._read_names(*key)
                self._known[key] = self._wire.clock.monotonic() + NAMES_SECONDS, names
        return names

    def _read_names(self, space: str, kind: RecordKind, tenants: bool) -> Names:
        if kind is RecordKind.WORKER:
            return Names(pools=self._by_id(f"/api/{space}/workerpools/all"))
        return Names(
            environments=self._by_id(f"/api/{space}/environments/all"),
            tenants=self._by_id(f"/api/{space}/tenants/all") if tenants else {},
        )

    def _by_id(self, path: str) -> dict[str, str]:
        """Return names by ids; nothing where the key may not see them, and then the ids themselves are shown."""
        try:
            documents = self._wire.get_list(path)
        except OctopusError as error:
            if error.kind is OctopusErrorKind.FORBIDDEN:
                return {}
            raise
        return {
            d["Id"]: d["Name"] for d in documents if isinstance(d.get("Id"), str) and isinstance(d.get("Name"), str)
        }


def vanished(record: Record) -> RecordVanished:
    """Return the error that says that a record is gone."""
    return RecordVanished(
        f"The {record.kind.value} {record.name} in {record.space} is no longer in Octopus ({record.id}). "
        "It was deleted, by someone or by a policy that removes unavailable machines, and is not created again. "
        "Register the Tentacle anew if it is still needed.",
        kind=OctopusErrorKind.NOT_FOUND,
        status=404,
    )
