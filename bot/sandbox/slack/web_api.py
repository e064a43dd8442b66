"""The Web API at /api/*: tokens, arguments, rate limits and faults; what the methods do stands in other modules."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bot.sandbox.slack import chat, directory, files, views
from bot.sandbox.slack.calls import ApiCall, SlackError, arguments
from bot.sandbox.slack.model import APP_ID, Call, Channel, Json
from bot.sandbox.slack.rate_limits import RateLimits
from bot.sandbox.slack.scopes import needed
from bot.sandbox.slack.socket_mode import SocketHub
from bot.sandbox.slack.triggers import Triggers
from bot.sandbox.slack.workspace import Workspace

BOT_TOKEN = "xoxb-0000000000-sandbox-bot"
APP_TOKEN = "xapp-1-A0OCTOCERT-0000000000-sandbox-app"
APP_METHODS = {"apps.connections.open"}  # wants an app-level token; all others want the bot's
UNDISTURBED = {"auth.test", "apps.connections.open"}  # faults spare these unless `faults.only` names them


class WebApi:
    """Answers calls; one per server."""

    def __init__(
        self,
        workspace: Workspace,
        hub: SocketHub,
        triggers: Triggers,
        limits: RateLimits,
        base_url: Callable[[], str],
        cut: Callable[[str, int], None],
    ) -> None:
        self.workspace = workspace
        self.hub = hub
        self.limits = limits
        self.closed = False  # while the server stops: calls are turned away
        self.bot_token = BOT_TOKEN
        self.app_token = APP_TOKEN
        self._base_url = base_url
        self._cut = cut  # aborts the connection from a client's (address, port)
        self._methods: dict[str, Callable[[ApiCall], Json]] = {
            **chat.METHODS,
            **directory.METHODS,
            **views.methods(triggers),
            **files.methods(base_url),
            "apps.connections.open": self._open_connection,
            "api.test": lambda call: {"args": dict(call.given)},
        }

    def rotate_tokens(self) -> tuple[str, str]:
        """Make both tokens others and return them, bot's and app's; who calls with an old one is refused."""
        self.bot_token, self.app_token = f"{BOT_TOKEN}-2", f"{APP_TOKEN}-2"
        return self.bot_token, self.app_token

    def _open_connection(self, call: ApiCall) -> Json:
        """Return the address of a new Socket Mode connection."""
        if not self.hub.enabled:
            raise SlackError("link_disabled")
        address = self._base_url().replace("http", "ws", 1)
        return {"url": f"{address}/link/?ticket={self.hub.ticket()}&app_id={APP_ID}"}

    async def answer(self, request: Request) -> Response:
        """Answer one call and keep it in the traffic, without its token."""
        if self.closed:
            return PlainTextResponse("Service Unavailable", 503)
        method = request.path_params["method"]
        started = self.workspace.clock.monotonic()
        body = await request.body()
        given: Json = {}
        headers: dict[str, str] = {}
        try:
            given = arguments(request.headers.get("content-type", ""), request.url.query, body)
            token = request.headers.get("authorization", "").partition(" ")[2].strip() or str(given.get("token", ""))
            given.pop("token", None)
            headers["x-oauth-scopes"] = ",".join(
                sorted(self.workspace.app_scopes if token == self.app_token else self.workspace.scopes)
            )
            document, status = await self._answer(method, given, token, headers)
        except SlackError as error:
            document, status = error.document(), 200
        self.workspace.record(
            Call(
                at=self.workspace.clock.now(),
                direction="bot",
                method=method,
                payload=given,
                response=document,
                status=status,
                seconds=self.workspace.clock.monotonic() - started,
            )
        )
        if status == 0 and request.client is not None:
            self._cut(request.client.host, request.client.port)
        if status == 500:
            return PlainTextResponse("<html>Server Error</html>", 500, {"content-type": "text/html"})
        return JSONResponse(document, status or 200, headers={"x-slack-req-id": "sandbox", **headers})

    async def _answer(self, method: str, given: Json, token: str, headers: dict[str, str]) -> tuple[Json, int]:
        """Return a call's document and status; status 0 means that the answer gets lost."""
        faults = self.workspace.faults
        hit = method in faults.only if faults.only else method not in UNDISTURBED
        if hit and faults.slow:
            await asyncio.sleep(faults.slow)
        if hit and faults.server_errors > 0:
            faults.server_errors -= 1
            return {"ok": False, "error": "internal_error"}, 500
        if method not in self._methods:
            raise SlackError("unknown_method", req_method=method)
        self._authorise(method, token, given)
        wait = 0
        if hit and faults.rate_limited > 0:
            faults.rate_limited -= 1
            wait = faults.retry_after
        wait = wait or self.limits.wait(method, str(given.get("channel", "")))
        if wait:
            headers["Retry-After"] = str(wait)
            return {"ok": False, "error": "ratelimited"}, 429
        document = {"ok": True, **self._methods[method](ApiCall(self.workspace, method, given))}
        if hit and faults.lost_answers > 0:
            faults.lost_answers -= 1
            return document, 0
        return document, 200

    def _authorise(self, method: str, token: str, given: Json) -> None:
        """Raise SlackError where the token is missing, unknown or of the wrong kind."""
        if method == "api.test":
            return
        if not token:
            raise SlackError("not_authed")
        if token not in {self.bot_token, self.app_token}:
            raise SlackError("invalid_auth")
        if (method in APP_METHODS) != (token == self.app_token):
            raise SlackError("not_allowed_token_type")
        granted = self.workspace.app_scopes if token == self.app_token else self.workspace.scopes
        wanted = needed(method, self._channel(given))
        if wanted and not wanted <= granted:
            raise SlackError("missing_scope", needed=",".join(sorted(wanted)), provided=",".join(sorted(granted)))

    def _channel(self, given: Json) -> Channel | None:
        """Return the conversation that a call names, by id, if it does."""
        return self.workspace.channels.get(str(given.get("channel", "")))

    async def upload(self, request: Request) -> Response:
        """Take the bytes of a file at its upload URL."""
        file_id = request.path_params["file_id"]
        data = await request.body()
        with self.workspace.lock:
            if file_id not in self.workspace.files:
                return PlainTextResponse("file_not_found", 404)
            self.workspace.file_data[file_id] = data
        return PlainTextResponse(f"OK - {len(data)}")

    async def download(self, request: Request) -> Response:
        """Give a file's bytes back, as text so that a browser shows it."""
        data = self.workspace.file_data.get(request.path_params["file_id"])
        if data is None:
            return PlainTextResponse("file_not_found", 404)
        return Response(data, media_type="text/plain; charset=utf-8", headers={"content-security-policy": "sandbox"})
