"""The carrier: carries out one approved run, wave by wave. Its methods are workflows; what they call are steps."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from bot.audit import Entry
from bot.domain import dangers
from bot.domain.errors import UserError
from bot.domain.facts import Health
from bot.domain.names import targets as groups_of
from bot.domain.plan import StepKind
from bot.domain.planner import changes, digest_of
from bot.domain.run import OutcomeKind, RunState, named
from bot.runs.carrying import Doing
from bot.runs.control import GOING, Go
from bot.runs.engine import DurableEngine
from bot.runs.gear import Gear
from bot.runs.insistent import GivenUp, Insistent
from bot.runs.inspector import Inspector
from bot.runs.legs import LegKind
from bot.runs.moving import moved
from bot.runs.outcomes import About, Outcomes
from bot.runs.proof import UNDO, Proof
from bot.runs.recorded import Unexpected
from bot.runs.rotation import Rotation
from bot.runs.server_carrier import ServerCarrier
from bot.runs.settling import BROKEN, Settling
from bot.runs.undo import Undo, step_of

log = structlog.get_logger("octocert.runs")

TURNS = 2
"""One Health task checks what begins in so many turns of all that may be in flight. It runs while the rest of the wave
is worked on, and tells of failures before a whole large wave was done; a smaller wave has one task."""


class RunCarrier:
    """Carries out runs on the durable engine. Expected failures are outcomes, not exceptions."""

    def __init__(
        self, gear: Gear, inspector: Inspector, server: ServerCarrier, in_flight: int, doing: Doing = DurableEngine
    ) -> None:
        self._gear = gear
        self._together = in_flight * TURNS
        """How many targets one Health task checks."""
        self._doing = doing
        """By what the steps of one target are done, which fail for it alone, and those that end a run."""
        self._server = server
        self._inspector = inspector
        self._rotation = Rotation(gear)
        self._undo = Undo(gear, self._rotation)
        self._proof = Proof(gear, self._rotation)
        self._outcomes = Outcomes(gear)
        self._settling = Settling(gear, self._rotation, self._undo)
        self._whole = Insistent(doing, gear.control)
        """By what the steps of a run as a whole are done."""

    @property
    def _step(self) -> Callable[..., Any]:
        return self._doing.step

    # Workflows. They only read what is immutable (the plan) and what steps returned, so a replay takes the same way.

    def carry_out(self, run_id: str) -> None:
        """Inspect again, then do wave after wave, as long as the run may go on."""
        plan = DurableEngine.read(self._gear.ledger.plan, run_id)
        if plan.server:
            self._server.carry(run_id, "")
            return
        try:
            self._waves(run_id, plan.waves)
            self._whole.step("finish", self._finish, run_id)
        except GivenUp as error:
            self._break_off(run_id, str(error))

    def _waves(self, run_id: str, waves: Sequence[Sequence[str]]) -> None:
        may: bool = self._whole.step("begin", self._gear.control.may_go_on, run_id)
        fresh = set(self._whole.step("recheck", self._recheck, run_id) if may else [])
        for number, wave in enumerate(waves):
            names = [n for n in wave if n in fresh]
            if names and not self._wave(run_id, number, names):
                break

    def _break_off(self, run_id: str, why: str) -> None:
        """End what was begun by what is seen of it, and with it the run."""
        self._step("stop", self._gear.control.stop_itself, run_id, why)
        left: list[str] = self._step("unsettled", self._settling.unsettled, run_id)
        if left:
            self._doing.settle_all(run_id, [(name, why) for name in left])
        self._step("finish", self._finish, run_id)

    def _wave(self, run_id: str, number: int, names: list[str]) -> bool:
        """Do one wave; targets that were put off because the run is held come again when it goes on."""
        rest, turn = names, 1
        while rest:
            may: bool = self._whole.step("begin_wave", self._begin_wave, run_id, number)
            if not may:
                break
            replaced = self._doing.replace_all(run_id, self._groups(number + 1, turn, rest), turn)
            for proof in replaced.proofs.values():
                if not proof["ok"]:
                    raise GivenUp(proof["what"])
            rest, turn = [n for n in rest if replaced.targets[n].get("later")], turn + 1
        self._whole.step("end_wave", self._end_wave, run_id, number, names)
        return not rest

    def _groups(self, wave: int, turn: int, names: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return the names in groups that are checked together, by keys that occur once in a run."""
        found: dict[str, Sequence[str]] = {}
        for number, start in enumerate(range(0, len(names), self._together), start=1):
            group = f"{wave}" if turn == number == 1 else f"{wave}.{turn}.{number}"
            found[group] = names[start : start + self._together]
        return found

    def prove(self, run_id: str, group: str, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Have Octopus check the health of those that were replaced, undo whom it lost, say what became of the others.

        Done for one group of a wave while the next ones are worked on: a failure counts against the budget at once.
        """
        ready = {name: result for name, result in results.items() if result["ready"]}
        if not ready:
            return {"ok": True}
        names = list(ready)
        try:
            checked = self._whole.step("look", self._proof.look, run_id, names)
            verdicts = self._whole.step("prove", self._proof.prove, run_id, group, names, checked)
            lost = [(n, verdicts[n]["what"]) for n in names if verdicts[n]["verdict"] == UNDO]
            if lost:
                self._doing.put_back_all(run_id, lost)
            self._whole.step("conclude", self._conclude, run_id, verdicts, ready)
        except GivenUp as error:
            return {"ok": False, "what": str(error)}
        return {"ok": True}

    def replace(self, run_id: str, target: str) -> dict[str, Any]:
        """Replace one target's certificate, up to its health check; a failure is undone here."""
        try:
            return self._replace(run_id, target)
        except Unexpected as error:
            self.settle(run_id, target, error.sentence)
            return {"ready": False}

    def _replace(self, run_id: str, target: str) -> dict[str, Any]:
        begun = self._step("begin_target", self._begin_target, run_id, target)
        if begun["go"] != Go.NOW.value:
            return {"ready": False, "later": begun["go"] == Go.LATER.value}
        if begun["busy"]:
            self._step("skip", self._skip, run_id, target, begun["busy"])
            return {"ready": False}
        if begun.get("stale"):  # a release before this one did not look here
            self._step("stale", self._stale, run_id, target, begun["stale"])
            return {"ready": False}
        new: str | None = None
        notes: list[str] = []
        old = DurableEngine.read(self._gear.ledger.target, run_id, target).old
        for number, leg in enumerate(DurableEngine.read(self._rotation.legs, run_id, target)):
            if leg.kind is LegKind.VISIT:
                result = self._visit(run_id, target, number, new)
                new = result.get("new") or new
                notes += [result["note"]] if result.get("note") else []
            else:
                result = self._step("outside", self._rotation.outside, run_id, target, number, str(old), new)
                notes += [
                    f"The record {r} is no longer in Octopus and was left so." for r in result.get("vanished", [])
                ]
            if "skip" in result or "stale" in result:
                self._step("leave", self._leave, run_id, target, result)
                return {"ready": False}
            if not result["ok"]:
                self._step("undo", self._undo_target, run_id, target, result["step"], result["what"], new)
                return {"ready": False}
        return {"ready": True, "new": new, "notes": " ".join(notes)}

    def _visit(self, run_id: str, target: str, number: int, new: str | None) -> dict[str, Any]:
        """Visit the host; where a program runs under the Tentacle come again, bounded, each time as a new step."""
        for turn in itertools.count(1):
            result: dict[str, Any] = self._step("visit", self._rotation.visit, run_id, target, number, new)
            if "at_work" not in result:
                return result
            why = self._step("wait", self._rotation.wait_for_work, run_id, target, result["at_work"], turn)
            if why:
                return {"ok": False, "skip": why}
        raise AssertionError("nobody counts to the end")

    def put_back(self, run_id: str, target: str, why: str) -> None:
        """Undo a target that Octopus cannot reach any more."""
        try:
            self._step("undo", self._undo_target, run_id, target, StepKind.HEALTH.value, why, None)
        except Unexpected as error:
            self._step("lose", self._settling.lose, run_id, target, f"{why}; then {error.sentence}")

    def settle(self, run_id: str, target: str, why: str) -> None:
        """End a target whose work broke off by an error that nobody expected."""
        try:
            self._step("settle", self._settling.settle, run_id, target, why)
        except Unexpected as error:
            self._step("lose", self._settling.lose, run_id, target, f"{why}; then {error.sentence}")

    def carry(self, run_id: str, part: str) -> None:
        """Carry out one part of a run that rotates the Server's certificate, or end what a part left that broke off."""
        plan = DurableEngine.read(self._gear.ledger.plan, run_id)
        if part == BROKEN and not plan.server:
            self._break_off(run_id, "an error that nobody expected broke it off")
        else:
            self._server.carry(run_id, part)

    def tend(self, run_id: str, target: str, task: str) -> dict[str, Any]:
        """Do one phase's work of such a run on one Tentacle."""
        return self._server.tend(run_id, target, task)

    # Steps. Each may be repeated after a crash.

    def _recheck(self, run_id: str) -> list[str]:
        """Look at the records of all targets again; those that are no longer what was approved are skipped and listed.

        What a target serves is looked at again at its own turn, its host looks itself just before it acts.
        """
        gear = self._gear
        gear.ledger.stage(run_id, "looking at every target again")
        gear.announcer.root(run_id)
        plan = gear.ledger.plan(run_id)
        try:
            index = self._inspector.index()
            by_id = {r.id: g for g in groups_of(index) for r in g.records}
            groups, found, before = {}, {}, {}
            for target in plan.targets:
                group = next((by_id[r.id] for r in target.facts.records if r.id in by_id), None)
                if group is not None:
                    groups[group.name] = group
                    found[target.name] = group.name
                    before[group.name] = target.facts
            facts = {f.name: f for f in self._inspector.look(list(groups.values()), index, again=before)}
        except UserError as error:
            for target in plan.targets:
                self._skip(run_id, target.name, f"the estate could not be looked at again: {error}")
            gear.announcer.rechecked(run_id)
            return []
        fresh = []
        for target in plan.targets:
            now, source = facts.get(found.get(target.name, "")), plan.source_of(target)
            if now is None:
                self._stale(run_id, target.name, ["its records are no longer in Octopus"])
                continue
            if digest_of(now, plan.request, source) != target.digest:
                different = changes(target.facts, now, plan.request, source)
                self._stale(run_id, target.name, different or ["what decides its steps"])
            elif refusal := dangers.refusal(now, plan.request, source, index, alone=len(plan.targets) == 1):
                self._skip(run_id, target.name, refusal.reason)
            else:
                fresh.append(target.name)
        gear.announcer.rechecked(run_id)
        return fresh

    def _leave(self, run_id: str, name: str, result: dict[str, Any]) -> None:
        """Leave a target as it is which its host, or the way to it, kept us from touching."""
        gear = self._gear
        authority = gear.ledger.plan(run_id).source.authority
        said = gear.issuing.discard(run_id, gear.ledger.target(run_id, name), authority) if authority else ""
        if "stale" in result:
            self._stale(run_id, name, [t for t in (result["stale"], said) if t])
        else:
            why = result["skip"]
            self._skip(run_id, name, f"{why.removesuffix('.')}. {said}" if said else why)

    def _stale(self, run_id: str, name: str, different: list[str]) -> None:
        self._gear.announcer.stale(run_id, name, different)
        self._outcomes.store(
            run_id,
            name,
            OutcomeKind.SKIPPED,
            what="It has changed since it was approved: " + "; ".join(different),
            now="It was not touched.",
            advice="Ask for a new plan.",
        )

    def _skip(self, run_id: str, name: str, what: str) -> None:
        self._outcomes.store(
            run_id, name, OutcomeKind.SKIPPED, what=what, now="It was not touched.", advice="Ask again later."
        )

    def _begin_wave(self, run_id: str, number: int) -> bool:
        gear = self._gear
        if not gear.control.may_go_on(run_id):
            return False
        total = len(gear.ledger.plan(run_id).waves)
        gear.ledger.stage(run_id, f"wave {number + 1} of {total}" if total > 1 else "")
        gear.announcer.root(run_id)
        return True

    def _begin_target(self, run_id: str, name: str) -> dict[str, Any]:
        """If the run may go on, take the host's lock and wait until Octopus runs nothing there; nothing is done yet.

        Then what is served is looked at again: since the approval hours may have passed, of other waves or of waiting.
        """
        go = self._may_begin(run_id, name)
        if go is not Go.NOW:
            return {"go": go.value, "busy": ""}
        busy = self._rotation.wait_until_idle(run_id, name).get("what", "")
        return {"go": go.value, "busy": busy, "stale": [] if busy else self._different(run_id, name)}

    def _different(self, run_id: str, name: str) -> list[str]:
        """Return what is served otherwise than when the plan was made, as sentences."""
        plan, target = self._gear.ledger.plan(run_id), self._gear.ledger.target(run_id, name)
        now = self._inspector.look_outside(target.facts)
        return changes(target.facts, now, plan.request, plan.source_of(target))

    def _may_begin(self, run_id: str, name: str) -> Go:
        gear = self._gear
        go = gear.control.may_begin(run_id)
        if go is not Go.NOW:
            return go
        facts = gear.ledger.target(run_id, name).facts
        if problem := gear.breaker.problem(self._rotation.endpoint(facts)):
            gear.control.stop_itself(run_id, f"{problem}, and more tries would lock the account")
            return Go.NEVER
        host = facts.host
        assert host is not None
        holder = gear.ledger.lock_host(host.address, run_id)
        if holder != run_id:
            self._skip(run_id, name, f"the run {holder} is working on its host {host.address}")
            return Go.NEVER
        return Go.NOW

    def _undo_target(self, run_id: str, name: str, failed: str, what: str, new: str | None) -> None:
        gear = self._gear
        target = gear.ledger.target(run_id, name)
        aftermath = self._undo.put_back(run_id, name, new)
        authority = gear.ledger.plan(run_id).source.authority
        if authority and aftermath.kind is OutcomeKind.UNDONE:
            what = f"{what}. {gear.issuing.discard(run_id, target, authority)}".removesuffix(". ")
        self._outcomes.store(
            run_id,
            name,
            aftermath.kind,
            in_force=aftermath.in_force,
            health=aftermath.health,
            what=what,
            undone=aftermath.undone,
            now=aftermath.now,
            advice=aftermath.advice,
            failed=step_of(failed),
        )
        log.warning("target undone", run=run_id, target=target.name, step=failed, outcome=aftermath.kind.value)

    def _conclude(self, run_id: str, verdicts: dict[str, dict[str, Any]], results: dict[str, dict[str, Any]]) -> None:
        found: list[tuple[str, OutcomeKind, About]] = []
        for name, verdict in verdicts.items():
            if verdict["verdict"] == UNDO:
                continue
            kind = OutcomeKind(verdict["verdict"])
            advice = {
                OutcomeKind.HEALTHY: "",
                OutcomeKind.UNHEALTHY: "The certificate is in place; look at what Octopus reports.",
                OutcomeKind.NOT_PROVEN: f"Run check-health {name} when Octopus has room for its task.",
            }[kind]
            about = About(
                in_force=results[name]["new"],
                health=Health(verdict["health"]) if verdict["health"] else None,
                what=" ".join(t for t in (verdict["what"], results[name]["notes"]) if t),
                advice=advice,
            )
            found.append((name, kind, about))
        self._outcomes.store_all(run_id, found)

    def _end_wave(self, run_id: str, number: int, names: list[str]) -> None:
        """Give the hosts back; a wave without any success has the run stop itself."""
        gear = self._gear
        targets = [gear.ledger.target(run_id, n) for n in names]
        gear.ledger.release_hosts(run_id, {t.facts.host.address for t in targets if t.facts.host})
        outcomes = [p.outcome for p in gear.ledger.progress(run_id, names) if p.outcome]
        last = number + 1 == len(gear.ledger.plan(run_id).waves)
        if outcomes and not last and not any(o.kind.changed for o in outcomes):
            gear.control.stop_itself(run_id, f"nothing in wave {number + 1} succeeded")

    def _finish(self, run_id: str) -> None:
        """Say of every target without an outcome that its turn never came, and end the run."""
        gear = self._gear
        run = gear.ledger.run(run_id)
        why = "The run ended before its turn."
        if run.stopped_why:
            why = f"The run stopped itself before its turn: {run.stopped_why}."
        elif run.stopped_by:
            why = f"The run was stopped by {named(run.stopped_by)}."
        for name in self._settling.unsettled(run_id):
            self._settling.lose(run_id, name, "nobody told what became of it")
        untouched = About(what=why, now="It was not touched.")
        left = [t.name for t in gear.ledger.run(run_id).targets if t.outcome is None]
        self._outcomes.store_all(run_id, [(name, OutcomeKind.UNTOUCHED, untouched) for name in left])
        gear.ledger.release_hosts(run_id)
        run = gear.ledger.run(run_id)
        counts = ", ".join(f"{sum(o.kind is k for o in run.outcomes)} {k.value}" for k in OutcomeKind)
        entry = Entry(kind="finished", run=run_id, digest=run.plan.digest, what=counts)
        of = (*GOING, RunState.STOPPING)
        moved(gear.ledger, gear.audit, f"{run_id}:finished", entry, of=of, to=RunState.FINISHED)
        gear.announcer.finished(run_id)
