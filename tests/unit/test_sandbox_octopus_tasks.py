"""Tasks, health, deployments and faults of the sandbox's Octopus Server."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.clock import FakeClock
from bot.domain.facts import RecordKind, ServiceState, Style
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World

SPACE = "/api/Spaces-1"
OTHER = "B" * 40


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Build a world in which nothing takes long."""
    made = World(tmp_path, pace=0.02, powershell=None)
    yield made
    made.close()


@pytest.fixture
def octopus(world: World) -> Iterator[OctopusServer]:
    """Start an Octopus Server."""
    made = OctopusServer(world)
    made.start()
    yield made
    made.close()


@pytest.fixture
def api(octopus: OctopusServer) -> Iterator[httpx.Client]:
    """Open a client whose key may do everything."""
    with client(octopus, octopus.api_key) as made:
        yield made


@pytest.fixture
def tentacle(world: World) -> TentacleInstance:
    """Install a listening Tentacle and start it."""
    return world.add_host("web-01").add_tentacle()


@pytest.fixture
def record(octopus: OctopusServer, tentacle: TentacleInstance) -> str:
    """Register it as a target in Production."""
    return octopus.add_record("web-01", tentacle, environments=["Production"], roles=["web"])


def client(octopus: OctopusServer, key: str) -> httpx.Client:
    """Return a client with a key."""
    return httpx.Client(base_url=octopus.url, headers={"X-Octopus-ApiKey": key})


def ask_health(api: httpx.Client, *records: str, **arguments: object) -> dict[str, Any]:
    """Queue a Health task for records and return its document."""
    body = {
        "Name": "Health",
        "Description": "Check health",
        "SpaceId": "Spaces-1",
        "Arguments": {"Timeout": "00:05:00", "MachineTimeout": "00:05:00", "MachineIds": list(records), **arguments},
    }
    answer = api.post(f"{SPACE}/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_a_health_task_shakes_hands_and_writes_down_what_it_found(
    octopus: OctopusServer, api: httpx.Client, record: str
) -> None:
    """A healthy target gets its status, summary, version and a fresh LastChecked."""
    task = ask_health(api, record)
    octopus.tasks.wait(task["Id"])
    after = api.get(f"{SPACE}/tasks/{task['Id']}").json()
    assert (after["State"], after["IsCompleted"], after["HasWarningsOrErrors"]) == ("Success", True, False)
    document = api.get(f"{SPACE}/machines/{record}").json()
    assert document["HealthStatus"] == "Healthy"
    assert "successfully establish a connection" in document["StatusSummary"]
    assert document["Endpoint"]["TentacleVersionDetails"]["Version"] == "9.1.3756"
    assert document["Endpoint"]["CertificateSignatureAlgorithm"] == "sha256RSA"
    connection = api.get(f"{SPACE}/machines/{record}/connection").json()
    assert (connection["Status"], connection["CurrentTentacleVersion"]) == ("Online", "9.1.3756")
    assert connection["LastChecked"] >= after["StartTime"]
    details = api.get(f"{SPACE}/tasks/{task['Id']}/details").json()
    assert details["ActivityLogs"][0]["Children"][0]["Status"] == "Success"


def test_success_of_the_task_does_not_mean_a_healthy_machine(
    octopus: OctopusServer, api: httpx.Client, record: str, tentacle: TentacleInstance
) -> None:
    """A policy that lets machines be offline skips them: the task succeeds, the machine is Unavailable."""
    tentacle.service.kill()
    task = octopus.tasks.wait(ask_health(api, record)["Id"])
    assert task.state == "Success"
    assert task.to_document()["HasWarningsOrErrors"] is True
    assert task.log.children[0].status == "Skipped"
    assert octopus.health(record) == "Unavailable"
    log = api.get(f"{SPACE}/machines/{record}/connection").json()["Logs"]
    assert "refused the connection" in log[-1]["MessageText"]


