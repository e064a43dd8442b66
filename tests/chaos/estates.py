"""Generated estates, what goes wrong in them, and the people around a run; each is played in a sandbox of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from hypothesis import strategies as st

from bot.domain.errors import UserError
from bot.domain.facts import RecordKind, ServiceState, Style, Trust
from bot.domain.names import targets
from bot.domain.plan import Order, Plan, Request, Source
from bot.domain.planner import make_plan
from bot.domain.run import Decision, Run, RunState
from bot.domain.server_planner import make_server_plan
from bot.domain.thumbprint import Thumbprint
from bot.runs import tables
from bot.runs.control import GOING
from bot.runs.database import Database
from bot.runs.gates import DENIED
from bot.sandbox.estate import Estate
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.windows.host import HostFaults
from bot.sandbox.windows.service import Service
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World
from bot.settings import load
from tests.chaos.lives import AFTER, BEFORE, INSIDE, Death, Life, Memory, Mortal
from tests.scenarios.serving import Watch

RUN = "r-generated"
LINES = ("begin", "stopping", "stopped", "started", "program", "end")
"""Lines of a visit at which its connection is cut, or its process killed."""
DEADLINES = """
[deadlines]
inspect_host = 300
visit = 300
program = 10
service_stop = 2
service_start = 2
loopback = 1
handshake = 2
idle = 20
health_task = 200
health_repeat = 20
polling_return = 30
host_return = 60
octopus_request = 5
server_program = 10
server_start = 2
server_away = 200
drain = 10
"""
"""Those of hosts pass on their machines; all others pass as fast as waits of the bot do."""
MOST_ANSWERS = 4
"""How often people answer; after that they deny and stop."""
CALM_SECONDS = 20.0
AS_POLLER = "-polling"
"""How the second record of a Tentacle that listens and polls is called, after its first one."""
LISTENS, POLLS, BOTH = "listens", "polls", "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One Tentacle of an estate, and what goes wrong with it after the approval."""

    style: str = LISTENS
    is_worker: bool = False
    is_disabled: bool = False
    is_offline: bool = False
    """Its service is stopped."""
    is_unreachable: bool = False
    """WinRM does not reach its host."""
    is_in_two_spaces: bool = False
    cut_at: str | None = None
    kill_shell_at: str | None = None
    slow_stop: float = 0.0
    watchdog_restarts: bool = False
    goes_away: bool = False
    """WinRM reaches its host no more once the plan is approved."""
    is_changed: bool = False
    """Somebody has it trust another Server, too, once the plan is approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFault:
    """What goes wrong with one node of the Server after the approval."""

    node: int = 0
    refuses_new: bool = False
    import_lies: bool = False
    export_wrong: bool = False
    export_broken: bool = False
    goes_away: bool = False
    cut_at: str | None = None
    kill_shell_at: str | None = None
    is_busy: bool = False
    """Its task does not end before it is drained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An estate, and everything that happens to it."""

    machines: tuple[Machine, ...]
    nodes: int = 1
    asleep: int | None = None
    """A node that does not run."""
    source: str = "pfx:server"
    order: Order = Order.DEFAULT
    fault: NodeFault = NodeFault()
    server_errors: int = 0
    lost_answers: int = 0
    rate_limited: int = 0
    deaths: tuple[tuple[str, int], ...] = ()
    """Where each life ends that does; the next one lives until the run is over."""
    stopped_after: int | None = None
    """After so many steps somebody presses *Stop*."""
    resumes: bool = True
    """Whether people resume a run that asks them, or stop it."""
    answers: tuple[bool, ...] = (True, True, True, True)
    """What people answer at gates."""


def _rarely(*, odds: int = 5) -> st.SearchStrategy[bool]:
    return st.integers(0, odds).map(lambda n: n == odds)


MAYBE_LINE = st.one_of(*[st.none()] * 4, st.sampled_from(LINES))
MACHINES = st.builds(
    Machine,
    style=st.sampled_from((LISTENS, LISTENS, LISTENS, POLLS, POLLS, BOTH)),
    is_worker=_rarely(),
    is_disabled=_rarely(),
    is_offline=_rarely(odds=8),
    is_unreachable=_rarely(odds=8),
    is_in_two_spaces=_rarely(),
    cut_at=MAYBE_LINE,
    kill_shell_at=MAYBE_LINE,
    slow_stop=st.sampled_from((0.0, 0.0, 0.0, 0.2)),
    watchdog_restarts=_rarely(odds=8),
    goes_away=_rarely(odds=15),
    is_changed=_rarely(odds=15),
)
NODE_FAULTS = st.one_of(
    st.just(NodeFault()),
    st.just(NodeFault()),
    *(
        st.builds(NodeFault, node=st.integers(0, 2), **{name: value})
        for name, value in {
            "refuses_new": st.just(value=True),
            "import_lies": st.just(value=True),
            "export_wrong": st.just(value=True),
            "export_broken": st.just(value=True),
            "goes_away": st.just(value=True),
            "is_busy": st.just(value=True),
            "cut_at": st.sampled_from(LINES),
            "kill_shell_at": st.sampled_from(LINES),
        }.items()
    ),
)
DEATHS = st.one_of(
    st.tuples(st.sampled_from((BEFORE, AFTER)), st.integers(1, 45)),
    st.tuples(st.just(INSIDE), st.integers(1, 400)),
)
STORIES = st.builds(
    Story,
    machines=st.lists(MACHINES, min_size=1, max_size=4).map(tuple),
    nodes=st.integers(1, 3),
    asleep=st.one_of(st.none(), st.none(), st.none(), st.integers(1, 2)),
    source=st.sampled_from(("pfx:server", "pfx:server", "new-certificate")),
    order=st.sampled_from((Order.DEFAULT, Order.DEFAULT, Order.DEFAULT, Order.DOCUMENTED)),
    fault=NODE_FAULTS,
    server_errors=st.sampled_from((0, 0, 0, 1, 3)),
    lost_answers=st.sampled_from((0, 0, 0, 1, 2)),
    rate_limited=st.sampled_from((0, 0, 0, 2)),
    deaths=st.one_of(st.just(()), *[st.lists(DEATHS, min_size=1, max_size=3).map(tuple)] * 3),
    stopped_after=st.one_of(*[st.none()] * 5, st.integers(1, 45)),
    resumes=st.booleans(),
    answers=st.lists(st.sampled_from((True, True, True, False)), min_size=MOST_ANSWERS, max_size=MOST_ANSWERS).map(
        tuple
    ),
)


class Place:
    """The sandbox of one story."""

    def __init__(self, story: Story, folder: Path) -> None:
        self.story = story
        self.instances: dict[str, TentacleInstance] = {}
        self.sandbox = Sandbox(
            folder / "town",
            pace=0.01,
            powershell=None,
            real_limits=False,
            nodes=[f"OCTO-{n + 1}" for n in range(story.nodes)],
            build=self._build,
            extra=DEADLINES,
        )
        self.octopus: OctopusServer = self.sandbox.octopus
        self.octopus.checks.queue_seconds = 0.5
        self.world = self.sandbox.world
        if story.asleep is not None and story.asleep < story.nodes:
            self.octopus.nodes[story.asleep].halt()
        self.drained = {n.name: n.is_drained for n in self.octopus.nodes}
        self.running = [s for s in self.services() if s.state is ServiceState.RUNNING]
        self.old = self.octopus.thumbprint
        self.reachable = {
            name: self.instances[name]
            for name, m in self._named()
            if m.style != POLLS and not m.is_offline and not m.is_unreachable and not m.goes_away
        }
        """The Tentacles that must never be without a matching trust."""

    def _named(self) -> list[tuple[str, Machine]]:
        return [(f"t{n}", m) for n, m in enumerate(self.story.machines)]

    def _build(self, world: World, octopus: OctopusServer, _count: int, *, others: bool = False) -> Estate:
        records: dict[str, list[str]] = {}
        pollers: dict[str, TentacleInstance] = {}
        for space in ("Default", "Payments"):
            octopus.add_space(space)
        for name, machine in self._named():
            style = Style.POLLING if machine.style == POLLS else Style.LISTENING
            made = self.instances[name] = world.add_host(name).add_tentacle(style=style)
            kind = RecordKind.WORKER if machine.is_worker else RecordKind.TARGET
            spaces = ("Default", "Payments") if machine.is_in_two_spaces else ("Default",)
            where = {"pools": ["Pool"]} if machine.is_worker else {"environments": ["Production"]}
            records[name] = [
                octopus.add_record(name, made, kind=kind, space=s, IsDisabled=machine.is_disabled, **where)
                for s in spaces
            ]
            if machine.style == BOTH:
                pollers[name + AS_POLLER] = made
                records[name + AS_POLLER] = [octopus.add_poller(name + AS_POLLER, made)]
            if machine.is_offline:
                made.service.kill()
            made.host.faults.unreachable = machine.is_unreachable
        octopus.check()
        return Estate(self.instances | pollers, records, {})

    def is_visitable(self, name: str) -> bool:
        """Whether WinRM reaches a Tentacle's host during the run."""
        machine = dict(self._named())[name]
        return not (machine.is_unreachable or machine.goes_away)

    def services(self) -> list[Service]:
        """Return the services of all Tentacles and nodes."""
        return [*(i.service for i in self.instances.values()), *(n.service.service for n in self.octopus.nodes)]

    def go_wrong(self) -> None:
        """Have everything go wrong that the story holds; from the approval on."""
        for name, machine in self._named():
            faults = self.instances[name].host.faults
            _spoil(faults, machine.cut_at, machine.kill_shell_at)
            faults.slow_stop, faults.watchdog_restarts = machine.slow_stop, machine.watchdog_restarts
            faults.unreachable = faults.unreachable or machine.goes_away
            if machine.is_changed:
                _trust_another(self.instances[name])
        fault = self.story.fault
        node = self.octopus.nodes[fault.node % len(self.octopus.nodes)]
        faults = node.host.faults
        _spoil(faults, fault.cut_at, fault.kill_shell_at)
        faults.server_import_lies, faults.server_export_wrong = fault.import_lies, fault.export_wrong
        faults.server_export_broken, faults.unreachable = fault.export_broken, fault.goes_away
        if fault.refuses_new:
            node.refuses = _AllBut(self.old)
        if fault.is_busy:
            self.octopus.start_deployment(self.octopus.records[0], 600, node=node.name)
        octopus = self.octopus.faults
        octopus.server_errors, octopus.lost_answers = self.story.server_errors, self.story.lost_answers
        octopus.rate_limited = self.story.rate_limited

    def losses(self) -> list[str]:
        """Return what is stopped that was not, or drained; services may need a moment."""
        self.world.wait(lambda: all(s.state is ServiceState.RUNNING for s in self.running), CALM_SECONDS)
        found = [f"{s.name} is {s.state.value}" for s in self.running if s.state is not ServiceState.RUNNING]
        return found + [f"{n.name} is drained" for n in self.octopus.nodes if n.is_drained != self.drained[n.name]]

    def close(self) -> None:
        """End it."""
        self.sandbox.close()


