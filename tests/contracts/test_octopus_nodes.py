"""The Octopus client against the sandbox's cluster: its nodes, draining them, and machines that are no Tentacles."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.domain.facts import OtherMachine, RecordKind, ServerNode, Style
from bot.octopus.client import Client, OctopusError, OctopusErrorKind
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.pki import self_signed
from bot.sandbox.world import World
from bot.secrets import Secret


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Build a world in which nothing takes long."""
    made = World(tmp_path, pace=0.02, powershell=None)
    yield made
    made.close()


@pytest.fixture
def octopus(world: World) -> Iterator[OctopusServer]:
    """Start a Server with two nodes; they were added in another order than that of their names."""
    made = OctopusServer(world, nodes=("OCTO-2", "OCTO-1"))
    made.start()
    yield made
    made.close()


@pytest.fixture
def client(octopus: OctopusServer) -> Iterator[Client]:
    """Connect with a key that may do everything, and with little patience."""
    made = Client(octopus.url, lambda: Secret(octopus.api_key), clock=SystemClock(), timeout=5, patience=0)
    yield made
    made.close()


def named(client: Client, name: str) -> ServerNode:
    """Return the node of this name as the Server tells of it now."""
    (found,) = [n for n in client.nodes() if n.name == name]
    return found


def nodes_of(octopus: OctopusServer) -> list[bool]:
    """Return which nodes are drained, in the order in which they were added."""
    return [n.is_drained for n in octopus.nodes]


def test_all_nodes_are_told_also_those_that_do_not_run(octopus: OctopusServer, client: Client) -> None:
    """By name, with what they execute, their cap, their version, and when they were seen last."""
    octopus.nodes[1].halt()
    one, two = client.nodes()
    assert (one.name, one.is_offline, two.name, two.is_offline) == ("OCTO-1", True, "OCTO-2", False)
    assert (two.is_drained, two.running_tasks, two.task_cap, two.version) == (False, 0, 5, "2026.2.1000")
    assert one.last_seen is not None
    assert two.last_seen is not None
    assert one.last_seen < two.last_seen


def test_draining_changes_nothing_else_of_a_node(octopus: OctopusServer, client: Client) -> None:
    """The PUT is a full replace: cap and heartbeat policy go back as they were."""
    truth = octopus.nodes[1]
    truth.task_cap, truth.heartbeat = 20, {"DeletionPolicy": "DeleteAfterOfflineTimeout", "OfflineTimeout": "01:00:00"}
    before = dict(truth.heartbeat)
    drained = client.drain(named(client, "OCTO-1"), drained=True)
    assert (drained.is_drained, drained.task_cap) == (True, 20)
    assert nodes_of(octopus) == [False, True]
    back = client.drain(drained, drained=False)
    assert (back.is_drained, back.task_cap) == (False, 20)
    assert truth.heartbeat == before


def test_draining_twice_writes_once(octopus: OctopusServer, client: Client) -> None:
    """What is done already is done, also when what is known of the node is old."""
    node = named(client, "OCTO-1")
    for _ in range(2):
        assert client.drain(node, drained=True).is_drained
    assert [t.method for t in octopus.traffic].count("PUT") == 1


def test_a_drain_whose_answer_is_lost_is_done(octopus: OctopusServer, client: Client) -> None:
    """A proxy lost the answer. Who has patience asks again at once; who has none finds it done the next time."""
    node = named(client, "OCTO-1")
    octopus.faults.lost_answers = 1
    with pytest.raises(OctopusError, match=r"answered PUT .* with 502"):
        client.drain(node, drained=True)
    assert client.drain(node, drained=True).is_drained
    octopus.faults.lost_answers = 1
    assert not client.patient(10).drain(node, drained=False).is_drained
    assert nodes_of(octopus) == [False, False]


def test_a_drain_that_is_not_made_is_no_success(octopus: OctopusServer, client: Client) -> None:
    """The whole cluster is held drained by somebody else: the answer is 200, and the node stays as it is."""
    octopus.faults.drained = True
    with pytest.raises(OctopusError, match="OCTO-1 was to be drained no more") as failed:
        client.drain(named(client, "OCTO-1"), drained=False)
    assert failed.value.kind is OctopusErrorKind.UNEXPECTED


def test_a_key_that_may_not_administer_is_told_which_permission_is_missing(octopus: OctopusServer) -> None:
    """Reading, draining and asking for tasks alike."""
    key = octopus.add_api_key("reader", ("MachineView",))
    reader = Client(octopus.url, lambda: Secret(key), clock=SystemClock(), timeout=5)
    node = ServerNode(
        id=octopus.nodes[0].id, name="OCTO-2", is_drained=False, is_offline=False, running_tasks=0, task_cap=5
    )
    for ask in (reader.nodes, lambda: reader.drain(node, drained=True), lambda: reader.node_tasks(node)):
        with pytest.raises(OctopusError) as refused:
            ask()
        assert (refused.value.kind, refused.value.permission) == (OctopusErrorKind.FORBIDDEN, "AdministerSystem")
    reader.close()
    assert nodes_of(octopus) == [False, False]


