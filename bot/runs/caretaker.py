"""The caretaker: what must happen without anybody asking. Expiry, runs that were decided but not begun, old keys."""

import threading

import structlog

from bot.audit import AuditLog, Entry
from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.run import Run, RunState
from bot.runs.announcer import Announcer
from bot.runs.engine import DurableEngine
from bot.runs.ledger import Ledger
from bot.runs.rotation import Rotation
from bot.slack import messages

log = structlog.get_logger("octocert.caretaker")

ROUND_SECONDS = 1.0
"""How often it looks around."""
SWEEP_AGAIN_HOURS = 1.0
"""When a host whose old copy could not be removed is tried again."""


class Caretaker:
    """One thread that looks at the ledger again and again; all that it does may be repeated."""

    def __init__(
        self,
        ledger: Ledger,
        announcer: Announcer,
        audit: AuditLog,
        engine: DurableEngine,
        rotation: Rotation,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._audit = audit
        self._engine = engine
        self._rotation = rotation
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin; runs that were approved just before a crash are begun now."""
        for run in self._ledger.in_state(RunState.RUNNING, RunState.STOPPING):
            self._announcer.decided(run.id)
            self._engine.start(run.id)
        for run in self._ledger.in_state(RunState.PROPOSED):
            self._announcer.root(run.id)
        self._thread.start()

    def stop(self) -> None:
        """End after the present round."""
        self._stop.set()
        self._thread.join(timeout=30)

    @property
    def is_alive(self) -> bool:
        """Whether its thread works."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while not self._stop.wait(ROUND_SECONDS):
            try:
                self.look_around()
            except Exception:
                log.exception("the caretaker's round failed; it goes on")

    def look_around(self) -> None:
        """Do one round."""
        now = self._clock.now()
        for run in self._ledger.in_state(RunState.PROPOSED):
            if run.expires <= now and self._ledger.move(run.id, of=(RunState.PROPOSED,), to=RunState.EXPIRED):
                entry = Entry(kind="expired", run=run.id, digest=run.plan.digest, what="nobody decided in time")
                self._audit.append(f"{run.id}:expired", entry)
                self._announcer.expired(run.id)
            elif refusal := self._announcer.refusal(run.id):
                self._take_back(run, refusal)
        for run_id, target in self._ledger.copies(due=True):
            if self._stop.is_set():
                return
            self._sweep(run_id, target)

    def _take_back(self, run: Run, refusal: str) -> None:
        """End a proposal that nobody can see: Slack refuses its message for good."""
        if self._ledger.move(run.id, of=(RunState.PROPOSED,), to=RunState.CANCELLED):
            what = f"its plan could not be posted: {refusal}"
            self._audit.append(
                f"{run.id}:cancelled", Entry(kind="cancelled", run=run.id, digest=run.plan.digest, what=what)
            )
            log.warning("a proposal that nobody can see was taken back", run=run.id, error=refusal)

    def _sweep(self, run_id: str, target: str) -> None:
        """Remove the copy of a configuration, and with it the old key, from its host."""
        run = self._ledger.find(run_id)
        if run is None:
            self._ledger.forget_copy(run_id, target)
            return
        if not run.state.is_over:
            self._ledger.postpone_copy(run_id, target, SWEEP_AGAIN_HOURS)
            return
        try:
            self._rotation.sweep(run, run.plan.target(target))
        except UserError as error:
            log.warning("an old copy could not be removed yet", run=run_id, target=target, error=str(error))
            self._ledger.postpone_copy(run_id, target, SWEEP_AGAIN_HOURS)
            return
        what = "the copy with the old key was removed from the host"
        self._audit.append(f"{run_id}:{target}:swept", Entry(kind="swept", run=run_id, target=target, what=what))
        self._ledger.forget_copy(run_id, target)
        self._announcer.say(run_id, f"swept:{target}", messages.swept(run, target))
