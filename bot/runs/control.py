"""Control: what a carrier asks at its safe points. Pause, resume, stop, and a run that stops itself."""

import threading
from enum import StrEnum

import structlog

from bot.audit import AuditLog, Entry
from bot.clock import Clock
from bot.domain.run import Hold, RunState, Standing
from bot.runs.announcer import Announcer
from bot.runs.engine import Leaving
from bot.runs.ledger import Ledger
from bot.runs.moving import moved
from bot.runs.timetable import Timetable
from bot.slack import messages

log = structlog.get_logger("octocert.control")

LOOK_SECONDS = 1.0
"""How often a run that is held looks whether it may go on."""
GOING = (RunState.RUNNING, RunState.PAUSED)
"""States in which an approved run is neither over nor told to stop."""


class Go(StrEnum):
    """Whether one target of a wave may be begun."""

    NOW = "now"
    LATER = "later"
    """The run is held: the target comes again when it goes on."""
    NEVER = "never"
    """The run stops, or has stopped itself."""


class Control:
    """Reads the ledger and changes it by compare-and-set, so that every question may be asked again after a crash."""

    def __init__(
        self, ledger: Ledger, announcer: Announcer, audit: AuditLog, timetable: Timetable, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._audit = audit
        self._timetable = timetable
        self._clock = clock
        self._leaving = threading.Event()

    def may_go_on(self, run_id: str, *, by_the_clock: bool = True) -> bool:
        """Return whether a run may begin something new; waits, as long as it takes, while the run is held.

        Ask it between waves, inside a step: where the bot ends meanwhile, the step is asked again after its start. A
        run whose error budget is spent is stopped here. Without `by_the_clock` a closed window holds nothing up: what
        was begun and must not stay half done is asked about so.
        """
        while True:
            go = self.may_begin(run_id, by_the_clock=by_the_clock)
            if go is not Go.LATER:
                return go is Go.NOW
            if self._leaving.is_set():
                raise Leaving
            self._clock.sleep(LOOK_SECONDS)

    def may_begin(self, run_id: str, *, by_the_clock: bool = True) -> Go:
        """Return whether one more target may be begun now; never waits, so that nobody's turn is held up."""
        standing = self._ledger.standing(run_id)
        if standing.state not in GOING:
            return Go.NEVER
        if spent := self._spent(run_id, standing):
            self.stop_itself(run_id, spent)
            return Go.NEVER
        if standing.state is RunState.PAUSED:
            return Go.LATER
        return self._by_the_clock(run_id, standing) if by_the_clock else Go.NOW

    def _by_the_clock(self, run_id: str, standing: Standing) -> Go:
        """Hold a run whose window is closed, and let it go on when it opens; each is said once."""
        schedule = self._ledger.plan(run_id).schedule
        if schedule is None:
            return Go.NOW
        told = self._timetable.opening(schedule)
        if told.is_open and standing.hold:
            self._ledger.hold(run_id, None)
            self._announcer.opened(run_id, standing.hold)
        elif not told.is_open and standing.hold is None:
            hold = Hold(why="its window is closed", since=self._clock.now(), until=told.until)
            self._ledger.hold(run_id, hold)
            self._announcer.closed(run_id, hold)
        return Go.NOW if told.is_open else Go.LATER

    def due(self) -> list[str]:
        """Let approved runs begin whose time has come, and return their ids; each is returned once."""
        begun = []
        for run_id in self._ledger.ids_in(RunState.WAITING):
            hold = self._ledger.standing(run_id).hold
            told = self._timetable.opening(self._ledger.plan(run_id).schedule)
            if told.is_open and self._move(
                run_id, "began", "its time has come", of=(RunState.WAITING,), to=RunState.RUNNING
            ):
                if hold:
                    self._announcer.opened(run_id, hold)
                begun.append(run_id)
        return begun

    def _spent(self, run_id: str, standing: Standing) -> str:
        most = self._ledger.plan(run_id).max_failures
        if most is None or standing.failures <= most:
            return ""
        return f"{standing.failures} {'target has' if standing.failures == 1 else 'targets have'} failed, and " + (
            f"not more than {most} may" if most else "the first failure was to stop it"
        )

    def ask(self, run_id: str, why: str) -> bool:
        """Hold a run and ask people; wait, and return True when they resume it, False when they stop it.

        Their answer is not made to wait for a window: what they are asked about is half done.
        """
        hold = Hold(why=why[:200], since=self._clock.now())
        key = hold.since.isoformat()
        if self._move(run_id, "asked on", why, of=(RunState.RUNNING,), to=RunState.PAUSED, hold=hold, key=key):
            self._announcer.root(run_id)
            self._announcer.say(run_id, f"asked:{key}", messages.asks_on(why))
        return self.may_go_on(run_id, by_the_clock=False)

    def stop_itself(self, run_id: str, why: str) -> None:
        """Have a run begin nothing more, for a reason of its own; `why` is a phrase for people."""
        if self._ledger.standing(run_id).state not in GOING:
            return
        if self._move(run_id, "stopped itself", why, of=GOING, to=RunState.STOPPING, stopped_why=why):
            log.warning("a run stops itself", run=run_id, why=why)
            self._announcer.stopped_itself(run_id)

    def _move(
        self,
        run_id: str,
        kind: str,
        what: str,
        *,
        of: tuple[RunState, ...],
        to: RunState,
        hold: Hold | None = None,
        stopped_why: str = "",
        key: str = "",
    ) -> bool:
        """Change a run's state together with the entry that says so; False where neither was done."""
        name = kind.replace(" ", "-")
        entry = Entry(kind=kind, run=run_id, digest=self._ledger.plan(run_id).digest, what=what)
        key = f"{run_id}:{name}:{key}" if key else f"{run_id}:{name}"
        return moved(self._ledger, self._audit, key, entry, of=of, to=to, hold=hold, stopped_why=stopped_why)

    def leave(self) -> None:
        """Have every wait end, because the bot ends."""
        self._leaving.set()
