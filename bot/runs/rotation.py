"""One target's rotation: visits, the look from outside, records. Each method is a step that may be repeated."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from bot.audit import AuditLog, Entry
from bot.certificates.sources import Sources
from bot.clock import Clock
from bot.domain.errors import UserError
from bot.domain.facts import HostFacts, ServiceState, Sighting, Style, TargetFacts
from bot.domain.plan import Plan, StepKind, TargetPlan
from bot.domain.run import StepState
from bot.domain.thumbprint import Thumbprint
from bot.octopus.client import Client
from bot.octopus.errors import RecordVanished
from bot.runs.announcer import Announcer
from bot.runs.control import Control, Go
from bot.runs.directory import Directory
from bot.runs.gates import Gates
from bot.runs.inspector import See
from bot.runs.issuing import Issuing
from bot.runs.ledger import Ledger
from bot.runs.legs import ON_HOST, Leg, legs_of
from bot.runs.notes import Notes
from bot.runs.timetable import Timetable
from bot.settings_tables import Deadlines
from bot.windows.breaker import Breaker
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.hands import Action, Applied, Hands, Job, Progress
from bot.windows.transport import Endpoint

log = structlog.get_logger("octocert.rotation")

COPY_HOURS = 24.0
"""How long the copy of a configuration (with the old key) stays on the host; until then roll back is offered."""
POLL_SECONDS = 5.0
"""How often a target that is busy, or a listener that is not back yet, is looked at again."""
LOOK_SECONDS = 1.0
"""How often a restarted listener is looked at."""
PAUSES = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between repeated visits after a lost connection; the last one is repeated until the deadline."""

