"""The Octopus client against the sandbox's Octopus Server: real HTTP, real health checks, the traps of the real API."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.clock import Clock, SystemClock
from bot.domain.facts import Health, Record, RecordKind, Style
from bot.domain.thumbprint import Thumbprint
from bot.octopus.client import Client, OctopusError, OctopusErrorKind, RecordVanished
from bot.sandbox.octopus.permissions import SPACE_PERMISSIONS
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World
from bot.secrets import Secret

OLD, NEW, OTHER = Thumbprint("A" * 40), Thumbprint("B" * 40), Thumbprint("C" * 40)
DEADLINE = 60.0


class HurriedClock(SystemClock):
    """The clock of the machine, on which a wait takes a hundredth of its time."""

    def __init__(self) -> None:
        self._gained = 0.0

    def now(self) -> datetime:
        """Return the present, moved on by the time that waits did not take."""
        return datetime.now(UTC) + timedelta(seconds=self._gained)

    def monotonic(self) -> float:
        """Return the machine's seconds, moved on by the time that waits did not take."""
        return time.monotonic() + self._gained

    def sleep(self, seconds: float) -> None:
        """Wait for a hundredth of the time."""
        time.sleep(seconds / 100)
        self._gained += seconds * 0.99


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
def clock() -> Clock:
    """Return a clock on which waits are short."""
    return HurriedClock()


@pytest.fixture
def client(octopus: OctopusServer, clock: Clock) -> Iterator[Client]:
    """Connect with a key that may do everything."""
    made = Client(octopus.url, lambda: Secret(octopus.api_key), clock=clock, timeout=5)
    yield made
    made.close()


@pytest.fixture
def tentacle(world: World) -> TentacleInstance:
    """Install a listening Tentacle whose service does not run: enough for those who only read documents."""
    return world.add_host("web-01").add_tentacle(start=False)


def limited(octopus: OctopusServer, clock: Clock, key: str) -> Client:
    """Return a client for another key, to be closed by whoever asked for it."""
    return Client(octopus.url, lambda: Secret(key), clock=clock, timeout=5)


def only(client: Client, name: str) -> Record:
    """Return the one record of this name."""
    (found,) = [r for r in client.index().records if r.name == name]
    return found


# ---- reading


def test_the_index_shows_all_spaces_with_names(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance, world: World
) -> None:
    """Targets and workers of all spaces, more than a page of them, with the names of environments and pools."""
    octopus.add_space("Finance")
    for number in range(33):
        octopus.add_record(f"web-{number:02}", tentacle, environments=["Production", "Test"], roles=["web", "iis"])
    octopus.add_record("web-00", tentacle, space="Finance", environments=["Live"])
    octopus.add_record("worker-01", tentacle, kind=RecordKind.WORKER, pools=["Windows"])
    octopus.add_other("linux-01")

    index = client.index()
    assert len(index.records) == 35
    assert index.unreadable_spaces == ()
    assert index.other_machines == ("linux-01",)
    first = next(r for r in index.records if r.name == "web-00" and r.space == "Default")
    assert (first.environments, first.roles, first.style) == (("Production", "Test"), ("web", "iis"), Style.LISTENING)
    assert (first.thumbprint, first.health) == (tentacle.configured, Health.UNKNOWN)
    assert first.url == f"{octopus.url}/app#/Spaces-1/infrastructure/machines/{first.id}/settings"
    assert next(r.environments for r in index.records if r.space == "Finance") == ("Live",)
    worker = next(r for r in index.records if r.kind is RecordKind.WORKER)
    assert (worker.name, worker.pools, worker.environments) == ("worker-01", ("Windows",), ())


def test_a_space_that_is_seen_in_part_is_named(
    octopus: OctopusServer, client: Client, clock: Clock, tentacle: TentacleInstance
) -> None:
    """A key that is limited to an environment gets a shorter list without a word; it is named all the same."""
    octopus.add_record("web-01", tentacle, environments=["Test"])
    octopus.add_record("web-02", tentacle, environments=["Production"])
    octopus.add_space("Finance")
    octopus.add_record("web-03", tentacle, space="Finance", environments=["Live"])
    narrow = octopus.add_api_key("narrow", SPACE_PERMISSIONS, spaces=["Default"], environments=["Test"])
    blind = octopus.add_api_key("blind", ["MachineView"], spaces=["Finance"])

    one = limited(octopus, clock, narrow)
    index = one.index()
    one.close()
    assert [r.name for r in index.records] == ["web-01"]
    assert index.unreadable_spaces == ("Default (MachineView only for some environments or tenants)",)

    two = limited(octopus, clock, blind)
    index = two.index()
    two.close()
    assert [r.name for r in index.records] == ["web-03"]
    assert index.unreadable_spaces == ("Finance (missing: WorkerView)",)
    assert index.records[0].environments[0].startswith("Environments-")


