"""The steps by which one Tentacle comes to trust the Server's new certificate, and forgets the old one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from bot.audit import Entry
from bot.domain.by_hand import own_entries
from bot.domain.errors import UserError
from bot.domain.facts import Instance, Style
from bot.domain.plan import Order, Plan, StepKind, TargetPlan
from bot.domain.run import Decision, StepState
from bot.domain.thumbprint import Thumbprint
from bot.runs.gear import Gear
from bot.runs.node_steps import NodeSteps
from bot.runs.rotation import Rotation
from bot.runs.showing import Watcher, note
from bot.windows.hands import Action, Applied, Job


class Task(StrEnum):
    """What is done to a Tentacle in one phase; each has a journal of its own on the host."""

    TRUST = "trust"
    """Trust the new certificate beside the old one (listening)."""
    FOLLOW = "follow"
    """Trust the new one instead of the old one (polling)."""
    BACK = "back"
    """Trust the old one again instead of the new one (polling, after the Server went back)."""
    CLEAN = "clean"
    """Trust the old one no more (listening)."""


_CHANGE = {
    Task.TRUST: (StepKind.TRUST, Action.TRUST),
    Task.FOLLOW: (StepKind.FOLLOW, Action.RETRUST),
    Task.BACK: (StepKind.FOLLOW, Action.RETRUST),
    Task.CLEAN: (StepKind.UNTRUST, Action.UNTRUST),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """What is needed of a run, without its targets: they may be thousands."""

    id: str
    plan: Plan
    decision: Decision | None


class TrustSteps:
    """Visits Tentacles. A trust that was added is never taken back by an undo: it does no harm."""

    def __init__(self, gear: Gear, rotation: Rotation, nodes: NodeSteps) -> None:
        self._gear = gear
        self._rotation = rotation
        self._nodes = nodes

    def tend(self, run_id: str, name: str, task: str) -> dict[str, Any]:
        """Do one phase's work on one Tentacle and believe only its running process."""
        gear = self._gear
        run = self._run(run_id)
        target, new = gear.ledger.target(run_id, name), self._nodes.new_of(run_id)
        assert new is not None, "no new thumbprint, no trust"
        kind = Task(task)
        self._note_begin(run, target, kind, new)
        watcher = Watcher(self._gear, run_id, name, self._shown(run, kind))
        try:
            job = self._job(run, target, kind, new)
            applied = self._rotation.visit_host(self._rotation.endpoint(target.facts), name, job, watcher.progress)
        except UserError as error:
            watcher.failed(str(error))
            return {"ok": False, "step": (watcher.current or _CHANGE[kind][0]).value, "what": str(error)}
        result = self._judge(run, target, kind, new, applied)
        if not result["ok"]:
            note(self._gear, run_id, name, StepKind(result["step"]), StepState.ERROR, result["what"])
            return result
        for step in self._steps_of(run, kind):
            detail = result["detail"] if step is StepKind.TRUSTING else ""
            gear.ledger.step(run_id, name, step, StepState.COMPLETE, detail)
        gear.announcer.root(run_id)
        return result

    def trusting_already(self, run_id: str, name: str) -> None:
        """Show that a Tentacle's process trusts the new certificate already, so that nothing is done to it."""
        run = self._run(run_id)
        for step in (StepKind.IDLE, *self._steps_of(run, Task.TRUST)):
            detail = "its process trusts it already" if step is StepKind.TRUSTING else ""
            self._gear.ledger.step(run_id, name, step, StepState.COMPLETE, detail)
        self._gear.announcer.root(run_id)

    def _run(self, run_id: str) -> _Part:
        ledger = self._gear.ledger
        return _Part(run_id, ledger.plan(run_id), ledger.decision(run_id))

    def _steps_of(self, run: _Part, task: Task) -> tuple[StepKind, ...]:
        change = _CHANGE[task][0]
        if task is Task.CLEAN:
            return (change,)
        documented = run.plan.request.order is Order.DOCUMENTED
        around = (StepKind.STOP, change, StepKind.START) if documented else (change, StepKind.RESTART)
        return (*around, StepKind.TRUSTING) if task is Task.TRUST else around

    def _actions_of(self, run: _Part, task: Task) -> tuple[Action, ...]:
        change = _CHANGE[task][1]
        if run.plan.request.order is Order.DOCUMENTED and task in {Task.TRUST, Task.FOLLOW}:
            return (Action.STOP, change, Action.START, Action.TRUSTING)
        return (change, Action.RESTART, Action.TRUSTING)

    def _shown(self, run: _Part, task: Task) -> dict[Action, StepKind]:
        """Return which action is shown as which step: the restarts of clean-up are part of it."""
        step, change = _CHANGE[task]
        if task is Task.CLEAN:
            return {change: step}
        return {
            change: step,
            Action.STOP: StepKind.STOP,
            Action.START: StepKind.START,
            Action.RESTART: StepKind.RESTART,
            Action.TRUSTING: StepKind.TRUSTING,
        }

    def _job(self, run: _Part, target: TargetPlan, task: Task, new: Thumbprint) -> Job:
        host, instance, deadlines = target.facts.host, target.facts.instance, self._gear.deadlines
        assert host is not None
        assert instance is not None
        assert instance.configured is not None
        old = target.old
        wanted, unwanted = (old, new) if task is Task.BACK else (new, old)
        return Job(
            run=f"{run.id}-{task.value}",
            instance=instance.name,
            exe=host.exe or "",
            config=instance.config,
            service=instance.service,
            expected=instance.configured,
            new=None,
            pfx=None,
            actions=self._actions_of(run, task),
            port=instance.port,
            listen_address=instance.listen_address,
            trust_old=_exact(instance, unwanted),
            trust_new=wanted,
            server_addresses=tuple(sorted({_host_and_port(t.address) for t in own_entries(target.facts) if t.address})),
            program_seconds=deadlines.program,
            stop_seconds=deadlines.service_stop,
            start_seconds=deadlines.service_start,
            loopback_seconds=deadlines.loopback,
        )

    def _judge(self, run: _Part, target: TargetPlan, task: Task, new: Thumbprint, applied: Applied) -> dict[str, Any]:
        """Return whether the running process is seen to trust what it must; the list in its file is no proof."""
        name, change = target.name, _CHANGE[task][0].value
        wanted = target.old if task is Task.BACK else new
        listed = {t.thumbprint for t in applied.trusted}
        if wanted not in listed:
            return _failed(change, f"{name} does not have {wanted} in its list of trusted Servers")
        if task is Task.CLEAN and target.old in listed:
            return _failed(change, f"{name} still has {target.old} in its list of trusted Servers")
        seen, detail = self._proof(run, target, wanted, applied)
        if not seen:
            step = StepKind.TRUSTING if task is Task.TRUST else StepKind(change)
            return _failed(step.value, f"{name} is not seen to trust {wanted}: {detail}")
        return {"ok": True, "detail": detail}

    def _proof(self, run: _Part, target: TargetPlan, wanted: Thumbprint, applied: Applied) -> tuple[bool, str]:
        """Return whether the process trusts `wanted`, and how that was seen: by a greeting, or in its log."""
        instance, source = target.facts.instance, run.plan.source.pfx
        if source and target.facts.style is Style.LISTENING and wanted != target.old and instance:
            gear = self._gear
            parts = urlsplit(target.facts.records[0].uri)
            try:
                greeting = gear.sources.greet(
                    source,
                    gear.clock.now(),
                    wanted,
                    address=parts.hostname or "",
                    port=parts.port or instance.port,
                    timeout=gear.deadlines.handshake,
                )
            except (UserError, ValueError) as error:
                return False, str(error)
            if greeting.trusted is not None:
                how = "it answers a greeting with the new certificate" if greeting.trusted else "it refuses a greeting"
                return greeting.trusted, how
        if applied.trusting is None:
            return False, applied.trusting_error or "its log does not tell what its process trusts"
        if wanted in applied.trusting:
            return True, "its process says so in its log"
        return False, "its process says in its log that it trusts " + (", ".join(applied.trusting) or "nobody")

    def _note_begin(self, run: _Part, target: TargetPlan, task: Task, new: Thumbprint) -> None:
        self._gear.audit.append(
            f"{run.id}:{target.name}:{task.value}",
            Entry(
                kind="began",
                who=run.decision.user if run.decision else "",
                run=run.id,
                target=target.name,
                digest=target.digest,
                old=target.old,
                new=new,
                what=_CHANGE[task][0].value,
            ),
        )


def _failed(step: str, what: str) -> dict[str, Any]:
    return {"ok": False, "step": step, "what": what}


def _exact(instance: Instance, thumbprint: Thumbprint) -> str:
    """Return a trusted thumbprint as it stands in the file: its removal is case-sensitive."""
    return next((t.text for t in instance.trusted if t.thumbprint == thumbprint), thumbprint)


def _host_and_port(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.hostname or ''}:{parts.port or 10943}".casefold()
