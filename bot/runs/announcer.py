"""The announcer: what is in the ledger, said in Slack. Messages have keys, so a repeated step says nothing twice."""

from bot.clock import Clock
from bot.runs.ledger import Ledger
from bot.runs.outbox import DurableOutbox
from bot.slack import messages
from bot.slack.message import Message
from bot.slack.notifier import Notifier


class Announcer:
    """Puts messages about runs into the outbox and wakes the notifier."""

    def __init__(self, ledger: Ledger, outbox: DurableOutbox, notifier: Notifier, clock: Clock) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._notifier = notifier
        self._clock = clock

    def root(self, run_id: str) -> None:
        """Show the run as it stands now, in its root message."""
        run = self._ledger.run(run_id)
        request, now = run.plan.request, self._clock.now()
        self._outbox.put(
            f"{run_id}:root",
            request.channel,
            messages.plan_posted(run, now=now, rich=False),
            rich=messages.plan_posted(run, now=now, rich=True),
            thread_ts=request.thread,
            final=run.state.is_over,
        )
        self._notifier.wake()

    def refusal(self, run_id: str) -> str | None:
        """Return why Slack will never show the run's root message, None where it does or still may."""
        return self._outbox.refusal(f"{run_id}:root")

    def say(self, run_id: str, key: str, message: Message) -> None:
        """Reply in the run's thread, once for each key."""
        run = self._ledger.run(run_id)
        self._outbox.put(f"{run_id}:{key}", run.plan.request.channel, message, parent=f"{run_id}:root", final=True)
        self._notifier.wake()

    def decided(self, run_id: str) -> None:
        """Say who decided what."""
        run = self._ledger.run(run_id)
        self.root(run_id)
        if run.decision:
            self.say(run_id, "decision", messages.approved(run) if run.decision.approved else messages.denied(run))

    def expired(self, run_id: str) -> None:
        """Say that nobody decided in time."""
        self.root(run_id)
        self.say(run_id, "expired", messages.expired(self._ledger.run(run_id)))

    def cancelled(self, run_id: str) -> None:
        """Say who took it back, or had it stopped."""
        self.root(run_id)
        self.say(run_id, "cancelled", messages.cancelled(self._ledger.run(run_id)))

    def stale(self, run_id: str, target: str, changes: list[str]) -> None:
        """Say what changed about a target since it was approved."""
        self.say(run_id, f"stale:{target}", messages.stale(self._ledger.run(run_id), target, changes))

    def outcome(self, run_id: str, target: str) -> None:
        """Say what became of one target."""
        run = self._ledger.run(run_id)
        outcome = next(o for o in run.outcomes if o.target == target)
        self.root(run_id)
        self.say(run_id, f"outcome:{target}", messages.outcome(run, outcome))

    def finished(self, run_id: str) -> None:
        """Say how the run ended."""
        self.root(run_id)
        self.say(run_id, "finished", messages.finished(self._ledger.run(run_id)))

    def post(self, key: str, channel: str, message: Message, thread: str | None) -> None:
        """Answer a question where it was asked."""
        self._outbox.put(key, channel, message, thread_ts=thread, final=True)
        self._notifier.wake()

    def whisper(self, channel: str, user: str, message: Message, thread: str | None = None) -> None:
        """Say something that only one person sees."""
        self._notifier.ephemeral(channel, user, message, thread)
