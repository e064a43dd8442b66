"""Nothing secret reaches the log, whoever logs it and however it is spelled."""

import base64
import io
import json
import logging
import sys
import threading
from urllib.parse import quote

import pytest
import structlog

from bot import logs
from bot.secrets import Secret

CANARY = 'tükisch <&> "8f3a1b2c" \\ x'
TOKEN = "xoxb-" + "1234-abcdefgh"
API_KEY = "API-" + "ABCDEFGHIJKLMNOPQRSTUV"


pytestmark = pytest.mark.usefixtures("logs_as_before")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def written(stream: io.StringIO) -> list[dict]:
    """Return the JSON lines that were logged."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(level="INFO", kind="json") -> io.StringIO:
    """Log to a stream that the test can read."""
    stream = io.StringIO()
    logs.configure(level, kind, stream)
    return stream


def raised(text: str) -> ValueError:
    """Return an error with a traceback and a cause, as it is caught."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- any text
        raise ValueError(text) from OSError(text)
    return caught.value


def test_a_line_has_time_level_logger_and_what_was_said():
    """One event is one JSON object on one line, with the context of the run."""
    stream = configured()
    with structlog.contextvars.bound_contextvars(run="r-7k2m9q"):
        structlog.get_logger("bot.runs").info("step done", target="web-01", seconds=1.5)
    (line,) = written(stream)
    assert line["timestamp"].endswith("Z")
    assert {k: line[k] for k in ("event", "level", "logger", "run", "target", "seconds")} == {
        "event": "step done",
        "level": "info",
        "logger": "bot.runs",
        "run": "r-7k2m9q",
        "target": "web-01",
        "seconds": 1.5,
    }


@pytest.mark.parametrize(
    ("kind", "stream", "is_json"),
    [("auto", io.StringIO, True), ("auto", Terminal, False), ("json", Terminal, True), ("console", io.StringIO, False)],
    ids=["auto-pipe", "auto-terminal", "json", "console"],
)
def test_people_get_a_console_and_machines_get_json(kind, stream, is_json):
    """A terminal is for people unless the setting says otherwise."""
    out = stream()
    logs.configure("INFO", kind, out)
    structlog.get_logger().info("hello")
    assert out.getvalue().startswith("{") is is_json


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "url_password",
        "bot_token",
        "api_key",
        "ApiKey",
        "X-Octopus-ApiKey",
        "Authorization",
        "client_secret",
        "pfx",
        "private_key",
        "Set-Cookie",
    ],
)
def test_what_stands_under_a_telling_key_is_hidden_at_any_depth(key):
    """Keys that name secrets hide their values in the event, in dicts and in lists."""
    stream = configured()
    structlog.get_logger().info("x", **{key: "v-canary"}, deep=[{"more": {key: "v-canary"}}])
    (line,) = written(stream)
    assert line[key] == line["deep"][0]["more"][key] == logs.MASK
    assert "v-canary" not in stream.getvalue()


def test_counts_and_flags_under_such_keys_are_shown():
    """A number or a yes tells no secret, and helps."""
    stream = configured()
    structlog.get_logger().info("x", token_count=3, has_password=True, password=None, thumbprint="AB" * 20)
    (line,) = written(stream)
    assert (line["token_count"], line["has_password"], line["password"]) == (3, True, None)
    assert line["thumbprint"] == "AB" * 20


