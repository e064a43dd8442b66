"""How a run of the Server ends that broke off: what the nodes are seen to serve decides what is said."""

from bot.domain.by_hand import command_for
from bot.domain.errors import UserError
from bot.domain.plan import ServerPlan, StepKind
from bot.domain.run import OutcomeKind, Run, StepState, TargetProgress
from bot.domain.thumbprint import Thumbprint
from bot.runs.gear import Gear
from bot.runs.node_steps import NodeSteps
from bot.runs.outcomes import Outcomes
from bot.runs.server_inspector import ServerInspector
from bot.slack import messages


class ServerBreaking:
    """One step; it may be repeated, and the first outcome of each subject stands."""

    def __init__(self, gear: Gear, nodes: NodeSteps, inspector: ServerInspector) -> None:
        self._gear = gear
        self._nodes = nodes
        self._inspector = inspector
        self._outcomes = Outcomes(gear)

    def broke_off(self, run_id: str, why: str) -> None:
        """Look at the nodes, and store what became of them and of the Tentacles."""
        run = self._gear.ledger.run(run_id)
        server, new = run.plan.server, self._nodes.new_of(run_id)
        assert server is not None
        if run.state.is_over:
            self._gear.announcer.say(run_id, "broke off", messages.server_note(f"the work broke off: {why}"))
            return
        seen = self._seen(server)
        for node in server.nodes:
            self._node(run, server, node.name, seen[node.name], new, why)
        untouched = all(served == {server.old} for served in seen.values())
        for target in run.targets:
            if not target.outcome and target.name not in seen:
                self._tentacle(run, server, target, new, untouched=untouched, why=why)

    def _seen(self, server: ServerPlan) -> dict[str, set[Thumbprint]]:
        """Return what each node of the plan is seen to serve; nothing where it cannot be seen."""
        try:
            served = {n.node.id: set(n.served) for n in self._inspector.nodes(server.old)}
        except UserError:
            served = {}
        return {n.name: served.get(n.facts.node.id, set()) for n in server.nodes}

    def _node(
        self, run: Run, server: ServerPlan, name: str, served: set[Thumbprint], new: Thumbprint | None, why: str
    ) -> None:
        what = f"The work broke off: {why}"
        if served == {server.old}:
            kind, now, advice = OutcomeKind.UNTOUCHED, f"It serves its old certificate {server.old}.", ""
        elif new and served == {new}:
            kind, now = OutcomeKind.NOT_PROVEN, f"It serves its new certificate {new}."
            advice = "Run check-health of the machines, and follow the advice for each of them."
        else:
            shown = " and ".join(sorted(served)) or "nothing that could be seen"
            kind, now = OutcomeKind.FAILED, f"It serves {shown}."
            advice = (
                "Look at the Octopus Server's log on that node. The old certificate lies in the folder octocert under "
                "ProgramData of the first node: import it there and restart the node."
            )
        in_force = next(iter(served)) if len(served) == 1 else None
        self._outcomes.store(run.id, name, kind, what=what, in_force=in_force, now=now, advice=advice)

    def _tentacle(
        self,
        run: Run,
        server: ServerPlan,
        target: TargetProgress,
        new: Thumbprint | None,
        *,
        untouched: bool,
        why: str,
    ) -> None:
        """Say of a Tentacle what was done to it, and by which command it can be made to trust the new certificate."""
        states = {s.step: s.state for s in target.steps}
        change = states.get(StepKind.TRUST) or states.get(StepKind.FOLLOW) or StepState.PENDING
        kind, now, advice = OutcomeKind.UNTOUCHED, f"It trusts {server.old}.", ""
        if change is StepState.COMPLETE and not untouched:
            kind, now = OutcomeKind.NOT_PROVEN, f"It was made to trust {new}."
            advice = f"Run check-health {target.name}."
        elif change is not StepState.PENDING:
            now = f"It trusts {server.old}, and perhaps {new} beside it, which does no harm."
        if not untouched and kind is OutcomeKind.UNTOUCHED:
            command = command_for(run.plan.target(target.name).facts, server.old, new or "?")
            advice = f"Where the Server serves {new}, run there: `{command}`"
        in_force = new if kind is OutcomeKind.NOT_PROVEN else server.old
        self._outcomes.store(
            run.id,
            target.name,
            kind,
            what=f"The work broke off: {why}",
            in_force=in_force,
            now=now,
            advice=advice,
            announce=False,
        )