def test_a_strict_policy_lets_the_task_fail(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """Where machines are expected to be online, an unavailable one fails the Health task."""
    policy = octopus.add_policy("Default", "Strict", may_be_offline=False)
    strict = octopus.add_record("web-01", tentacle, environments=["Production"], MachinePolicyId=policy)
    tentacle.service.kill()
    task = octopus.tasks.wait(ask_health(api, strict)["Id"])
    assert (task.state, task.log.children[0].status) == ("Failed", "Failed")


def test_machines_hidden_from_the_key_are_left_out_silently(octopus: OctopusServer, record: str) -> None:
    """A scoped key's Health task succeeds without having looked at what the key cannot see."""
    octopus.add_environment("Default", "Staging")
    key = octopus.add_api_key(
        "scoped", ("MachineView", "TaskCreate", "TaskView"), spaces=["Default"], environments=["Staging"]
    )
    with client(octopus, key) as scoped:
        task = octopus.tasks.wait(ask_health(scoped, record)["Id"])
    assert task.state == "Success"
    assert octopus.health(record) == "Unknown"
    assert octopus.last_checked(record) is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"Name": None}, "Name is required"),
        ({"Description": ""}, "Description is required"),
        ({"Arguments": {"Timeout": 5}}, "time span"),
        ({"Arguments": {"MachineIds": ["Machines-99"]}}, "could not be found"),
        ({"Name": "Deploy"}, "cannot be queued"),
    ],
)
def test_a_task_that_is_not_valid_is_refused(api: httpx.Client, change: dict[str, object], error: str) -> None:
    """400 with the reason, for what the real Server's clients always send."""
    answer = api.post(f"{SPACE}/tasks", json={"Name": "Health", "Description": "x"} | change)
    assert answer.status_code == 400
    assert any(error in e for e in answer.json()["Errors"])


def test_a_deployment_occupies_its_target_for_a_while(
    octopus: OctopusServer, api: httpx.Client, record: str, tentacle: TentacleInstance
) -> None:
    """While it runs the target's tasks show it and the Tentacle has a child; neither tells of the health check."""
    octopus.tasks.wait(ask_health(api, record)["Id"])
    deployment = octopus.start_deployment(record, 60)
    process = tentacle.service.process
    assert process is not None
    (shown,) = api.get(f"{SPACE}/machines/{record}/tasks", params={"type": "Deployment"}).json()["Items"]
    assert (shown["Id"], shown["State"], list(shown["Arguments"])) == (deployment, "Executing", ["DeploymentId"])
    assert tentacle.host.children_of(process.pid) == ["Calamari.exe"]
    active = api.get("/api/tasks", params={"active": True, "name": "Deploy,RunbookRun"}).json()["Items"]
    assert [t["Id"] for t in active] == [deployment]
    assert api.post(f"{SPACE}/tasks/{deployment}/cancel").json()["State"] == "Canceled"
    assert tentacle.host.children_of(process.pid) == []
    assert octopus.busy(record) == []


def test_a_restart_in_the_middle_kills_the_deployment(
    octopus: OctopusServer, record: str, tentacle: TentacleInstance
) -> None:
    """A deployment whose Tentacle is replaced under it fails, as the real one reports UnknownResult."""
    deployment = octopus.start_deployment(record, 60)
    tentacle.service.kill()
    task = octopus.tasks.wait(deployment)
    assert task.state == "Failed"
    assert "-46" in task.error


def test_a_scheduled_deployment_waits_for_its_time(tmp_path: Path) -> None:
    """It is Queued with a QueueTime in the future, begins when that has come, and ends after its seconds."""
    clock = FakeClock()
    world = World(tmp_path, pace=0.02, clock=clock, powershell=None)
    octopus = OctopusServer(world)
    octopus.start()
    try:
        tentacle = world.add_host("web-01").add_tentacle(start=False)
        record = octopus.add_record("web-01", tentacle)
        id_ = octopus.schedule_deployment(record, clock.now() + timedelta(hours=1), seconds=30)
        assert octopus.tasks.get(id_).to_document()["State"] == "Queued"
        clock.advance(3601)
        assert octopus.tasks.get(id_).state == "Executing"
        clock.advance(31)
        assert octopus.tasks.get(id_).state == "Success"
    finally:
        octopus.close()
        world.close()


