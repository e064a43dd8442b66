"""The wire to Slack: a client that counts its calls, and Socket Mode as one thing to open, ask and close."""

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import structlog
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from bot import telemetry

log = structlog.get_logger("octocert.slack")

PING_SECONDS = 3
"""Of Socket Mode: a lost connection is noticed within seconds instead of 45 (measured)."""
LEAVE_SECONDS = 10.0
"""How long the end of the connection is waited for."""
HANG_UP_SECONDS = 0.25
"""Between two attempts at that."""


class MeasuredClient(WebClient):
    """Slack's own client; each call is counted and timed by method and by what became of it."""

    def api_call(self, api_method: str, **details: Any) -> SlackResponse:
        """Call a method of the Web API as the library does."""
        begin, result = time.perf_counter(), "lost"
        try:
            answer = super().api_call(api_method, **details)
            result = "ok"
        except SlackApiError as error:
            result = "ratelimited" if error.response.status_code == 429 else "refused"
            raise
        else:
            return answer
        finally:
            telemetry.SLACK_SECONDS.labels(method=api_method, result=result).observe(time.perf_counter() - begin)
            if result != "ok":
                telemetry.FAILURES.labels(part="slack", kind=result).inc()


class SocketMode:
    """The connection that the bot opens to Slack, and over which Slack sends what people type and press."""

    def __init__(self, app: App, app_token: str, api_url: str, *, ping_seconds: float = PING_SECONDS) -> None:
        self._handler = SocketModeHandler(
            app,
            app_token,
            logger=logging.getLogger("slack_bolt"),
            web_client=WebClient(token=app_token, base_url=api_url),
            ping_interval=ping_seconds,
        )
        self._handler.client.on_close_listeners.append(lambda *_: telemetry.SLACK_DISCONNECTS.inc())
        self._leaving: threading.Thread | None = None

    def connect(self) -> None:
        """Open it; SlackApiError if Slack refuses the token."""
        self._handler.connect()  # type: ignore[no-untyped-call]

    @property
    def is_connected(self) -> bool:
        """Whether Slack can reach us now."""
        return bool(self._handler.client.is_connected())

    def renew(self, app_token: str) -> None:
        """Connect anew with another token; nothing happens if it is the one in use."""
        client = self._handler.client
        if app_token == client.app_token:
            return
        client.app_token = app_token
        client.web_client.token = app_token
        if client.is_connected():
            client.connect_to_new_endpoint(force=True)

    def leave(self) -> None:
        """Begin to close; the client's threads end within a ping interval, and nobody need wait for that yet."""
        client = self._handler.client
        # a connection that is being made in this moment would go by the default again
        client.auto_reconnect_enabled = client.default_auto_reconnect_enabled = False
        self._leaving = threading.Thread(target=self._handler.close, name="slack-leaving", daemon=True)
        self._leaving.start()

    def wait_until_left(self) -> None:
        """Wait until it is closed; a client's thread that still listens hears at once that nothing comes any more.

        The library forgets that it is closed when one of its threads takes the connection up in that very moment, and
        listens to nothing for ever: so it is told again and again. After LEAVE_SECONDS its threads are left.
        """
        if self._leaving is None:
            return
        end = time.monotonic() + LEAVE_SECONDS
        while self._leaving.is_alive():
            self._hang_up()
            self._leaving.join(HANG_UP_SECONDS)
            if time.monotonic() > end:
                log.warning("the connection to Slack does not close; it is left", seconds=LEAVE_SECONDS)
                return
        self._handler.client.disconnect()  # one that was made meanwhile

    def _hang_up(self) -> None:
        client = self._handler.client
        client.current_session_state.terminated = True
        session = client.current_session
        wire = session.sock if session else None
        if wire is not None:
            with suppress(OSError):  # closed in this very moment
                socket.socket.shutdown(wire, socket.SHUT_RDWR)  # also of TLS: what lies below
