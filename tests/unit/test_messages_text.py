"""Text from outside: it stands there as it is, does nothing, hides nothing and is never too long."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sandbox.slack.validator import check_message
from bot.slack import blocks, text
from bot.slack.message import Message
from bot.slack.text import JOINER

NOISE = st.text(st.one_of(st.characters(), st.sampled_from("*_~`<>&@!#:|\u202e\u200b\n\t")), max_size=400)


@given(NOISE, st.integers(1, 500))
def test_clean_text_is_one_visible_line_within_its_limit(noise, limit):
    """No control characters, none that turn text around, nothing but what a reader sees."""
    found = text.clean(noise, limit)
    assert 0 < len(found) <= limit
    assert found.isprintable() or "\u200d" in found or "\u200c" in found or "\u00a0" not in found
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]", found)


@given(NOISE)
def test_escaped_text_holds_nothing_that_slack_understands(noise):
    """No angle brackets, so no mention and no link; no marks that open or close emphasis; no emoji."""
    found = text.escape(noise)
    assert "<" not in found
    assert ">" not in found
    assert not re.search(r"&(?!(amp|lt|gt);)", found)
    assert not re.search(r"(^|[^A-Za-z0-9\u2060])[*_~`]", found)
    assert not re.search(r":[a-z0-9_+-]+:", found)


def test_ordinary_names_are_left_alone():
    """Nobody should find an invisible mark in a name that was copied."""
    for name in ("web-01", "Web_Server_1", "a*b", "C:\\Octopus", "https://web-01:10933/", "12:30:15 and on"):
        assert JOINER not in text.escape(name) or name == "12:30:15 and on"
    assert text.clean("Ω-сервер 01") == "Ω-сервер 01"


@pytest.mark.parametrize(
    ("long", "limit", "short"),
    [
        ("abc", 3, "abc"),
        ("a" * 30, 20, "a" * 9 + "… (21 more)"),
        ("a" * 30, 5, "aaaa…"),
        ("", 5, ""),
    ],
)
def test_what_is_cut_off_is_counted(long, limit, short):
    """“… (N more)”."""
    assert text.cut(long, limit) == short


@given(st.text(max_size=300), st.integers(1, 200))
def test_a_cut_text_fits_and_its_count_is_right(long, limit):
    """What is shown and what is counted are the whole."""
    found = text.cut(long, limit)
    assert len(found) <= limit
    counted = re.search(r"… \((\d+) more\)$", found)
    if counted and found != long:
        assert 0 < int(counted[1]) <= len(long)


@given(NOISE, st.integers(30, 2_000), st.integers(1, 20))
def test_printed_output_keeps_its_last_lines(noise, limit, most):
    """Errors stand at the end of what a program prints."""
    found = text.clean_lines(noise, limit, most)
    assert 0 < len(found) <= limit
    assert len(found.split("\n")) <= most + 1
    assert text.clean_lines("\n".join(map(str, range(30))), most=2) == "… (28 more lines before)\n28\n29"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (-3, "0 s"), (42.3, "42 s"), (89, "89 s"), (100, "2 min"), (3_600, "60 min"), (7_500, "2 h 5 min")],
)
def test_durations_are_said_as_people_say_them(seconds, words):
    """Seconds, minutes, hours."""
    assert text.duration(seconds) == words


def test_a_time_is_shown_in_each_readers_zone_and_has_a_fallback():
    """Slack's date token, with UTC for those who cannot show it."""
    at = datetime(2026, 1, 5, 10, 30, tzinfo=timezone(timedelta(hours=1)))
    assert text.moment(at, "{time}") == f"<!date^{int(at.timestamp())}^{{time}}|2026-01-05 09:30 UTC>"
    assert blocks.when(datetime(2026, 1, 5, tzinfo=UTC))["fallback"] == "2026-01-05 00:00 UTC"


@pytest.mark.parametrize(
    ("phrase", "words"),
    [("it failed", "It failed."), ("Why?", "Why?"), ("“quoted.”", "“quoted.”"), ("a (b)", "A (b)."), (" ", "")],
)
def test_phrases_become_sentences(phrase, words):
    """A large letter in front, a full stop at the end, once."""
    assert text.sentence(phrase) == words


def test_names_are_listed_with_and_and_with_their_number():
    """As in a sentence."""
    assert text.listed(["a"]) == "a"
    assert text.listed(["a", "b", "c"]) == "a, b and c"
    assert text.listed(list("abcdefgh"), 3) == "a, b, c … (5 more)"
    assert text.listed([]) == ""


@given(NOISE)
def test_a_spoken_sentence_mentions_only_whom_it_may(noise):
    """Code is code; a mention counts only for the people who are given."""
    sentence = f"{noise} `cancel` <@U0ADA> <@U0EVIL> <!here> {noise}"
    elements = blocks.spoken(sentence, people={"U0ADA"})
    assert {e["user_id"] for e in elements if e["type"] == "user"} <= {"U0ADA"}
    assert {e["type"] for e in elements} <= {"text", "user"}
    message = blocks.message("x", [blocks.rich(blocks.line(*elements))])
    assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []


@pytest.mark.parametrize(
    "url",
    ["", "poll://abc/", "javascript:alert(1)", "https://", "https://[::1", "http://a b/", "ftp://x/", "x" * 4_000],
)
def test_only_addresses_for_a_browser_become_links(url):
    """The name stands there anyway."""
    assert blocks.link(url, "web-01") == {"type": "text", "text": "web-01"}


def test_a_message_that_is_too_long_keeps_its_head_and_its_buttons():
    """And says how much it left out."""
    press = blocks.button("Approve", "approve", "v")
    parts = [blocks.rich(blocks.line(blocks.say("x" * 1_000))) for _ in range(60)]
    found = blocks.message("t", [blocks.header("Head"), *parts, blocks.actions(press), blocks.context("foot")])
    assert len(found.blocks) <= blocks.MOST_BLOCKS
    assert blocks.characters(found.blocks) <= blocks.BUDGET
    assert [b["type"] for b in (found.blocks[0], *found.blocks[-2:])] == ["header", "actions", "context"]
    assert "more parts do not fit" in str(found.blocks[-3])


def test_the_most_detailed_version_that_fits_is_taken():
    """A shorter one where it does not; the last one in any case."""

    def of(length: int):
        return lambda: [blocks.rich(blocks.line(blocks.say("x" * length)))]

    def size(found: Message) -> int:
        return len(found.blocks[0]["elements"][0]["elements"][0]["text"])

    assert size(blocks.first_fitting("t", [of(50), of(5)])) == 50
    assert size(blocks.first_fitting("t", [of(50_000), of(500), of(5)])) == 500
