"""HTTP mode: the same rotation when Slack posts signed requests instead of holding a connection."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from bot.sandbox.slack.http_mode import HttpDelivery
from tests.scenarios.town import Town, free_address


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a town whose Slack posts to the bot."""
    with Town(tmp_path, http=free_address()) as built:
        yield built


def test_a_rotation_by_signed_requests(town: Town) -> None:
    """Command, refused self-approval, approval, outcome, and health on the same address; no Socket Mode at all."""
    slack = town.slack.http
    assert isinstance(slack, HttpDelivery)
    assert slack.verify_url()
    assert slack.ssl_check() == 200
    assert town.slack.connections == 0

    root = town.ask("rita", "rotate web-01")
    town.press("rita", root, "Approve")
    assert "somebody else must approve" in town.whisper("rita", "yourself")
    town.press("ada", root, "Approve")
    root = town.end(root)
    town.assert_good("web-01")
    town.says(root, "healthy")

    assert town.bot
    (server,) = town.bot.servers
    assert httpx.get(f"{server.url}/readyz").json()["ok"]
    town.bot.engine.leave()
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_the_same_request_again_does_nothing_twice(town: Town) -> None:
    """A replay within the five minutes of a signature is genuine, and yet there is one plan."""
    slack = town.slack.http
    assert isinstance(slack, HttpDelivery)
    command = {
        "command": "/octocert",
        "text": "rotate web-01",
        "user_id": town.slack.people["rita"].id,
        "user_name": "rita",
        "channel_id": town.slack.channels["deployments"].id,
        "team_id": "T1",
        "trigger_id": "1.2.replayed",
        "api_app_id": "A1",
    }
    body = urlencode(command).encode()
    for _ in range(3):
        assert slack.post("application/x-www-form-urlencoded", body)[0] == 200
    town.wait(lambda: any(m.is_bot for m in town.slack.messages()))
    town.ask_quietly("rita", "status", "waiting")
    assert len([m for m in town.slack.messages() if m.is_bot]) == 1


def test_slacks_clock_and_forgeries(town: Town) -> None:
    """A skew of more than five minutes and a foreign secret end at the door."""
    slack = town.slack.http
    assert isinstance(slack, HttpDelivery)
    town.slack.faults.clock_skew = 400
    assert slack.post("application/json", json.dumps({"type": "x"}).encode())[0] == 401
    town.slack.faults.clock_skew = 0
    forger = HttpDelivery(town.slack.workspace, f"{town.bot.servers[0].url}/slack/events", "guessed")  # type: ignore[union-attr]
    assert forger.post("application/json", json.dumps({"type": "x"}).encode())[0] == 401
