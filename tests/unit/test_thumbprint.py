"""Thumbprints: one spelling, whatever was typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain import codec
from bot.domain.errors import UserError
from bot.domain.thumbprint import Thumbprint, revealed

PLAIN = "5DA3F0E2C1B4A5968778695A4B3C2D1E0F102132"


@pytest.mark.parametrize(
    "typed",
    [
        PLAIN,
        PLAIN.lower(),
        "\u200e" + PLAIN.lower(),
        " ".join(PLAIN[i : i + 2] for i in range(0, 40, 2)),
        ":".join(PLAIN[i : i + 2] for i in range(0, 40, 2)),
        f"  {PLAIN}\u00a0",
    ],
)
def test_what_windows_dialogs_and_people_write_is_understood(typed: str) -> None:
    """Spaces, colons, the invisible mark of a copy, small letters: all the same thumbprint."""
    assert Thumbprint(typed) == PLAIN


@pytest.mark.parametrize("typed", ["", "web-01", PLAIN[:-1], PLAIN + "0", "G" * 40, "5" * 64])
def test_what_is_none_is_refused_with_a_sentence(typed: str) -> None:
    """A thumbprint has 40 hexadecimal digits; SHA-256 fingerprints are none."""
    with pytest.raises(UserError, match="is not a thumbprint"):
        Thumbprint(typed)
    assert Thumbprint.maybe(typed) is None


def test_it_is_the_sha1_of_the_der() -> None:
    """As `sha1sum` of the same bytes says."""
    assert Thumbprint.of(b"abc") == "A9993E364706816ABA3E25717850C26C9CD0D89D"


@given(st.text(max_size=120))
def test_no_text_breaks_the_parser(typed: str) -> None:
    """Whatever comes in, a thumbprint or a UserError comes out."""
    found = Thumbprint.maybe(typed)
    assert found is None or len(found) == 40


def test_it_survives_being_stored() -> None:
    """JSON and back keeps type and value."""
    again = codec.load(Thumbprint, codec.dump(Thumbprint(PLAIN)))
    assert again == PLAIN
    assert isinstance(again, Thumbprint)


@pytest.mark.parametrize("stored", [f"\u200e{PLAIN}", f"{PLAIN[:2]} {PLAIN[2:]}", f"{PLAIN}\u00a0", "everybody", ""])
def test_what_octopus_stores_is_compared_by_every_character(stored: str) -> None:
    """It stores what it was given: with a mark or a space it is nobody's thumbprint, whatever people read."""
    assert Thumbprint.exact(stored) is None
    assert Thumbprint.exact(PLAIN.lower()) == PLAIN


def test_what_nobody_would_see_is_shown_by_its_code() -> None:
    """The invisible mark in front of a copy, and a space that is none."""
    assert revealed(f"\u200e{PLAIN}\u00a0") == rf"\u200e{PLAIN}\u00a0"
    assert revealed("a b") == "a b"
