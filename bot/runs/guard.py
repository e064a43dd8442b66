"""The guard: reminders of plans that wait, their escalation, and root messages that show when everything is frozen."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from bot.clock import Clock
from bot.domain.policy import Policy, action_of, environments_of
from bot.domain.run import Freeze, Run, RunState
from bot.runs.announcer import Announcer
from bot.runs.freezing import Freezing
from bot.runs.ledger import Ledger

_GOING = (RunState.PROPOSED, RunState.WAITING, RunState.RUNNING, RunState.PAUSED, RunState.STOPPING)


class Guard:
    """What the caretaker does about approvals and the freeze; all of it may be repeated."""

    def __init__(self, ledger: Ledger, announcer: Announcer, freezing: Freezing, policy: Policy, clock: Clock) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._freezing = freezing
        self._policy = policy
        self._clock = clock
        self._shown: Freeze | None = None
        self._told: set[str] = set()

    def look_around(self) -> bool:
        """Do one round; return whether everything is frozen."""
        freeze = self._freezing.in_force()
        if freeze != self._shown:  # it may have come from a terminal, or from another replica
            for run in self._ledger.in_state(*_GOING):
                self._announcer.root(run.id)
            self._shown = freeze
        for run_id in self._ledger.stopped_in_terminal():
            if run_id not in self._told:
                self._announcer.cancelled(run_id)
                self._told.add(run_id)
        if self._policy.remind_minutes or self._policy.escalate_minutes:
            now = self._clock.now()
            for run_id, _expires in self._ledger.undecided():
                self._remind(self._ledger.run(run_id), now)
        return freeze is not None

    def _remind(self, run: Run, now: datetime) -> None:
        policy = self._policy
        if policy.remind_minutes and now - run.created >= timedelta(minutes=policy.remind_minutes):
            sets = policy.approvers_for(action_of(run.plan), environments_of(run.plan))
            self._announcer.remind(run.id, self._others(run, frozenset().union(*sets)), escalated=False)
        if policy.escalated(run.created, now):
            self._announcer.remind(run.id, self._others(run, policy.escalate_to), escalated=True)

    def _others(self, run: Run, who: Iterable[str]) -> set[str]:
        """Return those who can still do something: neither who asked nor who has approved already."""
        done = {self._policy.person(d.user) for d in run.decisions} | {self._policy.person(run.plan.request.user)}
        return {w for w in who if self._policy.person(w) not in done}
