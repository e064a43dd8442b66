"""Steps after the switch, and of every other end: what became of each, the clean-up, the way back told."""

import hashlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from bot.audit import Entry
from bot.domain.by_hand import command_for
from bot.domain.facts import Health, Style
from bot.domain.plan import Plan, ServerPlan, StepKind, TargetPlan
from bot.domain.run import OutcomeKind, Run, RunState
from bot.domain.server_planner import keeps_old_trust, registrations
from bot.runs.control import GOING
from bot.runs.gear import Gear
from bot.runs.moving import moved
from bot.runs.node_steps import NodeSteps
from bot.runs.outcomes import Outcomes
from bot.runs.proof import UNDO
from bot.runs.trust_steps import Task
from bot.slack import messages

CLEAN_UP = "clean up"
"""The gate at which the removal of the old trust is approved, and the part of a run that removes it."""


class ServerClosing:
    """Steps on plain JSON; each may be repeated."""

    def __init__(self, gear: Gear, nodes: NodeSteps) -> None:
        self._gear = gear
        self._nodes = nodes
        self._outcomes = Outcomes(gear)

    def tending_failed(self, run_id: str, name: str, task: str, result: dict[str, Any]) -> None:
        """Note what became of a Tentacle whose visit failed; in clean-up that is said, but changes no outcome."""
        run = self._gear.ledger.run(run_id)
        new = self._new(run)
        if task in {Task.CLEAN.value, Task.BACK.value}:
            what = f"the Tentacle {name} was not done: {result['what']}"
            self._gear.announcer.say(run_id, f"{task}:{name}", messages.server_note(what))
            return
        trusts = _server(run.plan).old
        where = "It trusts the Server's old certificate only, as far as is known."
        command = command_for(run.plan.target(name).facts, trusts, new)
        self._outcomes.store(
            run_id,
            name,
            OutcomeKind.FAILED,
            what=str(result["what"]),
            in_force=trusts,
            now=where,
            advice=f"Mend the cause and ask for `rotate server` again, or run there: `{command}`",
            failed=StepKind(result["step"]) if result.get("step") else None,
        )

    def drifted(self, run_id: str, name: str, what: str) -> None:
        """Note that a Tentacle is no longer what was approved, and so is left alone."""
        server = _server(self._gear.ledger.run(run_id).plan)
        self._outcomes.store(
            run_id,
            name,
            OutcomeKind.SKIPPED,
            what=f"It has changed since it was approved: {what}",
            in_force=server.old,
            now="It was not touched.",
            advice="Ask for a new plan.",
        )

    def give_up(self, run_id: str, why: str, proven: list[str]) -> None:
        """End a run before the switch: nothing is lost, and a trust that was added does no harm."""
        run = self._gear.ledger.run(run_id)
        for node in _server(run.plan).nodes:
            self._outcomes.store(
                run_id, node.name, OutcomeKind.UNTOUCHED, what=f"The Server was not switched: {why}",
                in_force=_server(run.plan).old,
            )  # fmt: skip
        self._leave(run, why, proven)
        self._finish(run_id)

    def went_back(self, run_id: str, why: str, reverted: dict[str, Any], proven: list[str], switched: bool) -> None:
        """End a run whose switch failed: the old certificate is in force again, or a person is needed now."""
        run = self._gear.ledger.run(run_id)
        server = _server(run.plan)
        good = bool(reverted["ok"])
        kind = OutcomeKind.UNDONE if good and switched else OutcomeKind.UNTOUCHED if good else OutcomeKind.FAILED
        for node in server.nodes:
            self._outcomes.store(
                run_id,
                node.name,
                kind,
                what=why,
                in_force=server.old if good else None,
                undone="the Server's old certificate was put back" if switched and good else "",
                now=(
                    f"The Server serves its old certificate {server.old}."
                    if good
                    else f"The old certificate could not be put back everywhere: {reverted['what']}."
                ),
                advice=(
                    "Mend the cause and ask for a new plan."
                    if good
                    else "Look at the Octopus Server's log on that node. The old certificate lies in the folder "
                    "octocert under ProgramData of the first node: import it there and restart the node."
                ),
            )
        self._leave(run, why, proven)
        self._finish(run_id)

    def conclude(self, run_id: str, verdicts: dict[str, dict[str, Any]]) -> None:
        """Store what became of the nodes, and of Tentacles by what Octopus found."""
        run = self._gear.ledger.run(run_id)
        new = self._new(run)
        self._nodes_switched(run)
        for name, verdict in verdicts.items():
            lost = verdict["verdict"] == UNDO
            kind = OutcomeKind.UNHEALTHY if lost else OutcomeKind(verdict["verdict"])
            advice = {
                OutcomeKind.UNHEALTHY: f"Run check-health {name}; it trusts the new certificate by its own word.",
                OutcomeKind.NOT_PROVEN: f"Run check-health {name} when Octopus has room for its task.",
            }.get(kind, "")
            self._outcomes.store(
                run_id,
                name,
                kind,
                what=verdict["what"],
                in_force=new,
                health=Health(verdict["health"]) if verdict["health"] else None,
                advice=advice,
                announce=kind is not OutcomeKind.HEALTHY,
            )

    def ask_clean_up(self, run_id: str) -> None:
        """Ask whether the old trust may be removed, where there is any; the answer may take days."""
        gear = self._gear
        run = gear.ledger.run(run_id)
        self._nodes_switched(run)
        self._fill(run)
        names = self.cleanable(run_id)
        if not names or run.state is RunState.STOPPING:
            self._finish(run_id)
            return
        gear.audit.append(
            f"{run_id}:proven",
            Entry(kind="proven", run=run_id, digest=run.plan.digest, old=_server(run.plan).old, new=self._new(run),
                  what=f"{len(names)} Tentacles were proven healthy; their old trust may be removed"),
        )  # fmt: skip
        self._open(run_id, names)

    def ask_again(self, run_id: str, why: str) -> None:
        """Say why the old trust cannot be removed yet, and ask once more."""
        gear = self._gear
        entry = Entry(kind="asked again", run=run_id, digest=gear.ledger.plan(run_id).digest, what=why)
        gear.audit.append(f"{run_id}:not yet:{why}", entry)
        gear.announcer.say(run_id, f"not yet:{why}", messages.server_not_yet(why))
        self._open(run_id, self.cleanable(run_id))

    def cleanable(self, run_id: str) -> list[str]:
        """Return the listening Tentacles whose health was proven, and whose old trust nobody else needs."""
        run = self._gear.ledger.run(run_id)
        healthy = {o.target for o in run.outcomes if o.kind is OutcomeKind.HEALTHY}
        well = [t for t in run.plan.targets if t.name in healthy]
        polled = registrations(t.facts for t in well)
        return [t.name for t in well if _may_forget(t, polled)]

    def cleaned(self, run_id: str, done: list[str]) -> None:
        """Say whose old trust was removed, and end the run."""
        gear = self._gear
        run = gear.ledger.run(run_id)
        gear.audit.append(
            f"{run_id}:cleaned",
            Entry(kind="cleaned", run=run_id, digest=run.plan.digest, old=_server(run.plan).old, new=self._new(run),
                  what=f"the old trust was removed from {len(done)} Tentacles"),
        )  # fmt: skip
        left = [n for n in self.cleanable(run_id) if n not in done]
        gear.announcer.say(run_id, "cleaned", messages.server_cleaned(run, done, left))
        first = _server(run.plan).nodes[0].name
        # without the old trust the old certificate is of no use: its copy goes now, not in a day
        self._finish(run_id, lambda connection: gear.ledger.release_copy(run_id, first, connection))

    def never_cleaned(self, run_id: str) -> None:
        """End a run whose clean-up was denied: the old trust stays, which does no harm while nobody has that key."""
        self._finish(run_id)

    def end(self, run_id: str) -> None:
        """End a run whose outcomes are told; nothing where it is over already."""
        if not self._gear.ledger.standing(run_id).state.is_over:
            self._finish(run_id)

    # ---- Inside

    def _open(self, run_id: str, names: list[str]) -> None:
        gear = self._gear
        run = gear.ledger.run(run_id)
        gear.ledger.stage(run_id, "waiting for the approval of the clean-up")
        digest = hashlib.sha256("\n".join([run.plan.digest, *names]).encode()).hexdigest()
        gate = gear.gates.open(run_id, CLEAN_UP, digest=digest, action="clean-up", expires=False)
        gear.announcer.root(run_id)
        question = messages.server_clean_up(gear.ledger.run(run_id), len(names), gate.nonce)
        gear.announcer.say(run_id, f"{CLEAN_UP}:{gate.nonce}", question)

    def _nodes_switched(self, run: Run) -> None:
        """Store that the nodes serve the new certificate; they do so, too, where no Tentacle is there to be proven."""
        for node in _server(run.plan).nodes:
            self._outcomes.store(
                run.id, node.name, OutcomeKind.HEALTHY, what="", in_force=self._new(run), announce=False
            )

    def _leave(self, run: Run, why: str, proven: list[str]) -> None:
        """Store that the Tentacles without an outcome stay as they are."""
        server, new = _server(run.plan), self._new(run)
        have = {o.target for o in run.outcomes}
        for target in run.plan.targets:
            if target.name in have:
                continue
            both = target.name in proven and target.facts.style is Style.LISTENING
            now = f"It trusts {server.old}, and {new} beside it, which does no harm." if both else "It was not touched."
            self._outcomes.store(
                run.id,
                target.name,
                OutcomeKind.UNTOUCHED,
                what=f"The Server was not switched: {why}",
                in_force=server.old,
                now=now,
                announce=False,
            )

    def _fill(self, run: Run) -> None:
        """Store an outcome for Tentacles that nothing else has one for: their waves never came, but the switch did."""
        have = {o.target for o in run.outcomes}
        new = self._new(run)
        for target in run.plan.targets:
            if target.name not in have:
                command = command_for(target.facts, _server(run.plan).old, new)
                self._outcomes.store(
                    run.id,
                    target.name,
                    OutcomeKind.UNTOUCHED,
                    what="Its turn never came, and it does not trust the Server's new certificate",
                    in_force=_server(run.plan).old,
                    advice=f"Run there: `{command}`",
                )

    def _finish(self, run_id: str, also: Callable[[sa.Connection], None] = lambda _: None) -> None:
        gear = self._gear
        gear.ledger.release_hosts(run_id)
        run = gear.ledger.run(run_id)
        counts = ", ".join(f"{sum(o.kind is k for o in run.outcomes)} {k.value}" for k in OutcomeKind)
        entry = Entry(kind="finished", run=run_id, digest=run.plan.digest, what=counts)
        of = (*GOING, RunState.STOPPING, RunState.ASKING)
        moved(gear.ledger, gear.audit, f"{run_id}:finished", entry, of=of, to=RunState.FINISHED, also=also)
        gear.announcer.finished(run_id)

    def _new(self, run: Run) -> str:
        return self._nodes.new_of(run.id) or "?"


def _may_forget(target: TargetPlan, polled: frozenset[str]) -> bool:
    """Whether the old trust of a Tentacle may go: never where a polling entry carries it that did not move on."""
    if target.facts.style is not Style.LISTENING or StepKind.UNTRUST not in target.steps or not target.facts.instance:
        return False
    return not keeps_old_trust(target.facts, target.old, polled)


def _server(plan: Plan) -> ServerPlan:
    assert plan.server is not None, "this run rotates no Server"
    return plan.server
