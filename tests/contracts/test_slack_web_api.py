"""The sandbox's Web API seen by slack-sdk: answers, errors, limits and faults."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.clock import FakeClock
from bot.sandbox.slack import SlackServer

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


def refused(call: Callable[[], object]) -> Json:
    """Return the answer with which Slack refused a call."""
    with pytest.raises(SlackApiError) as caught:
        call()
    answer: Json = caught.value.response.data
    return answer


def test_errors_are_slacks(slack: SlackServer, client: WebClient) -> None:
    """Each mistake has the error code that Slack gives it."""
    slack.say("rita", "deployments", "mine")
    hers = slack.messages()[0].ts
    stranger = WebClient(token="xoxb-wrong", base_url=slack.api_url)
    assert refused(stranger.auth_test)["error"] == "invalid_auth"
    assert refused(lambda: WebClient(base_url=slack.api_url).auth_test())["error"] == "not_authed"
    assert refused(lambda: client.apps_connections_open(app_token=slack.bot_token))["error"] == "not_allowed_token_type"
    assert refused(lambda: client.api_call("chat.dance"))["error"] == "unknown_method"
    assert refused(lambda: client.chat_postMessage(channel="C0NOWHERE", text="a"))["error"] == "channel_not_found"
    assert refused(lambda: client.chat_postMessage(channel="C0BOARD", text="a"))["error"] == "channel_not_found"
    slack.invite_bot("random", member=False)
    assert refused(lambda: client.chat_postMessage(channel="#random", text="a"))["error"] == "not_in_channel"
    assert refused(lambda: client.api_call("chat.postMessage", json={"channel": "C0DEPLOY"}))["error"] == "no_text"
    assert refused(lambda: client.chat_update(channel="C0DEPLOY", ts=hers, text="a"))["error"] == "cant_update_message"
    assert refused(lambda: client.chat_update(channel="C0DEPLOY", ts="1.2", text="a"))["error"] == "message_not_found"
    assert refused(lambda: client.chat_delete(channel="C0DEPLOY", ts=hers))["error"] == "cant_delete_message"
    assert refused(lambda: client.users_info(user="U0NOBODY"))["error"] == "user_not_found"
    mine = client.chat_postMessage(channel="C0DEPLOY", text="a")["ts"]
    assert refused(lambda: client.chat_update(channel="C0DEPLOY", ts=mine, text="x" * 4001))["error"] == "msg_too_long"
    assert len(slack.violations) == 1


def test_invalid_blocks_say_where(slack: SlackServer, client: WebClient) -> None:
    """A payload that breaks a rule is refused as Slack does it, and recorded."""
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]
    answer = refused(lambda: client.chat_postMessage(channel="C0DEPLOY", text="a", blocks=blocks))
    assert answer["error"] == "invalid_blocks"
    assert answer["response_metadata"]["messages"] == [
        "[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]"
    ]
    assert slack.violations == [
        "chat.postMessage: must be less than 3001 characters [json-pointer:/blocks/0/text/text]"
    ]
    assert slack.messages() == []
    view = {"type": "modal", "title": {"type": "plain_text", "text": "x" * 25}, "blocks": []}
    answer = refused(lambda: client.views_open(trigger_id="1", view=view))
    assert answer["error"] == "invalid_arguments"


def test_a_workspace_that_does_not_know_a_block(slack: SlackServer, client: WebClient) -> None:
    """A workspace without plan blocks answers invalid_blocks, which is no violation."""
    slack.faults.reject_blocks = {"plan"}
    plan = {
        "type": "plan",
        "title": "a",
        "tasks": [{"type": "task_card", "task_id": "a", "title": "a", "status": "pending"}],
    }
    answer = refused(lambda: client.chat_postMessage(channel="C0DEPLOY", text="a", blocks=[SECTION, plan]))
    assert answer["response_metadata"]["messages"] == ["[ERROR] unsupported type: plan [json-pointer:/blocks/1/type]"]
    assert slack.violations == []


def test_metadata_finds_a_message_again(slack: SlackServer, client: WebClient) -> None:
    """Metadata comes back whole only for those who ask, in a thread and in the channel's history."""
    metadata = {"event_type": "octocert", "event_payload": {"key": "run-1"}}
    root = client.chat_postMessage(channel="C0DEPLOY", text="Plan", metadata=metadata)["ts"]
    client.chat_postMessage(channel="C0DEPLOY", text="Outcome", thread_ts=root, metadata=metadata)
    replies = client.conversations_replies(channel="C0DEPLOY", ts=root, include_all_metadata=True)["messages"]
    assert [(message["text"], message["metadata"]["event_payload"]) for message in replies] == [
        ("Plan", {"key": "run-1"}),
        ("Outcome", {"key": "run-1"}),
    ]
    assert replies[0]["reply_count"] == 1
    [seen] = client.conversations_history(channel="C0DEPLOY")["messages"]
    assert seen["metadata"] == {"event_type": "octocert", "event_payload": {}}


def test_pages_of_a_thread(slack: SlackServer, client: WebClient) -> None:
    """A long thread comes in pages, and a cursor leads through them."""
    root = client.chat_postMessage(channel="C0DEPLOY", text="0")["ts"]
    for number in range(1, 5):
        client.chat_postMessage(channel="C0DEPLOY", text=str(number), thread_ts=root)
    pages = client.conversations_replies(channel="C0DEPLOY", ts=root, limit=2)
    assert [message["text"] for page in pages for message in page["messages"]] == ["0", "1", "2", "3", "4"]


