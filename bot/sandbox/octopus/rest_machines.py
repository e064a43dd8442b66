"""Deployment targets and workers in the REST API, with the traps of their PUT."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bot.clock import Clock
from bot.domain.facts import RecordKind
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.errors import ApiError, invalid, missing
from bot.sandbox.octopus.faults import OctopusFaults
from bot.sandbox.octopus.health import Prober
from bot.sandbox.octopus.permissions import forbidden
from bot.sandbox.octopus.rest import Answer, Binding, Body, Call
from bot.sandbox.octopus.store import Put, Record, Store

_WRITABLE = {
    RecordKind.TARGET: ("EnvironmentIds", "Roles", "TenantIds", "TenantTags"),
    RecordKind.WORKER: ("WorkerPoolIds",),
}
"""Lists of a document that a PUT replaces; one that is left out is emptied."""
_REQUIRED = {
    RecordKind.TARGET: ("Name", "SpaceId", "EnvironmentIds", "Roles", "Endpoint"),
    RecordKind.WORKER: ("Name", "SpaceId", "IsDisabled", "WorkerPoolIds", "Endpoint"),
}
_FOLDER = {RecordKind.TARGET: "machines", RecordKind.WORKER: "workers"}
_VIEW = {RecordKind.TARGET: "MachineView", RecordKind.WORKER: "WorkerView"}
_EDIT = {RecordKind.TARGET: "MachineEdit", RecordKind.WORKER: "WorkerEdit"}
DISCOVER = {RecordKind.TARGET: ("MachineCreate", "MachineEdit"), RecordKind.WORKER: ("WorkerEdit",)}
"""Any of these lets a user discover. Which the real Server asks for is UNVERIFIED."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The resources of deployment targets, or of workers."""

    kind: RecordKind
    store: Store
    faults: OctopusFaults
    clock: Clock
    prober: Callable[[], Prober | None]
    put: Callable[[Put], None]
    """Told of every PUT that was carried out."""

    @property
    def bindings(self) -> list[Binding]:
        """Where the resources stand."""
        base = f"/{_FOLDER[self.kind]}"
        return [
            Binding(method="GET", path=base, resource=self.paged),
            Binding(method="GET", path=f"{base}/all", resource=self.all),
            Binding(method="GET", path=f"{base}/discover", resource=self.discover, is_slow=True),
            Binding(method="GET", path=f"{base}/{{id}}", resource=self.one),
            Binding(method="PUT", path=f"{base}/{{id}}", resource=self.replace),
            Binding(method="DELETE", path=f"{base}/{{id}}", resource=self.delete),
            Binding(method="GET", path=f"{base}/{{id}}/connection", resource=self.connection),
        ]

    def paged(self, call: Call) -> Body:
        """List a page, filtered; the `thumbprint` filter does nothing here (documented for `/all` only)."""
        found = [d for d in self._visible(call) if _matches(d, call)]
        return documents.collection(self._item_type, found, call.path, call.query)

    def all(self, call: Call) -> Body:
        """List everything as a bare array; filters `ids`, `name`, `partialName` and `thumbprint`."""
        found = [d for d in self._visible(call) if _matches(d, call, names_only=True)]
        wanted = call.asked("thumbprint")
        if wanted is None:
            return found
        # whether the real filter looks into a Kubernetes agent's inner configuration is UNVERIFIED
        return [d for d in found if str(documents.certified(d["Endpoint"]).get("Thumbprint")).upper() == wanted.upper()]

    def one(self, call: Call) -> Body:
        """Return one document."""
        return self.store.snapshot([self._record(call)])[0]

    def connection(self, call: Call) -> Body:
        """Return what the last health check left: OctopusClients' MachineConnectionStatus."""
        record = self._record(call)
        with self.store.lock:
            return {
                "MachineId": record.id,
                "Status": _status(record),
                "CurrentTentacleVersion": (record.document["Endpoint"].get("TentacleVersionDetails") or {}).get(
                    "Version"
                ),
                "LastChecked": documents.stamp(record.last_checked),
                "Logs": [line.to_document() for line in record.logs],
                "Id": None,
                "Links": {},
            }

    def delete(self, call: Call) -> Body | Answer:
        """Delete a record; a task does it in the real Server, which is answered."""
        record = self._record(call)
        permission = "MachineDelete" if self.kind is RecordKind.TARGET else "WorkerEdit"
        call.user.demand(permission, record.space, record.environments or None)
        self.store.remove(record.id)
        return {"Id": record.id, "Name": "Delete", "State": "Success", "Links": {}}

    def discover(self, call: Call) -> Body:
        """Return a machine as the Server sees it over the network: a handshake, no trust needed."""
        if not any(call.user.may(p, call.space) for p in DISCOVER[self.kind]):
            raise forbidden(DISCOVER[self.kind][0])
        host, port, style = call.asked("host"), call.asked("port") or "10933", call.asked("type") or "TentaclePassive"
        if not host or not port.isdigit() or style != "TentaclePassive":
            raise invalid("Please provide the host and port of a listening Tentacle.")
        prober = self.prober()
        if prober is None:
            raise ApiError(503, "The Octopus Server is shutting down.")
        try:
            sight = prober.look(host, int(port))
        except OSError as error:
            raise ApiError(
                400, f"Octopus was unable to connect to the machine at https://{host}:{port}/. {error}"
            ) from None
        endpoint = documents.tentacle_endpoint("TentaclePassive", f"https://{host}:{port}/", sight.thumbprint)
        endpoint["CertificateSignatureAlgorithm"] = sight.algorithm
        return documents.machine(
            "",
            host,
            call.space,
            worker=self.kind is RecordKind.WORKER,
            endpoint=endpoint,
            policy_id=self.store.default_policy(call.space),
        ) | {"Id": None, "Links": {}}

    def replace(self, call: Call) -> Body:
        """Replace the whole document: what is left out is lost, and nothing tells of a change in between."""
        id_ = call.parts["id"]
        if id_ in self.faults.vanishing:
            self.store.remove(id_)
        record = self._record(call)
        if not record.is_visible(call.user, "Edit"):
            raise forbidden(_EDIT[self.kind])
        if self.faults.out_of_date > 0:
            self.faults.out_of_date -= 1
            raise ApiError(
                400,
                f"Modification failed for '{record.name}' document '{record.id}' because submitted data was out of "
                "date. Refresh and try again.",
            )
        with self.store.lock:
            changed = self._replaced(record, call.body)
            if self.faults.lost_puts > 0:
                self.faults.lost_puts -= 1
                return changed
            former, record.document = record.document, changed
            old, new = str(documents.certified(former["Endpoint"]).get("Thumbprint")), record.thumbprint
            if self.faults.cache_seconds and old != new:
                record.before = (old, self.clock.monotonic() + self.faults.cache_seconds)
            put = Put(
                at=self.clock.now(),
                user=call.user.username,
                record=record.id,
                name=record.name,
                old=old,
                new=new,
                changed=tuple(_differences(former, changed)),
            )
            answer = copy.deepcopy(record.document)
        self.put(put)
        return answer

    @property
    def _item_type(self) -> str:
        return "DeploymentTarget" if self.kind is RecordKind.TARGET else "Worker"

    def _visible(self, call: Call) -> list[Document]:
        call.user.demand(_VIEW[self.kind], call.space)
        return self.store.snapshot(self.store.visible(self.kind, call.space, call.user))

    def _record(self, call: Call) -> Record:
        """Return the record of the path; 403 without the view permission, 404 when it is not in this space."""
        call.user.demand(_VIEW[self.kind], call.space)
        record = self.store.record(call.parts["id"], call.user, kind=self.kind)
        if record.space != call.space:
            raise missing(record.id)
        return record

    def _replaced(self, record: Record, body: Any) -> Document:
        """Return the document that a PUT makes; 400 when the body is not valid."""
        if not isinstance(body, dict):
            raise invalid("The request body is empty.")
        lacking = [k for k in _REQUIRED[self.kind] if body.get(k) is None]
        if lacking:
            raise invalid(*(f"The field {k} is required." for k in lacking))
        if body["SpaceId"] != record.space:
            raise invalid("The SpaceId of a resource cannot be changed.")
        if body.get("Id") not in {None, record.id}:
            raise invalid("The id in the request does not match the id in the address.")
        self._check_references(record, body)
        document = copy.deepcopy(record.document)
        document |= {k: list(body.get(k) or ()) for k in _WRITABLE[self.kind]}
        document |= {
            "Name": body["Name"],
            "IsDisabled": bool(body.get("IsDisabled", False)),
            "MachinePolicyId": body.get("MachinePolicyId") or self.store.default_policy(record.space),
            "Endpoint": _endpoint(document["Endpoint"], body["Endpoint"]),
        }
        if self.kind is RecordKind.TARGET:
            document["TenantedDeploymentParticipation"] = body.get("TenantedDeploymentParticipation") or "Untenanted"
        document["Thumbprint"] = document["Endpoint"].get("Thumbprint")
        document["Uri"] = documents.legacy_uri(document["Endpoint"])
        return document

    def _check_references(self, record: Record, body: Document) -> None:
        tables = {"EnvironmentIds": self.store.environments, "WorkerPoolIds": self.store.pools}
        for key, table in tables.items():
            wrong = [i for i in body.get(key) or () if table.get(i, {}).get("SpaceId") != record.space]
            if wrong:
                raise invalid(f"The following {key} could not be found: {', '.join(wrong)}")
        policy = body.get("MachinePolicyId")
        if policy and policy not in self.store.policies:
            raise invalid(f"The machine policy {policy} could not be found.")
        others = (r for r in self.store.records.values() if r.kind is record.kind and r.space == record.space)
        if any(r.name.lower() == str(body["Name"]).lower() and r is not record for r in others):
            raise invalid(f"The name {body['Name']} is already in use. Please choose another name.")


