"""Plans: what will be done to which targets, immutable, with a digest that an approval binds to."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from bot.domain.authority import Authority
from bot.domain.certificate import CertificateDetails
from bot.domain.facts import NodeFacts, TargetFacts
from bot.domain.thumbprint import Thumbprint
from bot.domain.windows import Schedule


class Order(StrEnum):
    """In which order a Tentacle's certificate is replaced."""

    DEFAULT = "default"
    """Import while the service runs, then restart."""
    DOCUMENTED = "documented"
    """Stop, import, start, as Octopus's older guide has it."""


class StepKind(StrEnum):
    """One idempotent action of a target's rotation."""

    IDLE = "wait until idle"
    BACKUP = "copy the configuration aside"
    STOP = "stop the service"
    IMPORT = "import the certificate"
    MAKE = "make a new certificate"
    RESTORE = "put the former certificate back"
    RESTART = "restart the service"
    START = "start the service"
    SERVED = "see the new certificate served"
    RECORD = "correct the thumbprint in Octopus"
    HEALTH = "Octopus health check"
    EXPORT = "export the Server's present certificate"
    DRAIN = "let the node's tasks end"
    ADOPT = "import the Server's new certificate"
    UNDRAIN = "let the node take tasks again"
    TRUST = "trust the Server's new certificate, too"
    TRUSTING = "see that its process trusts it"
    FOLLOW = "trust the Server's new certificate instead"
    UNTRUST = "remove the old trust"


