"""kill -9 at any instant: the bot comes back and finishes, and nothing is done twice that must not be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain.plan import StepKind
from tests.chaos.process import START_SECONDS, BotProcess
from tests.scenarios.town import Town

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a town whose bot is a process of its own; slow enough that a kill finds it at work."""
    built = Town(tmp_path, pace=0.3)
    built.process = BotProcess(built.sandbox.config, tmp_path / "bot.log")
    try:
        built.process.start()
        built.slack.wait_connected(START_SECONDS)
        yield built
    finally:
        built.process.kill()
        built.sandbox.close()


def test_a_plan_waits_for_its_approval_while_the_bot_is_dead(town: Town) -> None:
    """Killed after the plan was posted; the button works when it is back, and the thread is one."""
    root = town.ask("rita", "rotate web-01")
    town.process.kill()
    town.process.start()
    town.slack.wait_connected(START_SECONDS)
    town.press("ada", root, "Approve")
    town.end(root, 90)
    town.assert_good("web-01")
    assert town.effects("web-01", "make") == 1
    assert len([m for m in town.slack.messages() if m.is_bot]) == 1


LISTENING = [StepKind.IDLE, StepKind.BACKUP, StepKind.MAKE, StepKind.RESTART, StepKind.RECORD, StepKind.HEALTH]
POLLING = [StepKind.MAKE, StepKind.RECORD, StepKind.RESTART]


@pytest.mark.parametrize(
    ("target", "step"),
    [*(("web-01", s) for s in LISTENING), *(("edge-01", s) for s in POLLING)],
    ids=lambda value: value.name.lower() if isinstance(value, StepKind) else value,
)
def test_killed_in_a_step_it_goes_on_and_makes_nothing_twice(town: Town, target: str, step: StepKind) -> None:
    """Whichever step it dies in: one certificate was made, all witnesses agree, the thread tells the end once."""
    old = town.tentacle(target).configured
    root = town.ask("rita", f"rotate {target}")
    run_id = town.process.newest_run()
    town.press("ada", root, "Approve")
    town.process.wait_for_step(run_id, step.value)
    town.process.kill()
    town.process.start()
    root = town.end(root, 120)
    town.says(root, "healthy")
    town.assert_good(target)
    assert town.tentacle(target).configured != old
    assert town.effects(target, "make") == 1
    town.says(root, "The run is over")
    replies = [m.content for m in town.slack.thread(root.ts)[1:]]
    assert sum(str(old) in r and "healthy" in r.casefold() for r in replies) == 1


@pytest.mark.parametrize("step", [StepKind.BACKUP, StepKind.IMPORT, StepKind.RESTART], ids=lambda s: s.name.lower())
def test_killed_with_a_key_in_memory_it_puts_one_certificate_in_force(town: Town, step: StepKind) -> None:
    """The key dies with the bot. What was imported stays; otherwise another one is signed and the thread says so."""
    web = town.tentacle("web-01")
    root = town.ask("rita", "rotate web-01 --with ca:demo")
    run_id = town.process.newest_run()
    town.press("ada", root, "Approve")
    town.process.wait_for_step(run_id, step.value)
    town.process.kill()
    town.process.start()
    root = town.end(root, 120)
    thread = town.says(root, "The run is over")
    town.assert_good("web-01")
    assert town.effects("web-01", "import") == 1
    signed = town.process.signed(run_id)
    assert str(web.configured) in signed
    for other in signed - {str(web.configured)}:
        assert f"{other} was signed and never put in force" in thread


def test_sigterm_is_graceful_and_resumable(town: Town) -> None:
    """Asked to stop in mid-run it ends cleanly; started again it finishes."""
    root = town.ask("rita", "rotate web-01")
    run_id = town.process.newest_run()
    town.press("ada", root, "Approve")
    town.process.wait_for_step(run_id, StepKind.BACKUP.value)
    assert town.process.stop() == 0
    town.process.start()
    town.end(root, 90)
    town.assert_good("web-01")
    assert town.effects("web-01", "make") == 1


def test_a_run_of_the_release_before_goes_on_its_old_way(town: Town) -> None:
    """It had begun the work on its targets as its children: what its journal says of them is what it finds."""
    root = town.ask("rita", "rotate web-01 web-02")
    run_id = town.process.newest_run()
    town.press("ada", root, "Approve")
    town.process.wait_for_step(run_id, StepKind.RESTART.value)
    town.process.kill()
    assert town.process.began_beside(run_id)
    parts = {f"{run_id}:replace:{name}": "replace" for name in ("web-01", "web-02")}
    town.process.begun_as_children(run_id, parts | {f"{run_id}:prove:1": "prove"})
    town.process.start()
    root = town.end(root, 120)
    town.says(root, "The run is over")
    for name in ("web-01", "web-02"):
        town.assert_good(name)
        assert town.effects(name, "make") == 1
    assert not town.process.began_beside(run_id)
