"""The JSON documents of Octopus's REST API: machines, workers, tasks and what they refer to.

Fields, links and texts are those of documents that public clients and blogs show (OctopusClients' resources and canned
responses, go-octopusdeploy's tests, answers of a 2024.3 Server).
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from cryptography import x509

Document = dict[str, Any]
NEW_MACHINE = "This machine was recently added. Please perform a health check."
PAGE = 30
"""Items of a page when the caller names no number."""


def stamp(moment: datetime | None) -> str | None:
    """Return a moment as Octopus writes it: `2017-03-20T21:00:17.205+00:00`."""
    return moment.isoformat(timespec="milliseconds") if moment else None


def spoken(moment: datetime) -> str:
    """Return a moment as it stands in summaries: `Tuesday, 27 August 2024 5:39:57 PM +00:00`."""
    hour = moment.hour % 12 or 12
    return f"{moment:%A}, {moment:%d %B %Y} {hour}:{moment:%M:%S %p} +00:00"


def slug(name: str) -> str:
    """Return a name as Octopus makes slugs of it: `ECS Instance Dev` → `ecs-instance-dev`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def signature_algorithm(certificate: x509.Certificate | None) -> str | None:
    """Return `sha256RSA` or `sha1RSA`, as .NET's FriendlyName of the signature algorithm; None where unknown."""
    if certificate is None:
        return None
    hash_ = certificate.signature_hash_algorithm
    return f"{hash_.name}RSA" if hash_ else None


def space(id_: str, name: str, *, default: bool) -> Document:
    """Return a space."""
    return {
        "Id": id_,
        "Name": name,
        "Slug": slug(name),
        "Description": None,
        "IsDefault": default,
        "IsPrivate": False,
        "TaskQueueStopped": False,
        "SpaceManagersTeams": [f"teams-spacemanagers-{id_}"],
        "SpaceManagersTeamMembers": [],
        "Links": {"Self": f"/api/spaces/{id_}", "SpaceHome": f"/api/{id_}", "Web": f"/app#/spaces/{id_}"},
    }


def environment(id_: str, name: str, space_id: str, order: int) -> Document:
    """Return an environment."""
    return {
        "Id": id_,
        "Name": name,
        "Description": "",
        "SortOrder": order,
        "UseGuidedFailure": False,
        "AllowDynamicInfrastructure": False,
        "SpaceId": space_id,
        "Slug": slug(name),
        "EnvironmentTags": [],
        "ExtensionSettings": [],
        "Links": {
            "Self": f"/api/{space_id}/environments/{id_}",
            "Machines": f"/api/{space_id}/environments/{id_}/machines{{?skip,take}}",
        },
    }


def pool(id_: str, name: str, space_id: str, order: int, *, default: bool) -> Document:
    """Return a static worker pool."""
    return {
        "Id": id_,
        "Name": name,
        "Description": "",
        "IsDefault": default,
        "CanAddWorkers": True,
        "SortOrder": order,
        "SpaceId": space_id,
        "Slug": slug(name),
        "WorkerPoolType": "StaticWorkerPool",
        "Links": {
            "Self": f"/api/{space_id}/workerpools/{id_}",
            "Workers": f"/api/{space_id}/workerpools/{id_}/workers{{?skip,take}}",
        },
    }


def tenant(id_: str, name: str, space_id: str) -> Document:
    """Return a tenant without projects."""
    return {
        "Id": id_,
        "Name": name,
        "Description": None,
        "TenantTags": [],
        "ProjectEnvironments": {},
        "ClonedFromTenantId": None,
        "IsDisabled": False,
        "SpaceId": space_id,
        "Slug": slug(name),
        "Links": {"Self": f"/api/{space_id}/tenants/{id_}"},
    }


