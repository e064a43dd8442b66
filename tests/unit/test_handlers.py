"""Slack's listeners between the sandbox's Slack and a desk that only writes down what it gets."""

from collections.abc import Iterator
from typing import Any

import pytest
from slack_bolt import App
from slack_sdk import WebClient

from bot.domain.plan import Order
from bot.runs.asking import Asker, Click
from bot.sandbox.slack.server import SlackServer
from bot.slack import rotate_view
from bot.slack.rotate_view import Asked
from bot.slack.wire import SocketMode
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
        self.asked: list[tuple[Asked, Asker]] = []

    def command(self, text: str, asker: Asker) -> None:
        """Remember a command."""
        if "stumble" in text:
            raise RuntimeError("the secret cause")
        self.commands.append((text, asker))

    def click(self, click: Click) -> None:
        """Remember a click."""
        self.clicks.append(click)

    def ask(self, asked: Asked, asker: Asker) -> None:
        """Remember what was filled in."""
        self.asked.append((asked, asker))


class Window:
    """A front that shows one target and remembers who looked."""

    def __init__(self) -> None:
        self.visitors: list[str] = []
        self.found: list[str] = []

    def form(self, channel: str = "", found: str = "") -> dict[str, Any]:
        """Return the modal."""
        self.found.append(found)
        return rotate_view.form(sources=["new-certificate", "ca:corp"], channel=channel)

    def choices(self, query: str) -> list[dict[str, Any]]:
        """Return one target, named after what was typed."""
        return rotate_view.options([rotate_view.Choice(record="Machines-1", label=f"{query}-01")])

    def opened(self, user: str) -> None:
        """Remember who opened the Home tab."""
        self.visitors.append(user)


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
    desk.front = front = Window()
    register(app, desk, front, command="/octocert")  # type: ignore[arg-type]
    socket = SocketMode(app, slack.app_token, slack.api_url, ping_seconds=1)
    socket.connect()
    slack.wait_connected()
    yield desk
    socket.leave()
    socket.wait_until_left()


@pytest.fixture
def desk(connected: Notebook) -> Notebook:
    """Return the desk with an empty notebook."""
    connected.commands.clear()
    connected.clicks.clear()
    connected.asked.clear()
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


def test_typed_alone_the_command_asks_what_to_rotate(slack: SlackServer, desk: Any) -> None:
    """The modal knows the channel; its picker asks the bot; what was filled in arrives once."""
    assert slack.command("rita", "deployments", "  ").acknowledged
    view = slack.wait_for(lambda: next(iter(slack.views("rita")), None), 10)
    assert view["callback_id"] == rotate_view.ROTATE
    assert desk.commands == []
    assert [o["text"]["text"] for o in slack.suggest("rita", rotate_view.TARGETS, "web")] == ["web-01"]

    receipt = slack.submit_view("rita", {"reason": "yearly"})
    assert receipt.response["errors"] == {
        "targets": "Choose at least one target, or say below what they have in common."
    }
    receipt = slack.submit_view("rita", {"words": "env:Staging --with pfx:x", rotate_view.TARGETS: "Machines-1"})
    assert "fields of their own" in receipt.response["errors"]["words"]
    values = {rotate_view.TARGETS: "Machines-1,Machines-2", "words": "env:Staging not:web-9", "source": "ca:corp"}
    assert slack.submit_view("rita", {**values, "reason": "yearly", "canary": "2", "order": "documented"}).acknowledged
    slack.wait_for(lambda: desk.asked, 10)
    ((asked, asker),) = desk.asked
    assert asked == Asked(
        channel="C0DEPLOY",
        records=("Machines-1", "Machines-2"),
        words=("env:Staging", "not:web-9"),
        source="ca:corp",
        order=Order.DOCUMENTED,
        reason="yearly",
        canary=2,
    )
    assert (asker.user, asker.channel, asker.thread) == ("U0RITA", "C0DEPLOY", None)
    assert slack.views("rita") == []


def test_the_home_tab_and_its_button(slack: SlackServer, desk: Any) -> None:
    """Opening it is told; the button opens the modal with what it is about."""
    slack.open_home("ben")
    slack.wait_for(lambda: "U0BEN" in desk.front.visitors, 10)
    button = {"type": "button", "action_id": "octocert_open_rotate", "text": {"type": "plain_text", "text": "Rotate…"}}
    view = {"type": "home", "blocks": [{"type": "actions", "elements": [{**button, "value": "s-1:4"}]}]}
    client = WebClient(token=slack.bot_token, base_url=slack.api_url)
    home = client.views_publish(user_id="U0BEN", view=view)["view"]
    assert slack.view_action("ben", "octocert_open_rotate", view_id=home["id"]).acknowledged
    slack.wait_for(lambda: slack.views("ben"), 10)
    assert desk.front.found[-1] == "s-1:4"
    slack.close_view("ben")
