"""Machines of the sandbox that no WinRM reaches, or that go by the web server's certificate."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.domain.by_hand import command_of
from bot.domain.facts import RecordKind, ServiceState, Style
from bot.domain.plan import ByHand, Hands
from bot.sandbox import estate
from bot.sandbox.octopus.others import Other
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.pki import self_signed
from bot.sandbox.windows.configuration import KUBERNETES
from bot.sandbox.windows.wsman import WinRmServer
from bot.sandbox.world import World

SPACE = "/api/Spaces-1"
SECONDS = 5.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Build a world in which nothing takes long."""
    made = World(tmp_path, pace=0.02, powershell=None)
    yield made
    made.close()


@pytest.fixture
def octopus(world: World) -> Iterator[OctopusServer]:
    """Start a Server with two nodes."""
    made = OctopusServer(world, nodes=("OCTO-1", "OCTO-2"))
    made.start()
    made.checks.queue_seconds = 0.3
    yield made
    made.close()


@pytest.fixture
def api(octopus: OctopusServer) -> Iterator[httpx.Client]:
    """Open a client whose key may do everything."""
    with httpx.Client(base_url=octopus.url, headers={"X-Octopus-ApiKey": octopus.api_key}) as made:
        yield made


def health(octopus: OctopusServer, other: Other) -> str:
    """Check a machine and return its health."""
    return octopus.check(other.record)[other.record]


def switch(octopus: OctopusServer) -> str:
    """Give the Server another certificate, in force on all nodes; return its thumbprint."""
    new = self_signed("Octopus Portal")
    octopus.import_certificate(new)
    for node in octopus.nodes:
        node.restart()
    return str(new.thumbprint)


def by_ssh(other: Other, command: str) -> None:
    """Have a person run a command of the plan at a machine: each of its parts ends well."""
    for part in command.split(";"):
        words = [w for w in shlex.split(part) if w != "sudo"]
        result = other.instance.host.run_program(words)
        assert result.exit_code == 0, (words, result)


def hand(hands: Hands) -> ByHand:
    """Return what a plan says of such a machine."""
    return ByHand(name="it", hands=hands, space="Default", reason="no WinRM reaches it", instance="Tentacle")


def test_a_linux_tentacle_tells_its_system(octopus: OctopusServer, api: httpx.Client) -> None:
    """It is a Tentacle like others, listening; after its first health check Octopus knows where it runs."""
    linux = octopus.others.linux("linux-01")
    before = api.get(f"{SPACE}/machines/{linux.record}").json()
    assert (before["Endpoint"]["CommunicationStyle"], before["OperatingSystem"]) == ("TentaclePassive", "Unknown")
    assert health(octopus, linux) == "Healthy"
    document = api.get(f"{SPACE}/machines/{linux.record}").json()
    assert document["OperatingSystem"].startswith("Ubuntu")
    assert document["ShellName"] == "Bash"
    found = api.get(f"{SPACE}/machines", params={"shellNames": "Bash"}).json()["Items"]
    assert [d["Name"] for d in found] == ["linux-01"]


def test_no_winrm_answers_on_linux(world: World, octopus: OctopusServer) -> None:
    """Its host is there, its Tentacle listens, and nothing listens on WinRM's ports."""
    linux, windows = octopus.others.linux("linux-01"), world.add_host("web-01")
    winrm = WinRmServer(world)
    winrm.start()
    assert set(winrm.shells) == {"octo-1", "octo-2", "web-01"}
    assert httpx.get(f"http://{windows.address}:5985/wsman").status_code == 405
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{linux.instance.host.address}:5985/wsman")


@pytest.mark.parametrize(
    ("style", "hands"), [(Style.LISTENING, Hands.LINUX_LISTENING), (Style.POLLING, Hands.LINUX_POLLING)]
)
def test_a_person_saves_a_linux_tentacle_by_the_command_of_the_plan(
    octopus: OctopusServer, style: Style, hands: Hands
) -> None:
    """Lost with the switch, back with the very text that the plan shows."""
    linux, old = octopus.others.linux("linux-01", style=style), str(octopus.thumbprint)
    assert health(octopus, linux) == "Healthy"
    new = switch(octopus)
    assert health(octopus, linux) == "Unavailable"
    by_ssh(linux, command_of(hand(hands), old, new))
    octopus.checks.queue_seconds = SECONDS
    assert health(octopus, linux) == "Healthy"


def test_a_kubernetes_agent_keeps_its_thumbprint_deeper(octopus: OctopusServer, api: httpx.Client) -> None:
    """Subscription and thumbprint stand in TentacleEndpointConfiguration; it polls every node and is healthy."""
    agent = octopus.others.kubernetes_agent("k8s-agent-01")
    assert health(octopus, agent) == "Healthy"
    document = api.get(f"{SPACE}/machines/{agent.record}").json()
    endpoint = document["Endpoint"]
    assert endpoint["CommunicationStyle"] == "KubernetesTentacle"
    assert "Thumbprint" not in endpoint
    assert endpoint["TentacleEndpointConfiguration"] == {
        "CommunicationMode": "Polling",
        "Thumbprint": agent.instance.configured,
        "Uri": agent.instance.subscription,
        "CertificateSignatureAlgorithm": "sha256RSA",
    }
    assert document["Thumbprint"] is None
    assert all(n.caller(agent.instance.subscription or "") for n in octopus.nodes)
    assert {e.style for e in agent.instance.configuration.trusted} == {KUBERNETES}
    found = api.get(f"{SPACE}/machines/all", params={"thumbprint": str(agent.instance.configured)}).json()
    assert [d["Name"] for d in found] == ["k8s-agent-01"]


