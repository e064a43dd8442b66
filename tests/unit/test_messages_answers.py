"""Answers to questions: thumbprints, health, help, status, history, and what went wrong."""

from datetime import timedelta

import pytest

from bot.audit import Entry, Recorded
from bot.domain.errors import UserError
from bot.domain.facts import Health, Sighting, Style
from bot.domain.plan import Source
from bot.octopus.tasks import HealthReport
from bot.sandbox.slack.validator import BLOCKS_TOTAL, blocks_length, check_message
from bot.slack import messages
from tests import making
from tests.making import NOW, certificate, facts, instance, plan, polling, record, thumbprint
from tests.runs import HOSTILE, assert_valid, buttons, mentioned, run_of, shown

# --- witnesses ------------------------------------------------------------------------------------------------------


def looked(**changes) -> str:
    """Return what `show-thumbprint` says of a target with some differences."""
    message = messages.thumbprints([facts(**changes)], now=NOW)
    assert_valid(message)
    return shown(message)


def served_as(seed: int) -> tuple[Sighting, ...]:
    """Return the bot's sighting of a certificate."""
    return (Sighting(place="bot", address="web-01:10933", thumbprint=thumbprint(seed), certificate=certificate(seed)),)


def test_three_witnesses_that_agree_are_said_to():
    """Configured, served, recorded; the trust; the certificate."""
    text = looked(sightings=served_as(1))
    for words in (
        "All witnesses agree",
        f"Configured on WEB-01\n{thumbprint(1)}",
        f"Served to the bot and the host itself\n{thumbprint(1)}",
        f"Recorded as web-01 in Default\n{thumbprint(1)}",
        "it trusts the Server's current certificate",
        "CN=web-01",
        "CN=Example CA",
        "RSA 2048 bits, signed with sha256",
        "365 days left",
    ):
        assert words in text


def test_a_pending_restart_is_recognised():
    """Configured differs from what is served; after a restart Octopus would refuse it."""
    own = Sighting(place="host", address="127.0.0.1:10933", thumbprint=thumbprint(1))
    text = looked(instance=instance(2, served=own))
    assert "A restart is pending" in text
    assert "After its restart Octopus will refuse it" in text


def test_a_wrong_record_is_recognised():
    """Octopus records another thumbprint: it will refuse the Tentacle."""
    text = looked(records=(record(seed=5),))
    assert "Octopus refuses it, because it records another thumbprint (web-01 in Default)" in text
    assert thumbprint(5) in text
    assert "Correct the thumbprint in Octopus" in text


def test_two_places_that_see_different_certificates_are_recognised():
    """Something stands between, or it restarts just now."""
    assert "Different places see different certificates" in looked(sightings=served_as(3))


def test_what_could_not_be_seen_is_said():
    """An unreachable host and a closed port: which witness is missing, and why."""
    text = looked(
        instance=None,
        host=None,
        host_error="lost-01:5986 did not answer",
        sightings=(Sighting(place="bot", address="lost-01:10933", thumbprint=None, error="timed out"),),
    )
    assert "Too few witnesses" in text
    assert "lost-01:5986 did not answer" in text
    assert "not seen by the bot at lost-01:10933: Timed out." in text


def test_what_agrees_without_the_host_is_not_called_whole():
    """Served and recorded are the same, and nobody saw the configuration: that is less than three witnesses."""
    text = looked(instance=None, host=None, host_error="lost-01:5986 did not answer")
    assert "All witnesses agree" not in text
    assert "its host was not seen" in text


def test_a_polling_tentacle_has_no_handshake_to_look_at():
    """That is said and not taken for a fault."""
    text = shown(messages.thumbprints([polling()], now=NOW))
    assert "All witnesses agree" in text
    assert "it polls" in text


def test_a_tentacle_that_does_not_trust_the_server_is_recognised():
    """And one that trusts another Server too."""
    other = making.Trust(text="8F" * 20, style=Style.LISTENING)
    text = looked(instance=instance(trusted=(other,)))
    assert "it does not trust the Server's current certificate" in text
    assert "8F" * 20 in text


def test_a_trust_that_only_looks_like_the_servers_lets_nobody_in():
    """The invisible mark of a copy stands in the list: people are shown it, and that it matches nothing."""
    marked = making.Trust(text=f"\u200e{making.SERVER}", style=Style.LISTENING)
    text = looked(instance=instance(trusted=(marked,)))
    assert "it does not trust the Server's current certificate" in text
    assert rf"\u200e{making.SERVER}" in text
    assert "another Server" not in text


def test_a_record_that_is_not_written_as_octopus_compares_it_is_recognised():
    """All see the same thumbprint, and Octopus refuses it all the same."""
    odd = record(stored=f"\u200e{thumbprint(1)}")
    text = looked(records=(odd,), sightings=served_as(1))
    assert "in 40 capital digits and nothing else" in text
    assert rf"\u200e{thumbprint(1)}" in text
    assert "Correct the thumbprint in Octopus" in text