class Severity(StrEnum):
    """How much a warning should weigh with an approver."""

    NOTE = "note"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """Something an approver must see before deciding."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the new certificate comes from."""

    text: str
    """`new-certificate`, `pfx:NAME` or `ca:NAME`, as in the command; `backup:RUN` for a roll back of that run."""
    certificate: CertificateDetails | None = None
    """Known beforehand for a PFX, None otherwise."""
    is_folder: bool = False
    """Whether each target has a PFX file of its own; then its plan holds the certificate."""
    authority: Authority | None = None
    """The CA that signs for each target, and its terms."""

    @property
    def is_made_on_host(self) -> bool:
        """Whether the host makes the certificate itself, so that the key never travels."""
        return self.text == "new-certificate"

    @property
    def pfx(self) -> str | None:
        """The configured name of the PFX, if that is the source."""
        return self.text.removeprefix("pfx:") if self.text.startswith("pfx:") else None

    @property
    def ca(self) -> str | None:
        """The configured name of the CA, if that is the source."""
        return self.text.removeprefix("ca:") if self.text.startswith("ca:") else None

    @property
    def backup(self) -> str | None:
        """The id of the run that is rolled back, if that is the source."""
        return self.text.removeprefix("backup:") if self.text.startswith("backup:") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asked for what, where."""

    user: str
    """Slack user id."""
    channel: str
    """Slack channel id where the plan is posted."""
    thread: str | None
    """Timestamp of the thread in which it was asked, None for the channel itself."""
    names: tuple[str, ...]
    """Targets as typed."""
    source: str = "new-certificate"
    order: Order = Order.DEFAULT
    reason: str = ""
    accept: tuple[str, ...] = ()
    """Dangers that the requester acknowledged by name."""
    user_name: str = ""
    canary: int | None = None
    """How many targets go first and alone; None for the default, 0 for none."""
    batch: int | None = None
    """How many targets one wave has at most; None for the default."""
    max_failures: int | None = None
    """How many targets may fail before the run stops itself; None for the default."""
    stop_on_failure: bool = False
    """Whether the first failure stops the run."""
    at: str = ""
    """When the run may begin, as typed; empty for at once."""
    window: str = ""
    """The name of the maintenance window in which it may work; empty where none was named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """What will be done to one Tentacle."""

    name: str
    facts: TargetFacts
    steps: tuple[StepKind, ...]
    old: Thumbprint
    new: Thumbprint | None
    """None where there is no certificate yet: it is made on the host, or signed once the plan is approved."""
    cautions: tuple[Caution, ...]
    away_seconds: int
    """About how long the Tentacle will be away."""
    digest: str
    """64 hex digits over what decides the steps."""
    certificate: CertificateDetails | None = None
    """What its own PFX file holds, where each target has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A target that was asked for and will not be touched."""

    name: str
    reason: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What will be done to one node of the Server."""

    name: str
    """`node OCTO-1`: nodes and Tentacles may have the same name."""
    facts: NodeFacts
    steps: tuple[StepKind, ...]
    digest: str


class Hands(StrEnum):
    """Why a person must do it, and where."""

    LISTENING = "listening Tentacle"
    POLLING = "polling Tentacle"
    LINUX_LISTENING = "listening Tentacle on Linux"
    LINUX_POLLING = "polling Tentacle on Linux"
    KUBERNETES = "Kubernetes agent"
    NONE = "needs nothing"
    """It does not go by this certificate: SSH targets, polling over WebSocket, cloud targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A machine that trusts the Server and that we cannot reach."""

    name: str
    hands: Hands
    space: str
    reason: str
    instance: str = "Tentacle"
    """The Tentacle instance for the command, as far as it is known."""
    uri: str = ""
    """Of its record: where it listens, or its subscription."""
    url: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether the Server loses it at the switch if nobody acts."""
        return self.hands is not Hands.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """What is particular to a rotation of the Server's certificate."""

    old: Thumbprint
    new: Thumbprint | None
    """None until the Server has made it."""
    version: str
    nodes: tuple[NodePlan, ...]
    """Those that run; the first one exports and imports."""
    offline: tuple[str, ...]
    """Names of nodes that do not run: they load the new certificate when they start."""
    by_hand: tuple[ByHand, ...]
    trust_waves: tuple[tuple[str, ...], ...]
    follow_waves: tuple[tuple[str, ...], ...]
    known: tuple[str, ...] = ()
    """Ids of all records when the plan was made: what is registered later is noticed before the switch."""
    clones: tuple[str, ...] = ()
    """Where Tentacles poll other Servers by the same certificate: restored copies of this one, perhaps."""
    accepted_lost: int = 0
    """How many machines the requester accepted to lose at the switch."""

    @property
    def lost(self) -> tuple[ByHand, ...]:
        """The machines that the Server loses at the switch if nobody acts."""
        return tuple(h for h in self.by_hand if h.is_lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An immutable list of waves of targets."""

    request: Request
    source: Source
    targets: tuple[TargetPlan, ...]
    waves: tuple[tuple[str, ...], ...]
    """Names of targets; one wave ends, health check included, before the next begins."""
    refused: tuple[Refusal, ...]
    cautions: tuple[Caution, ...]
    """About the plan as a whole."""
    seconds: int
    """About how long the whole will take."""
    digest: str
    made: datetime
    max_failures: int | None = None
    """With more failures than this the run stops itself; None where nothing was decided on that."""
    schedule: Schedule | None = None
    """When it may be carried out; None for at any time."""
    server: ServerPlan | None = None
    """Where the Server's certificate is rotated: then the targets are the Tentacles that must trust the new one."""

    @property
    def subjects(self) -> tuple[tuple[str, tuple[StepKind, ...]], ...]:
        """Everything that has steps, in the order in which people look at it: name and steps."""
        nodes = tuple((n.name, n.steps) for n in self.server.nodes) if self.server else ()
        return nodes + tuple((t.name, t.steps) for t in self.targets)

    def source_of(self, target: TargetPlan) -> Source:
        """Return where the certificate of one target comes from, with what is known of that certificate."""
        return replace(self.source, certificate=target.certificate) if self.source.is_folder else self.source

    def target(self, name: str) -> TargetPlan:
        """Return the plan of one target by its name."""
        return next(t for t in self.targets if t.name == name)
