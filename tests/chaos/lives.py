"""Lives of a bot that may end at any instant: real steps on the real sandbox, and a memory as a durable engine's."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from slack_sdk import WebClient

from bot.app import clients_of
from bot.certificates.authorities import Authorities
from bot.certificates.sources import Sources
from bot.clock import SystemClock
from bot.runs.announcer import Announcer
from bot.runs.auditing import audit_of
from bot.runs.carrier import RunCarrier
from bot.runs.carrying import Replaced
from bot.runs.control import Control
from bot.runs.database import Database
from bot.runs.gates import Gates
from bot.runs.gear import Gear
from bot.runs.inspector import Inspector
from bot.runs.issuing import Issuing
from bot.runs.ledger import Ledger
from bot.runs.node_steps import NodeSteps
from bot.runs.notes import Notes
from bot.runs.outbox import DurableOutbox
from bot.runs.recorded import StrictJson
from bot.runs.rotation import Rotation
from bot.runs.server_breaking import ServerBreaking
from bot.runs.server_carrier import ServerCarrier
from bot.runs.server_closing import ServerClosing
from bot.runs.server_inspector import ServerInspector
from bot.runs.server_opening import ServerOpening
from bot.runs.server_watch import ServerWatch
from bot.runs.timetable import Timetable
from bot.settings import Settings
from bot.settings_windows import zone_of
from bot.slack.notifier import Notifier
from bot.windows.breaker import Breaker

T = TypeVar("T")
NAP = 0.02
"""Seconds of the machine that a wait takes, however long it is by the bot's clock."""
BEFORE, AFTER, INSIDE = "before", "after", "inside"
"""Where a life ends: before a step's effect, after it with nothing recorded of it, or somewhere inside of some step."""


class Death(BaseException):
    """The bot is gone. No `except Exception` outlives it, as none outlives a power cut."""


class Mortal:
    """Counts the steps and the looks at the clock of one life, and ends it where it is told to."""

    def __init__(self, where: str = "", number: int = 0) -> None:
        self._where, self._number = where, number
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self.is_dead = False

    def live(self, where: str) -> None:
        """Go on, or die here; the dead do nothing more, on no thread."""
        with self._lock:
            self._seen[where] = self._seen.get(where, 0) + 1
            if where == self._where and self._seen[where] == self._number:
                self.is_dead = True
            if self.is_dead:
                raise Death


class HastyClock(SystemClock):
    """A clock by which waits take next to no time; whoever has died is told so whenever it is asked."""

    def __init__(self, passed: list[float], mortal: Mortal, on_wait: Callable[[], None]) -> None:
        self._passed = passed
        """Seconds that were slept through, in all lives together."""
        self._mortal = mortal
        self._on_wait = on_wait

    def monotonic(self) -> float:
        """Return the machine's seconds, and those that were slept through."""
        self._mortal.live(INSIDE)
        return super().monotonic() + sum(self._passed)

    def sleep(self, seconds: float) -> None:
        """Take a nap for a wait."""
        self._mortal.live(INSIDE)
        nap = min(seconds, NAP)
        time.sleep(nap)
        self._passed.append(seconds - nap)
        self._on_wait()


class Memory:
    """What the durable engine keeps: the results of finished steps, by workflow. It outlives every life."""

    def __init__(self) -> None:
        self._json = StrictJson()
        self._steps: dict[str, list[tuple[str, str]]] = {}
        self._ends: dict[str, str] = {}
        self.names: list[str] = []
        """The steps that were done, in order."""

    def done(self, key: str) -> bool:
        """Whether a workflow has ended."""
        return key in self._ends

    def end(self, key: str, result: Any) -> None:
        """Keep what a workflow returned."""
        self._ends[key] = self._json.serialize(result)

    def result(self, key: str) -> Any:
        """Return what a workflow returned."""
        return self._json.deserialize(self._ends[key])

    def step(self, key: str, number: int) -> tuple[str, Any] | None:
        """Return name and result of a step, None if it was never finished."""
        steps = self._steps.get(key, [])
        return (steps[number][0], self._json.deserialize(steps[number][1])) if number < len(steps) else None

    def keep(self, key: str, name: str, result: Any) -> None:
        """Keep what a step returned."""
        self._steps.setdefault(key, []).append((name, self._json.serialize(result)))
        self.names.append(name)