def test_a_node_that_was_removed_is_an_error_not_a_success(client: Client) -> None:
    """Somebody removed it from the cluster meanwhile."""
    gone = replace(named(client, "OCTO-1"), id="OctopusServerNodes-gone")
    with pytest.raises(OctopusError, match="is no node of the Octopus Server any more") as failed:
        client.drain(gone, drained=True)
    assert failed.value.kind is OctopusErrorKind.NOT_FOUND


def test_the_tasks_of_a_node_are_those_that_it_executes(octopus: OctopusServer, client: Client, world: World) -> None:
    """With a link for a person; not those of other nodes, queued ones or ended ones."""
    tentacle = world.add_host("web-01").add_tentacle()
    record = octopus.add_record("web-01", tentacle)
    mine = octopus.start_deployment(record, 600, node="OCTO-1")
    octopus.start_deployment(record, 600, node="OCTO-2")
    ended = octopus.start_deployment(record, 600, node="OCTO-1")
    octopus.tasks.cancel(ended)
    node = named(client, "OCTO-1")
    (task,) = client.node_tasks(node)
    assert (task.id, task.name, task.state) == (mine, "Deploy", "Executing")
    assert task.description.startswith("Deploy Web shop")
    assert task.url == f"{octopus.url}/app#/Spaces-1/tasks/{mine}"
    assert node.running_tasks == 1


def test_a_cluster_answers_while_one_of_its_nodes_restarts(octopus: OctopusServer, client: Client) -> None:
    """Whoever asks is served by the others; without any node the error says that nobody answers."""
    octopus.nodes[0].halt()
    assert [n.is_offline for n in client.nodes()] == [False, True]
    octopus.nodes[1].halt()
    with pytest.raises(OctopusError) as failed:
        client.nodes()
    assert failed.value.kind is OctopusErrorKind.UNREACHABLE


def test_the_certificate_of_the_database_is_told_before_the_restart(octopus: OctopusServer, client: Client) -> None:
    """That the real Server does so is UNVERIFIED; the nodes themselves still serve the old one."""
    old, new = octopus.thumbprint, self_signed("Octopus Portal")
    octopus.import_certificate(new)
    assert client.server_thumbprint() == new.thumbprint
    assert {n.served for n in octopus.nodes} == {old}


def test_machines_that_are_no_tentacles_are_kept_with_what_is_known(octopus: OctopusServer, client: Client) -> None:
    """Style, address, an agent's own thumbprint and where a person finds them, in every space."""
    octopus.add_space("Payments")
    octopus.others.ssh("bastion-01")
    target = octopus.others.kubernetes_agent("k8s-agent-01", space="Payments")
    worker = octopus.others.kubernetes_agent("k8s-worker-01", kind=RecordKind.WORKER)
    index = client.index()
    assert index.records == ()
    assert set(index.other_machines) == {"bastion-01", "k8s-agent-01", "k8s-worker-01"}
    found = {o.name: o for o in index.others}
    assert found["bastion-01"].style == "Ssh"
    assert found["bastion-01"].uri == "ssh://bastion-01.corp.example:22/"
    assert found["bastion-01"].thumbprint is None
    assert found["k8s-agent-01"] == OtherMachine(
        name="k8s-agent-01",
        kind=RecordKind.TARGET,
        space="Payments",
        style="KubernetesTentacle",
        uri=target.instance.subscription or "",
        thumbprint=target.instance.configured,
        url=f"{octopus.url}/app#/Spaces-2/infrastructure/machines/{target.record}/settings",
    )
    assert found["k8s-worker-01"].kind is RecordKind.WORKER
    assert found["k8s-worker-01"].url.endswith(f"/workers/{worker.record}/settings")


def test_records_tell_the_system_of_their_machine(octopus: OctopusServer, client: Client) -> None:
    """A Linux Tentacle and one over WebSocket are records like others; what Octopus does not know is not guessed."""
    linux = octopus.others.linux("linux-01")
    octopus.others.web_socket("socket-01")
    before = {r.name: r for r in client.index().records}
    assert {r.os for r in before.values()} == {None}
    octopus.check(linux.record)
    after = {r.name: r for r in client.index().records}
    assert "Ubuntu" in (after["linux-01"].os or "")
    assert (after["socket-01"].os, after["socket-01"].style) == (None, Style.POLLING)