@pytest.mark.parametrize(
    "spelled",
    [
        CANARY,
        f"before{CANARY}after",
        json.dumps({"x": CANARY}),
        json.dumps({"x": CANARY}, ensure_ascii=False),
        quote(CANARY, safe=""),
        CANARY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        repr([CANARY]),
        base64.b64encode(CANARY.encode()).decode(),
    ],
    ids=["plain", "inside", "json", "json-unicode", "url", "xml", "repr", "base64"],
)
@pytest.mark.parametrize("kind", ["json", "console"])
def test_a_hidden_value_is_blotted_out_in_every_spelling(kind, spelled):
    """A value that was registered appears nowhere: message, field, nested field, key or exception."""
    logs.hide(CANARY)
    stream = configured(kind=kind)
    log = structlog.get_logger()
    event = f"event {spelled}"
    log.info(event)
    log.info("x", field=spelled, deep={"list": [spelled, (spelled,)]}, **{spelled: 1})
    log.info("x %s", spelled)
    log.info("x", foreign=ValueError(spelled))
    log.error("failed", exc_info=raised(spelled))
    text = stream.getvalue()
    assert "8f3a1b2c" not in text
    assert base64.b64encode(CANARY.encode()).decode() not in text
    assert text.count("[hidden]") >= 8


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        API_KEY,
        "xapp-" + "1-A0-1-abc",
        "postgresql://bot:hunter2@db/octocert",
        "Authorization: Basic aHVudGVyMg==",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2, cut off",
    ],
    ids=["bot-token", "api-key", "app-token", "url", "header", "pem", "cut-pem"],
)
def test_what_looks_like_a_secret_is_hidden_without_being_registered(text):
    """Tokens, keys and passwords in addresses are recognised by their looks."""
    shown = logs.clean(f"before {text} after")
    assert logs.MASK in shown
    for part in ("hunter2", "aHVudGVyMg", "1234-abcdefgh", "ABCDEFGHIJ", "1-A0-1"):
        assert part not in shown


def test_ordinary_words_are_left_alone():
    """What only resembles a secret is shown: a log that hides too much helps nobody."""
    for text in ("Basic authentication is off", "API-keys are asked for", "https://web-01:10933/", "at 12:30 a@b"):
        assert logs.clean(text) == text


def test_very_short_values_are_not_hidden():
    """Blotting out every single letter would hide the log and not the secret."""
    logs.hide("ab")
    assert logs.clean("about") == "about"


def test_a_value_inside_a_longer_one_leaves_no_rest():
    """The longer of two registered values goes as a whole."""
    logs.hide("inner-0815")
    logs.hide("outer-inner-0815-outer")
    assert logs.clean("x outer-inner-0815-outer y inner-0815") == f"x {logs.MASK} y {logs.MASK}"


def test_libraries_may_only_warn_and_are_cleaned_too():
    """Below WARNING libraries print payloads: they stay silent even at DEBUG, and their warnings are cleaned."""
    logs.hide(CANARY)
    stream = configured("DEBUG")
    for name in logs.LIBRARIES:
        logging.getLogger(name).info("payload")
        logging.getLogger(f"{name}.child").debug("payload")
        logging.getLogger(name).warning("about %s", CANARY, extra={"token": "t-canary"})
        logging.getLogger(f"{name}.child").error("failed", exc_info=raised(CANARY))
    lines = written(stream)
    assert [line["logger"] for line in lines] == [n for name in logs.LIBRARIES for n in (name, f"{name}.child")]
    assert "8f3a1b2c" not in stream.getvalue()
    assert "t-canary" not in stream.getvalue()


def test_the_level_holds_for_libraries_as_well():
    """Whoever asks for errors only gets errors only."""
    stream = configured("ERROR")
    logging.getLogger("urllib3").warning("no")
    structlog.get_logger().warning("no")
    structlog.get_logger().error("yes")
    assert [line["event"] for line in written(stream)] == ["yes"]


def test_a_secret_and_bytes_are_never_printed_in_full():
    """A Secret shows itself as such; bytes, which may be a PFX, only as their number."""
    stream = configured()
    structlog.get_logger().info("x", value=Secret("canary"), data=b"canary")
    (line,) = written(stream)
    assert (line["value"], line["data"]) == ("Secret(…)", "[6 bytes]")


def test_a_thread_that_dies_says_so_in_the_log():
    """What ends a thread is logged and cleaned, not printed past the log."""
    logs.hide(CANARY)
    stream = configured()

    def die() -> None:
        raise RuntimeError(CANARY)

    thread = threading.Thread(target=die, name="notifier")
    thread.start()
    thread.join()
    (line,) = written(stream)
    assert (line["event"], line["thread"]) == ("a thread died", "notifier")
    assert "RuntimeError" in line["exception"]
    assert "8f3a1b2c" not in stream.getvalue()


def test_configuring_twice_does_not_double_the_lines():
    """The second configuration replaces the first."""
    configured()
    stream = configured()
    structlog.get_logger().info("once")
    logging.getLogger("dbos").warning("once")
    assert len(written(stream)) == 2
    assert sys.stderr not in [getattr(h, "stream", None) for h in logging.getLogger().handlers]
