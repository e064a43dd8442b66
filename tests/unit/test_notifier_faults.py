"""The notifier against a Slack that answers as it is told: what is lost, refused, cut off or nowhere to be said."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from slack_sdk import WebClient

from bot.clock import FakeClock
from bot.runs.database import Database
from bot.runs.outbox import DurableOutbox
from bot.sandbox.slack.server import SlackServer
from bot.slack import notifier as module
from bot.slack.message import Message
from bot.slack.notifier import Notifier

CHANNEL = "C0DEPLOY"
OK = {"ok": True, "ts": "1.000100"}
Json = dict[str, Any]


class ToldSlack:
    """A Web API that gives each call to `answer`, which returns a document, an HTTP status, or bytes to be cut off."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Json]] = []
        self.answer: Callable[[str, Json], Json | int | bytes] = lambda method, given: OK
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                method, given = self.path.rsplit("/", 1)[-1], dict(parse_qsl(body))
                slack.calls.append((method, given))
                told = slack.answer(method, given)
                status = told if isinstance(told, int) else 200
                data = told if isinstance(told, bytes) else json.dumps(told if isinstance(told, dict) else {}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data) + (100 if isinstance(told, bytes) else 0)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

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

    def __init__(self, url: str, outbox: DurableOutbox, token: str = "xoxb-told") -> None:
        self.clock = FakeClock()
        self.notifier = Notifier(WebClient(token=token, base_url=url, retry_handlers=[]), outbox, self.clock)

    def go(self, number: int = 4) -> None:
        """Let it deliver so many times, with more than its longest pause in between."""
        for _ in range(number):
            self.notifier.deliver()
            self.clock.advance(31)


def says(text: str) -> Message:
    """Return a message of one section."""
    return Message(text=text, blocks=({"type": "section", "text": {"type": "plain_text", "text": text}},))


def error(name: str) -> Json:
    """Return Slack's no."""
    return {"ok": False, "error": name}


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
        revived = Rounds(slack.api_url, outbox, slack.bot_token)
        revived.notifier.start()
        assert revived.notifier.flush(5)
        revived.notifier.stop()
        assert [m.text for m in slack.messages()] == ["expired"]


