"""Control: what a run asks at its safe points, and what people do to it there: pause, resume, stop."""

from bot.clock import Clock
from bot.domain.run import RunState
from bot.runs.announcer import Announcer
from bot.runs.ledger import Ledger
from bot.slack import messages

POLL_SECONDS = 1.0
"""How often a paused run looks whether it may go on."""


class Control:
    """Decides at safe points whether a run goes on. All state is in the ledger, so a crash changes nothing."""

    def __init__(self, ledger: Ledger, announcer: Announcer, clock: Clock) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._clock = clock

    def may_go_on(self, run_id: str) -> bool:
        """Return whether the run may go on; while it is paused, wait. False once somebody stopped it."""
        while True:
            run = self._ledger.run(run_id)
            if run.stopped_by:
                return False
            if run.state is not RunState.PAUSED:
                return True
            self._clock.sleep(POLL_SECONDS)

    def ask(self, run_id: str, why: str) -> bool:
        """Pause the run and say why; return True when people resume it, False when they stop it."""
        if self._ledger.move(run_id, of=(RunState.RUNNING,), to=RunState.PAUSED):
            self._ledger.stage(run_id, f"paused: {why}"[:200])
            self._announcer.root(run_id)
            self._announcer.say(run_id, f"asked:{self._clock.now().isoformat()}", messages.asks_on(why))
        return self.may_go_on(run_id)

    def pause(self, run_id: str) -> bool:
        """Have a run pause at its next safe point; return whether this call did it."""
        done = self._ledger.move(run_id, of=(RunState.RUNNING,), to=RunState.PAUSED)
        self._announcer.root(run_id)
        return done

    def resume(self, run_id: str) -> bool:
        """Let a paused run go on; return whether this call did it."""
        done = self._ledger.move(run_id, of=(RunState.PAUSED,), to=RunState.RUNNING)
        self._announcer.root(run_id)
        return done