def test_the_task_cap_lets_a_health_task_wait(octopus: OctopusServer, api: httpx.Client, record: str) -> None:
    """Five tasks fill the node; a Health task behind them stays Queued until one ends."""
    deployments = [octopus.start_deployment(record, 60) for _ in range(5)]
    task = ask_health(api, record)
    assert octopus.tasks.get(task["Id"]).state == "Queued"
    octopus.tasks.cancel(deployments[0])
    assert octopus.tasks.wait(task["Id"]).state == "Success"


@pytest.mark.parametrize("fault", ["queued_forever", "drained"])
def test_a_health_task_may_stay_queued_forever(
    octopus: OctopusServer, api: httpx.Client, record: str, fault: str
) -> None:
    """With the task cap used up, or on a drained node, nothing is picked up until that is over."""
    setattr(octopus.faults, fault, True)
    task = ask_health(api, record)
    time.sleep(0.1)
    assert api.get(f"{SPACE}/tasks/{task['Id']}").json()["HasBeenPickedUpByProcessor"] is False
    setattr(octopus.faults, fault, False)
    octopus.tasks.wake()
    assert octopus.tasks.wait(task["Id"]).state == "Success"


def test_a_space_with_a_stopped_queue_runs_nothing(octopus: OctopusServer, api: httpx.Client, record: str) -> None:
    """`TaskQueueStopped` shows in the space, and its tasks wait."""
    octopus.stop_task_queue("Default")
    assert api.get("/api/spaces/Spaces-1").json()["TaskQueueStopped"] is True
    task = ask_health(api, record)
    assert octopus.tasks.get(task["Id"]).state == "Queued"
    octopus.stop_task_queue("Default", stopped=False)
    assert octopus.tasks.wait(task["Id"]).state == "Success"


def test_the_rate_limit_answers_429_with_retry_after(tmp_path: Path) -> None:
    """A bucket per user: empty after its burst, filled again by time."""
    clock = FakeClock()
    world = World(tmp_path, pace=0.02, clock=clock, powershell=None)
    octopus = OctopusServer(world, rate_limit=6)
    octopus.start()
    try:
        with client(octopus, octopus.api_key) as api:
            assert [api.get("/api/users/me").status_code for _ in range(7)] == [200] * 6 + [429]
            refused = api.get("/api/users/me")
            assert refused.headers["Retry-After"] == "10"
            assert refused.json()["ErrorMessage"]
            other = octopus.add_api_key("other")
            with client(octopus, other) as unhurt:
                assert unhurt.get("/api/users/me").status_code == 200
            clock.advance(10)
            assert api.get("/api/users/me").status_code == 200
    finally:
        octopus.close()
        world.close()


def test_faults_of_the_answers(octopus: OctopusServer, api: httpx.Client, record: str) -> None:
    """429, 500 and 503 as asked for; a lost answer has done its work, a lost PUT has not."""
    octopus.faults.rate_limited, octopus.faults.retry_after = 1, 7
    assert api.get("/api/users/me").headers["Retry-After"] == "7"
    octopus.faults.server_errors = 1
    assert [api.get("/api/users/me").status_code for _ in range(2)] == [500, 200]
    octopus.faults.down = True
    assert api.get("/api").status_code == 503
    octopus.faults.down = False
    document = octopus.document(record)
    document["Endpoint"]["Thumbprint"] = OTHER
    octopus.faults.lost_puts = 1
    assert api.put(f"{SPACE}/machines/{record}", json=document).json()["Thumbprint"] == OTHER
    assert octopus.document(record)["Thumbprint"] != OTHER
    octopus.faults.out_of_date = 1
    raced = api.put(f"{SPACE}/machines/{record}", json=document)
    assert raced.status_code == 400
    assert "submitted data was out of date" in raced.json()["ErrorMessage"]
    octopus.faults.lost_answers = 1
    assert api.put(f"{SPACE}/machines/{record}", json=document).status_code == 502
    assert octopus.document(record)["Thumbprint"] == OTHER
    octopus.faults.vanishing.add(record)
    assert api.put(f"{SPACE}/machines/{record}", json=document).status_code == 404
    assert not octopus.exists(record)
    assert len(octopus.puts) == 1


