"""The only place where clients and services are built and joined."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from slack_bolt import App
from slack_sdk.errors import SlackApiError

from bot.certificates import handshake
from bot.certificates.authorities import Authorities
from bot.certificates.sources import Sources
from bot.clock import Clock, SystemClock
from bot.domain.errors import SettingsError, UserError
from bot.domain.radar import Sweep, Worry
from bot.domain.run import RunState
from bot.octopus.client import Client
from bot.operating.health import Gauges, Health
from bot.operating.radar import Radar
from bot.operating.web import WebServer
from bot.runs.announcer import Announcer
from bot.runs.approvals import Approvals
from bot.runs.auditing import audit_of
from bot.runs.caretaker import Caretaker
from bot.runs.carrier import RunCarrier
from bot.runs.control import Control
from bot.runs.database import Database
from bot.runs.desk import Desk
from bot.runs.directory import Directory
from bot.runs.engine import DurableEngine
from bot.runs.freezing import Freezing
from bot.runs.front import Front
from bot.runs.gates import Gates
from bot.runs.gear import Gear
from bot.runs.guard import Guard
from bot.runs.inspector import Inspector, Tools
from bot.runs.issuing import Issuing
from bot.runs.leases import FENCE, Leases
from bot.runs.ledger import Ledger
from bot.runs.node_steps import NodeSteps
from bot.runs.notes import Notes
from bot.runs.outbox import DurableOutbox
from bot.runs.refusals import SharedBoard
from bot.runs.retention import Retention
from bot.runs.rotation import Rotation
from bot.runs.server_breaking import ServerBreaking
from bot.runs.server_carrier import ServerCarrier
from bot.runs.server_closing import ServerClosing
from bot.runs.server_inspector import ServerInspector
from bot.runs.server_opening import ServerOpening
from bot.runs.server_proposals import ServerProposals
from bot.runs.server_watch import ServerWatch
from bot.runs.sweeps import Sweeps
from bot.runs.timetable import Timetable
from bot.runs.wrecks import Wrecks
from bot.settings import Settings
from bot.settings_operating import Address, address_of
from bot.settings_policy import policy_of
from bot.settings_windows import zone_of
from bot.signals import EndSignals, leave
from bot.slack.groups import UserGroups
from bot.slack.notifier import Notifier
from bot.slack.publishing import Permalinks, publisher
from bot.slack.signed_requests import SignedRequests
from bot.slack.tokens import TokenWatch, authorizer
from bot.slack.wire import MeasuredClient, SocketMode
from bot.windows.breaker import Breaker
from bot.windows.hands import Hands
from bot.windows.transport import Transport
from bot.windows.visit import Visits

log = structlog.get_logger("octocert")

Register = Callable[..., None]
"""`handlers.register`: handed in, because the bot never imports its listeners."""
FLUSH_SECONDS = 10.0
"""How long waiting messages may take to reach Slack when the bot stops."""


class Bot:
    """One bot, built from its settings. `start` begins, `stop` ends it so that everything can be resumed.

    With `http`, Slack's signed requests are taken at that address; without it, the bot connects by Socket Mode.
    """

    def __init__(
        self, settings: Settings, register: Register, *, clock: Clock | None = None, http: Address | None = None
    ) -> None:
        _check(settings, http)
        clock = clock or SystemClock()
        self._clock = clock
        self._drain = settings.operating.drain
        deadlines = settings.deadlines
        password = settings.database.url_password
        self.database = Database(
            settings.database.url,
            password=password.read() if password else None,
            idle=settings.replicas.lease * FENCE,
        )
        engine = self.database.engine
        bot_token = settings.slack.bot_token.read().reveal()
        # without the library's own retries: a post repeated after a lost answer would stand there twice
        client = MeasuredClient(token=bot_token, base_url=settings.slack.api_url, retry_handlers=[])
        self.ledger = Ledger(engine, clock)
        self.audit = audit_of(settings, engine, clock)
        self.freezing = Freezing(engine, self.audit, clock)
        self.freezing.look_for_restore()
        outbox = DurableOutbox(engine)
        self.notifier = Notifier(client, outbox, clock, leads=self._leads)
        announcer = Announcer(self.ledger, outbox, self.notifier, clock)
        timetable = Timetable({n: w.window(n) for n, w in settings.windows.items()}, zone_of, clock)
        self.control = Control(self.ledger, announcer, self.audit, timetable, clock)
        breaker = Breaker(None if self.database.is_sqlite else SharedBoard(engine, clock))
        clients = clients_of(settings, clock, breaker)
        octopus, hands, directory, see = clients.octopus, clients.hands, clients.directory, clients.see
        self.octopus = octopus
        sources = Sources({n: (p.path, p.password) for n, p in settings.certificates.pfx.items()})
        self.inspector = Inspector(clients)
        server_inspector = ServerInspector(clients, self.inspector)
        self._gates = Gates(engine, self.ledger, clock, minutes=settings.policy.approval_minutes)
        gear = Gear(
            ledger=self.ledger,
            announcer=announcer,
            control=self.control,
            timetable=timetable,
            audit=self.audit,
            octopus=octopus,
            hands=hands,
            directory=directory,
            sources=sources,
            issuing=Issuing(Authorities.of(settings, clock), engine, self.audit, clock),
            see=see,
            clock=clock,
            deadlines=deadlines,
            notes=Notes(engine, clock),
            gates=self._gates,
            breaker=breaker,
        )
        rotation = Rotation(gear)
        nodes = NodeSteps(gear, rotation, server_inspector)
        server = ServerCarrier(
            gear,
            rotation,
            nodes,
            ServerOpening(gear, server_inspector, nodes),
            ServerClosing(gear, nodes),
            ServerWatch(gear, server_inspector, nodes),
            ServerBreaking(gear, nodes, server_inspector),
        )
        carrier = RunCarrier(gear, self.inspector, server, settings.winrm.in_flight)
        self.engine = DurableEngine(
            self.database,
            carrier,
            in_flight=settings.winrm.in_flight,
            drain=settings.operating.drain,
            frozen=self.freezing.holds,
        )
        self.leases = Leases(engine, self.engine.executor, self.engine, lease=settings.replicas.lease)
        self.engine.guard_by(self.leases.check)
        policy = policy_of(settings.policy, settings.people, UserGroups(client, clock))
        approvals = Approvals(engine, self.ledger, self.audit, timetable, clock, policy)
        proposals = ServerProposals(gear, server_inspector)
        sweeps = Sweeps(engine, clock)
        self.desk = Desk(gear, self.inspector, proposals, self.engine, policy, approvals, self.freezing, sweeps)
        self.radar = Radar(
            settings.radar, self.inspector, server_inspector, sweeps, announcer, clock, leads=self._leads
        )
        guard = Guard(self.ledger, announcer, self.freezing, policy, approvals, gear.gates, clock)
        self.caretaker = Caretaker(
            gear,
            self.engine,
            rotation,
            nodes,
            guard,
            Wrecks(gear, self.engine),
            retention=Retention(engine, self.engine, clock, days=settings.retention.runs_days),
            leads=self._leads,
        )
        certificates = settings.certificates
        places = [*settings.policy.channels, *([settings.radar.channel] if settings.radar.channel else [])]
        self.front = Front(
            self.ledger,
            self.inspector,
            self.freezing,
            sweeps,
            self.desk.waiting_for,
            publisher(client),
            Permalinks(client, announcer.place).of,
            clock,
            sources=[*(f"pfx:{n}" for n in sorted(certificates.pfx)), *(f"ca:{n}" for n in sorted(certificates.ca))],
            channel=places[0] if places else "",
            is_radar_on=self.radar.is_on,
        )
        self._client = client
        client.token = None  # Bolt would warn at each start that `authorize` counts, as is meant
        self._slack = App(
            client=client,
            authorize=authorizer(client),
            token_verification_enabled=False,
            request_verification_enabled=False,  # SignedRequests verifies, and stumbles over no malformed header
            logger=logging.getLogger("slack_bolt"),
        )
        client.token = bot_token
        register(self._slack, self.desk, self.front, command=settings.slack.command)
        self._socket: SocketMode | None = None
        self._requests: SignedRequests | None = None
        if http and settings.slack.signing_secret:
            self._requests = SignedRequests(self._slack, settings.slack.signing_secret.read)
        elif settings.slack.app_token:
            self._socket = SocketMode(self._slack, settings.slack.app_token.read().reveal(), settings.slack.api_url)
        app_token = settings.slack.app_token.read if settings.slack.app_token else None
        self.tokens = TokenWatch(client, settings.slack.bot_token.read, self._socket, app_token)
        self.servers = self._web_servers(settings, http)

    def start(self) -> None:
        """Connect, resume what a crash interrupted, and listen. SettingsError if Slack refuses the tokens."""
        for server in self.servers:
            server.start()
        try:
            self._client.auth_test()
        except SlackApiError as error:
            raise SettingsError(
                f"Slack refuses the bot token ({error.response.get('error')}). Check [slack] bot_token."
            ) from None
        except OSError as error:
            raise SettingsError(f"Slack cannot be reached: {error}. Check [slack] api_url and the network.") from None
        self.leases.start()
        self.notifier.start()
        self.tokens.start()
        self.engine.launch()
        for version, pieces in self.engine.stuck().items():
            log.error(
                "work of another version waits, and this version cannot do it: run that version until it is done",
                version=version,
                pieces=pieces,
            )
        self.caretaker.start()
        self.radar.start()
        self.front.start()
        threading.Thread(target=self._look_at_scope, name="octopus-scope", daemon=True).start()
        if self._requests:
            self._requests.open()
        try:
            if self._socket:
                self._socket.connect()
        except SlackApiError as error:
            raise SettingsError(
                f"Slack refuses the app token ({error.response.get('error')}). Check [slack] app_token: "
                "it begins with xapp- and needs the scope connections:write."
            ) from None

    def _look_at_scope(self) -> None:
        """Warn where the Octopus key sees less than everything: nobody would miss what it does not see."""
        try:
            for space in self.octopus.index().unreadable_spaces:
                log.warning("the Octopus key sees this space in part or not at all; see octocert doctor", space=space)
        except UserError as error:
            log.warning("what the Octopus key sees could not be looked at", error=str(error))

    def stop(self) -> None:
        """Take nothing new, let what runs end or be resumed, and say what is still to be said."""
        self.engine.leave()
        self.control.leave()
        self.tokens.stop()
        if self._requests:
            self._requests.close()
        if self._socket:
            self._socket.leave()
        self.caretaker.stop()
        self.radar.stop()
        self.front.stop()
        # whoever waits for an answer gets it, if it comes within the time that steps have
        closing = threading.Thread(target=self.desk.close, name="desk-closing", daemon=True)
        end = self._clock.monotonic() + self._drain
        closing.start()
        self.engine.stop()
        closing.join(max(0.0, end - self._clock.monotonic()))
        self.desk.tell_unfinished()
        self.ledger.notes.close()
        self.notifier.flush(FLUSH_SECONDS)
        self.notifier.stop()
        self.leases.stop()
        self.inspector.close()
        self.octopus.close()
        for server in self.servers:
            server.stop()
        if self._socket:
            self._socket.wait_until_left()
        self.database.close()

    def _web_servers(self, settings: Settings, http: Address | None) -> list[WebServer]:
        """Return the server for Slack's requests, and that of health and metrics where it is another one."""
        health = Health(
            alive={"messages": self._messages, "caretaker": self._caretaker},
            ready={
                "slack": self._slack_problem,
                "database": lambda: self.database.write(self._clock.now()),
                "engine": lambda: None if self.engine.is_running else "The engine is not running (yet, or any more).",
            },
            gauges=self._gauges,
            clock=self._clock,
        )
        listen = address_of(settings.operating.listen) if settings.operating.listen else None
        servers = []
        if http and self._requests:
            servers.append(WebServer(http, [*self._requests.routes(), *([] if listen else health.routes())]))
        if listen:
            servers.append(WebServer(listen, health.routes()))
        return servers

    def _leads(self) -> bool:
        return self.leases.leads

    def _messages(self) -> str | None:
        return None if self.notifier.is_alive or not self.engine.is_running else "No thread sends messages any more."

    def _caretaker(self) -> str | None:
        return None if self.caretaker.is_alive or not self.engine.is_running else "The caretaker's thread has died."

    def _slack_problem(self) -> str | None:
        if self._requests:
            return None if self._requests.is_open else "Slack's requests are not taken (yet, or any more)."
        connected = self._socket is not None and self._socket.is_connected
        return None if connected else "There is no Socket Mode connection to Slack now; it is made again by itself."

    def _gauges(self) -> Gauges:
        counts, found = self.ledger.counts(), self.radar.latest()
        return {
            **(self._found(found) if found else {}),
            "octocert_runs_open": {s.name.lower(): float(n) for s, n in counts.items()},
            "octocert_approvals_waiting": float(counts[RunState.PROPOSED] + self._gates.number()),
            "octocert_slack_connected": float(self._slack_problem() is None),
        }

    def _found(self, sweep: Sweep) -> Gauges:
        return {
            "octocert_radar_findings": {w.name.lower(): float(sweep.count(w)) for w in Worry},
            "octocert_radar_age_seconds": (self._clock.now() - sweep.at).total_seconds(),
        }


