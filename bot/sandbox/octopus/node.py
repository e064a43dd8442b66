"""The nodes of the sandbox's Octopus Server: each is a service on a Windows host of its own.

A node loads the Server's certificate from the database when its process starts, and goes by it until it ends: it serves
it on port 10943, and presents it to listening Tentacles.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from bot.domain.facts import ServiceState
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.comms import PORT, WEB_SOCKET_PORT, Caller, Comms
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.health import Prober
from bot.sandbox.octopus.tasks import RUNNING_STATES, TASK_CAP
from bot.sandbox.pki import Identity
from bot.sandbox.windows.host import Host
from bot.sandbox.windows.server_instance import ServerInstallation
from bot.sandbox.windows.service import Process, ProcessFailed

if TYPE_CHECKING:
    from bot.sandbox.octopus.cluster import Cluster


NEVER_DELETED = {"DeletionPolicy": "NeverDelete", "OfflineTimeout": "00:30:00"}
"""The default HeartbeatPolicy (OctopusClients: OctopusServerNodeResource)."""


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
        self.heartbeat: Document = dict(NEVER_DELETED)
        """What becomes of the node when it is not seen for long; a PUT that leaves it out resets it."""
        self.identity: Identity | None = None
        """The certificate of the running process."""
        self.prober: Prober | None = None
        self.is_isolated = False
        """Whether it is cut off from everybody."""
        places = (self.host.address, self.host.loopback)
        self.comms = Comms(cluster.world.loop, places, self._authorize)
        self.web_sockets = Comms(cluster.world.loop, places, self._authorize, port=WEB_SOCKET_PORT)
        self.server: ServerInstallation = self.host.add_server(
            cluster, lambda process: NodeProcess(self, process), self
        )

    @property
    def service(self) -> ServerInstallation:
        """The installation, whose service is the node."""
        return self.server

    @property
    def is_running(self) -> bool:
        """Whether its process has begun to work and the rest of the cluster sees it."""
        return self.prober is not None

    @property
    def comms_url(self) -> str:
        """The address that a polling Tentacle's trust entry names."""
        return f"https://{self.host.address}:{PORT}/"

    @property
    def web_socket_url(self) -> str:
        """The address that the trust entry of a Tentacle names which polls over WebSocket."""
        return f"wss://{self.host.address}:{WEB_SOCKET_PORT}/OctopusComms"

    @property
    def served(self) -> Thumbprint | None:
        """The certificate that it serves and presents; None while it does not run."""
        return self.identity.thumbprint if self.identity and self.is_running else None

    def drain(self, drained: bool) -> None:
        """Take no new tasks, health checks included; or take them again. It survives a restart of the node."""
        self.is_drained = drained
        self.cluster.tasks.wake()

    @property
    def running_tasks(self) -> int:
        """How many tasks it executes at this moment."""
        return self.cluster.tasks.running_on(self.name)

    def cancel_tasks(self) -> None:
        """Cancel what it executes."""
        for task in self.cluster.tasks.listed():
            if task.node == self.name and task.state in RUNNING_STATES:
                self.cluster.tasks.cancel(task.id)

    def boot(self) -> None:
        """Be running, as after a start of its machine."""
        if self.server.service.state is ServiceState.STOPPED:
            self.server.service.boot()

    def halt(self) -> None:
        """Stop at once."""
        self.server.service.kill()

    def restart(self) -> None:
        """Restart by itself, as after an update of its machine."""
        self.cluster.restart(self)

    def caller(self, subscription: str) -> Caller | None:
        """Return who polls this node for a subscription at this moment, None if nobody does."""
        return self.comms.caller(subscription) or self.web_sockets.caller(subscription)

    def isolate(self) -> None:
        """Lose the network: its process goes on, but nobody reaches it and it executes nothing."""
        self.leave()
        self.is_isolated = self.host.faults.unreachable = True

    def rejoin(self) -> None:
        """Come back from isolation, with the process and so the certificate that it had."""
        self.is_isolated = self.host.faults.unreachable = False
        if self.identity is not None:
            self.join(self.identity)

    def join(self, identity: Identity) -> None:
        """Listen, present a certificate, and take tasks; an isolated node does so when it comes back."""
        self.identity = identity
        if self.is_isolated:
            return
        self.prober = self.cluster.new_prober(self, identity)
        self.comms.start(identity)
        if self.cluster.web is not None:
            self.web_sockets.start(self.cluster.web)
        self.cluster.joined(self)

    def leave(self) -> None:
        """Cut all connections and let go of all tasks; nothing happens if it is gone already."""
        if self.prober is None:
            return
        self.prober = None
        self.last_seen = self.cluster.world.clock.now()
        self.comms.close()
        self.web_sockets.close()
        self.cluster.left(self)

    def _authorize(self, caller: Caller) -> bool:
        return self.cluster.authorize(self, caller)

    def to_document(self, now: datetime, version: str) -> Document:
        """Return the node as the cluster's summary has it.

        A node that is gone is offline here at once; the real cluster waits for its heartbeat first (UNVERIFIED how
        long).
        """
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
            "HeartbeatPolicy": dict(self.heartbeat),
            "RunningTaskCount": self.running_tasks,
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
        self._node.join(self._identity)

    def close(self) -> None:
        """Cut all connections and let go of all tasks."""
        self._node.leave()
        self._node.identity = None
