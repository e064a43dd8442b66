"""What works on a target now, and what names mean: a fleet asks the same for each target, Octopus is asked once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.clock import FakeClock
from bot.domain.facts import Record, RecordKind
from bot.octopus.client import Client, OctopusError
from bot.octopus.records import NAMES_SECONDS
from bot.octopus.work import SHARED_SECONDS
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.world import World
from bot.secrets import Secret


class Place:
    """An Octopus Server with one worker, and a client whose clock stands still."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, pace=0.02, powershell=None)
        self.octopus = OctopusServer(self.world)
        self.octopus.start()
        self.clock = FakeClock()
        self.client = Client(
            self.octopus.url, lambda: Secret(self.octopus.api_key), clock=self.clock, timeout=5, patience=0
        )
        add = self.world.add_host
        self.target = self.octopus.add_record("web-01", add("web-01").add_tentacle())
        self.octopus.add_record(
            "worker-01", add("worker-01").add_tentacle(start=False), kind=RecordKind.WORKER, pools=["Windows"]
        )
        self.worker: Record = next(r for r in self.client.index().records if r.name == "worker-01")

    def seen(self) -> list[str]:
        """Return what may be running on the worker."""
        return [task.name for task in self.client.running_tasks(self.worker)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Return a place where little happens."""
    made = Place(tmp_path)
    yield made
    made.client.close()
    made.octopus.close()
    made.world.close()


def test_who_asks_within_a_second_gets_the_same_answer(place: Place) -> None:
    """And no longer than that: a deployment that began meanwhile is seen by the next one."""
    assert place.seen() == []
    place.octopus.start_deployment(place.target, 600)
    assert place.seen() == []
    place.clock.advance(SHARED_SECONDS + 0.1)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: place.seen(), range(16)))
    assert answers == [["Deploy"]] * 16


def test_a_failure_is_shared_with_nobody_who_comes_later(place: Place) -> None:
    """Octopus was away for one question; the next is asked anew, at the same moment."""
    place.octopus.faults.down = True
    with pytest.raises(OctopusError):
        place.seen()
    place.octopus.faults.down = False
    place.octopus.start_deployment(place.target, 600)
    assert place.seen() == ["Deploy"]


def test_of_many_who_need_names_one_asks_for_them(place: Place) -> None:
    """What was remembered of worker pools is too old; sixteen threads read the worker at once."""
    place.clock.advance(NAMES_SECONDS + 0.1)
    before = len(place.octopus.traffic)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: place.client.record(place.worker).pools, range(16)))
    assert found == [("Windows",)] * 16
    asked = [t.path for t in place.octopus.traffic[before:]]
    assert len([path for path in asked if path.endswith("/workerpools/all")]) == 1
    assert len(asked) == 17
