"""The Server itself in the REST API: root, spaces, users, lookups, certificate, nodes, status."""

from dataclasses import dataclass

from bot.sandbox.octopus import documents
from bot.sandbox.octopus.cluster import Cluster
from bot.sandbox.octopus.documents import Document, signature_algorithm
from bot.sandbox.octopus.errors import missing
from bot.sandbox.octopus.permissions import User
from bot.sandbox.octopus.rest import Binding, Body, Call
from bot.sandbox.octopus.store import Store

_LOOKUPS = {
    "environments": "EnvironmentView",
    "workerpools": "WorkerView",
    "machinepolicies": "MachinePolicyView",
    "tenants": "TenantView",
}


@dataclass(frozen=True, kw_only=True)
class ServerResources:
    """Everything that is neither a machine nor a task."""

    version: str
    installation: str
    store: Store
    cluster: Cluster

    @property
    def bindings(self) -> list[Binding]:
        """Where the resources stand."""
        root = [
            Binding(method="GET", path="", resource=self.root, in_space=False, is_public=True),
            Binding(method="GET", path="/", resource=self.root, in_space=False, is_public=True),
            Binding(method="GET", path="/spaces", resource=self.spaces_paged, in_space=False),
            Binding(method="GET", path="/spaces/all", resource=self.spaces, in_space=False),
            Binding(method="GET", path="/spaces/{id}", resource=self.one_space, in_space=False),
            Binding(method="GET", path="/users/me", resource=self.me, in_space=False),
            Binding(method="GET", path="/users/{id}/permissions", resource=self.permissions, in_space=False),
            Binding(
                method="GET",
                path="/configuration/certificates/certificate-global",
                resource=self.global_certificate,
                in_space=False,
            ),
            Binding(
                method="GET", path="/certificates/certificate-global", resource=self.global_certificate, in_space=False
            ),
            Binding(method="GET", path="/serverstatus/health", resource=self.health, in_space=False, is_public=True),
            Binding(method="GET", path="/maintenanceconfiguration", resource=self.maintenance, in_space=False),
        ]
        for name in _LOOKUPS:
            root.append(Binding(method="GET", path=f"/{name}", resource=self.lookup_paged))
            root.append(Binding(method="GET", path=f"/{name}/all", resource=self.lookup))
            root.append(Binding(method="GET", path=f"/{name}/{{id}}", resource=self.lookup_one))
        return root

    def root(self, call: Call) -> Body:
        """Return what `/api` says to anybody."""
        return {
            "Application": "Octopus Deploy",
            "Version": self.version,
            "ApiVersion": "3.0.0",
            "InstallationId": self.installation,
            "Links": {
                "Self": "/api",
                "CurrentUser": "/api/users/me",
                "Spaces": "/api/spaces{/id}{?skip,ids,take,partialName}",
                "SpaceHome": "/api/{spaceId}",
                "Tasks": "/api/tasks{/id}{?skip,active,environment,tenant,project,name,node,running,states,take,ids}",
                "CertificateConfiguration": "/api/configuration/certificates{/id}{?skip,take,ids,partialName}",
                "OctopusServerClusterSummary": "/api/octopusservernodes/summary",
                "ServerHealthStatus": "/api/serverstatus/health",
                "MaintenanceConfiguration": "/api/maintenanceconfiguration",
                "Web": "/app",
            },
        }

    def spaces(self, call: Call) -> Body:
        """List the spaces that the key can enter: silently fewer than there are."""
        return [s for s in self.store.copies(self.store.spaces) if call.user.enters(s["Id"])]

    def spaces_paged(self, call: Call) -> Body:
        """List the same, a page at a time."""
        found = [s for s in self.store.copies(self.store.spaces) if call.user.enters(s["Id"])]
        return documents.collection("Space", found, call.path, call.query)

    def one_space(self, call: Call) -> Body:
        """Return one space."""
        for space in self.store.copies(self.store.spaces):
            if space["Id"] == call.parts["id"] and call.user.enters(space["Id"]):
                return space
        raise missing(call.parts["id"])

    def me(self, call: Call) -> Body:
        """Return the user of the key."""
        return call.user.to_document()

    def permissions(self, call: Call) -> Body:
        """Return what a user may do: one's own, or with UserView anybody's.

        Limited by `spaces` (`all` or ids) and `includeSystem`; without them everything. That default is UNVERIFIED.
        """
        user = self._user(call)
        asked = call.listed("spaces")
        with self.store.lock:
            spaces = [s for s in self.store.spaces if asked in (None, ["all"]) or s in asked]
        return user.to_permission_set(spaces, system=call.flag("includeSystem") is not False)

    def lookup(self, call: Call) -> Body:
        """List environments, worker pools, machine policies or tenants of a space."""
        name = next(n for n in _LOOKUPS if f"/{n}" in call.path)
        call.user.demand(_LOOKUPS[name], call.space)
        table = {
            "environments": self.store.environments,
            "workerpools": self.store.pools,
            "machinepolicies": self.store.policies,
            "tenants": self.store.tenants,
        }[name]
        ids = call.listed("ids")
        found: list[Document] = []
        for document in self.store.copies(table, call.space):
            scope = [document["Id"]] if name == "environments" else None
            if call.user.may(_LOOKUPS[name], call.space, scope) and (ids is None or document["Id"] in ids):
                found.append(document)
        return found

    def lookup_paged(self, call: Call) -> Body:
        """List the same, a page at a time."""
        found = self.lookup(call)
        assert isinstance(found, list)
        kinds = {
            "environments": "Environment",
            "workerpools": "WorkerPool",
            "machinepolicies": "MachinePolicy",
            "tenants": "Tenant",
        }
        return documents.collection(kinds[call.path.rpartition("/")[2]], found, call.path, call.query)

    def lookup_one(self, call: Call) -> Body:
        """Return one of them."""
        found = self.lookup(call)
        assert isinstance(found, list)
        for document in found:
            if document["Id"] == call.parts["id"]:
                return document
        raise missing(call.parts["id"])

    def global_certificate(self, call: Call) -> Body:
        """Return the Server's communications certificate as the database holds it.

        Whether the real one shows it before the node's restart is UNVERIFIED; here it does.
        """
        identity = self.cluster.certificate
        return {
            "Id": "certificate-global",
            "Name": "Octopus Server",
            "Thumbprint": identity.thumbprint,
            "SignatureAlgorithm": signature_algorithm(identity.certificate),
            "Links": {
                "Self": "/api/configuration/certificates/certificate-global",
                "PublicCer": "/api/configuration/certificates/certificate-global/public-cer",
            },
        }

    def health(self, call: Call) -> Body:
        """Return whether the cluster works."""
        faults = self.cluster.faults
        drained = faults.drained or all(n.is_drained for n in self.cluster.running)
        return {
            "IsOperatingNormally": not drained and not faults.maintenance,
            "IsEntireClusterReadOnly": False,
            "IsEntireClusterDrainingTasks": drained,
            "Description": "",
            "Id": None,
            "Links": {},
        }

    def maintenance(self, call: Call) -> Body:
        """Return whether maintenance mode is on."""
        return {"Id": "maintenance", "IsInMaintenanceMode": self.cluster.faults.maintenance, "Links": {}}

    def _user(self, call: Call) -> User:
        id_ = call.parts["id"]
        if id_ in {call.user.id, "me"}:
            return call.user
        call.user.demand("UserView")
        with self.store.lock:
            for user in self.store.users:
                if user.id == id_:
                    return user
        raise missing(id_)
