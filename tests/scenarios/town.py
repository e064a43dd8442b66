"""The town in which scenarios play. Its sentences read like the thread."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import handlers
from bot.app import Bot
from bot.clock import SystemClock
from bot.domain.facts import ServiceState
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.slack.model import Message
from bot.sandbox.stories import is_over
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.settings import load
from bot.settings_operating import Address

T = TypeVar("T")

HURRY = 5
"""So many seconds pass for the bot in one of the machine's: what it waits for by the clock comes sooner."""
DEADLINES = """
[deadlines]
inspect_host = 100
visit = 150
program = 10
service_stop = 5
service_start = 5
loopback = 2
handshake = 5
idle = 50
health_task = 100
health_repeat = 20
polling_return = 40
host_return = 100
octopus_request = 10
server_program = 10
server_start = 6
drain = 20
"""
"""In the bot's seconds; those of hosts, programs and sockets are the machine's."""
DUE = datetime.now(UTC) - timedelta(hours=2)
"""When the radar had to look last: long ago enough that no test passes its hour, whatever the hour of the day is."""
RADAR = f'\n[radar]\nchannel = "C0DEPLOY"\nschedule = "{DUE.minute} {DUE.hour} * * *"\n'
ANSWER_SECONDS = 30.0
RUN_SECONDS = 60.0


def free_address() -> Address:
    """Return an address of this machine where nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address("127.0.0.1", listener.getsockname()[1])


def elsewhere(work: Callable[[], T]) -> T:
    """Do something on another thread: the browser's driver has an event loop on this one, which the engine minds."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


class ShiftedClock(SystemClock):
    """A clock that hurries, and whose date can be moved on: hours pass for expiry and clean-up."""

    def __init__(self) -> None:
        self.shift = timedelta()
        self.skip = 0.0
        """Seconds by which what is kept in memory seems older."""

    def now(self) -> datetime:
        """Return the present, moved on."""
        return super().now() + self.shift

    def monotonic(self) -> float:
        """Return the machine's seconds times `HURRY`, moved on."""
        return super().monotonic() * HURRY + self.skip

    def sleep(self, seconds: float) -> None:
        """Wait for so many of the clock's seconds."""
        super().sleep(seconds / HURRY)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until an event is set, at most so many of the clock's seconds; return whether it is."""
        return super().wait(event, seconds / HURRY)


