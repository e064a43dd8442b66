"""The workspace in a browser: the HTML page, and the small JSON interface that its script talks to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from bot.sandbox.slack.interaction import Interactions
from bot.sandbox.slack.model import BOT_USER_ID, TEAM_NAME, Call, Element, Json, Message, Person, Receipt, elements_of
from bot.sandbox.slack.socket_mode import SocketHub
from bot.sandbox.slack.views import stack_of
from bot.sandbox.slack.workspace import Workspace

STATIC = Path(__file__).parent / "static"
COALESCE_SECONDS = 0.05  # changes within this time reach the browser as one
HEARTBEAT_SECONDS = 15.0
SHOWN_CALLS = 300

COMMANDS = (
    ("help [command]", "What octocert can do, and how to ask for it"),
    ("show-thumbprint TARGET…", "The three witnesses of each target, and whether they agree"),
    ("check-health TARGET…", "Ask Octopus for the health of each target"),
    ("inventory [TARGET…]", "The estate as a table: witnesses, expiry, algorithm, health"),
    ("plan TARGET…", "What a rotation would do, with nothing to approve"),
    ("rotate TARGET… [--with new-certificate|pfx:NAME]", "Rotate a certificate, after somebody else's approval"),
    ("status [RUN]", "What is running, and what ran last"),
    ("cancel RUN", "Stop a run at the next safe point"),
    ("pause RUN", "Begin nothing more until the run is resumed"),
    ("resume RUN", "Let a paused run go on"),
    ("history [TARGET]", "Who did what, and when"),
)

Handler = Callable[[Request], Awaitable[Response]]


class Page:
    """Serves the page; `estate` is asked whenever a browser shows the Estate tab, in a thread of its own."""

    def __init__(
        self,
        workspace: Workspace,
        interactions: Interactions,
        hub: SocketHub,
        *,
        hint: Sequence[str] = (),
        estate: Callable[[], list[Json]] | None = None,
        command: str = "/octocert",
        commands: Sequence[tuple[str, str]] = COMMANDS,
    ) -> None:
        self.workspace = workspace
        self.interactions = interactions
        self.hub = hub
        self.hint = tuple(hint)
        self.estate = estate
        self.command = command
        self.commands = tuple(commands)
        self.streams: set[asyncio.Event] = set()
        self.stopping = False
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(STATIC), autoescape=True)
        self._template = environment.get_template("workspace.html")

    def routes(self) -> list[BaseRoute]:
        """Return the page's routes."""
        posts: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "command": self._command,
            "say": self._say,
            "act": self._act,
            "suggest": self._suggest,
            "submit": self._submit,
            "close-view": self._close_view,
            "home": self._home,
        }
        return [
            Route("/", self._index),
            Route("/favicon.ico", self._icon),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/page/stream", self._stream),
            Route("/page/changes", self._changes),
            Route("/page/estate", self._estate),
            Route("/page/traffic", self._traffic),
            *[Route(f"/page/{name}", self._post(action), methods=["POST"]) for name, action in posts.items()],
        ]

    def changed(self) -> None:
        """Wake the browsers; to be called on the server's loop."""
        for event in self.streams:
            event.set()

    def stop(self) -> None:
        """End the streams, so that the server can stop."""
        self.stopping = True
        self.changed()

    # --- what the browser reads -------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        """Return the page with what never changes while it is open."""
        del request
        config = {
            "team": TEAM_NAME,
            "bot": BOT_USER_ID,
            "hint": self.hint,
            "estate": self.estate is not None,
            "command": self.command,
            "commands": self.commands,
        }
        return HTMLResponse(self._template.render(team=TEAM_NAME, config=config), headers={"cache-control": "no-store"})

    async def _icon(self, request: Request) -> Response:
        """Return the page's icon."""
        del request
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    async def _stream(self, request: Request) -> Response:
        """Send the workspace's version as server-sent events whenever it changes."""
        del request
        return StreamingResponse(
            self._versions(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _versions(self) -> AsyncIterator[str]:
        """Yield events until the server stops."""
        event = asyncio.Event()
        self.streams.add(event)
        try:
            while not self.stopping:
                yield f"data: {self.workspace.version}\n\n"
                try:
                    await asyncio.wait_for(event.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    continue
                if not self.stopping:
                    await asyncio.sleep(COALESCE_SECONDS)
                event.clear()
        finally:
            self.streams.discard(event)

    async def _changes(self, request: Request) -> Response:
        """Return what changed since a version, as one person sees it."""
        user = request.query_params.get("as", "")
        since = int(request.query_params.get("since", "0"))
        workspace = self.workspace
        version, messages, deleted, notices = workspace.changes(user, since)
        with workspace.lock:
            people = list(workspace.members.values())
            channels = [channel for channel in workspace.channels.values() if workspace.may_see(user, channel.id)]
            groups = list(workspace.groups.values())
            home = workspace.homes.get(user)
        return JSONResponse(
            {
                "version": version,
                "messages": [self._shown(message) for message in messages],
                "deleted": deleted,
                "notices": notices,
                "people": [self._person(person) for person in people],
                "channels": [
                    {
                        "id": c.id,
                        "name": c.name,
                        "topic": c.topic,
                        "private": c.private,
                        "bot": c.bot_is_member,
                        "partner": c.partner,
                    }
                    for c in channels
                ],
                "groups": [{"id": group.id, "handle": group.handle} for group in groups],
                "views": stack_of(workspace, user),
                "home": home,
                "connected": len(self.hub.connections),
                "violations": len(workspace.violations),
            },
            headers={"cache-control": "no-store"},
        )

    def _person(self, person: Person) -> Json:
        """Return a person as the page's script wants one."""
        return {
            "id": person.id,
            "name": person.name,
            "real_name": person.real_name,
            "title": person.title,
            "is_bot": person.is_bot,
        }

    def _shown(self, message: Message) -> Json:
        """Return a message as the page's script wants one."""
        document = self.workspace.wire(message, metadata=False)
        return document | {
            "channel": message.channel,
            "visible_to": message.visible_to,
            "broadcast": message.broadcast,
            "pinned": message.pinned,
        }

    async def _estate(self, request: Request) -> Response:
        """Return the world's truth, where the demo gave a way to it."""
        del request
        rows = await run_in_threadpool(self.estate) if self.estate is not None else []
        return Response(
            json.dumps(rows, default=str), media_type="application/json", headers={"cache-control": "no-store"}
        )

    async def _traffic(self, request: Request) -> Response:
        """Return the last calls, the newest last, and the violations."""
        del request
        with self.workspace.lock:
            calls = self.workspace.traffic[-SHOWN_CALLS:]
            first = len(self.workspace.traffic) - len(calls)
            violations = list(self.workspace.violations)
        return JSONResponse(
            {"calls": [self._call(first + index, call) for index, call in enumerate(calls)], "violations": violations}
        )

    def _call(self, number: int, call: Call) -> Json:
        """Return an exchange as the inspector shows it."""
        return {
            "number": number,
            "at": call.at.isoformat(),
            "direction": call.direction,
            "method": call.method,
            "payload": call.payload,
            "response": call.response,
            "status": call.status,
            "milliseconds": round(call.seconds * 1000),
        }

    # --- what a person does in the browser --------------------------------------------------------------------

    def _post(self, action: Callable[[Json], Awaitable[Json]]) -> Handler:
        """Wrap an action: JSON in (which a form of another site cannot send), JSON or a sentence out."""

        async def handle(request: Request) -> Response:
            if not request.headers.get("content-type", "").startswith("application/json"):
                return JSONResponse({"error": "send JSON"}, 415)
            try:
                return JSONResponse(await action(await request.json()))
            except (LookupError, ValueError) as error:
                return JSONResponse({"error": str(error)}, 400)

        return handle

    def _receipt(self, receipt: Receipt) -> Json:
        """Return a receipt for the browser."""
        return {
            "ok": receipt.acknowledged and receipt.error is None,
            "error": receipt.error,
            "response": receipt.response,
        }

    async def _command(self, body: Json) -> Json:
        """Run a slash command."""
        command, _, text = str(body["text"]).strip().partition(" ")
        person, place = self.workspace.person(body["as"]), self.workspace.channel(body["channel"])
        if command == "/invite":
            return self._invite(place.id)
        if command != self.command:
            self.workspace.notify(
                person.id,
                place.id,
                f"{command} is not a valid command. Try {self.command} help.",
                error="unknown_command",
            )
            return {"ok": False, "error": "unknown_command"}
        return self._receipt(await self.interactions.command(person.id, place.id, text.strip(), command))

    def _invite(self, channel: str) -> Json:
        """Make the bot a member of a channel."""
        with self.workspace.lock:
            self.workspace.channels[channel] = replace(self.workspace.channels[channel], bot_is_member=True)
        self.workspace.touch()
        return {"ok": True}

    async def _say(self, body: Json) -> Json:
        """Write a message."""
        _, receipt = await self.interactions.say(body["as"], body["channel"], str(body["text"]), body.get("thread"))
        return self._receipt(receipt)

    def _blocks_of(self, body: Json) -> tuple[Message | None, list[Json]]:
        """Return the message (or None for a view) that an action is about, and its blocks."""
        if body.get("view_id"):
            views = [
                *stack_of(self.workspace, body["as"]),
                *([self.workspace.homes[body["as"]]] if body["as"] in self.workspace.homes else []),
            ]
            return None, next((view["blocks"] for view in views if view["id"] == body["view_id"]), [])
        message = self.workspace.find(body["channel"], body["ts"])
        if message is None:
            raise LookupError("this message is gone")
        return message, list(message.blocks)

    def _pressed(self, blocks: list[Json], body: Json) -> Element:
        """Return what a person pressed: by its block, or by its value where the message was edited meanwhile."""
        there = [e for e in elements_of(blocks) if e.action_id == body["action_id"]]
        same = [e for e in there if e.block_id == body["block_id"]]
        same = same or [e for e in there if e.value == (body.get("value") or "")]
        return same[0] if same else self.interactions.element(blocks, body["action_id"], body["block_id"])

    async def _act(self, body: Json) -> Json:
        """Press a button or choose from a menu, on a message or a view."""
        message, blocks = self._blocks_of(body)
        element = self._pressed(blocks, body)
        chosen: Any = body.get("chosen")
        if message is not None:
            return self._receipt(await self.interactions.act(body["as"], message, element, chosen))
        return self._receipt(
            await self.interactions.act_on_view(body["as"], body["view_id"], element, chosen, body.get("values") or {})
        )

    async def _suggest(self, body: Json) -> Json:
        """Return options of an external select."""
        message, blocks = self._blocks_of(body)
        element = self.interactions.element(blocks, body["action_id"], body["block_id"])
        options = await self.interactions.suggest(
            body["as"], element, str(body.get("query", "")), message=message, view_id=str(body.get("view_id", ""))
        )
        return {"options": options}

    async def _submit(self, body: Json) -> Json:
        """Submit a modal."""
        return self._receipt(await self.interactions.submit(body["as"], body["view_id"], body.get("values") or {}))

    async def _close_view(self, body: Json) -> Json:
        """Close a modal."""
        await self.interactions.close_view(body["as"], body["view_id"])
        return {"ok": True}

    async def _home(self, body: Json) -> Json:
        """Open the bot's Home tab."""
        await self.interactions.open_home(body["as"])
        return {"ok": True}