def clients_of(settings: Settings, clock: Clock, breaker: Breaker) -> Tools:
    """Return the clients that only look, and that need no Slack."""
    deadlines = settings.deadlines
    return Tools(
        octopus=Client(
            settings.octopus.url,
            settings.octopus.api_key.read,
            ca_file=settings.octopus.ca_file,
            clock=clock,
            timeout=deadlines.octopus_request,
        ),
        hands=Hands(Visits(Transport(clock, breaker=breaker)), clock),
        directory=Directory(settings),
        see=partial(handshake.see, timeout=deadlines.handshake),
        clock=clock,
        inspect_seconds=deadlines.inspect_host,
        loopback_seconds=deadlines.loopback,
        in_flight=settings.winrm.in_flight,
    )


@contextmanager
def looking(settings: Settings, clock: Clock | None = None) -> Iterator[Inspector]:
    """Return an inspector without a bot around it, for the command line."""
    with looking_everywhere(settings, clock) as (inspector, _servers):
        yield inspector


@contextmanager
def looking_everywhere(settings: Settings, clock: Clock | None = None) -> Iterator[tuple[Inspector, ServerInspector]]:
    """Return the inspectors of Tentacles and of the Server without a bot around them, for the command line."""
    clients = clients_of(settings, clock or SystemClock(), Breaker())
    inspector = Inspector(clients)
    try:
        yield inspector, ServerInspector(clients, inspector)
    finally:
        inspector.close()
        clients.octopus.close()


