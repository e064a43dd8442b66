"""One target's rotation: visits, the look from outside, records. Each method is a step that may be repeated."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import structlog

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.facts import HostFacts, ServiceState, Sighting, Style, TargetFacts
from bot.domain.plan import Plan, StepKind, TargetPlan
from bot.domain.run import StepState
from bot.domain.thumbprint import Thumbprint
from bot.octopus.errors import RecordVanished
from bot.runs.control import Go
from bot.runs.gear import Gear
from bot.runs.legs import ON_HOST, Leg, legs_of
from bot.runs.showing import Watcher, note, shown
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.hands import Action, Applied, Job, Progress
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


NOT_BEGUN = {RemoteErrorKind.UNREACHABLE, RemoteErrorKind.AUTHENTICATION, RemoteErrorKind.TLS}
"""Errors that say that no script ran, and that waiting for a moment would not help."""


class NothingDone(UserError):  # noqa: N818  # it says what became of it
    """A target was not touched: the text says why."""

    def __init__(self, outcome: Literal["skip", "stale", "at_work"], text: str, *, is_clean: bool) -> None:
        super().__init__(text)
        self.outcome = outcome
        """`stale` where it is no longer what was approved, `at_work` where a program runs there now."""
        self.is_clean = is_clean
        """Whether it is certain that nothing of this run lies on its host."""


class Rotation:
    """The steps of one target, on plain JSON in and out, so that they can be journaled."""

    def __init__(self, gear: Gear) -> None:
        self._gear = gear

    def legs(self, run_id: str, name: str) -> tuple[Leg, ...]:
        """Return the legs of a target; the plan is immutable, so this is the same at every replay."""
        return legs_of(self._gear.ledger.target(run_id, name).steps)

    def wait_until_idle(self, run_id: str, name: str) -> dict[str, Any]:
        """Wait, bounded, until Octopus runs nothing on the target; what else runs there its host tells at the visit."""
        facts = self._gear.ledger.target(run_id, name).facts
        end = self._gear.clock.monotonic() + self._gear.deadlines.idle
        with shown(self._gear, run_id, name, StepKind.IDLE) as show:
            while work := self._tasks_on(facts):
                if what := self._may_not_wait(run_id, name, end, work):
                    show.failed(what)
                    return {"ok": False, "what": what}
                show.detail(f"waiting for {work}")
                self._gear.clock.sleep(POLL_SECONDS)
        return {"ok": True}

    def _tasks_on(self, facts: TargetFacts) -> str:
        for record in facts.records:
            for task in self._gear.octopus.running_tasks(record):
                if task.certain and task.start is None:
                    return task.description or task.name
        return ""

    def _may_not_wait(self, run_id: str, name: str, end: float, work: str) -> str:
        """Return why the end of what runs on a target is not waited for any longer; nothing, where it is."""
        if self._gear.clock.monotonic() >= end:
            return f"{name} was still busy after {self._gear.deadlines.idle:.0f} s: {work}"
        if self._gear.control.may_begin(run_id, by_the_clock=False) is Go.NEVER:
            return "the run was stopped while it waited for work on the target to end"
        return ""

    def visit(self, run_id: str, name: str, leg_number: int, new: str | None) -> dict[str, Any]:
        """Do one visit's actions on the host, and believe only what was seen there afterwards.

        A result that is not `ok` may say that nothing was done: `skip` with why, `stale` with what is different, or
        `at_work` with what runs under the Tentacle and must end before.
        """
        gear = self._gear
        plan, target = gear.ledger.plan(run_id), gear.ledger.target(run_id, name)
        leg = legs_of(target.steps)[leg_number]
        actions = [ON_HOST[s] for s in leg.steps]
        if leg.restarts and target.facts.style is Style.LISTENING:
            actions.append(Action.SERVED)
        self._note_begin(run_id, target, leg)
        # The copy is noted before it is made: it holds the old key, and must go whatever becomes of this visit.
        is_first = StepKind.BACKUP in leg.steps and gear.ledger.keep_copy(run_id, name, COPY_HOURS)
        watcher, told = Watcher(gear, run_id, name), ""
        expected = Thumbprint(new) if new else target.new
        try:
            if plan.source.authority and StepKind.IMPORT in leg.steps:
                if StepKind.BACKUP in leg.steps:
                    # What is not to be touched is found out before anything is signed.
                    self._try(run_id, target, (Action.BACKUP,), watcher, is_first=is_first)
                    is_first = False
                expected, pfx, told = gear.issuing.certify(run_id, target, plan.source.authority, self._put_there)
            else:
                pfx = self._pfx(plan, name, leg, expected)
            job = self._job(run_id, target, tuple(actions), expected, pfx, restore_run=plan.source.backup)
            job = as_planned(job, target)
            applied = self.visit_host(self.endpoint(target.facts), name, job, watcher.progress, is_first=is_first)
        except NothingDone as error:
            if error.is_clean:
                gear.ledger.forget_copy(run_id, name)
            return {"ok": False, error.outcome: str(error)}
        except UserError as error:
            self._note_idle(run_id, name, leg)
            watcher.failed(str(error))
            uncertain = isinstance(error, RemoteError) and error.kind in UNCERTAIN
            return {
                "ok": False,
                "step": (watcher.current or leg.steps[0]).value,
                "what": str(error),
                "begun": watcher.begun,
                "uncertain": uncertain,
            }
        self._note_idle(run_id, name, leg)
        problem = _contradiction(target, leg, applied, expected)
        if problem:
            step, what = problem
            note(gear, run_id, name, step, StepState.ERROR, what)
            return {"ok": False, "step": step.value, "what": what, "begun": True, "uncertain": False}
        gear.ledger.steps(run_id, name, dict.fromkeys(leg.steps, StepState.COMPLETE))
        gear.announcer.noted(run_id)
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
        return {"ok": True, "new": str(result) if result else None, "note": told}

    def wait_for_work(self, run_id: str, name: str, work: str, turn: int) -> str:
        """Wait a while for the end of what runs under a Tentacle; return why it is waited for no longer, or nothing."""
        left = self._gear.deadlines.idle - (turn - 1) * POLL_SECONDS
        what = self._may_not_wait(run_id, name, self._gear.clock.monotonic() + left, work)
        if what:
            note(self._gear, run_id, name, StepKind.IDLE, StepState.ERROR, what)
        else:
            note(self._gear, run_id, name, StepKind.IDLE, StepState.IN_PROGRESS, f"waiting for {work}")
            self._gear.clock.sleep(POLL_SECONDS)
        return what

    def _try(
        self, run_id: str, target: TargetPlan, actions: tuple[Action, ...], watcher: Watcher, *, is_first: bool
    ) -> None:
        """Do what needs no certificate; NothingDone where the host, or the way to it, says that nothing may be done."""
        job = as_planned(self._job(run_id, target, actions, None, None, restore_run=None), target)
        self.visit_host(self.endpoint(target.facts), target.name, job, watcher.progress, is_first=is_first)

    def _note_idle(self, run_id: str, name: str, leg: Leg) -> None:
        """Note that nothing ran there any more when the first visit began."""
        if StepKind.BACKUP in leg.steps:
            note(self._gear, run_id, name, StepKind.IDLE, StepState.COMPLETE)

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
        is_first: bool = False,
    ) -> Applied:
        """Visit a host; after a lost answer visit again, which reads the journal and goes on, until the deadline.

        RemoteError where it cannot be done; `deadline` in seconds for one visit, that of the configuration if None.
        With `is_first` no visit of this run was begun there before: NothingDone where none can be. So it is where the
        host refuses a job that names what was planned for, because something is not so any more.
        """
        gear = self._gear
        end = gear.clock.monotonic() + gear.deadlines.host_return
        attempt = 0
        while True:
            try:
                limit = deadline or gear.deadlines.visit
                return gear.hands.apply(endpoint, job, deadline=limit, on_progress=on_progress)
            except RemoteError as error:
                is_clean = is_first and attempt == 0
                if is_clean and error.kind in NOT_BEGUN:
                    what = f"its host could not be looked at again: {error}"
                    raise NothingDone("skip", what, is_clean=True) from error
                if job.trusted is not None and error.reason == "stale":
                    raise NothingDone("stale", error.said, is_clean=is_clean) from error
                if error.reason == "at-work":
                    raise NothingDone("at_work", error.said, is_clean=is_first) from error
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

    def outside(self, run_id: str, name: str, leg_number: int, old: str, new: str) -> dict[str, Any]:
        """Do a leg that is not done on the host; the result is that of the step which failed, or of the last one."""
        result: dict[str, Any] = {"ok": True}
        for step in self.legs(run_id, name)[leg_number].steps:
            if step is StepKind.SERVED:
                result = self._served(run_id, name, new)
            else:
                result = self._record(run_id, name, old, new)
            if not result["ok"]:
                break
        return result

    def _served(self, run_id: str, name: str, new: str) -> dict[str, Any]:
        """See the new certificate served from outside, where it could be seen before.

        A place that saw nothing before is no witness; one that fell silent is reported; only one that still sees
        another certificate contradicts.
        """
        gear = self._gear
        target = gear.ledger.target(run_id, name)
        wanted = Thumbprint(new)
        with shown(self._gear, run_id, name, StepKind.SERVED) as show:
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

    def _record(self, run_id: str, name: str, old: str, new: str) -> dict[str, Any]:
        """Correct the thumbprint in every record; one that vanished is reported, never made again."""
        gear = self._gear
        target = gear.ledger.target(run_id, name)
        done, vanished, changed = [], [], list[str]()
        octopus = gear.octopus.patient(gear.deadlines.server_away)
        with shown(self._gear, run_id, name, StepKind.RECORD) as show:
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


def _unwatched(_progress: Progress) -> None:
    """Show nobody: the steps of the plan are not what is being done."""


def as_planned(job: Job, target: TargetPlan) -> Job:
    """Return a job that its host refuses as long as nothing is done and something is not as it was planned for."""
    trusted = target.facts.instance.trusted if target.facts.instance else ()
    return replace(job, trusted=tuple(t.text for t in trusted))


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
