"""The nodes of the sandbox's Octopus Server: each is a service on a Windows host of its own.

A node loads the Server's certificate from the database when its process starts, and goes by it until it ends: it serves
it on port 10943, and presents it to listening Tentacles.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from bot.domain.facts import ServiceState
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.comms import PORT, Comms
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.health import Prober
from bot.sandbox.octopus.tasks import TASK_CAP, TaskQueue
from bot.sandbox.pki import Identity
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.server_instance import ServerInstallation
from bot.sandbox.windows.service import Process, ProcessFailed

if TYPE_CHECKING:
    from bot.sandbox.octopus.cluster import Cluster


class Node:
    """One node: its host, its service, and what the cluster's table says of it."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.id = f"OctopusServerNodes-{name}"
        self.host: Host = cluster.world.add_host(name.lower())
        self.task_cap = TASK_CAP
        self.is_drained = False
        self.refuses: set[Thumbprint] = set()
        """Certificates with which this node does not come up."""
        self.last_seen: datetime | None = None
        self.identity: Identity | None = None
        """The certificate of the running process."""
        self.prober: Prober | None = None
        self.comms = Comms(
            cluster.world.loop, (self.host.address, self.host.loopback), lambda caller: cluster.authorize(self, caller)
        )
        self.server: ServerInstallation = self.host.add_server(
            cluster, lambda process: NodeProcess(self, process), self.drain
        )

    @property
    def service(self) -> ServerInstallation:
        """The installation, whose service is the node."""
        return self.server

    @property
    def is_running(self) -> bool:
        """Whether its process has begun to work."""
        return self.prober is not None

    @property
    def comms_url(self) -> str:
        """The address that a polling Tentacle's trust entry names."""
        return f"https://{self.host.address}:{PORT}/"

    @property
    def served(self) -> Thumbprint | None:
        """The certificate that it serves and presents; None while it does not run."""
        return self.identity.thumbprint if self.identity and self.is_running else None

    def drain(self, drained: bool) -> None:
        """Take no new tasks, health checks included; or take them again. It survives a restart of the node."""
        self.is_drained = drained
        self.cluster.tasks.wake()

    def boot(self) -> None:
        """Be running, as after a start of its machine."""
        if self.server.service.state is ServiceState.STOPPED:
            self.server.service.boot()

    def halt(self) -> None:
        """Stop at once."""
        self.server.service.kill()

    def to_document(self, tasks: TaskQueue, now: datetime, version: str) -> Document:
        """Return the node as the cluster's summary has it."""
        seen = now if self.is_running else self.last_seen
        return {
            "Id": self.id,
            "Name": self.name,
            "MaxConcurrentTasks": self.task_cap,
            "IsInMaintenanceMode": self.is_drained or self.cluster.faults.drained,
            "LastSeen": documents.stamp(seen),
            "Rank": "Leader" if self is self.cluster.leader else "Follower",
            "IsLeader": self is self.cluster.leader,
            "IsOffline": not self.is_running,
            "RunningTaskCount": tasks.running_on(self.name),
            "Version": version,
            "Links": {
                "Self": f"/api/octopusservernodes/{self.id}",
                "Node": f"/api/octopusservernodes/{self.id}",
                "Details": f"/api/octopusservernodes/{self.id}/details",
                "Ping": f"/api/octopusservernodes/{self.id}/ping",
            },
        }


class NodeProcess:
    """What the service OctopusDeploy runs on a node."""

    def __init__(self, node: Node, process: Process) -> None:
        """Load the certificate from the database; ProcessFailed where the node does not come up with it."""
        self._node = node
        self._identity = node.cluster.certificate
        if self._identity.thumbprint in node.refuses:
            raise ProcessFailed("The certificate's private key could not be opened.")

    def run(self) -> None:
        """Listen, present the certificate, pick up tasks."""
        node, cluster = self._node, self._node.cluster
        node.identity = self._identity
        node.prober = cluster.new_prober(node, self._identity)
        node.comms.start(self._identity)
        cluster.joined(node)

    def close(self) -> None:
        """Cut all connections and let go of all tasks."""
        node = self._node
        if node.prober is None:
            return
        node.prober = None
        node.last_seen = node.cluster.world.clock.now()
        node.comms.close()
        node.cluster.left(node)
