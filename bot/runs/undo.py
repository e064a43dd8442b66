"""Undo: puts a target's former certificate and thumbprint back, and says honestly in which state it is then."""

from dataclasses import dataclass, replace
from typing import Any

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.facts import WORST_FIRST, Health, Instance, ServiceState, Style
from bot.domain.plan import StepKind, TargetPlan
from bot.domain.run import OutcomeKind
from bot.domain.thumbprint import Thumbprint
from bot.octopus.errors import RecordVanished
from bot.runs.gear import Gear
from bot.runs.rotation import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """How an undo ended."""

    kind: OutcomeKind
    in_force: Thumbprint | None
    undone: str
    now: str
    advice: str
    health: Health | None = None
    """As a check after the undo found it; None where none was made."""


class Undo:
    """Looks first what there is to put back; the trust list is never touched."""

    def __init__(self, gear: Gear, rotation: Rotation) -> None:
        self._gear = gear
        self._rotation = rotation

    def put_back(self, run_id: str, name: str, new: str | None) -> Aftermath:
        """Bring a target back to its old certificate: on the host, in every record, then see it served."""
        target = self._gear.ledger.target(run_id, name)
        what = "undo: what is not as before is put back, on the host and in Octopus"
        entry = Entry(
            kind="began", run=run_id, target=name, digest=target.digest, old=new or "", new=target.old, what=what
        )
        self._gear.audit.append(f"{run_id}:{name}:undo", entry)
        try:
            instance = self._instance(target)
        except UserError as error:
            return self._unknown(target, str(error))
        undone: list[str] = []
        configured = instance.configured
        if configured != target.old:
            try:
                applied = self._rotation.put_back_visit(run_id, target)
            except UserError as error:
                return self._unknown(target, str(error))
            undone.append("the former certificate is configured again and the service was restarted")
            if applied.configured != target.old:
                return self._unknown(target, f"{name} is configured with {applied.configured}, not {target.old}")
        elif self._serves_another(instance, target):
            try:
                self._rotation.put_back_visit(run_id, target)
            except UserError as error:
                return self._unknown(target, str(error))
            undone.append("the service was restarted with the former certificate")
        records = self._put_back_records(target, configured, new)
        if records.failed:
            return Aftermath(
                kind=OutcomeKind.FAILED,
                in_force=target.old,
                undone="; ".join(undone),
                now=f"The host is back on {target.old}, but {records.failed}.",
                advice=f"Set the thumbprint {target.old} in that record by hand, then run check-health.",
            )
        if records.changed:
            undone.append("the thumbprint in Octopus was put back")
        aftermath = self._seen(target, undone)
        if undone and aftermath.kind is OutcomeKind.UNDONE:
            return replace(aftermath, health=self._health(run_id, target))
        return aftermath

    def _health(self, run_id: str, target: TargetPlan) -> Health | None:
        """Have Octopus look again, so that it does not go on showing what the undone state looked like."""
        octopus, worst = self._gear.octopus, list[Health]()
        try:
            for task in octopus.start_health(target.facts.records, f"octocert {run_id}-undo-{target.name}").values():
                octopus.follow(task, self._gear.deadlines.health_task)
            worst = [octopus.health(r).health for r in target.facts.records]
        except UserError:
            return None
        return next((h for h in WORST_FIRST if h in worst), None)

    def _instance(self, target: TargetPlan) -> Instance:
        facts = self._rotation.inspect(target.facts)
        assert target.facts.instance is not None
        wanted = target.facts.instance.name
        found = next((i for i in facts.instances if i.name == wanted), None)
        if found is None:
            raise UserError(f"The instance {wanted} is no longer on {facts.computer}.")
        return found

    def _serves_another(self, instance: Instance, target: TargetPlan) -> bool:
        served = instance.served.thumbprint if instance.served else None
        return served is not None and served != target.old

    def _put_back_records(self, target: TargetPlan, configured: Thumbprint | None, new: str | None) -> "_Records":
        changed, failed = 0, ""
        octopus = self._gear.octopus.patient(self._gear.deadlines.server_away)
        for record in target.facts.records:
            try:
                current = octopus.record(record).thumbprint
                if current is not None and current != target.old and current in {configured, Thumbprint.maybe(new)}:
                    octopus.put_thumbprint(record, current, target.old)
                    changed += 1
            except RecordVanished:
                continue
            except UserError as error:
                failed = f"the record {record.name} in {record.space} could not be put back: {error}"
        return _Records(changed=changed, failed=failed)

    def _seen(self, target: TargetPlan, undone: list[str]) -> Aftermath:
        """Look at the target once more: what is in force now is what is seen, not what was done."""
        what = "; ".join(undone)
        try:
            instance = self._instance(target)
        except UserError as error:
            return self._unknown(target, str(error), undone=what)
        if instance.state is not ServiceState.RUNNING:
            return Aftermath(
                kind=OutcomeKind.FAILED,
                in_force=None,
                undone=what,
                now=f"The service “{instance.service}” is {instance.state.value}.",
                advice="A task on the host starts it once it has stopped; look at it if it stays so for ten minutes.",
            )
        served = instance.served
        if target.facts.style is Style.LISTENING and served and served.thumbprint not in {target.old, None}:
            return Aftermath(
                kind=OutcomeKind.FAILED,
                in_force=served.thumbprint,
                undone=what,
                now=f"It is configured with {instance.configured}, but serves {served.thumbprint}.",
                advice="Restart its service on the host, then run show-thumbprint.",
            )
        before = target.facts.instance.served if target.facts.instance else None
        if before and before.thumbprint and served and served.thumbprint is None:
            return Aftermath(
                kind=OutcomeKind.FAILED,
                in_force=instance.configured,
                undone=what,
                now=f"Its service runs, but nothing answers on its port: {served.error}",
                advice="Look at the Tentacle's log on the host; another program may hold the port.",
            )
        still = "" if undone else "Nothing had to be put back. "
        return Aftermath(
            kind=OutcomeKind.UNDONE,
            in_force=target.old,
            undone=what,
            now=f"{still}The service runs, and the old certificate {target.old} is in force.",
            advice="Mend the cause and press Retry, or ask for a new plan.",
        )

    def _unknown(self, target: TargetPlan, why: str, undone: str = "") -> Aftermath:
        return Aftermath(
            kind=OutcomeKind.FAILED,
            in_force=None,
            undone=undone,
            now=f"Its state is not known: {why}",
            advice=(
                f"Look with show-thumbprint {target.name}. A stopped service is started by a task on the host; "
                f"a copy of the configuration lies there for {24} hours."
            ),
        )


@dataclass(frozen=True, slots=True)
class _Records:
    changed: int
    failed: str


def step_of(value: Any) -> StepKind | None:
    """Return the step that a journaled result names."""
    return StepKind(value) if value else None