UNCERTAIN = {
    RemoteErrorKind.UNKNOWN_OUTCOME,
    RemoteErrorKind.UNREACHABLE,
    RemoteErrorKind.BUSY,
    RemoteErrorKind.QUOTA,
    RemoteErrorKind.PROTOCOL,
}
"""Errors after which the host is asked again: its journal knows how far the visit came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gear:
    """What a rotation works with."""

    ledger: Ledger
    announcer: Announcer
    control: Control
    timetable: Timetable
    audit: AuditLog
    octopus: Client
    hands: Hands
    directory: Directory
    sources: Sources
    issuing: Issuing
    see: See
    clock: Clock
    deadlines: Deadlines
    notes: Notes
    gates: Gates
    breaker: Breaker


class Rotation:
    """The steps of one target, on plain JSON in and out, so that they can be journaled."""

    def __init__(self, gear: Gear) -> None:
        self._gear = gear

    def legs(self, run_id: str, name: str) -> tuple[Leg, ...]:
        """Return the legs of a target; the plan is immutable, so this is the same at every replay."""
        return legs_of(self._gear.ledger.target(run_id, name).steps)

    def wait_until_idle(self, run_id: str, name: str) -> dict[str, Any]:
        """Wait, bounded, until nothing runs on the target: neither in Octopus nor under the Tentacle."""
        gear = self._gear
        target = gear.ledger.target(run_id, name)
        end = gear.clock.monotonic() + gear.deadlines.idle
        with self.shown(run_id, name, StepKind.IDLE) as show:
            while True:
                work = self._work_on(target.facts)
                if not work:
                    return {"ok": True}
                if gear.clock.monotonic() >= end:
                    what = f"{name} was still busy after {gear.deadlines.idle:.0f} s: {work}"
                    show.failed(what)
                    return {"ok": False, "what": what}
                if gear.control.may_begin(run_id, by_the_clock=False) is Go.NEVER:
                    show.failed("stopped while waiting")
                    return {"ok": False, "what": "the run was stopped while it waited for work on the target to end"}
                show.detail(f"waiting for {work}")
                gear.clock.sleep(POLL_SECONDS)

    def _work_on(self, facts: TargetFacts) -> str:
        for record in facts.records:
            for task in self._gear.octopus.running_tasks(record):
                if task.certain and task.start is None:
                    return task.description or task.name
        if facts.instance and facts.instance.children:
            host = self.inspect(facts)
            instance = next((i for i in host.instances if i.name == facts.instance.name), None)
            if instance and instance.children:
                return "the program " + instance.children[0]
        return ""

    def visit(self, run_id: str, name: str, leg_number: int, new: str | None) -> dict[str, Any]:
        """Do one visit's actions on the host, and believe only what was seen there afterwards."""
        gear = self._gear
        plan, target = gear.ledger.plan(run_id), gear.ledger.target(run_id, name)
        leg = legs_of(target.steps)[leg_number]
        actions = [ON_HOST[s] for s in leg.steps]
        if leg.restarts and target.facts.style is Style.LISTENING:
            actions.append(Action.SERVED)
        self._note_begin(run_id, target, leg)
        if StepKind.BACKUP in leg.steps:
            # noted before it is made: the copy holds the old key, and must go whatever becomes of this visit
            gear.ledger.keep_copy(run_id, name, COPY_HOURS)
        watcher, note = Watcher(self, run_id, name), ""
        expected = Thumbprint(new) if new else target.new
        try:
            if plan.source.authority and StepKind.IMPORT in leg.steps:
                expected, pfx, note = gear.issuing.certify(run_id, target, plan.source.authority, self._put_there)
            else:
                pfx = self._pfx(plan, name, leg, expected)
            job = self._job(run_id, target, tuple(actions), expected, pfx, restore_run=plan.source.backup)
            applied = self._apply(target, job, watcher.progress)
        except UserError as error:
            watcher.failed(str(error))
            uncertain = isinstance(error, RemoteError) and error.kind in UNCERTAIN
            return {
                "ok": False,
                "step": (watcher.current or leg.steps[0]).value,
                "what": str(error),
                "begun": watcher.begun,
                "uncertain": uncertain,
            }
        problem = _contradiction(target, leg, applied, expected)
        if problem:
            step, what = problem
            gear.ledger.step(run_id, name, step, StepState.ERROR, what)
            gear.announcer.root(run_id)
            return {"ok": False, "step": step.value, "what": what, "begun": True, "uncertain": False}
        gear.ledger.steps(run_id, name, dict.fromkeys(leg.steps, StepState.COMPLETE))
        gear.announcer.root(run_id)
        result = applied.new or applied.configured
        if leg.replaces and result:
            gear.audit.append(
                f"{run_id}:{name}:configured",
                Entry(
                    kind="configured",
                    run=run_id,
                    target=name,
                    digest=target.digest,
                    old=target.old,
                    new=result,
                    what="the certificate was replaced in the configuration on the host",
                ),
            )
        return {"ok": True, "new": str(result) if result else None, "note": note}

    def _put_there(self, run_id: str, target: TargetPlan) -> Thumbprint | None:
        """Return what is configured once no other visit of this run is at work on the host any more."""
        job = self._job(run_id, target, (Action.BACKUP,), None, None, restore_run=None)
        return self._apply(target, job, _unwatched).configured

    def _pfx(self, plan: Plan, target: str, leg: Leg, expected: Thumbprint | None) -> bytes | None:
        name = plan.source.pfx
        if name is None or expected is None or StepKind.IMPORT not in leg.steps:
            return None
        return self._gear.sources.encoded(name, self._gear.clock.now(), expected, target=target)

    def put_back_visit(self, run_id: str, target: TargetPlan) -> Applied:
        """Put the former certificate back on the host and restart the service; UserError if that cannot be done."""
        job = self._job(run_id, target, restore_actions(target), None, None, restore_run=None)
        return self._apply(target, job, _unwatched)

    def sweep(self, run_id: str, target: TargetPlan) -> None:
        """Remove what the run left on the host: the copy of the configuration and its journal."""
        self._apply(target, self._job(run_id, target, (Action.SWEEP,), None, None, restore_run=None), _unwatched)

    def _job(
        self,
        run_id: str,
        target: TargetPlan,
        actions: tuple[Action, ...],
        new: Thumbprint | None,
        pfx: bytes | None,
        *,
        restore_run: str | None,
    ) -> Job:
        host, instance, deadlines = target.facts.host, target.facts.instance, self._gear.deadlines
        assert host is not None
        assert instance is not None
        return Job(
            run=run_id,
            instance=instance.name,
            exe=host.exe or "",
            config=instance.config,
            service=instance.service,
            expected=target.old,
            new=new,
            pfx=pfx,
            actions=actions,
            port=instance.port,
            listen_address=instance.listen_address,
            restore_run=restore_run,
            program_seconds=deadlines.program,
            stop_seconds=deadlines.service_stop,
            start_seconds=deadlines.service_start,
            loopback_seconds=deadlines.loopback,
        )

    def _apply(self, target: TargetPlan, job: Job, on_progress: Callable[[Progress], None]) -> Applied:
        return self.visit_host(self.endpoint(target.facts), target.name, job, on_progress)

    def visit_host(
        self,
        endpoint: Endpoint,
        name: str,
        job: Job,
        on_progress: Callable[[Progress], None],
        *,
        deadline: float | None = None,
    ) -> Applied:
        """Visit a host; after a lost answer visit again, which reads the journal and goes on, until the deadline.

        RemoteError where it cannot be done; `deadline` in seconds for one visit, that of the configuration if None.
        """
        gear = self._gear
        end = gear.clock.monotonic() + gear.deadlines.host_return
        attempt = 0
        while True:
            try:
                limit = deadline or gear.deadlines.visit
                return gear.hands.apply(endpoint, job, deadline=limit, on_progress=on_progress)
            except RemoteError as error:
                pause = PAUSES[min(attempt, len(PAUSES) - 1)]
                if error.kind not in UNCERTAIN or gear.clock.monotonic() + pause > end:
                    raise
                log.warning("visit is repeated", run=job.run, target=name, kind=error.kind.value)
                gear.clock.sleep(pause)
                attempt += 1

    def endpoint(self, facts: TargetFacts) -> Endpoint:
        """Return how the target's host is reached."""
        return self._gear.directory.reach(facts.records[0]).endpoint

    def inspect(self, facts: TargetFacts) -> HostFacts:
        """Look at the target's host again."""
        deadlines = self._gear.deadlines
        return self._gear.hands.inspect(
            self.endpoint(facts), loopback_seconds=deadlines.loopback, deadline=deadlines.inspect_host
        )

    def served(self, run_id: str, name: str, new: str) -> dict[str, Any]:
        """See the new certificate served from outside, where it could be seen before.

        A place that saw nothing before is no witness; one that fell silent is reported; only one that still sees
        another certificate contradicts.
        """
        gear = self._gear
        target = gear.ledger.target(run_id, name)
        wanted = Thumbprint(new)
        with self.shown(run_id, name, StepKind.SERVED) as show:
            before = [s for s in target.facts.sightings if s.place == "bot" and s.thumbprint]
            if not before:
                own = target.facts.instance and target.facts.instance.served
                show.detail("seen by the host itself" if own and own.thumbprint else "no place could see it before")
                return {"ok": True}
            address, port = _split(before[0].address)
            seen = self._look(address, port, wanted)
            if seen.thumbprint is None:
                show.detail(f"not seen from here any more ({seen.error}); the host itself sees it")
                return {"ok": True}
            if seen.thumbprint != wanted:
                what = f"{name} still serves {seen.thumbprint} instead of {wanted}"
                show.failed(what)
                return {"ok": False, "step": StepKind.SERVED.value, "what": what, "begun": True, "uncertain": False}
            show.detail(f"serves {wanted}")
        return {"ok": True}

    def _look(self, address: str, port: int, wanted: Thumbprint) -> Sighting:
        gear = self._gear
        end = gear.clock.monotonic() + gear.deadlines.handshake
        while True:
            seen = gear.see(address, port)
            if seen.thumbprint == wanted or gear.clock.monotonic() >= end:
                return seen
            gear.clock.sleep(LOOK_SECONDS)

    def record(self, run_id: str, name: str, old: str, new: str) -> dict[str, Any]:
        """Correct the thumbprint in every record; one that vanished is reported, never made again."""
        gear = self._gear
        target = gear.ledger.target(run_id, name)
        done, vanished, changed = [], [], list[str]()
        octopus = gear.octopus.patient(gear.deadlines.server_away)
        with self.shown(run_id, name, StepKind.RECORD) as show:
            for record in target.facts.records:
                try:
                    written = octopus.put_thumbprint(record, Thumbprint(old), Thumbprint(new))
                    changed += [f"{record.name}: {difference}" for difference in written.differences]
                    done.append(record)
                    gear.audit.append(
                        f"{run_id}:{name}:record:{record.id}:{new}",
                        Entry(
                            kind="recorded",
                            run=run_id,
                            target=name,
                            digest=target.digest,
                            old=old,
                            new=new,
                            what=f"{record.name} in {record.space}",
                        ),
                    )
                except RecordVanished:
                    vanished.append(record)
                except UserError as error:
                    what = f"the record {record.name} in {record.space} could not be corrected: {error}"
                    show.failed(what)
                    return {"ok": False, "step": StepKind.RECORD.value, "what": what, "begun": True, "uncertain": False}
            text = f"{len(done)} corrected" if len(done) > 1 else ""
            if vanished:
                text = f"{text} {', '.join(r.name for r in vanished)} is no longer in Octopus and was left so".strip()
            if changed:
                text = f"{text} somebody else changed in the same moment: {'; '.join(changed[:3])}".strip()
            show.detail(text)
        return {"ok": True, "vanished": [f"{r.name} in {r.space}" for r in vanished]}

    def _note_begin(self, run_id: str, target: TargetPlan, leg: Leg) -> None:
        decided = self._gear.ledger.decision(run_id)
        self._gear.audit.append(
            f"{run_id}:{target.name}:visit:{'+'.join(s.name.lower() for s in leg.steps)}",
            Entry(
                kind="began",
                who=decided.user if decided else "",
                run=run_id,
                target=target.name,
                digest=target.digest,
                old=target.old,
                new=target.new or "",
                what="; ".join(s.value for s in leg.steps),
            ),
        )

    @contextmanager
    def shown(self, run_id: str, name: str, step: StepKind) -> "Iterator[Shown]":
        """Show a step as in progress, and as complete or failed when the block ends."""
        shown = Shown(self._gear, run_id, name, step)
        shown.begin()
        yield shown
        shown.end()

    def note(self, run_id: str, name: str, step: StepKind, state: StepState, detail: str = "") -> None:
        """Show where a step stands."""
        self._gear.ledger.step(run_id, name, step, state, detail)
        self._gear.announcer.root(run_id)


