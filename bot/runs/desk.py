"""The desk: takes commands and clicks from Slack, free of Slack's 3 seconds, and answers in Slack."""

import secrets as randomness
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from bot.audit import Entry
from bot.domain.commands import Command, parse
from bot.domain.errors import UserError
from bot.domain.inventory import row_of
from bot.domain.names import targets
from bot.domain.plan import Request
from bot.domain.policy import Action, Policy
from bot.domain.radar import SERVER
from bot.domain.run import Run
from bot.runs.approvals import Approvals, Asking
from bot.runs.asking import Asker, Click
from bot.runs.engine import DurableEngine
from bot.runs.freezing import Freezing
from bot.runs.gear import Gear
from bot.runs.inspector import Inspector
from bot.runs.intake import Intake
from bot.runs.proposals import Proposals
from bot.runs.selecting import Selecting
from bot.runs.server_proposals import ServerProposals, is_server
from bot.runs.steering import Steering
from bot.runs.sweeps import Sweeps
from bot.slack import messages
from bot.slack.fleet_message import FLEET
from bot.slack.inventory_message import MOST_ROWS
from bot.slack.message import File, Message
from bot.slack.results import plan_csv
from bot.slack.rotate_view import Asked
from bot.slack.text import clean

log = structlog.get_logger("octocert.desk")

HANDS = 16
"""How many commands and clicks are worked on at once; what comes on top waits its turn, acknowledged already."""
LOOKING = ("rotate", "plan", "show-thumbprint", "inventory")
"""Commands that visit hosts: who gives one lets a refused account try once more."""
UNFINISHED = (
    "I am being stopped and could not finish what you asked for. In a minute look at `status`; if it is not there, ask "
    "again."
)
"""What somebody is told whose command or click was acknowledged and then not finished."""
READS_AT_ONCE = 8
"""Records whose health is read at the same time; Octopus's rate limit is the pace."""
RECENT = 10
"""How many runs or entries `status` and `history` show."""

__all__ = ["Asker", "Click", "Desk"]


