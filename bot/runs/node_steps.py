"""The steps on the nodes of the Octopus Server. Each may be repeated; all is plain JSON in and out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.facts import NodeFacts, ServerInstance, ServerNode, ServiceState
from bot.domain.plan import NodePlan, ServerPlan, StepKind
from bot.domain.run import Run, StepState
from bot.domain.thumbprint import Thumbprint
from bot.octopus.client import Client
from bot.runs.gear import Gear
from bot.runs.rotation import COPY_HOURS, Rotation
from bot.runs.server_inspector import ServerInspector
from bot.runs.showing import Watcher, note, shown
from bot.slack import messages
from bot.windows.hands import Action, Applied, Job, Progress

log = structlog.get_logger("octocert.server")

COMMS_PORT = 10943
"""Where a Server takes polling Tentacles, unless its address says otherwise."""
POLL_SECONDS = 2.0
"""How often a drained node is asked for its tasks, and a restarted one for its certificate."""
NEW = "new"
"""The note with the thumbprint of a certificate that the Server made for a run."""
ON_NODE = {
    StepKind.EXPORT: Action.EXPORT,
    StepKind.ADOPT: Action.ADOPT,
    StepKind.RESTORE: Action.REVERT,
    StepKind.STOP: Action.STOP,
    StepKind.START: Action.START,
    StepKind.RESTART: Action.RESTART,
    StepKind.SERVED: Action.SERVED,
}
"""Which steps are done on a node's host, and by which action of the remote script."""
_SHOWN = {action: step for step, action in ON_NODE.items()}
PRINTED = "printed"
"""The note with the old and the new thumbprint as the import itself printed them."""
BY_US = "by us"
_DRAINED = "drained:"
"""How the notes begin that tell which nodes were drained, and whether by this run."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A node of the plan with what is known of its host."""

    plan: NodePlan
    instance: ServerInstance

    @property
    def facts(self) -> NodeFacts:
        return self.plan.facts