CHANGING = frozenset({StepKind.RECORD, StepKind.DRAIN, StepKind.UNDRAIN})
"""Steps outside of a visit that change something; a visit's own are written by `_note_begin`."""


class Shown:
    """One step as people see it."""

    def __init__(self, gear: Gear, run_id: str, name: str, step: StepKind) -> None:
        self._gear, self._run_id, self._name, self._step = gear, run_id, name, step
        self._text = ""
        self._failed = False

    def _note(self, state: StepState) -> None:
        self._gear.ledger.step(self._run_id, self._name, self._step, state, self._text)
        self._gear.announcer.root(self._run_id)

    def begin(self) -> None:
        """Show that it has begun; what changes something stands in the audit log before it does."""
        if self._step in CHANGING:
            digest = self._gear.ledger.plan(self._run_id).digest
            self._gear.audit.append(
                f"{self._run_id}:{self._name}:began:{self._step.name.lower()}",
                Entry(kind="began", run=self._run_id, target=self._name, digest=digest, what=self._step.value),
            )
        self._note(StepState.IN_PROGRESS)

    def detail(self, text: str) -> None:
        """Show more about where it stands."""
        if text != self._text:
            self._text = text
            self._note(StepState.IN_PROGRESS)

    def failed(self, text: str) -> None:
        """Have it end as failed."""
        self._text, self._failed = text, True

    def end(self) -> None:
        """Show that it has ended."""
        self._note(StepState.ERROR if self._failed else StepState.COMPLETE)


