"""The sandbox's workspace in a browser: what a person sees, presses and types."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from slack_bolt import App
from slack_sdk import WebClient

from bot.sandbox.slack import SlackServer
from bot.slack.wire import SocketMode

Json = dict[str, Any]
pytestmark = pytest.mark.xdist_group("browser")

AGREED = {"style": "listening", "configured": "AB" * 20, "served": "AB" * 20, "recorded": "AB" * 20}
ESTATE: list[Json] = [
    {**AGREED, "name": "web-01", "health": "Healthy", "consistent": True},
    {**AGREED, "name": "web-02", "served": "CD" * 20, "health": "Unhealthy", "consistent": False},
]
TEXT = "<@U0RITA> asks for *web-01*: `8F3A` → _new_ <b>no markup</b> &amp; <https://octopus.example/t|task>"


def blocks(done: int) -> list[Json]:
    """Return a plan of three tasks of which some are done."""
    states = ["complete" if index < done else "in_progress" if index == done else "pending" for index in range(3)]
    titles = ["Back the configuration up", "Import the certificate", "Restart the service"]
    confirm = {
        "title": {"type": "plain_text", "text": "Rotate web-01?"},
        "text": {"type": "mrkdwn", "text": "The service of *web-01* stops."},
        "confirm": {"type": "plain_text", "text": "Yes, rotate"},
        "deny": {"type": "plain_text", "text": "Not now"},
    }
    approve = {
        "type": "button",
        "text": {"type": "plain_text", "text": "Approve"},
        "action_id": "approve",
        "value": "1",
    }
    why = {"type": "button", "text": {"type": "plain_text", "text": "Why?"}, "action_id": "why", "style": "danger"}
    tasks = [
        {"type": "task_card", "task_id": title, "title": title, "status": state}
        for title, state in zip(titles, states, strict=True)
    ]
    return [
        {"type": "header", "text": {"type": "plain_text", "text": ":key: Rotate web-01"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": TEXT}},
        {"type": "plan", "title": "Rotate web-01", "block_id": f"plan{done}", "tasks": tasks},
        {
            "type": "actions",
            "block_id": f"do{done}",
            "elements": [{**approve, "style": "primary", "confirm": confirm}, why],
        },
    ]


def listen(app: App) -> None:
    """Let a small bot answer: a plan, an approval that refuses the requester, a modal, a mention."""

    @app.command("/octocert")
    def plan(ack: Any, command: Json, client: WebClient) -> None:
        if command["text"] == "ignore":
            return
        ack()
        client.chat_postMessage(channel=command["channel_id"], text="Rotate web-01", blocks=blocks(0))

    @app.action("approve")
    def approve(ack: Any, body: Json, client: WebClient) -> None:
        ack()
        channel, ts, user = body["channel"]["id"], body["message"]["ts"], body["user"]["id"]
        if user == "U0RITA":
            client.chat_postEphemeral(channel=channel, user=user, text=":no_entry: Somebody else must approve this.")
            return
        client.chat_update(channel=channel, ts=ts, text="Rotate web-01", blocks=blocks(3)[:3])
        client.chat_postMessage(channel=channel, thread_ts=ts, text=":white_check_mark: *web-01* `8F3A` → `C4D5`")

    @app.action("why")
    def why(ack: Any, body: Json, client: WebClient) -> None:
        ack()
        field = {"type": "plain_text_input", "action_id": "text"}
        label = {"type": "plain_text", "text": "Reason"}
        client.views_open(
            trigger_id=body["trigger_id"],
            view={
                "type": "modal",
                "callback_id": "why",
                "title": {"type": "plain_text", "text": "Deny"},
                "submit": {"type": "plain_text", "text": "Send"},
                "blocks": [{"type": "input", "block_id": "reason", "label": label, "element": field}],
            },
        )

    @app.view("why")
    def because(ack: Any, view: Json, client: WebClient) -> None:
        reason = view["state"]["values"]["reason"]["text"]["value"]
        if len(reason) < 5:
            ack(response_action="errors", errors={"reason": "Say a little more."})
        else:
            ack()
            client.chat_postMessage(channel="C0DEPLOY", text=f"Denied: {reason}")

    @app.event("app_mention")
    def mentioned(event: Json, say: Any) -> None:
        say(text="I am here.", thread_ts=event.get("thread_ts", event["ts"]))


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    """Run the workspace with the small bot in it."""
    hint = ["Type `/octocert rotate web-01`", "then press *Approve*"]
    with SlackServer(ack_seconds=1.0, hint=hint, estate=lambda: ESTATE) as server:
        app = App(client=WebClient(token=server.bot_token, base_url=server.api_url))
        listen(app)
        socket = SocketMode(app, server.app_token, server.api_url, ping_seconds=0.3)
        socket.connect()
        server.wait_connected()
        yield server
        socket.leave()
        socket.wait_until_left()
        app.listener_runner.listener_executor.shutdown()


def rotate(page: Page) -> None:
    """Type the command and wait for its plan."""
    page.keyboard.type("/octocert rotate web-01")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Rotate web-01")).to_be_visible()


def fits(page: Page) -> bool:
    """Say whether the page needs no sideways scrolling."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_rotate_and_approve_by_clicking(slack: SlackServer, look: Any) -> None:
    """Rita asks and is refused, becomes Ada, approves after a confirmation, and reads the outcome in the thread."""
    page: Page = look(slack.url)
    rotate(page)
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_role("heading", name="Rotate web-01?")).to_be_visible()
    page.get_by_role("button", name="Not now").click()
    assert not slack.calls("interactive")
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_role("button", name="Yes, rotate").click()
    expect(page.get_by_text("Somebody else must approve this.")).to_be_visible()
    expect(page.get_by_text("Only visible to you")).to_be_visible()

    page.get_by_role("button", name="You are: Rita").click()
    page.get_by_role("option", name="Ada Approver").click()
    expect(page.get_by_role("button", name="You are: Ada")).to_be_visible()
    expect(page.get_by_text("Only visible to you")).to_have_count(0)
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_role("button", name="Yes, rotate").click()
    page.get_by_role("button", name="1 reply").click()
    thread = page.get_by_role("complementary", name="Thread")
    expect(thread.get_by_text("web-01").last).to_be_visible()
    expect(page.get_by_text("3 of 3").first).to_be_visible()
    expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
    assert fits(page)
    assert slack.violations == []


