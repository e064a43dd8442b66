"""Facts: what was observed of a target at a time. Data without secrets, storable as JSON."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bot.domain.certificate import CertificateDetails
from bot.domain.thumbprint import Thumbprint, revealed


class Style(StrEnum):
    """How a Tentacle and its Server reach each other."""

    LISTENING = "listening"
    POLLING = "polling"


class RecordKind(StrEnum):
    """What sort of Octopus document stores the thumbprint."""

    TARGET = "deployment target"
    WORKER = "worker"


class Health(StrEnum):
    """Octopus's HealthStatus of a machine."""

    HEALTHY = "Healthy"
    HAS_WARNINGS = "HasWarnings"
    UNHEALTHY = "Unhealthy"
    UNAVAILABLE = "Unavailable"
    UNKNOWN = "Unknown"

    @property
    def is_good(self) -> bool:
        """Whether Octopus reached the machine and can deploy to it."""
        return self in {Health.HEALTHY, Health.HAS_WARNINGS}


WORST_FIRST = (Health.UNAVAILABLE, Health.UNHEALTHY, Health.UNKNOWN, Health.HAS_WARNINGS, Health.HEALTHY)
"""The order in which one health speaks for several records."""


class ServiceState(StrEnum):
    """The state of a Windows service, as the service manager names it."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    START_PENDING = "StartPending"
    STOP_PENDING = "StopPending"
    PAUSED = "Paused"
    MISSING = "Missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An Octopus document that stores a Tentacle's thumbprint."""

    id: str
    name: str
    kind: RecordKind
    space_id: str
    space: str
    style: Style
    uri: str
    """`https://host:10933/` or `poll://subscription/`, as Octopus stores it."""
    thumbprint: Thumbprint | None
    health: Health
    stored: str = ""
    """The text that Octopus has where it is not exactly the thumbprint: it compares by every character."""
    status_summary: str = ""
    is_disabled: bool = False
    environments: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    """Names of the worker pools, for a worker."""
    tenants: tuple[str, ...] = ()
    """Names of the tenants to which a deployment target belongs."""
    version: str | None = None
    """Of the Tentacle, as Octopus last saw it."""
    os: str | None = None
    """Of its machine, as Octopus last saw it."""
    signature_algorithm: str | None = None
    """Octopus's CertificateSignatureAlgorithm, such as `sha256RSA`."""
    proxy_id: str | None = None
    policy_id: str | None = None
    url: str = ""
    """Where a person sees it in Octopus's portal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One attempt to see the served certificate by a TLS handshake."""

    place: str
    """From where: `bot`, `host` (loopback on the host itself) or `octopus`."""
    address: str
    """`host:port` that was asked."""
    thumbprint: Thumbprint | None
    certificate: CertificateDetails | None = None
    error: str | None = None
    """Why nothing was seen, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """One entry of a Tentacle's list of trusted Octopus Servers."""

    text: str
    """The thumbprint exactly as it stands in the file: its removal is case-sensitive."""
    style: Style | None
    address: str | None = None
    subscription: str | None = None

    @property
    def thumbprint(self) -> Thumbprint | None:
        """The thumbprint of whom it lets in; None where the text is none to Octopus, and so nobody's."""
        return Thumbprint.exact(self.text)

    @property
    def looks_like(self) -> Thumbprint | None:
        """The thumbprint that people see in a text which is none to Octopus; None for a sound one, and for others."""
        return None if self.thumbprint else Thumbprint.maybe(self.text)

    @property
    def shown(self) -> str:
        """The text, with what is invisible in it made visible."""
        return revealed(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostJournal:
    """What a visit of ours left beside an instance's configuration: how far which run came."""

    run: str
    phase: str
    old: Thumbprint | None
    new: Thumbprint | None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One Tentacle instance, as seen on its host."""

    name: str
    config: str
    service: str
    style: Style
    configured: Thumbprint | None
    trusted: tuple[Trust, ...] = ()
    """The list in the configuration: what the next process will trust."""
    trusting: tuple[Thumbprint, ...] | None = None
    """What the running process said at its start that it trusts; None where its log does not tell."""
    port: int = 10933
    listen_address: str | None = None
    """The address the Tentacle binds, None for all."""
    state: ServiceState = ServiceState.RUNNING
    process: int | None = None
    process_started: datetime | None = None
    account: str = ""
    children: tuple[str, ...] = ()
    """Programs that run as children of the Tentacle: a script or a deployment in progress."""
    served: Sighting | None = None
    """By loopback, on the host itself."""
    journal: HostJournal | None = None
    backup: str | None = None
    """Id of the newest run whose copy of the configuration is still kept on the host."""
    error: str | None = None
    """Why this instance could not be read, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInstance:
    """One instance of the Octopus Server program on a host: a node of the Server."""

    name: str
    config: str
    service: str
    exe: str
    version: str | None
    port: int = 10943
    """Where it listens for polling Tentacles; the certificate served there is the Server's."""
    state: ServiceState = ServiceState.RUNNING
    process: int | None = None
    process_started: datetime | None = None
    account: str = ""
    stored: Thumbprint | None = None
    """What the program says the Server's certificate is: it stands in the database, for all nodes alike."""
    stored_error: str | None = None
    """Why the program could not tell, as a sentence: it may not reach the database from a remote log-on."""
    served: Sighting | None = None
    """By loopback, on the host itself: with which certificate this node was started."""
    journal: HostJournal | None = None
    backup: str | None = None
    """Id of the newest run whose copy of the Server's certificate is still kept on the host."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """One Windows machine, as seen by one inspect visit."""

    address: str
    computer: str
    os: str
    powershell: str
    language_mode: str
    elevated: bool
    clock_skew_seconds: float
    exe: str | None
    tentacle_version: str | None
    watchdog: bool
    instances: tuple[Instance, ...]
    servers: tuple[ServerInstance, ...] = ()
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNode:
    """One node of the Octopus Server, as its API tells."""

    id: str
    name: str
    is_drained: bool
    """Whether it takes no new tasks (Octopus: IsInMaintenanceMode)."""
    is_offline: bool
    running_tasks: int
    task_cap: int
    """Must be sent back with every change, or it may be reset."""
    last_seen: datetime | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """An Octopus task that is queued, scheduled or running and concerns a target."""

    id: str
    name: str
    description: str
    state: str
    start: datetime | None = None
    url: str = ""
    certain: bool = True
    """False where Octopus cannot tell whether it concerns this machine (workers have no task list)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A worker pool and its size."""

    name: str
    workers: int
    healthy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """Everything observed of one Tentacle: its records, its host, its witnesses."""

    name: str
    """The name of its first record; how people and messages call it."""
    style: Style
    endpoint: str
    """`host:port` of a listening Tentacle, the subscription URI of a polling one."""
    records: tuple[Record, ...]
    host: HostFacts | None = None
    host_error: str | None = None
    instance: Instance | None = None
    """The one instance on the host that is this Tentacle, proven by subscription, or port and thumbprint."""
    instance_error: str | None = None
    """Why no instance could be accepted, with both sides shown."""
    sightings: tuple[Sighting, ...] = ()
    """From the bot and from Octopus; the host's own is in `instance.served`."""
    tasks: tuple[TaskInfo, ...] = ()
    clones: tuple[Record, ...] = ()
    """Records with the same thumbprint on another endpoint."""
    server: Thumbprint | None = None
    """The Octopus Server's current certificate, as its API tells."""
    missing_permissions: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()
    at: datetime

    @property
    def recorded(self) -> tuple[Thumbprint, ...]:
        """The distinct thumbprints that the records store, in their order."""
        return tuple(dict.fromkeys(r.thumbprint for r in self.records if r.thumbprint))

    @property
    def configured(self) -> Thumbprint | None:
        """The thumbprint in the configuration on the host, if it was seen."""
        return self.instance.configured if self.instance else None

    @property
    def handshakes(self) -> tuple[Sighting, ...]:
        """All attempts to see the served certificate, the host's own last."""
        own = (self.instance.served,) if self.instance and self.instance.served else ()
        return self.sightings + own

    @property
    def served(self) -> tuple[Thumbprint, ...]:
        """The distinct thumbprints seen in handshakes."""
        return tuple(dict.fromkeys(s.thumbprint for s in self.handshakes if s.thumbprint))

    @property
    def certificate(self) -> CertificateDetails | None:
        """Details of the served certificate, where it was seen."""
        return next((s.certificate for s in self.handshakes if s.certificate), None)

    @property
    def consistent(self) -> bool | None:
        """Whether all witnesses agree; None where fewer than two kinds of witness were seen."""
        kinds = [k for k in ((self.configured,) if self.configured else (), self.served, self.recorded) if k]
        if len(kinds) < 2:
            return None
        same = len({t for kind in kinds for t in kind}) == 1
        return same and all(r.thumbprint and not r.stored for r in self.records)

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of all environments in which its records stand."""
        return tuple(dict.fromkeys(e for r in self.records for e in r.environments))


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherMachine:
    """A machine in Octopus that no rotation of ours can reach: it is listed, never touched."""

    name: str
    kind: RecordKind
    space: str
    style: str
    """Octopus's CommunicationStyle: `Ssh`, `KubernetesTentacle`, …"""
    uri: str
    thumbprint: Thumbprint | None
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Everything observed of one node of the Octopus Server."""

    node: ServerNode
    host: HostFacts | None = None
    host_error: str | None = None
    instance: ServerInstance | None = None
    instance_error: str | None = None
    sightings: tuple[Sighting, ...] = ()
    """From the bot; the host's own is in `instance.served`."""

    @property
    def name(self) -> str:
        """The node's name in Octopus."""
        return self.node.name

    @property
    def handshakes(self) -> tuple[Sighting, ...]:
        """All looks at what this node serves: the bot's, and the host's own by loopback."""
        own = (self.instance.served,) if self.instance and self.instance.served else ()
        return self.sightings + own

    @property
    def served(self) -> tuple[Thumbprint, ...]:
        """The distinct thumbprints seen in handshakes with this node."""
        return tuple(dict.fromkeys(s.thumbprint for s in self.handshakes if s.thumbprint))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Everything observed of the Octopus Server and of all that must trust it."""

    thumbprint: Thumbprint
    """Of its communications certificate, as the API tells."""
    version: str
    nodes: tuple[NodeFacts, ...]
    tentacles: tuple[TargetFacts, ...]
    """Every Tentacle of all spaces, targets and workers, disabled and offline ones too."""
    others: tuple[OtherMachine, ...] = ()
    unreadable_spaces: tuple[str, ...] = ()
    scheduled: tuple[TaskInfo, ...] = ()
    """Tasks that are to begin soon, in all spaces with Tentacles."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateIndex:
    """All records that the key can see, for matching names and finding clones."""

    records: tuple[Record, ...]
    unreadable_spaces: tuple[str, ...] = ()
    other_machines: tuple[str, ...] = ()
    """Names of machines that have no Tentacle certificate (SSH, Kubernetes, cloud): named, never rotated."""
    others: tuple[OtherMachine, ...] = ()
    """The same machines with what Octopus knows of them."""
    at: datetime | None = field(default=None, compare=False)
