"""The nodes in the REST API: summary, one node, what runs on it, drain (a full replace), ping."""

from dataclasses import dataclass

from bot.sandbox.octopus.cluster import Cluster
from bot.sandbox.octopus.errors import missing
from bot.sandbox.octopus.node import NEVER_DELETED, Node
from bot.sandbox.octopus.rest import Answer, Binding, Body, Call
from bot.sandbox.octopus.tasks import RUNNING_STATES, TASK_CAP

_IM_A_TEAPOT = 418
"""What a node answers to a ping while it is drained or down, so that load balancers leave it alone."""


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Everything below `/octopusservernodes`; it needs AdministerSystem."""

    cluster: Cluster

    @property
    def bindings(self) -> list[Binding]:
        """Where the resources stand."""
        base = "/octopusservernodes"
        return [
            Binding(method="GET", path=f"{base}/summary", resource=self.summary, in_space=False),
            Binding(method="GET", path=f"{base}/ping", resource=self.ping_any, in_space=False, is_public=True),
            Binding(method="GET", path=f"{base}/{{id}}/details", resource=self.details, in_space=False),
            Binding(method="GET", path=f"{base}/{{id}}/ping", resource=self.ping, in_space=False, is_public=True),
            Binding(method="GET", path=f"{base}/{{id}}", resource=self.one, in_space=False),
            Binding(method="PUT", path=f"{base}/{{id}}", resource=self.replace, in_space=False),
        ]

    def summary(self, call: Call) -> Body:
        """Return the cluster: every node that it knows, also those that do not run."""
        call.user.demand("AdministerSystem")
        nodes = [self._document(n) for n in self.cluster.nodes]
        return {"Nodes": nodes, "IsLicensedForClustering": True, "Id": None, "Links": {}}

    def one(self, call: Call) -> Body:
        """Return one node."""
        call.user.demand("AdministerSystem")
        return self._document(self._node(call))

    def details(self, call: Call) -> Body:
        """Return what a node executes."""
        call.user.demand("AdministerSystem")
        node = self._node(call)
        tasks = [t.to_document() for t in self.cluster.tasks.listed() if t.node == node.name]
        running = [t for t in tasks if t["State"] in RUNNING_STATES]
        return {"RunningTasks": running, "Id": None, "Links": {}}

    def ping(self, call: Call) -> Body | Answer:
        """Return 200 for a node that takes tasks, 418 for one that does not."""
        return self._pong(self._node(call))

    def ping_any(self, call: Call) -> Body | Answer:
        """Answer as the node does to which the load balancer gave the request: one that takes tasks, if there is one.

        Octopus's documentation has this address, to be asked of each node by a load balancer.
        """
        running = self.cluster.running
        return self._pong(next((n for n in running if self._is_good(n)), self.cluster.leader))

    def _pong(self, node: Node) -> Answer:
        return Answer(body=self._document(node), status=200 if self._is_good(node) else _IM_A_TEAPOT)

    def _is_good(self, node: Node) -> bool:
        return node.is_running and not node.is_drained and not self.cluster.faults.drained

    def replace(self, call: Call) -> Body:
        """Drain a node, or no longer: a full replace, in which a cap or a policy that is left out is reset."""
        call.user.demand("AdministerSystem")
        node, body = self._node(call), call.body if isinstance(call.body, dict) else {}
        node.task_cap = int(body.get("MaxConcurrentTasks") or TASK_CAP)
        policy = body.get("HeartbeatPolicy")
        node.heartbeat = dict(policy) if isinstance(policy, dict) else dict(NEVER_DELETED)
        node.drain(body.get("IsInMaintenanceMode") is True)
        self.cluster.world.record("octopus", "drain" if node.is_drained else "undrain", node.name)
        return self._document(node)

    def _node(self, call: Call) -> Node:
        for node in self.cluster.nodes:
            if call.parts["id"] in {node.id, node.name}:
                return node
        raise missing(call.parts["id"])

    def _document(self, node: Node) -> dict[str, object]:
        cluster = self.cluster
        return node.to_document(cluster.world.clock.now(), cluster.version)
