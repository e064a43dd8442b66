"""The sandbox's Octopus Server: REST API, tasks, health by real handshakes, and the port for polling Tentacles."""

import copy
import secrets
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from bot.domain.facts import RecordKind
from bot.domain.thumbprint import Thumbprint
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.cluster import Cluster
from bot.sandbox.octopus.comms import Comms
from bot.sandbox.octopus.deployments import deploy
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.faults import OctopusFaults
from bot.sandbox.octopus.node import Node
from bot.sandbox.octopus.others import OtherMachines
from bot.sandbox.octopus.permissions import ALL, Grant, User, granted
from bot.sandbox.octopus.portal import portal
from bot.sandbox.octopus.rate import RateLimit
from bot.sandbox.octopus.registrar import Registrar
from bot.sandbox.octopus.rest import Gate, Traffic
from bot.sandbox.octopus.rest_machines import Machines
from bot.sandbox.octopus.rest_nodes import Nodes
from bot.sandbox.octopus.rest_server import ServerResources
from bot.sandbox.octopus.rest_tasks import Tasks
from bot.sandbox.octopus.store import LogLine, Put, Store
from bot.sandbox.octopus.tasks import Task
from bot.sandbox.octopus.web import WebServer
from bot.sandbox.pki import Identity, self_signed
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World

API_PORT = 8065
NODE = "OCTOPUS-01"
"""Name of the one node of a Server that has only one."""
SUBJECT = "Octopus Portal"
"""Common name of the certificate that the Server makes for itself."""
_RESTART_SECONDS = 10.0
BOT = "octocert"
"""Name of the service account whose key is `api_key`; it may do everything."""


