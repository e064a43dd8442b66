"""Facts and plans for tests, plain unless said otherwise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bot.domain.certificate import CertificateDetails
from bot.domain.facts import (
    EstateIndex,
    Health,
    HostFacts,
    Instance,
    Record,
    RecordKind,
    ServiceState,
    Sighting,
    Style,
    TargetFacts,
    Trust,
)
from bot.domain.plan import Plan, Request, Source
from bot.domain.planner import make_plan
from bot.domain.thumbprint import Thumbprint

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SERVER = Thumbprint("5E" * 20)
NEW_CERTIFICATE = Source(text="new-certificate")


def thumbprint(seed: int) -> Thumbprint:
    """Return a thumbprint that is another for each number."""
    return Thumbprint(f"{seed:040X}")


def certificate(seed: int = 7, **changes: Any) -> CertificateDetails:
    """Return a sound certificate's details."""
    plain = CertificateDetails(
        thumbprint=thumbprint(seed),
        subject="CN=web-01",
        issuer="CN=Example CA",
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=365),
        key_algorithm="RSA",
        key_bits=2048,
        signature_hash="sha256",
    )
    return replace(plain, **changes)


def pfx_source(seed: int = 7, **changes: Any) -> Source:
    """Return a PFX as source."""
    return Source(text="pfx:web", certificate=certificate(seed, **changes))


def record(name: str = "web-01", seed: int = 1, **changes: Any) -> Record:
    """Return a healthy listening deployment target's record."""
    plain = Record(
        id=f"Machines-{name}",
        name=name,
        kind=RecordKind.TARGET,
        space_id="Spaces-1",
        space="Default",
        style=Style.LISTENING,
        uri=f"https://{name}.example:10933/",
        thumbprint=thumbprint(seed),
        health=Health.HEALTHY,
        environments=("Production",),
        roles=("web",),
    )
    return replace(plain, **changes)


def instance(seed: int = 1, **changes: Any) -> Instance:
    """Return a running listening instance that trusts our Server."""
    plain = Instance(
        name="Tentacle",
        config="C:\\Octopus\\Tentacle.config",
        service="OctopusDeploy Tentacle",
        style=Style.LISTENING,
        configured=thumbprint(seed),
        trusted=(Trust(text=SERVER, style=Style.LISTENING),),
        state=ServiceState.RUNNING,
        process=4711,
        process_started=NOW - timedelta(days=9),
        served=Sighting(place="host", address="127.0.0.1:10933", thumbprint=thumbprint(seed)),
    )
    return replace(plain, **changes)


def host(*instances: Instance, **changes: Any) -> HostFacts:
    """Return a host on which our account may do what it must."""
    plain = HostFacts(
        address="web-01.example",
        computer="WEB-01",
        os="Microsoft Windows Server 2019 Standard",
        powershell="5.1",
        language_mode="FullLanguage",
        elevated=True,
        clock_skew_seconds=0.0,
        exe="C:\\Program Files\\Octopus Deploy\\Tentacle\\Tentacle.exe",
        tentacle_version="9.1.3756",
        watchdog=False,
        instances=instances,
        at=NOW,
    )
    return replace(plain, **changes)


def facts(name: str = "web-01", seed: int = 1, **changes: Any) -> TargetFacts:
    """Return a consistent, healthy, listening target; all three witnesses agree."""
    one = changes.pop("instance", instance(seed))
    plain = TargetFacts(
        name=name,
        style=Style.LISTENING,
        endpoint=f"{name}.example:10933",
        records=(record(name, seed),),
        host=host(*([one] if one else []), address=f"{name}.example", computer=name.upper()),
        instance=one,
        sightings=(Sighting(place="bot", address=f"{name}.example:10933", thumbprint=thumbprint(seed)),),
        server=SERVER,
        at=NOW,
    )
    return replace(plain, **changes)


def polling(name: str = "edge-01", seed: int = 1, **changes: Any) -> TargetFacts:
    """Return a consistent, healthy, polling target."""
    uri = f"poll://{name}/"
    one = instance(
        seed,
        style=Style.POLLING,
        served=None,
        trusted=(Trust(text=SERVER, style=Style.POLLING, address="https://octopus:10943/", subscription=uri),),
    )
    return facts(
        name,
        seed,
        style=Style.POLLING,
        endpoint=uri,
        instance=one,
        sightings=(),
        records=(record(name, seed, style=Style.POLLING, uri=uri),),
        **changes,
    )


def request(*names: str, **changes: Any) -> Request:
    """Return Rita's request for these targets."""
    plain = Request(user="U0RITA", user_name="rita", channel="C0DEPLOY", thread=None, names=names or ("web-01",))
    return replace(plain, **changes)


def index(*all_facts: TargetFacts, **changes: Any) -> EstateIndex:
    """Return the index in which these targets' records stand."""
    return replace(EstateIndex(records=tuple(r for f in all_facts for r in f.records)), **changes)


def plan(*all_facts: TargetFacts, source: Source = NEW_CERTIFICATE, now: datetime = NOW, **changes: Any) -> Plan:
    """Return the plan of Rita's request for these targets."""
    all_facts = all_facts or (facts(),)
    asked = request(*(f.name for f in all_facts), source=source.text, **changes)
    return make_plan(asked, source, all_facts, index(*all_facts), (), now)
