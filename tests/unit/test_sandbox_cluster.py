"""The nodes of the sandbox's Octopus Server: one database, a service and a certificate in memory each."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.domain.facts import ServiceState, Style
from bot.sandbox.octopus.node import Node
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.pki import self_signed
from bot.sandbox.windows.service import ServiceError
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World

SPACE = "/api/Spaces-1"
NODES = "/api/octopusservernodes"
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
    yield made
    made.close()


@pytest.fixture
def api(octopus: OctopusServer) -> Iterator[httpx.Client]:
    """Open a client whose key may do everything."""
    with httpx.Client(base_url=octopus.url, headers={"X-Octopus-ApiKey": octopus.api_key}) as made:
        yield made


@pytest.fixture
def tentacle(world: World) -> TentacleInstance:
    """Install a listening Tentacle and start it."""
    return world.add_host("web-01").add_tentacle()


def switch(node: Node) -> None:
    """Restart a node's service, as an administrator does; it runs again afterwards."""
    node.service.service.stop()
    assert node.service.service.wait_for(ServiceState.STOPPED, SECONDS)
    node.service.service.start()
    assert node.service.service.wait_for(ServiceState.RUNNING, SECONDS)


def summary(api: httpx.Client) -> dict[str, dict[str, Any]]:
    """Return what the API tells of all nodes, by name."""
    return {n["Name"]: n for n in api.get(f"{NODES}/summary").json()["Nodes"]}


def set_node(api: httpx.Client, name: str, **members: object) -> dict[str, Any]:
    """PUT a node with these members and nothing else."""
    id_ = summary(api)[name]["Id"]
    answer = api.put(f"{NODES}/{id_}", json={"Id": id_, "Name": name, **members})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def health_task(octopus: OctopusServer, api: httpx.Client, *records: str) -> str:
    """Queue a Health task and return its id."""
    body = {"Name": "Health", "Description": "Check", "Arguments": {"MachineIds": list(records)}}
    return str(api.post(f"{SPACE}/tasks", json=body).json()["Id"])


def polled_by(nodes: Sequence[Node], tentacle: TentacleInstance) -> list[str]:
    """Return the names of the nodes to which a Tentacle is connected now."""
    return [n.name for n in nodes if n.caller(tentacle.subscription or "")]


def test_every_node_is_a_service_on_a_windows_host(world: World, octopus: OctopusServer) -> None:
    """Each with an address of its own, under the name of its node, and with the program's files."""
    one, two = octopus.nodes
    assert (one.host, two.host) == (world.hosts["octo-1"], world.hosts["octo-2"])
    assert one.host.address != two.host.address
    assert [n.host.services["OctopusDeploy"].state for n in octopus.nodes] == [ServiceState.RUNNING] * 2
    assert (one.host.root / "Program Files/Octopus Deploy/Octopus/Octopus.Server.exe").is_file()
    assert one.service.config.is_file()
    assert (one.host.program_data / "Octopus/OctopusServer/Instances/octopusserver.config").is_file()


def test_a_new_certificate_is_served_by_a_node_from_its_restart_on(octopus: OctopusServer, api: httpx.Client) -> None:
    """It is imported once, into the database that all share; the API tells it at once, each node after a restart."""
    old, new = octopus.identity, self_signed("Octopus Portal")
    octopus.import_certificate(new)
    one, two = octopus.nodes
    assert api.get("/api/configuration/certificates/certificate-global").json()["Thumbprint"] == new.thumbprint
    assert (one.served, two.served) == (old.thumbprint, old.thumbprint)
    switch(two)
    assert (one.served, two.served) == (old.thumbprint, new.thumbprint)
    one.restart()
    assert (one.served, two.served) == (new.thumbprint, new.thumbprint)


