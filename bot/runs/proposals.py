"""Proposals: from a request to a plan that people can decide on, and from a decision to a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from bot.audit import Entry
from bot.domain.certificate import CertificateDetails
from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex
from bot.domain.names import TargetGroup, match
from bot.domain.plan import Plan, Refusal, Request, Source
from bot.domain.planner import make_plan, narrowed
from bot.domain.policy import Action, Policy, action_of, environments_of
from bot.domain.run import Run, RunState
from bot.domain.thumbprint import Thumbprint
from bot.runs.approvals import Approvals, Asking
from bot.runs.asking import Asker
from bot.runs.engine import DurableEngine
from bot.runs.gates import Gate
from bot.runs.gear import Gear
from bot.runs.inspector import Inspector
from bot.runs.ledger import new_run_id
from bot.runs.moving import moved
from bot.runs.selecting import Selecting
from bot.runs.steering import Steering
from bot.runs.timetable import OUTSIDE
from bot.slack import messages

UNDECIDED = (RunState.PROPOSED,)
LONGEST_ID = 24
"""Characters of a run's id."""


class Proposals:
    """Makes plans, takes decisions. Every decision is a compare-and-set in the ledger, audited before its effect."""

    def __init__(
        self, gear: Gear, inspector: Inspector, engine: DurableEngine, policy: Policy, approvals: Approvals
    ) -> None:
        self._gear = gear
        self._inspector = inspector
        self._engine = engine
        self._policy = policy
        self._approvals = approvals
        self._steering = Steering(gear, policy)
        self._selecting = Selecting(inspector, gear.clock)

    def plan(self, request: Request) -> Plan:
        """Look at the estate and make a plan; UserError where the request itself cannot be understood."""
        source = self._source(request.source)
        selected = self._selecting.select(request.names)
        return self._plan(request, source, selected.groups, selected.index, {}, selected.notes)

    def _plan(
        self,
        request: Request,
        source: Source,
        groups: Sequence[TargetGroup],
        index: EstateIndex,
        former: Mapping[str, Thumbprint],
        notes: Sequence[str] = (),
    ) -> Plan:
        now = self._gear.clock.now()
        own, refused = self._own_files(source, [g.name for g in groups])
        left = {r.name for r in refused}
        facts = self._inspector.look([g for g in groups if g.name not in left], index)
        return make_plan(
            request,
            source,
            facts,
            index,
            refused,
            now,
            former=former,
            own=own,
            notes=notes,
            timing=lambda environments: self._gear.timetable.schedule(request, environments),
        )

    def _own_files(
        self, source: Source, names: Sequence[str]
    ) -> tuple[dict[str, CertificateDetails] | None, list[Refusal]]:
        """Return what the PFX file of each target holds, and a refusal for each without a fit one."""
        if not source.is_folder:
            return None, []
        own: dict[str, CertificateDetails] = {}
        refused = []
        for name in names:
            try:
                own[name] = self._gear.sources.check(source.pfx or "", self._gear.clock.now(), target=name)
            except UserError as error:
                refused.append(Refusal(name=name, reason=str(error), advice="Then ask again."))
        return own, refused

    def _source(self, text: str) -> Source:
        source = Source(text=text)
        if source.is_made_on_host:
            return source
        if source.ca is not None:
            return Source(text=text, authority=self._gear.issuing.terms(source.ca))
        if source.pfx is None:
            raise UserError(f"“{text}” is no source of certificates. Use new-certificate, pfx:NAME or ca:NAME.")
        if self._gear.sources.is_folder(source.pfx):
            return Source(text=text, is_folder=True)
        return Source(text=text, certificate=self._gear.sources.check(source.pfx, self._gear.clock.now()))

    def propose(self, request: Request, plan: Plan, run_id: str = "") -> Run:
        """Store a plan and post it with its buttons."""
        gear = self._gear
        action, environments = action_of(plan), environments_of(plan)
        refusal = self._policy.refuses_request(
            request.user, request.channel, action, environments, request.reason
        ) or self._policy.nobody_could(request, action, environments)
        run_id = run_id or new_run_id()
        if refusal:
            self._audit(f"{run_id}:refused", "refused", request.user, "", plan, refusal)
            raise UserError(refusal)
        self._audit(
            f"{run_id}:asked", "asked", request.user, run_id, plan, request.reason or "no reason was given",
        )  # fmt: skip
        expires = plan.made + timedelta(minutes=self._policy.approval_minutes)
        needed = self._policy.approvals_for(action, environments)
        run = gear.ledger.propose(plan, expires=expires, run_id=run_id, needed=needed)
        gear.announcer.proposed(run_id)
        return run

    def decide(self, run: Run, asker: Asker, *, approved: bool, reason: str = "") -> str | None:
        """Take an approval or a denial; return a sentence for the clicker if it did not count."""
        gear = self._gear
        verdict = self._approvals.decide(self._approvals.of_plan(run), asker, approved=approved, reason=reason)
        if verdict.refusal:
            return verdict.refusal
        if not verdict.tipped:
            gear.announcer.counted(run.id, asker.key, verdict.decision, verdict.number, verdict.needed)
            return None
        if approved and gear.ledger.standing(run.id).state is RunState.RUNNING:
            self._engine.start(run.id)
        gear.announcer.decided(run.id)
        return None

    def decide_gate(self, run: Run, gate: Gate, asker: Asker, *, approved: bool, reason: str = "") -> str | None:
        """Take a decision in the middle of a run; return a sentence for the clicker if it did not count."""
        gear = self._gear
        verdict = self._approvals.decide(
            self._approvals.of_gate(run, gear.gates, gate), asker, approved=approved, reason=reason
        )
        if verdict.refusal:
            return verdict.refusal
        if not verdict.tipped:
            gear.announcer.counted(run.id, asker.key, verdict.decision, verdict.number, verdict.needed)
            return None
        decided = gear.gates.find(run.id, gate.nonce)
        assert decided is not None
        assert decided.decision is not None
        self._engine.start_part(run.id, decided.part, decided.nonce)
        gear.announcer.root(run.id)
        gear.announcer.say(run.id, f"decided:{gate.nonce}", messages.gate_decided(gate.gate, decided.decision))
        return None

    def waiting_for(self, run: Run, user: str) -> Asking | None:
        """Return what of a run waits for a decision that this person may take; None where nothing does."""
        asking: Asking | None = None
        if run.state is RunState.PROPOSED:
            asking = self._approvals.of_plan(run)
        elif gate := self._gear.gates.waiting(run.id):
            asking = self._approvals.of_gate(run, self._gear.gates, gate)
        return asking if asking and self._approvals.waits_for(asking, user) else None

    def cancel(self, run: Run, asker: Asker) -> str | None:
        """Take back a proposal, or have a run stop at the next safe point; return a sentence if that cannot be."""
        gear = self._gear
        gate = gear.gates.waiting(run.id)
        if gate:  # it is between two parts: to stop it is to deny the next one
            return self.decide_gate(run, gate, asker, approved=False, reason="stopped")
        if run.decision is not None:
            return self._steering.stop(run, asker)
        refusal = self._policy.refuses_cancel(asker.user, run.plan.request)
        if refusal:
            self._audit(f"{run.id}:refused:{asker.key}", "refused", asker.user, run.id, run.plan, refusal)
            return refusal
        entry = self._entry("cancelled", asker.user, run.id, run.plan, "")
        key, to = f"{run.id}:cancelled:{asker.key}", RunState.CANCELLED
        if moved(gear.ledger, gear.audit, key, entry, of=UNDECIDED, to=to, stopped_by=asker.user):
            gear.announcer.cancelled(run.id)
            return None
        return f"The run {run.id} is {gear.ledger.standing(run.id).state.value}; there is nothing to stop."

    def retry(self, run: Run, asker: Asker) -> str | None:
        """Repeat what failed under the same approval, while that lasts; return a sentence if that cannot be."""
        gear, now = self._gear, self._gear.clock.now()
        action, environments = action_of(run.plan), environments_of(run.plan)
        refusal = self._policy.refuses_request(asker.user, asker.channel, action, environments)
        refusal = refusal or self._not_theirs(run, asker)
        if refusal:
            return self._refuse(run, asker, refusal)
        failed = [o.target for o in run.outcomes if not o.kind.changed]
        if not run.state.is_over or not failed:
            return f"There is nothing to retry in {run.id}."
        again_id = _next_id(run.id)
        if again := gear.ledger.find(again_id):
            return f"What failed in {run.id} has already been tried again: {again_id} is {again.state.value}."
        if run.decision is None or not run.decision.approved or run.expires <= now:
            return self._anew(run, asker, failed, again_id)
        plan = narrowed(run.plan, failed)
        self._audit(f"{again_id}:retried", "retried", asker.user, again_id, plan, f"what failed in {run.id}")
        gear.ledger.propose(plan, expires=run.expires, run_id=again_id, retry_of=run.id, decision=run.decision)
        gear.announcer.decided(again_id)
        self._engine.start(again_id)
        return None

    def _anew(self, run: Run, asker: Asker, failed: list[str], run_id: str) -> str | None:
        """Propose what failed again, as a new plan: its approval has expired by now."""
        asked = run.plan.request
        if run.plan.source.backup or run.plan.server:
            return f"The approval of {run.id} has expired. Ask for a new plan."
        request = replace(
            asked,
            user=asker.user,
            user_name=asker.user_name,
            names=tuple(failed),
            at="",
            reason=f"what failed in {run.id}" + (f": {asked.reason}" if asked.reason else ""),
        )
        plan = self.plan(request)
        if not plan.targets:
            raise UserError(
                f"Nothing that failed in {run.id} can be tried again now. "
                + " ".join(f"{r.name}: {r.reason}." for r in plan.refused[:3])
            )
        self.propose(request, plan, run_id)
        return None

    def _refuse(self, run: Run, asker: Asker, refusal: str) -> str:
        self._audit(f"{run.id}:refused:{asker.key}", "refused", asker.user, run.id, run.plan, refusal)
        return refusal

    def _not_theirs(self, run: Run, asker: Asker) -> str | None:
        return self._policy.refuses_cancel(asker.user, run.plan.request) and (
            f"Only who asked for it (<@{run.plan.request.user}>) or an approver can do that."
        )

    def roll_back(self, run: Run, asker: Asker) -> str | None:
        """Propose a new plan that puts the former certificates back; it needs an approval of its own.

        While such a proposal is not over, a second one is not made.
        """
        gear = self._gear
        refusal = self._policy.refuses_anywhere(asker.user, asker.channel, Action.ROLL_BACK)
        refusal = refusal or self._not_theirs(run, asker)
        if refusal:
            return self._refuse(run, asker, refusal)
        before = gear.ledger.roll_backs(run.id)
        open_one = next((b for b in before if not b[1].is_over), None)
        if open_one:
            return f"A roll back of {run.id} has already been proposed: {open_one[0]} is {open_one[1].value}."
        kept = {target for run_id, target in gear.ledger.copies(due=False) if run_id == run.id}
        former = {o.target: o.old for o in run.outcomes if o.kind.changed and o.target in kept}
        if not former:
            return f"Nothing of {run.id} can be rolled back: the copies of the former certificates are gone or unused."
        request = Request(
            user=asker.user,
            user_name=asker.user_name,
            channel=asker.channel,
            thread=run.plan.request.thread,
            names=tuple(former),
            source=f"backup:{run.id}",
            reason=f"roll back of {run.id}",
            canary=run.plan.request.canary,
            batch=run.plan.request.batch,
            # whoever needs the way back needs it now: windows are told, not waited for
            accept=(*run.plan.request.accept, OUTSIDE),
        )
        index = self._inspector.index()
        plan = self._plan(request, Source(text=request.source), match(request.names, index), index, former)
        run_id = f"{run.id}-b{len(before) + 1}"
        self.propose(request, plan, run_id if len(run_id) <= LONGEST_ID else "")
        return None

    def propose_back(self, run: Run, asker: Asker, plan: Plan) -> None:
        """Propose the plan that puts the Server's former certificate back; UserError where the asker may not."""
        self.propose(plan.request, plan)

    def _audit(self, key: str, kind: str, who: str, run_id: str, plan: Plan, what: str) -> None:
        self._gear.audit.append(key, self._entry(kind, who, run_id, plan, what))

    def _entry(self, kind: str, who: str, run_id: str, plan: Plan, what: str) -> Entry:
        targets = ", ".join(t.name for t in plan.targets)
        return Entry(kind=kind, who=who, run=run_id, digest=plan.digest, target=targets, what=what)


def _next_id(run_id: str) -> str:
    """Return the one id under which a run may be repeated: `r-7k2m9q4x`, `r-7k2m9q4x-2`, `r-7k2m9q4x-3`."""
    base, _, number = run_id.rpartition("-")
    return f"{base}-{int(number) + 1}" if base and base != "r" and number.isdigit() else f"{run_id}-2"
