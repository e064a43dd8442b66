"""Facts and plans of the Octopus Server for tests, plain unless said otherwise."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from bot.domain.facts import (
    HostFacts,
    NodeFacts,
    OtherMachine,
    RecordKind,
    ServerFacts,
    ServerInstance,
    ServerNode,
    Sighting,
    TargetFacts,
    Trust,
)
from bot.domain.plan import Plan, Source
from bot.domain.server_planner import make_server_plan
from tests.making import NOW, SERVER, facts, host, pfx_source, polling, request


def server_instance(**changes: Any) -> ServerInstance:
    """Return a running instance of the Server program that serves what its database holds."""
    plain = ServerInstance(
        name="OctopusServer",
        config="C:\\Octopus\\OctopusServer.config",
        service="OctopusDeploy",
        exe="C:\\Program Files\\Octopus Deploy\\Octopus\\Octopus.Server.exe",
        version="2026.2.1000",
        process=99,
        process_started=NOW - timedelta(days=9),
        stored=SERVER,
        served=Sighting(place="host", address="127.0.0.1:10943", thumbprint=SERVER),
    )
    return replace(plain, **changes)


def node(name: str = "OCTO-1", **changes: Any) -> NodeFacts:
    """Return a node that runs and was seen from every side."""
    one = changes.pop("instance", server_instance())
    asleep = changes.pop("is_offline", False)
    api = ServerNode(
        id=f"OctopusServerNodes-{name}",
        name=name,
        is_drained=False,
        is_offline=asleep,
        running_tasks=changes.pop("running_tasks", 0),
        task_cap=5,
    )
    seen: HostFacts | None = (
        None if asleep else replace(host(), address=f"{name}.example", servers=(one,) if one else ())
    )
    plain = NodeFacts(
        node=api,
        host=seen,
        instance=None if asleep else one,
        sightings=() if asleep else (Sighting(place="bot", address=f"{name}:10943", thumbprint=SERVER),),
    )
    return replace(plain, **changes)


def other(name: str, style: str = "KubernetesTentacle") -> OtherMachine:
    """Return a machine that no WinRM reaches."""
    return OtherMachine(
        name=name, kind=RecordKind.TARGET, space="Default", style=style, uri="poll://k8s/", thumbprint=None
    )


def unreachable(name: str, seed: int = 90, **changes: Any) -> TargetFacts:
    """Return a Tentacle whose host does not answer."""
    return facts(name, seed, host=None, host_error="nobody answers", instance=None, **changes)


def server_facts(*tentacles: TargetFacts, nodes: tuple[NodeFacts, ...] | None = None, **changes: Any) -> ServerFacts:
    """Return a healthy Server with one node and these Tentacles."""
    plain = ServerFacts(thumbprint=SERVER, version="2026.2.1000", nodes=nodes or (node(),), tentacles=tentacles, at=NOW)
    return replace(plain, **changes)


def server_plan(
    *tentacles: TargetFacts, source: Source | None = None, nodes: tuple[NodeFacts, ...] | None = None, **changes: Any
) -> Plan:
    """Return the plan of `rotate server` with a PFX."""
    source = source or pfx_source(7)
    others = changes.pop("others", ())
    asked = request("server", source=source.text, **changes)
    tentacles = tentacles or (facts("web-01", 1), facts("web-02", 2), polling("edge-01", 3))
    return make_server_plan(asked, source, server_facts(*tentacles, nodes=nodes, others=others), NOW)


def trusting(facts_of: TargetFacts, *trusted: Trust) -> TargetFacts:
    """Return a Tentacle whose list of trusted Servers is this one."""
    assert facts_of.instance is not None
    one = replace(facts_of.instance, trusted=trusted)
    assert facts_of.host is not None
    return replace(facts_of, instance=one, host=replace(facts_of.host, instances=(one,)))