def policy(id_: str, name: str, space_id: str, *, default: bool, may_be_offline: bool) -> Document:
    """Return a machine policy; one with `may_be_offline` skips unavailable machines in health checks."""
    behavior = "MayBeOfflineAndCanBeSkipped" if may_be_offline else "ExpectedToBeOnline"
    script = {"RunType": "InheritFromDefault", "ScriptBody": None}
    return {
        "Id": id_,
        "Name": name,
        "Description": "",
        "IsDefault": default,
        "MachineHealthCheckPolicy": {
            "PowerShellHealthCheckPolicy": script,
            "BashHealthCheckPolicy": dict(script),
            "HealthCheckInterval": "01:00:00",
            "HealthCheckCron": None,
            "HealthCheckCronTimezone": "UTC",
            "HealthCheckType": "RunScript",
        },
        "MachineConnectivityPolicy": {"MachineConnectivityBehavior": behavior},
        "MachineCleanupPolicy": {
            "DeleteMachinesBehavior": "DoNotDelete",
            "DeleteMachinesElapsedTimeSpan": "00:00:00",
        },
        "MachineUpdatePolicy": {
            "CalamariUpdateBehavior": "UpdateOnDeployment",
            "TentacleUpdateBehavior": "NeverUpdate",
        },
        "PollingRequestQueueTimeout": "00:02:00",
        "PollingRequestMaximumMessageProcessingTimeout": "00:10:00",
        "ConnectionRetrySleepInterval": "00:00:01",
        "ConnectionRetryCountLimit": 5,
        "ConnectionRetryTimeLimit": "00:05:00",
        "ConnectionConnectTimeout": "00:01:00",
        "SpaceId": space_id,
        "Links": {"Self": f"/api/{space_id}/machinepolicies/{id_}"},
    }


def machine(
    id_: str,
    name: str,
    space_id: str,
    *,
    worker: bool,
    endpoint: Document,
    policy_id: str,
    environments: Sequence[str] = (),
    roles: Sequence[str] = (),
    pools: Sequence[str] = (),
) -> Document:
    """Return a deployment target, or a worker, that was just added. Which members a worker has: `WorkerResource`."""
    kind = "workers" if worker else "machines"
    placed: Document = {"WorkerPoolIds": list(pools)}
    links = {"Self": f"/api/{space_id}/{kind}/{id_}", "Connection": f"/api/{space_id}/{kind}/{id_}/connection"}
    if not worker:
        placed = {
            "EnvironmentIds": list(environments),
            "Roles": list(roles),
            "TenantedDeploymentParticipation": "Untenanted",
            "TenantIds": [],
            "TenantTags": [],
        }
        links |= {
            "TasksTemplate": f"/api/{space_id}/machines/{id_}/tasks{{?skip,take,type}}",
            "SinglyScopedVariableDetails": f"/api/{space_id}/machines/{id_}/singlyScopedVariableDetails",
        }
    return {
        "Id": id_,
        **placed,
        "SpaceId": space_id,
        "Name": name,
        "Thumbprint": endpoint.get("Thumbprint"),
        "Uri": legacy_uri(endpoint),
        "IsDisabled": False,
        "MachinePolicyId": policy_id,
        "HealthStatus": "Unknown",
        "HasLatestCalamari": False,
        "StatusSummary": NEW_MACHINE,
        "IsInProcess": False,
        "Endpoint": endpoint,
        "OperatingSystem": "Unknown",
        "OperatingSystemVersion": "Unknown",
        "ShellName": "Unknown",
        "ShellVersion": "Unknown",
        "Architecture": "Unknown",
        "Slug": slug(name),
        "SkipInitialHealthCheck": False,
        "Links": links,
    }


def legacy_uri(endpoint: Document) -> str | None:
    """Return the top-level Uri of a machine: that of a listening Tentacle's endpoint, nothing for the others."""
    uri = endpoint.get("Uri")
    return uri if endpoint["CommunicationStyle"] == "TentaclePassive" else None