def test_people_groups_and_direct_messages(slack: SlackServer, client: WebClient) -> None:
    """People are found by id and e-mail, approver groups list their members, a person has direct messages."""
    assert client.auth_test()["user_id"] == slack.bot_user
    assert client.users_info(user=slack.people["rita"].id)["user"]["real_name"] == "Rita Requester"
    assert client.users_lookupByEmail(email="ada@example.com")["user"]["id"] == "U0ADA"
    assert len(client.users_list()["members"]) == 5
    [group] = client.usergroups_list(include_users=True)["usergroups"]
    assert client.usergroups_users_list(usergroup=group["id"])["users"] == group["users"] == ["U0ADA", "U0BEN"]
    direct = client.conversations_open(users="U0BEN")["channel"]["id"]
    client.chat_postMessage(channel=direct, text="psst")
    assert slack.messages(direct)[0].text == "psst"
    assert client.conversations_info(channel=direct)["channel"]["is_im"]


def test_small_methods(slack: SlackServer, client: WebClient) -> None:
    """Reactions, pins, links, scheduled messages and ephemerals work as documented."""
    ts = client.chat_postMessage(channel="C0DEPLOY", text="a")["ts"]
    client.reactions_add(channel="C0DEPLOY", timestamp=ts, name="eyes")
    assert (
        refused(lambda: client.reactions_add(channel="C0DEPLOY", timestamp=ts, name="eyes"))["error"]
        == "already_reacted"
    )
    client.reactions_remove(channel="C0DEPLOY", timestamp=ts, name="eyes")
    client.pins_add(channel="C0DEPLOY", timestamp=ts)
    assert slack.message(ts).pinned
    assert ts.replace(".", "") in client.chat_getPermalink(channel="C0DEPLOY", message_ts=ts)["permalink"]
    assert (
        refused(lambda: client.chat_scheduleMessage(channel="C0DEPLOY", post_at=1, text="a"))["error"] == "time_in_past"
    )
    client.chat_postEphemeral(channel="C0DEPLOY", user="U0OTTO", text="no")
    assert slack.ephemerals("otto")[0].text == "no"
    client.chat_delete(channel="C0DEPLOY", ts=ts)
    assert slack.messages() == []


def test_an_update_by_text_takes_the_blocks_away(slack: SlackServer, client: WebClient) -> None:
    """Text without blocks removes the blocks; an update that changes a block and keeps its id is recorded."""
    ts = client.chat_postMessage(channel="C0DEPLOY", text="a", blocks=[SECTION, APPROVE])["ts"]
    changed = {**APPROVE, "elements": [{**APPROVE["elements"][0], "value": "run-2"}]}  # type: ignore[dict-item]
    client.chat_update(channel="C0DEPLOY", ts=ts, text="a", blocks=[changed])
    assert slack.violations == ["chat.update: block_id v1 kept for a changed actions block"]
    client.chat_update(channel="C0DEPLOY", ts=ts, text="done")
    assert slack.message(ts).blocks == ()


def test_a_file_in_a_thread(slack: SlackServer, client: WebClient) -> None:
    """A long log is uploaded in the two steps of today's API and stands in the thread."""
    root = client.chat_postMessage(channel="C0DEPLOY", text="a")["ts"]
    client.files_upload_v2(
        channel="C0DEPLOY", thread_ts=root, filename="run.log", content="line\n" * 3, initial_comment="The log"
    )
    reply = slack.thread(root)[1]
    assert reply.text == "The log"
    assert httpx.get(reply.files[0]["url_private"]).text == "line\nline\nline\n"


def test_rate_limits() -> None:
    """A channel takes a short burst and then a message a second; updates are limited over a minute."""
    clock = FakeClock()
    with SlackServer(clock=clock, rate_limits=1.0) as slack:
        client = WebClient(token=slack.bot_token, base_url=slack.api_url)
        for _ in range(4):
            ts = client.chat_postMessage(channel="C0DEPLOY", text="a")["ts"]
        with pytest.raises(SlackApiError) as caught:
            client.chat_postMessage(channel="C0DEPLOY", text="a")
        assert (caught.value.response.status_code, caught.value.response["error"]) == (429, "ratelimited")
        assert caught.value.response.headers["Retry-After"] == "1"
        client.chat_postMessage(channel="C0RANDOM", text="a")
        clock.advance(1)
        client.chat_postMessage(channel="C0DEPLOY", text="a")
        for _ in range(50):
            client.chat_update(channel="C0DEPLOY", ts=ts, text="b")
        with pytest.raises(SlackApiError) as caught:
            client.chat_update(channel="C0DEPLOY", ts=ts, text="b")
        assert int(caught.value.response.headers["Retry-After"]) == 60


def test_faults_of_the_web_api(slack: SlackServer, client: WebClient) -> None:
    """Calls can be limited, fail, or be carried out and their answer lost."""
    slack.faults.rate_limited, slack.faults.retry_after = 1, 7
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel="C0DEPLOY", text="a")
    assert caught.value.response.headers["Retry-After"] == "7"
    slack.faults.server_errors = 1
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel="C0DEPLOY", text="a")
    assert caught.value.response.status_code == 500
    slack.faults.lost_answers = 1
    with pytest.raises(OSError, match=r"."):
        client.chat_postMessage(channel="C0DEPLOY", text="lost")
    assert [message.text for message in slack.messages()] == ["lost"]


def test_traffic_holds_everything_but_tokens(slack: SlackServer, client: WebClient) -> None:
    """Every call is kept with its payload and answer; no token is."""
    client.chat_postMessage(channel="C0DEPLOY", text="a")
    [call] = slack.calls("chat.postMessage")
    assert call.payload == {"channel": "C0DEPLOY", "text": "a"}
    assert call.response["ok"] is True
    assert slack.bot_token not in repr(slack.traffic)
