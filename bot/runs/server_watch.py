"""The second look: a day after the Server switched, whether somebody put old thumbprints back."""

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.facts import ServerFacts, Style
from bot.domain.plan import ServerPlan
from bot.domain.run import Run
from bot.domain.thumbprint import Thumbprint
from bot.runs.gear import Gear
from bot.runs.node_steps import NodeSteps
from bot.runs.server_inspector import ServerInspector
from bot.slack import messages

LOOK = "look again"
"""The part of a run that only looks."""


class ServerWatch:
    """Compares what is there with what a run left."""

    def __init__(self, gear: Gear, inspector: ServerInspector, nodes: NodeSteps) -> None:
        self._gear = gear
        self._inspector = inspector
        self._nodes = nodes

    def look_again(self, run_id: str) -> None:
        """Look at the Server and at what this run changed, and say in its thread what is no longer so."""
        gear = self._gear
        run = gear.ledger.run(run_id)
        new, server = self._nodes.new_of(run.id), run.plan.server
        assert server is not None
        assert new is not None
        try:
            facts = self._inspector.look()
        except UserError as error:
            problems = [f"the second look was not possible: {error}"]
        else:
            problems = went_back(run, server, facts, new)
        what = "; ".join(problems) or "all goes by the new certificate"
        gear.audit.append(
            f"{run_id}:looked", Entry(kind="looked", run=run_id, old=server.old, new=new, what=what[:1_000])
        )
        gear.announcer.say(run_id, "looked again", messages.server_looked_again(run, problems))


def went_back(run: Run, server: ServerPlan, facts: ServerFacts, new: Thumbprint) -> list[str]:
    """Return what is no longer as the run left it, a phrase each; what cannot be seen is told, too."""
    found = []
    if facts.thumbprint != new:
        found.append(f"the Server's certificate is {facts.thumbprint} now, not {new}")
        return found
    for node in facts.nodes:
        wrong = [t for t in node.served if t != new]
        if wrong:
            found.append(f"the node {node.name} serves {wrong[0]}")
    changed = {o.target for o in run.outcomes if o.kind.changed}
    by_record = {r.id: t for t in facts.tentacles for r in t.records}
    for target in run.plan.targets:
        if target.name not in changed:
            continue
        now = next((by_record[r.id] for r in target.facts.records if r.id in by_record), None)
        if now is None:
            found.append(f"the Tentacle {target.name} is no longer in Octopus")
        elif now.instance is None:
            why = now.host_error or now.instance_error or "no answer"
            found.append(f"the Tentacle {target.name} could not be looked at: {why}")
        else:
            trusted = {t.thumbprint for t in now.instance.trusted}
            if new not in trusted:
                shown = ", ".join(t.shown for t in now.instance.trusted) or "nobody"
                found.append(f"the Tentacle {target.name} does not trust {new} any more, but {shown}")
            elif target.facts.style is Style.POLLING and server.old in trusted:
                found.append(f"the Tentacle {target.name} has an entry with the old thumbprint {server.old} again")
    return found
