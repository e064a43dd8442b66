"""Proposals about the Octopus Server: its plan, its state told, its roll back."""

from bot.domain.errors import UserError
from bot.domain.facts import NodeFacts, ServerFacts
from bot.domain.plan import Plan, Request, Source
from bot.domain.run import OutcomeKind, Run, RunState
from bot.domain.server_planner import make_server_plan, refusal_of_lost
from bot.domain.thumbprint import Thumbprint
from bot.runs.asking import Asker
from bot.runs.gear import Gear
from bot.runs.node_steps import NEW
from bot.runs.server_inspector import ServerInspector
from bot.runs.timetable import OUTSIDE

SERVER = "server"
"""What a command calls the Octopus Server."""


def is_server(names: tuple[str, ...]) -> bool:
    """Whether a command is about the Server. UserError where it names Tentacles beside it."""
    folded = [n.casefold() for n in names]
    if SERVER in folded and len(names) > 1:
        raise UserError("The Server is rotated alone: `rotate server`. Ask for the Tentacles in another command.")
    return folded == [SERVER]


class ServerProposals:
    """Makes plans of the Server's rotation."""

    def __init__(self, gear: Gear, inspector: ServerInspector) -> None:
        self._gear = gear
        self._inspector = inspector

    def facts(self) -> ServerFacts:
        """Look at the Server, its nodes and all Tentacles."""
        return self._inspector.look()

    def seen(self) -> tuple[Thumbprint, tuple[NodeFacts, ...]]:
        """Return the thumbprint that the API tells, and the nodes from every side."""
        told = self._gear.octopus.server_thumbprint()
        return told, self._inspector.nodes(told)

    def new_of(self, run: Run) -> Thumbprint | None:
        """Return the Server's new thumbprint in a run, as far as it is known by now."""
        server = run.plan.server
        return (server.new if server else None) or Thumbprint.maybe(self._gear.notes.read(run.id, NEW))

    def plan(self, request: Request) -> Plan:
        """Look at the estate and make the Server's plan; UserError where it cannot be done."""
        self._refuse_second()
        gear = self._gear
        return make_server_plan(
            request,
            self._source(request.source),
            self.facts(),
            gear.clock.now(),
            timing=lambda environments: gear.timetable.schedule(request, environments),
        )

    def refusal(self, plan: Plan) -> str | None:
        """Return why a plan may be shown, but not approved; None where it may."""
        return refusal_of_lost(plan.server) if plan.server else None

    def roll_back(self, run: Run, asker: Asker) -> Plan:
        """Make the plan that puts the Server's former certificate back; UserError where there is no copy any more."""
        server = run.plan.server
        assert server is not None
        first = server.nodes[0].name
        kept = {target for run_id, target in self._gear.ledger.copies(due=False) if run_id == run.id}
        switched = any(o.target == first and o.kind is OutcomeKind.HEALTHY for o in run.outcomes)
        if first not in kept or not switched:
            raise UserError(
                f"Nothing of {run.id} can be rolled back: no copy of the former certificate is kept any more."
            )
        self._refuse_second(but=run.id)
        request = Request(
            user=asker.user,
            user_name=asker.user_name,
            channel=asker.channel,
            thread=run.plan.request.thread,
            names=(SERVER,),
            source=f"backup:{run.id}",
            reason=f"roll back of {run.id}",
            # whoever needs the way back needs it now: windows are told, not waited for
            accept=(*run.plan.request.accept, OUTSIDE),
        )
        plan = make_server_plan(
            request,
            Source(text=request.source),
            self.facts(),
            self._gear.clock.now(),
            former=server.old,
            timing=lambda environments: self._gear.timetable.schedule(request, environments),
        )
        refusal = self.refusal(plan)
        if refusal:
            raise UserError(refusal)
        return plan

    def _source(self, text: str) -> Source:
        source = Source(text=text)
        if source.is_made_on_host:
            return source
        if source.ca is not None:
            raise UserError(
                "A CA signs for a key that the bot keeps nowhere, but the Server's new one must be there while the "
                "Tentacles learn to trust it. Have the CA sign one by hand and use pfx:NAME, or use "
                "new-certificate."
            )
        if source.pfx is None:
            raise UserError(f"“{text}” is no source for the Server's certificate. Use new-certificate or pfx:NAME.")
        return Source(text=text, certificate=self._gear.sources.check(source.pfx, self._gear.clock.now()))

    def _refuse_second(self, but: str = "") -> None:
        """Refuse while another run of the Server is not over: both would change the same lists of trust."""
        for run in self._gear.ledger.in_state(*(s for s in RunState if not s.is_over)):
            if run.plan.server and run.id != but:
                raise UserError(
                    f"The run {run.id} rotates the Server already and is {run.state.value}. "
                    f"Wait until it is over, or take it back: `cancel {run.id}`."
                )