class Desk:
    """Where every command and click arrives; `command` and `click` only enqueue and return within milliseconds."""

    def __init__(
        self,
        gear: Gear,
        inspector: Inspector,
        server: ServerProposals,
        engine: DurableEngine,
        policy: Policy,
        approvals: Approvals,
        freezing: Freezing,
        sweeps: Sweeps,
    ) -> None:
        self._gear = gear
        self._inspector = inspector
        self._server = server
        self._policy = policy
        self._proposals = Proposals(gear, inspector, engine, policy, approvals)
        self._freezing = freezing
        self._sweeps = sweeps
        self._steering = Steering(gear, policy)
        self._intake = Intake(HANDS, lambda asker: self._whisper(asker, messages.problem(UNFINISHED)))
        self._selecting = Selecting(inspector, gear.clock)
        self._commands: dict[str, Callable[[Command, Asker], None]] = {
            "help": self._help,
            "show-thumbprint": self._show_thumbprint,
            "check-health": self._check_health,
            "inventory": self._inventory,
            "rotate": self._rotate,
            "plan": self._plan,
            "status": self._status,
            "cancel": self._cancel,
            "pause": self._pause,
            "resume": self._resume,
            "history": self._history,
            "freeze": self._freeze,
            "unfreeze": self._unfreeze,
            "policy": self._show_policy,
        }

    def close(self) -> None:
        """Take nothing more, end what is being worked on."""
        self._intake.close()

    def tell_unfinished(self) -> None:
        """Tell everybody whose command or click is still worked on that the bot stops now."""
        self._intake.tell_unfinished()

    def command(self, text: str, asker: Asker) -> None:
        """Take the words after the slash command or the mention."""
        self._intake.take(asker, lambda: self._guarded(asker, lambda: self._obey(text, asker)))

    def click(self, click: Click) -> None:
        """Take one press of one of our buttons."""
        self._intake.take(click.asker, lambda: self._guarded(click.asker, lambda: self._press(click)))

    def ask(self, asked: Asked, asker: Asker) -> None:
        """Take what was filled into the modal that asks what to rotate."""
        self._intake.take(asker, lambda: self._guarded(asker, lambda: self._rotate_asked(asked, asker)))

    def waiting_for(self, run: Run, user: str) -> Asking | None:
        """Return what of a run waits for a decision that this person may take; None where nothing does."""
        return self._proposals.waiting_for(run, user)

    def _rotate_asked(self, asked: Asked, asker: Asker) -> None:
        chosen = " ".join((*asked.records, *asked.words))
        self._write_down(asker, "command", f"rotate {chosen} --with {asked.source} (chosen in the form)")
        by_record = {}
        if asked.records:
            by_record = {r.id: g.name for g in targets(self._inspector.index()) for r in g.records}
        names = [by_record[r] for r in asked.records if r in by_record]
        if len(names) < len(asked.records):
            raise UserError(
                f"{len(asked.records) - len(names)} of the chosen targets are no longer in Octopus. Nothing was done; "
                "choose again."
            )
        arguments = tuple(dict.fromkeys((*names, *asked.words)))
        self._gear.breaker.ask_again()
        command = Command(
            name="rotate",
            arguments=arguments,
            source=asked.source,
            order=asked.order,
            reason=asked.reason,
            canary=asked.canary,
            batch=asked.batch,
        )
        self._rotate(command, asker)

    def _guarded(self, asker: Asker, work: Callable[[], None]) -> None:
        """Do a piece of work once; whatever goes wrong is said to who asked, and nothing fails silently."""
        try:
            if self._gear.ledger.is_new(asker.key):
                work()
        except UserError as error:
            try:
                self._write_down(asker, "refused", str(error))
            finally:
                self._whisper(asker, messages.problem(str(error)))
        except Exception:
            reference = randomness.token_hex(4)
            log.exception("unexpected", reference=reference, user=asker.user)
            self._whisper(asker, messages.unexpected(reference))

    def _whisper(self, asker: Asker, message: Message) -> None:
        self._gear.announcer.whisper(asker.channel, asker.user, message, asker.thread)

    def _post(self, asker: Asker, message: Message, key: str = "answer") -> None:
        self._gear.announcer.post(f"{asker.key}:{key}", asker.channel, message, asker.thread)

    def _obey(self, text: str, asker: Asker) -> None:
        self._write_down(asker, "command", text)
        command = parse(text)
        if command.name in LOOKING:
            self._gear.breaker.ask_again()
        self._commands[command.name](command, asker)

    def _write_down(self, asker: Asker, kind: str, what: str, run: str = "") -> None:
        """Write into the audit log what somebody typed or pressed, before anything is done about it."""
        self._gear.audit.append(f"{kind}:{asker.key}", Entry(kind=kind, who=asker.user, run=run, what=clean(what, 500)))

    def _refuse(self, asker: Asker, refusal: str | None) -> None:
        """Write a refusal into the audit log, and say it."""
        if refusal:
            self._write_down(asker, "refused", refusal)
            raise UserError(refusal)

    def _freeze(self, command: Command, asker: Asker) -> None:
        self._refuse(asker, self._policy.refuses_request(asker.user, asker.channel, Action.FREEZE))
        before = self._freezing.freeze(asker.user, clean(" ".join(command.arguments), 500), asker.key)
        freeze = self._freezing.in_force()
        if before or freeze is None:
            raise UserError("Everything is frozen already, or was just unfrozen. `status` shows by whom and why.")
        self._post(asker, messages.frozen(freeze))

    def _unfreeze(self, _command: Command, asker: Asker) -> None:
        self._refuse(asker, self._policy.refuses_request(asker.user, asker.channel, Action.UNFREEZE))
        lifted = self._freezing.lift(asker.user, asker.key)
        if lifted is None:
            raise UserError("Nothing is frozen. `status` shows what runs.")
        self._post(asker, messages.unfrozen(lifted, asker.user))

    def _show_policy(self, _command: Command, asker: Asker) -> None:
        self._whisper(asker, messages.policy(self._policy))

    def _help(self, command: Command, asker: Asker) -> None:
        changes = self._policy.refuses_anywhere(asker.user, asker.channel) is None
        self._whisper(
            asker, messages.help_text(command.arguments[0] if command.arguments else None, may_change=changes)
        )

    def _show_thumbprint(self, command: Command, asker: Asker) -> None:
        if is_server(command.arguments):
            told, nodes = self._server.seen()
            self._post(asker, messages.server_thumbprint(told, nodes, now=self._gear.clock.now()))
            return
        self._whisper(asker, messages.working(f"Looking at {_listed(command.arguments)} from every side…"))
        selected = self._selecting.select(command.arguments)
        facts = selected.facts or self._inspector.look(selected.groups, selected.index, deeply=False)
        self._note(asker, selected.notes)
        self._post(asker, messages.thumbprints(facts, now=self._gear.clock.now()))

    def _note(self, asker: Asker, notes: tuple[str, ...]) -> None:
        """Say what whoever asked must know of the selection."""
        if notes:
            self._whisper(asker, messages.problem(" ".join(f"{n[0].upper()}{n[1:]}." for n in notes)))

    def _check_health(self, command: Command, asker: Asker) -> None:
        if is_server(command.arguments):
            self._whisper(asker, messages.working("Looking at the Server's nodes and at every Tentacle…"))
            self._post(asker, messages.server_health(self._server.facts()))
            return
        octopus, deadline = self._gear.octopus, self._gear.deadlines.health_task
        selected = self._selecting.select(command.arguments)
        groups = selected.groups
        self._note(asker, selected.notes)
        records = [r for g in groups for r in g.records]
        started = octopus.start_health(records, f"octocert check-{asker.key[-24:]}")
        self._post(asker, messages.health_started([g.name for g in groups], [t.url for t in started.values()]))
        results = {space: octopus.follow(task, deadline) for space, task in started.items()}
        with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="health") as threads:
            reports = list(threads.map(lambda r: octopus.health(r, results.get(r.space_id)), records))
        self._post(asker, messages.health_result(reports))

    def _inventory(self, command: Command, asker: Asker) -> None:
        shown = _listed(command.arguments) if command.arguments else "the whole estate"
        self._whisper(asker, messages.working(f"Looking at {shown}; that takes a while where it is large…"))
        selected = self._selecting.select(command.arguments)
        facts = selected.facts or self._inspector.look(selected.groups, selected.index, deeply=False)
        now = self._gear.clock.now()
        rows = [row_of(f, now) for f in facts]
        self._post(asker, messages.inventory(rows, selected.notes))
        if len(rows) > MOST_ROWS:
            file = File(f"octocert-inventory-{now:%Y%m%d-%H%M%S}.csv", "Inventory", messages.inventory_csv(rows))
            self._attach(asker, messages.inventory_attached(rows), file)

    def _attach(self, asker: Asker, message: Message, file: File) -> None:
        """Attach a file in the thread of the answer."""
        self._gear.announcer.attach(f"{asker.key}:file", asker.channel, message, file, parent=f"{asker.key}:answer")

    def _request(self, command: Command, asker: Asker) -> Request:
        return Request(
            user=asker.user,
            user_name=asker.user_name,
            channel=asker.channel,
            thread=asker.thread,
            names=command.arguments,
            source=command.source,
            order=command.order,
            reason=command.reason,
            accept=command.accept,
            canary=command.canary,
            batch=command.batch,
            max_failures=command.max_failures,
            stop_on_failure=command.stop_on_failure,
            at=command.at,
            window=command.window,
        )

    def _rotate(self, command: Command, asker: Asker) -> None:
        action = Action.ROTATE_SERVER if is_server(command.arguments) else Action.ROTATE
        self._refuse(asker, self._policy.refuses_anywhere(asker.user, asker.channel, action))
        request = self._request(command, asker)
        if is_server(command.arguments):
            self._rotate_server(request, asker)
            return
        self._whisper(asker, messages.working(f"Looking at {_listed(command.arguments)} before planning…"))
        plan = self._proposals.plan(request)
        if plan.targets:
            self._proposals.propose(request, plan)
        else:
            self._write_down(asker, "refused", "; ".join(f"{r.name}: {r.reason}" for r in plan.refused))
            self._post(asker, messages.refusals(plan))

    def _rotate_server(self, request: Request, asker: Asker) -> None:
        self._whisper(asker, messages.working("Looking at the Server's nodes and at every Tentacle before planning…"))
        plan = self._server.plan(request)
        refusal = self._server.refusal(plan)
        if refusal:
            self._write_down(asker, "refused", refusal)
            self._post(asker, messages.server_refused(plan, refusal))
        else:
            self._proposals.propose(request, plan)

    def _plan(self, command: Command, asker: Asker) -> None:
        if is_server(command.arguments):
            self._whisper(asker, messages.working("Looking at the Server's nodes and at every Tentacle…"))
            self._post(asker, messages.plan_only(self._server.plan(self._request(command, asker))))
            return
        self._whisper(asker, messages.working(f"Looking at {_listed(command.arguments)} before planning…"))
        plan = self._proposals.plan(self._request(command, asker))
        self._post(asker, messages.plan_only(plan))
        if len(plan.targets) > FLEET:
            file = File("octocert-plan.csv", "Plan", plan_csv(plan))
            self._attach(asker, messages.plan_attached(plan), file)

    def _status(self, command: Command, asker: Asker) -> None:
        now = self._gear.clock.now()
        if not command.arguments:
            self._whisper(
                asker, messages.status(self._gear.ledger.recent(RECENT), now=now, frozen=self._freezing.in_force())
            )
            return
        self._whisper(asker, messages.status_one(self._named(command), now=now))

    def _cancel(self, command: Command, asker: Asker) -> None:
        run = self._named(command)
        refusal = self._proposals.cancel(run, asker)
        self._whisper(asker, messages.problem(refusal) if refusal else messages.working(f"{run.id} is being stopped."))

    def _pause(self, command: Command, asker: Asker) -> None:
        run = self._named(command)
        refusal = self._steering.pause(run, asker)
        self._whisper(asker, messages.problem(refusal) if refusal else messages.working(f"{run.id} is being paused."))

    def _resume(self, command: Command, asker: Asker) -> None:
        run = self._named(command)
        refusal = self._steering.resume(run, asker)
        self._whisper(asker, messages.problem(refusal) if refusal else messages.working(f"{run.id} goes on."))

    def _named(self, command: Command) -> Run:
        run = self._gear.ledger.find(command.arguments[0])
        if run is None:
            raise UserError(f"There is no run “{command.arguments[0][:24]}”. `status` lists the recent ones.")
        return run

    def _history(self, command: Command, asker: Asker) -> None:
        target = command.arguments[0] if command.arguments else None
        entries = self._gear.audit.entries(target=target, limit=RECENT * 2)
        self._whisper(asker, messages.history(entries))

    def _plan_found(self, click: Click) -> None:
        """Propose a rotation of what the radar found, as the person who pressed asks for it."""
        found = self._sweeps.findings(click.run_id, click.nonce)
        if not found:
            raise UserError("I do not know this digest of the radar any more. Use `rotate` with the target's name.")
        record = found[0].record
        name: str | None = SERVER
        if record != SERVER:
            every = targets(self._inspector.index())
            name = next((g.name for g in every if record in {r.id for r in g.records}), None)
        if name is None:
            raise UserError(f"{found[0].target} is no longer in Octopus. Nothing was done.")
        self._gear.breaker.ask_again()
        reason = f"the radar found: {', '.join(f.worry.value for f in found)}"
        self._rotate(Command(name="rotate", arguments=(name,), reason=reason), click.asker)

    def _press(self, click: Click) -> None:
        asker = click.asker
        self._write_down(asker, "command", f"pressed {click.action}", click.run_id[:24])
        if click.action == "plan_rotation":
            self._plan_found(click)
            return
        run = self._gear.ledger.find(click.run_id)
        gate = self._gear.gates.find(click.run_id, click.nonce) if run and run.nonce != click.nonce else None
        if run is None or (run.nonce != click.nonce and gate is None):
            raise UserError("This button belongs to no run that I know; nothing was done. Ask for a new plan.")
        refusal: str | None
        match click.action:
            case "approve" | "deny" if gate:
                approved = click.action == "approve"
                refusal = self._proposals.decide_gate(run, gate, asker, approved=approved, reason=click.reason)
            case "approve" | "deny":
                refusal = self._proposals.decide(run, asker, approved=click.action == "approve", reason=click.reason)
            case "machines":
                new = self._server.new_of(run)
                self._whisper(asker, messages.server_machines(run, new))
                return
            case "roll_back" if run.plan.server:
                self._proposals.propose_back(run, asker, self._server.roll_back(run, asker))
                return
            case "cancel":
                refusal = self._proposals.cancel(run, asker)
            case "pause":
                refusal = self._steering.pause(run, asker)
            case "resume":
                refusal = self._steering.resume(run, asker)
            case "retry":
                self._gear.breaker.ask_again()
                refusal = self._proposals.retry(run, asker)
            case "roll_back":
                refusal = self._proposals.roll_back(run, asker)
            case _:
                refusal = "I do not know this button; nothing was done."
        if refusal:
            self._whisper(asker, messages.problem(refusal))


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
