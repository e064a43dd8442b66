"""The notifier under Slack's real limits: what came too soon waits, everything else goes on, and it learns its pace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slack_sdk import WebClient

from bot.clock import FakeClock
from bot.runs.database import Database
from bot.runs.outbox import DurableOutbox
from bot.sandbox.slack.rate_limits import CHANNEL_BURST
from bot.sandbox.slack.server import SlackServer
from bot.slack.message import Message
from bot.slack.notifier import BATCH, Notifier
from bot.slack.pace import POST_SECONDS, SLOW_SECONDS

HERE, THERE = "C0DEPLOY", "C0RANDOM"
ROUND_SECONDS = 0.2


def says(text: str) -> Message:
    """Return a message of one section."""
    return Message(text=text, blocks=({"type": "section", "text": {"type": "plain_text", "text": text}},))


class Office:
    """An outbox, a notifier and a Slack with its limits; time passes by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.slack = SlackServer(clock=self.clock, rate_limits=1.0)
        self.slack.start()
        self._database = Database(f"sqlite:///{folder}/octocert.sqlite")
        self.outbox = DurableOutbox(self._database.engine)
        client = WebClient(token=self.slack.bot_token, base_url=self.slack.api_url, retry_handlers=[])
        self.notifier = Notifier(client, self.outbox, self.clock)

    def close(self) -> None:
        """End it."""
        self.slack.close()
        self._database.close()

    def pass_(self, seconds: float) -> None:
        """Let so many seconds pass, with a round every few moments."""
        for _ in range(round(seconds / ROUND_SECONDS)):
            self.notifier.deliver()
            self.clock.advance(ROUND_SECONDS)

    def ends(self, replies: int) -> None:
        """Have the run say so many replies, and a moment later its end in the root message."""
        for number in range(replies):
            self.outbox.put(f"r-1:{number}", HERE, says(f"r-1 {number}"), parent="r-1:root", final=True)
        self.pass_(ROUND_SECONDS)
        self.outbox.put("r-1:root", HERE, says("r-1 is over"), final=True)

    def texts(self, channel: str = HERE) -> list[str]:
        """Return what stands in a channel, without replies."""
        return [m.text for m in self.slack.messages(channel) if m.thread_ts is None]

    def thread(self, channel: str = HERE) -> list[str]:
        """Return the replies of the first message."""
        return [m.text for m in self.slack.thread(self.slack.messages(channel)[0].ts)[1:]]

    @property
    def refused(self) -> int:
        """How many new messages came too soon."""
        return sum(call.status == 429 for call in self.slack.calls("chat.postMessage"))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Return an office in which one run stands already."""
    made = Office(tmp_path)
    made.outbox.put("r-1:root", HERE, says("r-1"))
    made.pass_(5)
    yield made
    made.close()


def test_the_end_of_a_run_is_shown_though_its_replies_wait(office: Office) -> None:
    """A burst is all that the channel takes; an edit of a message that is there is no new one."""
    office.ends(replies=20)
    office.pass_(ROUND_SECONDS)
    assert office.texts() == ["r-1 is over"]
    assert len(office.thread()) == CHANNEL_BURST


def test_a_channel_that_was_too_fast_goes_on_at_the_pace_that_slack_takes(office: Office) -> None:
    """All are said, in their order, and Slack had to refuse once; after a quiet while a burst is tried again."""
    office.ends(replies=20)
    office.pass_(20 * (POST_SECONDS + ROUND_SECONDS))
    assert office.thread() == [f"r-1 {n}" for n in range(20)]
    assert office.refused == 1
    office.pass_(SLOW_SECONDS)
    for number in range(CHANNEL_BURST):
        office.outbox.put(f"r-{number + 2}:root", HERE, says("planned"))
    office.pass_(ROUND_SECONDS)
    assert office.texts().count("planned") == CHANNEL_BURST
    assert office.refused == 1


def test_a_plan_does_not_wait_for_the_replies_of_another_run(office: Office) -> None:
    """Whoever asks in the same channel gets the next place; another channel does not wait at all."""
    office.ends(replies=2 * BATCH)
    office.pass_(2)
    office.outbox.put("r-2:root", HERE, says("r-2"))
    office.outbox.put("r-3:root", THERE, says("r-3"))
    office.outbox.put("r-3:0", THERE, says("r-3 0"), parent="r-3:root")
    office.pass_(2 * ROUND_SECONDS)
    assert office.texts(THERE) == ["r-3"]
    assert office.thread(THERE) == ["r-3 0"]
    office.pass_(POST_SECONDS + ROUND_SECONDS)
    assert office.texts() == ["r-1 is over", "r-2"]
    assert len(office.thread()) < 2 * BATCH


def test_where_edits_are_refused_new_messages_go_on(office: Office) -> None:
    """Another program of the same app may have used up the edits of a minute; the end is shown when they are back."""
    other = WebClient(token=office.slack.bot_token, base_url=office.slack.api_url)
    root = office.slack.messages(HERE)[0]
    for number in range(50):
        other.chat_update(channel=HERE, ts=root.ts, text=f"{number}")
    office.ends(replies=1)
    office.pass_(1)
    office.outbox.put("r-1:later", HERE, says("later"), parent="r-1:root", final=True)
    office.pass_(5)
    assert office.texts() == ["49"]
    assert office.thread() == ["r-1 0", "later"]
    refused = [c for c in office.slack.calls("chat.update") if c.status == 429]
    assert len(refused) == 1, "it waits as long as it was told"
    office.pass_(60)
    assert office.texts() == ["r-1 is over"]
