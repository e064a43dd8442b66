"""What the sandbox's Octopus Server keeps: spaces, what is in them, records of machines, users."""

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from bot.domain.facts import RecordKind
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.errors import missing
from bot.sandbox.octopus.permissions import User
from bot.sandbox.windows.tentacle import TentacleInstance


@dataclass(slots=True, kw_only=True)
class LogLine:
    """One line of a connection log or a task log."""

    category: str
    """`Info`, `Verbose`, `Warning`, `Error`, `Fatal`."""
    text: str
    at: datetime
    detail: str | None = None

    def to_document(self) -> Document:
        """Return OctopusClients' ActivityLogElement."""
        return {
            "Category": self.category,
            "OccurredAt": documents.stamp(self.at),
            "MessageText": self.text,
            "Detail": self.detail,
        }


@dataclass(slots=True, kw_only=True)
class Record:
    """A deployment target or a worker, with what the Server knows of it beside its document."""

    id: str
    kind: RecordKind
    space: str
    document: Document
    instance: TentacleInstance | None = None
    """The Tentacle for which it was made; the Server itself never looks at it."""
    last_checked: datetime | None = None
    checked_by: str | None = None
    """Id of the task that checked it last."""
    logs: list[LogLine] = field(default_factory=list)
    before: tuple[str, float] | None = None
    """Thumbprint before the latest PUT, and until when (monotonic) nodes that cache still go by it."""

    @property
    def name(self) -> str:
        """Its name in Octopus."""
        return str(self.document["Name"])

    @property
    def style(self) -> str:
        """Octopus's CommunicationStyle."""
        return str(self.document["Endpoint"]["CommunicationStyle"])

    @property
    def uri(self) -> str:
        """The Uri of its endpoint; empty where it has none."""
        return str(documents.certified(self.document["Endpoint"]).get("Uri") or "")

    @property
    def thumbprint(self) -> str:
        """The thumbprint exactly as it is stored; empty where there is none."""
        return str(documents.certified(self.document["Endpoint"]).get("Thumbprint") or "")

    @property
    def polls(self) -> bool:
        """Whether it is a Tentacle that comes to the Server, rather than being connected to."""
        return self.style in {"TentacleActive", "KubernetesTentacle"}

    @property
    def health(self) -> str:
        """Octopus's HealthStatus."""
        return str(self.document["HealthStatus"])

    @property
    def environments(self) -> list[str]:
        """Ids of its environments; none for a worker."""
        return list(self.document.get("EnvironmentIds") or ())

    def is_visible(self, user: User, permission: str = "View") -> bool:
        """Tell whether a user may see (`View`) or change (`Edit`) it."""
        if self.kind is RecordKind.WORKER:
            return user.may(f"Worker{permission}", self.space)
        tenants = self.document.get("TenantIds") or ()
        return user.may_see(f"Machine{permission}", self.space, self.environments, tenants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One PUT of a machine that was carried out."""

    at: datetime
    user: str
    record: str
    name: str
    old: str
    """Thumbprint before, as it was stored."""
    new: str
    changed: tuple[str, ...]
    """Members of the document that differ afterwards, `Endpoint.` before those of the endpoint."""


class Store:
    """The Server's database. Thread-safe by `lock`, which guards nothing but memory and is held shortly."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.spaces: dict[str, Document] = {}
        self.environments: dict[str, Document] = {}
        self.pools: dict[str, Document] = {}
        self.tenants: dict[str, Document] = {}
        self.policies: dict[str, Document] = {}
        self.records: dict[str, Record] = {}
        self.users: list[User] = []
        self.puts: list[Put] = []
        self._numbers: Counter[str] = Counter()

    def new_id(self, prefix: str) -> str:
        """Return the next id such as `Machines-7`."""
        with self.lock:
            self._numbers[prefix] += 1
            return f"{prefix}-{self._numbers[prefix]}"

    def add_space(self, name: str) -> str:
        """Add a space with its default policy and pool; the first one is the default space."""
        with self.lock:
            id_ = self.new_id("Spaces")
            self.spaces[id_] = documents.space(id_, name, default=not self.spaces)
            self.add_policy(id_, "Default Machine Policy", may_be_offline=True)
            self.add_pool(id_, "Default Worker Pool")
            return id_

    def add_environment(self, space: str, name: str) -> str:
        """Add an environment to a space."""
        with self.lock:
            id_ = self.new_id("Environments")
            order = sum(e["SpaceId"] == space for e in self.environments.values())
            self.environments[id_] = documents.environment(id_, name, space, order)
            return id_

    def add_pool(self, space: str, name: str) -> str:
        """Add a worker pool to a space; its first one is the default."""
        with self.lock:
            id_ = self.new_id("WorkerPools")
            order = sum(p["SpaceId"] == space for p in self.pools.values())
            self.pools[id_] = documents.pool(id_, name, space, order, default=order == 0)
            return id_

    def add_tenant(self, space: str, name: str) -> str:
        """Add a tenant to a space."""
        with self.lock:
            id_ = self.new_id("Tenants")
            self.tenants[id_] = documents.tenant(id_, name, space)
            return id_

    def add_policy(self, space: str, name: str, *, may_be_offline: bool) -> str:
        """Add a machine policy to a space; its first one is the default."""
        with self.lock:
            id_ = self.new_id("MachinePolicies")
            default = not any(p["SpaceId"] == space for p in self.policies.values())
            self.policies[id_] = documents.policy(id_, name, space, default=default, may_be_offline=may_be_offline)
            return id_

    def default_policy(self, space: str) -> str:
        """Return the id of the policy that a space applies where none is named."""
        with self.lock:
            return next(i for i, p in self.policies.items() if p["SpaceId"] == space and p["IsDefault"])

    def find(self, table: dict[str, Document], name: str, space: str | None = None) -> str:
        """Return the id of a document given by id or name, in a space; KeyError if there is none."""
        with self.lock:
            for id_, document in table.items():
                if space in {None, document.get("SpaceId")} and name in {id_, document["Name"]}:
                    return id_
        raise KeyError(name)

    def ensure(self, table: dict[str, Document], add: Callable[[str, str], str], space: str, name: str) -> str:
        """Return the id of a document given by id or name; one of that name is added where there is none."""
        with self.lock:
            try:
                return self.find(table, name, space)
            except KeyError:
                return add(space, name)

    def record(self, id_: str, user: User | None = None, *, kind: RecordKind | None = None) -> Record:
        """Return a record; Octopus's 404 when there is none or the user may not see it."""
        with self.lock:
            record = self.records.get(id_)
            if record is None or (kind and record.kind is not kind) or (user and not record.is_visible(user)):
                raise missing(id_)
            return record

    def visible(self, kind: RecordKind, space: str, user: User) -> list[Record]:
        """Return the records of a space that a user may see, by name: silently fewer than there are."""
        with self.lock:
            found = [r for r in self.records.values() if r.kind is kind and r.space == space and r.is_visible(user)]
        return sorted(found, key=lambda r: r.name.lower())

    def copies(self, table: dict[str, Document], space: str | None = None) -> list[Document]:
        """Return copies of the documents of a table, those of one space if it is named."""
        with self.lock:
            return [copy.deepcopy(d) for d in table.values() if space in {None, d.get("SpaceId")}]

    def snapshot(self, records: Iterable[Record]) -> list[Document]:
        """Return copies of the documents of records."""
        with self.lock:
            return [copy.deepcopy(r.document) for r in records]

    def remove(self, id_: str) -> None:
        """Delete a record; nothing happens if it is gone."""
        with self.lock:
            self.records.pop(id_, None)

    def polled(self, subscription: str) -> list[Record]:
        """Return the records of a polling Tentacle's subscription, in all spaces."""
        wanted = same_subscription(subscription)
        with self.lock:
            return [r for r in self.records.values() if r.polls and same_subscription(r.uri) == wanted]


def same_subscription(uri: str) -> str:
    """Return a subscription's URI in the one spelling in which it is compared: `poll://abc/` and `poll://ABC`."""
    return uri.rstrip("/").lower()
