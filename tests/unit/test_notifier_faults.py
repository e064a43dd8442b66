"""The notifier against a Slack that answers as it is told: what is lost, refused, cut off or nowhere to be said."""

import json
import threading
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from slack_sdk import WebClient

from bot.clock import FakeClock, SystemClock
from bot.runs.database import Database
from bot.runs.outbox import DurableOutbox
from bot.sandbox.slack.server import SlackServer
from bot.slack import notifier as module
from bot.slack.message import Message
from bot.slack.notifier import Notifier, Outbox, Post

CHANNEL = "C0DEPLOY"
OK = {"ok": True, "ts": "1.000100"}
BROKEN_OFF = b'{"ok":tr'
Json = dict[str, Any]


class ToldSlack:
    """A Web API whose answers are told to it.

    `tell` takes the answer by the method's name, `others` for the rest: a document, an HTTP status, bytes after which
    the connection breaks off, or a list of these, used up one by one.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Json]] = []
        self._answers: dict[str, Any] = {}
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                is_json = (self.headers.get("Content-Type") or "").startswith("application/json")
                given: Json = json.loads(body) if is_json else dict(parse_qsl(body))
                told = slack.answer(self.path.rsplit("/", 1)[-1], given)
                data = told if isinstance(told, bytes) else json.dumps(told if isinstance(told, dict) else {}).encode()
                self.send_response(told if isinstance(told, int) else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data) + (100 if isinstance(told, bytes) else 0)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def tell(self, **answers: Any) -> None:
        """Say what is answered from now on; dots of a method's name are written as `_`, all others are `others`."""
        self._answers = answers

    def answer(self, method: str, given: Json) -> Any:
        """Keep a call and return its answer."""
        self.calls.append((method, given))
        told = self._answers.get(method.replace(".", "_"), self._answers.get("others", OK))
        if isinstance(told, list):
            told = told.pop(0)
        return told(given) if callable(told) else told

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def of(self, method: str) -> list[Json]:
        """Return what was given to the calls of one method."""
        return [given for name, given in self.calls if name == method]


@pytest.fixture
def told() -> Iterator[ToldSlack]:
    """Return a Slack that says yes to everything until it is told otherwise."""
    slack = ToldSlack()
    yield slack
    slack.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[DurableOutbox]:
    """Return an empty outbox."""
    with Database(f"sqlite:///{tmp_path}/octocert.sqlite") as database:
        yield DurableOutbox(database.engine)


class Rounds:
    """A notifier that is driven by hand, with a clock that is moved by hand."""

    def __init__(self, url: str, outbox: Outbox, token: str = "xoxb-told") -> None:
        self.clock = FakeClock()
        self.notifier = Notifier(WebClient(token=token, base_url=url, retry_handlers=[]), outbox, self.clock)

    def go(self, number: int = 4) -> None:
        """Let it deliver so many times, with more than its longest pause in between."""
        for _ in range(number):
            self.notifier.deliver()
            self.clock.advance(31)


def revive(url: str, outbox: DurableOutbox, token: str = "xoxb-told") -> None:
    """Start a bot anew, let it say what is due, and stop it."""
    notifier = Notifier(WebClient(token=token, base_url=url, retry_handlers=[]), outbox, SystemClock())
    notifier.start()
    try:
        assert notifier.flush(5)
    finally:
        notifier.stop()


def says(text: str) -> Message:
    """Return a message of one section."""
    return Message(text=text, blocks=({"type": "section", "text": {"type": "plain_text", "text": text}},))


def error(name: str) -> Json:
    """Return Slack's no."""
    return {"ok": False, "error": name}


def found(*keys: str) -> Json:
    """Return a page of a channel's history in which our messages of these keys stand."""
    ours = [{"ts": OK["ts"], "metadata": {"event_type": module.EVENT, "event_payload": {"key": key}}} for key in keys]
    return {"ok": True, "messages": [{"ts": "9.9"}, *ours]}


def test_a_message_found_after_a_crash_is_brought_up_to_date(outbox: DurableOutbox) -> None:
    """The dead bot had posted the plan and not noted it; meanwhile it expired: the old buttons must not stay."""
    with SlackServer() as slack:
        outbox.put("r-1:root", CHANNEL, says("proposed"))
        (post,) = outbox.due(1)
        WebClient(token=slack.bot_token, base_url=slack.api_url).chat_postMessage(
            channel=CHANNEL,
            text="proposed",
            metadata={"event_type": module.EVENT, "event_payload": {"key": post.key}},
        )
        outbox.put("r-1:root", CHANNEL, says("expired"), final=True)
        revive(slack.api_url, outbox, slack.bot_token)
        assert [m.text for m in slack.messages()] == ["expired"]


