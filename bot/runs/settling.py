"""Settling: a target whose work broke off by an error that nobody expected is ended by what is seen of it now."""

from bot.domain.errors import UserError
from bot.domain.facts import ServiceState, Style
from bot.domain.plan import StepKind, TargetPlan
from bot.domain.run import OutcomeKind, StepState
from bot.domain.thumbprint import Thumbprint
from bot.octopus.errors import RecordVanished
from bot.runs.gear import Gear
from bot.runs.outcomes import Outcomes
from bot.runs.rotation import Rotation
from bot.runs.undo import Undo

BROKEN = "broken"
"""The part of a run that ends what another part left."""


class Settling:
    """Steps that may be repeated; the first outcome of a target stands."""

    def __init__(self, gear: Gear, rotation: Rotation, undo: Undo) -> None:
        self._gear = gear
        self._rotation = rotation
        self._undo = undo
        self._outcomes = Outcomes(gear)

    def unsettled(self, run_id: str) -> list[str]:
        """Return the targets that were begun and have no outcome."""
        run = self._gear.ledger.run(run_id)
        return [t.name for t in run.targets if not t.outcome and any(s.state is not StepState.PENDING for s in t.steps)]

    def settle(self, run_id: str, name: str, why: str) -> None:
        """Leave a target as it is where all witnesses agree on a new certificate, and undo it where they do not."""
        target = self._gear.ledger.target(run_id, name)
        what = f"The work broke off: {why}"
        try:
            new = self._agreed(target)
        except UserError as error:
            self.lose(run_id, name, f"{why}, and what became of it cannot be seen: {error}")
            return
        if new is not None and new != target.old:
            self._outcomes.store(
                run_id,
                name,
                OutcomeKind.NOT_PROVEN,
                what=what,
                in_force=new,
                now=f"It is configured with {new}, serves it and is recorded with it; its service runs.",
                advice=f"Run check-health {name}. The bot's log tells more about the error.",
            )
            return
        aftermath = self._undo.put_back(run_id, name, None)
        self._outcomes.store(
            run_id,
            name,
            aftermath.kind,
            what=what,
            in_force=aftermath.in_force,
            health=aftermath.health,
            undone=aftermath.undone,
            now=aftermath.now,
            advice=f"{aftermath.advice} The bot's log tells more about the error.",
            failed=self._failed(run_id, name),
        )

    def lose(self, run_id: str, name: str, why: str) -> None:
        """End a target of which nothing can be seen."""
        self._outcomes.store(
            run_id,
            name,
            OutcomeKind.FAILED,
            what=f"The work broke off: {why}",
            now="Its state is not known.",
            advice=(
                f"Look with show-thumbprint {name}. A stopped service is started by a task on the host; "
                "a copy of the configuration lies there for 24 hours."
            ),
            failed=self._failed(run_id, name),
        )

    def _agreed(self, target: TargetPlan) -> Thumbprint | None:
        """Return the thumbprint by which a running target is configured, seen and recorded; None where they differ."""
        wanted = target.facts.instance.name if target.facts.instance else ""
        instance = next((i for i in self._rotation.inspect(target.facts).instances if i.name == wanted), None)
        if instance is None or instance.state is not ServiceState.RUNNING:
            return None
        seen = {instance.configured}
        if target.facts.style is Style.LISTENING:
            seen.add(instance.served.thumbprint if instance.served else None)
        octopus = self._gear.octopus.patient(self._gear.deadlines.server_away)
        for record in target.facts.records:
            try:
                seen.add(octopus.record(record).thumbprint)
            except RecordVanished:
                continue
        return seen.pop() if len(seen) == 1 else None

    def _failed(self, run_id: str, name: str) -> StepKind | None:
        """Return the step at which a target stands."""
        progress = next(iter(self._gear.ledger.progress(run_id, [name])), None)
        if progress is None:
            return None
        return next((s.step for s in progress.steps if s.state in {StepState.IN_PROGRESS, StepState.ERROR}), None)