def test_records_are_found_by_thumbprint_in_all_spaces(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """One Tentacle may stand in Octopus several times: as targets in spaces and as a worker."""
    octopus.add_space("Finance")
    octopus.add_record("web-01", tentacle, Thumbprint=str(OLD))
    octopus.add_record("web-01", tentacle, space="Finance", Thumbprint=str(OLD).lower())
    octopus.add_record("worker-01", tentacle, kind=RecordKind.WORKER, pools=["Windows"], Thumbprint=str(OLD))
    octopus.add_record("web-02", tentacle, Thumbprint=str(OTHER))
    found = client.carrying(OLD)
    assert [(r.name, r.space) for r in found] == [
        ("web-01", "Default"),
        ("worker-01", "Default"),
        ("web-01", "Finance"),
    ]


def test_pools_are_counted(octopus: OctopusServer, client: Client, world: World) -> None:
    """A pool's healthy workers are those that Octopus could use now."""
    for number in (1, 2, 3):
        instance = world.add_host(f"worker-0{number}").add_tentacle(start=False)
        record = octopus.add_record(instance.host.name, instance, kind=RecordKind.WORKER, pools=["Windows"])
        octopus.edit(record, HealthStatus="Healthy" if number != 1 else "Unavailable", IsDisabled=number == 3)
    pools = {p.name: (p.workers, p.healthy) for p in client.pools(octopus.space("Default"))}
    assert pools["Windows"] == (3, 1)


def test_the_server_tells_its_thumbprint_and_version(octopus: OctopusServer, client: Client) -> None:
    """The Server's certificate is what Tentacles must trust."""
    assert client.server_thumbprint() == octopus.thumbprint
    assert client.version() == "2026.2.1000"
    assert [s.name for s in client.spaces()] == ["Default"]


def test_octopus_is_a_witness_of_what_is_served(octopus: OctopusServer, client: Client, world: World) -> None:
    """The Server looks over the network itself; what it cannot see is a sentence, not an error."""
    instance = world.add_host("web-01").add_tentacle()
    octopus.add_record("web-01", instance)
    record = only(client, "web-01")
    seen = client.discover(record)
    assert (seen.place, seen.thumbprint, seen.error) == ("octopus", instance.served, None)
    lost = client.discover(replace(record, uri=f"https://{instance.host.address}:1/"))
    assert lost.thumbprint is None
    assert "unable to connect" in (lost.error or "")
    polling = client.discover(replace(record, style=Style.POLLING, uri="poll://abc/"))
    assert polling.error == "A polling Tentacle listens nowhere."


# ---- writing


def test_a_thumbprint_is_corrected_and_nothing_else(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """The whole document is replaced; policy, tags and all the rest are what they were before."""
    policy = octopus.add_policy("Default", "Strict", may_be_offline=False)
    id_ = octopus.add_record(
        "web-01", tentacle, environments=["Production"], roles=["web"], Thumbprint=str(OLD), MachinePolicyId=policy
    )
    before = octopus.document(id_)
    written = client.put_thumbprint(only(client, "web-01"), OLD, NEW)
    assert (written.changed, written.differences, only(client, "web-01").thumbprint) == (True, (), NEW)
    after = octopus.document(id_)
    before["Endpoint"]["Thumbprint"] = before["Thumbprint"] = str(NEW)
    assert after == before


def test_a_repeated_correction_changes_nothing(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """What is done already is done: no second PUT."""
    octopus.add_record("web-01", tentacle, Thumbprint=str(OLD))
    record = only(client, "web-01")
    assert client.put_thumbprint(record, OLD, NEW).changed
    assert not client.put_thumbprint(record, OLD, NEW).changed
    assert len(octopus.puts) == 1


def test_the_spelling_of_a_thumbprint_is_mended(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """Octopus compares case-sensitively, so the new thumbprint in small letters is not yet done."""
    id_ = octopus.add_record("web-01", tentacle, Thumbprint=str(NEW).lower())
    record = only(client, "web-01")
    assert (record.thumbprint, record.stored) == (NEW, str(NEW).lower())
    assert client.put_thumbprint(record, OLD, NEW).changed
    assert octopus.document(id_)["Endpoint"]["Thumbprint"] == NEW


def test_a_worker_is_corrected_as_well(octopus: OctopusServer, client: Client, tentacle: TentacleInstance) -> None:
    """Workers have other members than targets; they keep theirs."""
    id_ = octopus.add_record(
        "worker-01", tentacle, kind=RecordKind.WORKER, pools=["Windows", "Build"], Thumbprint=str(OLD)
    )
    octopus.edit(id_, IsDisabled=True)
    client.put_thumbprint(only(client, "worker-01"), OLD, NEW)
    assert (only(client, "worker-01").pools, only(client, "worker-01").is_disabled) == (("Windows", "Build"), True)
    assert octopus.document(id_)["Endpoint"]["Thumbprint"] == NEW


def test_a_record_of_somebody_else_is_left_alone(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """A thumbprint that is neither old nor new means that somebody else is at work."""
    id_ = octopus.add_record("web-01", tentacle, Thumbprint=str(OTHER))
    with pytest.raises(OctopusError, match=f"stores the thumbprint {OTHER}, neither the old one") as caught:
        client.put_thumbprint(only(client, "web-01"), OLD, NEW)
    assert caught.value.kind is OctopusErrorKind.CONFLICT
    assert (octopus.puts, octopus.document(id_)["Endpoint"]["Thumbprint"]) == ([], OTHER)


def test_a_vanished_record_is_reported_and_not_created(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """Gone before we look, or between our look and our PUT: it stays gone."""
    octopus.add_record("web-01", tentacle, Thumbprint=str(OLD))
    record = only(client, "web-01")
    octopus.faults.vanishing.add(record.id)
    for action in (
        lambda: client.put_thumbprint(record, OLD, NEW),
        lambda: client.record(record),
        lambda: client.health(record),
    ):
        with pytest.raises(RecordVanished, match="web-01 in Default is no longer in Octopus"):
            action()
    assert octopus.records == ()


def test_a_race_inside_the_server_is_run_again(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """Data that was out of date is read again and sent again; for ever it is an error in the Server's words."""
    octopus.add_record("web-01", tentacle, Thumbprint=str(OLD))
    record = only(client, "web-01")
    octopus.faults.out_of_date = 2
    assert client.put_thumbprint(record, OLD, NEW).changed
    octopus.faults.out_of_date = 99
    with pytest.raises(OctopusError, match="was out of date") as caught:
        client.put_thumbprint(record, NEW, OLD)
    assert caught.value.kind is OctopusErrorKind.CONFLICT


def test_an_accepted_put_that_stores_nothing_is_noticed(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """200 is no evidence: the document is read again, and once more is tried; then it is an error."""
    octopus.add_record("web-01", tentacle, Thumbprint=str(OLD))
    record = only(client, "web-01")
    octopus.faults.lost_puts = 1
    client.put_thumbprint(record, OLD, NEW)
    assert only(client, "web-01").thumbprint == NEW
    octopus.faults.lost_puts = 99
    with pytest.raises(OctopusError, match=f"but still stores {NEW}"):
        client.put_thumbprint(record, NEW, OLD)


def test_a_lost_answer_is_looked_up(octopus: OctopusServer, client: Client, tentacle: TentacleInstance) -> None:
    """A PUT that was carried out and then answered 502 is repeated harmlessly."""
    id_ = octopus.add_record("web-01", tentacle, Thumbprint=str(OLD))
    octopus.faults.lost_answers = 1
    assert client.put_thumbprint(only(client, "web-01"), OLD, NEW)
    assert octopus.document(id_)["Thumbprint"] == NEW


def test_a_change_beside_ours_is_told(octopus: OctopusServer, client: Client, tentacle: TentacleInstance) -> None:
    """Octopus has no concurrency token: what else became different around our PUT is shown to people."""
    id_ = octopus.add_record("web-01", tentacle, roles=["web"], Thumbprint=str(OLD), MachinePolicyId="")
    written = client.put_thumbprint(only(client, "web-01"), OLD, NEW)
    default = octopus.document(id_)["MachinePolicyId"]
    assert written.differences == (f"MachinePolicyId: '' → '{default}'",)


# ---- trouble


def test_a_restart_of_the_server_is_waited_out(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """While the Server restarts every call fails; with patience they are only late."""
    octopus.add_record("web-01", tentacle)
    octopus.restart(0.15)
    assert client.patient(600).index().records[0].name == "web-01"


def test_a_rate_limit_is_kept(octopus: OctopusServer, client: Client, tentacle: TentacleInstance) -> None:
    """429 slows us down and is no error."""
    octopus.add_record("web-01", tentacle)
    octopus.faults.rate_limited, octopus.faults.retry_after = 3, 2
    assert client.index().records[0].name == "web-01"


def test_a_wrong_key_and_a_missing_permission_are_told_apart(
    octopus: OctopusServer, client: Client, clock: Clock, tentacle: TentacleInstance
) -> None:
    """A key that nobody has, and a key that may not write, end in two sentences."""
    octopus.add_record("web-01", tentacle, environments=["Test"], Thumbprint=str(OLD))
    record = only(client, "web-01")
    stranger = limited(octopus, clock, "API-WRONG")
    with pytest.raises(OctopusError, match="does not accept the API key"):
        stranger.index()
    stranger.close()
    reader = limited(octopus, clock, octopus.add_api_key("reader", ["MachineView", "EnvironmentView"]))
    with pytest.raises(OctopusError, match=r"Give its team the permission MachineEdit\.") as caught:
        reader.put_thumbprint(record, OLD, NEW)
    reader.close()
    assert (caught.value.kind, caught.value.permission) == (OctopusErrorKind.FORBIDDEN, "MachineEdit")


def test_missing_permissions_are_known_beforehand(
    octopus: OctopusServer, client: Client, clock: Clock, tentacle: TentacleInstance
) -> None:
    """Permissions are asked for, per space and environment, instead of being tried by writing."""
    octopus.add_record("web-01", tentacle, environments=["Test"])
    octopus.add_record("web-02", tentacle, environments=["Test", "Production"])
    octopus.add_record("worker-01", tentacle, kind=RecordKind.WORKER, pools=["Windows"])
    web1, web2, worker = (only(client, name) for name in ("web-01", "web-02", "worker-01"))
    assert client.missing_permissions([web1, web2, worker]) == ()
    assert client.missing_permissions([]) == ()

    narrow = octopus.add_api_key("narrow", SPACE_PERMISSIONS, spaces=["Default"], environments=["Test"])
    one = limited(octopus, clock, narrow)
    assert one.missing_permissions([web1]) == ()
    assert one.missing_permissions([web2]) == tuple(
        f"{p} for the environment Production of Default"
        for p in ("MachineView", "MachineEdit", "TaskView", "TaskCreate")
    )
    one.close()

    blind = octopus.add_api_key("blind", ["MachineView", "MachineEdit", "TaskView", "TaskCreate", "WorkerView"])
    two = limited(octopus, clock, blind)
    assert two.missing_permissions([web1, worker]) == ("WorkerEdit in Default",)
    two.close()


# ---- tasks and health


def test_a_deployment_on_a_target_is_seen(octopus: OctopusServer, client: Client, world: World) -> None:
    """The target's own list tells what is deployed to it now; a neighbour is not concerned."""
    busy = octopus.add_record("web-01", world.add_host("web-01").add_tentacle(), environments=["Production"])
    octopus.add_record("web-02", world.add_host("web-02").add_tentacle(start=False), environments=["Production"])
    task = octopus.start_deployment(busy, 600)
    (seen,) = client.running_tasks(only(client, "web-01"))
    assert (seen.id, seen.name, seen.certain, seen.start) == (task, "Deploy", True, None)
    assert seen.url == f"{octopus.url}/app#/Spaces-1/tasks/{task}"
    assert client.running_tasks(only(client, "web-02")) == ()


def test_of_a_worker_nobody_tells(octopus: OctopusServer, client: Client, world: World) -> None:
    """Workers have no list of tasks: what runs in their space may use them or not."""
    target = octopus.add_record("web-01", world.add_host("web-01").add_tentacle())
    octopus.add_record(
        "worker-01", world.add_host("worker-01").add_tentacle(start=False), kind=RecordKind.WORKER, pools=["Windows"]
    )
    octopus.start_deployment(target, 600)
    (seen,) = client.running_tasks(only(client, "worker-01"))
    assert (seen.name, seen.certain) == ("Deploy", False)


def test_scheduled_deployments_are_seen_ahead(
    octopus: OctopusServer, client: Client, clock: Clock, tentacle: TentacleInstance
) -> None:
    """What begins within the hour is shown with its time, to the target itself and to its environment."""
    mine = octopus.add_record("web-01", tentacle, environments=["Production"])
    octopus.add_record("web-02", tentacle, environments=["Production"])
    octopus.add_record("web-03", tentacle, environments=["Test"])
    soon = clock.now() + timedelta(minutes=20)
    octopus.schedule_deployment(mine, soon)
    octopus.schedule_deployment(mine, clock.now() + timedelta(hours=5))

    assert client.running_tasks(only(client, "web-01")) == ()
    (seen,) = client.running_tasks(only(client, "web-01"), timedelta(hours=1))
    assert (seen.certain, seen.state) == (True, "Queued")
    assert seen.start is not None
    assert abs(seen.start - soon) < timedelta(seconds=1)
    (near,) = client.running_tasks(only(client, "web-02"), timedelta(hours=1))
    assert not near.certain
    assert client.running_tasks(only(client, "web-03"), timedelta(hours=1)) == ()


def test_health_is_checked_once_per_space_and_read(octopus: OctopusServer, client: Client, world: World) -> None:
    """One task for each space; the same description never queues a second one, and health is Octopus's own."""
    octopus.add_space("Finance")
    instance = world.add_host("web-01").add_tentacle()
    octopus.add_record("web-01", instance, environments=["Production"])
    octopus.add_record("web-01", instance, space="Finance", environments=["Live"])
    records = client.index().records
    started = client.start_health(records, "octocert r-1, wave 1")
    assert set(started) == {octopus.space("Default"), octopus.space("Finance")}
    again = client.start_health(records, "octocert r-1, wave 1")
    assert {s: t.id for s, t in again.items()} == {s: t.id for s, t in started.items()}
    assert client.start_health(records[:1], "octocert r-1, wave 2")[records[0].space_id].id not in {
        t.id for t in started.values()
    }

    states: list[str] = []
    for record in records:
        result = client.follow(started[record.space_id], DEADLINE, states.append)
        assert (result.completed, result.succeeded, result.state) == (True, True, "Success")
        report = client.health(record, result)
        assert (report.health, report.errors, report.task_state) == (Health.HEALTHY, (), "Success")
        assert report.task_url == result.url
        assert report.checked is not None
    assert states[-1] == "Success"


def test_a_successful_task_may_leave_an_unhealthy_machine(octopus: OctopusServer, client: Client, world: World) -> None:
    """The task succeeds though the machine is out of reach; the report tells why, with both thumbprints."""
    instance = world.add_host("web-01").add_tentacle()
    wrong = octopus.corrupt_thumbprint(octopus.add_record("web-01", instance))
    record = only(client, "web-01")
    (task,) = client.start_health([record], "octocert check").values()
    result = client.follow(task, DEADLINE)
    report = client.health(record, result)
    assert (result.succeeded, report.health) == (True, Health.UNAVAILABLE)
    assert report.mismatch is not None
    assert (report.mismatch.expected, report.mismatch.presented) == (wrong, instance.served)
    assert report.speaks_against_trust


def test_a_lost_answer_queues_no_second_task(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance
) -> None:
    """A task that was queued although the answer was lost is found by its description."""
    octopus.add_record("web-01", tentacle)
    record = only(client, "web-01")
    octopus.faults.lost_answers = 1
    client.start_health([record], "octocert once")
    assert [t.description for t in octopus.tasks.listed()] == ["octocert once"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("drained", "all nodes of the Server are drained"), ("queue", "the task queue of the space is stopped")],
)
def test_a_task_that_is_not_begun_is_not_proven(
    octopus: OctopusServer, client: Client, tentacle: TentacleInstance, fault: str, said: str
) -> None:
    """A task that stays queued proves nothing; the result says why, where Octopus tells."""
    octopus.add_record("web-01", tentacle)
    if fault == "drained":
        octopus.faults.drained = True
    else:
        octopus.stop_task_queue("Default")
    (task,) = client.start_health([only(client, "web-01")], "octocert waiting").values()
    result = client.follow(task, 10)
    assert (result.completed, result.state) == (False, "Queued")
    assert said in result.why


def test_a_task_is_followed_across_a_restart(octopus: OctopusServer, client: Client, world: World) -> None:
    """A Server that goes away while we follow is waited for."""
    octopus.add_record("web-01", world.add_host("web-01").add_tentacle())
    (task,) = client.start_health([only(client, "web-01")], "octocert across").values()
    octopus.restart(0.1)
    assert client.follow(task, 600).completed