def tentacle_endpoint(style: str, uri: str, thumbprint: str, *, proxy_id: str | None = None) -> Document:
    """Return the Endpoint of a Tentacle of style `TentaclePassive` (listening) or `TentacleActive` (polling)."""
    document: Document = {
        "CommunicationStyle": style,
        "Uri": uri,
        "Thumbprint": thumbprint,
        "TentacleVersionDetails": {
            "UpgradeLocked": False,
            "Version": None,
            "UpgradeSuggested": False,
            "UpgradeRequired": False,
        },
        "CertificateSignatureAlgorithm": None,
        "Id": None,
        "LastModifiedOn": None,
        "LastModifiedBy": None,
        "Links": {},
    }
    if style == "TentaclePassive":
        document["ProxyId"] = proxy_id
    return document


def agent_endpoint(name: str, uri: str, thumbprint: str) -> Document:
    """Return the Endpoint of a Kubernetes agent that polls: subscription and thumbprint stand one level deeper.

    Members: OctopusClients' KubernetesTentacleEndpointResource and its TentacleEndpointConfigurationResource.
    """
    return {
        "CommunicationStyle": "KubernetesTentacle",
        "TentacleEndpointConfiguration": {
            "CommunicationMode": "Polling",
            "Thumbprint": thumbprint,
            "Uri": uri,
            "CertificateSignatureAlgorithm": None,
        },
        "KubernetesAgentDetails": {"HelmReleaseName": name, "KubernetesNamespace": f"octopus-agent-{name}"},
        "DefaultNamespace": "default",
        "UpgradeLocked": False,
        "Id": None,
        "LastModifiedOn": None,
        "LastModifiedBy": None,
        "Links": {},
    }


def certified(endpoint: Document) -> Document:
    """Return the part of an Endpoint in which thumbprint and Uri stand: of an agent's the inner one, else itself."""
    inner = endpoint.get("TentacleEndpointConfiguration")
    return inner if isinstance(inner, dict) else endpoint


def ssh_endpoint(host: str, port: int = 22) -> Document:
    """Return the Endpoint of an SSH target: it goes by the fingerprint of a host key and an account, by no certificate.

    Members: OctopusClients' SshEndpointResource.
    """
    return other_endpoint("Ssh", f"ssh://{host}:{port}/") | {
        "AccountId": "Accounts-1",
        "Host": host,
        "Port": port,
        "Fingerprint": "a2:7c:1d:9e:40:5b:33:08:f6:c1:6a:92:0e:d4:77:15",
        "DotNetCorePlatform": "linux-x64",
    }


def other_endpoint(style: str, uri: str | None) -> Document:
    """Return an Endpoint without a Tentacle certificate: `Ssh`, `AzureWebApp`, `None` and others."""
    return {
        "CommunicationStyle": style,
        "Uri": uri,
        "ProxyId": None,
        "DefaultWorkerPoolId": "",
        "Id": None,
        "LastModifiedOn": None,
        "LastModifiedBy": None,
        "Links": {},
    }


def collection(item_type: str, items: Sequence[Document], path: str, query: Sequence[tuple[str, str]]) -> Document:
    """Return one page of a list: `skip` and `take` (default 30) from the query, with Octopus's paging links."""
    asked = dict(query)
    skip, take = _number(asked.get("skip"), 0), _number(asked.get("take"), PAGE)
    kept = [(k, v) for k, v in query if k not in {"skip", "take"}]
    size = max(take, 1)
    pages = max(1, -(-len(items) // size))

    def page(number: int) -> str:
        return f"{path}?{urlencode([*kept, ('skip', number * size), ('take', take)])}"

    links = {"Self": f"{path}?{urlencode(query)}" if query else path, "Page.All": f"{path}?skip=0&take=2147483647"}
    links |= {"Page.Current": page(skip // size), "Page.Last": page(pages - 1)}
    if skip + take < len(items):
        links["Page.Next"] = f"{path}?{urlencode([*kept, ('skip', skip + take), ('take', take)])}"
    return {
        "ItemType": item_type,
        "TotalResults": len(items),
        "ItemsPerPage": take,
        "NumberOfPages": pages,
        "LastPageNumber": pages - 1,
        "Items": list(items[skip : skip + take]),
        "Links": links,
    }


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdigit() else default