def test_maintenance_mode_stops_whoever_is_no_administrator(octopus: OctopusServer, record: str) -> None:
    """Reading goes on, writing does not."""
    key = octopus.add_api_key("plain", ("MachineView", "MachineEdit"))
    octopus.faults.maintenance = True
    with client(octopus, key) as plain:
        document = plain.get(f"{SPACE}/machines/{record}").json()
        assert plain.put(f"{SPACE}/machines/{record}", json=document).status_code == 503
        assert plain.get("/api/maintenanceconfiguration").json()["IsInMaintenanceMode"] is True


def test_a_restart_refuses_connections_and_fails_what_ran(
    octopus: OctopusServer, api: httpx.Client, record: str
) -> None:
    """While the Server is away its port is closed; afterwards it is the same Server, and queued tasks go on."""
    deployment = octopus.start_deployment(record, 60)
    url = octopus.url
    octopus.stop()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/api")
    octopus.start()
    assert octopus.url == url
    assert httpx.get(f"{url}/api").status_code == 200
    assert octopus.tasks.get(deployment).state == "Failed"
    assert octopus.tasks.wait(ask_health(api, record)["Id"]).state == "Success"


def test_nodes_that_cache_fail_a_health_check_right_after_a_put(tmp_path: Path) -> None:
    """For some seconds after a PUT the nodes go by the thumbprint that stood there before."""
    clock = FakeClock()
    world = World(tmp_path, pace=0.02, clock=clock, powershell=None)
    octopus = OctopusServer(world)
    octopus.start()
    try:
        tentacle = world.add_host("web-01").add_tentacle()
        record = octopus.add_record("web-01", tentacle, Thumbprint=OTHER)
        assert octopus.check(record) == {record: "Unavailable"}
        octopus.faults.cache_seconds = 20
        document = octopus.document(record)
        document["Endpoint"]["Thumbprint"] = tentacle.configured
        with client(octopus, octopus.api_key) as api:
            assert api.put(f"{SPACE}/machines/{record}", json=document).status_code == 200
        assert octopus.check(record) == {record: "Unavailable"}
        clock.advance(21)
        assert octopus.check(record) == {record: "Healthy"}
    finally:
        octopus.close()
        world.close()


def test_a_failing_health_script_is_not_a_broken_connection(
    octopus: OctopusServer, api: httpx.Client, record: str
) -> None:
    """Unhealthy means reached, but its script complains: no matter of certificates."""
    octopus.faults.script_health[record] = "Unhealthy"
    task = octopus.tasks.wait(ask_health(api, record)["Id"])
    assert task.state == "Failed"
    assert octopus.health(record) == "Unhealthy"
    assert api.get(f"{SPACE}/machines/{record}/connection").json()["Status"] == "Online"


def test_a_worker_is_checked_in_the_same_task(
    world: World, octopus: OctopusServer, api: httpx.Client, record: str
) -> None:
    """Worker ids go into MachineIds beside those of targets."""
    tentacle = world.add_host("worker-01").add_tentacle()
    worker = octopus.add_record("worker-01", tentacle, kind=RecordKind.WORKER, pools=["Windows"])
    octopus.tasks.wait(ask_health(api, record, worker)["Id"])
    assert octopus.health(worker) == "Healthy"
    assert octopus.document(record)["IsInProcess"] is False


def test_a_polling_tentacle_is_waited_for(world: World, octopus: OctopusServer, api: httpx.Client) -> None:
    """A request waits in the queue until the Tentacle comes; if it never does, that is what the log says."""
    tentacle = world.add_host("edge-01").add_tentacle(style=Style.POLLING)
    record = octopus.add_record("edge-01", tentacle)
    octopus.checks.queue_seconds = 0.1
    tentacle.service.kill()
    world.wait(lambda: octopus.comms.caller(tentacle.subscription or "") is None, 2)
    assert octopus.check(record) == {record: "Unavailable"}
    assert "did not collect the request" in octopus.connection_log(record)[-1].text
    octopus.checks.queue_seconds = 3
    task = ask_health(api, record)
    tentacle.service.start()
    tentacle.service.wait_for(ServiceState.RUNNING, 2)
    octopus.tasks.wait(task["Id"])
    assert octopus.health(record) == "Healthy"