def test_a_message_further_back_than_one_page_is_found(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Others wrote a lot while the bot was dead."""
    first = {"ok": True, "messages": [{"ts": "9.9"}] * 200, "response_metadata": {"next_cursor": "page2"}}
    told.tell(conversations_history=[first, found("r-1:root")])
    outbox.put("r-1:root", CHANNEL, says("once"), final=True)
    revive(told.url, outbox)
    assert told.of("conversations.history")[1]["cursor"] == "page2"
    assert told.of("chat.postMessage") == []
    assert outbox.ts("r-1:root") == OK["ts"]


def test_an_answer_that_breaks_off_does_not_post_twice(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Slack took the message; half of its answer came."""
    told.tell(chat_postMessage=BROKEN_OFF, conversations_history=found("r-1:root"))
    outbox.put("r-1:root", CHANNEL, says("once"), final=True)
    Rounds(told.url, outbox).go(2)
    assert len(told.of("chat.postMessage")) == 1
    assert outbox.ts("r-1:root") == OK["ts"]


def test_without_the_right_to_look_for_it_a_message_is_posted_rather_than_lost(
    told: ToldSlack, outbox: DurableOutbox
) -> None:
    """Direct messages need another scope than channels; twice is better than never."""
    told.tell(conversations_history=error("missing_scope"))
    outbox.put("r-1:root", CHANNEL, says("said"), final=True)
    revive(told.url, outbox)
    assert len(told.of("chat.postMessage")) == 1


def test_an_error_that_nobody_foresaw_holds_up_no_other_message(told: ToldSlack, outbox: DurableOutbox) -> None:
    """It is tried a few times, then it is given up; a newer version of it has a new chance."""
    told.tell(chat_postMessage=lambda given: error("invalid_arguments") if given["text"] == "bad" else OK)
    outbox.put("r-1:root", CHANNEL, says("bad"))
    outbox.put("r-2:root", CHANNEL, says("good"), final=True)
    rounds = Rounds(told.url, outbox)
    rounds.go(1)
    assert outbox.ts("r-2:root") == OK["ts"]
    rounds.go(5)
    assert [g["text"] for g in told.of("chat.postMessage")].count("bad") == module.POST_TRIES
    assert outbox.due(5) == []
    outbox.put("r-1:root", CHANNEL, says("better"), final=True)
    rounds.go(1)
    assert outbox.ts("r-1:root") == OK["ts"]


class Handful:
    """An outbox of a few messages, in memory, which a database would not even take."""

    def __init__(self, *texts: str) -> None:
        self.posts = {
            text: Post(
                key=text,
                channel=CHANNEL,
                thread_ts=None,
                version=1,
                message=Message(text),
                ts=None,
                final=True,
                rich=None,
            )
            for text in texts
        }
        self.said: list[str] = []
        self.given_up: list[str] = []

    def due(self, limit: int, shut: Collection[str] = ()) -> list[Post]:
        """Return what is left."""
        return list(self.posts.values())[:limit]

    def sent(self, key: str, version: int, ts: str) -> None:
        """Take one off as said."""
        self.said.append(self.posts.pop(key).key)

    def refused(self, key: str, version: int, error: str) -> None:
        """Take one off as given up."""
        self.given_up.append(self.posts.pop(key).key)


def test_a_message_that_cannot_even_be_sent_holds_up_no_other(told: ToldSlack) -> None:
    """Half of a surrogate pair has no encoding; a bug of ours may be worse."""
    outbox = Handful("\ud800", "good")
    told.tell(conversations_history=found())
    Rounds(told.url, outbox).go(6)
    assert "good" in outbox.said
    assert outbox.posts == {}


@pytest.mark.parametrize("name", ["invalid_blocks", "msg_blocks_too_long"])
def test_where_slack_refuses_the_blocks_the_text_is_said_alone(
    told: ToldSlack, outbox: DurableOutbox, name: str
) -> None:
    """What became of a target is never lost to a rule about blocks."""
    told.tell(chat_postMessage=lambda given: error(name) if given.get("blocks") else OK)
    outbox.put("r-1:root", CHANNEL, says("web-01 failed"), final=True)
    Rounds(told.url, outbox).go(1)
    text = told.of("chat.postMessage")[-1]["text"]
    assert text.startswith("web-01 failed")
    assert f"only this text ({name})" in text
    assert outbox.ts("r-1:root") == OK["ts"]


def test_an_outage_is_waited_for_whatever_it_looks_like(told: ToldSlack, outbox: DurableOutbox) -> None:
    """503, an answer that breaks off, a revoked token, Slack's own trouble: then all is said in its order, once."""
    outbox.put("r-1:root", CHANNEL, says("first"), final=True)
    outbox.put("r-2:root", CHANNEL, says("second"), final=True)
    rounds = Rounds(told.url, outbox)
    for trouble in (503, BROKEN_OFF, error("invalid_auth"), error("internal_error")):
        told.tell(others=trouble)
        rounds.go(2)
    assert len(outbox.due(5)) == 2
    told.calls.clear()
    told.tell(conversations_history=found())
    rounds.go(1)
    assert [g["text"] for g in told.of("chat.postMessage")] == ["first", "second"]


def test_a_slack_that_cannot_be_reached_is_waited_for(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Nothing listens there; the notifier goes on trying and nothing is given up."""
    told.close()
    outbox.put("r-1:root", CHANNEL, says("patience"), final=True)
    Rounds(told.url, outbox).go(6)
    assert [p.key for p in outbox.due(5)] == ["r-1:root"]


def test_while_slack_rests_it_is_left_alone(told: ToldSlack, outbox: DurableOutbox) -> None:
    """A pause after an error counts for all messages."""
    told.tell(others=error("internal_error"))
    outbox.put("r-1:root", CHANNEL, says("first"), final=True)
    outbox.put("r-2:root", CHANNEL, says("second"), final=True)
    rounds = Rounds(told.url, outbox)
    for _ in range(5):
        rounds.notifier.deliver()
    assert len(told.calls) == 1


def test_an_answer_into_a_deleted_thread_is_given_in_the_channel(outbox: DurableOutbox) -> None:
    """Somebody asked in a thread and deleted it before the answer came."""
    with SlackServer() as slack:
        outbox.put("q", CHANNEL, says("answer"), thread_ts="1234567890.000100", final=True)
        Rounds(slack.api_url, outbox, slack.bot_token).go(1)
        assert [m.text for m in slack.messages()] == ["answer"]


@pytest.mark.parametrize("final", [False, True])
def test_where_a_workspace_forbids_edits_the_end_is_posted_anew(
    told: ToldSlack, outbox: DurableOutbox, final: bool
) -> None:
    """Every step would be too much; how it ended must be seen."""
    told.tell(chat_update=error("edit_window_closed"))
    outbox.put("r-1:root", CHANNEL, says("proposed"))
    rounds = Rounds(told.url, outbox)
    rounds.go(1)
    outbox.put("r-1:root", CHANNEL, says("newer"), final=final)
    rounds.go()
    assert len(told.of("chat.postMessage")) == (2 if final else 1)
    assert outbox.due(5) == []


def test_who_asks_where_the_bot_is_not_is_told_so_directly(outbox: DurableOutbox) -> None:
    """A slash command works in every channel; an answer does not."""
    with SlackServer() as slack:
        Rounds(slack.api_url, outbox, slack.bot_token).notifier.ephemeral("C0BOARD", "U0RITA", says("I look"))
        (heard,) = slack.messages("D0RITA")
        assert "I am not in <#C0BOARD>" in heard.text
        assert "/invite" in heard.text
        assert "I look" in heard.content
        assert slack.violations == []


def test_a_whisper_survives_what_a_message_survives(told: ToldSlack, outbox: DurableOutbox) -> None:
    """An answer that breaks off, a deleted thread, refused blocks; then it is heard."""
    told.tell(chat_postEphemeral=[BROKEN_OFF, error("thread_not_found"), OK])
    notifier = Rounds(told.url, outbox).notifier
    notifier.ephemeral(CHANNEL, "U0RITA", says("psst"), thread="1.1")
    assert [g.get("thread_ts") for g in told.of("chat.postEphemeral")] == ["1.1", "1.1", None]
    told.tell(chat_postEphemeral=[error("invalid_blocks"), OK])
    notifier.ephemeral(CHANNEL, "U0RITA", says("psst"))
    heard = told.of("chat.postEphemeral")[-1]
    assert heard["text"].startswith("psst")
    assert not heard.get("blocks")


@pytest.mark.parametrize("trouble", [503, b"{", "invalid_auth", "cannot_reply_to_message", "not_in_channel"])
def test_a_whisper_that_nobody_takes_ends(told: ToldSlack, outbox: DurableOutbox, trouble: int | bytes | str) -> None:
    """A desk's hand must come back."""
    told.tell(others=error(trouble) if isinstance(trouble, str) else trouble)
    Rounds(told.url, outbox).notifier.ephemeral(CHANNEL, "U0RITA", says("psst"))
    assert 1 <= len(told.calls) <= module.WHISPER_TRIES