def test_what_is_typed_early_or_anywhere_goes_into_the_message_box(slack: SlackServer, look: Any) -> None:
    """Before the page knows who speaks, it waits; later a key that nothing else wants is meant for the box."""
    page: Page = look(slack.url)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/page/changes?as=&since=0", hold)
    page.reload(wait_until="load")
    page.keyboard.type("/octocert rotate web-01")
    page.keyboard.press("Enter")
    assert held
    assert not slack.calls("command")
    held[0].continue_()
    expect(page.get_by_role("heading", name="Rotate web-01")).to_have_count(1)

    page.locator("#messages").click()
    expect(page.get_by_role("combobox", name="Message")).not_to_be_focused()
    page.keyboard.type("/octocert rotate web-01")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Rotate web-01")).to_have_count(2)


def test_a_button_counts_though_its_message_was_edited_before_the_answer(slack: SlackServer, look: Any) -> None:
    """The message of a run is edited every second, and nobody answers a question as fast as that."""
    page: Page = look(slack.url, "ada")
    rotate(page)
    message = next(m for m in slack.messages() if m.is_bot)
    page.get_by_role("button", name="Approve", exact=True).click()
    client = WebClient(token=slack.bot_token, base_url=slack.api_url)
    client.chat_update(channel=message.channel, ts=message.ts, text="Rotate web-01", blocks=blocks(1))
    expect(page.get_by_text("1 of 3").first).to_be_visible()
    page.get_by_role("button", name="Yes, rotate").click()
    expect(page.get_by_text("3 of 3").first).to_be_visible()


def test_text_is_rendered_and_never_markup(slack: SlackServer, look: Any) -> None:
    """Bold, code, links and mentions are drawn; what looks like HTML stays text."""
    page: Page = look(slack.url)
    rotate(page)
    body = page.locator(".section")
    expect(body.locator("strong")).to_have_text("web-01")
    expect(body.locator("code")).to_have_text("8F3A")
    expect(body.locator("em")).to_have_text("new")
    expect(body.locator("a")).to_have_attribute("href", "https://octopus.example/t")
    expect(body.locator(".mention.me")).to_have_text("@Rita Requester")
    expect(body).to_contain_text("<b>no markup</b>")
    assert body.locator("b").count() == 0
    expect(page.get_by_role("img", name="key").first).to_be_visible()
    expect(page.get_by_role("img", name="in progress").first).to_be_visible()


