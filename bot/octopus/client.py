"""The client of one Octopus Server: everything that the rest of octocert asks of it."""

import copy
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from bot.clock import Clock
from bot.domain.facts import EstateIndex, Pool, Record, ServerNode, Sighting, TaskInfo
from bot.domain.thumbprint import Thumbprint
from bot.octopus.documents import Space
from bot.octopus.errors import OctopusError, OctopusErrorKind, RecordVanished
from bot.octopus.nodes import Nodes
from bot.octopus.permissions import Permissions
from bot.octopus.records import Records
from bot.octopus.tasks import HealthReport, HealthTask, TaskResult, Tasks
from bot.octopus.thumbprints import Thumbprints, Written
from bot.octopus.wire import PATIENCE_SECONDS, REQUEST_SECONDS, Wire
from bot.octopus.work import Work
from bot.secrets import Secret

__all__ = ["Client", "OctopusError", "OctopusErrorKind", "RecordVanished"]

_CERTIFICATE_PATHS = (
    "/api/configuration/certificates/certificate-global",
    "/api/certificates/certificate-global",
)
"""Where the Server's certificate is described; the second in versions before the first."""


class Client:
    """One Octopus Server; may be used by many threads at once. All errors are OctopusErrors with a sentence."""

    def __init__(
        self,
        url: str,
        api_key: Callable[[], Secret],
        *,
        clock: Clock,
        ca_file: Path | None = None,
        timeout: float = REQUEST_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Take the address, and seconds for one request (`timeout`) and for asking again (`patience`).

        `api_key` is called for every request, so that a new key is used at once; it is never kept.
        """
        self._join(Wire(url, api_key, clock=clock, ca_file=ca_file, timeout=timeout, patience=patience))

    def _join(self, wire: Wire) -> None:
        self._wire = wire
        self._permissions = Permissions(wire)
        self._records = Records(wire, self._permissions)
        self._thumbprints = Thumbprints(wire, self._records)
        self._work = Work(wire)
        self._nodes = Nodes(wire)
        self.tasks = Tasks(wire, self._records)

    def patient(self, seconds: float) -> "Client":
        """Return the same Server, over the same connections, asked again for so many seconds while it is away."""
        twin = copy.copy(self)
        twin._join(self._wire.with_patience(seconds))  # noqa: SLF001 - it is one of us
        return twin

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def version(self) -> str:
        """Return the Server's version, `?` where it does not tell."""
        return str(self._wire.get_document("/api").get("Version") or "?")

    def server_thumbprint(self) -> Thumbprint:
        """Return the thumbprint of the Server's communications certificate, as its database has it.

        A node serves the certificate with which it started: whether the API already tells a newer one before the
        restart is UNVERIFIED.
        """
        for path in _CERTIFICATE_PATHS:
            try:
                document = self._wire.get_document(path)
            except OctopusError as error:
                if error.kind is OctopusErrorKind.NOT_FOUND and path != _CERTIFICATE_PATHS[-1]:
                    continue
                raise
            if found := Thumbprint.maybe(document.get("Thumbprint")):
                return found
        raise self._wire.unexpected(_CERTIFICATE_PATHS[-1], "the thumbprint of the Server's certificate was expected")

    def nodes(self) -> tuple[ServerNode, ...]:
        """Return all nodes of the Server, also those that do not run."""
        return self._nodes.all()

    def drain(self, node: ServerNode, *, drained: bool) -> ServerNode:
        """Have a node take no new tasks, or take them again; done already is done."""
        return self._nodes.drain(node, drained=drained)

    def node_tasks(self, node: ServerNode) -> tuple[TaskInfo, ...]:
        """Return what a node executes now."""
        return self._nodes.tasks(node)

    def spaces(self) -> tuple[Space, ...]:
        """Return all spaces that the key may enter."""
        return self._records.spaces()

    def index(self) -> EstateIndex:
        """Return all records of all spaces; see Records.index."""
        return self._records.index()

    def carrying(self, thumbprint: Thumbprint) -> tuple[Record, ...]:
        """Return the records of all spaces that store this thumbprint."""
        return self._records.carrying(thumbprint)

    def record(self, record: Record) -> Record:
        """Return a record as it is stored now; RecordVanished if it is gone."""
        return self._records.record(record)

    def stored(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Return those of these records that are still there, as they are stored now."""
        return self._records.stored(records)

    def put_thumbprint(self, record: Record, old: Thumbprint, new: Thumbprint) -> Written:
        """Make a record store `new` instead of `old`; done already is done. See Thumbprints.put."""
        return self._thumbprints.put(record, old, new)

    def pools(self, space_id: str) -> tuple[Pool, ...]:
        """Return the worker pools of a space with their sizes."""
        return self._records.pools(space_id)

    def discover(self, record: Record) -> Sighting:
        """Return what the Server itself sees served at a listening Tentacle."""
        return self._records.discover(record)

    def missing_permissions(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Return, as phrases, what rotating these records needs and the key lacks."""
        return self._permissions.missing(records)

    def running_tasks(self, record: Record, lookahead: timedelta | None = None) -> tuple[TaskInfo, ...]:
        """Return the tasks that work on a record now, or may, and those scheduled to begin within `lookahead`."""
        return self._work.on(record, lookahead)

    def scheduled(self, space_id: str, lookahead: timedelta) -> tuple[TaskInfo, ...]:
        """Return the tasks of a space that are to begin within `lookahead`."""
        return self._work.scheduled(space_id, lookahead)

    def start_health(self, records: Sequence[Record], description: str) -> dict[str, HealthTask]:
        """Queue one Health task per space, once per description; returned by the ids of their spaces."""
        return self.tasks.start_health(records, description)

    def follow(self, task: HealthTask, deadline: float, on_state: Callable[[str], None] | None = None) -> TaskResult:
        """Wait until a task ends, at most so many seconds."""
        return self.tasks.follow(task, deadline, on_state)

    def health(self, record: Record, result: TaskResult | None = None, *, fresh: Record | None = None) -> HealthReport:
        """Return the health of a record as Octopus knows it now, beside the task that checked it; see Tasks.health."""
        return self.tasks.health(record, result, fresh=fresh)
