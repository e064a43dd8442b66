"""The inspector: looks at targets from every side, read-only and in parallel, and returns facts."""

import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urlsplit

import structlog

from bot import telemetry
from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.facts import (
    EstateIndex,
    HostFacts,
    Instance,
    Pool,
    Record,
    RecordKind,
    Sighting,
    Style,
    TargetFacts,
    TaskInfo,
)
from bot.domain.names import TargetGroup, endpoint_of
from bot.domain.thumbprint import Thumbprint
from bot.octopus.client import Client
from bot.runs.directory import Directory, Reach
from bot.windows.hands import Hands

log = structlog.get_logger("octocert.inspector")

LOOKAHEAD = timedelta(hours=1)
"""How far ahead scheduled deployments are looked for."""
See = Callable[[str, int], Sighting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The clients with which the inspector looks."""

    octopus: Client
    hands: Hands
    directory: Directory
    see: See
    """Looks at the certificate served at an address, from the bot."""
    clock: Clock
    inspect_seconds: float
    """The deadline of one inspect visit."""
    loopback_seconds: float
    """How long a host may take for a handshake with itself."""
    in_flight: int


class Inspector:
    """Observes targets. Nothing that it does changes anything."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._targets = ThreadPoolExecutor(tools.in_flight, thread_name_prefix="inspect")
        self._looks = ThreadPoolExecutor(tools.in_flight * 2, thread_name_prefix="look")

    def close(self) -> None:
        """Let the threads end."""
        self._targets.shutdown(wait=False, cancel_futures=True)
        self._looks.shutdown(wait=False, cancel_futures=True)

    def index(self) -> EstateIndex:
        """Return all records that the key can see."""
        found = self._tools.octopus.index()
        telemetry.CERTIFICATES.keep({record.id for record in found.records})
        return found

    def look(
        self,
        groups: Sequence[TargetGroup],
        index: EstateIndex,
        *,
        deeply: bool = True,
        sighted: bool = True,
        pooled: bool = False,
        again: Mapping[str, TargetFacts] | None = None,
        on_seen: Callable[[], None] | None = None,
    ) -> list[TargetFacts]:
        """Return the facts of these targets; `deeply` also asks Octopus for tasks, permissions and pools.

        `pooled` asks for pools alone: how many of their workers are healthy decides who may be away together. Without
        `sighted`, what is served is not looked at from outside, which costs Octopus a request for each target;
        `on_seen` is called after each target.

        `again` has what was seen before, by the targets' names. Then only Octopus's records are new: the rest is looked
        at again when it is each target's own turn.
        """
        if not groups:
            return []
        octopus = self._tools.octopus
        server = self._looks.submit(octopus.server_thumbprint)
        visits = _Shared(self._looks, self._host) if again is None else None
        pools: dict[str, tuple[Pool, ...]] = {}
        missing: tuple[str, ...] = ()
        records = [r for g in groups for r in g.records]
        if deeply:
            missing = octopus.missing_permissions(records)
        if deeply or pooled:
            for space in {r.space_id for r in records if r.kind is RecordKind.WORKER}:
                pools[space] = octopus.pools(space)
        current = _quietly(server)
        alike: dict[Thumbprint | None, list[Record]] = {}
        for record in index.records:
            alike.setdefault(record.thumbprint, []).append(record)
        futures = [
            self._targets.submit(
                contextvars.copy_context().run,
                self._target,
                g,
                alike[g.records[0].thumbprint],
                visits,
                current,
                deeply,
                sighted,
                again.get(g.name) if again else None,
            )
            for g in groups
        ]
        found = []
        for future in futures:
            facts = future.result()
            if on_seen:
                on_seen()
            names = {p for r in facts.records for p in r.pools}
            mine = tuple(p for r in facts.records for p in pools.get(r.space_id, ()) if p.name in names)
            found.append(replace(facts, missing_permissions=missing, pools=tuple(dict.fromkeys(mine))))
        return found

    def look_outside(self, before: TargetFacts) -> TargetFacts:
        """Return these facts with what the target serves now, as it is seen from outside; the rest is as it was.

        Octopus is asked what it sees only where the bot sees otherwise than before, or saw nothing then.
        """
        first = before.records[0]
        if first.style is not Style.LISTENING:
            return before
        seen = [self._see(first)]
        was = next((s.thumbprint for s in before.sightings if s.place == seen[0].place), None)
        if was is None or seen[0].thumbprint != was:
            seen.append(self._tools.octopus.discover(first))
        _note_expiry(first.id, seen, None)
        places, found = {s.place for s in seen}, {s.thumbprint for s in seen} - {None}
        instance = before.instance
        if instance and instance.served and found and instance.served.thumbprint not in found:
            instance = replace(instance, served=None)  # what the host saw is past; it looks again in its visit
        rest = (s for s in before.sightings if s.place not in places)
        return replace(before, instance=instance, sightings=(*seen, *rest))

    def _see(self, record: Record) -> Sighting:
        name, port = _host_and_port(record.uri)
        return self._tools.see(name, port)

    def _host(self, reach: Reach) -> HostFacts:
        tools = self._tools
        return tools.hands.inspect(
            reach.endpoint, loopback_seconds=tools.loopback_seconds, deadline=tools.inspect_seconds
        )

    def _target(
        self,
        group: TargetGroup,
        alike: Sequence[Record],
        visits: "_Shared | None",
        server: Thumbprint | None,
        deeply: bool,
        sighted: bool,
        before: TargetFacts | None,
    ) -> TargetFacts:
        """Look at one target; `alike` are all records with its thumbprint, `before` is what is not looked at again."""
        tools, first = self._tools, group.records[0]
        reach = tools.directory.reach(first)
        structlog.contextvars.bind_contextvars(target=group.name)  # in this look's own context
        if visits:
            visits.begin(reach)
        sightings: list[Future[Sighting]] = []
        if sighted and before is None and first.style is Style.LISTENING:
            sightings = [self._looks.submit(self._see, first), self._looks.submit(tools.octopus.discover, first)]
        work = []
        if deeply and visits:
            work = [self._looks.submit(tools.octopus.running_tasks, r, LOOKAHEAD) for r in group.records]
        host, host_error = visits.result(reach) if visits else (None, None)
        instance, instance_error = find_instance(first, host, reach.instance) if host else (None, None)
        seen = [f.result() for f in sightings]
        if before:
            host, instance, seen = before.host, before.instance, list(before.sightings)
        ids = {r.id for r in group.records}
        endpoint = endpoint_of(first)
        _note_expiry(first.id, seen, instance)
        return TargetFacts(
            name=group.name,
            style=first.style,
            endpoint=endpoint,
            records=group.records,
            host=host,
            host_error=host_error,
            instance=instance,
            instance_error=instance_error,
            sightings=tuple(seen),
            tasks=tuple(dict.fromkeys(t for f in work for t in _tasks(f))),
            clones=tuple(r for r in alike if r.id not in ids and endpoint_of(r) != endpoint),
            server=server,
            at=tools.clock.now(),
        )


class _Shared:
    """Inspect visits, one for each host however many targets live there."""

    def __init__(self, pool: ThreadPoolExecutor, visit: Callable[[Reach], HostFacts]) -> None:
        self._pool = pool
        self._visit = visit
        self._futures: dict[str, Future[HostFacts]] = {}
        self._lock = threading.Lock()

    def begin(self, reach: Reach) -> None:
        with self._lock:
            if reach.address not in self._futures:
                self._futures[reach.address] = self._pool.submit(contextvars.copy_context().run, self._visit, reach)

    def result(self, reach: Reach) -> tuple[HostFacts | None, str | None]:
        try:
            return self._futures[reach.address].result(), None
        except UserError as error:
            return None, str(error)


def _note_expiry(record: str, sightings: Sequence[Sighting], instance: Instance | None) -> None:
    """Have the metrics know until when the certificate holds that is in use."""
    seen = [*sightings, *([instance.served] if instance and instance.served else [])]
    ends = [s.certificate.not_after for s in seen if s.certificate]
    if ends:
        telemetry.CERTIFICATES.saw(record, ends[0])


def _quietly(future: Future[Thumbprint]) -> Thumbprint | None:
    try:
        return future.result()
    except UserError as error:
        log.warning("the Server's thumbprint could not be read", error=str(error))
        return None


def _tasks(future: Future[tuple[TaskInfo, ...]]) -> tuple[TaskInfo, ...]:
    return future.result()


def _host_and_port(uri: str) -> tuple[str, int]:
    parts = urlsplit(uri)
    return parts.hostname or "", parts.port or 10933


def find_instance(record: Record, host: HostFacts, wanted: str | None) -> tuple[Instance | None, str | None]:
    """Return the one instance on the host that is this record's Tentacle, or a sentence that shows both sides.

    A polling one is known by its subscription, a listening one by port and thumbprint; never by a name alone.
    """
    candidates = [i for i in host.instances if wanted is None or i.name.casefold() == wanted.casefold()]
    if record.style is Style.POLLING:
        subscription = record.uri.removeprefix("poll://").rstrip("/").casefold()
        for one in candidates:
            for trust in one.trusted:
                known = (trust.subscription or "").removeprefix("poll://").rstrip("/").casefold()
                if known and known == subscription:
                    return one, None
        return None, (
            f"no instance on {host.computer} polls with the subscription {record.uri}; "
            f"found: {_described(host.instances)}"
        )
    _, port = _host_and_port(record.uri)
    for one in candidates:
        served = one.served.thumbprint if one.served else None
        if one.style is Style.LISTENING and one.port == port and record.thumbprint in {one.configured, served} - {None}:
            return one, None
    return None, (
        f"Octopus records {record.thumbprint} on port {port}; "
        f"{host.computer} ({host.address}) has {_described(host.instances)}"
    )


def _described(instances: Sequence[Instance]) -> str:
    if not instances:
        return "no Tentacle instance"
    return "; ".join(f"instance {i.name}: {i.style.value}, port {i.port}, configured {i.configured}" for i in instances)
