"""Slack's listeners between the sandbox's Slack and a desk that only writes down what it gets."""

from collections.abc import Iterator
from typing import Any

import pytest
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from bot.runs.asking import Asker, Click
from bot.sandbox.slack.server import SlackServer
from handlers import register
from handlers.events import addressed

VALUE = "r-7k2m9q4x:n0nce"
ROOT = {
    "type": "actions",
    "elements": [
        {
            "type": "button",
            "action_id": "octocert_approve",
            "text": {"type": "plain_text", "text": "Approve"},
            "value": VALUE,
        }
    ],
}


class Notebook:
    """A desk that does nothing but remember; one word makes it fail as a bug would."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, Asker]] = []
        self.clicks: list[Click] = []

    def command(self, text: str, asker: Asker) -> None:
        """Remember a command."""
        if "stumble" in text:
            raise RuntimeError("the secret cause")
        self.commands.append((text, asker))

    def click(self, click: Click) -> None:
        """Remember a click."""
        self.clicks.append(click)


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackServer]:
    """Return a Slack for all tests of this module."""
    with SlackServer() as server:
        yield server


@pytest.fixture(scope="module")
def connected(slack: SlackServer) -> Iterator[Notebook]:
    """Return the desk behind a Bolt app that is connected by Socket Mode."""
    desk: Any = Notebook()
    client = WebClient(token=slack.bot_token, base_url=slack.api_url)
    app = App(client=client, token_verification_enabled=False)
    register(app, desk, command="/octocert")
    socket = SocketModeHandler(
        app, slack.app_token, web_client=WebClient(token=slack.app_token, base_url=slack.api_url), ping_interval=1
    )
    socket.connect()
    slack.wait_connected()
    yield desk
    socket.client.auto_reconnect_enabled = False
    socket.close()


@pytest.fixture
def desk(connected: Notebook) -> Notebook:
    """Return the desk with an empty notebook."""
    connected.commands.clear()
    connected.clicks.clear()
    return connected


def posted(slack: SlackServer, **more: Any) -> str:
    """Have the bot post a message with a button; return where it stands."""
    answer = WebClient(token=slack.bot_token, base_url=slack.api_url).chat_postMessage(
        channel="C0DEPLOY", text="plan", blocks=[ROOT], **more
    )
    return str(answer["ts"])


def test_a_slash_command_is_acknowledged_and_handed_on(slack: SlackServer, desk: Notebook) -> None:
    """As it was typed, with who asked and where."""
    receipt = slack.command("rita", "deployments", "rotate “web-01”")
    assert receipt.error is None
    (text, asker), *others = slack.wait_for(lambda: desk.commands)
    assert (text, asker.user, asker.channel, asker.thread) == ("rotate “web-01”", "U0RITA", "C0DEPLOY", None)
    assert others == []


def test_a_mention_leads_to_the_same_desk_and_keeps_its_thread(slack: SlackServer, desk: Notebook) -> None:
    """Inside a thread Slack has no slash commands."""
    root = posted(slack)
    slack.mention("ada", "deployments", "status", thread=root)
    ((text, asker),) = slack.wait_for(lambda: desk.commands)
    assert (text.strip(), asker.user, asker.thread) == ("status", "U0ADA", root)


def test_what_is_delivered_twice_has_one_key(slack: SlackServer, desk: Notebook) -> None:
    """Slack does so now and then without saying it; the desk acts once on a key."""
    slack.faults.duplicate_envelopes = 1
    slack.mention("ada", "deployments", "status")
    slack.wait_for(lambda: len(desk.commands) == 2)
    slack.faults.duplicate_envelopes = 1
    slack.command("rita", "deployments", "help")
    slack.wait_for(lambda: len(desk.commands) == 4)
    keys = [asker.key for _, asker in desk.commands]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_click_carries_the_run_and_its_nonce(slack: SlackServer, desk: Notebook) -> None:
    """And two presses are two clicks."""
    root = posted(slack)
    slack.click("ada", root, "Approve")
    slack.click("ada", root, "Approve")
    slack.wait_for(lambda: len(desk.clicks) == 2)
    first, second = desk.clicks
    assert (first.run_id, first.nonce, first.action) == ("r-7k2m9q4x", "n0nce", "approve")
    assert (first.asker.user, first.asker.channel, first.asker.thread) == ("U0ADA", "C0DEPLOY", None)
    assert first.message_ts == root
    assert first.asker.key != second.asker.key


def test_a_click_in_a_thread_is_answered_in_that_thread(slack: SlackServer, desk: Notebook) -> None:
    """The asker's thread is the message's own."""
    root = posted(slack)
    slack.click("ada", posted(slack, thread_ts=root), "Approve")
    assert slack.wait_for(lambda: desk.clicks)[0].asker.thread == root


def test_a_listener_that_fails_tells_the_person_a_reference_and_nothing_else(
    slack: SlackServer, desk: Notebook
) -> None:
    """The cause stands in the log under that reference."""
    slack.command("otto", "deployments", "stumble")
    (told,) = slack.wait_for(lambda: slack.ephemerals("U0OTTO"))
    assert "did not foresee" in told.content
    assert "secret cause" not in told.content
    root = posted(slack)
    slack.mention("otto", "deployments", "stumble", thread=root)
    slack.wait_for(lambda: len(slack.ephemerals("U0OTTO")) == 2)
    assert slack.ephemerals("U0OTTO")[-1].thread_ts == root


def test_what_the_bot_itself_writes_is_no_command(slack: SlackServer, desk: Notebook) -> None:
    """A message of its own that names it leads to nothing."""
    WebClient(token=slack.bot_token, base_url=slack.api_url).chat_postMessage(
        channel="C0DEPLOY", text="<@U0OCTOCERT> rotate web-01"
    )
    slack.command("rita", "deployments", "help")
    slack.wait_for(lambda: desk.commands)
    assert [text for text, _ in desk.commands] == ["help"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("<@U0BOT> rotate web-01", " rotate web-01"),
        ("please, <@U0BOT|octocert> rotate web-01", " rotate web-01"),
        ("status <@U0BOT>", "status <@U0BOT>"),
        ("<@U0ADA> said <@U0BOT> status", " status"),
        ("<@U0BOT>", "<@U0BOT>"),
        ("status", "status"),
    ],
)
def test_what_follows_the_mention_is_meant(text: str, meant: str) -> None:
    """People are polite before it."""
    assert addressed(text, "U0BOT") == meant
    assert addressed(text, None) == text