class Doing:
    """Does workflows and steps as the durable engine does, one after the other: what was done is not done again."""

    def __init__(self, memory: Memory, mortal: Mortal, on_step: Callable[[int], None]) -> None:
        self._memory, self._mortal, self._on_step = memory, mortal, on_step
        self._at: list[list[Any]] = []
        """The workflows under way, the innermost last: key and number of the next step."""
        self.carrier: RunCarrier | None = None

    def workflow(self, key: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do a workflow from its start, or return what it returned."""
        if not self._memory.done(key):
            self._at.append([key, 0])
            self._memory.end(key, work(*arguments))
            self._at.pop()
        return self._memory.result(key)

    def step(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run one step, or return what it returned before; a replay that takes another way fails."""
        key, number = self._at[-1]
        self._at[-1][1] += 1
        known = self._memory.step(key, number)
        if known is not None:
            assert known[0] == name, f"{key}: the step {number} was {known[0]}, and is {name} in the replay"
            result: T = known[1]
            return result
        self._on_step(len(self._memory.names))
        self._mortal.live(BEFORE)
        result = function(*arguments)
        self._mortal.live(AFTER)
        self._memory.keep(key, name, result)
        return result

    def tend_all(self, run_id: str, targets: Sequence[str], task: str) -> dict[str, dict[str, Any]]:
        """Do one phase's work on several Tentacles."""
        assert self.carrier
        return {t: self.workflow(f"{run_id}:{task}:{t}", self.carrier.tend, run_id, t, task) for t in targets}

    def replace_all(self, run_id: str, groups: Mapping[str, Sequence[str]], turn: int = 1) -> Replaced:
        """Replace several certificates, and prove the health of each group."""
        assert self.carrier
        replaced = Replaced({}, {})
        for group, targets in groups.items():
            mine = {t: self.workflow(f"{run_id}:replace:{t}:{turn}", self.carrier.replace, run_id, t) for t in targets}
            proof = self.workflow(f"{run_id}:prove:{group}", self.carrier.prove, run_id, group, mine)
            replaced.targets.update(mine)
            replaced.proofs[group] = proof
        return replaced

    def put_back_all(self, run_id: str, targets: Iterable[tuple[str, str]]) -> None:
        """Undo several targets."""
        assert self.carrier
        for target, why in targets:
            self.workflow(f"{run_id}:put_back:{target}", self.carrier.put_back, run_id, target, why)

    def settle_all(self, run_id: str, targets: Iterable[tuple[str, str]]) -> None:
        """End several targets whose work broke off."""
        assert self.carrier
        for target, why in targets:
            self.workflow(f"{run_id}:settle:{target}", self.carrier.settle, run_id, target, why)


class Life:
    """One process of the bot, as far as it carries out runs: everything real but Slack, which is never asked."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        memory: Memory,
        passed: list[float],
        mortal: Mortal,
        on_step: Callable[[int], None] = lambda _: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        clock = HastyClock(passed, mortal, on_wait)
        engine = database.engine
        self.ledger = Ledger(engine, clock)
        audit = audit_of(settings, engine, clock)
        outbox = DurableOutbox(engine)
        announcer = Announcer(self.ledger, outbox, Notifier(WebClient(token="xoxb-nobody"), outbox, clock), clock)
        timetable = Timetable({}, zone_of, clock)
        breaker = Breaker()
        self._tools = clients_of(settings, clock, breaker)
        self.inspector = Inspector(self._tools)
        self.server_inspector = ServerInspector(self._tools, self.inspector)
        self.gear = Gear(
            ledger=self.ledger,
            announcer=announcer,
            control=Control(self.ledger, announcer, audit, timetable, clock),
            timetable=timetable,
            audit=audit,
            octopus=self._tools.octopus,
            hands=self._tools.hands,
            directory=self._tools.directory,
            sources=Sources({n: (p.path, p.password) for n, p in settings.certificates.pfx.items()}),
            issuing=Issuing(Authorities.of(settings, clock), engine, audit, clock),
            see=self._tools.see,
            clock=clock,
            deadlines=settings.deadlines,
            notes=Notes(engine, clock),
            gates=Gates(engine, self.ledger, clock, minutes=30),
            breaker=breaker,
        )
        rotation = Rotation(self.gear)
        nodes = NodeSteps(self.gear, rotation, self.server_inspector)
        self.doing = Doing(memory, mortal, on_step)
        server = ServerCarrier(
            self.gear,
            rotation,
            nodes,
            ServerOpening(self.gear, self.server_inspector, nodes),
            ServerClosing(self.gear, nodes),
            ServerWatch(self.gear, self.server_inspector, nodes),
            ServerBreaking(self.gear, nodes, self.server_inspector),
            self.doing,
        )
        self.carrier = self.doing.carrier = RunCarrier(self.gear, self.inspector, server, 1, self.doing)

    def close(self) -> None:
        """Let go of connections and threads."""
        self.inspector.close()
        self._tools.octopus.close()
