"""The sandbox's scheduled tasks: the backstop that starts a service, and Tentacle's watchdog."""

from datetime import timedelta
from pathlib import Path

import pytest

from bot.clock import FakeClock
from bot.domain.facts import ServiceState
from bot.sandbox.windows.schedule import WATCHDOG, TaskError, parse, split
from bot.sandbox.world import World

BACKSTOP = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers><TimeTrigger>
    <Repetition><Interval>PT1M</Interval><Duration>PT1H</Duration></Repetition>
    <StartBoundary>{start}</StartBoundary><EndBoundary>{end}</EndBoundary>
  </TimeTrigger></Triggers>
  <Principals><Principal id="Author"><UserId>S-1-5-18</UserId></Principal></Principals>
  <Settings><DeleteExpiredTaskAfter>PT0S</DeleteExpiredTaskAfter></Settings>
  <Actions Context="Author"><Exec><Command>%SystemRoot%\\System32\\sc.exe</Command>
    <Arguments>start "OctopusDeploy Tentacle"</Arguments></Exec></Actions>
</Task>
"""
SOON = 5.0


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock):
    """Make a world at its natural pace, whose time only moves when it is told to."""
    world = World(tmp_path, pace=1.0, clock=clock, powershell=None)
    yield world
    world.close()


def register(world: World, *, seconds: int = 150) -> str:
    """Register the backstop, to run in so many seconds, by schtasks.exe; return its name."""
    host = world.hosts["web-01"]
    start = host.now() + timedelta(seconds=seconds)
    xml = BACKSTOP.format(start=f"{start:%Y-%m-%dT%H:%M:%SZ}", end=f"{start + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}")
    file = host.root / "Windows/Temp/backstop.xml"
    file.write_text(xml, encoding="utf-16")
    result = host.run_program(["schtasks.exe", "/Create", "/TN", "octocert-run1", "/XML", str(file), "/F"])
    assert result.exit_code == 0, result.stderr
    return "octocert-run1"


def test_the_backstop_starts_what_a_dead_visit_left_stopped(world: World, clock: FakeClock) -> None:
    """Nobody comes back; the task starts the service at its time and not before."""
    service = world.add_host("web-01").add_tentacle().service
    register(world)
    service.stop()

    clock.advance(140)
    assert world.wait(lambda: service.is_stopped, SOON)
    clock.advance(10)
    assert world.wait(lambda: service.is_running, SOON)


def test_the_backstop_tries_again_each_minute_for_a_service_that_stops_late(world: World, clock: FakeClock) -> None:
    """At its first try the service is still stopping; a later one starts it."""
    host = world.add_host("web-01")
    service = host.add_tentacle().service
    name = register(world)
    host.faults.late_stop = 200.0
    service.stop()

    clock.advance(151)
    task = host.schedule.find(name)
    assert task
    assert world.wait(lambda: task.runs == 1, SOON)
    assert service.state is ServiceState.STOP_PENDING
    assert task.last_result == 1056
    clock.advance(50)
    assert world.wait(lambda: service.is_stopped, SOON)
    clock.advance(60)
    assert world.wait(lambda: service.is_running, SOON)


def test_an_expired_task_goes_away_by_itself(world: World, clock: FakeClock) -> None:
    """After its end boundary the task is deleted, as DeleteExpiredTaskAfter says."""
    host = world.add_host("web-01")
    host.add_tentacle()
    name = register(world)
    task = host.schedule.find(name)
    assert task

    for _ in range(65):
        clock.advance(60)
        world.timers.run_due()

    assert world.wait(lambda: host.schedule.find(name) is None, SOON)
    assert task.runs > 50


def test_a_removed_task_does_nothing_any_more(world: World, clock: FakeClock) -> None:
    """Deleting it once is a success, twice an error."""
    host = world.add_host("web-01")
    service = host.add_tentacle().service
    name = register(world)

    first = host.run_program(["schtasks.exe", "/Delete", "/TN", name, "/F"])
    second = host.run_program(["schtasks.exe", "/Delete", "/TN", name, "/F"])
    service.stop()
    clock.advance(600)
    assert world.wait(lambda: service.is_stopped, SOON)

    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "cannot find the file" in second.stderr
    assert not world.wait(lambda: not service.is_stopped, SOON)


def test_the_watchdog_starts_a_stopped_tentacle_within_five_minutes(world: World, clock: FakeClock) -> None:
    """It is registered by the program, shown by schtasks.exe, and does what it is for."""
    host = world.add_host("web-01")
    service = host.add_tentacle().service
    made = host.run_program(["Tentacle.exe", "watchdog", "--create"])
    shown = host.run_program(["schtasks.exe", "/Query", "/TN", WATCHDOG, "/FO", "CSV", "/NH"])
    service.stop()
    clock.advance(2)
    assert world.wait(lambda: service.is_stopped, SOON)

    clock.advance(300)

    assert "Creating scheduled task Octopus Watchdog Tentacle" in made.stdout
    assert shown.stdout.startswith(f'"\\{WATCHDOG}",')
    assert world.wait(lambda: service.is_running, SOON)


def test_the_pace_of_the_world_shortens_a_repetition(tmp_path: Path) -> None:
    """In a fast world the watchdog's five minutes are shorter, in the same measure as everything else."""
    world = World(tmp_path, pace=0.001, powershell=None)
    host = world.add_host("web-01")
    service = host.add_tentacle(watchdog=True).service

    service.stop()

    assert world.wait(lambda: [e.kind for e in world.effects].count("running") == 2, SOON)
    world.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("<EndBoundary>", "<!-- "), "malformed"),
        (("<EndBoundary>2026-01-05T11:00:00Z</EndBoundary>", ""), "EndBoundary"),
        (("<Command>%SystemRoot%\\System32\\sc.exe</Command>", ""), "Command"),
    ],
)
def test_wrong_xml_is_refused_with_its_place(change: tuple[str, str], words: str) -> None:
    """As Task Scheduler does, which never takes half a task."""
    xml = BACKSTOP.format(start="2026-01-05T10:00:00Z", end="2026-01-05T11:00:00Z").replace(*change)

    with pytest.raises(TaskError, match=words):
        parse("x", xml)


def test_arguments_are_split_as_windows_does() -> None:
    """Quotes hold words together, a backslash before a quote keeps it."""
    assert split('start "OctopusDeploy Tentacle: web"') == ["start", "OctopusDeploy Tentacle: web"]
    assert split(r'say "a \"b\" c" ""') == ["say", 'a "b" c', ""]