def _endpoint(former: Document, given: Document) -> Document:
    """Return the endpoint that a PUT makes. The thumbprint is stored as it was sent: case is UNVERIFIED."""
    inner = former.get("TentacleEndpointConfiguration")
    if inner is not None:
        sent = given.get("TentacleEndpointConfiguration") or {}
        if not sent.get("Thumbprint"):
            raise invalid("Please provide a thumbprint for this machine.")
        changed = {**inner, "Thumbprint": sent["Thumbprint"], "Uri": sent.get("Uri")}
        return {**former, "TentacleEndpointConfiguration": changed}
    if "Thumbprint" not in former:
        return {**former, "Uri": given.get("Uri")}
    if not given.get("Thumbprint"):
        raise invalid("Please provide a thumbprint for this machine.")
    if not given.get("Uri") or given.get("CommunicationStyle") != former["CommunicationStyle"]:
        raise invalid("Please provide a valid endpoint for this machine.")
    endpoint = {**former, "Thumbprint": given["Thumbprint"], "Uri": given["Uri"]}
    if "ProxyId" in former:
        endpoint["ProxyId"] = given.get("ProxyId")
    locked = (given.get("TentacleVersionDetails") or {}).get("UpgradeLocked", False)
    endpoint["TentacleVersionDetails"] = {**former["TentacleVersionDetails"], "UpgradeLocked": bool(locked)}
    return endpoint