def test_a_weak_old_or_expired_certificate_is_marked():
    """SHA-1, short key, expired."""
    old = certificate(1, signature_hash="sha1", key_bits=1024, not_after=NOW - timedelta(days=3))
    sighting = Sighting(place="bot", address="web-01:10933", thumbprint=thumbprint(1), certificate=old)
    text = looked(sightings=(sighting,))
    for words in ("SHA-1", "too short", "expired 3 days ago", "Replace it now"):
        assert words in text


def test_a_failed_health_check_shows_both_thumbprints_and_the_error_lines():
    """The one that was expected and the one that was presented."""
    said = (
        f"The server at https://web-01:10933/ presented an unexpected security certificate. "
        f"We expected the server to present a certificate with the thumbprint '{thumbprint(1)}'. "
        f"Instead, the server presented a certificate with a thumbprint of '{thumbprint(2)}'."
    )
    report = HealthReport(
        name="web-01", record=record(), health=Health.UNAVAILABLE, summary="No connection.", errors=(said,)
    )
    text = shown(messages.health_result([report]))
    assert "0 of 1 record healthy" in text
    assert "Unavailable" in text
    assert thumbprint(1) in text
    assert thumbprint(2) in text


@pytest.mark.parametrize("state", ["Queued", "Executing", "Canceled", "TimedOut", "?"])
def test_a_health_task_that_did_not_end_proves_nothing(state):
    """The health that is shown is an older one, and that is said."""
    report = HealthReport(
        name="web-01", record=record(), health=Health.HEALTHY, summary="", errors=(), task_state=state
    )
    message = messages.health_result([report])
    assert_valid(message)
    assert f"not done ({state}), so this is what Octopus knew before" in shown(message)


# --- short answers --------------------------------------------------------------------------------------------------


def test_help_shows_what_the_asker_may_use():
    """Someone who may only look sees no commands that change anything."""
    assert "rotate TARGET…" in shown(messages.help_text(None, may_change=True))
    watcher = shown(messages.help_text(None, may_change=False))
    assert "rotate TARGET…" not in watcher
    assert "show-thumbprint TARGET…" in watcher


def test_help_on_a_command_has_usage_options_and_examples():
    """From the same table as the parser; an unknown one is a UserError with the nearest."""
    message = messages.help_text("Rotate", may_change=True)
    assert_valid(message)
    for words in ("[--with SOURCE]", "--order documented", "rotate web-01 --with pfx:web"):
        assert words in shown(message)
    with pytest.raises(UserError, match="Did you mean `rotate`"):
        messages.help_text("rotat", may_change=True)


def test_a_problem_keeps_code_and_people_and_nothing_else():
    """Only its reader sees it; a link, a group or everybody cannot be smuggled in."""
    message = messages.problem("Ask <@U0ADA> or <#C0DEPLOY> for `cancel`, not <!channel> <https://e.example|x> *b*.")
    assert mentioned(message) == {"U0ADA", "C0DEPLOY"}
    assert "for cancel, not <!channel> <https://e.example|x> *b*." in shown(message)
    assert "<!channel>" not in message.text
    assert "<@U0ADA>" in message.text
    assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []


@pytest.mark.parametrize("text", ["", " ", HOSTILE, "`" * 50, "x" * 9_000, "<@U0ADA>" * 500, "\u202e", "a\nb\n\nc"])
def test_any_sentence_can_be_a_problem(text):
    """Whatever stands in it, Slack takes it."""
    for of in (messages.problem, messages.working, messages.unexpected):
        message = of(text)
        assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []


def test_an_unexpected_error_has_its_reference():
    """So that somebody finds it in the log."""
    assert "8f3a1b2c" in shown(messages.unexpected("8f3a1b2c"))


def test_status_lists_runs_and_shows_one_without_its_buttons():
    """Buttons stand on the run's own message only."""
    run = run_of(plan())
    assert_valid(messages.status([], now=NOW))
    assert "r-7k2m9q4x" in shown(messages.status([run], now=NOW))
    one = messages.status_one(run, now=NOW)
    assert buttons(one) == []
    assert "Waiting for approval" in shown(one)


def test_history_tells_who_did_what():
    """Newest first, with the thumbprints where one changed."""
    entries = [
        Recorded(seq=n, at=NOW, key=str(n), previous="", hash="", entry=entry)
        for n, entry in enumerate(
            [
                Entry(kind="outcome", run="r-1", target=HOSTILE, old=thumbprint(1), new=thumbprint(2), what=HOSTILE),
                Entry(kind="asked", who="U0RITA", run="r-1", target="web-01", what="yearly rotation"),
            ]
            * 50
        )
    ]
    message = messages.history(entries)
    text = shown(message)
    for words in (thumbprint(1), thumbprint(2), "<@U0RITA>", "yearly rotation", "more)"):
        assert words in text
    assert check_message({"text": message.text, "blocks": list(message.blocks)}) == []
    assert blocks_length(list(message.blocks)) <= BLOCKS_TOTAL
    assert_valid(messages.history([]))


def test_a_roll_back_is_called_one():
    """Its title and where the certificate comes from."""
    source = Source(text="backup:r-1")
    text = shown(messages.plan_posted(run_of(plan(source=source)), now=NOW))
    assert "Roll back web-01" in text
    assert "put back from the copy that the run r-1 left" in text
