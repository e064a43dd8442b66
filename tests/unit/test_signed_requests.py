"""Slack's signed requests: what is genuine reaches a listener, everything else ends at the door."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx
import pytest
from slack_bolt import Ack, App
from slack_sdk import WebClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot.domain.errors import SettingsError
from bot.operating.web import WebServer
from bot.secrets import Secret
from bot.settings_operating import Address
from bot.slack.signed_requests import LARGEST_BODY, SignedRequests

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
COMMAND = {
    "command": "/octocert",
    "text": "help",
    "user_id": "U1",
    "channel_id": "C1",
    "team_id": "T1",
    "trigger_id": "1.2.3",
    "api_app_id": "A1",
}


async def _alive(request: Request) -> Response:
    return PlainTextResponse("alive")


@dataclass
class Door:
    """A server with one listener, and somebody who knocks."""

    server: WebServer
    requests: SignedRequests
    secret: list[str]
    heard: list[str] = field(default_factory=list)
    may_go: threading.Event = field(default_factory=threading.Event)

    def knock(self, body: bytes, *, secret: str = SECRET, stamp: str | None = None, **headers: str) -> httpx.Response:
        """POST a body, signed as Slack signs it."""
        stamp = str(int(time.time())) if stamp is None else stamp
        digest = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        signed = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": f"v0={digest}",
        }
        return httpx.post(f"{self.server.url}/slack/events", content=body, headers={**signed, **headers}, timeout=10)


@pytest.fixture
def door() -> Iterator[Door]:
    """Return an open door."""
    app = App(
        client=WebClient(token="xoxb-0", base_url="http://127.0.0.1:9/"),
        token_verification_enabled=False,
        request_verification_enabled=False,
        authorize=lambda **_: _authorised(),
    )
    secrets = [SECRET]

    def read() -> Secret:
        if not secrets:
            raise SettingsError("The environment variable SIGNING is not set.")
        return Secret(secrets[0])

    requests = SignedRequests(app, read)
    server = WebServer(Address("127.0.0.1", 0), [*requests.routes(), Route("/alive", _alive)])
    door = Door(server, requests, secrets)
    door.may_go.set()

    @app.command("/octocert")
    def heard(ack: Ack, body: dict[str, str]) -> None:
        door.may_go.wait(2)
        ack()
        door.heard.append(body["text"])

    server.start()
    requests.open()
    try:
        yield door
    finally:
        server.stop()
        app.listener_runner.listener_executor.shutdown()


def _authorised():
    from slack_bolt.authorization import AuthorizeResult

    return AuthorizeResult(enterprise_id=None, team_id="T1", bot_user_id="UBOT", bot_id="B1", bot_token="xoxb-0")


def wait(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_genuine_command_is_heard(door):
    """Signed now, by whoever knows the secret."""
    assert door.knock(urlencode(COMMAND).encode()).status_code == 200
    wait(lambda: door.heard == ["help"])


@pytest.mark.parametrize(
    ("secret", "age", "headers"),
    [
        ("another", 0, {}),
        (SECRET, 301, {}),
        (SECRET, -390, {}),  # it comes nearer while it is under way
        (SECRET, 0, {"X-Slack-Request-Timestamp": "yesterday"}),
        (SECRET, 0, {"X-Slack-Request-Timestamp": ""}),
        (SECRET, 0, {"X-Slack-Request-Timestamp": "9" * 400}),
        (SECRET, 0, {"X-Slack-Request-Timestamp": "-1"}),
        (SECRET, 0, {"X-Slack-Signature": ""}),
        (SECRET, 0, {"X-Slack-Signature": "v0=äöü".encode("latin-1").decode("latin-1")}),
    ],
    ids=["forged", "old", "of the future", "no number", "empty", "huge", "negative", "unsigned", "not ASCII"],
)
def test_what_is_not_slacks_is_refused(door, secret, age, headers):
    """401, whatever is wrong, and no listener hears of it."""
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = door.knock(urlencode(COMMAND).encode(), secret=secret, stamp=str(int(time.time()) - age), **encoded)
    assert answer.status_code == 401
    assert door.heard == []


def test_without_any_of_slacks_headers_it_is_refused(door):
    """A browser or a scanner."""
    assert httpx.post(f"{door.server.url}/slack/events", content=b"x").status_code == 401
    assert httpx.get(f"{door.server.url}/slack/events").status_code == 405


def test_a_large_body_is_not_read_to_its_end(door):
    """Told by its length, or found out on the way."""
    assert door.knock(b"x" * (LARGEST_BODY + 1)).status_code == 413
    pieces = (b"x" * 65_536 for _ in range(LARGEST_BODY // 65_536 + 1))
    assert httpx.post(f"{door.server.url}/slack/events", content=pieces, timeout=10).status_code == 413


def test_a_body_that_is_no_text_is_refused(door):
    """Signed, and yet nothing that Slack sends."""
    assert door.knock(b"\xff\xfe").status_code == 400


def test_slack_may_verify_the_url_and_its_certificate(door):
    """The challenge comes back; ssl_check by POST and by GET is answered."""
    body = json.dumps({"type": "url_verification", "token": "x", "challenge": "3eZbrw1aB"}).encode()
    answer = door.knock(body, **{"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert "3eZbrw1aB" in answer.text
    assert door.knock(b"ssl_check=1&token=x").status_code == 200
    assert httpx.get(f"{door.server.url}/slack/events?ssl_check=1").status_code == 200


def test_a_slow_listener_holds_up_nobody_else(door):
    """While one waits before its acknowledgement, the server answers others."""
    door.may_go.clear()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(door.knock, urlencode(COMMAND).encode())
        assert httpx.get(f"{door.server.url}/alive", timeout=1.5).text == "alive"
        assert not slow.done()
        door.may_go.set()
        assert slow.result().status_code == 200


def test_before_the_start_and_after_the_end_slack_is_asked_to_come_again(door):
    """503, upon which Slack sends its events again; a forged request learns nothing."""
    door.requests.close()
    assert door.knock(urlencode(COMMAND).encode()).status_code == 503
    assert door.knock(urlencode(COMMAND).encode(), secret="another").status_code == 401


def test_a_new_signing_secret_is_used_at_once(door):
    """The secret is read for each request; where it is missing nothing is believed."""
    door.secret[0] = "rolled"
    assert door.knock(urlencode(COMMAND).encode()).status_code == 401
    assert door.knock(urlencode(COMMAND).encode(), secret="rolled").status_code == 200
    door.secret.clear()
    assert door.knock(urlencode(COMMAND).encode(), secret="rolled").status_code == 503
