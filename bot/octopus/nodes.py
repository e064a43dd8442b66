"""The nodes of an Octopus Server: who runs, what they execute, and draining them."""

from typing import Any

from bot.domain.facts import ServerNode, TaskInfo
from bot.octopus.documents import Document, portal_url, to_time
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.octopus.wire import Wire

_NODES = "/api/octopusservernodes"


class Nodes:
    """The cluster's table of nodes. It needs the permission AdministerSystem."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def all(self) -> tuple[ServerNode, ...]:
        """Return all nodes, also those that do not run, by name."""
        summary = self._wire.get_document(f"{_NODES}/summary")
        documents = [d for d in summary.get("Nodes") or () if isinstance(d, dict) and isinstance(d.get("Id"), str)]
        if not documents:
            raise self._wire.unexpected(f"{_NODES}/summary", "the nodes of the Server were expected")
        return tuple(sorted((_node(d) for d in documents), key=lambda n: n.name))

    def drain(self, node: ServerNode, *, drained: bool) -> ServerNode:
        """Have a node take no new tasks, or take them again, and return it as it is then; done already is done.

        The whole document is sent back, or the cap of its tasks and its heartbeat policy would be reset. OctopusError
        of kind UNEXPECTED if the Server accepts the change and does not make it.
        """
        path = f"{_NODES}/{node.id}"
        document = self._document(node)
        if (document.get("IsInMaintenanceMode") is True) != drained:
            self._wire.put(path, {**document, "IsInMaintenanceMode": drained})
            document = self._document(node)
        found = _node(document)
        if found.is_drained != drained:
            raise self._wire.unexpected(path, f"{node.name} was to be {'drained' if drained else 'drained no more'}")
        return found

    def tasks(self, node: ServerNode) -> tuple[TaskInfo, ...]:
        """Return what a node executes now."""
        details = self._wire.get_document(f"{_NODES}/{node.id}/details")
        found = [t for t in details.get("RunningTasks") or () if isinstance(t, dict) and isinstance(t.get("Id"), str)]
        return tuple(
            TaskInfo(
                id=t["Id"],
                name=str(t.get("Name") or "?"),
                description=str(t.get("Description") or ""),
                state=str(t.get("State") or "?"),
                url=portal_url(self._wire.url, str(t.get("SpaceId") or ""), f"tasks/{t['Id']}"),
            )
            for t in found
        )

    def _document(self, node: ServerNode) -> Document:
        """Return a node's document; older Servers have it in the summary only (UNVERIFIED)."""
        try:
            return self._wire.get_document(f"{_NODES}/{node.id}")
        except OctopusError as error:
            if error.kind is not OctopusErrorKind.NOT_FOUND:
                raise
            summary = self._wire.get_document(f"{_NODES}/summary")
            for document in summary.get("Nodes") or ():
                if isinstance(document, dict) and document.get("Id") == node.id:
                    return document
            text = (
                f"{node.name} is no node of the Octopus Server any more ({node.id}). It was removed from the cluster "
                "meanwhile. Ask again, so that the Server's nodes are looked at anew."
            )
            raise OctopusError(text, kind=OctopusErrorKind.NOT_FOUND, status=404) from None


def _node(document: dict[str, Any]) -> ServerNode:
    running, cap = document.get("RunningTaskCount"), document.get("MaxConcurrentTasks")
    return ServerNode(
        id=str(document["Id"]),
        name=str(document.get("Name") or document["Id"]),
        is_drained=document.get("IsInMaintenanceMode") is True,
        is_offline=document.get("IsOffline") is True,
        running_tasks=running if isinstance(running, int) else 0,
        task_cap=cap if isinstance(cap, int) else 0,
        last_seen=to_time(document.get("LastSeen")),
        version=document.get("Version") if isinstance(document.get("Version"), str) else None,
    )
