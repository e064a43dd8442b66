"""Wrecks: runs that are not over, but on which nothing works any more. None of them may stay so without a word."""

from collections.abc import Callable

import structlog

from bot.audit import Entry
from bot.domain.run import RunState
from bot.runs.control import GOING
from bot.runs.engine import DurableEngine
from bot.runs.gear import Gear
from bot.runs.settling import BROKEN
from bot.slack import messages

log = structlog.get_logger("octocert.wrecks")

LOOK_ROUNDS = 3
"""Rounds between two looks at the runs under way."""
REVIVE_ROUNDS = 15
"""Rounds between two looks for work that is this process's own, but on which none of its threads is."""


class Wrecks:
    """Looks for them, has what they left ended by what is seen of it, and where even that fails ends them itself."""

    def __init__(self, gear: Gear, engine: DurableEngine) -> None:
        self._gear = gear
        self._engine = engine
        self._rounds = 0

    def revive(self) -> None:
        """Go on with what this process lost; each of several bots does so for itself."""
        self._rounds += 1
        if self._rounds % REVIVE_ROUNDS == 0:
            self._engine.revive()

    def look_around(self) -> None:
        """Look at every run that is under way; the bot that leads does."""
        if self._rounds % LOOK_ROUNDS:
            return
        for state in (*GOING, RunState.STOPPING):
            for run_id in self._gear.ledger.ids_in(state):
                broken = self._engine.broken_parts(run_id)
                if BROKEN in broken:
                    self._close(run_id)
                elif broken:
                    log.error("a run broke off; what it left is ended now", run=run_id, parts=sorted(broken))
                    self._engine.start_part(run_id, BROKEN, "once")

    def _close(self, run_id: str) -> None:
        """End a run by as little as it takes: each thing is tried, whatever became of those before it."""
        gear = self._gear
        why = "an error that nobody expected broke it off"
        entry = Entry(kind="broke off", run=run_id, digest=gear.ledger.plan(run_id).digest, what=why)
        self._try("audit", lambda: gear.audit.append(f"{run_id}:broke-off", entry))
        self._try("tell", lambda: gear.announcer.say(run_id, "broke off", messages.broke_off(run_id)))
        self._try("release", lambda: gear.ledger.release_hosts(run_id))
        states = (*GOING, RunState.STOPPING)
        self._try("end", lambda: gear.ledger.move(run_id, of=states, to=RunState.FINISHED, stopped_why=why))
        self._try("show", lambda: gear.announcer.root(run_id))

    def _try(self, what: str, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception:
            log.exception("a run that broke off could not be ended well", doing=what)