def _check(settings: Settings, http: Address | None) -> None:
    """Refuse a way to Slack for which a secret is missing."""
    if http and not settings.slack.signing_secret:
        raise SettingsError(
            "--http needs [slack] signing_secret, which proves that a request comes from Slack: "
            "app page → Basic Information → Signing Secret."
        )
    if not http and not settings.slack.app_token:
        raise SettingsError(
            "Without --http the bot uses Socket Mode, which needs [slack] app_token: app page → Basic Information → "
            "App-Level Tokens."
        )


def run(settings: Settings, register: Register, *, http: Address | None = None) -> int:
    """Run the bot until SIGTERM or Ctrl-C; return the exit code. A second signal ends it at once.

    That is as safe as a power cut: what runs is resumed, and a host that was left alone starts its service by itself.
    """
    signals = EndSignals()
    bot = Bot(settings, register, http=http)
    try:
        bot.start()
    except BaseException:
        for server in bot.servers:
            server.stop()
        raise
    log.info(
        "octocert is listening",
        command=settings.slack.command,
        urls=[s.url for s in bot.servers],
        executor=bot.engine.executor,
    )
    signals.wait()
    log.info("octocert is stopping; a second signal ends it at once", seconds=settings.operating.drain)
    bot.stop()
    log.info("octocert has stopped")
    # A step that did not end in time still has its thread, for which the interpreter would wait.
    leave(0)