def test_a_modal_by_keyboard(slack: SlackServer, look: Any) -> None:
    """A modal takes text, shows what is wrong beside the field, and is sent with Enter; Escape closes it."""
    page: Page = look(slack.url, "ben")
    rotate(page)
    page.get_by_role("button", name="Why?").press("Enter")
    field = page.get_by_role("textbox", name="Reason")
    field.fill("no")
    field.press("Enter")
    expect(page.get_by_text("Say a little more.")).to_be_visible()
    field.fill("Not on a Friday")
    field.press("Enter")
    expect(page.get_by_text("Denied: Not on a Friday")).to_be_visible()
    expect(field).to_have_count(0)
    page.get_by_role("button", name="Why?").press("Enter")
    expect(page.get_by_role("heading", name="Deny")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Deny")).to_have_count(0)


def test_commands_are_suggested(slack: SlackServer, look: Any) -> None:
    """A slash shows the commands, arrows and Tab choose one, ArrowUp brings back the last, a hint fills the box."""
    page: Page = look(slack.url)
    box = page.get_by_role("combobox", name="Message #deployments as Rita")
    expect(box).to_be_focused()
    page.keyboard.type("/")
    expect(page.get_by_role("option", name="/octocert rotate TARGET")).to_be_visible()
    page.keyboard.type("octocert st")
    page.keyboard.press("Tab")
    expect(box).to_have_value("/octocert status ")
    page.keyboard.press("Enter")
    expect(box).to_have_value("")
    page.keyboard.press("ArrowUp")
    expect(box).to_have_value("/octocert status")
    page.get_by_role("button", name="/octocert rotate web-01").click()
    expect(box).to_have_value("/octocert rotate web-01")


def test_a_mention_in_a_thread(slack: SlackServer, look: Any) -> None:
    """A thread opens by keyboard, a mention there is answered there, Escape closes the pane."""
    page: Page = look(slack.url, "otto")
    page.keyboard.type("Hello @octocert ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="1 reply")).to_be_visible()
    page.get_by_role("button", name="1 reply").press("Enter")
    page.keyboard.type("Still there, @octocert?")
    page.keyboard.press("Enter")
    thread = page.get_by_role("complementary", name="Thread")
    expect(thread.get_by_text("I am here.")).to_have_count(2)
    page.keyboard.type("/octocert help")
    page.keyboard.press("Enter")
    expect(page.get_by_text("is not supported in threads")).to_be_visible()
    page.keyboard.press("Escape")
    expect(thread).to_be_hidden()


def test_other_windows_follow(slack: SlackServer, look: Any) -> None:
    """What happens elsewhere appears without a reload, and a channel that one does not look at turns bold."""
    page: Page = look(slack.url, "ada")
    slack.say("ben", "deployments", "Good morning <@U0ADA>")
    expect(page.get_by_text("Good morning")).to_be_visible()
    slack.say("ben", "random", "Lunch, <@U0ADA>?")
    expect(page.get_by_role("button", name="random")).to_have_class("place unread")
    expect(page.get_by_label("1 for you")).to_be_visible()
    page.get_by_role("button", name="random").click()
    expect(page.get_by_text("Lunch")).to_be_visible()
    expect(page.get_by_role("button", name="random")).to_have_class("place here")


def test_a_bot_that_does_not_answer(slack: SlackServer, look: Any) -> None:
    """The person reads operation_timeout, as in Slack."""
    page: Page = look(slack.url)
    page.keyboard.type("/octocert ignore")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text('/octocert failed with the error "operation_timeout"')


def test_estate_and_traffic(slack: SlackServer, look: Any) -> None:
    """The estate shows who disagrees, the traffic every exchange with its payload."""
    page: Page = look(slack.url)
    page.get_by_role("button", name="Estate").click()
    estate = page.get_by_role("complementary", name="Estate")
    expect(estate.get_by_role("row", name="web-02")).to_contain_text("Unhealthy")
    expect(estate.locator("tr[data-name=web-02] .odd")).to_have_text("CDCDCDCD")
    expect(estate.get_by_text("2 Tentacles · 1 consistent")).to_be_visible()
    page.get_by_role("combobox").click()
    rotate(page)
    page.get_by_role("button", name="Traffic").click()
    traffic = page.get_by_role("complementary", name="Traffic")
    traffic.get_by_placeholder("Filter").fill("postmessage")
    traffic.get_by_text("chat.postMessage").click()
    expect(traffic.locator(".json").first).to_contain_text('"channel": "C0DEPLOY"')

    opened = traffic.locator("details[open]").element_handle()
    page.get_by_role("combobox").click()
    page.keyboard.type("/octocert rotate web-01")
    page.keyboard.press("Enter")
    expect(traffic.get_by_text("chat.postMessage")).to_have_count(2)
    assert opened.evaluate("details => details.isConnected && details.open"), "what is new moves nothing that is there"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_it_fits(slack: SlackServer, look: Any, width: int, height: int, scheme: str, tmp_path: Any) -> None:
    """At desktop and phone width nothing hangs over the edge, and the approval is within reach."""
    page: Page = look(slack.url, "ada", width=width, height=height, scheme=scheme)
    rotate(page)
    expect(page.get_by_role("button", name="Approve", exact=True)).to_be_in_viewport()
    assert fits(page)
    page.get_by_role("button", name="Estate").click()
    expect(page.get_by_role("row", name="web-01")).to_be_in_viewport()
    assert fits(page)
    page.get_by_role("button", name="Close this panel").click()
    if width < 700:
        page.get_by_role("button", name="Channels and people").click()
        expect(page.get_by_role("button", name="Otto Outsider")).to_be_in_viewport()
    assert len(page.screenshot(path=tmp_path / "page.png")) > 10_000
