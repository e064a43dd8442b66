"""The only place where clients and services are built and joined."""

import logging
import signal
import threading
from collections.abc import Callable
from functools import partial

import structlog
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.audit import AuditLog
from bot.certificates import handshake
from bot.certificates.sources import Sources
from bot.clock import Clock, SystemClock
from bot.domain.errors import SettingsError
from bot.domain.policy import Policy
from bot.octopus.client import Client
from bot.runs.announcer import Announcer
from bot.runs.caretaker import Caretaker
from bot.runs.carrier import RunCarrier
from bot.runs.control import Control
from bot.runs.database import Database
from bot.runs.desk import Desk
from bot.runs.directory import Directory
from bot.runs.engine import DurableEngine
from bot.runs.gates import Gates
from bot.runs.inspector import Inspector, Tools
from bot.runs.ledger import Ledger
from bot.runs.node_steps import NodeSteps
from bot.runs.notes import Notes
from bot.runs.outbox import DurableOutbox
from bot.runs.rotation import Gear, Rotation
from bot.runs.server_carrier import ServerCarrier
from bot.runs.server_closing import ServerClosing
from bot.runs.server_inspector import ServerInspector
from bot.runs.server_opening import ServerOpening
from bot.runs.server_proposals import ServerProposals
from bot.runs.server_watch import ServerWatch
from bot.settings import Settings
from bot.slack.notifier import Notifier
from bot.windows.hands import Hands
from bot.windows.transport import Transport
from bot.windows.visit import Visits

log = structlog.get_logger("octocert")

Register = Callable[..., None]
"""`handlers.register`: handed in, because the bot never imports its listeners."""
PING_SECONDS = 3
"""Of Socket Mode: a lost connection is noticed within seconds instead of 45 (measured)."""
FLUSH_SECONDS = 10.0
"""How long waiting messages may take to reach Slack when the bot stops."""


class Bot:
    """One bot, built from its settings. `start` begins, `stop` ends it so that everything can be resumed."""

    def __init__(self, settings: Settings, register: Register, *, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        deadlines = settings.deadlines
        password = settings.database.url_password
        self.database = Database(settings.database.url, password=password.read() if password else None)
        engine = self.database.engine
        bot_token = settings.slack.bot_token.read().reveal()
        # without the library's own retries: a post repeated after a lost answer would stand there twice
        client = WebClient(token=bot_token, base_url=settings.slack.api_url, retry_handlers=[])
        self.ledger = Ledger(engine, clock)
        self.audit = AuditLog(engine, clock)
        outbox = DurableOutbox(engine)
        self.notifier = Notifier(client, outbox, clock)
        announcer = Announcer(self.ledger, outbox, self.notifier, clock)
        octopus = Client(
            settings.octopus.url,
            settings.octopus.api_key.read,
            ca_file=settings.octopus.ca_file,
            clock=clock,
            timeout=deadlines.octopus_request,
        )
        self.octopus = octopus
        hands = Hands(Visits(Transport(clock)), clock)
        directory = Directory(settings)
        see = partial(handshake.see, timeout=deadlines.handshake)
        sources = Sources({n: (p.path, p.password) for n, p in settings.certificates.pfx.items()})
        tools = Tools(
            octopus=octopus,
            hands=hands,
            directory=directory,
            see=see,
            clock=clock,
            inspect_seconds=deadlines.inspect_host,
            loopback_seconds=deadlines.loopback,
            in_flight=settings.winrm.in_flight,
        )
        self.inspector = Inspector(tools)
        server_inspector = ServerInspector(tools, self.inspector)
        gear = Gear(
            ledger=self.ledger,
            announcer=announcer,
            audit=self.audit,
            octopus=octopus,
            hands=hands,
            directory=directory,
            sources=sources,
            see=see,
            clock=clock,
            deadlines=deadlines,
            notes=Notes(engine, clock),
            gates=Gates(engine, self.ledger, clock, minutes=settings.policy.approval_minutes),
            control=Control(self.ledger, announcer, clock),
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
        )
        carrier = RunCarrier(gear, self.inspector, server)
        self.engine = DurableEngine(self.database, carrier, in_flight=settings.winrm.in_flight)
        policy = Policy(
            approvers=frozenset(settings.policy.approvers),
            requesters=frozenset(settings.policy.requesters),
            channels=frozenset(settings.policy.channels),
            approval_minutes=settings.policy.approval_minutes,
        )
        self.desk = Desk(gear, self.inspector, ServerProposals(gear, server_inspector), self.engine, policy)
        self.caretaker = Caretaker(gear, self.engine, rotation, nodes)
        self._slack = App(client=client, token_verification_enabled=False, logger=logging.getLogger("slack_bolt"))
        register(self._slack, self.desk, command=settings.slack.command)
        app_token = settings.slack.app_token.read().reveal()
        self._socket = SocketModeHandler(
            self._slack,
            app_token,
            web_client=WebClient(token=app_token, base_url=settings.slack.api_url),
            ping_interval=PING_SECONDS,
        )
        self._client = client

    def start(self) -> None:
        """Connect, resume what a crash interrupted, and listen. SettingsError if Slack refuses the tokens."""
        try:
            self._client.auth_test()
        except SlackApiError as error:
            raise SettingsError(
                f"Slack refuses the bot token ({error.response.get('error')}). Check [slack] bot_token."
            ) from None
        except OSError as error:
            raise SettingsError(f"Slack cannot be reached: {error}. Check [slack] api_url and the network.") from None
        self.notifier.start()
        self.engine.launch()
        self.caretaker.start()
        try:
            self._socket.connect()  # type: ignore[no-untyped-call]
        except SlackApiError as error:
            raise SettingsError(
                f"Slack refuses the app token ({error.response.get('error')}). Check [slack] app_token: "
                "it begins with xapp- and needs the scope connections:write."
            ) from None

    def stop(self) -> None:
        """Take nothing new, let what runs end or be resumed, and say what is still to be said."""
        # the client's threads end within a ping interval; the others need not wait for them
        self._socket.client.auto_reconnect_enabled = False
        leaving = threading.Thread(target=self._socket.close, name="slack-leaving")
        leaving.start()
        self.caretaker.stop()
        self.desk.close()
        self.engine.stop()
        self.notifier.flush(FLUSH_SECONDS)
        self.notifier.stop()
        self.inspector.close()
        self.octopus.close()
        leaving.join()
        self.database.close()


def run(settings: Settings, register: Register) -> int:
    """Run the bot until SIGTERM or Ctrl-C; return the exit code."""
    bot = Bot(settings, register)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    bot.start()
    log.info("octocert is listening", command=settings.slack.command)
    ended.wait()
    log.info("octocert is stopping")
    bot.stop()
    return 0
