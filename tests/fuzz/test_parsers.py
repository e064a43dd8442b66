"""Whatever comes from outside, parsers answer with a value or a sentence; nothing unforeseen is raised."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.certificates import pfx
from bot.domain import commands, selectors
from bot.domain.errors import UserError
from bot.domain.thumbprint import Thumbprint
from bot.octopus import programs
from bot.secrets import Secret
from bot.slack import views
from bot.slack.blocks import spoken
from bot.slack.text import clean, clean_lines, escape
from bot.windows import answers
from bot.windows.errors import RemoteError
from bot.windows.visit import _Reader
from handlers.clicks import click_of, place_of
from handlers.events import addressed
from tests.making import facts, index

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
WORDS = st.sampled_from(["rotate", "plan", "--with", "--accept", "freeze", "web-01", "not:", "“", '"', "`", "<@U1|x>"])
TYPED = st.lists(st.one_of(WORDS, st.text(max_size=30)), max_size=12).map(" ".join) | st.text(max_size=400)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)
FIELDS = "name config service style port state served trusted journal process exe instances time powershell children"
NAMES = st.sampled_from(FIELDS.split())
UNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError, OverflowError, UserError)
"""What `Hands` turns into one sentence about the host, whatever it answered."""


@contextmanager
def sentence() -> Iterator[None]:
    """Let a UserError pass that says something; every other exception fails the test."""
    try:
        yield
    except UserError as error:
        said = str(error)
    else:
        said = "a value"
    assert said


@given(TYPED)
@example("rotate " + "a" * 5000)
@example("\ue000\ue001 <@U1")
def test_commands(text: str) -> None:
    """A command, or a sentence with the usage."""
    with sentence():
        commands.parse(text)


@given(
    st.lists(st.text(max_size=30) | st.sampled_from(["all", "env:*", "not:web-*", "expiring:3d", "sha1"]), max_size=6)
)
def test_selectors(words: list[str]) -> None:
    """Targets, or a sentence."""
    book = index(facts("web-01", 1), facts("web-02", 2))
    with sentence():
        selectors.select(words, book)


@given(st.text(max_size=120))
def test_thumbprints(text: str) -> None:
    """Forty digits, or a sentence."""
    with sentence():
        assert len(Thumbprint(text)) == 40
    assert Thumbprint.maybe(text) is None or len(text) >= 40


@given(st.binary(max_size=600), st.none() | st.text(max_size=12))
@example(b"\x30\x80" * 60, None)
def test_pfx_files(data: bytes, password: str | None) -> None:
    """Bytes that are no PFX are a sentence."""
    with pytest.raises(UserError):
        pfx.open(data, Secret(password) if password is not None else None, name="fuzz", now=NOW)


@given(st.text(max_size=600), st.text(max_size=200), st.integers(-(2**31), 2**31))
def test_what_remote_programs_print(stdout: str, stderr: str, exit_code: int) -> None:
    """Octopus's programs may print anything; so may what stands in their place."""
    for read in (programs.imported, programs.made, programs.shown, programs.switched, programs.trust_updates):
        read(stdout)
    programs.asks_for_restart(stdout)
    programs.mismatch(stdout)
    programs.speaks_against_trust(stdout)
    assert isinstance(programs.decisive_line(stdout, stderr, exit_code), str)


@given(st.lists(st.binary(max_size=80) | JSON.map(lambda v: json.dumps(v).encode() + b"\n"), max_size=8), st.booleans())
def test_lines_of_a_remote_script(pieces: list[bytes], was_cut: bool) -> None:
    """What a host sends on standard output is lines, or one sentence about the host."""
    reader = _Reader("web-01", "facts", None)
    with suppress(RemoteError):
        for piece in pieces:
            reader.take(piece)
        reader.finish(was_cut=was_cut, complaint="")


@given(st.dictionaries(NAMES, JSON, max_size=12))
def test_answers_of_a_host(value: dict) -> None:
    """What is no answer raises only what is turned into a sentence."""
    for read in (answers.instance, answers.server, answers.printed, answers.trusted, answers.state, answers.sighting):
        with suppress(*UNDERSTOOD):
            read(value)
    with suppress(*UNDERSTOOD):
        answers.host(value, "web-01", NOW, NOW)


@given(JSON, JSON)
def test_payloads_of_slack(body: object, view: object) -> None:
    """Buttons and modals with anything missing, or something else in its place."""
    table = body if isinstance(body, dict) else {"user": body, "message": body, "container": view, "channel": view}
    channel, thread = place_of(table)
    about, reason = views.denied(view)
    click = click_of(table, "approve", str(body), key="k", channel=channel, thread=thread, reason=reason)
    assert isinstance(click.asker.user, str)
    assert all(isinstance(v, str) for v in about.values())


@given(st.text(max_size=200), st.none() | st.text(max_size=12))
def test_mentions(text: str, bot: str | None) -> None:
    """A part of the text, or all of it."""
    assert addressed(text, bot) in text


@settings(max_examples=80)
@given(st.text(max_size=3_000))
def test_text_from_outside_is_never_markup(text: str) -> None:
    """No mention, no link and nothing invisible is left in it, and its length has a limit."""
    assert "<" not in escape(text)
    assert len(clean(text)) <= 400 or len(text) > 400
    clean_lines(text)
    assert all(e["type"] in {"text", "user", "channel"} for e in spoken(text))
