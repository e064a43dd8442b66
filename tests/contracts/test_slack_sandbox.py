"""The sandbox's Slack seen by clients that nobody here wrote: slack-bolt, slack-sdk and a bare WebSocket."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from slack_bolt import App
from slack_bolt.adapter.starlette import SlackRequestHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient
from websockets.sync.client import ClientConnection, connect

from bot.clock import FakeClock
from bot.sandbox.slack import SlackServer
from bot.slack.wire import SocketMode

Json = dict[str, Any]
SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*Rotate* web-01"}}
APPROVE = {
    "type": "actions",
    "block_id": "v1",
    "elements": [
        {
            "type": "button",
            "text": {"type": "plain_text", "text": "Approve"},
            "action_id": "approve",
            "value": "run-1",
            "style": "primary",
        }
    ],
}


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    """Run a Slack whose patience is short and which knows no rate limits."""
    with SlackServer(ack_seconds=0.5) as server:
        yield server


@pytest.fixture
def client(slack: SlackServer) -> WebClient:
    """Give the bot's Web API client, without retries."""
    return WebClient(token=slack.bot_token, base_url=slack.api_url, retry_handlers=[])


@contextmanager
def running(slack: SlackServer, listen: Callable[[App], None]) -> Iterator[App]:
    """Run a Bolt app over Socket Mode."""
    app = App(client=WebClient(token=slack.bot_token, base_url=slack.api_url))
    listen(app)
    socket = SocketMode(app, slack.app_token, slack.api_url, ping_seconds=0.3)
    socket.connect()
    slack.wait_connected()
    try:
        yield app
    finally:
        socket.leave()
        socket.wait_until_left()
        app.listener_runner.listener_executor.shutdown()


@contextmanager
def wire(slack: SlackServer) -> Iterator[ClientConnection]:
    """Open a bare Socket Mode connection, past its hello."""
    opened = WebClient(base_url=slack.api_url).apps_connections_open(app_token=slack.app_token)
    with connect(opened["url"]) as socket:
        hello = json.loads(socket.recv(2))
        assert hello["type"] == "hello"
        yield socket


def envelope(socket: ClientConnection, *, ack: bool = True, payload: Json | None = None, wait: float = 5) -> Json:
    """Receive one envelope and acknowledge it."""
    message: Json = json.loads(socket.recv(wait))
    if ack:
        socket.send(json.dumps({"envelope_id": message["envelope_id"]} | ({"payload": payload} if payload else {})))
    return message


def after(look: Callable[[], Json], clock: FakeClock) -> Json:
    """Let time pass until there is something to see."""
    for _ in range(100):
        try:
            return look()
        except TimeoutError:
            clock.advance(2)
    raise AssertionError("nothing came")