class OctopusServer:
    """One Octopus Server with its nodes, each on a Windows host of its own.

    The truth is looked at and changed by its methods, in the world's own thread; clients use `url` with a key, which
    answers as long as any node runs. The certificate stands in the database and is served, and presented to Tentacles,
    by a node from its next start on.
    """

    def __init__(
        self,
        world: World,
        *,
        nodes: Sequence[str] = (NODE,),
        version: str = "2026.2.1000",
        rate_limit: int | None = None,
        tls: bool = False,
        identity: Identity | None = None,
    ) -> None:
        self.world = world
        self.version = version
        self.faults = OctopusFaults()
        self.traffic: list[Traffic] = []
        """Every request that was answered, in order."""
        self.address = world.subnet.next()
        self.rate = RateLimit(world.clock, rate_limit)
        self._store = Store()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="octopus-slow")
        self.cluster = Cluster(
            world,
            nodes,
            identity=identity or self_signed(SUBJECT),
            store=self._store,
            faults=self.faults,
            version=version,
            serve=self._serve,
        )
        self.tasks, self.checks = self.cluster.tasks, self.cluster.checks
        self._registrar = Registrar(self._store, self.cluster)
        self.others = OtherMachines(self._registrar)
        """Adds machines that no WinRM reaches: on Linux, in Kubernetes, by SSH; and those that poll over WebSocket."""
        files = world.ca.issue_files("octopus", addresses=[self.address]) if tls else None
        self._web = WebServer(self._application(), self.address, API_PORT, files)
        self._restarting: threading.Thread | None = None
        self._stopping = threading.Event()
        self._closed = False
        self.add_space("Default")
        self.api_key = self.add_api_key(BOT)

    # ---- its life

    @property
    def url(self) -> str:
        """Base address of portal and API."""
        return self._web.url

    @property
    def nodes(self) -> list[Node]:
        """The nodes."""
        return self.cluster.nodes

    @property
    def comms(self) -> Comms:
        """The port for polling Tentacles of the first node."""
        return self.nodes[0].comms

    @property
    def comms_url(self) -> str:
        """The address of the first node that a polling Tentacle's trust entry names."""
        return self.nodes[0].comms_url

    @property
    def thumbprint(self) -> Thumbprint:
        """Thumbprint of the certificate that the first node serves and presents; while it is down, the database's."""
        return self.identity.thumbprint

    @property
    def identity(self) -> Identity:
        """The certificate that the first node serves and presents, with its key; while it is down, the database's."""
        return self.cluster.presented

    def start(self) -> None:
        """Start all nodes: they load the certificate, listen, answer, and pick up tasks."""
        if not self._closed:
            self.cluster.start()

    def stop(self) -> None:
        """Stop all nodes: connections are cut and refused, tasks that execute fail."""
        self.cluster.stop()

    def restart(self, seconds: float = 0) -> None:
        """Stop all nodes and start them again after so many seconds of real time, without waiting for that."""
        self.stop()
        if not seconds:
            self.start()
            return

        def come_back() -> None:
            if not self._stopping.wait(seconds):
                self.start()

        self._restarting = threading.Thread(target=come_back, name="octopus-restart", daemon=True)
        self._restarting.start()

    def close(self) -> None:
        """End everything."""
        self._stopping.set()
        if self._restarting is not None:
            self._restarting.join(_RESTART_SECONDS)
        self._closed = True
        self.stop()
        self._web.stop()
        self.checks.close()
        self._threads.shutdown()

    def import_certificate(self, identity: Identity) -> None:
        """Put another communications certificate into the database; it is in force after a restart."""
        self.cluster.adopt(identity)

    def _serve(self, serve: bool) -> None:
        if serve and not self._closed:
            self._web.start()
        elif not serve:
            self._web.stop()

    # ---- what is in it

    def add_space(self, name: str) -> str:
        """Add a space, or return the id of the one that has this name."""
        with self._store.lock:
            try:
                return self._store.find(self._store.spaces, name)
            except KeyError:
                return self._store.add_space(name)

    def space(self, name: str) -> str:
        """Return the id of a space given by id or name; KeyError if there is none."""
        return self._store.find(self._store.spaces, name)

    def add_environment(self, space: str, name: str) -> str:
        """Add an environment to a space, or return the id of the one that has this name."""
        return self._store.ensure(self._store.environments, self._store.add_environment, self.space(space), name)

    def add_pool(self, space: str, name: str) -> str:
        """Add a worker pool to a space, or return the id of the one that has this name."""
        return self._store.ensure(self._store.pools, self._store.add_pool, self.space(space), name)

    def add_tenant(self, space: str, name: str) -> str:
        """Add a tenant to a space, or return the id of the one that has this name."""
        return self._store.ensure(self._store.tenants, self._store.add_tenant, self.space(space), name)

    def add_policy(self, space: str, name: str, *, may_be_offline: bool) -> str:
        """Add a machine policy; with `may_be_offline` unavailable machines are skipped by health checks.

        The default policy of every space is such a one: there a Health task succeeds though machines are unavailable.
        """
        return self._store.add_policy(self.space(space), name, may_be_offline=may_be_offline)

    def add_api_key(
        self,
        user: str,
        permissions: Iterable[Grant | str] = ALL,
        *,
        spaces: Sequence[str] | None = None,
        environments: Sequence[str] = (),
    ) -> str:
        """Add a user with an API key and return the key.

        Permissions given by name hold in these spaces only (names or ids; None: all), those that Octopus can restrict
        in these environments only (names or ids in these spaces; none: all).
        """
        store = self._store
        within = None if spaces is None else [self.space(s) for s in spaces]
        limits = [store.find(store.environments, e, s) for e in environments for s in within or [self.space("Default")]]
        key = "API-" + secrets.token_hex(16).upper()
        with store.lock:
            grants = granted(permissions, within, limits)
            store.users.append(User(id=store.new_id("Users"), username=user, api_key=key, grants=grants))
        return key

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
        """Register a Tentacle as deployment target or worker and return the record's id.

        Environments and pools are ids or names; what does not exist is added. If the Tentacle does not trust this
        Server yet, it is made to, and its running process is replaced, so that it does. `overrides` are members of the
        document (`MachinePolicyId="…"`) or of its endpoint (`Thumbprint`, `Uri`, `ProxyId`).
        """
        return self._registrar.add_record(
            name, instance, kind=kind, space=space, environments=environments, roles=roles, pools=pools, **overrides
        )

    def add_poller(self, name: str, instance: TentacleInstance, *, space: str = "Default") -> str:
        """Register a Tentacle that listens a second time, as a deployment target that polls; return the record's id."""
        return self._registrar.add_poller(name, instance, space=space, kind=RecordKind.TARGET)

    def add_other(
        self, name: str, *, style: str = "Ssh", uri: str = "ssh://10.0.0.9:22/", space: str = "Default"
    ) -> str:
        """Add a deployment target that is no Tentacle and has no certificate. See also `others`."""
        return self.others.document(name, documents.other_endpoint(style, uri), space=space)

    # ---- the truth about records

    @property
    def records(self) -> tuple[str, ...]:
        """Ids of all records."""
        with self._store.lock:
            return tuple(self._store.records)

    def exists(self, record: str) -> bool:
        """Whether a record (still) exists."""
        with self._store.lock:
            return record in self._store.records

    def document(self, record: str) -> Document:
        """Return a copy of a record's document as it is now; KeyError if there is none."""
        with self._store.lock:
            return copy.deepcopy(self._store.records[record].document)

    def edit(self, record: str, **members: Any) -> None:
        """Change members of a record's document as somebody in the portal would; `Thumbprint` goes to its endpoint."""
        with self._store.lock:
            document = self._store.records[record].document
            if "Thumbprint" in members:
                document["Endpoint"]["Thumbprint"] = members["Thumbprint"]
            document |= members

    def corrupt_thumbprint(self, record: str) -> Thumbprint:
        """Give a record a thumbprint that no certificate has, and return it."""
        wrong = Thumbprint(secrets.token_hex(20))
        self.edit(record, Thumbprint=str(wrong))
        return wrong

    def delete_record(self, record: str) -> None:
        """Delete a record."""
        self._store.remove(record)

    def health(self, record: str) -> str:
        """Return a record's HealthStatus."""
        return str(self.document(record)["HealthStatus"])

    def last_checked(self, record: str) -> datetime | None:
        """Return when a record was checked last."""
        with self._store.lock:
            return self._store.records[record].last_checked

    def connection_log(self, record: str) -> list[LogLine]:
        """Return the connection log of a record."""
        with self._store.lock:
            return list(self._store.records[record].logs)

    @property
    def puts(self) -> list[Put]:
        """Every PUT of a machine that was carried out, in order."""
        with self._store.lock:
            return list(self._store.puts)

    # ---- tasks

    def check(self, *records: str) -> dict[str, str]:
        """Check the health of records (none named: of all) at once, without a task; return HealthStatus by id."""
        with self._store.lock:
            chosen = [self._store.records[r] for r in records or self._store.records]
        self.checks.check_now(chosen)
        return {r.id: r.health for r in chosen}

    def start_deployment(self, record: str, seconds: float, *, name: str = "Deploy", node: str = "") -> str:
        """Deploy to a record for so many seconds of the world's clock, and return the task's id.

        The task is queued like any other, and picked up by any node or by the one that is named. Meanwhile the Tentacle
        has a child process; when its process ends before the deployment does, the deployment fails.
        """
        return deploy(self._store, self.tasks, record, seconds=seconds, name=name, node=node).id

    def end_deployment(self, task: str) -> None:
        """Have a deployment succeed now."""
        self.tasks.finish(self.tasks.get(task), "Success")

    def schedule_deployment(self, record: str, at: datetime, seconds: float = 60) -> str:
        """Queue a deployment to a record for a later time, and return the task's id."""
        return deploy(self._store, self.tasks, record, seconds=seconds, at=at).id

    def stop_task_queue(self, space: str, *, stopped: bool = True) -> None:
        """Stop the task queue of a space, or let it go on: its tasks stay queued meanwhile."""
        id_ = self.space(space)
        with self._store.lock:
            self._store.spaces[id_]["TaskQueueStopped"] = stopped
        (self.tasks.stopped_spaces.add if stopped else self.tasks.stopped_spaces.discard)(id_)
        self.tasks.wake()

    def busy(self, record: str) -> list[Task]:
        """Return the tasks that execute on a record at this moment."""
        return self.tasks.busy(record)

    # ---- inside

    def _application(self) -> Any:
        machines = [
            Machines(
                kind=kind,
                store=self._store,
                faults=self.faults,
                clock=self.world.clock,
                prober=lambda: self.cluster.leader.prober,
                put=self._count,
            )
            for kind in RecordKind
        ]
        server = ServerResources(
            version=self.version,
            installation="5a1d0c7e-0000-4000-8000-0c70ce270001",
            store=self._store,
            cluster=self.cluster,
        )
        tasks = Tasks(store=self._store, queue=self.tasks)
        nodes = Nodes(cluster=self.cluster)
        bindings = [*server.bindings, *nodes.bindings, *tasks.bindings, *(b for m in machines for b in m.bindings)]
        gate = Gate(self._store, self.faults, self.rate, self.traffic, self._threads)
        return gate.application(bindings, portal(self._store, self.tasks))

    def _count(self, put: Put) -> None:
        with self._store.lock:
            self._store.puts.append(put)
        self.world.record("octopus", "put", f"{put.record} {put.old} -> {put.new}")
