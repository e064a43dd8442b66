"""The announcer: what is in the ledger, said in Slack. Messages have keys, so a repeated step says nothing twice.

The root message of a run is only marked at each step, and made when it is about to be sent: a fleet takes thousands of
steps and one edit a second. Ends are made at once.
"""

from collections.abc import Callable

import structlog

from bot.clock import Clock
from bot.domain.run import Decision, Hold, Outcome, OutcomeKind, Run
from bot.runs.ledger import Ledger
from bot.runs.outbox import DurableOutbox, Made
from bot.slack import messages
from bot.slack.fleet_message import FLEET
from bot.slack.message import File, Message
from bot.slack.notifier import Notifier
from bot.slack.results import plan_csv, results_csv

log = structlog.get_logger("octocert.announcer")

MOST_TOLD = 5
"""Failures of a fleet that are told one by one while it runs; the others stand in the list at its end."""
_ROOT = ":root"
_OUTCOME = "outcome:"


def _worded(about: str, make: Callable[[], Message]) -> Message:
    """Return a message about something; where none can be made of it, one that says so: no run hangs on its words."""
    try:
        return make()
    except Exception as error:
        log.exception("a message could not be made", about=about)
        return messages.wordless(about, type(error).__name__)


class Announcer:
    """Puts messages about runs into the outbox and wakes the notifier."""

    def __init__(self, ledger: Ledger, outbox: DurableOutbox, notifier: Notifier, clock: Clock) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._notifier = notifier
        self._clock = clock
        outbox.made_by(self._made)
        if outbox.is_shared:
            # another bot may be the one that shows it, and that reads the database
            ledger.notes.told_to(self.root)

    def start(self) -> None:
        """Have every run shown as it is now: marks that a crash lost are made up for."""
        self._outbox.mark_open(_ROOT)

    def root(self, run_id: str) -> None:
        """Have the run's root message show it as it stands, as soon as Slack takes an edit."""
        if not self._outbox.mark(run_id + _ROOT):
            self._show(run_id)

    def noted(self, run_id: str) -> None:
        """Have the root message show where a step stands, as soon as that is written."""
        if not self._outbox.is_shared:
            self.root(run_id)

    def _made(self, key: str) -> Made | None:
        run_id = key.removesuffix(_ROOT)
        run = self._ledger.find(run_id) if key.endswith(_ROOT) else None
        if run is None:
            return None
        now = self._clock.now()
        return Made(
            message=_worded(run_id, lambda: messages.plan_posted(run, now=now, rich=False)),
            rich=_worded(run_id, lambda: messages.plan_posted(run, now=now, rich=True)),
            final=run.state.is_over,
        )

    def _show(self, run_id: str) -> None:
        """Put the run's root message as it stands now."""
        made, request = self._made(run_id + _ROOT), self._ledger.plan(run_id).request
        if made:
            self._outbox.put(
                run_id + _ROOT,
                request.channel,
                made.message,
                rich=made.rich,
                thread_ts=request.thread,
                final=made.final,
            )
        self._notifier.wake()

    def proposed(self, run_id: str) -> None:
        """Post a plan with its buttons; all targets of a fleet stand in a file in its thread."""
        self.root(run_id)
        if self._is_fleet(run_id):
            run = self._ledger.run(run_id)
            file = File(f"octocert-{run_id}-plan.csv", f"Plan of {run_id}", plan_csv(run.plan))
            self.say(run_id, "plan", messages.plan_attached(run.plan, run_id), file)

    def refusal(self, run_id: str) -> str | None:
        """Return why Slack will never show the run's root message, None where it does or still may."""
        return self._outbox.refusal(run_id + _ROOT)

    def say(self, run_id: str, key: str, message: Message, file: File | None = None) -> None:
        """Reply in the run's thread, once for each key."""
        channel = self._ledger.plan(run_id).request.channel
        self._outbox.put(f"{run_id}:{key}", channel, message, parent=run_id + _ROOT, final=True, file=file)
        self._notifier.wake()

    def decided(self, run_id: str) -> None:
        """Say who decided what."""
        run = self._ledger.run(run_id)
        self._show(run_id)
        if run.decision:
            self.say(run_id, "decision", messages.approved(run) if run.decision.approved else messages.denied(run))

    def counted(self, run_id: str, key: str, decision: Decision | None, number: int, needed: int) -> None:
        """Say that one more approval is there, and that others are still needed."""
        self._show(run_id)
        if decision:
            self.say(run_id, f"counted:{key}", messages.counted(decision, number, needed))

    def expired(self, run_id: str) -> None:
        """Say that nobody decided in time."""
        self._show(run_id)
        self.say(run_id, "expired", messages.expired(self._ledger.run(run_id)))

    def cancelled(self, run_id: str) -> None:
        """Say who took it back, or had it stopped."""
        self._show(run_id)
        self.say(run_id, "cancelled", messages.cancelled(self._ledger.run(run_id)))

    def paused(self, run_id: str, key: str) -> None:
        """Say who paused it."""
        self._show(run_id)
        self.say(run_id, f"paused:{key}", messages.paused(self._ledger.run(run_id)))

    def resumed(self, run_id: str, key: str, user: str) -> None:
        """Say who lets it go on."""
        self._show(run_id)
        self.say(run_id, f"resumed:{key}", messages.resumed(user))

    def closed(self, run_id: str, hold: Hold) -> None:
        """Say that its window has closed, and until when it waits."""
        self._show(run_id)
        self.say(run_id, f"closed:{hold.since.isoformat()}", messages.closed(hold))

    def opened(self, run_id: str, hold: Hold) -> None:
        """Say that a run which waited goes on, or begins."""
        self._show(run_id)
        self.say(run_id, f"opened:{hold.since.isoformat()}", messages.opened(hold))

    def stopped_itself(self, run_id: str) -> None:
        """Say that the run begins nothing more, and why."""
        self._show(run_id)
        self.say(run_id, "stopped-itself", messages.stopped_itself(self._ledger.run(run_id)))

    def stale(self, run_id: str, target: str, changes: list[str]) -> None:
        """Say what changed about a target since it was approved; of a fleet its outcome says so."""
        if not self._is_fleet(run_id):
            self.say(run_id, f"stale:{target}", messages.stale(self._ledger.run(run_id), target, changes))

    def _is_fleet(self, run_id: str) -> bool:
        return len(self._ledger.plan(run_id).subjects) > FLEET

    def outcome(self, run_id: str, target: str, kind: OutcomeKind) -> None:
        """Say what became of one target; of a fleet only failures, and not more of them than people would read."""
        self.root(run_id)
        if self._is_fleet(run_id) and not self._is_told(run_id, kind):
            return
        outcome = next((p.outcome for p in self._ledger.progress(run_id, [target])), None)
        if outcome is None:
            return
        if self._is_fleet(run_id):
            counts = self._ledger.standing(run_id).counts
            told = {k: n for k, n in counts.items() if self._is_told(run_id, k)}
            if outcome.kind not in told:
                return
            if sum(told.values()) > MOST_TOLD:
                self.say(run_id, "more-trouble", messages.more_trouble(MOST_TOLD))
                return
        self._say_outcome(self._ledger.run(run_id), outcome)

    def _say_outcome(self, run: Run, outcome: Outcome) -> None:
        self.say(run.id, _OUTCOME + outcome.target, _worded(outcome.target, lambda: messages.outcome(run, outcome)))

    def _is_told(self, run_id: str, kind: OutcomeKind) -> bool:
        """Whether the thread tells this outcome of one target of a fleet; what is skipped is told once for all."""
        return kind.is_failure or (kind is OutcomeKind.SKIPPED and self._ledger.plan(run_id).server is not None)

    def rechecked(self, run_id: str) -> None:
        """Say, once for a fleet, which targets are skipped after the second look."""
        run = self._ledger.run(run_id)
        if self._is_fleet(run_id) and run.outcomes:
            self.say(run_id, "skipped", messages.skipped(run))

    def finished(self, run_id: str) -> None:
        """Say how the run ended, with the full result as a file where it is long."""
        self._show(run_id)
        run = self._say_end(run_id)
        if self._is_fleet(run_id):
            file = File(f"octocert-{run_id}.csv", f"Result of {run_id}", results_csv(run))
            self.say(run_id, "result", messages.result_attached(run), file)

    def _say_end(self, run_id: str) -> Run:
        run = self._ledger.run(run_id)
        self.say(run_id, "finished", _worded(run_id, lambda: messages.finished(run)))
        return run

    def swept(self, run_id: str, target: str, *, left: int) -> None:
        """Say that an old key is gone from its host; of a fleet only once, when the last one is.

        With the last one *Roll back* goes from the messages that offered it.
        """
        if not self._is_fleet(run_id):
            self.say(run_id, f"swept:{target}", messages.swept(target))
        elif left == 0:
            self.say(run_id, "swept", messages.swept_all())
        if left == 0:
            self._show(run_id)
            run = self._say_end(run_id)
            for outcome in run.outcomes if len(run.targets) == 1 else ():  # then its outcome has the buttons
                if self._outbox.place(f"{run_id}:{_OUTCOME}{outcome.target}"):  # that of a node is not told by itself
                    self._say_outcome(run, outcome)

    def place(self, run_id: str) -> tuple[str, str] | None:
        """Return channel and time stamp of a run's root message, None while it is not in Slack."""
        return self._outbox.place(run_id + _ROOT)

    def post(self, key: str, channel: str, message: Message, thread: str | None) -> None:
        """Answer a question where it was asked."""
        self._outbox.put(key, channel, message, thread_ts=thread, final=True)
        self._notifier.wake()

    def attach(self, key: str, channel: str, message: Message, file: File, *, parent: str) -> None:
        """Attach a file in the thread of an answer, given by its key."""
        self._outbox.put(key, channel, message, parent=parent, final=True, file=file)
        self._notifier.wake()

    def whisper(self, channel: str, user: str, message: Message, thread: str | None = None) -> None:
        """Say something that only one person sees."""
        self._notifier.ephemeral(channel, user, message, thread)