class Town:
    """The sandbox and one bot in this process; `with` starts and ends both."""

    def __init__(
        self,
        state: Path,
        *,
        hosts: int = 12,
        extra: str = "",
        pace: float = 0.02,
        powershell: Path | None = None,
        nodes: Sequence[str] = ("OCTO-1",),
        http: Address | None = None,
        policy: str = "",
    ) -> None:
        self.http = http
        """Where the bot takes Slack's signed requests, if not by Socket Mode."""
        self.sandbox = Sandbox(
            state / "town",
            hosts=hosts,
            nodes=nodes,
            pace=pace,
            powershell=powershell,
            real_limits=False,
            policy=policy,
            extra=extra if "[deadlines]" in extra else DEADLINES + extra,
            request_url=f"http://{http.host}:{http.port}/slack/events" if http else None,
        )
        self.slack = self.sandbox.slack
        self.octopus = self.sandbox.octopus
        self.world = self.sandbox.world
        self.clock = ShiftedClock()
        self.bot: Bot | None = None
        self.process: Any = None
        """The bot as a process of its own, where a test has it so."""

    def __enter__(self) -> Self:
        self.start_bot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_bot()
        finally:
            self.sandbox.close()
        if value is None:
            assert self.slack.violations == [], "the bot sent something that Slack does not document"

    def start_bot(self) -> None:
        """Start the real bot with the configuration that the sandbox wrote."""

        def start() -> Bot:
            bot = Bot(load(self.sandbox.config), handlers.register, clock=self.clock, http=self.http)
            bot.start()
            return bot

        self.bot = elsewhere(start)
        if self.http is None:
            self.slack.wait_connected()

    def stop_bot(self) -> None:
        """Stop the bot as SIGTERM does."""
        if self.bot:
            elsewhere(self.bot.stop)
            self.bot = None

    def tentacle(self, name: str) -> TentacleInstance:
        """Return a Tentacle of the world by the name of its record."""
        return self.sandbox.estate.instances[name]

    def ask(self, person: str, text: str) -> Message:
        """Have a person send the command; return the bot's public answer, which no radar message is."""
        before = {m.ts for m in self.slack.messages()}
        receipt = self.slack.command(person, "deployments", text)
        assert receipt.acknowledged, receipt.error

        def answer() -> Message | None:
            new = [m for m in self.slack.messages() if m.ts not in before and m.is_bot]
            return next((m for m in new if not m.text.startswith("Radar")), None)

        return self.wait(answer)

    def ask_quietly(self, person: str, text: str, words: str = "") -> str:
        """Have a person send the command; return the answer that only they see and that holds these words."""
        before = {m.ts for m in self.slack.ephemerals(person)}
        self.slack.command(person, "deployments", text)
        return self.whisper(person, words, after=before)

    def whisper(self, person: str, words: str = "", after: set[str] | None = None) -> str:
        """Wait for something that only this person sees."""

        def found() -> str | None:
            for message in self.slack.ephemerals(person):
                if message.ts not in (after or set()) and words in message.content:
                    return message.content
            return None

        return self.wait(found)

    def press(self, person: str, message: Message, label: str) -> None:
        """Have a person press a button."""
        now = self.slack.message(message.ts) or message
        assert label in now.buttons, f"no {label} here: {now.content}\nThe conversation was:\n{self.slack.transcript()}"
        assert self.slack.click(person, message.ts, label).acknowledged

    def press_as_seen(self, person: str, seen: Message, label: str) -> None:
        """Have a person press a button that their client still shows, though the message has changed since."""
        assert self.slack.click_as_seen(person, seen, label).acknowledged

    def deny(self, person: str, message: Message, reason: str, label: str = "Deny") -> None:
        """Have a person press *Deny*, by whatever name the question calls it, and say why in the modal."""
        self.press(person, message, label)
        self.wait(lambda: self.slack.views(person))
        assert self.slack.submit_view(person, {"reason": reason}).acknowledged

    def end(self, root: Message, seconds: float = RUN_SECONDS) -> Message:
        """Wait until nothing happens any more in a run and all of it stands in Slack; return its root message."""
        self.wait(lambda: (m := self.slack.message(root.ts)) and is_over(m), seconds)
        if bot := self.bot:
            self.wait(lambda: bot.notifier.flush(0))
        elif process := self.process:
            self.wait(lambda: process.has_told_all)
        return self.slack.message(root.ts) or root

    def thread(self, root: Message) -> str:
        """Return all that stands in a thread."""
        return "\n".join(m.content for m in self.slack.thread(root.ts))

    def says(self, root: Message, words: str, seconds: float = ANSWER_SECONDS) -> str:
        """Wait until the thread holds these words; return all of it."""
        self.wait(lambda: words in self.thread(root), seconds)
        return self.thread(root)

    def rotate(self, targets: str, *, seconds: float = RUN_SECONDS) -> Message:
        """Rita asks, Ada approves, the run ends; return the root message."""
        root = self.ask("rita", f"rotate {targets}")
        assert "Approve" in root.buttons, root.content
        self.press("ada", root, "Approve")
        return self.end(root, seconds)

    def wait(self, condition: Callable[[], T | None], seconds: float = ANSWER_SECONDS) -> T:
        """Wait until a condition holds and return what it gives; the failure shows the whole conversation."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited {seconds:.0f} s in vain. The conversation was:\n{self.slack.transcript()}")

    def assert_good(self, name: str) -> None:
        """Assert that a Tentacle is as everybody wants it: it runs, all agree, Octopus finds it healthy."""
        row = next(r for r in self.sandbox.rows() if r["name"] == name)
        assert row["consistent"], row
        assert row["health"] == "Healthy", row
        assert self.tentacle(name).service.state is ServiceState.RUNNING

    def effects(self, name: str, kind: str) -> int:
        """Count how often something was done on a Tentacle's host."""
        host = self.tentacle(name).host.name
        return sum(e.host == host and e.kind == kind for e in self.world.effects)


def terminal(town: Town, *words: str, code: int = 0) -> str:
    """Run a command in a terminal beside the running bot; return what it prints."""
    command = [sys.executable, "-c", "from bot.cli import main; main()", *words, "--config", str(town.sandbox.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout
