"""kill -9 in trust, switch, follow, clean-up and on the way back: the bot finishes, and nobody is lost meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain.plan import StepKind
from tests.chaos.process import BotProcess
from tests.scenarios.serving import SHA1, ServerTown, Watch

pytestmark = pytest.mark.timeout(400)

MOMENTS = (StepKind.TRUST, StepKind.ADOPT, StepKind.FOLLOW)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[ServerTown]:
    """Return a town with two nodes, whose bot is a process of its own."""
    built = ServerTown(tmp_path, nodes=("OCTO-1", "OCTO-2"), pace=0.1)
    built.process = BotProcess(built.sandbox.config, tmp_path / "bot.log")
    try:
        reborn(built)
        yield built
    finally:
        built.process.kill()
        built.sandbox.close()


def reborn(town: ServerTown) -> None:
    """Kill the bot, if it lives, and start it."""
    town.process.kill()
    town.process.start()
    town.slack.wait_connected(60)


def test_killed_in_every_phase_it_switches_the_server_once(town: ServerTown) -> None:
    """Trust, switch, follow and clean-up are each cut off: one import, each node restarted once, told once."""
    root = town.ask_server()
    run_id = town.process.newest_run()
    with Watch(town) as watch:
        town.press("ada", root, "Approve")
        for moment in MOMENTS:
            town.process.wait_for_step(run_id, moment.value, 120)
            reborn(town)
        question = town.question(root, "Clean up?", 120)
        town.assert_switched(town.pfx())
        town.press("ada", question, "Remove the old trust")
        town.process.wait_for_step(run_id, StepKind.UNTRUST.value, 120)
        reborn(town)
        root = town.end(root, 120)
    assert watch.broken == []
    town.assert_switched(town.pfx())
    town.assert_all(
        lambda one: {t.text for t in one.trusted} == {str(town.pfx())}, [n for n in town.reachable if n != SHA1]
    )
    effects = [(e.host, e.kind) for e in town.world.effects]
    assert effects.count(("octopus", "import")) == 1
    assert all(effects.count((n.host.name, "stop")) == 1 for n in town.nodes)
    town.says(root, "The run is over")
    replies = [m.content for m in town.slack.thread(root.ts)[1:]]
    assert len(replies) == len(set(replies)), replies


def test_killed_on_the_way_back_it_puts_the_old_certificate_back(town: ServerTown) -> None:
    """The second node refuses the new one, and the bot dies while it puts the old one back."""
    town.nodes[1].refuses.add(town.pfx())
    root = town.ask_server()
    with Watch(town) as watch:
        town.press("ada", root, "Approve")
        town.wait(lambda: sum((e.host, e.kind) == ("octopus", "import") for e in town.world.effects) == 2, 120)
        reborn(town)
        town.end(root, 120)
        town.wait(lambda: all(n.is_running for n in town.nodes))
    assert watch.broken == []
    town.assert_as_before()
    assert sum((e.host, e.kind) == ("octopus", "import") for e in town.world.effects) == 2, "there and back, once each"
