"""The nodes of one Octopus Server together: the database that they share, who runs, and which of them does what."""

from collections.abc import Callable, Sequence

from bot.domain.facts import ServiceState
from bot.sandbox.octopus.checks import HealthChecks
from bot.sandbox.octopus.comms import Caller
from bot.sandbox.octopus.faults import OctopusFaults
from bot.sandbox.octopus.health import Prober
from bot.sandbox.octopus.node import Node
from bot.sandbox.octopus.store import Store
from bot.sandbox.octopus.tasks import TaskQueue
from bot.sandbox.pki import Identity
from bot.sandbox.windows.service import ServiceError
from bot.sandbox.world import World

START_SECONDS = 10.0


class Cluster:
    """All nodes. It is the database of their programs, too: the certificate is in it, for all nodes alike."""

    def __init__(
        self,
        world: World,
        names: Sequence[str],
        *,
        identity: Identity,
        store: Store,
        faults: OctopusFaults,
        version: str,
        serve: Callable[[bool], None],
    ) -> None:
        """Take `serve`, which has the API served, or served no more."""
        self.world = world
        self.faults = faults
        self.version = version
        self._identity = identity
        self._serve = serve
        self.web: Identity | None = None
        """The web server's certificate, where Tentacles may poll over WebSocket."""
        self.tasks = TaskQueue(world.clock, faults, store.new_id, self._room)
        self.checks = HealthChecks(store, self.tasks, faults, world.clock, self.node, pace=world.pace)
        self.tasks.handlers["Health"] = self.checks.run
        self.nodes = [Node(self, name) for name in names]

    # ---- the database

    @property
    def certificate(self) -> Identity:
        """The communications certificate in the database; a node goes by it from its next start on."""
        return self._identity

    def adopt(self, identity: Identity) -> None:
        """Put another communications certificate into the database."""
        self._identity = identity
        self.world.record("octopus", "import", identity.thumbprint)

    @property
    def presented(self) -> Identity:
        """The certificate that the first node serves and presents; while it does not run, the database's."""
        return self.nodes[0].identity or self._identity

    def serve_web_sockets(self) -> Identity:
        """Have the nodes take polling Tentacles over WebSocket, too; return the web server's certificate.

        It is that of the portal's HTTPS, which no rotation of the communications certificate touches.
        """
        if self.web is None:
            self.web = self.world.ca.issue("octopus.corp.example", addresses=[n.host.address for n in self.nodes])
        for node in self.running:
            node.web_sockets.start(self.web)
        return self.web

    # ---- who runs

    @property
    def running(self) -> list[Node]:
        """The nodes that run, in their order."""
        return [n for n in self.nodes if n.is_running]

    @property
    def leader(self) -> Node:
        """The first node that runs; the first one where none does."""
        return next(iter(self.running), self.nodes[0])

    def node(self, name: str) -> Node:
        """Return a node by its name; the leader for an empty name."""
        return next((n for n in self.nodes if n.name == name), self.leader)

    def start(self) -> None:
        """Have every node run."""
        for node in self.nodes:
            if node.server.service.state is ServiceState.STOPPED:
                node.boot()

    def stop(self) -> None:
        """Have no node run."""
        for node in self.nodes:
            node.halt()

    def restart(self, node: Node) -> None:
        """Have a node restart by itself, as after an update of its machine."""
        node.halt()
        try:
            node.server.service.start()
        except ServiceError:
            return
        node.server.service.wait_for(ServiceState.RUNNING, START_SECONDS)

    def joined(self, node: Node) -> None:
        """Let a node work that has come up."""
        self.tasks.start(node.name)
        self._serve(True)  # noqa: FBT003  # a switch has two positions

    def left(self, node: Node) -> None:
        """Take its work from a node that has gone; with the last one the API is gone."""
        self.tasks.stop(node.name)
        if not self.running:
            self._serve(False)  # noqa: FBT003

    # ---- what they do

    def authorize(self, node: Node, caller: Caller) -> bool:
        """Decide whether a polling Tentacle may connect to a node."""
        return self.checks.authorize(caller, node.prober)

    def new_prober(self, node: Node, identity: Identity) -> Prober:
        """Return by what a node connects to Tentacles, presenting a certificate."""
        version = tuple(int(p) for p in self.version.split(".")[:2])
        folder = self.world.root / "octopus"
        return Prober(node.host.address, identity, folder, self._resolve, version)

    def _room(self, name: str) -> int:
        node = next((n for n in self.nodes if n.name == name), None)
        return node.task_cap if node and node.is_running and not node.is_drained else 0

    def _resolve(self, host: str) -> str:
        """Return the address of a host of the world given by its name; anything else stays as it is."""
        found = self.world.hosts.get(host) or self.world.hosts.get(host.lower())
        return found.address if found else host
