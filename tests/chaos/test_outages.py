"""Outages that last: Slack away for minutes, a disk of its own that is full, a clock that was put back."""

import contextlib
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.plan import StepKind
from tests.chaos.process import BotProcess
from tests.scenarios.town import Town

pytestmark = pytest.mark.timeout(180)

PAUSE = 30.0
"""Seconds; the longest that the notifier leaves Slack alone."""


def test_minutes_without_slack_cost_no_message_and_no_work(tmp_path: Path) -> None:
    """The run goes on without an audience; when Slack is back the thread tells all of it, once and in order."""
    with Town(tmp_path) as town:
        root = town.ask("rita", "rotate web-01 edge-01 --canary 0")
        town.press("ada", root, "Approve")
        faults, bot = town.slack.faults, town.bot
        assert bot
        faults.server_errors = 100_000
        town.wait(lambda: bot.ledger.recent(1)[0].state.is_over, 60)

        def pass_by() -> bool:
            """Let some time go by; return whether Slack was tried often enough."""
            town.clock.skip += PAUSE / 4
            town.clock.shift += timedelta(seconds=PAUSE / 4)
            return len(town.slack.traffic) > tried + 6 and town.clock.shift > timedelta(minutes=10)

        tried = len(town.slack.traffic)
        town.wait(pass_by, 60)
        faults.server_errors = 0
        town.clock.skip += PAUSE
        town.wait(lambda: pass_by() and "The run is over" in town.thread(root), 60)
        thread = town.thread(root)
        assert thread.index("approved plan") < thread.index("is rotated and healthy") < thread.index("The run is over")
        replies = [m.content for m in town.slack.thread(root.ts)[1:]]
        assert len(replies) == len(set(replies))
        town.end(root)
        for name in ("web-01", "edge-01"):
            town.assert_good(name)
            assert town.effects(name, "make") == 1


def test_a_clock_that_is_put_back_in_mid_run_ends_it_all_the_same(tmp_path: Path) -> None:
    """Two hours forward, then a day back: no step waits for a time that is far away, and the audit chain is whole."""
    with Town(tmp_path, pace=0.2) as town:
        root = town.ask("rita", "rotate web-01 edge-01 --canary 0")
        town.press("ada", root, "Approve")
        bot = town.bot
        assert bot
        town.wait(lambda: any(o.kind == "make" for o in town.world.effects))
        town.clock.shift = timedelta(hours=2)
        town.wait(lambda: bot.ledger.recent(1)[0].outcomes)
        town.clock.shift = timedelta(days=-1)
        town.says(root, "The run is over", 90)
        for name in ("web-01", "edge-01"):
            town.assert_good(name)
            assert town.effects(name, "make") == 1
        assert list(bot.audit.flaws()) == []
        assert bot.ledger.locked_hosts() == []


class SmallDisk:
    """A folder for a database, on a file system of 4 MB of its own; where none may be mounted, files get a limit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
        self.is_mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
        self._ballast = folder / "ballast"

    def fill(self, process: BotProcess) -> None:
        """Leave no room."""
        if not self.is_mounted:
            process.limit_files(4096)
            return
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def empty(self, process: BotProcess) -> None:
        """Make room again."""
        process.limit_files(None)
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Give it back."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Return a small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    built = SmallDisk(folder)
    yield built
    built.close()


def test_a_disk_that_is_full_is_waited_for(tmp_path: Path, disk: SmallDisk) -> None:
    """The bot writes nothing while there is no room, and goes on by itself when there is."""
    town = Town(tmp_path, pace=0.3)
    config, database = town.sandbox.config, disk.folder / "octocert.sqlite"
    text = config.read_text()
    line = next(one for one in text.splitlines() if one.startswith('url = "sqlite'))
    config.write_text(text.replace(line, f'url = "sqlite:///{database}"'))
    process = BotProcess(config, tmp_path / "bot.log")
    process.database = database
    try:
        process.start()
        town.slack.wait_connected(60)
        root = town.ask("rita", "rotate web-01")
        run_id = process.newest_run()
        town.press("ada", root, "Approve")
        process.wait_for_step(run_id, StepKind.BACKUP.value)
        disk.fill(process)
        town.wait(lambda: "the database is away" in process.log.read_text(), 60)
        disk.empty(process)
        town.says(root, "The run is over", 90)
        town.assert_good("web-01")
        assert town.effects("web-01", "make") == 1
    finally:
        process.kill()
        town.sandbox.close()