class _AllBut(set[Thumbprint]):
    """All certificates but one: the new one may not be known yet."""

    def __init__(self, one: Thumbprint) -> None:
        super().__init__()
        self._one = one

    def __contains__(self, other: object) -> bool:
        return other != self._one


def _spoil(faults: HostFaults, cut_at: str | None, kill_shell_at: str | None) -> None:
    faults.cut_at, faults.kill_shell_at = cut_at, kill_shell_at


def _trust_another(instance: TentacleInstance) -> None:
    instance.trust(Trust(text="AB" * 20, style=Style.LISTENING))


class Played:
    """A story that was played to its end, through all deaths."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place = place
        self._story = place.story
        self._settings = load(place.sandbox.config)
        self._memory = Memory()
        self._passed: list[float] = []
        self._answers = list(self._story.answers)
        self._parts: list[tuple[str, str]] = []
        self._life: Life | None = None
        self._database = Database(f"sqlite:///{folder}/bot.sqlite")
        self.plan: Plan | None = None
        self.deaths = 0

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def run(self) -> Run:
        """Return the run as the ledger has it."""
        life = self._living(Mortal())
        life.close()
        return life.ledger.run(RUN)

    def locks(self) -> int:
        """Return how many hosts are locked."""
        with self._database.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(tables.host_locks)).scalar_one())

    def propose_server(self) -> bool:
        """Plan the Server's rotation, accept what it would lose, and approve it; False where there is no plan."""
        life = self._living(Mortal())
        try:
            now, text = life.gear.clock.now(), self._story.source
            certificate = life.gear.sources.check("server", now) if text != "new-certificate" else None
            source, facts = Source(text=text, certificate=certificate), life.server_inspector.look()
            request = _request("server", source=text, order=self._story.order, batch=2)
            plan = make_server_plan(request, source, facts, now)
            assert plan.server
            accepted = replace(request, accept=(f"lost:{len(plan.server.lost)}",))
            self._approve(life, make_server_plan(accepted, source, facts, now))
        except UserError:
            return False
        finally:
            life.close()
        return True

    def propose_tentacles(self) -> bool:
        """Plan the rotation of all Tentacles, and approve it; False where nothing may be done."""
        life = self._living(Mortal())
        try:
            index = life.inspector.index()
            facts = life.inspector.look(targets(index), index)
            request = _request("all", order=self._story.order, batch=2)
            plan = make_plan(request, Source(text="new-certificate"), facts, index, (), life.gear.clock.now())
            if not plan.targets:
                return False
            self._approve(life, plan)
        finally:
            life.close()
        return True

    def _approve(self, life: Life, plan: Plan) -> None:
        now = life.gear.clock.now()
        decision = Decision(user="U0ADA", user_name="ada", approved=True, at=now)
        life.ledger.propose(plan, expires=now + timedelta(days=9), run_id=RUN, decision=decision)
        self.plan = plan
        self._parts = [("", RUN)]

    def play(self) -> None:
        """Carry the run out, life after life."""
        for where, number in (*self._story.deaths, ("", 0)):
            life = self._life = self._living(Mortal(where, number))
            try:
                while self._parts:
                    part, key = self._parts[0]
                    work = life.carrier.carry if part else life.carrier.carry_out
                    life.doing.workflow(key, work, RUN, *([part] if part else []))
                    self._parts = self._next(life)
            except Death:
                self.deaths += 1
            else:
                return
            finally:
                life.close()

    def _next(self, life: Life) -> list[tuple[str, str]]:
        """Answer the gate at which the run waits, and return the part that begins by that."""
        gate = life.gear.gates.waiting(RUN)
        if gate is None:
            return []
        approved = self._answers.pop(0) if self._answers else False
        decision = Decision(user="U0BEN", user_name="ben", approved=approved, at=life.gear.clock.now())
        with self._database.engine.begin() as connection:
            assert life.gear.gates.tip(connection, gate, decision)
        part = gate.gate if approved else f"{DENIED} {gate.gate}"
        return [(part, f"{RUN}:{part}:{gate.nonce}")]

    def _living(self, mortal: Mortal) -> Life:
        return Life(
            self._settings, self._database, self._memory, self._passed, mortal, self._after_steps, self._while_waiting
        )

    def _after_steps(self, number: int) -> None:
        """Have somebody press *Stop* after so many steps."""
        if number == self._story.stopped_after and self._life:
            self._life.ledger.move(RUN, of=GOING, to=RunState.STOPPING, stopped_by="U0RITA")

    def _while_waiting(self) -> None:
        """Have people answer a run that pauses and asks them."""
        ledger = self._life.ledger if self._life else None
        if ledger is None or ledger.standing(RUN).state is not RunState.PAUSED:
            return
        if self._story.resumes and self._answers:
            self._answers.pop()
            ledger.move(RUN, of=(RunState.PAUSED,), to=RunState.RUNNING)
        else:
            ledger.move(RUN, of=(RunState.PAUSED,), to=RunState.STOPPING, stopped_by="U0RITA")


def _request(*names: str, source: str = "new-certificate", order: Order = Order.DEFAULT, batch: int) -> Request:
    return Request(
        user="U0RITA", channel="C1", thread=None, names=names, source=source, order=order, batch=batch, user_name="rita"
    )


def watched(place: Place, names: Sequence[str]) -> Watch:
    """Return a watch over the reachable listening Tentacles of a plan."""
    place.reachable = {n: i for n, i in place.reachable.items() if n in names}
    return Watch(place)