def in_background(work: Callable[[], object]) -> threading.Thread:
    """Do something beside the test."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def refused(call: Callable[[], object]) -> Json:
    """Return the answer with which Slack refused a call."""
    with pytest.raises(SlackApiError) as caught:
        call()
    answer: Json = caught.value.response.data
    return answer


# --- a Bolt app ------------------------------------------------------------------------------------------------------


def test_a_command_a_plan_and_an_approval(slack: SlackServer) -> None:
    """Rita asks, the plan is posted, Ada approves it, the message is edited and the thread gets a reply."""

    def listen(app: App) -> None:
        @app.command("/octocert")
        def rotate(ack: Any, command: Json, client: WebClient) -> None:
            ack("On it.")
            client.chat_postMessage(
                channel=command["channel_id"], text=f"Plan: {command['text']}", blocks=[SECTION, APPROVE]
            )

        @app.action("approve")
        def approve(ack: Any, body: Json, client: WebClient) -> None:
            ack()
            place = {"channel": body["channel"]["id"]}
            client.chat_update(**place, ts=body["message"]["ts"], text="Approved", blocks=[SECTION])
            client.chat_postMessage(**place, thread_ts=body["message"]["ts"], text=f"<@{body['user']['id']}> approved")

    with running(slack, listen):
        receipt = slack.command("rita", "deployments", "rotate web-01")
        assert receipt.acknowledged
        assert slack.ephemerals("rita")[0].text == "On it."
        assert slack.ephemerals("ada") == []
        root = slack.wait_for(slack.messages)[0]
        assert root.text == "Plan: rotate web-01"
        assert root.content == "*Rotate* web-01\nApprove"
        assert root.buttons == ["Approve"]
        slack.click("ada", root.ts, "Approve")
        reply = slack.wait_for(lambda: slack.thread(root.ts)[1:])[0]
        assert reply.text == "<@U0ADA> approved"
        assert slack.message(root.ts).buttons == []
        with pytest.raises(LookupError, match="nothing"):
            slack.click("ada", root.ts, "Approve")
    assert slack.violations == []


def test_a_mention_in_a_thread(slack: SlackServer) -> None:
    """A mention reaches the bot with its thread, and the answer stands in that thread."""

    def listen(app: App) -> None:
        @app.event("app_mention")
        def answer(event: Json, say: Any) -> None:
            say(text=event["text"].partition(" ")[2], thread_ts=event["thread_ts"])

    with running(slack, listen):
        slack.say("otto", "deployments", "What is this?")
        root = slack.messages()[0]
        slack.mention("rita", "deployments", "status", thread=root.ts)
        answer = slack.wait_for(lambda: [m for m in slack.thread(root.ts) if m.is_bot])[0]
        assert answer.text == "status"
        assert answer.is_reply


def test_a_listener_that_does_not_acknowledge(slack: SlackServer) -> None:
    """The person sees operation_timeout when the bot is too slow, and dispatch_failed when there is no bot."""

    def listen(app: App) -> None:
        @app.command("/octocert")
        def slow(ack: Any) -> None:
            time.sleep(0.7)
            ack("too late")

    with running(slack, listen):
        assert slack.command("rita", "deployments", "rotate web-01").error == "operation_timeout"
        assert slack.notices("rita") == ['/octocert failed with the error "operation_timeout"']
        time.sleep(0.3)
        assert slack.ephemerals("rita") == []
    slack.wait_for(lambda: slack.connections == 0)
    assert slack.command("ada", "deployments", "help").error == "dispatch_failed"


def test_a_modal_is_opened_corrected_and_submitted(slack: SlackServer) -> None:
    """A modal opens for the one who pressed, keeps what is wrong with a field, and closes when all is well."""
    view = {
        "type": "modal",
        "callback_id": "why",
        "title": {"type": "plain_text", "text": "Why?"},
        "submit": {"type": "plain_text", "text": "Save"},
        "blocks": [
            {
                "type": "input",
                "block_id": "reason",
                "label": {"type": "plain_text", "text": "Reason"},
                "element": {"type": "plain_text_input", "action_id": "text"},
            }
        ],
    }
    reasons: list[str] = []

    def listen(app: App) -> None:
        @app.command("/octocert")
        def ask(ack: Any, command: Json, client: WebClient) -> None:
            ack()
            client.views_open(trigger_id=command["trigger_id"], view=view)

        @app.view("why")
        def save(ack: Any, view: Json) -> None:
            reason = view["state"]["values"]["reason"]["text"]["value"]
            if not reason:
                ack(response_action="errors", errors={"reason": "Say why."})
            else:
                reasons.append(reason)
                ack()

    with running(slack, listen):
        slack.command("rita", "deployments", "rotate web-01")
        slack.wait_for(lambda: slack.views("rita"))
        assert slack.views("ada") == []
        assert slack.submit_view("rita").response["errors"] == {"reason": "Say why."}
        assert slack.submit_view("rita", {"text": "It expires"}).acknowledged
        assert slack.views("rita") == []
    assert reasons == ["It expires"]


def test_the_bot_comes_back_after_an_outage(slack: SlackServer) -> None:
    """When Slack goes away and comes back on the same port, the bot reconnects and the messages are still there."""

    def listen(app: App) -> None:
        @app.command("/octocert")
        def answer(ack: Any) -> None:
            ack("here")

    with running(slack, listen):
        slack.say("rita", "deployments", "before")
        port = slack.port
        slack.close()
        slack.start()
        assert slack.port == port
        slack.wait_connected(20)
        assert slack.command("rita", "deployments", "help").response == {"text": "here"}
        assert slack.messages()[0].text == "before"
        slack.faults.disconnect("drop")
        slack.wait_for(lambda: slack.connections == 0)
        slack.wait_connected(20)


def test_http_mode(slack: SlackServer) -> None:
    """The same app behind signed HTTP requests: a command is answered, a forged signature is not."""
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    app = App(client=WebClient(token=slack.bot_token, base_url=slack.api_url), signing_secret=slack.signing_secret)
    events: list[Json] = []

    @app.command("/octocert")
    def answer(ack: Any, command: Json) -> None:
        ack(f"got {command['text']}")

    @app.event("app_mention")
    def mentioned(event: Json) -> None:
        events.append(event)

    handler = SlackRequestHandler(app)

    async def take(request: Request) -> Response:
        return await handler.handle(request)

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(routes=[Route("/slack", take, methods=["POST"])]), log_config=None, ws="none", http="h11"
    )
    bot = uvicorn.Server(config)
    thread = in_background(lambda: bot.run(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/slack"
    try:
        with SlackServer(request_url=url, ack_seconds=2) as http_slack:
            assert http_slack.http is not None
            assert http_slack.http.verify_url()
            assert http_slack.http.ssl_check() == 200
            assert http_slack.command("rita", "deployments", "help").response == {"text": "got help"}
            http_slack.mention("rita", "deployments", "hello")
            http_slack.wait_for(lambda: events)
            assert (
                httpx.post(
                    url, json={}, headers={"x-slack-signature": "v0=00", "x-slack-request-timestamp": "1"}
                ).status_code
                == 401
            )
    finally:
        bot.should_exit = True
        thread.join()
        app.listener_runner.listener_executor.shutdown()


# --- Socket Mode -----------------------------------------------------------------------------------------------------


def test_an_event_is_delivered_again_until_acknowledged() -> None:
    """An unacknowledged event comes again at once, and then after a minute, with the attempt's number."""
    clock = FakeClock()
    with SlackServer(clock=clock) as slack, wire(slack) as socket:
        sender = in_background(lambda: slack.mention("rita", "deployments", "hello"))
        first = envelope(socket, ack=False)
        assert (first["retry_attempt"], first["accepts_response_payload"]) == (0, False)
        clock.advance(3)
        second = envelope(socket, ack=False)
        assert (second["retry_attempt"], second["retry_reason"]) == (1, "timeout")
        third = after(lambda: envelope(socket, wait=0.05), clock)
        sender.join()
        assert third["retry_attempt"] == 2
        assert third["payload"]["event_id"] == first["payload"]["event_id"]
        assert third["envelope_id"] != first["envelope_id"]
        slack.wait_for(lambda: len(slack.calls("events_api")) == 3)
        clock.advance(400)
        with pytest.raises(TimeoutError):
            socket.recv(0.2)
    times = [call.at for call in slack.calls("events_api")]
    assert (times[2] - times[1]).total_seconds() >= 60