def test_the_put_of_a_kubernetes_agent_changes_the_inner_thumbprint(octopus: OctopusServer, api: httpx.Client) -> None:
    """As with Tentacles it is required, and it decides whether the agent may poll."""
    agent = octopus.others.kubernetes_agent("k8s-agent-01")
    document = api.get(f"{SPACE}/machines/{agent.record}").json()
    document["Endpoint"]["TentacleEndpointConfiguration"]["Thumbprint"] = "B" * 40
    assert api.put(f"{SPACE}/machines/{agent.record}", json=document).status_code == 200
    assert (octopus.puts[-1].old, octopus.puts[-1].new) == (agent.instance.configured, "B" * 40)
    agent.instance.service.kill()
    agent.instance.service.boot()
    assert health(octopus, agent) == "Unavailable"
    document["Endpoint"]["TentacleEndpointConfiguration"]["Thumbprint"] = ""
    refused = api.put(f"{SPACE}/machines/{agent.record}", json=document)
    assert (refused.status_code, refused.json()["Errors"]) == (400, ["Please provide a thumbprint for this machine."])


def test_update_trust_saves_a_kubernetes_agent(octopus: OctopusServer) -> None:
    """What a person runs in the pod rewrites its entries for all nodes; the pod starts anew."""
    agent, old = octopus.others.kubernetes_agent("k8s-agent-01"), octopus.thumbprint
    new = switch(octopus)
    assert health(octopus, agent) == "Unavailable"
    result = agent.instance.host.run_program(
        ["tentacle", "update-trust", f"--oldThumbprint={old}", f"--newThumbprint={new}"]
    )
    assert result.stdout.count("Updating kubernetes tentacle (polling)") == 2
    agent.instance.service.kill()
    agent.instance.service.boot()
    octopus.checks.queue_seconds = SECONDS
    assert health(octopus, agent) == "Healthy"


def test_an_agent_may_be_a_worker(octopus: OctopusServer, api: httpx.Client) -> None:
    """Then it stands below /workers, with the same endpoint."""
    agent = octopus.others.kubernetes_agent("k8s-worker-01", kind=RecordKind.WORKER)
    endpoint = api.get(f"{SPACE}/workers/{agent.record}").json()["Endpoint"]
    assert endpoint["TentacleEndpointConfiguration"]["Thumbprint"] == agent.instance.configured


def test_a_tentacle_over_websocket_goes_by_the_web_servers_certificate(
    octopus: OctopusServer, api: httpx.Client
) -> None:
    """Octopus's document does not tell it from others that poll; the switch of the Server's does not touch it."""
    ordinary = octopus.add_record("edge-01", octopus.world.add_host("edge-01").add_tentacle(style=Style.POLLING))
    socket = octopus.others.web_socket("socket-01")
    assert {t.address for t in socket.instance.trusted} == {n.web_socket_url for n in octopus.nodes}
    assert all(t.text != octopus.thumbprint for t in socket.instance.trusted)
    documents = [api.get(f"{SPACE}/machines/{i}").json()["Endpoint"] for i in (ordinary, socket.record)]
    assert documents[0].keys() == documents[1].keys()
    assert {d["CommunicationStyle"] for d in documents} == {"TentacleActive"}
    assert {d["Uri"].partition("//")[0] for d in documents} == {"poll:"}
    assert health(octopus, socket) == "Healthy"
    switch(octopus)
    octopus.checks.queue_seconds = SECONDS
    assert health(octopus, socket) == "Healthy"
    octopus.checks.queue_seconds = 0.3
    assert octopus.check(ordinary)[ordinary] == "Unavailable"


def test_its_own_certificate_counts_over_websocket_too(octopus: OctopusServer) -> None:
    """A record that stores another thumbprint than it presents keeps it out."""
    socket = octopus.others.web_socket("socket-01")
    octopus.corrupt_thumbprint(socket.record)
    octopus.nodes[0].restart()
    octopus.nodes[1].restart()
    assert health(octopus, socket) == "Unavailable"
    assert "not in the list of thumbprints that we trust" in str(octopus.connection_log(socket.record))
    assert socket.instance.service.state is ServiceState.RUNNING


def test_an_ssh_target_is_a_document_without_a_certificate(octopus: OctopusServer, api: httpx.Client) -> None:
    """Host, port, account and the fingerprint of a host key, as OctopusClients have it."""
    record = octopus.others.ssh("bastion-01")
    endpoint = api.get(f"{SPACE}/machines/{record}").json()["Endpoint"]
    assert (endpoint["CommunicationStyle"], endpoint["Uri"]) == ("Ssh", "ssh://bastion-01.corp.example:22/")
    assert {"AccountId", "Host", "Port", "Fingerprint", "DotNetCorePlatform", "ProxyId"} <= endpoint.keys()
    assert "Thumbprint" not in endpoint


def test_an_estate_may_have_them_beside_its_dozen(world: World, octopus: OctopusServer) -> None:
    """All are healthy at first; the one over WebSocket is a Windows host of the estate, the others are apart."""
    made = estate.build(world, octopus, 2, others=True)
    assert set(made.others) == {"linux-01", "k8s-agent-01"}
    assert {"web-01", "web-02", "socket-01"} == set(made.instances)
    assert {octopus.health(i) for i in octopus.records} == {"Healthy"}
    names = {octopus.document(i)["Name"] for i in octopus.records}
    assert names == {"web-01", "web-02", "socket-01", "linux-01", "k8s-agent-01", "bastion-01"}
