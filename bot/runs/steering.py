"""Steering: pause, resume and stop a run that was approved. Each says so when there is nothing to do any more."""

from bot.audit import Entry
from bot.domain.policy import Policy
from bot.domain.run import Hold, Run, RunState, named
from bot.runs.asking import Asker
from bot.runs.control import GOING
from bot.runs.gear import Gear
from bot.runs.moving import moved


class Steering:
    """Takes what people want of a run under way: a compare-and-set, in one transaction with its audit entry."""

    def __init__(self, gear: Gear, policy: Policy) -> None:
        self._gear = gear
        self._policy = policy

    def pause(self, run: Run, asker: Asker) -> str | None:
        """Have a run begin nothing more until somebody resumes it; return a sentence if that changes nothing."""
        if refusal := self._refused(run, asker):
            return refusal
        if run.state is RunState.PAUSED:
            by = f" by <@{run.hold.by}>" if run.hold and run.hold.by else ""
            return f"The run {run.id} has already been paused{by}. Your click changed nothing."
        if run.state is not RunState.RUNNING:
            return f"The run {run.id} is {run.state.value}; there is nothing to pause."
        hold = Hold(why="paused", since=self._gear.clock.now(), by=asker.user)
        what = "nothing more is begun until it is resumed"
        if not self._move(run, asker, "paused", what, of=(RunState.RUNNING,), to=RunState.PAUSED, hold=hold):
            return self._too_late(run)
        self._gear.announcer.paused(run.id, asker.key)
        return None

    def resume(self, run: Run, asker: Asker) -> str | None:
        """Let a paused run go on; return a sentence if that changes nothing."""
        if refusal := self._refused(run, asker):
            return refusal
        if run.state is RunState.RUNNING:
            return f"The run {run.id} goes on already. Your click changed nothing."
        if run.state is not RunState.PAUSED:
            return f"The run {run.id} is {run.state.value}; there is nothing to resume."
        what = "it goes on where it was"
        if not self._move(run, asker, "resumed", what, of=(RunState.PAUSED,), to=RunState.RUNNING):
            return self._too_late(run)
        self._gear.announcer.resumed(run.id, asker.key, asker.user)
        return None

    def stop(self, run: Run, asker: Asker) -> str | None:
        """Have a run end at its next safe point; return a sentence if that changes nothing."""
        if refusal := self._refused(run, asker):
            return refusal
        if run.state is RunState.STOPPING:
            by = f", as {named(run.stopped_by)} asked" if run.stopped_by else ""
            return f"The run {run.id} is stopping already{by}. Your click changed nothing."
        if run.state is RunState.WAITING:
            return self._take_back(run, asker)
        if run.state not in GOING:
            return f"The run {run.id} is {run.state.value}; there is nothing to stop."
        what = "the run stops at its next safe point"
        if not self._move(run, asker, "cancelled", what, of=GOING, to=RunState.STOPPING, stopped_by=asker.user):
            return self._too_late(run)
        self._gear.announcer.cancelled(run.id)
        return None

    def _take_back(self, run: Run, asker: Asker) -> str | None:
        """End a run that waits for its time: nothing was begun."""
        what, of = "it was taken back before its time came; nothing was touched", (RunState.WAITING,)
        if not self._move(run, asker, "cancelled", what, of=of, to=RunState.CANCELLED, stopped_by=asker.user):
            return self._too_late(run)
        self._gear.announcer.cancelled(run.id)
        return None

    def _refused(self, run: Run, asker: Asker) -> str | None:
        refusal = self._policy.refuses_cancel(asker.user, run.plan.request)
        if refusal:
            self._gear.audit.append(f"{run.id}:refused:{asker.key}", self._entry(run, asker, "refused", refusal))
        return refusal

    def _too_late(self, run: Run) -> str:
        return (
            f"The run {run.id} is {self._gear.ledger.standing(run.id).state.value} by now. Your click changed nothing."
        )

    def _move(
        self,
        run: Run,
        asker: Asker,
        kind: str,
        what: str,
        *,
        of: tuple[RunState, ...],
        to: RunState,
        hold: Hold | None = None,
        stopped_by: str | None = None,
    ) -> bool:
        """Change a run's state together with the entry that says so; False where neither was done."""
        gear, key = self._gear, f"{run.id}:{kind}:{asker.key}"
        entry = self._entry(run, asker, kind, what)
        return moved(gear.ledger, gear.audit, key, entry, of=of, to=to, hold=hold, stopped_by=stopped_by)

    def _entry(self, run: Run, asker: Asker, kind: str, what: str) -> Entry:
        return Entry(kind=kind, who=asker.user, run=run.id, digest=run.plan.digest, what=what)