class NodeSteps:
    """What is done to the nodes."""

    def __init__(self, gear: Gear, rotation: Rotation, inspector: ServerInspector) -> None:
        self._gear = gear
        self._rotation = rotation
        self._inspector = inspector

    def new_of(self, run_id: str) -> Thumbprint | None:
        """Return the Server's new thumbprint in a run: from the plan, or what the Server made for it."""
        server = self._gear.ledger.plan(run_id).server
        return (server.new if server else None) or Thumbprint.maybe(self._gear.notes.read(run_id, NEW))

    def printed(self, run_id: str) -> tuple[Thumbprint, Thumbprint] | None:
        """Return old and new thumbprint as the import printed them; None where nobody heard it."""
        said = (self._gear.notes.read(run_id, PRINTED) or "").split()
        return (Thumbprint(said[0]), Thumbprint(said[1])) if len(said) == 2 else None

    # ---- Steps

    def export(self, run_id: str) -> dict[str, Any]:
        """Keep the present certificate, as a file that was opened again, in a protected folder of the first node."""
        run = self._gear.ledger.run(run_id)
        place = _place(run, _server(run).nodes[0].name)
        self._audit(run, place, "export", StepKind.EXPORT.value)
        self._gear.ledger.keep_copy(run_id, place.plan.name, COPY_HOURS)
        return self._visit(run, place, (StepKind.EXPORT,), expected=_server(run).old, new=None)

    def generate(self, run_id: str) -> dict[str, Any]:
        """Have the Server make a certificate that it does not use yet; its thumbprint is noted for the whole run."""
        run = self._gear.ledger.run(run_id)
        place = _place(run, _server(run).nodes[0].name)
        self._audit(run, place, "generate", "the Server makes a new certificate and keeps it aside")
        self._gear.ledger.keep_copy(run_id, place.plan.name, COPY_HOURS)
        try:
            applied = self._apply(run, place, (Action.GENERATE,), expected=_server(run).old, new=None)
        except UserError as error:
            return {"ok": False, "what": str(error)}
        if applied.new is None or applied.new == _server(run).old:
            return {"ok": False, "what": "the Server did not tell the thumbprint of the certificate that it made"}
        return {"ok": True, "new": self._gear.notes.write(run_id, NEW, applied.new)}

    def drain(self, run_id: str, name: str) -> dict[str, Any]:
        """Have a node take no new tasks and wait, bounded, until those that run have ended. None is cancelled."""
        gear = self._gear
        place = _place(gear.ledger.run(run_id), name)
        end = gear.clock.monotonic() + gear.deadlines.drain
        with shown(self._gear, run_id, name, StepKind.DRAIN) as show:
            try:
                gear.notes.write(run_id, _DRAINED + name, "before" if place.facts.node.is_drained else BY_US)
                octopus = self._octopus()
                octopus.drain(place.facts.node, drained=True)
                while True:
                    node = self._now(octopus, place.facts.node)
                    if node is None or node.is_offline or node.running_tasks == 0:
                        return {"ok": True}
                    left = end - gear.clock.monotonic()
                    if left <= 0:
                        what = (
                            f"{name} still runs {node.running_tasks} tasks after {gear.deadlines.drain:.0f} s; "
                            "none was cancelled"
                        )
                        show.failed(what)
                        return {"ok": False, "busy": True, "what": what}
                    show.detail(f"waiting for {node.running_tasks} tasks to end")
                    gear.clock.sleep(min(POLL_SECONDS, left))
            except UserError as error:
                show.failed(str(error))
                return {"ok": False, "busy": False, "what": str(error)}

    def switch(self, run_id: str, name: str) -> dict[str, Any]:
        """Import the certificate if this node is the first, restart the node, and see what it serves.

        A node that restarted by itself and serves the new certificate is no failure: then nothing is done to it.
        """
        gear = self._gear
        run = gear.ledger.run(run_id)
        server, place, new = _server(run), _place(run, name), self.new_of(run_id)
        assert new is not None, "a switch without a new thumbprint was never approved"
        steps = tuple(s for s in place.plan.steps if s in ON_NODE and s is not StepKind.EXPORT)
        if len(server.nodes) == 1:
            gear.announcer.say(run_id, "away", messages.server_away(place.facts.name))
        first = place.plan is server.nodes[0]
        if not first and self._serves(place, new):
            return self._seen(run, place, new, "it serves the new certificate already")
        self._audit(run, place, "switch", "; ".join(s.value for s in steps), new)
        result = self._visit(run, place, steps, expected=server.old if first else new, new=new)
        if not result["ok"]:
            return result
        return self._wait_served(run, place, new)

    def undrain(self, run_id: str, name: str) -> dict[str, Any]:
        """Let a node that this run drained take tasks again; one that was drained before the run stays so."""
        gear = self._gear
        before = gear.notes.read(run_id, _DRAINED + name)
        if before is None:
            return {"ok": True}
        with shown(self._gear, run_id, name, StepKind.UNDRAIN) as show:
            if before != BY_US:
                show.detail("it was drained before the run and stays so")
                return {"ok": True}
            try:
                self._octopus().drain(_place(gear.ledger.run(run_id), name).facts.node, drained=False)
            except UserError as error:
                what = f"{name} is still drained: {error}"
                show.failed(what)
                return {"ok": False, "what": what}
        return {"ok": True}

    def revert(self, run_id: str) -> dict[str, Any]:
        """Put the Server's old certificate back, restart every node that does not serve it, and see it served again."""
        run = self._gear.ledger.run(run_id)
        server, new = _server(run), self.new_of(run_id)
        problems = []
        for number, node in enumerate(server.nodes):
            place = _place(run, node.name)
            now = self._inspector.node(node.facts.node, server.old).instance
            back = number == 0 and (now is None or now.stored != server.old)
            serves = now is not None and now.served is not None and now.served.thumbprint == server.old
            if not back and serves:
                continue
            self._audit(run, place, "back", "the Server's old certificate is put back", server.old)
            actions = (Action.REVERT,) if back else ()
            try:
                applied = self._apply(
                    run,
                    place,
                    (*actions, Action.RESTART, Action.SERVED),
                    expected=new if back and new else server.old,
                    new=server.old,
                    phase="back",
                    restore_run=run.id,
                )
            except UserError as error:
                problems.append(f"{node.name}: {error}")
                continue
            if applied.state is not ServiceState.RUNNING:
                problems.append(f"{node.name}: its service is {applied.state.value}")
            elif not self._until_served(place, server.old):
                problems.append(f"{node.name} does not serve {server.old} again")
        return {"ok": not problems, "what": "; ".join(problems)}

    def sweep(self, run: Run, name: str) -> None:
        """Remove the copies of certificates that a run kept on a node; UserError if that cannot be done now."""
        self._apply(run, _place(run, name), (Action.SWEEP,), expected=_server(run).old, new=None)

    def may_clean(self, run_id: str) -> dict[str, Any]:
        """Return whether every node, those that did not run included, serves the new certificate by now."""
        new = self.new_of(run_id)
        assert new is not None
        try:
            nodes = self._inspector.nodes(new)
        except UserError as error:
            return {"ok": False, "what": f"the nodes of the Server could not be looked at: {error}"}
        asleep = [n.name for n in nodes if n.node.is_offline]
        if asleep:
            return {
                "ok": False,
                "what": f"the node {asleep[0]} has not started since the import; it may still come up with the old "
                "certificate. Start it, or remove it from the cluster in Octopus",
            }
        other = [n for n in nodes if set(n.served) != {new}]
        if other:
            served = ", ".join(other[0].served) or "nothing that could be seen"
            return {"ok": False, "what": f"the node {other[0].name} serves {served}, not {new}"}
        server = _server(self._gear.ledger.run(run_id))
        alike = next((c for c in server.clones if self._at(c) == server.old), None)
        if alike:
            return {
                "ok": False,
                "what": f"the Server at {alike}, a copy of this one perhaps, still serves {server.old}, and would "
                "lose what trusts only the new one",
            }
        return {"ok": True}

    # ---- Inside

    def _at(self, address: str) -> Thumbprint | None:
        """Return what is served at the address of a Server."""
        try:
            parts = urlsplit(address)
            port = parts.port or COMMS_PORT
        except ValueError:
            return None
        return self._gear.see(parts.hostname or "", port).thumbprint

    def _octopus(self) -> Client:
        return self._gear.octopus.patient(self._gear.deadlines.server_away)

    def _now(self, octopus: Client, node: ServerNode) -> ServerNode | None:
        return next((n for n in octopus.nodes() if n.id == node.id), None)

    def _visit(
        self, run: Run, place: _Place, steps: tuple[StepKind, ...], *, expected: Thumbprint, new: Thumbprint | None
    ) -> dict[str, Any]:
        """Do some steps in one visit; what the program says of itself is not believed without the database's word."""
        name = place.plan.name
        watcher = Watcher(self._gear, run.id, name, _SHOWN)
        try:
            applied = self._apply(
                run,
                place,
                tuple(ON_NODE[s] for s in steps),
                expected=expected,
                new=new,
                restore_run=run.plan.source.backup,
                on_progress=watcher.progress,
            )
        except UserError as error:
            watcher.failed(str(error))
            return {"ok": False, "step": (watcher.current or steps[0]).value, "what": str(error)}
        wanted = new or expected
        if applied.stored is not None and applied.stored != wanted:
            step = steps[0]
            what = f"{name} has the certificate {applied.stored} in its database instead of {wanted}"
            note(self._gear, run.id, name, step, StepState.ERROR, what)
            return {"ok": False, "step": step.value, "what": what}
        for step in steps:
            self._gear.ledger.step(run.id, name, step, StepState.COMPLETE)
        self._gear.announcer.root(run.id)
        if applied.printed:
            self._gear.notes.write(run.id, PRINTED, " ".join(applied.printed))
        return {"ok": True}

    def _apply(
        self,
        run: Run,
        place: _Place,
        actions: tuple[Action, ...],
        *,
        expected: Thumbprint,
        new: Thumbprint | None,
        phase: str = "",
        restore_run: str | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> Applied:
        gear, instance, deadlines = self._gear, place.instance, self._gear.deadlines
        job = Job(
            run=f"{run.id}-{phase}" if phase else run.id,
            kind="server",
            instance=instance.name,
            exe=instance.exe,
            config=instance.config,
            service=instance.service,
            expected=expected,
            new=new,
            pfx=self._pfx(run, actions, new),
            actions=actions,
            port=instance.port,
            restore_run=restore_run,
            program_seconds=deadlines.server_program,
            stop_seconds=deadlines.service_stop,
            start_seconds=deadlines.service_start,
            loopback_seconds=deadlines.server_start,
        )
        longest = (
            deadlines.server_program * (1 + len(actions))
            + deadlines.service_stop
            + deadlines.service_start
            + deadlines.server_start
        )
        endpoint = gear.directory.reach_node(place.facts.name).endpoint
        return self._rotation.visit_host(endpoint, place.plan.name, job, on_progress, deadline=longest)

    def _pfx(self, run: Run, actions: tuple[Action, ...], new: Thumbprint | None) -> bytes | None:
        name = run.plan.source.pfx
        if name is None or new is None or Action.ADOPT not in actions:
            return None
        return self._gear.sources.encoded(name, self._gear.clock.now(), new)

    def _serves(self, place: _Place, wanted: Thumbprint) -> bool:
        gear = self._gear
        address = gear.directory.reach_node(place.facts.name).address
        return gear.see(address, place.instance.port).thumbprint == wanted

    def _until_served(self, place: _Place, wanted: Thumbprint) -> bool:
        clock = self._gear.clock
        end = clock.monotonic() + self._gear.deadlines.server_start
        while not self._serves(place, wanted):
            if clock.monotonic() + POLL_SECONDS > end:
                return False
            clock.sleep(POLL_SECONDS)
        return True

    def _wait_served(self, run: Run, place: _Place, new: Thumbprint) -> dict[str, Any]:
        """See the new certificate served from here, if the node could be seen before; else the host's word counts."""
        if not any(s.thumbprint for s in place.facts.sightings):
            return self._seen(run, place, new, "seen by the host itself; from here it could not be seen before either")
        if self._until_served(place, new):
            return self._seen(run, place, new, f"serves {new}")
        seen = self._gear.see(self._gear.directory.reach_node(place.facts.name).address, place.instance.port)
        what = f"{place.plan.name} serves {seen.thumbprint or 'nothing'} instead of {new} after its restart"
        note(self._gear, run.id, place.plan.name, StepKind.SERVED, StepState.ERROR, what)
        return {"ok": False, "step": StepKind.SERVED.value, "what": what}

    def _seen(self, run: Run, place: _Place, new: Thumbprint, detail: str) -> dict[str, Any]:
        name = place.plan.name
        for step in place.plan.steps:
            if step in ON_NODE and step is not StepKind.SERVED:
                self._gear.ledger.step(run.id, name, step, StepState.COMPLETE)
        note(self._gear, run.id, name, StepKind.SERVED, StepState.COMPLETE, detail)
        self._audit(run, place, "served", detail, new)
        return {"ok": True}

    def _audit(self, run: Run, place: _Place, phase: str, what: str, new: Thumbprint | None = None) -> None:
        self._gear.audit.append(
            f"{run.id}:{place.plan.name}:{phase}",
            Entry(
                kind="began" if phase != "served" else "served",
                who=run.decision.user if run.decision else "",
                run=run.id,
                target=place.plan.name,
                digest=place.plan.digest,
                old=_server(run).old,
                new=new or "",
                what=what,
            ),
        )


def _server(run: Run) -> ServerPlan:
    assert run.plan.server is not None, "this run rotates no Server"
    return run.plan.server


def _place(run: Run, name: str) -> _Place:
    plan = next(n for n in _server(run).nodes if n.name == name)
    assert plan.facts.instance is not None, "a node without an instance was refused"
    return _Place(plan, plan.facts.instance)
