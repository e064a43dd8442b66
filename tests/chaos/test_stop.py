"""Asked to stop, the bot begins nothing new and lets what runs end; asked twice it ends at once. Both are safe."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain.plan import StepKind
from tests.chaos.process import START_SECONDS, BotProcess
from tests.scenarios.town import Town

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a town whose bot is a process of its own; slow enough that a signal finds it at work."""
    built = Town(tmp_path, pace=0.3)
    built.process = BotProcess(built.sandbox.config, tmp_path / "bot.log")
    try:
        built.process.start()
        built.slack.wait_connected(START_SECONDS)
        yield built
    finally:
        built.process.kill()
        built.sandbox.close()


def test_sigterm_lets_the_step_end_and_begins_no_other(town: Town) -> None:
    """The visit that runs is finished, its next step waits for the next start, and nothing is made twice."""
    root = town.ask("rita", "rotate web-01")
    run_id = town.process.newest_run()
    town.press("ada", root, "Approve")
    town.process.wait_for_step(run_id, StepKind.BACKUP.value)
    assert town.process.stop() == 0
    assert town.effects("web-01", "make") == 1
    assert not town.process.step_is(run_id, StepKind.RECORD.value)
    log = town.process.log.read_text()
    assert "octocert has stopped" in log
    assert "Traceback" not in log
    assert '"level": "error"' not in log
    town.process.start()
    town.end(root, 90)
    town.assert_good("web-01")
    assert town.effects("web-01", "make") == 1


def test_sigterm_twice_is_at_once_and_safe(town: Town) -> None:
    """It leaves in the middle of a visit; the host goes on by itself, and the next start finds out how far it came."""
    root = town.ask("rita", "rotate web-01")
    run_id = town.process.newest_run()
    town.press("ada", root, "Approve")
    town.process.wait_for_step(run_id, StepKind.BACKUP.value)
    assert town.process.stop_at_once() == 128 + 15
    assert "octocert has stopped" not in town.process.log.read_text()
    town.process.start()
    town.end(root, 90)
    town.assert_good("web-01")
    assert town.effects("web-01", "make") == 1


def test_who_waits_for_an_answer_is_told_that_there_will_be_none(tmp_path: Path) -> None:
    """Acknowledged, being worked on, and cut off by the end: nothing fails silently."""
    town = Town(tmp_path, extra="[operating]\ndrain = 0.5\n")
    town.process = BotProcess(town.sandbox.config, tmp_path / "bot.log")
    try:
        town.process.start()
        town.slack.wait_connected(START_SECONDS)
        town.octopus.faults.down = True
        town.ask_quietly("rita", "rotate web-01", "Looking at")
        begin = time.monotonic()
        assert town.process.stop() == 0
        assert time.monotonic() - begin < 20, "nobody waits until the Octopus Server is given up"
        assert "I am being stopped" in town.whisper("rita", "I am being stopped")
    finally:
        town.process.kill()
        town.sandbox.close()


def test_a_connection_that_forgets_that_it_ends_is_left_all_the_same(tmp_path: Path) -> None:
    """The library takes back that it ends when a thread of its own takes the connection up in that very moment."""
    with Town(tmp_path) as town:
        assert town.bot
        assert town.bot._socket
        client = town.bot._socket._handler.client
        forgotten = threading.Event()

        def forget() -> None:
            while not client.closed:
                time.sleep(0.001)
            while client.current_session.is_active():
                time.sleep(0.001)
            client.current_session_state.terminated = False  # as its _run_current_session does
            forgotten.set()
            client.current_session.run_until_completion(client.current_session_state)

        thread = threading.Thread(target=forget, daemon=True)
        client.current_session_runner.thread = thread  # the one whose end the library waits for
        thread.start()
        town.stop_bot()
        assert forgotten.is_set()
        assert not thread.is_alive()