def _status(record: Record) -> str:
    """Return the Status of a connection, of the legacy values."""
    if record.document["IsDisabled"]:
        return "Disabled"
    return {"Unknown": "Unknown", "Unavailable": "Offline"}.get(record.health, "Online")


def _differences(former: Document, changed: Document) -> Iterable[str]:
    for key in changed:
        if key == "Endpoint":
            yield from (f"Endpoint.{k}" for k, v in changed[key].items() if former[key].get(k) != v)
        elif former.get(key) != changed[key]:
            yield key


def _matches(document: Document, call: Call, *, names_only: bool = False) -> bool:
    """Tell whether a document passes the filters of a query."""
    name, partial, ids = call.asked("name"), call.asked("partialName"), call.listed("ids")
    if name and document["Name"].lower() != name.lower():
        return False
    if partial and partial.lower() not in document["Name"].lower():
        return False
    if ids is not None and document["Id"] not in ids:
        return False
    if names_only:
        return True
    disabled = call.flag("isDisabled")
    if disabled is not None and document["IsDisabled"] is not disabled:
        return False
    one_of = {
        "healthStatuses": [document["HealthStatus"]],
        "commStyles": [document["Endpoint"]["CommunicationStyle"]],
        "environmentIds": document.get("EnvironmentIds", ()),
        "roles": document.get("Roles", ()),
        "targetTags": document.get("Roles", ()),
        "tenantIds": document.get("TenantIds", ()),
        "tenantTags": document.get("TenantTags", ()),
        "workerPoolIds": document.get("WorkerPoolIds", ()),
        "shellNames": [document["ShellName"]],
        "operatingSystemNames": [document["OperatingSystem"]],
    }
    for key, values in one_of.items():
        wanted = call.listed(key)
        if wanted is not None and not set(wanted) & set(values):
            return False
    return True
