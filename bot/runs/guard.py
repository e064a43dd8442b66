"""The guard: reminders of what waits, their escalation, and root messages that show when everything is frozen."""

from collections.abc import Iterable

from bot.clock import Clock
from bot.domain.policy import Policy, environments_of
from bot.domain.run import Freeze, RunState
from bot.runs.announcer import Announcer
from bot.runs.approvals import Approvals, Asking
from bot.runs.freezing import Freezing
from bot.runs.gates import Gates
from bot.runs.ledger import Ledger
from bot.slack import messages

_GOING = (RunState.PROPOSED, RunState.WAITING, RunState.RUNNING, RunState.PAUSED, RunState.ASKING, RunState.STOPPING)


class Guard:
    """What the caretaker does about approvals and the freeze; all of it may be repeated."""

    def __init__(
        self,
        ledger: Ledger,
        announcer: Announcer,
        freezing: Freezing,
        policy: Policy,
        approvals: Approvals,
        gates: Gates,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._freezing = freezing
        self._policy = policy
        self._approvals = approvals
        self._gates = gates
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
            for asking in self._askings():
                self._remind(asking)
        return freeze is not None

    def _askings(self) -> Iterable[Asking]:
        """Yield everything that waits for approvals: plans, and gates in the middle of runs."""
        for run_id, _expires in self._ledger.undecided():
            yield self._approvals.of_plan(self._ledger.run(run_id))
        for gate in self._gates.undecided():
            yield self._approvals.of_gate(self._ledger.run(gate.run_id), self._gates, gate)

    def _remind(self, asking: Asking) -> None:
        policy = self._policy
        if policy.reminds(asking.asked, self._clock.now()):
            sets = policy.approvers_for(asking.action, environments_of(asking.plan))
            self._tell(asking, frozenset().union(*sets), "reminded", escalated=False)
        if policy.escalated(asking.asked, self._clock.now()):
            self._tell(asking, policy.escalate_to, "escalated", escalated=True)

    def _tell(self, asking: Asking, who: Iterable[str], key: str, *, escalated: bool) -> None:
        """Say in the thread that something still waits, once; to those who can still do something about it."""
        key = f"{key}:{asking.nonce}"
        if key in self._told:
            return
        decisions = self._approvals.decisions(asking.nonce)
        done = {*decisions, self._policy.person(asking.plan.request.user)}
        reminder = messages.reminder(
            asking.what,
            {w for w in who if self._policy.person(w) not in done},
            given=sum(d.approved for d in decisions.values()),
            needed=self._approvals.needed(asking),
            expires=asking.expires,
            escalated=escalated,
        )
        self._announcer.say(asking.run_id, key, reminder)
        self._told.add(key)
