"""The notifier against the sandbox's Slack: nothing lost, nothing twice, few edits, ends at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slack_sdk import WebClient

from bot.clock import SystemClock
from bot.runs.database import Database
from bot.runs.outbox import DurableOutbox
from bot.sandbox.slack.server import SlackServer
from bot.slack import notifier as module
from bot.slack.message import Message
from bot.slack.notifier import Notifier
from bot.slack.pace import EDIT_SECONDS


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    """Return a Slack without rate limits."""
    with SlackServer() as server:
        yield server


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[DurableOutbox]:
    """Return an empty outbox."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as database:
        yield DurableOutbox(database.engine)


def new_notifier(slack: SlackServer, outbox: DurableOutbox) -> Notifier:
    """Return a notifier that was not started yet."""
    client = WebClient(token=slack.bot_token, base_url=slack.api_url, retry_handlers=[])
    return Notifier(client, outbox, SystemClock())


@pytest.fixture
def notifier(slack: SlackServer, outbox: DurableOutbox) -> Iterator[Notifier]:
    """Return a notifier at work."""
    made = new_notifier(slack, outbox)
    made.start()
    yield made
    made.stop()


def says(text: str) -> Message:
    """Return a message of one section."""
    return Message(text=text, blocks=({"type": "section", "text": {"type": "plain_text", "text": text}},))


def texts(slack: SlackServer) -> list[str]:
    """Return what stands in the channel."""
    return [m.text for m in slack.messages()]


CHANNEL = "C0DEPLOY"


def test_a_message_is_posted_and_then_edited_in_place(
    slack: SlackServer, outbox: DurableOutbox, notifier: Notifier
) -> None:
    """Two versions, one message."""
    outbox.put("r-1:root", CHANNEL, says("planned"))
    assert notifier.flush(5)
    outbox.put("r-1:root", CHANNEL, says("done"), final=True)
    assert notifier.flush(5)
    assert texts(slack) == ["done"]


def test_replies_wait_for_their_root_and_keep_their_order(
    slack: SlackServer, outbox: DurableOutbox, notifier: Notifier
) -> None:
    """They stand in its thread."""
    outbox.put("r-1:root", CHANNEL, says("root"))
    for n in range(3):
        outbox.put(f"r-1:{n}", CHANNEL, says(f"reply {n}"), parent="r-1:root", final=True)
    assert notifier.flush(5)
    root = slack.messages()[0]
    assert [m.text for m in slack.thread(root.ts)] == ["root", "reply 0", "reply 1", "reply 2"]


def test_many_versions_cost_few_edits_and_the_end_comes_at_once(
    slack: SlackServer, outbox: DurableOutbox, notifier: Notifier
) -> None:
    """Fifty changes within a second: one post and at most three edits, and what stands there is the last."""
    for n in range(50):
        outbox.put("r-1:root", CHANNEL, says(f"step {n}"))
        notifier.wake()
    outbox.put("r-1:root", CHANNEL, says("over"), final=True)
    assert notifier.flush(EDIT_SECONDS)
    assert texts(slack) == ["over"]
    assert len(slack.calls("chat.update")) <= 3


def test_an_equal_version_costs_nothing(slack: SlackServer, outbox: DurableOutbox, notifier: Notifier) -> None:
    """A repeated step puts the same message again."""
    for _ in range(3):
        outbox.put("r-1:root", CHANNEL, says("same"), final=True)
        assert notifier.flush(5)
    assert slack.calls("chat.update") == []


def test_429_and_500_are_waited_for(slack: SlackServer, outbox: DurableOutbox, notifier: Notifier) -> None:
    """Nothing is lost and nothing stands there twice."""
    slack.faults.rate_limited = 1
    slack.faults.server_errors = 1
    outbox.put("r-1:root", CHANNEL, says("patience"), final=True)
    assert notifier.flush(10)
    assert texts(slack) == ["patience"]