def test_an_envelope_goes_to_one_connection_and_any_may_get_it(slack: SlackServer) -> None:
    """With two connections each envelope arrives once, at one of them."""
    with wire(slack) as one, wire(slack) as other:
        assert slack.connections == 2
        for number in range(6):
            sender = in_background(partial(slack.command, "rita", "deployments", str(number)))
            seen: list[str] = []
            while not seen:
                for socket in (one, other):
                    try:
                        message = json.loads(socket.recv(0.02))
                    except TimeoutError:
                        continue
                    seen.append(message["payload"]["text"])
                    socket.send(json.dumps({"envelope_id": message["envelope_id"]}))
            sender.join()
            assert seen == [str(number)]


def test_a_duplicate_delivery_carries_no_mark(slack: SlackServer) -> None:
    """The fault of a doubled envelope delivers the same payload twice, with retry_attempt 0 both times."""
    slack.faults.duplicate_envelopes = 1
    with wire(slack) as socket:
        sender = in_background(lambda: slack.mention("rita", "deployments", "hello"))
        first, second = envelope(socket), envelope(socket)
        sender.join()
    assert first == second
    assert first["retry_attempt"] == 0


def test_at_most_ten_connections(slack: SlackServer) -> None:
    """The eleventh connection is told so and closed."""
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(wire(slack))
        opened = WebClient(base_url=slack.api_url).apps_connections_open(app_token=slack.app_token)
        with connect(opened["url"]) as eleventh:
            assert json.loads(eleventh.recv(2)) == {"type": "disconnect", "reason": "too_many_websockets"}


