"""Signed requests: Slack's POSTs to `octocert run --http`, checked before anything looks into them.

What is forged, too old or too large ends here. The listeners run in threads: the library's own adapter for Starlette
would hold up the whole server until each of them has acknowledged (measured).
"""

from collections.abc import Callable
from urllib.parse import parse_qs

import structlog
from slack_bolt import App, BoltRequest
from slack_bolt.adapter.starlette.handler import to_starlette_response
from slack_sdk.signature import SignatureVerifier
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot import telemetry
from bot.domain.errors import UserError
from bot.secrets import Secret
from bot.slack.paths import EVENTS_PATH

log = structlog.get_logger("octocert.slack")

LARGEST_BODY = 1024 * 1024
"""Bytes; Slack's largest payloads, modals with their state, have some hundred thousand."""
_STAMP_DIGITS = 12
"""More digits has no time of this millennium."""


class SignedRequests:
    """The endpoint for Slack. It answers 503 until `open` and after `close`: Slack then sends its events again."""

    def __init__(self, app: App, secret: Callable[[], Secret]) -> None:
        """Take the Bolt app, and what reads the signing secret, which is read anew for each request."""
        self._app = app
        self._secret = secret
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._is_open

    def open(self) -> None:
        """Take requests from now on."""
        self._is_open = True

    def close(self) -> None:
        """Take no requests any more."""
        self._is_open = False

    def routes(self) -> list[Route]:
        """Return the routes for a Starlette application."""
        return [Route(EVENTS_PATH, self._get, methods=["GET"]), Route(EVENTS_PATH, self._post, methods=["POST"])]

    async def _get(self, request: Request) -> Response:
        """Answer Slack's look at the certificate; nothing else asks this way."""
        if request.query_params.get("ssl_check") == "1":
            return PlainTextResponse("")
        return PlainTextResponse("Slack posts here.", 405, {"Allow": "POST"})

    async def _post(self, request: Request) -> Response:
        """Check one request and hand it to the listeners."""
        response, result = await self._answer(request)
        telemetry.SLACK_REQUESTS.labels(result=result).inc()
        return response

    async def _answer(self, request: Request) -> tuple[Response, str]:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return PlainTextResponse("", 400), "broken"
        if body is None:
            log.warning("a request was too large", limit=LARGEST_BODY)
            return PlainTextResponse("too large", 413), "too large"
        try:
            text = body.decode()  # the verifier would stumble over anything else
        except UnicodeDecodeError:
            return PlainTextResponse("not UTF-8", 400), "broken"
        stamp, signature = (request.headers.get(f"x-slack-{n}", "") for n in ("request-timestamp", "signature"))
        try:
            verifier = SignatureVerifier(self._secret().reveal())
        except (UserError, ValueError) as error:
            log.error("the signing secret cannot be used", error=str(error))  # noqa: TRY400 - the sentence says it all
            return PlainTextResponse("unavailable", 503), "unavailable"
        if not is_genuine(verifier, text, stamp, signature):
            log.warning("a request was not signed by Slack, or long ago", client=request.client and request.client.host)
            return PlainTextResponse("invalid request", 401), "forged"
        if not self._is_open:
            return PlainTextResponse("starting or stopping", 503), "unavailable"
        if _is_ssl_check(request, text):
            return PlainTextResponse(""), "taken"
        bolt = BoltRequest(body=text, query=dict(request.query_params), headers=dict(request.headers))
        answer = await run_in_threadpool(self._app.dispatch, bolt)
        return to_starlette_response(answer), "taken" if answer.status < 400 else "unheard"


def is_genuine(verifier: SignatureVerifier, body: str, stamp: str, signature: str) -> bool:
    """Whether a body was signed by Slack within the last five minutes; a malformed header is no reason to fall over."""
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _STAMP_DIGITS and signature.isascii()):
        return False
    return verifier.is_valid(body, stamp, signature)


async def _body(request: Request) -> bytes | None:
    """Return the body, None as soon as it is known to be too large."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > LARGEST_BODY:
        return None
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def _is_ssl_check(request: Request, text: str) -> bool:
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return is_form and parse_qs(text).get("ssl_check") == ["1"]
