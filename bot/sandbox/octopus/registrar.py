"""How machines come to stand in Octopus: Tentacles that are made to trust the Server, and documents of all the others.

What the portal and `register-with` do. Thread-safe by the store's lock.
"""

from collections.abc import Sequence
from typing import Any

from bot.domain.facts import RecordKind, ServiceState, Style
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.cluster import Cluster
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.store import Record, Store
from bot.sandbox.windows import configuration as keys
from bot.sandbox.windows.configuration import TrustedServer
from bot.sandbox.windows.tentacle import TentacleInstance, with_subscription

_START_SECONDS = 5.0
_ARRIVAL_SECONDS = 1.0
"""How long a new polling Tentacle is waited for, once its process runs."""


class Registrar:
    """Registers machines with one Server."""

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self.store = store
        self.cluster = cluster
        self.world = cluster.world

    def add_record(
        self,
        name: str,
        instance: TentacleInstance,
        *,
        kind: RecordKind = RecordKind.TARGET,
        space: str = "Default",
        environments: Sequence[str] = (),
        roles: Sequence[str] = (),
        pools: Sequence[str] = (),
        **overrides: Any,
    ) -> str:
        """Register a Tentacle as deployment target or worker; see OctopusServer.add_record."""
        was_trusted = self._ensure_trust(instance)
        endpoint = self._endpoint_of(instance)
        endpoint |= {k: overrides.pop(k) for k in ("Thumbprint", "Uri", "ProxyId") if k in overrides}
        id_ = self.add_document(
            name,
            endpoint,
            kind=kind,
            space=space,
            environments=environments,
            roles=roles,
            pools=pools,
            instance=instance,
            overrides=overrides,
        )
        if not was_trusted:
            self._replace_process(instance)
        return id_

    def add_agent(self, name: str, instance: TentacleInstance, *, space: str, kind: RecordKind) -> str:
        """Register a Tentacle that is a Kubernetes agent: its certificate stands deeper in the document."""
        was_trusted = self._ensure_trust(instance, keys.KUBERNETES)
        endpoint = documents.agent_endpoint(name, self._subscription(instance) or "", str(instance.configured or ""))
        id_ = self.add_document(name, endpoint, kind=kind, space=space, instance=instance)
        if not was_trusted:
            self._replace_process(instance)
        return id_

    def add_poller(self, name: str, instance: TentacleInstance, *, space: str, kind: RecordKind) -> str:
        """Register a Tentacle that listens a second time, as one that polls every node by one subscription."""
        thumbprint = str(self.cluster.presented.thumbprint)
        for node in self.cluster.nodes:
            self._poll(instance, keys.POLLING, node.comms_url, thumbprint)
        subscription = self._subscription(instance) or ""
        endpoint = documents.tentacle_endpoint("TentacleActive", subscription, str(instance.configured or ""))
        id_ = self.add_document(name, endpoint, kind=kind, space=space, instance=instance)
        self._replace_process(instance)
        if self.cluster.running:
            self.world.wait(lambda: all(n.caller(subscription) for n in self.cluster.running), _ARRIVAL_SECONDS)
        return id_

    def add_web_socket(self, name: str, instance: TentacleInstance, *, space: str, kind: RecordKind) -> str:
        """Register a Tentacle that polls over WebSocket: it trusts the web server's certificate, not the Server's.

        In its document nothing tells that (UNVERIFIED): style and subscription are those of any polling Tentacle.
        """
        web = self.cluster.serve_web_sockets()
        for node in self.cluster.nodes:
            self._poll(instance, keys.POLLING, node.web_socket_url, str(web.thumbprint))
        endpoint = documents.tentacle_endpoint(
            "TentacleActive", self._subscription(instance) or "", str(instance.configured or "")
        )
        id_ = self.add_document(name, endpoint, kind=kind, space=space, instance=instance)
        self._replace_process(instance)
        return id_

    def add_document(
        self,
        name: str,
        endpoint: Document,
        *,
        kind: RecordKind,
        space: str,
        environments: Sequence[str] = (),
        roles: Sequence[str] = (),
        pools: Sequence[str] = (),
        instance: TentacleInstance | None = None,
        overrides: Document | None = None,
    ) -> str:
        """Add the document of a machine; environments and pools that do not exist are added."""
        store, worker = self.store, kind is RecordKind.WORKER
        space_id = store.find(store.spaces, space)
        with store.lock:
            id_ = store.new_id("Workers" if worker else "Machines")
            document = documents.machine(
                id_,
                name,
                space_id,
                worker=worker,
                endpoint=endpoint,
                policy_id=store.default_policy(space_id),
                environments=[
                    store.ensure(store.environments, store.add_environment, space_id, e) for e in environments
                ],
                roles=roles,
                pools=[store.ensure(store.pools, store.add_pool, space_id, p) for p in pools],
            )
            document |= overrides or {}
            store.records[id_] = Record(id=id_, kind=kind, space=space_id, document=document, instance=instance)
        return id_

    def _endpoint_of(self, instance: TentacleInstance) -> Document:
        thumbprint = str(instance.configured or "")
        if instance.style is Style.POLLING:
            return documents.tentacle_endpoint("TentacleActive", self._subscription(instance) or "", thumbprint)
        return documents.tentacle_endpoint(
            "TentaclePassive", f"https://{instance.host.address}:{instance.port}/", thumbprint
        )

    def _subscription(self, instance: TentacleInstance) -> str | None:
        """Return the subscription by which an instance polls this Server."""
        addresses = {a for n in self.cluster.nodes for a in (n.comms_url, n.web_socket_url)}
        return next((t.subscription for t in instance.trusted if t.address in addresses and t.subscription), None)

    def _ensure_trust(self, instance: TentacleInstance, polls_as: int = keys.POLLING) -> bool:
        """Make an instance's configuration trust this Server; return whether it did already.

        A polling one gets an entry for each node, with one subscription.
        """
        thumbprint = self.cluster.presented.thumbprint
        if instance.style is not Style.POLLING:
            known = any(t.thumbprint == thumbprint for t in instance.trusted)
            if not known:
                self._trust(instance, TrustedServer(thumbprint=thumbprint, style=keys.LISTENING))
            return known
        polled = {t.address for t in instance.trusted if t.subscription}
        missing = [n for n in self.cluster.nodes if n.comms_url not in polled]
        for node in missing:
            self._poll(instance, polls_as, node.comms_url, thumbprint)
        return not missing

    def _poll(self, instance: TentacleInstance, style: int, address: str, thumbprint: str) -> None:
        known_as = self._subscription(instance)
        entry = TrustedServer(thumbprint=thumbprint, style=style, address=address, subscription=known_as)
        self._trust(instance, with_subscription(entry))

    def _trust(self, instance: TentacleInstance, entry: TrustedServer) -> None:
        with self.world.lock:
            instance.configuration.trust(entry)

    def _replace_process(self, instance: TentacleInstance) -> None:
        """Have a running Tentacle read its configuration anew; a polling one has come by then, if it may."""
        service = instance.service
        if service.state is not ServiceState.RUNNING:
            return
        with self.world.changed:
            service.kill()
            pace, self.world.pace = self.world.pace, 0.0  # to register is nothing to watch: no time passes
            try:
                service.start()
            finally:
                self.world.pace = pace
        service.wait_for(ServiceState.RUNNING, _START_SECONDS)
        if instance.style is Style.POLLING and self.cluster.running:
            wanted = self._subscription(instance) or ""
            nodes = self.cluster.running
            self.world.wait(lambda: all(n.caller(wanted) for n in nodes), _ARRIVAL_SECONDS)
