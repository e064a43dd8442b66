"""The inspector of the Server: its nodes from every side, and every Tentacle that must trust it. Read-only."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bot.domain.errors import UserError
from bot.domain.facts import (
    EstateIndex,
    HostFacts,
    NodeFacts,
    ServerFacts,
    ServerInstance,
    ServerNode,
    Sighting,
    TargetFacts,
    TaskInfo,
)
from bot.domain.names import targets
from bot.domain.thumbprint import Thumbprint
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.runs.inspector import LOOKAHEAD, Inspector, Tools

COMMUNICATIONS_PORT = 10943
"""Where a node listens for polling Tentacles unless it was told otherwise."""
NODES_AT_ONCE = 8
"""Nodes that are looked at at the same time; a cluster has a few."""


class ServerInspector:
    """Observes the Octopus Server. Nothing that it does changes anything."""

    def __init__(self, tools: Tools, inspector: Inspector) -> None:
        self._tools = tools
        self._inspector = inspector

    def look(self) -> ServerFacts:
        """Return the facts of the Server, its nodes, and all Tentacles of all spaces; UserError if it cannot be asked.

        Every host of a Tentacle is visited, as many at a time as the configuration allows.
        """
        octopus = self._tools.octopus
        thumbprint, version = octopus.server_thumbprint(), octopus.version()
        index = self._inspector.index()
        nodes = self.nodes(thumbprint)
        tentacles = self._inspector.look(targets(index), index, deeply=False, sighted=False, pooled=True)
        return ServerFacts(
            thumbprint=thumbprint,
            version=version,
            nodes=nodes,
            tentacles=tuple(tentacles),
            others=index.others,
            unreadable_spaces=index.unreadable_spaces,
            scheduled=self._scheduled(index),
            at=self._tools.clock.now(),
        )

    def watch(self) -> tuple[Thumbprint, tuple[NodeFacts, ...]] | None:
        """Return the Server's thumbprint as Octopus tells it and what its nodes serve; no Tentacle is visited.

        A node whose host cannot be visited is seen by a handshake at its usual port. None where the key may not see
        the nodes (AdministerSystem); UserError if Octopus cannot be asked.
        """
        octopus = self._tools.octopus
        thumbprint = octopus.server_thumbprint()
        try:
            nodes = self.nodes(thumbprint)
        except OctopusError as error:
            if error.kind is OctopusErrorKind.FORBIDDEN:
                return None
            raise
        return thumbprint, tuple(self._seen(n) for n in nodes)

    def _seen(self, node: NodeFacts) -> NodeFacts:
        if node.node.is_offline or node.sightings:
            return node
        address = self._tools.directory.reach_node(node.name).address
        return replace(node, sightings=(self._tools.see(address, COMMUNICATIONS_PORT),))

    def _scheduled(self, index: EstateIndex) -> tuple[TaskInfo, ...]:
        spaces = sorted({r.space_id for r in index.records})
        return tuple(t for s in spaces for t in self._tools.octopus.scheduled(s, LOOKAHEAD))

    def tentacles(self, index: EstateIndex, records: set[str]) -> list[TargetFacts]:
        """Return the facts of the Tentacles that have one of these records, each host of which is visited."""
        some = [g for g in targets(index) if not records.isdisjoint(r.id for r in g.records)]
        return self._inspector.look(some, index, deeply=False, sighted=False)

    def nodes(self, expected: Thumbprint) -> tuple[NodeFacts, ...]:
        """Return the facts of all nodes; of those that do not run, what Octopus tells of them."""
        nodes = self._tools.octopus.nodes()
        with ThreadPoolExecutor(NODES_AT_ONCE, thread_name_prefix="nodes") as pool:
            return tuple(pool.map(lambda n: self.node(n, expected), nodes))

    def node(self, node: ServerNode, expected: Thumbprint | None = None) -> NodeFacts:
        """Return the facts of one node; `expected` tells apart several instances on its host."""
        if node.is_offline:
            return NodeFacts(node=node, host_error="Octopus says that it does not run")
        tools = self._tools
        reach = tools.directory.reach_node(node.name)
        try:
            host = tools.hands.inspect(
                reach.endpoint,
                loopback_seconds=tools.loopback_seconds,
                deadline=tools.inspect_seconds,
                server=True,
            )
        except UserError as error:
            return NodeFacts(node=node, host_error=str(error))
        instance, problem = _instance(host, reach.instance, expected)
        sightings: tuple[Sighting, ...] = ()
        if instance:
            sightings = (tools.see(reach.address, instance.port),)
        return NodeFacts(node=node, host=host, instance=instance, instance_error=problem, sightings=sightings)


def _instance(
    host: HostFacts, wanted: str | None, expected: Thumbprint | None
) -> tuple[ServerInstance | None, str | None]:
    """Return the one Server instance on a host that is the node, or why none can be told."""
    found = [i for i in host.servers if wanted is None or i.name.casefold() == wanted.casefold()]
    if len(found) > 1 and expected:
        found = [i for i in found if i.stored == expected] or found
    if len(found) == 1:
        return found[0], None
    if not found:
        return None, f"no Octopus Server instance was found on {host.computer}"
    names = ", ".join(i.name for i in found)
    return None, f"{host.computer} has several Octopus Server instances ({names}); name one in a [[hosts]] entry"