def test_a_message_further_back_than_one_page_is_found(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Others wrote a lot while the bot was dead."""
    ours = {"ts": "0.5", "metadata": {"event_type": module.EVENT, "event_payload": {"key": "r-1:root"}}}

    def answer(method: str, given: Json) -> Json:
        if method != "conversations.history":
            return OK
        if given.get("cursor"):
            return {"ok": True, "messages": [ours]}
        return {"ok": True, "messages": [{"ts": "9"}] * 200, "response_metadata": {"next_cursor": "page2"}}

    told.answer = answer
    outbox.put("r-1:root", CHANNEL, says("once"), final=True)
    rounds = Rounds(told.url, outbox)
    rounds.notifier.start()
    rounds.notifier.flush(5)
    rounds.notifier.stop()
    assert told.of("chat.postMessage") == []
    assert outbox.ts("r-1:root") == "0.5"


def test_an_answer_that_breaks_off_does_not_post_twice(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Slack took the message; half of its answer came."""
    ours = {"ts": OK["ts"], "metadata": {"event_type": module.EVENT, "event_payload": {"key": "r-1:root"}}}

    def answer(method: str, given: Json) -> Json | bytes:
        return {"ok": True, "messages": [ours]} if method == "conversations.history" else b'{"ok":tr'

    told.answer = answer
    outbox.put("r-1:root", CHANNEL, says("once"), final=True)
    rounds = Rounds(told.url, outbox)
    rounds.go(1)
    told.answer = lambda method, given: {"ok": True, "messages": [ours]} if "conversations" in method else OK
    rounds.go(2)
    assert len(told.of("chat.postMessage")) == 1
    assert outbox.ts("r-1:root") == OK["ts"]


def test_without_the_right_to_look_for_it_a_message_is_posted_rather_than_lost(
    told: ToldSlack, outbox: DurableOutbox
) -> None:
    """Direct messages need another scope than channels; twice is better than never."""
    told.answer = lambda method, given: error("missing_scope") if "conversations" in method else OK
    outbox.put("r-1:root", CHANNEL, says("said"), final=True)
    rounds = Rounds(told.url, outbox)
    rounds.notifier.start()
    assert rounds.notifier.flush(5)
    rounds.notifier.stop()
    assert len(told.of("chat.postMessage")) == 1


def test_an_error_that_nobody_foresaw_holds_up_no_other_message(told: ToldSlack, outbox: DurableOutbox) -> None:
    """It is tried a few times, then it is given up; a newer version of it has a new chance."""
    told.answer = lambda method, given: error("invalid_arguments") if "bad" in given["text"] else OK
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


def test_a_message_that_cannot_even_be_sent_holds_up_no_other(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Half of a surrogate pair has no encoding."""
    outbox.put("r-1:root", CHANNEL, Message(text="\ud800"), final=True)
    outbox.put("r-2:root", CHANNEL, says("good"), final=True)
    Rounds(told.url, outbox).go()
    assert outbox.ts("r-2:root") == OK["ts"]
    assert outbox.due(5) == []


@pytest.mark.parametrize("name", ["invalid_blocks", "msg_blocks_too_long"])
def test_where_slack_refuses_the_blocks_the_text_is_said_alone(
    told: ToldSlack, outbox: DurableOutbox, name: str
) -> None:
    """What became of a target is never lost to a rule about blocks."""
    told.answer = lambda method, given: error(name) if given.get("blocks", "[]") != "[]" else OK
    outbox.put("r-1:root", CHANNEL, says("web-01 failed"), final=True)
    Rounds(told.url, outbox).go(1)
    text = told.of("chat.postMessage")[-1]["text"]
    assert text.startswith("web-01 failed")
    assert f"only this text ({name})" in text
    assert outbox.ts("r-1:root") == OK["ts"]


def test_an_outage_is_waited_for_whatever_it_looks_like(told: ToldSlack, outbox: DurableOutbox) -> None:
    """Nobody answers, 503, a proxy's page of HTML, a revoked token: then all is said in its order, once."""
    outbox.put("r-1:root", CHANNEL, says("first"), final=True)
    outbox.put("r-2:root", CHANNEL, says("second"), final=True)
    rounds = Rounds(told.url, outbox)
    for trouble in (503, b"", error("invalid_auth"), error("internal_error")):
        told.answer = lambda method, given, trouble=trouble: trouble
        rounds.go(2)
    assert len(outbox.due(5)) == 2
    told.calls.clear()
    told.answer = lambda method, given: {"ok": True, "messages": []} if "conversations" in method else OK
    rounds.go(1)
    assert [g["text"] for g in told.of("chat.postMessage")] == ["first", "second"]


def test_while_slack_rests_it_is_left_alone(told: ToldSlack, outbox: DurableOutbox) -> None:
    """A pause after an error counts for all messages."""
    told.answer = lambda method, given: error("internal_error")
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
    outbox.put("r-1:root", CHANNEL, says("proposed"))
    rounds = Rounds(told.url, outbox)
    rounds.go(1)
    told.answer = lambda method, given: error("edit_window_closed") if method == "chat.update" else OK
    outbox.put("r-1:root", CHANNEL, says("newer"), final=final)
    rounds.go()
    assert len(told.of("chat.postMessage")) == (2 if final else 1)
    assert outbox.due(5) == []


def test_who_asks_where_the_bot_is_not_is_told_so_directly(outbox: DurableOutbox) -> None:
    """A slash command works in every channel; an answer does not."""
    with SlackServer() as slack:
        Rounds(slack.api_url, outbox, slack.bot_token).notifier.ephemeral("C0BOARD", "U0RITA", says("I look"))
        (told,) = slack.messages("D0RITA")
        assert "I am not in <#C0BOARD>" in told.text
        assert "/invite" in told.text
        assert "I look" in told.content
        assert slack.violations == []


def test_a_whisper_survives_what_a_message_survives(told: ToldSlack, outbox: DurableOutbox) -> None:
    """An answer that breaks off, a deleted thread, refused blocks; then it was heard."""
    troubles = iter([b'{"ok":tr', error("thread_not_found"), OK])
    told.answer = lambda method, given: next(troubles)
    notifier = Rounds(told.url, outbox).notifier
    notifier.ephemeral(CHANNEL, "U0RITA", says("psst"), thread="1.1")
    assert [g.get("thread_ts") for g in told.of("chat.postEphemeral")] == ["1.1", "1.1", None]
    told.calls.clear()
    troubles = iter([error("invalid_blocks"), OK])
    notifier.ephemeral(CHANNEL, "U0RITA", says("psst"))
    assert told.of("chat.postEphemeral")[-1]["text"].startswith("psst")


def test_a_whisper_that_nobody_takes_ends(told: ToldSlack, outbox: DurableOutbox) -> None:
    """A desk's hand must come back."""
    for trouble in (503, b"", error("invalid_auth"), error("cannot_reply_to_message"), error("not_in_channel")):
        told.answer = lambda method, given, trouble=trouble: trouble
        Rounds(told.url, outbox).notifier.ephemeral(CHANNEL, "U0RITA", says("psst"))
    assert len(told.calls) <= 3 * module.WHISPER_TRIES + 3
