"""The chaos suite: run after run, a disaster in each, and the world as the judge."""

import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from bot.audit import AuditLog
from bot.clock import SystemClock
from bot.domain.facts import ServiceState
from bot.domain.run import StepState
from bot.runs.ledger import Ledger
from bot.sandbox.slack.model import Message
from tests.chaos.disasters import ALONE, LEASE, SHARED, Disaster, Scene, jump_clock
from tests.chaos.process import BotProcess
from tests.chaos.server_runs import ServerRun
from tests.scenarios import postgres
from tests.scenarios.town import Town

TARGETS = ("web-01", "web-02", "edge-01", "edge-02", "worker-01", "shared-01", "app-01-blue")
AT_ONCE = 3
BEGIN_SECONDS, END_SECONDS, PRESSES = 60.0, 240.0, 5


@dataclass(slots=True)
class Figures:
    """What happened, and what was lost."""

    runs: int = 0
    kills: int = 0
    fenced: int = 0
    """Bots that ended themselves because they could not renew their lease in time."""
    steps: int = 0
    repeats: int = 0
    """Workflows that were gone on with after a death."""
    disasters: Counter[str] = field(default_factory=Counter)
    recovery: list[float] = field(default_factory=list)
    """Seconds from the end of a disaster until the run did something again that the world saw, or was over."""
    losses: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return all of it as one line of JSON."""
        times = sorted(self.recovery) or [0.0]
        return json.dumps(
            {
                "runs": self.runs,
                "kills": self.kills,
                "fenced": self.fenced,
                "steps": self.steps,
                "repeats": self.repeats,
                "recoveries": len(self.recovery),
                "recovery_seconds": {"median": round(statistics.median(times), 2), "most": round(times[-1], 2)},
                "disasters": dict(self.disasters),
                "losses": self.losses,
            }
        )


class Judge:
    """Looks at world, thread, ledger and audit; what is not as it should be is a loss."""

    def __init__(self, town: Town, engine: sa.Engine) -> None:
        self._town = town
        self._engine = engine
        self.ledger = Ledger(engine, SystemClock())
        self._audit = AuditLog(engine, SystemClock())

    def losses(self, run_id: str, root: Message, targets: list[str], made: dict[str, int]) -> Iterator[str]:
        """Yield a sentence for everything that was lost in one run."""
        town, run = self._town, self.ledger.run(run_id)
        for name in targets:
            outcome = next((t.outcome for t in run.targets if t.name == name), None)
            if outcome is None:
                yield f"{run_id}: {name} has no outcome"
            if not town.sandbox.consistent(name):
                yield f"{run_id}: {name} is inconsistent"
            if town.tentacle(name).service.state is not ServiceState.RUNNING:
                yield f"{run_id}: the service of {name} is {town.tentacle(name).service.state.value}"
            now = town.effects(name, "make") - made[name]
            if now > 1:
                yield f"{run_id}: {now} certificates were made on {name}"
        replies = [m.content for m in town.slack.thread(root.ts)[1:] if m.is_bot]
        for text, number in Counter(replies).items():
            if number > 1:
                yield f"{run_id}: the thread says {number} times: {text[:80]}"
        if sum("The run is over" in r for r in replies) != 1:
            yield f"{run_id}: the thread does not tell the end"
        entries = [e.entry for e in self._audit.entries(limit=2000) if e.entry.run == run_id]
        if [e.kind for e in entries].count("approved") != 1:
            yield f"{run_id}: {[e.kind for e in entries].count('approved')} approvals in the audit"
        yield from (f"audit: {flaw}" for flaw in self._audit.flaws())
        with self._engine.connect() as connection:
            locks = connection.execute(sa.text("select count(*) from octocert_host_locks")).scalar_one()
        if locks:
            yield f"{run_id}: {locks} host locks are left"

    def work(self) -> tuple[int, int]:
        """Return how many steps the durable engine has recorded, and how many workflows were gone on with."""
        prefix = "dbos." if self._engine.dialect.name == "postgresql" else ""
        with self._engine.connect() as connection:
            steps = connection.execute(sa.text(f"select count(*) from {prefix}operation_outputs")).scalar_one()
            again = connection.execute(
                sa.text(f"select count(*) from {prefix}workflow_status where recovery_attempts > 1")
            ).scalar_one()
        return int(steps), int(again)


@contextmanager
def scene(folder: Path, url: str | None, chance: random.Random) -> Iterator[tuple[Scene, Judge]]:
    """Build a town with one bot on SQLite, or three on the Postgres at `url`."""
    town = Town(folder, pace=0.3)
    clock = folder / "clock"
    clock.write_text("0")
    address = url or f"sqlite:///{town.sandbox.state / 'octocert.sqlite'}"
    if url:
        config = town.sandbox.config
        text = config.read_text()
        line = next(one for one in text.splitlines() if one.startswith('url = "sqlite'))
        config.write_text(text.replace(line, f'url = "{url}"') + f"\n[replicas]\nlease = {LEASE}\n")
    bots = [BotProcess(town.sandbox.config, folder / f"bot-{n}.log", clock=clock) for n in range(3 if url else 1)]
    driver = sa.make_url(address).set(drivername="postgresql+psycopg") if url else sa.make_url(address)
    engine = sa.create_engine(driver, pool_pre_ping=True)
    try:
        for bot in bots:
            bot.start()
        built = Scene(town, bots, chance, url=address, clock=clock)
        built.connect()
        yield built, Judge(town, engine)
    finally:
        for bot in bots:
            bot.kill()
        engine.dispose()
        town.sandbox.close()


def play(place: Scene, judge: Judge, disaster: Disaster, figures: Figures) -> None:
    """Ask, approve, let the disaster strike, wait for the end, and judge."""
    town = place.town
    place.connect()
    targets = place.targets = place.chance.sample(TARGETS, AT_ONCE)
    made = {name: town.effects(name, "make") for name in targets}
    root = town.ask("rita", f"rotate {' '.join(targets)}")
    run_id = judge.ledger.recent(1)[0].id
    if disaster is not jump_clock and place.chance.random() < 0.3:  # a jump would rightly have the proposal expire
        # the approval itself must survive: it comes in the moment in which the disaster ends
        disaster(place)
        place.connect()
        approve(town, root, judge, run_id)
    else:
        approve(town, root, judge, run_id)
        end = time.monotonic() + BEGIN_SECONDS
        while time.monotonic() < end and not began(judge, run_id):
            time.sleep(0.02)
        place.pause(0.0, 2.5)
        disaster(place)
    before, ended = signs(town), time.monotonic()
    if not judge.ledger.standing(run_id).state.is_over:  # else it did all of its work in the disaster
        while signs(town) == before and not judge.ledger.standing(run_id).state.is_over:
            if time.monotonic() - ended > END_SECONDS:
                break
            place.keep()
            time.sleep(0.02)
        figures.recovery.append(time.monotonic() - ended)
    figures.runs += 1
    figures.disasters[disaster.__name__] += 1
    end = time.monotonic() + END_SECONDS
    while "The run is over" not in town.thread(root):
        if time.monotonic() > end:
            state = judge.ledger.standing(run_id).state.value
            figures.losses.append(f"{run_id}: after {disaster.__name__} it did not end; it is {state}")
            return
        place.keep()
        time.sleep(0.1)
    figures.losses += [f"{loss} (after {disaster.__name__})" for loss in judge.losses(run_id, root, targets, made)]


def play_server(place: Scene, judge: Judge, disaster: Disaster, figures: Figures) -> None:
    """Play the same for the Server's certificate: several parts, with a decision of people between them."""
    town = place.town
    place.connect()
    run = ServerRun(place)
    with run.watch:
        root = run.ask()
        run_id = judge.ledger.recent(1)[0].id
        approve(town, root, judge, run_id)
        end, strike = time.monotonic() + END_SECONDS, time.monotonic() + place.chance.uniform(0.0, 12.0)
        struck = before = None
        while "The run is over" not in town.thread(root):
            if time.monotonic() > end:
                state = judge.ledger.standing(run_id).state.value
                figures.losses.append(f"{run_id}: after {disaster.__name__} it did not end; it is {state}")
                return
            if struck is None and time.monotonic() > strike:
                disaster(place)
                struck, before = time.monotonic(), signs(town)
            elif struck and before and signs(town) != before:
                figures.recovery.append(time.monotonic() - struck)
                before = None
            place.keep()
            run.answer(root)
            time.sleep(0.1)
        figures.runs += 1
        figures.disasters[disaster.__name__] += 1
        figures.losses += [f"{loss} (after {disaster.__name__})" for loss in run.losses(run_id, root)]


