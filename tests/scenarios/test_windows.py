"""Maintenance windows: an approved run waits for its time, through a restart, and again when its window closes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bot.domain.run import RunState
from tests.scenarios.town import Town


def windows(hours_ahead: float, hours_long: float) -> str:
    """Return a window for Production that opens in so many hours from now."""
    opens = datetime.now(UTC) + timedelta(hours=hours_ahead)
    closes = opens + timedelta(hours=hours_long)
    return f'[windows.nights]\nopens = "{opens:%H:%M}"\ncloses = "{closes:%H:%M}"\nenvironments = ["Production"]\n'


def test_an_approved_run_waits_for_its_window_through_a_restart(tmp_path: Path) -> None:
    """The plan says when; approved before, it says since when and until when it waits; then it works by itself."""
    with Town(tmp_path, extra=windows(4, 3)) as town:
        old = town.tentacle("web-01").configured
        root = town.ask("rita", "rotate web-01")
        assert "nights" in root.content
        assert "it begins by itself" in root.content
        town.press("ada", root, "Approve")
        waiting = town.wait(lambda: "Waiting for its time" in (m := town.slack.message(root.ts)).content and m)
        assert "since" in waiting.content
        assert "until" in waiting.content
        town.stop_bot()
        town.start_bot()
        town.clock.shift = timedelta(hours=2)
        assert town.bot
        assert town.bot.ledger.recent()[0].state is RunState.WAITING
        assert town.tentacle("web-01").configured == old
        town.clock.shift = timedelta(hours=5)
        town.says(root, "Its time has come")
        town.says(root, "The run is over", 60)
        town.assert_good("web-01")
        assert town.tentacle("web-01").configured != old


def test_a_run_that_waits_can_be_taken_back(tmp_path: Path) -> None:
    """Nothing was begun, and nothing begins when the window opens."""
    with Town(tmp_path, extra=windows(4, 3)) as town:
        old = town.tentacle("web-01").configured
        root = town.ask("rita", "rotate web-01")
        town.press("ada", root, "Approve")
        waiting = town.wait(lambda: "Stop" in (m := town.slack.message(root.ts)).buttons and m)
        town.press("rita", waiting, "Stop")
        town.says(root, "took this plan back")
        town.clock.shift = timedelta(hours=5)
        assert town.bot
        assert town.bot.ledger.recent()[0].state is RunState.CANCELLED
        assert town.tentacle("web-01").configured == old


def test_a_window_and_a_time_are_chosen_where_none_is_configured(tmp_path: Path) -> None:
    """`--at` begins not before that; `--window` waits for one that is not the environment's own."""
    with Town(tmp_path, extra=windows(4, 3)) as town:
        assert "names no window" in town.ask_quietly("rita", "rotate web-02 --window weekends", "no window")
        assert "does not understand" in town.ask_quietly("rita", "rotate web-02 --at noonish", "understand")
        later = town.ask("rita", "rotate web-02 --window nights")
        at = datetime.now(UTC) + timedelta(hours=2)
        soon = town.ask("rita", f'rotate worker-01 --at "{at:%Y-%m-%d %H:%M}"')
        for root in (later, soon):
            assert "it begins by itself" in root.content
            town.press("ada", root, "Approve")
            town.wait(lambda ts=root.ts: "Waiting for its time" in town.slack.message(ts).content)
        town.clock.shift = timedelta(hours=2.5)
        town.says(soon, "The run is over", 60)
        town.assert_good("worker-01")
        assert "Waiting for its time" in town.slack.message(later.ts).content
        town.clock.shift = timedelta(hours=5)
        town.says(later, "The run is over", 60)
        town.assert_good("web-02")


def test_a_run_waits_when_its_window_closes_between_waves(tmp_path: Path) -> None:
    """What is being worked on is finished; the next day it goes on where it was."""
    with Town(tmp_path, extra=windows(-1, 3)) as town:
        root = town.ask("rita", "rotate web-01 app-01-blue --batch 1 --canary 0")
        assert "That is now" in root.content
        busy = town.octopus.start_deployment(town.sandbox.estate.records["web-01"][0], 5.0)
        town.press("ada", root, "Approve")
        town.wait(lambda: "waiting for" in town.slack.message(root.ts).content)
        town.clock.shift = timedelta(hours=4)
        town.says(root, "Its window has closed", 60)
        assert town.octopus.tasks.get(busy).state == "Success"
        town.assert_good("web-01")
        assert "its window is closed" in town.wait(
            lambda: (m := town.slack.message(root.ts)) and "its window" in m.content and m.content
        )
        town.clock.shift = timedelta(hours=23, minutes=30)
        town.says(root, "The run is over", 60)
        town.assert_good("app-01-blue")


def test_whoever_must_work_outside_says_so_and_the_approver_reads_it(tmp_path: Path) -> None:
    """And targets of other environments do not wait at all."""
    with Town(tmp_path, extra=windows(4, 3)) as town:
        staging = town.ask("rita", "plan web-02")
        assert "nights" not in staging.content
        root = town.ask("rita", "rotate web-01 --accept outside-window")
        assert "outside the maintenance windows of Production" in root.content
        town.press("ada", root, "Approve")
        town.end(root)
        town.assert_good("web-01")
