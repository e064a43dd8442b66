"""The demo's estate: a dozen Tentacles with the troubles of real ones, and as many plain ones more as are wanted."""

from dataclasses import dataclass

from bot.domain.facts import RecordKind, Style
from bot.sandbox.octopus.others import Other
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World

PRODUCTION, STAGING = "Production", "Staging"


@dataclass(frozen=True, slots=True)
class Estate:
    """What was built, by the names that people use."""

    instances: dict[str, TentacleInstance]
    """By the name of its first record."""
    records: dict[str, list[str]]
    """Ids of records, by that name."""
    others: dict[str, Other]
    """Tentacles that no WinRM reaches, by name, where they were asked for."""


def build(world: World, octopus: OctopusServer, count: int = 12, *, others: bool = False) -> Estate:
    """Build about `count` Tentacles: the dozen with troubles first, then plain web servers.

    With `others`, machines beside them: on Linux, in Kubernetes, by SSH, and one that polls over WebSocket.
    """
    builder = _Builder(world, octopus)
    makers = (
        builder.plain_targets,
        builder.polling,
        builder.workers,
        builder.two_spaces,
        builder.two_instances,
        builder.sha1,
        builder.disagreeing,
        builder.unreachable,
    )
    for make in makers:
        if len(builder.instances) < count:
            make()
    for number in range(3, 3 + max(0, count - len(builder.instances))):
        builder.listening(f"web-{number:02}", roles=["web"])
    if others:
        builder.beside()
    octopus.check()
    return Estate(builder.instances, builder.records, builder.others)


class _Builder:
    def __init__(self, world: World, octopus: OctopusServer) -> None:
        self.world = world
        self.octopus = octopus
        self.instances: dict[str, TentacleInstance] = {}
        self.records: dict[str, list[str]] = {}
        self.others: dict[str, Other] = {}
        for space in ("Default", "Payments"):
            octopus.add_space(space)
            for environment in (PRODUCTION, STAGING):
                octopus.add_environment(space, environment)
        octopus.add_pool("Default", "Windows workers")

    def listening(
        self,
        name: str,
        *,
        environment: str = PRODUCTION,
        roles: list[str] | None = None,
        host: Host | None = None,
        signed: str = "sha256",
        instance: str = "Tentacle",
        port: int = 10933,
        watchdog: bool = False,
    ) -> TentacleInstance:
        """Add a listening deployment target on a host of its own."""
        host = host or self.world.add_host(name)
        made = host.add_tentacle(instance, style=Style.LISTENING, port=port, hash=signed, watchdog=watchdog)
        self._record(name, made, environments=[environment], roles=roles or ["app"])
        return made

    def _record(self, name: str, made: TentacleInstance, *, space: str = "Default", **fields: object) -> None:
        kind = fields.pop("kind", RecordKind.TARGET)
        record = self.octopus.add_record(name, made, kind=kind, space=space, **fields)  # type: ignore[arg-type]
        self.instances.setdefault(name, made)
        self.records.setdefault(name, []).append(record)

    def plain_targets(self) -> None:
        """Two web servers, one of them with Octopus's watchdog."""
        self.listening("web-01", roles=["web"])
        self.listening("web-02", roles=["web"], environment=STAGING, watchdog=True)

    def polling(self) -> None:
        """Two that poll: nothing listens on them."""
        for name in ("edge-01", "edge-02"):
            made = self.world.add_host(name).add_tentacle(style=Style.POLLING)
            self._record(name, made, environments=[PRODUCTION], roles=["edge"])

    def workers(self) -> None:
        """Two workers of one pool, so that one may go while the other works."""
        for name in ("worker-01", "worker-02"):
            made = self.world.add_host(name).add_tentacle(style=Style.LISTENING)
            self._record(name, made, kind=RecordKind.WORKER, pools=["Windows workers"])

    def two_spaces(self) -> None:
        """One Tentacle that stands in two spaces: two records must be corrected."""
        made = self.world.add_host("shared-01").add_tentacle(style=Style.LISTENING)
        self._record("shared-01", made, environments=[PRODUCTION], roles=["api"])
        self._record("shared-01", made, space="Payments", environments=[PRODUCTION], roles=["api"])

    def two_instances(self) -> None:
        """Two instances on one host, on two ports."""
        host = self.world.add_host("app-01")
        self.listening("app-01-blue", host=host, instance="Blue", port=10933)
        self.listening("app-01-green", host=host, instance="Green", port=10934)

    def sha1(self) -> None:
        """One with a certificate signed with SHA-1, which newer Octopus Servers refuse."""
        self.listening("legacy-01", signed="sha1", roles=["legacy"])

    def disagreeing(self) -> None:
        """One whose record stores another thumbprint than it has."""
        self.listening("moved-01", roles=["app"])
        self.octopus.corrupt_thumbprint(self.records["moved-01"][0])

    def unreachable(self) -> None:
        """One that nobody can reach."""
        made = self.listening("lost-01", roles=["app"])
        made.host.faults.unreachable = True

    def beside(self) -> None:
        """Machines that a rotation of the Server's certificate must name, though it cannot do them."""
        more = self.octopus.others
        self.others = {"linux-01": more.linux("linux-01"), "k8s-agent-01": more.kubernetes_agent("k8s-agent-01")}
        more.ssh("bastion-01")
        socket = more.web_socket("socket-01")
        self.instances["socket-01"] = socket.instance
        self.records["socket-01"] = [socket.record]