class Watcher:
    """Turns the script's progress into steps that people see; `steps` says which action is which step."""

    def __init__(
        self, rotation: Rotation, run_id: str, name: str, steps: Mapping[Action, StepKind] | None = None
    ) -> None:
        self._rotation, self._run_id, self._name = rotation, run_id, name
        self._steps = steps if steps is not None else {action: step for step, action in ON_HOST.items()}
        self.current: StepKind | None = None
        self.begun = False

    def progress(self, progress: Progress) -> None:
        """Take a line of progress."""
        step = self._steps.get(progress.action)
        if step is None:
            return
        self.begun = True
        if progress.state == "begin":
            self.current = step
            self._rotation.note(self._run_id, self._name, step, StepState.IN_PROGRESS)
        elif progress.state == "end":
            self._rotation.note(self._run_id, self._name, step, StepState.COMPLETE)

    def failed(self, what: str) -> None:
        """Show that the step at which it stands has failed."""
        if self.current:
            self._rotation.note(self._run_id, self._name, self.current, StepState.ERROR, what)


def _unwatched(_progress: Progress) -> None:
    """Show nobody: the steps of the plan are not what is being done."""


def restore_actions(target: TargetPlan) -> tuple[Action, ...]:
    """Return what the host does to put a certificate back."""
    served = (Action.SERVED,) if target.facts.style is Style.LISTENING else ()
    return (Action.RESTORE, Action.RESTART, *served)


def _contradiction(
    target: TargetPlan, leg: Leg, applied: Applied, expected: Thumbprint | None
) -> tuple[StepKind, str] | None:
    """Return which witness contradicts what the visit promised, and how; None where all agree."""
    name = target.name
    if leg.replaces:
        step = next(s for s in leg.steps if ON_HOST[s] in {Action.IMPORT, Action.MAKE, Action.RESTORE})
        if applied.configured is None or applied.configured == target.old:
            return step, f"the program reported success, but {name} is still configured with {applied.configured}"
        if expected and applied.configured != expected:
            return step, f"{name} is configured with {applied.configured} instead of {expected}"
    if leg.restarts:
        step = next(s for s in leg.steps if s in {StepKind.START, StepKind.RESTART})
        if applied.state is not ServiceState.RUNNING:
            return step, f"the service of {name} is {applied.state.value} after its restart"
        before = target.facts.instance.served if target.facts.instance else None
        now = applied.served
        if before and before.thumbprint and target.facts.style is Style.LISTENING and now:
            if now.thumbprint is None:
                return step, f"{name} runs, but does not answer on its port any more: {now.error}"
            if now.thumbprint != applied.configured:
                return step, f"{name} serves {now.thumbprint} after its restart, not {applied.configured}"
    return None


def _split(address: str) -> tuple[str, int]:
    name, _, port = address.rpartition(":")
    return name.strip("[]"), int(port)
