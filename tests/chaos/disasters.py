"""Disasters: what may happen to bot, database, Octopus, Slack and hosts in the middle of a run, and how it ends."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from bot.runs.leases import EXIT_FENCED
from tests.chaos.process import BotProcess
from tests.scenarios import postgres
from tests.scenarios.town import Town

LEASE = 4.0
"""Seconds; of the bots on Postgres."""
CONNECT_SECONDS = 90.0
Disaster = Callable[["Scene"], None]


class Scene:
    """A town, its bots and its database, in which disasters happen."""

    def __init__(self, town: Town, bots: list[BotProcess], chance: random.Random, *, url: str, clock: Path) -> None:
        self.town = town
        self.bots = bots
        self.chance = chance
        self.url = url
        self.clock = clock
        self.targets: list[str] = []
        """What is being rotated."""
        self.kills = 0
        self.fenced = 0
        """How often a bot ended itself."""

    @property
    def is_shared(self) -> bool:
        """Whether the database is a Postgres, with several bots."""
        return not self.url.startswith("sqlite")

    def pause(self, least: float, most: float) -> None:
        """Let some time go by."""
        time.sleep(self.chance.uniform(least, most))

    def bot(self) -> BotProcess:
        """Return any bot."""
        return self.chance.choice(self.bots)

    def keep(self) -> None:
        """Start bots again that ended themselves for want of a lease, as a service manager does."""
        for bot in self.bots:
            if bot.exit_code == EXIT_FENCED:
                bot.start()
                self.fenced += 1

    def connect(self) -> None:
        """Wait until all bots hold their connections again."""
        end = time.monotonic() + CONNECT_SECONDS
        while self.town.slack.connections < len(self.bots) and time.monotonic() < end:
            self.keep()
            time.sleep(0.05)
        self.town.slack.wait_connected(1, count=len(self.bots))


def kill(scene: Scene) -> None:
    """Kill a bot, and start it again a moment later."""
    bot = scene.bot()
    bot.kill()
    scene.kills += 1
    scene.pause(0.0, 1.0)
    bot.start()


def kill_all(scene: Scene) -> None:
    """Cut the power of all machines."""
    for bot in scene.bots:
        bot.kill()
        scene.kills += 1
    for bot in scene.bots:
        bot.start()


def freeze(scene: Scene) -> None:
    """Suspend a machine for longer than a lease; where others had its work, it ends itself and is started again."""
    bot = scene.bot()
    bot.freeze()
    time.sleep(LEASE * 1.5)
    bot.thaw()
    if scene.is_shared:
        assert bot.wait(30) == EXIT_FENCED, "a frozen bot went on"
        scene.keep()


def restart_postgres(scene: Scene) -> None:
    """Crash the database."""
    postgres.restart(scene.url)


def restart_octopus(scene: Scene) -> None:
    """Have the Octopus Server away for some seconds."""
    scene.town.octopus.restart(scene.chance.uniform(1.0, 4.0))


def lose_slack(scene: Scene) -> None:
    """Have Slack answer nothing but errors for a while, and drop all connections."""
    faults = scene.town.slack.faults
    faults.disconnect("drop")
    faults.server_errors = 100_000
    scene.pause(3.0, 6.0)
    faults.server_errors = 0


def cut_hosts(scene: Scene) -> None:
    """Cut the connections to the hosts, several times, wherever the visits are."""
    for _ in range(4):
        scene.town.sandbox.winrm.cut(scene.town.tentacle(scene.chance.choice(scene.targets)).host.name)
        scene.pause(0.1, 0.8)


def fill_disk(scene: Scene) -> None:
    """Let the bot write nothing for some seconds, as on a full disk."""
    bot = scene.bot()
    bot.limit_files(4096)
    scene.pause(2.0, 4.0)
    bot.limit_files(None)


def jump_clock(scene: Scene) -> None:
    """Put the clock of all bots two hours forward, and later one back."""
    now = float(scene.clock.read_text())
    scene.clock.write_text(str(now + 7200))
    scene.pause(1.0, 3.0)
    scene.clock.write_text(str(now + 3600))


ALONE: tuple[Disaster, ...] = (
    fill_disk,
    kill,
    cut_hosts,
    jump_clock,
    kill,
    lose_slack,
    restart_octopus,
    kill,
    freeze,
)
"""On SQLite, with one bot."""
SHARED: tuple[Disaster, ...] = (restart_postgres, kill, freeze, kill_all, lose_slack, kill, cut_hosts)
"""On Postgres, with three."""
