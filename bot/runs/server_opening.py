"""Steps before and around the switch: look again, ask, count what would be lost, say what happens now."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from bot.audit import Entry
from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, Style, TargetFacts
from bot.domain.names import targets as groups_of
from bot.domain.plan import ByHand, Hands, Plan, ServerPlan, TargetPlan
from bot.domain.run import Run
from bot.domain.server_planner import decisive_of_target, digest_of_node, digest_of_target
from bot.domain.thumbprint import Thumbprint
from bot.runs.gear import Gear
from bot.runs.node_steps import NodeSteps
from bot.runs.server_inspector import ServerInspector
from bot.slack import messages

CERTIFICATE = "certificate"
"""The gate at which the thumbprint of a certificate that the Server made is approved."""


class ServerOpening:
    """Steps on plain JSON; each may be repeated."""

    def __init__(self, gear: Gear, inspector: ServerInspector, nodes: NodeSteps) -> None:
        self._gear = gear
        self._inspector = inspector
        self._nodes = nodes

    def recheck_nodes(self, run_id: str) -> dict[str, Any]:
        """Look at the nodes again; a run whose nodes are no longer what was approved ends."""
        plan = self._gear.ledger.run(run_id).plan
        self._stage(run_id, "looking at the nodes again")
        try:
            found = self._inspector.nodes(_server(plan).old)
        except UserError as error:
            return {"ok": False, "what": f"the nodes of the Server could not be looked at again: {error}"}
        by_id = {n.node.id: n for n in found}
        for node in _server(plan).nodes:
            now = by_id.get(node.facts.node.id)
            if now is None or digest_of_node(now, plan.source, plan.request.order) != node.digest:
                return {"ok": False, "what": f"{node.name} is no longer what was approved"}
        more = [
            n.name
            for n in found
            if not n.node.is_offline and n.node.id not in {p.facts.node.id for p in _server(plan).nodes}
        ]
        if more:
            return {"ok": False, "what": f"the node {more[0]} has started since the plan was made"}
        return {"ok": True}

    def recheck(self, run_id: str) -> dict[str, Any]:
        """Look at everything again: return the Tentacles that are still what was approved, and who trusts already."""
        run = self._gear.ledger.run(run_id)
        plan, server, new = run.plan, _server(run.plan), self._nodes.new_of(run.id)
        checked = self.recheck_nodes(run_id)
        if not checked["ok"]:
            return checked
        self._stage(run_id, "looking at every Tentacle again")
        try:
            facts = self._inspector.look()
        except UserError as error:
            return {"ok": False, "what": f"the estate could not be looked at again: {error}"}
        if facts.thumbprint != server.old:
            return {"ok": False, "what": f"the Server's certificate is {facts.thumbprint} now, not {server.old}"}
        by_record = {r.id: t for t in facts.tentacles for r in t.records}
        fresh, trusting = list[str](), list[str]()
        drifted: list[list[str]] = []
        for target in plan.targets:
            now = _now(target, by_record)
            if now is None or _has_drifted(target, now, plan, new):
                drifted.append([target.name, _what_changed(target.facts, now, plan, server.old, new)])
                continue
            fresh.append(target.name)
            if new is not None and now.instance and new in (now.instance.trusting or ()):
                trusting.append(target.name)
        return {"ok": True, "fresh": fresh, "trusting": trusting, "drifted": drifted}

    def ask_certificate(self, run_id: str, new: str) -> None:
        """Post the thumbprint of the certificate that the Server made, and ask for its approval."""
        gear = self._gear
        run = gear.ledger.run(run_id)
        gear.audit.append(
            f"{run_id}:made",
            Entry(kind="made", run=run_id, digest=run.plan.digest, old=_server(run.plan).old, new=new,
                  what="the Server made a certificate that it does not use yet"),
        )  # fmt: skip
        gear.ledger.stage(run_id, "waiting for the approval of the new certificate")
        digest = f"{run.plan.digest}:{new}"
        gate = gear.gates.open(run_id, CERTIFICATE, digest=digest, action="rotate-server", expires=True)
        gear.announcer.root(run_id)
        made = messages.server_made(gear.ledger.run(run_id), Thumbprint(new), gate.nonce, gate.expires)
        gear.announcer.say(run_id, f"made:{gate.nonce}", made)

    def hold(self, run_id: str, name: str) -> dict[str, Any]:
        """Take the lock of a Tentacle's host."""
        host = self._gear.ledger.target(run_id, name).facts.host
        assert host is not None
        holder = self._gear.ledger.lock_host(host.address, run_id)
        if holder != run_id:
            return {"ok": False, "what": f"the run {holder} is working on its host {host.address}"}
        return {"ok": True}

    def release(self, run_id: str, names: list[str]) -> None:
        """Give back the locks of some Tentacles' hosts."""
        plan = self._gear.ledger.plan(run_id)
        hosts = {t.facts.host.address for t in plan.targets if t.name in set(names) and t.facts.host}
        self._gear.ledger.release_hosts(run_id, hosts)

    def begin_wave(self, run_id: str, phase: str, number: int, total: int, may_wait: bool = True) -> bool:
        """Say which wave begins; return whether the run may go on. `may_wait`: for its window, if that has closed."""
        if not self._gear.control.may_go_on(run_id, by_the_clock=may_wait):
            return False
        self._stage(run_id, f"{phase}, wave {number + 1} of {total}")
        return True

    def begin_node(self, run_id: str, name: str, number: int, total: int) -> None:
        """Say which node is switched now."""
        self._stage(run_id, f"switch, {name} ({number + 1} of {total})")

    def begin_follow(self, run_id: str, number: int, total: int) -> None:
        """Say which wave of polling Tentacles follows now; there is no stopping here: they are cut off until then."""
        self._stage(run_id, f"follow, wave {number + 1} of {total}")

    def ask_on(self, run_id: str, why: str) -> bool:
        """Pause and ask people: return True when they resume, False when they stop the run."""
        return self._gear.control.ask(run_id, why)

    def before_switch(self, run_id: str, proven: list[str], fresh: list[str]) -> dict[str, Any]:
        """Count, right before the switch, what would be lost by it; more than was accepted ends the run here."""
        gear = self._gear
        run = gear.ledger.run(run_id)
        plan, server = run.plan, _server(run.plan)
        if not gear.control.may_go_on(run_id):
            why = gear.ledger.standing(run_id).stopped_why
            return {"ok": False, "what": f"the run stopped itself: {why}" if why else "the run was stopped"}
        self._stage(run_id, "counting what would be lost")
        try:
            index = gear.octopus.index()
            registered = _registered_since(server, index)
            gone = self._gone(plan, set(fresh), index, self._nodes.new_of(run_id))
        except UserError as error:
            return {"ok": False, "what": f"Octopus's list of machines could not be read again: {error}"}
        listening = {n for wave in server.trust_waves for n in wave}
        unproven = [n for n in sorted(listening) if n not in proven]
        lost_polling = [n for wave in server.follow_waves for n in wave if n not in fresh or n in gone]
        by_hand = [h.name for h in server.lost if not self._trusts_already(run, h)]
        lost = [*by_hand, *unproven, *lost_polling, *registered]
        gear.audit.append(
            f"{run_id}:counted",
            Entry(kind="counted", run=run_id, digest=plan.digest, old=server.old,
                  what=f"{len(lost)} machines would be lost by the switch, {server.accepted_lost} were accepted"),
        )  # fmt: skip
        if len(lost) > server.accepted_lost:
            shown = ", ".join(lost[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
            counted = f"{len(lost)} machines would be lost by the switch, and {server.accepted_lost} were accepted"
            return {"ok": False, "what": f"{counted}: {shown}"}
        return {"ok": True}

    def switched(self, run_id: str) -> None:
        """Say that every node serves the new certificate, and what people must run elsewhere now."""
        run = self._gear.ledger.run(run_id)
        new = self._nodes.new_of(run.id)
        assert new is not None
        self._gear.notes.look_again(run_id, hours=24)
        self._gear.announcer.say(run_id, "switched", messages.server_switched(run, new, self._nodes.printed(run_id)))

    # ---- Inside

    def _gone(self, plan: Plan, fresh: set[str], index: EstateIndex, new: Thumbprint | None) -> set[str]:
        """Return the polling Tentacles that could not be made to follow now: the recheck may have been hours ago."""
        polling = [t for t in plan.targets if t.name in fresh and t.facts.style is Style.POLLING]
        found = self._inspector.tentacles(index, {r.id for t in polling for r in t.facts.records})
        by_record = {r.id: f for f in found for r in f.records}
        seen = [(t, _now(t, by_record)) for t in polling]
        return {t.name for t, now in seen if now is None or _has_drifted(t, now, plan, new)}

    def _trusts_already(self, run: Run, hand: ByHand) -> bool:
        """Whether somebody has made a machine trust the new certificate by hand: a listening one tells when greeted."""
        new, pfx = self._nodes.new_of(run.id), run.plan.source.pfx
        if new is None or pfx is None or hand.hands not in {Hands.LISTENING, Hands.LINUX_LISTENING}:
            return False
        gear = self._gear
        try:
            parts = urlsplit(hand.uri)
            port = parts.port or 10933
        except ValueError:
            return False
        greeting = gear.sources.greet(
            pfx, gear.clock.now(), new, address=parts.hostname or "", port=port, timeout=gear.deadlines.handshake
        )
        return greeting.trusted is True

    def _stage(self, run_id: str, text: str) -> None:
        self._gear.ledger.stage(run_id, text)
        self._gear.announcer.root(run_id)


def _registered_since(server: ServerPlan, index: EstateIndex) -> list[str]:
    known = set(server.known)
    return [g.name for g in groups_of(index) if not any(r.id in known for r in g.records)]


def _now(target: TargetPlan, by_record: Mapping[str, TargetFacts]) -> TargetFacts | None:
    """Return what a Tentacle is now, by any of its records."""
    return next((by_record[r.id] for r in target.facts.records if r.id in by_record), None)


def _has_drifted(target: TargetPlan, now: TargetFacts, plan: Plan, new: Thumbprint | None) -> bool:
    """Whether a Tentacle is no longer what was approved; the plan's digest was made before the Server's certificate."""
    order, old = plan.request.order, _server(plan).old
    return digest_of_target(now, order, old, new) != digest_of_target(target.facts, order, old, new)


def _what_changed(
    before: TargetFacts, now: TargetFacts | None, plan: Plan, old: Thumbprint, new: Thumbprint | None
) -> str:
    """Return what differs of a Tentacle from what was approved, as a phrase."""
    if now is None:
        return "its records are no longer in Octopus"
    if now.host is None:
        return f"its host could not be inspected: {now.host_error or 'no answer'}"
    was = decisive_of_target(before, plan.request.order, old, new)
    is_now = decisive_of_target(now, plan.request.order, old, new)
    return "; ".join(f"{k}: was {was[k]}, is now {is_now[k]}" for k in was if was[k] != is_now[k])


def _server(plan: Plan) -> ServerPlan:
    assert plan.server is not None, "this run rotates no Server"
    return plan.server