def test_a_task_is_checked_with_the_certificate_of_its_node(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """Half-way through the switch, the Tentacle is healthy for one node and not for the other."""
    record = octopus.add_record("web-01", tentacle)
    octopus.import_certificate(self_signed("Octopus Portal"))
    switch(octopus.nodes[1])
    for drained, node, health in (("OCTO-2", "OCTO-1", "Healthy"), ("OCTO-1", "OCTO-2", "Unavailable")):
        set_node(api, drained, IsInMaintenanceMode=True, MaxConcurrentTasks=5)
        done = octopus.tasks.wait(health_task(octopus, api, record))
        assert (done.node, octopus.health(record)) == (node, health)
        set_node(api, drained, IsInMaintenanceMode=False, MaxConcurrentTasks=5)


def test_a_drained_node_finishes_its_tasks_and_takes_no_new_ones(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """Health tasks included; with all nodes drained they stay queued until one is not."""
    record = octopus.add_record("web-01", tentacle)
    running = octopus.start_deployment(record, 600, node="OCTO-1")
    assert octopus.tasks.get(running).node == "OCTO-1"
    drained = set_node(api, "OCTO-1", IsInMaintenanceMode=True, MaxConcurrentTasks=5)
    assert (drained["IsInMaintenanceMode"], drained["RunningTaskCount"]) == (True, 1)
    assert octopus.tasks.wait(health_task(octopus, api, record)).node == "OCTO-2"
    details = api.get(f"{NODES}/{drained['Id']}/details").json()
    assert [t["Id"] for t in details["RunningTasks"]] == [running]
    set_node(api, "OCTO-2", IsInMaintenanceMode=True, MaxConcurrentTasks=5)
    waiting = health_task(octopus, api, record)
    assert octopus.tasks.get(waiting).state == "Queued"
    status = api.get("/api/serverstatus/health").json()
    assert (status["IsOperatingNormally"], status["IsEntireClusterDrainingTasks"]) == (False, True)
    set_node(api, "OCTO-1", IsInMaintenanceMode=False, MaxConcurrentTasks=5)
    assert octopus.tasks.wait(waiting).node == "OCTO-1"
    assert api.get("/api/serverstatus/health").json()["IsOperatingNormally"] is True


def test_the_put_of_a_node_is_a_full_replace(octopus: OctopusServer, api: httpx.Client) -> None:
    """What is left out is reset, as with machines: the cap of tasks, the heartbeat policy, and draining itself."""
    deleted = {"DeletionPolicy": "DeleteAfterOfflineTimeout", "OfflineTimeout": "01:00:00"}
    kept = set_node(api, "OCTO-1", MaxConcurrentTasks=20, HeartbeatPolicy=deleted, IsInMaintenanceMode=True)
    assert (kept["MaxConcurrentTasks"], kept["HeartbeatPolicy"]) == (20, deleted)
    reset = set_node(api, "OCTO-1")
    assert (reset["MaxConcurrentTasks"], reset["IsInMaintenanceMode"]) == (5, False)
    assert reset["HeartbeatPolicy"]["DeletionPolicy"] == "NeverDelete"
    assert summary(api)["OCTO-2"]["IsInMaintenanceMode"] is False


def test_only_administrators_see_and_drain_nodes(octopus: OctopusServer) -> None:
    """The permission is named; nothing is changed."""
    key = octopus.add_api_key("reader", ("MachineView",))
    id_ = octopus.nodes[0].id
    with httpx.Client(base_url=octopus.url, headers={"X-Octopus-ApiKey": key}) as reader:
        for answer in (
            reader.get(f"{NODES}/summary"),
            reader.get(f"{NODES}/{id_}"),
            reader.get(f"{NODES}/{id_}/details"),
            reader.put(f"{NODES}/{id_}", json={"Id": id_, "IsInMaintenanceMode": True}),
        ):
            assert answer.status_code == 403
            assert "AdministerSystem" in answer.json()["ErrorMessage"]
    assert not octopus.nodes[0].is_drained


def test_a_load_balancer_finds_the_node_that_takes_tasks(octopus: OctopusServer, api: httpx.Client) -> None:
    """A ping is answered 200 or 418 without a key; the document of the node comes with either."""
    one, two = octopus.nodes
    with httpx.Client(base_url=octopus.url) as balancer:
        assert balancer.get(f"{NODES}/ping").status_code == 200
        set_node(api, "OCTO-1", IsInMaintenanceMode=True, MaxConcurrentTasks=5)
        drained = balancer.get(f"{NODES}/{one.id}/ping")
        assert (drained.status_code, drained.json()["Name"]) == (418, "OCTO-1")
        assert balancer.get(f"{NODES}/ping").json()["Name"] == "OCTO-2"
        two.halt()
        assert balancer.get(f"{NODES}/{two.id}/ping").status_code == 418
        assert balancer.get(f"{NODES}/ping").status_code == 418


def test_the_api_answers_as_long_as_any_node_runs(octopus: OctopusServer, api: httpx.Client) -> None:
    """A node that is gone is listed as offline, with when it was seen last; without any node nobody answers."""
    one, two = octopus.nodes
    one.halt()
    nodes = summary(api)
    assert (nodes["OCTO-1"]["IsOffline"], nodes["OCTO-2"]["IsOffline"]) == (True, False)
    assert nodes["OCTO-1"]["LastSeen"] < nodes["OCTO-2"]["LastSeen"]
    assert (nodes["OCTO-1"]["IsLeader"], nodes["OCTO-2"]["IsLeader"]) == (False, True)
    two.halt()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{octopus.url}/api")
    one.boot()
    assert httpx.get(f"{octopus.url}/api").status_code == 200


def test_tasks_of_a_stopped_node_fail_and_those_of_the_others_go_on(
    octopus: OctopusServer, tentacle: TentacleInstance
) -> None:
    """What is queued goes on waiting."""
    record = octopus.add_record("web-01", tentacle)
    octopus.nodes[0].task_cap = 1
    one, two = (octopus.start_deployment(record, 600, node=n.name) for n in octopus.nodes)
    waiting = octopus.start_deployment(record, 0.01, node="OCTO-1")
    octopus.nodes[0].halt()
    assert octopus.tasks.get(waiting).state == "Queued"
    assert octopus.tasks.get(one).state == "Failed"
    assert "stopped" in octopus.tasks.get(one).error
    assert octopus.tasks.get(two).state == "Executing"
    octopus.nodes[0].boot()
    assert octopus.tasks.wait(waiting).state == "Success"


def test_a_health_check_whose_node_stops_says_nothing_about_its_machines(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """The task fails; the machines keep the health that they had."""
    record = octopus.add_record("web-01", tentacle)
    assert octopus.check(record) == {record: "Healthy"}
    checked = octopus.last_checked(record)
    octopus.faults.health_seconds = 0.3
    task = octopus.tasks.get(health_task(octopus, api, record))
    next(n for n in octopus.nodes if n.name == task.node).halt()
    assert octopus.tasks.wait(task.id).state == "Failed"
    octopus.checks.close()
    assert (octopus.health(record), octopus.last_checked(record)) == ("Healthy", checked)


def test_a_polling_tentacle_has_one_registration_and_polls_every_node(world: World, octopus: OctopusServer) -> None:
    """One entry per node with the same thumbprint and one subscription; a lost connection comes back by itself."""
    tentacle = world.add_host("edge-01").add_tentacle(style=Style.POLLING)
    octopus.add_record("edge-01", tentacle)
    assert {t.address for t in tentacle.trusted} == {n.comms_url for n in octopus.nodes}
    assert {(t.text, t.subscription) for t in tentacle.trusted} == {(octopus.thumbprint, tentacle.subscription)}
    assert polled_by(octopus.nodes, tentacle) == ["OCTO-1", "OCTO-2"]
    octopus.nodes[0].restart()
    assert world.wait(lambda: polled_by(octopus.nodes, tentacle) == ["OCTO-1", "OCTO-2"], SECONDS)


def test_a_polling_tentacle_is_healthy_for_the_nodes_that_it_can_poll(
    world: World, octopus: OctopusServer, api: httpx.Client
) -> None:
    """A node with a certificate that it does not expect is not polled, and finds it unavailable."""
    octopus.checks.queue_seconds = 0.1
    tentacle = world.add_host("edge-01").add_tentacle(style=Style.POLLING)
    record = octopus.add_record("edge-01", tentacle)
    octopus.import_certificate(self_signed("Octopus Portal"))
    octopus.nodes[1].restart()
    assert polled_by(octopus.nodes, tentacle) == ["OCTO-1"]
    for drained, health in (("OCTO-2", "Healthy"), ("OCTO-1", "Unavailable")):
        set_node(api, drained, IsInMaintenanceMode=True, MaxConcurrentTasks=5)
        octopus.tasks.wait(health_task(octopus, api, record))
        assert octopus.health(record) == health
        set_node(api, drained, IsInMaintenanceMode=False, MaxConcurrentTasks=5)
    assert "unexpected security certificate" in tentacle.log


def test_a_certificate_that_a_node_refuses_leaves_it_down(octopus: OctopusServer, api: httpx.Client) -> None:
    """Its process ends at once; with the old certificate back in the database it comes up again."""
    old, new = octopus.identity, self_signed("Octopus Portal")
    node = octopus.nodes[0]
    node.refuses.add(new.thumbprint)
    octopus.import_certificate(new)
    node.halt()
    with pytest.raises(ServiceError) as refused:
        node.service.service.start()
    assert refused.value.code == 1067
    assert summary(api)["OCTO-1"]["IsOffline"] is True
    octopus.import_certificate(old)
    node.boot()
    assert node.served == old.thumbprint


def test_a_node_that_lost_the_network_comes_back_with_its_old_certificate(
    world: World, octopus: OctopusServer, api: httpx.Client
) -> None:
    """Its process went on all the time: neither a restart nor the import has reached it."""
    tentacle = world.add_host("edge-01").add_tentacle(style=Style.POLLING)
    octopus.add_record("edge-01", tentacle)
    one, two = octopus.nodes
    old, new = octopus.identity, self_signed("Octopus Portal")
    process = two.service.service.process
    two.isolate()
    assert summary(api)["OCTO-2"]["IsOffline"] is True
    assert two.service.service.state is ServiceState.RUNNING
    assert polled_by(octopus.nodes, tentacle) == ["OCTO-1"]
    octopus.import_certificate(new)
    one.restart()
    two.rejoin()
    assert two.service.service.process == process
    assert (one.served, two.served) == (new.thumbprint, old.thumbprint)
    assert summary(api)["OCTO-2"]["IsOffline"] is False
    assert world.wait(lambda: polled_by([two], tentacle) == ["OCTO-2"], SECONDS)


def test_a_restored_copy_of_the_server_lives_beside_it(
    world: World, octopus: OctopusServer, tentacle: TentacleInstance
) -> None:
    """Same certificate, another address: whom the one is switched from, the other goes on to present."""
    edge = world.add_host("edge-01").add_tentacle(style=Style.POLLING)
    with ExitStack() as stack:
        clone = OctopusServer(world, nodes=("CLONE-1",), identity=octopus.identity)
        stack.callback(clone.close)
        clone.start()
        ids = {server: server.add_record("edge-01", edge) for server in (octopus, clone)}
        listening = {server: server.add_record("web-01", tentacle) for server in (octopus, clone)}
        assert clone.url != octopus.url
        addresses = {t.address: t.subscription for t in edge.trusted}
        assert set(addresses) == {n.comms_url for n in (*octopus.nodes, *clone.nodes)}
        assert addresses[clone.comms_url] != addresses[octopus.comms_url]
        octopus.import_certificate(self_signed("Octopus Portal"))
        for node in octopus.nodes:
            node.restart()
        octopus.checks.queue_seconds = 0.1
        assert set(octopus.check(ids[octopus], listening[octopus]).values()) == {"Unavailable"}
        assert set(clone.check(ids[clone], listening[clone]).values()) == {"Healthy"}
