"""The carrier of the Server's rotation: trust first, switch second, clean up last. Its methods are workflows.

A run is carried out in parts, with a decision of people between them: the first part ends with a certificate that the
Server made, whose thumbprint must be approved; the next one with everything proven, when the old trust may be removed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from bot.domain.plan import NodePlan, Order, Plan, ServerPlan
from bot.runs.carrying import Doing
from bot.runs.engine import DurableEngine
from bot.runs.gates import DENIED
from bot.runs.gear import Gear
from bot.runs.insistent import GivenUp, Insistent
from bot.runs.node_steps import NodeSteps
from bot.runs.proof import Proof
from bot.runs.recorded import Unexpected
from bot.runs.rotation import Rotation
from bot.runs.server_breaking import ServerBreaking
from bot.runs.server_closing import CLEAN_UP, ServerClosing
from bot.runs.server_opening import CERTIFICATE, ServerOpening
from bot.runs.server_watch import LOOK, ServerWatch
from bot.runs.settling import BROKEN
from bot.runs.trust_steps import Task, TrustSteps

PROVE_AT_ONCE = 100
"""Tentacles of one Health task."""
_PROVE_WAVE, _CLEAN_WAVE = 1_000, 2_000
"""Numbers of Health tasks, apart from each other and from those of waves."""


class ServerCarrier:
    """Carries out runs that rotate the Server's certificate. Expected failures are outcomes, not exceptions."""

    def __init__(
        self,
        gear: Gear,
        rotation: Rotation,
        nodes: NodeSteps,
        opening: ServerOpening,
        closing: ServerClosing,
        watch: ServerWatch,
        breaking: ServerBreaking,
        doing: Doing = DurableEngine,
    ) -> None:
        self._gear = gear
        self._rotation = rotation
        self._nodes = nodes
        self._opening = opening
        self._closing = closing
        self._watch = watch
        self._breaking = breaking
        self._plain = doing
        """By what the steps of one Tentacle are done, which fail for it alone, and those that end a run."""
        self._doing = Insistent(doing, gear.control)
        self._trust = TrustSteps(gear, rotation, nodes)
        self._proof = Proof(gear, rotation)

    @property
    def _step(self) -> Callable[..., Any]:
        return self._doing.step

    # Workflows. They only read what is immutable (the plan) and what steps returned, so a replay takes the same way.

    def carry(self, run_id: str, part: str) -> None:
        """Carry out one part of a run: the first one, what follows the second approval, or the clean-up."""
        plan = DurableEngine.read(self._gear.ledger.plan, run_id)
        try:
            self._carry(run_id, plan, part)
        except GivenUp as error:
            self._break_off(run_id, plan, str(error))

    def _carry(self, run_id: str, plan: Plan, part: str) -> None:
        if part == CLEAN_UP:
            self._clean(run_id, plan)
        elif part == f"{DENIED} {CERTIFICATE}":
            self._step("give_up", self._closing.give_up, run_id, "its new certificate was not approved", [])
        elif part == f"{DENIED} {CLEAN_UP}":
            self._step("never_cleaned", self._closing.never_cleaned, run_id)
        elif part == LOOK:
            self._step("look_again", self._watch.look_again, run_id)
        elif part == BROKEN:
            self._break_off(run_id, plan, "an error that nobody expected broke it off")
        elif part == "" and plan.source.is_made_on_host:
            self._make(run_id)
        else:
            self._rotate(run_id, plan, _server(plan))

    def tend(self, run_id: str, name: str, task: str) -> dict[str, Any]:
        """Do one phase's work on one Tentacle; in a workflow of its own."""
        try:
            result = self._tend(run_id, name, task)
        except Unexpected as error:
            result = {"ok": False, "what": error.sentence}
        if not result["ok"]:
            self._plain.step("tending_failed", self._closing.tending_failed, run_id, name, task, result)
        return {"ok": result["ok"], "what": result.get("what", "")}

    def _tend(self, run_id: str, name: str, task: str) -> dict[str, Any]:
        step = self._plain.step
        held = step("hold", self._opening.hold, run_id, name)
        if held["ok"] and task == Task.TRUST.value:
            held = step("wait_until_idle", self._rotation.wait_until_idle, run_id, name)
        return step("tend", self._trust.tend, run_id, name, task) if held["ok"] else held

    def _break_off(self, run_id: str, plan: Plan, why: str) -> None:
        """End a run by what is seen of it; nodes that it drained take tasks again where that can be had."""
        step = self._plain.step
        for node in _server(plan).nodes:
            with suppress(Unexpected):
                step("undrain", self._nodes.undrain, run_id, node.name)
        step("broke_off", self._breaking.broke_off, run_id, why)
        step("stop", self._gear.control.stop_itself, run_id, why)
        step("end", self._closing.end, run_id)

    def _make(self, run_id: str) -> None:
        """Have the Server make its new certificate, without using it, and ask for its approval."""
        checked = self._step("recheck_nodes", self._opening.recheck_nodes, run_id)
        made = self._step("generate", self._nodes.generate, run_id) if checked["ok"] else checked
        if made["ok"]:
            self._step("ask_certificate", self._opening.ask_certificate, run_id, made["new"])
        else:
            self._step("give_up", self._closing.give_up, run_id, made["what"], [])

    def _rotate(self, run_id: str, plan: Plan, server: ServerPlan) -> None:
        looked = self._step("recheck", self._opening.recheck, run_id)
        kept = self._step("export", self._nodes.export, run_id) if looked["ok"] else looked
        if not kept["ok"]:
            self._step("give_up", self._closing.give_up, run_id, kept["what"], [])
            return
        for name, what in looked["drifted"]:
            self._step("drifted", self._closing.drifted, run_id, name, what)
        fresh, trusting = set(looked["fresh"]), set(looked["trusting"])
        proven: list[str] = []
        if plan.request.order is Order.DEFAULT:
            proven = self._wave_by_wave(run_id, "trust", server.trust_waves, Task.TRUST, fresh, trusting)
        else:
            proven = [n for wave in server.trust_waves for n in wave if n in fresh]
        ready = self._step("before_switch", self._opening.before_switch, run_id, proven, sorted(fresh))
        if not ready["ok"]:
            self._step("give_up", self._closing.give_up, run_id, ready["what"], proven)
            return
        follows = any(n in fresh for wave in server.follow_waves for n in wave)
        keep_drained = follows and plan.request.order is Order.DEFAULT
        if not self._switch(run_id, server.nodes, proven, keep_drained=keep_drained):
            return
        if plan.request.order is Order.DOCUMENTED:
            proven = self._wave_by_wave(run_id, "trust", server.trust_waves, Task.TRUST, fresh, trusting, may_end=False)
        followed = self._follow(run_id, server, fresh)
        if followed is None:
            return
        for node in server.nodes:
            self._step("undrain", self._nodes.undrain, run_id, node.name)
        self._prove(run_id, [*proven, *followed])
        self._step("ask_clean_up", self._closing.ask_clean_up, run_id)

    def _wave_by_wave(
        self,
        run_id: str,
        phase: str,
        waves: Sequence[Sequence[str]],
        task: Task,
        fresh: set[str],
        done: set[str],
        *,
        may_end: bool = True,
    ) -> list[str]:
        """Tend the Tentacles of some waves; return those that are proven.

        `may_end` lets a stop, or a wave without any success, end it: before the switch nothing is lost by that.
        """
        proven: list[str] = []
        for number, wave in enumerate(waves):
            names = [n for n in wave if n in fresh]
            if not names:
                continue
            begun = self._step("begin_wave", self._opening.begin_wave, run_id, phase, number, len(waves), may_end)
            if may_end and not begun:
                break
            for name in names:
                if name in done:
                    self._step("already", self._trust.trusting_already, run_id, name)
            results = self._doing.tend_all(run_id, [n for n in names if n not in done], task.value)
            good = [n for n in names if n in done or results[n]["ok"]]
            proven += good
            self._step("release", self._opening.release, run_id, names)
            if may_end and not good:
                break
        return proven

    def _switch(self, run_id: str, nodes: Sequence[NodePlan], proven: list[str], *, keep_drained: bool) -> bool:
        """Give every node the new certificate, one after the other; the old one is put back where that fails."""
        switched = False
        for number, node in enumerate(nodes):
            self._step("begin_node", self._opening.begin_node, run_id, node.name, number, len(nodes))
            while True:
                drained = self._doing.tried("drain", self._nodes.drain, run_id, node.name)
                if drained["ok"] or not self._step("ask_on", self._opening.ask_on, run_id, drained["what"]):
                    break
            result = drained
            if drained["ok"]:
                switched = True
                result = self._doing.tried("switch", self._nodes.switch, run_id, node.name)
            if not result["ok"]:
                self._back(run_id, nodes, result["what"], proven, [], switched=switched)
                return False
            if not keep_drained:
                self._step("undrain", self._nodes.undrain, run_id, node.name)
        self._step("switched", self._opening.switched, run_id)
        return True

    def _follow(self, run_id: str, server: ServerPlan, fresh: set[str]) -> list[str] | None:
        """Have the polling Tentacles follow, one first; None where the first did not and people had it all put back."""
        followed, tried = list[str](), list[str]()
        waves = [w for w in ([n for n in wave if n in fresh] for wave in server.follow_waves) if w]
        for number, wave in enumerate(waves):
            self._step("begin_follow", self._opening.begin_follow, run_id, number, len(waves))
            results = self._doing.tend_all(run_id, wave, Task.FOLLOW.value)
            good = [n for n in wave if results[n]["ok"]]
            followed += good
            tried += wave
            self._step("release", self._opening.release, run_id, wave)
            if not followed and number + 1 < len(waves):
                why = f"{wave[0]} did not follow: {results[wave[0]]['what']}"
                if not self._step("ask_on", self._opening.ask_on, run_id, why):
                    self._back(run_id, server.nodes, why, [], tried, switched=True)
                    return None
        return followed

    def _back(
        self,
        run_id: str,
        nodes: Sequence[NodePlan],
        why: str,
        proven: list[str],
        tried: list[str],
        *,
        switched: bool,
    ) -> None:
        """Put the Server's old certificate back; the listening Tentacles still trust it, those that followed return.

        `tried` are those that may have followed: one that failed may have changed its list before it did.
        """
        reverted = self._step("revert", self._nodes.revert, run_id) if switched else {"ok": True, "what": ""}
        if tried:
            self._doing.tend_all(run_id, tried, Task.BACK.value)
        for node in nodes:
            self._step("undrain", self._nodes.undrain, run_id, node.name)
        self._step("went_back", self._closing.went_back, run_id, why, reverted, proven, switched)

    def _prove(self, run_id: str, names: Sequence[str]) -> None:
        """Have Octopus check the health of everything, some at a time, and say what became of each."""
        for number, start in enumerate(range(0, len(names), PROVE_AT_ONCE)):
            some = list(names[start : start + PROVE_AT_ONCE])
            checked = self._step("look", self._proof.look, run_id, some)
            verdicts = self._step("prove", self._proof.prove, run_id, _PROVE_WAVE + number, some, checked)
            self._step("conclude", self._closing.conclude, run_id, verdicts)

    def _clean(self, run_id: str, plan: Plan) -> None:
        """Remove the old trust, in waves with a canary, from those whose health was proven."""
        may = self._step("may_clean", self._nodes.may_clean, run_id)
        if not may["ok"]:
            self._step("ask_again", self._closing.ask_again, run_id, may["what"])
            return
        names = set(self._step("cleanable", self._closing.cleanable, run_id))
        done: list[str] = []
        waves = _server(plan).trust_waves
        for number, wave in enumerate(waves):
            some = [n for n in wave if n in names]
            if not some:
                continue
            if not self._step("begin_wave", self._opening.begin_wave, run_id, "clean up", number, len(waves)):
                break
            results = self._doing.tend_all(run_id, some, Task.CLEAN.value)
            self._step("release", self._opening.release, run_id, some)
            good = [n for n in some if results[n]["ok"]]
            checked = self._step("look", self._proof.look, run_id, good) if good else {}
            verdicts = (
                self._step("prove", self._proof.prove, run_id, _CLEAN_WAVE + number, good, checked) if good else {}
            )
            healthy = [n for n in good if verdicts[n]["verdict"] == "healthy"]
            done += good
            if not healthy:
                break
        self._step("cleaned", self._closing.cleaned, run_id, done)


def _server(plan: Plan) -> ServerPlan:
    assert plan.server is not None, "this run rotates no Server"
    return plan.server
