"""The sandbox's Slack as one server (Web API, Socket Mode, response URLs, page), and the way to drive it from code."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Self, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from bot.clock import Clock, SystemClock
from bot.sandbox.slack.calls import SlackError
from bot.sandbox.slack.chat import post_due
from bot.sandbox.slack.delivery import ACK_SECONDS, Delivery
from bot.sandbox.slack.entering import entered, selection
from bot.sandbox.slack.http_mode import HttpDelivery
from bot.sandbox.slack.interaction import Interactions
from bot.sandbox.slack.model import BOT_USER_ID, Call, Channel, Json, Message, Person, Receipt, SlackFaults
from bot.sandbox.slack.page import COMMANDS, Page
from bot.sandbox.slack.rate_limits import RateLimits
from bot.sandbox.slack.socket_mode import SocketHub
from bot.sandbox.slack.triggers import Triggers
from bot.sandbox.slack.views import stack_of
from bot.sandbox.slack.web_api import APP_TOKEN, BOT_TOKEN, WebApi
from bot.sandbox.slack.workspace import CHANNELS, PEOPLE, Workspace

T = TypeVar("T")

START_SECONDS = 10.0
STOP_SECONDS = 10.0
TICK_SECONDS = 0.25  # how often scheduled messages are looked at
# slack-sdk 3.47 loses a connection that is cut in its handshake, socket and all (a ResourceWarning in tests). So before
# everything ends, new ones are refused for this long, and those that just began may finish.
SETTLE_SECONDS = 0.05
GRACE_SECONDS = 1  # for requests under way when the server stops
PING_SECONDS = 10.0  # between WebSocket pings; a connection that does not answer one in as much time again is closed
SIGNING_SECRET = "sandbox-signing-secret"
EVENTS = frozenset({"app_mention", "app_home_opened"})


class Directory(dict[str, T]):
    """Things by id that are also found by the names people use; KeyError names what is there."""

    def __init__(self, things: dict[str, T], find: Callable[[str], T]) -> None:
        super().__init__(things)
        self._find = find

    def __missing__(self, name: str) -> T:
        """Find by name."""
        try:
            return self._find(name)
        except LookupError as error:
            raise KeyError(str(error)) from None


class SlackServer:
    """A Slack workspace on this machine.

    `start()` and `close()` may alternate: the port, the messages and the open modals stay, which plays an outage.
    People and channels are named by id or by name ("rita", "deployments") in all methods. `rate_limits` 0 switches
    Slack's rate limits off, 1 is the real ones, more is stricter. `request_url` and `signing_secret` choose HTTP mode.
    `bind` is where it listens, if that is not `host`, by which this machine reaches it.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        bind: str | None = None,
        port: int = 0,
        clock: Clock | None = None,
        people: Sequence[Person] = PEOPLE,
        channels: Sequence[Channel] = CHANNELS,
        rate_limits: float = 0.0,
        ack_seconds: float = ACK_SECONDS,
        events: frozenset[str] = EVENTS,
        hint: Sequence[str] = (),
        estate: Callable[[], list[Json]] | None = None,
        command: str = "/octocert",
        commands: Sequence[tuple[str, str]] = COMMANDS,
        request_url: str | None = None,
        signing_secret: str = SIGNING_SECRET,
    ) -> None:
        self.host = host
        self.port = port
        self.clock: Clock = clock or SystemClock()
        self.faults = SlackFaults()
        self._bind = bind or host
        self.faults.disconnector = self._disconnect
        self.bot_token = BOT_TOKEN
        self.app_token = APP_TOKEN
        self.signing_secret = signing_secret
        self.bot_user = BOT_USER_ID
        self.default_command = command
        self.workspace = Workspace(self.clock, self.faults, tuple(people), tuple(channels))
        self.limits = RateLimits(self.clock, rate_limits)
        self.hub = SocketHub(self.workspace, ack_seconds)
        self.http: HttpDelivery | None = (
            HttpDelivery(self.workspace, request_url, signing_secret, ack_seconds) if request_url is not None else None
        )
        self._delivery: Delivery = self.http or self.hub
        self._triggers = Triggers(self.clock)
        self._interactions = Interactions(self.workspace, self._delivery, self._triggers, events)
        self._api = WebApi(self.workspace, self.hub, self._triggers, self.limits, self._base_url, self._cut)
        self.rotate_tokens = self._api.rotate_tokens
        self._page = Page(
            self.workspace, self._interactions, self.hub, hint=hint, estate=estate, command=command, commands=commands
        )
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- life -------------------------------------------------------------------------------------------------

    def _base_url(self) -> str:
        """Return the server's address without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"{self._base_url()}/"

    @property
    def api_url(self) -> str:
        """Return the base address of the Web API."""
        return f"{self._base_url()}/api/"

    def start(self) -> None:
        """Listen, on the same port as before after an outage; OSError when the port is taken."""
        if self._thread is not None:
            return
        listener = socket.create_server((self._bind, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._interactions.base_url = self._base_url()
        self._page.stopping = False
        self._api.closed = False
        config = uvicorn.Config(
            self._application(),
            http="h11",
            ws="websockets-sansio",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_per_message_deflate=False,
        )
        self._server = uvicorn.Server(config)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(listener, ready), name="sandbox-slack", daemon=True)
        self._thread.start()
        if not ready.wait(START_SECONDS):
            raise TimeoutError("the sandbox's Slack did not start")

    def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        """Run the server's loop until it is told to stop."""
        server = self._server
        assert server is not None

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._ready = ready
            try:
                await server.serve(sockets=[listener])
            finally:
                await self.hub.stop()
                if self.http is not None:
                    await self.http.stop()
                self._loop = None

        asyncio.run(main())

    def close(self) -> None:
        """Stop listening and end all connections."""
        thread, server, loop = self._thread, self._server, self._loop
        if thread is None or server is None:
            return
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._page.stop)
        self._api.closed = True
        time.sleep(SETTLE_SECONDS)
        server.should_exit = True
        thread.join(STOP_SECONDS)
        self._thread = None
        self._server = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        """Close."""
        self.close()

    def _application(self) -> Starlette:
        """Return the ASGI application."""

        @contextlib.asynccontextmanager
        async def lifespan(application: Starlette) -> AsyncIterator[None]:
            del application
            loop = asyncio.get_running_loop()

            def changed(version: int) -> None:
                del version
                with contextlib.suppress(RuntimeError):  # the loop ended between a change and its news
                    loop.call_soon_threadsafe(self._page.changed)

            self.workspace.listeners.append(changed)
            ticker = loop.create_task(self._tick())
            loop.call_soon(self._ready.set)
            try:
                yield
            finally:
                ticker.cancel()
                self.workspace.listeners.remove(changed)

        routes = [
            Route("/api/{method:path}", self._api.answer, methods=["GET", "POST"]),
            WebSocketRoute("/link/", self.hub.serve),
            Route("/response/{token}", self._response, methods=["POST"]),
            Route("/upload/{file_id}", self._api.upload, methods=["POST"]),
            Route("/files/{file_id}", self._api.download),
            *self._page.routes(),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def _tick(self) -> None:
        """Post scheduled messages when their time has come."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.workspace.scheduled:
                post_due(self.workspace)

    async def _response(self, request: Request) -> Response:
        """Take a POST to a response URL."""
        body = await request.body()
        code = ""
        details: Json = {}
        try:
            self._interactions.respond(request.path_params["token"], body)
        except SlackError as error:
            code, details = error.code, error.document()
        status = 200 if not code else 404 if code.endswith("_url") else 400
        payload: Json = {"body": body.decode(errors="replace")}
        with contextlib.suppress(ValueError):
            document = await request.json()
            payload = document if isinstance(document, dict) else payload
        self.workspace.record(
            Call(
                at=self.clock.now(),
                direction="bot",
                method="response_url",
                payload=payload,
                response=details or {"ok": True},
                status=status,
            )
        )
        return JSONResponse(details, status) if code else PlainTextResponse("ok")

    def _cut(self, address: str, port: int) -> None:
        """Abort the connections from a client's address without a word; port 0 means every WebSocket."""
        if self._server is None:
            return
        for protocol in list(self._server.server_state.connections):
            known: Any = protocol
            if (port == 0 and hasattr(known, "conn") and hasattr(known, "start_keepalive")) or known.client == (
                address,
                port,
            ):
                known.transport.abort()

    def _disconnect(self, reason: str) -> None:
        """End the Socket Mode connections as a fault."""
        if self._loop is None:
            return
        if reason == "drop":
            time.sleep(SETTLE_SECONDS)
            self._loop.call_soon_threadsafe(self._cut, "", 0)
        else:
            self._await(self.hub.disconnect(reason))

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop and wait for it."""
        loop = self._loop
        if loop is None:
            coroutine.close()
            raise ConnectionError("the sandbox's Slack is not running")
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, loop)
        return future.result()

    # --- looking ----------------------------------------------------------------------------------------------

    @property
    def people(self) -> "Directory[Person]":
        """Return the humans by id; `people["rita"]` finds by name too."""
        humans = {person.id: person for person in self.workspace.members.values() if not person.is_bot}
        return Directory(humans, self.workspace.person)

    @property
    def channels(self) -> "Directory[Channel]":
        """Return the channels by id; `channels["deployments"]` finds by name too."""
        return Directory(dict(self.workspace.channels), self.workspace.channel)

    @property
    def violations(self) -> list[str]:
        """Return every break of a documented limit or field rule by the bot so far."""
        with self.workspace.lock:
            return list(self.workspace.violations)

    @property
    def traffic(self) -> list[Call]:
        """Return every exchange so far: Web API calls and response URLs ("bot"), envelopes ("slack")."""
        with self.workspace.lock:
            return list(self.workspace.traffic)

    @property
    def connections(self) -> int:
        """Return how many Socket Mode connections are open."""
        return len(self.hub.connections)

    def calls(self, method: str) -> list[Call]:
        """Return the exchanges of one method."""
        return [call for call in self.traffic if call.method == method]

    def messages(self, channel: str = "deployments", *, replies: bool = False) -> list[Message]:
        """Return a channel's messages, oldest first; thread replies only when asked for."""
        return self.workspace.history(self.workspace.channel(channel).id, replies=replies)

    def message(self, ts: str) -> Message:
        """Return a message as it stands now, ephemerals included; LookupError when it is gone."""
        found = self.workspace.find_anywhere(ts)
        if found is None:
            raise LookupError(f"there is no message {ts}")
        return found

    def thread(self, ts: str) -> list[Message]:
        """Return a thread by the timestamp of any message of it: its root first, then the replies, oldest first."""
        message = self.message(ts)
        return self.workspace.thread(message.channel, message.thread_ts or message.ts)

    def ephemerals(self, user: str) -> list[Message]:
        """Return what only this person can see, oldest first."""
        return self.workspace.ephemerals(self.workspace.person(user).id)

    def notices(self, user: str) -> list[str]:
        """Return what Slack itself told this person, such as a command's `operation_timeout`."""
        wanted = self.workspace.person(user).id
        with self.workspace.lock:
            return [notice["text"] for notice in self.workspace.notices if notice["user"] == wanted]

    def views(self, user: str) -> list[Json]:
        """Return the modals that are open before this person, the top one last."""
        return stack_of(self.workspace, self.workspace.person(user).id)

    def transcript(self, last: int = 40) -> str:
        """Return the last messages as text for a person to read."""
        return self.workspace.transcript(last)

    def wait_for(self, predicate: Callable[[], T], seconds: float = 10.0) -> T:
        """Return the predicate's first true value, asked at every change; TimeoutError shows what was there instead."""
        return self.workspace.wait_for(predicate, seconds)

    def wait_connected(self, seconds: float = 10.0, count: int = 1) -> None:
        """Wait until the bot holds so many Socket Mode connections."""
        self.wait_for(lambda: self.connections >= count, seconds)

    # --- doing ------------------------------------------------------------------------------------------------

    def command(self, user: str, channel: str, text: str, *, command: str | None = None) -> Receipt:
        """Run a slash command as a person and return when it is acknowledged or has failed."""
        return self._await(self._interactions.command(user, channel, text, command or self.default_command))

    def mention(self, user: str, channel: str, text: str, thread: str | None = None) -> Receipt:
        """Write a message that mentions the bot; the mention is put in front unless the text has one."""
        mention = f"<@{BOT_USER_ID}>"
        return self.say(user, channel, text if mention in text else f"{mention} {text}", thread)

    def say(self, user: str, channel: str, text: str, thread: str | None = None) -> Receipt:
        """Write a message as a person; return when the bot, if it hears of it, acknowledged or failed once."""
        return self._await(self._interactions.say(user, channel, text, thread))[1]

    def click(self, user: str, message_ts: str, action: str, *, block_id: str | None = None) -> Receipt:
        """Press a button, by action_id or label, and confirm where it asks; LookupError names what is there instead."""
        message = self.message(message_ts)
        return self._await(
            self._interactions.act(user, message, self._interactions.element(message.blocks, action, block_id))
        )

    def click_as_seen(self, user: str, seen: Message, action: str) -> Receipt:
        """Press a button of a message as it was when somebody saw it: their client may not show yet what it is now."""
        return self._await(self._interactions.act(user, seen, self._interactions.element(seen.blocks, action, None)))

    def choose(self, user: str, message_ts: str, action: str, value: str) -> Receipt:
        """Choose an option of a menu by its value or its text; a person, channel or date by its value."""
        message = self.message(message_ts)
        element = self._interactions.element(message.blocks, action)
        return self._await(self._interactions.act(user, message, element, selection(element.kind, element.raw, value)))

    def view_action(
        self, user: str, action: str, value: str = "", *, view_id: str | None = None, block_id: str | None = None
    ) -> Receipt:
        """Press a button or choose from a menu on the top modal (or the named view)."""
        view = self._view(user, view_id)
        element = self._interactions.element(view["blocks"], action, block_id)
        chosen = selection(element.kind, element.raw, value) if value else None
        return self._await(self._interactions.act_on_view(user, view["id"], element, chosen, view["state"]["values"]))

    def submit_view(self, user: str, values: dict[str, str] | None = None, *, view_id: str | None = None) -> Receipt:
        """Fill in the top modal (or the named one) by action_id or block_id, and submit it.

        A text goes into a text field as it is; for a menu it is the option's value. Several values of a multiple choice
        are joined by commas.
        """
        view = self._view(user, view_id)
        state: dict[str, dict[str, Json]] = {}
        for block in view["blocks"]:
            element = block.get("element") if block.get("type") == "input" else block.get("accessory")
            if isinstance(element, dict) and element.get("action_id"):
                given = (values or {}).get(element["action_id"], (values or {}).get(block["block_id"]))
                state.setdefault(block["block_id"], {})[element["action_id"]] = entered(element, given)
        return self._await(self._interactions.submit(user, view["id"], state))

    def suggest(self, user: str, action: str, query: str, *, view_id: str | None = None) -> list[Json]:
        """Type into a picker of the top modal (or the named view); return the options that the bot offers."""
        view = self._view(user, view_id)
        element = self._interactions.element(view["blocks"], action)
        return self._await(self._interactions.suggest(user, element, query, view_id=view["id"]))

    def close_view(self, user: str, *, view_id: str | None = None) -> None:
        """Close the top modal (or the named one) without submitting."""
        self._await(self._interactions.close_view(user, self._view(user, view_id)["id"]))

    def open_home(self, user: str) -> Json | None:
        """Open the bot's Home tab; return what was published for this person, if anything was."""
        self._await(self._interactions.open_home(user))
        return self.workspace.homes.get(self.workspace.person(user).id)

    def invite_bot(self, channel: str, *, member: bool = True) -> None:
        """Make the bot a member of a channel, or remove it."""
        with self.workspace.lock:
            found = self.workspace.channel(channel)
            self.workspace.channels[found.id] = replace(found, bot_is_member=member)
        self.workspace.touch()

    def _view(self, user: str, view_id: str | None) -> Json:
        """Return a modal (or Home tab) before a person: the named one, or the top one."""
        person = self.workspace.person(user)
        views = stack_of(self.workspace, person.id)
        home = self.workspace.homes.get(person.id)
        if view_id is None and views:
            return views[-1]
        for view in [*views, *([home] if home else [])]:
            if view["id"] == view_id:
                return view
        raise LookupError(f"no modal is open before {person.real_name}")
