"""Octopus's machine documents turned into records, with the names of what they only refer to by id."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bot.domain.facts import Health, OtherMachine, Record, RecordKind, Style
from bot.domain.thumbprint import Thumbprint

Document = dict[str, Any]

STYLES = {"TentaclePassive": Style.LISTENING, "TentacleActive": Style.POLLING}
"""Octopus's CommunicationStyle of machines whose certificate can be rotated. The others have none (SSH, Azure, cloud
regions), or are Kubernetes agents, which no WinRM reaches."""
_FOLDERS = {RecordKind.TARGET: "machines", RecordKind.WORKER: "workers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One space that the key may enter."""

    id: str
    name: str
    queue_stopped: bool = False
    """Whether an administrator stopped its task queue: no health check will run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names of one space's environments, worker pools and tenants by their ids."""

    environments: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)
    tenants: Mapping[str, str] = field(default_factory=dict)


def path_of(record: Record) -> str:
    """Return the API path of a record's document."""
    return f"/api/{record.space_id}/{_FOLDERS[record.kind]}/{record.id}"


def folder_of(space_id: str, kind: RecordKind) -> str:
    """Return the API path under which a space's documents of this kind stand."""
    return f"/api/{space_id}/{_FOLDERS[kind]}"


def has_certificate(document: Document) -> bool:
    """Return whether a machine is a Tentacle whose certificate can be rotated."""
    return endpoint_of(document).get("CommunicationStyle") in STYLES


def endpoint_of(document: Document) -> Document:
    """Return a machine's Endpoint, empty where there is none."""
    endpoint = document.get("Endpoint")
    return endpoint if isinstance(endpoint, dict) else {}


def stored_thumbprint(document: Document) -> str:
    """Return the thumbprint that counts, exactly as it is stored; the one at the top level is a relic of 3.4."""
    return _text(endpoint_of(document).get("Thumbprint"))


def to_record(document: Document, *, kind: RecordKind, space: Space, names: Names, url: str) -> Record:
    """Return the record of a Tentacle's document; KeyError if it is none."""
    endpoint = endpoint_of(document)
    style = STYLES[endpoint["CommunicationStyle"]]
    version = endpoint.get("TentacleVersionDetails")
    stored = stored_thumbprint(document)
    thumbprint = Thumbprint.maybe(stored)
    return Record(
        id=_text(document.get("Id")),
        name=_text(document.get("Name")),
        kind=kind,
        space_id=space.id,
        space=space.name,
        style=style,
        uri=_text(endpoint.get("Uri")) or _text(document.get("Uri")),
        thumbprint=thumbprint,
        stored=_odd(stored, style),
        health=to_health(document.get("HealthStatus")),
        status_summary=_text(document.get("StatusSummary")),
        is_disabled=document.get("IsDisabled") is True,
        environments=_named(document.get("EnvironmentIds"), names.environments),
        roles=_named(document.get("Roles"), {}),
        pools=_named(document.get("WorkerPoolIds"), names.pools),
        os=_system(document.get("OperatingSystem")),
        tenants=_named(document.get("TenantIds"), names.tenants),
        version=(_text(version.get("Version")) or None) if isinstance(version, dict) else None,
        signature_algorithm=_text(endpoint.get("CertificateSignatureAlgorithm")) or None,
        proxy_id=_text(endpoint.get("ProxyId")) or None,
        policy_id=_text(document.get("MachinePolicyId")) or None,
        url=portal_url(url, space.id, f"infrastructure/{_FOLDERS[kind]}/{_text(document.get('Id'))}/settings"),
    )


def _odd(stored: str, style: Style) -> str:
    """Return the text if it is no thumbprint to Octopus; where Octopus connects, other letters are others, too.

    Halibut: ClientCertificateValidator compares by ordinal, DefaultTrustProvider without regard to case.
    """
    exact = Thumbprint.exact(stored)
    is_sound = exact == stored if style is Style.LISTENING else exact is not None
    return "" if is_sound or not stored else stored


def to_other(document: Document, *, kind: RecordKind, space: Space, url: str) -> OtherMachine:
    """Return a machine that has no certificate of ours: what it is, as far as its document tells."""
    endpoint = endpoint_of(document)
    agent = endpoint.get("TentacleEndpointConfiguration")
    inner = agent if isinstance(agent, dict) else {}
    return OtherMachine(
        name=_text(document.get("Name")),
        kind=kind,
        space=space.name,
        style=_text(endpoint.get("CommunicationStyle")) or "None",
        uri=_text(inner.get("Uri")) or _text(endpoint.get("Uri")) or _text(document.get("Uri")),
        thumbprint=Thumbprint.maybe(_text(inner.get("Thumbprint"))),
        url=portal_url(url, space.id, f"infrastructure/{_FOLDERS[kind]}/{_text(document.get('Id'))}/settings"),
    )


def to_health(text: Any) -> Health:
    """Return Octopus's HealthStatus; Unknown for words that this version does not know."""
    try:
        return Health(text)
    except ValueError:
        return Health.UNKNOWN


def to_time(text: Any) -> datetime | None:
    """Return a timestamp of the API, aware, in UTC; None where there is none."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment and (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def portal_url(url: str, space_id: str, page: str) -> str:
    """Return where a person sees something in Octopus's portal."""
    return f"{url}/app#/{space_id}/{page}"


def _named(ids: Any, names: Mapping[str, str]) -> tuple[str, ...]:
    given: Iterable[Any] = ids if isinstance(ids, list) else ()
    return tuple(names.get(i, i) for i in given if isinstance(i, str))


def _system(value: Any) -> str | None:
    """Return an operating system; None as long as no health check has told Octopus, which calls it Unknown."""
    return None if _text(value).casefold() in {"", "unknown"} else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
