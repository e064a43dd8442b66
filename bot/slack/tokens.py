"""Slack's tokens, looked at again and again: one that was rotated is used without a restart."""

import threading
from collections.abc import Callable

import structlog
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient
from slack_sdk.web import SlackResponse

from bot.domain.errors import SettingsError
from bot.secrets import Secret
from bot.slack.wire import SocketMode

log = structlog.get_logger("octocert.tokens")

LOOK_SECONDS = 5.0

Read = Callable[[], Secret]


def authorizer(client: WebClient) -> Callable[..., AuthorizeResult]:
    """Return what Bolt asks for the bot's token at each request: the one in use now, not that of the start."""
    known: dict[str, SlackResponse] = {}

    def authorize(**_about: object) -> AuthorizeResult:
        token = client.token or ""
        if token not in known:
            known.clear()
            known[token] = client.auth_test()
        return AuthorizeResult.from_auth_test_response(auth_test_response=known[token], bot_token=token)

    return authorize


class TokenWatch:
    """One thread that reads the references again; a changed bot token is used at once, a changed app token connects."""

    def __init__(self, client: WebClient, bot_token: Read, socket: SocketMode | None, app_token: Read | None) -> None:
        self._client = client
        self._bot_token = bot_token
        self._socket = socket
        self._app_token = app_token
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tokens", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("Slack's tokens could not be looked at again; the present ones stay in use")

    def look(self) -> None:
        """Read the references and use what has changed; what cannot be read changes nothing."""
        try:
            token = self._bot_token().reveal()
            if token != self._client.token:
                self._client.token = token
                log.info("the rotated bot token is used from now on")
            if self._socket and self._app_token:
                self._socket.renew(self._app_token().reveal())
        except SettingsError as error:
            log.warning("a token of Slack's cannot be read; the present one stays in use", error=str(error))
