"""The Server's rotation and maintenance windows: what begins waits for them, what is half done never does."""

from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.facts import ServiceState
from bot.domain.run import RunState
from tests.scenarios.serving import ServerTown, Watch
from tests.scenarios.test_windows import windows

pytestmark = pytest.mark.timeout(180)


def state_of(town: ServerTown) -> RunState:
    """Return the state of the newest run."""
    assert town.bot
    return town.bot.ledger.recent()[0].state


def at(town: ServerTown, hours: float) -> None:
    """Put the clock so many hours after the beginning."""
    town.clock.shift = timedelta(hours=hours)


def test_it_waits_for_its_window_but_never_with_half_a_switch(tmp_path: Path) -> None:
    """Approved early it waits; closed in mid-switch it goes on; the clean-up waits for the next night."""
    with ServerTown(tmp_path, extra=windows(4, 3)) as town, Watch(town) as watch:
        busy = town.octopus.start_deployment(town.sandbox.estate.records["lost-01"][0], 3_600)
        root = town.ask_server()
        assert "nights" in root.content
        assert "it begins by itself" in root.content
        town.press("ada", root, "Approve")
        town.wait(lambda: state_of(town) is RunState.WAITING)
        assert not any(e.kind in {"trust", "adopt", "stop"} for e in town.world.effects)
        at(town, 5)
        town.says(root, "Its time has come")
        town.reply(root, "The run pauses")
        assert town.nodes[0].is_drained
        at(town, 8)  # the window has closed while people were asked about a drained node
        town.octopus.tasks.cancel(busy)
        paused = town.wait(lambda: "Resume" in (m := town.slack.message(root.ts)).buttons and m)
        town.press("ada", paused, "Resume")
        question = town.question(root, "Clean up?")
        town.assert_switched(town.pfx())
        town.press("ada", question, "Remove the old trust")
        town.says(root, "Its window has closed")
        town.assert_all(lambda one: len(one.trusted) == 2)
        at(town, 28.5)
        town.end(root, 90)
        assert town.trusted("web-01") == {str(town.pfx())}
        assert watch.broken == []


def test_the_way_back_is_never_made_to_wait(tmp_path: Path) -> None:
    """The Server does not come up, and by then its window has closed: the old certificate is put back at once."""
    with ServerTown(tmp_path, extra=windows(-1, 3)) as town:
        town.nodes[0].refuses.add(town.pfx())
        root = town.ask_server()
        assert "That is now" in root.content
        town.press("ada", root, "Approve")
        town.wait(lambda: any(e.kind == "adopt" for e in town.world.effects), 60)
        at(town, 4)
        town.end(root, 120)
        town.wait(lambda: town.nodes[0].service.service.state is ServiceState.RUNNING)
        town.assert_as_before()
        assert "old certificate was put back" in town.says(root, "put back")
