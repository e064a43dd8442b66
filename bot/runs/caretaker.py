"""The caretaker: what must happen without anybody asking. Expiry, runs that were decided but not begun, old keys."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import structlog

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.run import RunState
from bot.domain.server_planner import NODE
from bot.rounds import Rounds
from bot.runs.engine import DurableEngine
from bot.runs.gates import Gate
from bot.runs.gear import Gear
from bot.runs.guard import Guard
from bot.runs.moving import moved
from bot.runs.node_steps import NodeSteps
from bot.runs.retention import Retention
from bot.runs.rotation import Rotation
from bot.runs.server_watch import LOOK
from bot.runs.wrecks import Wrecks
from bot.slack import messages

log = structlog.get_logger("octocert.caretaker")

ROUND_SECONDS = 1.0
"""How often it looks around."""
SWEEPS_A_ROUND = 32
"""Old copies that one round removes at most: what else must happen does not wait for a whole fleet."""
SWEEPS_AT_ONCE = 8
SWEEP_AGAIN_HOURS = 1.0
"""When a host whose old copy could not be removed is tried again."""


class Caretaker:
    """One thread that looks at the ledger again and again; all that it does may be repeated.

    Of several bots only the one that leads does rounds; another one takes up where it was.
    """

    def __init__(
        self,
        gear: Gear,
        engine: DurableEngine,
        rotation: Rotation,
        nodes: NodeSteps,
        guard: Guard,
        wrecks: Wrecks,
        *,
        retention: Retention | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._gear = gear
        self._ledger = gear.ledger
        self._announcer = gear.announcer
        self._audit = gear.audit
        self._engine = engine
        self._control = gear.control
        self._rotation = rotation
        self._nodes = nodes
        self._clock = gear.clock
        self._retention = retention
        self._leads = leads
        self._led = False
        self._begun: set[str] = set()
        """Nonces of gates whose next part was begun."""
        self._guard = guard
        self._wrecks = wrecks
        self._counting = threading.Lock()
        """Held while copies are counted and forgotten: only one of those swept at once is the last."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin the rounds."""
        if self._leads():
            self._take_up()
        self._thread.start()

    def _take_up(self) -> None:
        """Begin the runs that were approved just before a crash, of this bot or of the one that led before."""
        self._led = True
        self._begun.clear()
        self._announcer.start()
        for run in self._ledger.in_state(RunState.RUNNING, RunState.PAUSED, RunState.STOPPING, RunState.ASKING):
            self._announcer.decided(run.id)
            self._engine.start(run.id)
        for run_id, _ in self._ledger.undecided():
            self._announcer.root(run_id)

    def stop(self) -> None:
        """End after the present round."""
        self._stop.set()
        self._thread.join(timeout=30)

    @property
    def is_alive(self) -> bool:
        """Whether its thread works."""
        return self._thread.is_alive()

    def _work(self) -> None:
        rounds = Rounds(log, "the caretaker's round failed; it goes on")
        while not self._clock.wait(self._stop, ROUND_SECONDS):
            with rounds.one():
                self._wrecks.revive()
                if not self._leads():
                    self._led = False
                    continue
                if not self._led:
                    self._take_up()
                self.look_around()

    def look_around(self) -> None:
        """Do one round."""
        now = self._clock.now()
        for run_id, expires in self._ledger.undecided():
            if expires <= now:
                self._expire(run_id)
            elif refusal := self._announcer.refusal(run_id):
                self._take_back(run_id, refusal)
        if self._guard.look_around():
            return  # frozen: hosts are left alone, too
        self._wrecks.look_around()
        for run_id in self._control.due():
            self._engine.start(run_id)
        for gate in self._gear.gates.expired():
            self._close(gate)
        for gate in self._gear.gates.decided():
            self._go_on(gate)
        for run_id in self._gear.notes.due():
            self._engine.start_part(run_id, LOOK, "once")
            self._gear.notes.looked(run_id)
        due = self._ledger.copies(due=True)[:SWEEPS_A_ROUND]
        if due:
            with ThreadPoolExecutor(SWEEPS_AT_ONCE, thread_name_prefix="sweep") as threads:
                list(threads.map(lambda copy: self._sweep(*copy), due))
        if self._retention:
            self._retention.look()

    def _expire(self, run_id: str) -> None:
        """End a proposal about which nobody decided in time."""
        if self._end_proposal(run_id, "expired", RunState.EXPIRED, "nobody decided in time"):
            self._announcer.expired(run_id)

    def _take_back(self, run_id: str, refusal: str) -> None:
        """End a proposal that nobody can see: Slack refuses its message for good."""
        if self._end_proposal(run_id, "cancelled", RunState.CANCELLED, f"its plan could not be posted: {refusal}"):
            log.warning("a proposal that nobody can see was taken back", run=run_id, error=refusal)

    def _end_proposal(self, run_id: str, kind: str, to: RunState, what: str) -> bool:
        """End a proposal together with the entry that says so; False where somebody was faster."""
        entry = Entry(kind=kind, run=run_id, digest=self._ledger.plan(run_id).digest, what=what)
        return moved(self._ledger, self._audit, f"{run_id}:{kind}", entry, of=(RunState.PROPOSED,), to=to)

    def _close(self, gate: Gate) -> None:
        """Deny what nobody decided in time."""

        def take(connection: sa.Connection) -> Entry | None:
            what = f"the approval of the {gate.gate}"
            entry = Entry(kind="expired", run=gate.run_id, digest=gate.digest, what=what)
            return entry if self._gear.gates.expire(connection, gate) else None

        self._audit.append_if(f"{gate.run_id}:{gate.nonce}:expired", take)

    def _go_on(self, gate: Gate) -> None:
        """Have the part begin that follows a decision: of another replica that died, of a terminal, of nobody."""
        if gate.nonce in self._begun or gate.decision is None:
            return
        self._engine.start_part(gate.run_id, gate.part, gate.nonce)
        self._announcer.root(gate.run_id)
        said = messages.gate_decided(gate.gate, gate.decision)
        self._announcer.say(gate.run_id, f"decided:{gate.nonce}", said)
        self._begun.add(gate.nonce)

    def _sweep(self, run_id: str, target: str) -> None:
        """Remove the copy of a configuration, and with it the old key, from its host."""
        if self._stop.is_set() or not self._leads():
            return
        try:
            standing = self._ledger.standing(run_id)
        except KeyError:
            self._ledger.forget_copy(run_id, target)
            return
        if not standing.state.is_over:
            self._ledger.postpone_copy(run_id, target, SWEEP_AGAIN_HOURS)
            return
        begun = Entry(kind="began", run=run_id, target=target, what="removing the copy with the old key from the host")
        self._audit.append(f"{run_id}:{target}:sweep", begun)
        try:
            if target.startswith(NODE) and self._ledger.plan(run_id).server:
                self._nodes.sweep(self._ledger.run(run_id), target)
            else:
                self._rotation.sweep(run_id, self._ledger.target(run_id, target))
        except UserError as error:
            log.warning("an old copy could not be removed yet", run=run_id, target=target, error=str(error))
            self._ledger.postpone_copy(run_id, target, SWEEP_AGAIN_HOURS)
            return
        what = "the copy with the old key is gone from the host"
        self._audit.append(f"{run_id}:{target}:swept", Entry(kind="swept", run=run_id, target=target, what=what))
        with self._counting:
            # told before it is forgotten: after a crash in between it is swept, and told, once more
            self._announcer.swept(run_id, target, left=self._ledger.copies_of(run_id) - 1)
            self._ledger.forget_copy(run_id, target)