@pytest.mark.parametrize("reason", ["warning", "refresh_requested", "link_disabled"])
def test_slack_says_why_it_disconnects(reason: str) -> None:
    """A disconnect message names its reason, and the connection ends after its grace time."""
    clock = FakeClock()
    with SlackServer(clock=clock) as slack, wire(slack) as socket:
        slack.faults.disconnect(reason)
        assert json.loads(socket.recv(2))["reason"] == reason
        clock.advance(10)
        slack.wait_for(lambda: slack.connections == 0)
        if reason == "link_disabled":
            web = WebClient(base_url=slack.api_url)
            assert refused(lambda: web.apps_connections_open(app_token=slack.app_token))["error"] == "link_disabled"


# --- triggers and response URLs --------------------------------------------------------------------------------------


def test_a_response_url_works_five_times(slack: SlackServer) -> None:
    """A response URL takes five answers, ephemeral unless said otherwise, and then no more."""
    with wire(slack) as socket:
        sender = in_background(lambda: slack.command("rita", "deployments", "help"))
        url = envelope(socket)["payload"]["response_url"]
        sender.join()
    webhook = WebhookClient(url)
    assert webhook.send(text="only for Rita").status_code == 200
    assert webhook.send(text="for all", response_type="in_channel").status_code == 200
    for _ in range(3):
        assert webhook.send(text="again").status_code == 200
    spent = webhook.send(text="once more")
    assert (spent.status_code, json.loads(spent.body)["error"]) == (404, "used_url")
    assert [message.text for message in slack.messages()] == ["for all"]
    assert [message.text for message in slack.ephemerals("rita")] == ["only for Rita", "again", "again", "again"]


def test_a_response_url_can_replace_and_delete(slack: SlackServer, client: WebClient) -> None:
    """An answer to a button may replace the message with the button, or delete it."""
    posted = client.chat_postMessage(channel="C0DEPLOY", text="Plan", blocks=[SECTION, APPROVE])
    with wire(slack) as socket:
        sender = in_background(lambda: slack.click("ada", posted["ts"], "approve"))
        payload = envelope(socket)["payload"]
        sender.join()
    assert payload["type"] == "block_actions"
    assert payload["actions"][0]["value"] == "run-1"
    assert payload["container"] == {
        "type": "message",
        "message_ts": posted["ts"],
        "channel_id": "C0DEPLOY",
        "is_ephemeral": False,
    }
    webhook = WebhookClient(payload["response_url"])
    webhook.send(text="Approved", replace_original=True)
    assert slack.message(posted["ts"]).text == "Approved"
    webhook.send(text="", delete_original=True)
    assert slack.messages() == []


def test_triggers_and_response_urls_expire() -> None:
    """A trigger lives for three seconds and one modal, a response URL for thirty minutes."""
    clock = FakeClock()
    view = {"type": "modal", "title": {"type": "plain_text", "text": "A"}, "blocks": [SECTION]}
    with SlackServer(clock=clock) as slack:
        client = WebClient(token=slack.bot_token, base_url=slack.api_url)
        receipts = [slack.command("rita", "deployments", "help") for _ in range(2)]
        assert client.views_open(trigger_id=receipts[0].trigger_id, view=view)["ok"]
        assert (
            refused(lambda: client.views_open(trigger_id=receipts[0].trigger_id, view=view))["error"]
            == "exchanged_trigger_id"
        )
        clock.advance(3.5)
        assert (
            refused(lambda: client.views_open(trigger_id=receipts[1].trigger_id, view=view))["error"]
            == "expired_trigger_id"
        )
        clock.advance(31 * 60)
        late = WebhookClient(receipts[0].response_url).send(text="late")
        assert (late.status_code, json.loads(late.body)["error"]) == (404, "expired_url")