def test_an_answer_that_was_lost_does_not_post_twice(
    slack: SlackServer, outbox: DurableOutbox, notifier: Notifier
) -> None:
    """Slack took the message, the answer never came: it is found by its metadata."""
    slack.faults.lost_answers = 1
    outbox.put("r-1:root", CHANNEL, says("once"), final=True)
    assert notifier.flush(10)
    assert texts(slack) == ["once"]


def test_a_crash_between_post_and_note_does_not_post_twice(slack: SlackServer, outbox: DurableOutbox) -> None:
    """A new bot finds the message of the dead one."""
    outbox.put("r-1:root", CHANNEL, says("before the crash"), final=True)
    (post,) = outbox.due(1)
    dead = WebClient(token=slack.bot_token, base_url=slack.api_url)
    dead.chat_postMessage(
        channel=CHANNEL,
        text=post.message.text,
        blocks=list(post.message.blocks),
        metadata={"event_type": module.EVENT, "event_payload": {"key": post.key}},
    )
    revived = new_notifier(slack, outbox)
    revived.start()
    try:
        assert revived.flush(5)
    finally:
        revived.stop()
    assert texts(slack) == ["before the crash"]


def test_what_slack_has_is_not_said_again_while_nobody_can_write_that_down(slack: SlackServer, tmp_path: Path) -> None:
    """The database takes no note for a while, as on a full disk; after it the next message follows, in order."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as database:
        outbox = DurableOutbox(database.engine)
        with database.engine.begin() as connection:
            connection.exec_driver_sql(
                "create trigger full before update of sent on octocert_posts begin select raise(abort, 'full'); end"
            )
        outbox.put("r-1:root", CHANNEL, says("once"), final=True)
        outbox.put("r-2:root", CHANNEL, says("afterwards"), final=True)
        notifier = new_notifier(slack, outbox)
        notifier.start()
        try:
            assert not notifier.flush(2.5), "several rounds go by"
            assert texts(slack) == ["once"]
            with database.engine.begin() as connection:
                connection.exec_driver_sql("drop trigger full")
            assert notifier.flush(10)
        finally:
            notifier.stop()
        assert texts(slack) == ["once", "afterwards"]


def test_a_workspace_without_the_newer_blocks_gets_plain_ones(
    slack: SlackServer, outbox: DurableOutbox, notifier: Notifier
) -> None:
    """Refused once, remembered."""
    slack.faults.reject_blocks = {"markdown"}
    rich = Message(text="rich", blocks=({"type": "markdown", "text": "*rich*"},))
    outbox.put("r-1:root", CHANNEL, says("plain 1"), rich=rich)
    assert notifier.flush(5)
    outbox.put("r-2:root", CHANNEL, says("plain 2"), rich=rich)
    assert notifier.flush(5)
    assert texts(slack) == ["plain 1", "plain 2"]
    refused = [c for c in slack.calls("chat.postMessage") if c.response.get("error") == "invalid_blocks"]
    assert len(refused) == 1


def test_a_message_that_slack_never_takes_does_not_hold_up_the_others(
    slack: SlackServer, outbox: DurableOutbox, notifier: Notifier
) -> None:
    """A channel that the bot is not in: refused, logged, and the next one goes out."""
    outbox.put("r-1:root", "C0BOARD", says("nobody hears"), final=True)
    outbox.put("r-2:root", CHANNEL, says("heard"), final=True)
    assert notifier.flush(5)
    assert texts(slack) == ["heard"]


def test_a_deleted_root_is_posted_anew(slack: SlackServer, outbox: DurableOutbox, notifier: Notifier) -> None:
    """Somebody removed it; its next version stands there again."""
    outbox.put("r-1:root", CHANNEL, says("first"))
    assert notifier.flush(5)
    ts = slack.messages()[0].ts
    WebClient(token=slack.bot_token, base_url=slack.api_url).chat_delete(channel=CHANNEL, ts=ts)
    outbox.put("r-1:root", CHANNEL, says("second"), final=True)
    assert notifier.flush(5)
    assert texts(slack) == ["second"]