def approve(town: Town, root: Message, judge: Judge, run_id: str) -> None:
    """Have Ada approve, and press again where Slack said that it was not heard, as people do."""
    for _ in range(PRESSES):
        town.slack.click("ada", root.ts, "Approve")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if judge.ledger.decision(run_id):
                return
            time.sleep(0.05)


def began(judge: Judge, run_id: str) -> bool:
    """Whether any step of a target was begun, or all is over."""
    run = judge.ledger.run(run_id)
    return run.state.is_over or any(s.state is not StepState.PENDING for t in run.targets for s in t.steps)


def signs(town: Town) -> tuple[int, int]:
    """Return what grows when a bot does something."""
    return sum(town.sandbox.winrm.requests.values()), len(town.world.effects)


def run(kills: int, *, seed: int, folder: Path | None = None, server: bool = False, only: str = "") -> Figures:
    """Play runs until so many bots were killed, half of them on Postgres where it is installed.

    With `server`, every other run is one of the Server's certificate. With `only`, that disaster strikes in each of so
    many runs.
    """
    figures, chance = Figures(), random.Random(seed)
    alone, together = ([d for d in every if only in {"", d.__name__}] for every in (ALONE, SHARED))
    shared = (kills // 2 if alone else kills) if together and postgres.programs() else 0
    for part, disasters, use_postgres in ((kills - shared, alone, False), (shared, together, True)):
        if not part or not disasters:
            continue
        with (
            tempfile.TemporaryDirectory(prefix="octocert-chaos-", dir=folder) as name,
            postgres.server() if use_postgres else nullcontext() as url,
            scene(Path(name), url, chance) as (place, judge),
        ):
            number = 0
            while (number if only else place.kills) < part and not figures.losses:
                story = play_server if server and number % 2 else play
                story(place, judge, disasters[number % len(disasters)], figures)
                number += 1
            steps, again = judge.work()
            figures.steps += steps
            figures.repeats += again
            figures.kills += place.kills
            figures.fenced += place.fenced
            if figures.losses and folder:
                for log in Path(name).glob("bot-*.log"):
                    (folder / log.name).write_bytes(log.read_bytes())
    return figures
